"""The endpoints `/classify`, `/explain` and `/batch`: for `gradio_client`, for plain HTTP, and as MCP tools."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import gradio as gr
import gradio.mcp
from mcp import types

from bcx.app import incoming
from bcx.app.download import download
from bcx.app.incoming import Upload, choice, file_name, flag, in_words
from bcx.app.privacy import Session
from bcx.app.wiring import NETWORK, Page
from bcx.errors import RequestError
from bcx.explain.descriptors import describe_lesion
from bcx.explain.methods import quick_methods
from bcx.explain.sheet import overlay as overlay_of
from bcx.imaging.scan import MAX_BYTES
from bcx.inference.prediction import Failure
from bcx.inference.sources import attempt
from bcx.report.pictures import as_image, page_overlay, png_url
from bcx.trust.claims import NOT_A_SCAN

#: What MCP clients may send in a file's place.
_KINDS = "a data address, a public http or https address, or the path that /gradio_api/upload returned"
_server: Any = gradio.mcp.GradioMCPServer
_simplified, _created = _server.simplify_filedata_schema, _server.create_mcp_server


def build_api(page: Page) -> None:
    """Add the public endpoints, which the default model answers; people and language models read their docstrings."""
    sessions, model, task = page.sessions, page.models.default.name, page.models.default.task
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

    @in_words("classify")
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
        with sessions.at_work(request.session_hash) as session, _source(session, scan) as source:
            found = page.predict(model, source, file_name(scan, "scan"), edges)
            return {**found.to_dict(), "overlay": png_url(page_overlay(found))} if wanted else found.to_dict()

    @in_words("explain")
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
        with sessions.at_work(request.session_hash) as session, _source(session, scan) as source:
            found = page.predict(model, source, file_name(scan, "scan")).screen
            explanation = page.explain(model, found, wanted or found.label, name)
            checks = page.check(model, explanation).to_dict() if checked else None
            lesion = describe_lesion(found)
        shown = None if found.decision == NOT_A_SCAN else png_url(as_image(overlay_of(explanation)))
        said = {"name": found.name, "decision": found.decision, "probabilities": found.probabilities}
        more = {"checks": checks, "lesion": lesion.to_dict() if lesion else None, "overlay": shown}
        return {**said, **explanation.to_dict(), **more}

    @in_words("batch")
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
        with sessions.at_work(request.session_hash) as session, ExitStack() as kept:
            pairs = zip(sent, names, strict=True)
            sources = [attempt(name, kept.enter_context, _source(session, scan)) for scan, name in pairs]
            answers = iter(page.stream(model, [source for source in sources if not isinstance(source, Failure)]))
            each = [source if isinstance(source, Failure) else next(answers) for source in sources]
            return [{**answer.to_dict(), "name": name} for answer, name in zip(each, names, strict=True)]

    for function in (classify, batch, explain):
        words = function.__doc__ or ""
        function.__doc__ = words.replace("IMAGE", task.image_noun).replace("CLASSES", " or ".join(task.classes))
    how = {"preprocess": False, **NETWORK}
    call_one.click(classify, [one, with_overlay, box_edges], answer, api_name="classify", **how)
    call_explain.click(explain, [one, target, method, with_checks], answer, api_name="explain", **how)
    call_many.click(batch, many, answer, api_name="batch", **how)


@contextmanager
def _source(session: Session, scan: Any) -> Iterator[Path | bytes]:
    """Give what `Scan.open` can read: the content of a data or web address, or an uploaded file, deleted after."""
    content = incoming.data_address(scan, MAX_BYTES)
    address, path = incoming.web_address(scan), incoming.uploaded_text(scan)
    if content is not None:
        yield content
    elif address is not None and (path is None or path not in session.uploads):
        yield download(address, MAX_BYTES)
    elif path is None and isinstance(scan, str):
        expected = "an http, https or data address, or the path that an upload returned"
        remedy = "Send the file's content as a data address, or upload it and send the path that this returns."
        found = f"The scan is sent as text that is no address: {scan[:80]!r}."
        raise RequestError(found, expected=expected, remedy=remedy)
    else:
        file = session.take(scan if path is None else {"path": path})
        try:
            yield file
        finally:
            session.drop(file)


def _content(self: Any, data: list[Any], root_url: str) -> list[Any]:
    """Return each output as JSON text, and the overlay, where there is one, as a picture after it."""
    parts: list[Any] = []
    for output in data:
        shown = dict(output) if isinstance(output, dict) else output
        overlay = shown.pop("overlay", None) if isinstance(shown, dict) else None
        parts.append(types.TextContent(type="text", text=json.dumps(shown, ensure_ascii=False)))
        if overlay:
            encoded = overlay.partition(",")[2]
            parts.append(types.ImageContent(type="image", data=encoded, mimeType="image/png"))
    return parts


def _create(self: Any) -> Any:
    """Return Gradio's MCP server, whose answers also have their structured content: a list stands under `answers`."""
    server = _created(self)
    call = server.request_handlers[types.CallToolRequest]

    async def structured(request: types.CallToolRequest) -> types.ServerResult:
        result = await call(request)
        if isinstance(result.root, types.CallToolResult) and not result.root.isError:
            text: Any = result.root.content[0]
            answer = json.loads(text.text)
            result.root.structuredContent = answer if isinstance(answer, dict) else {"answers": answer}
        return result

    server.request_handlers[types.CallToolRequest] = structured
    return server


def _schema(self: Any, given: dict[str, Any]) -> tuple[dict[str, Any], list[Any]]:
    simple, places = _simplified(self, given)
    waiting: list[Any] = [simple]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            if str(node.get("format", "")).startswith("Gradio"):
                node["format"] = _KINDS
                node.pop("title", None)
                node.pop("required", None)  # of a file as Gradio describes it, as is the text of a list's items
                if places and node.get("description", "").startswith("The FileData"):
                    del node["description"]
            waiting += node.values()
    return simple, places


def _how_to_send(self: Any) -> str:
    """Return the end of each tool's description that takes files. All but web addresses work on localhost too."""
    address = f"{(self.local_url or 'http://127.0.0.1:7860').rstrip('/')}/gradio_api/upload"
    return (
        " How to send a file: as a data address (`data:image/png;base64,...`); or upload it "
        f"(`curl -F files=@scan.png {address}`, or this server's address as you know it) and send the path that this "
        "returns, each path once; or as a public http or https address. Paths of your own machine mean nothing here."
    )


# Gradio has no settings for that, and would answer with Python's own notation, which no JSON parser reads.
_server.postprocess_output_data = _content
_server.create_mcp_server = _create
_server.simplify_filedata_schema = _schema
_server._file_data_tool_description = property(_how_to_send)
