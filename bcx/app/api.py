"""The endpoints `/classify`, `/explain` and `/batch`: for `gradio_client`, for plain HTTP, and as MCP tools.

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
answer = client.predict(handle_file("examples/simulated-benign-1.png"), api_name="/classify")
print(answer["label"], answer["probabilities"])
```
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import incoming, mcp_answers
from bcx.app.classify import NETWORK
from bcx.app.download import download
from bcx.app.incoming import Upload, choice, file_name, flag, handler
from bcx.errors import BcxError, RequestError
from bcx.explain.descriptors import describe_lesion
from bcx.explain.methods import quick_methods
from bcx.explain.sheet import overlay as overlay_of
from bcx.imaging.scan import MAX_BYTES as MOST_BYTES
from bcx.inference.prediction import Failure
from bcx.report.pictures import as_image, page_overlay, png_url
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.explain.checks import Checks
    from bcx.explain.methods import Explanation
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task


def build_api(
    sessions: Sessions,
    task: Task,
    predict: Callable[..., Prediction],
    stream: Callable[..., Any],
    explain_answer: Callable[..., Explanation],
    check_map: Callable[[Explanation], Checks],
) -> None:
    """Add the public endpoints. Their docstrings are what people and language models read about them.

    Args:
        sessions: the open pages.
        task: what the model that answers here was trained for.
        predict, stream: as `Classifier.predict` and `Classifier.stream`.
        explain_answer, check_map: as `bcx.explain.methods.explain` and `bcx.explain.checks.check`.
    """
    mcp_answers.install()
    with gr.Row(visible=False):
        one = Upload(label="scan", file_count="single")
        many = Upload(label="scans", file_count="multiple")
        # For a list of files Gradio gives MCP clients a schema that they cannot resolve, and hands on what they
        # send as plain text. So the schema is written out here, and `_source` reads files and text alike.
        file_schema = dict(one.api_info())
        schema = {"type": "array", "$defs": file_schema.pop("$defs", {}), "items": file_schema}
        setattr(many, "api_info", lambda: schema)  # noqa: B010
        with_overlay = gr.Checkbox(value=False, label="overlay")
        box_edges = gr.JSON(value=[], label="box")
        setattr(box_edges, "api_info", lambda: {"type": "array", "items": {"type": "number"}})  # noqa: B010
        target = gr.Textbox(value="", label="target")
        method = gr.Dropdown(quick_methods(), value=quick_methods()[0], label="method")
        with_checks = gr.Checkbox(value=False, label="check")
        answer = gr.JSON(label="answer")
        call_one, call_many, call_explain = gr.Button("classify"), gr.Button("batch"), gr.Button("explain")

    @handler
    def classify(scan: Any, overlay: Any, box: Any, request: gr.Request) -> dict[str, Any]:
        """Classify one IMAGE as CLASSES, with a probability for each.

        For research and teaching, never for diagnosis: say so when you pass the answer on. Read `decision` first.
        If it is "not a scan", the picture is probably no IMAGE and the label means nothing; if it is "refer",
        a person should read the picture; otherwise it is the label.

        Args:
            scan: The picture file as it is (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).
            overlay: Whether to return the picture with its map as well.
            box: Left, top, right and bottom, in pixels, of what the second stage should read; empty: it chooses.

        Returns:
            One JSON object. label: the class that the network chose
            confidence: its probability, 0 to 1
            probabilities: one number per class, adding up to 1
            decision: the label, "refer" or "not a scan"
            reason: one sentence, empty where the decision is simply the label
            flags and notes: lists of sentences about the picture and about how it was read
            name, width and height: the file's name and the picture's size in pixels
            lesion_box: left, top, right and bottom of the lesion, in pixels; null where none is found
            second_look: left, top and side of the second stage's square, in pixels; null without one
            box: the box that was sent; null without one
            lesions: each place that looks like a lesion to the first stage, with its box, its peak (0 to 1), the crop
                to send as a box to have it read, and whether the second stage has read it
            model, weights_sha256, backend and seconds: what answered, and how long it took
            frame: of a clip the number, from 1, of the frame that the answer rests on; null for a single picture
            frames: of a clip the count, the numbers read, blank and failed, and each class's probabilities over them
            overlay: only where asked for, a PNG as a data address (MCP: a picture beside the text), at most 1400 pixels
        """
        wanted, edges = flag(overlay, "The overlay"), None if box in (None, []) else incoming.box(box)
        with sessions.at_work(request.session_hash) as session:
            source = _source(session, scan)
            try:
                found = predict(source, file_name(scan, "scan"), edges)
                return {**found.to_dict(), "overlay": png_url(page_overlay(found))} if wanted else found.to_dict()
            finally:
                _done_with(session, source)

    @handler
    def explain(scan: Any, target: Any, method: Any, check: Any, request: gr.Request) -> dict[str, Any]:
        """Show where in one IMAGE the network's result rests: the picture with one map over it, and numbers.

        For research and teaching, never for diagnosis: say so when you pass it on. A map shows what the network used,
        not where a disease is, and says nothing on whether the result is right.

        Args:
            scan: The picture file as it is (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).
            target: The class to explain: CLASSES. Empty: the label.
            method: The exact class map, or a method of pytorch-grad-cam.
            check: Whether to test the map as well, which takes some seconds.

        Returns:
            One JSON object. method, title, paper, target, unit, seconds: what the map is
            explains: which function of the picture is explained, in words
            decision and probabilities: as /classify returns them
            checks: only where asked for, the numbers of each test, and a verdict in words; else null
            lesion: size, orientation, shape, margin, echo and posterior features of the outlined lesion in terms of the
                BI-RADS lexicon, measured, not read by a radiologist; null where none is outlined
            overlay: the picture with the map as a PNG data address (MCP: a picture beside the text); null for no scan
        """
        wanted = choice(target, ["", *task.classes], "The class")
        name, checked = choice(method, quick_methods(), "The method"), flag(check, "The check")
        with sessions.at_work(request.session_hash) as session:
            source = _source(session, scan)
            try:
                found = predict(source, file_name(scan, "scan")).screen
                explanation = explain_answer(found, wanted or found.label, name)
                checks = check_map(explanation).to_dict() if checked else None
                lesion = describe_lesion(found)
            finally:
                _done_with(session, source)
        shown = None if found.decision == NOT_A_SCAN else png_url(as_image(overlay_of(explanation)))
        return {
            "name": found.name,
            "decision": found.decision,
            "probabilities": found.probabilities,
            **explanation.to_dict(),
            "checks": checks,
            "lesion": lesion.to_dict() if lesion else None,
            "overlay": shown,
        }

    @handler
    def batch(scans: Any, request: gr.Request) -> list[dict[str, Any]]:
        """Classify many IMAGEs in one call; a file that cannot be read does not stop the others.

        For research and teaching, never for diagnosis: say so when you pass the answers on.

        Args:
            scans: The picture files as they are (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).

        Returns:
            A JSON list with one object per file, in the order given, each with the keys that /classify returns
            for a file that could not be read the object holds name and error (kind, found, expected, remedy)
        """
        sent = incoming.files(scans, "The scans")
        # The files lie under names that were cleaned for the disk; the caller knows them by their own.
        names = [file_name(scan, f"scan {place}") for place, scan in enumerate(sent, start=1)]
        with sessions.at_work(request.session_hash) as session:
            sources = [_source_or_failure(session, scan, name) for scan, name in zip(sent, names, strict=True)]
            good = [source for source in sources if not isinstance(source, Failure)]
            try:
                answers = iter(stream(good))
                each = [source if isinstance(source, Failure) else next(answers) for source in sources]
                return [{**answer.to_dict(), "name": name} for answer, name in zip(each, names, strict=True)]
            finally:
                for source in good:
                    _done_with(session, source)

    for function in (classify, batch, explain):
        words = function.__doc__ or ""
        function.__doc__ = words.replace("IMAGE", task.image_noun).replace("CLASSES", " or ".join(task.classes))
    call_one.click(classify, [one, with_overlay, box_edges], answer, api_name="classify", preprocess=False, **NETWORK)
    call_explain.click(
        explain, [one, target, method, with_checks], answer, api_name="explain", preprocess=False, **NETWORK
    )
    call_many.click(batch, many, answer, api_name="batch", preprocess=False, **NETWORK)


def _source(session: Session, scan: Any) -> Path | bytes:
    """Return what `Scan.open` can read: an uploaded file, or the content of a data or web address (MCP clients)."""
    content = incoming.data_address(scan, MOST_BYTES)
    if content is not None:
        return content
    address, path = incoming.web_address(scan), incoming.uploaded_text(scan)
    if path is not None and (address is None or path in session.uploads):
        return session.take({"path": path})
    if address is None and isinstance(scan, str):
        raise RequestError(
            f"The scan is sent as text that is no address: {scan[:80]!r}.",
            expected="an http, https or data address, or the path that an upload returned",
            remedy="Send the file's content as a data address, or upload it and send the path that this returns.",
        )
    return session.take(scan) if address is None else download(address, MOST_BYTES)


def _source_or_failure(session: Session, scan: Any, name: str) -> Path | bytes | Failure:
    try:
        return _source(session, scan)
    except BcxError as error:
        return Failure(name, error)


def _done_with(session: Session, source: Path | bytes) -> None:
    if isinstance(source, Path):
        session.drop(source)
