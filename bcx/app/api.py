"""The endpoints `/classify` and `/batch`: for `gradio_client`, for plain HTTP, and as MCP tools.

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
answer = client.predict(handle_file("examples/simulated-benign-1.png"), api_name="/classify")
print(answer["label"], answer["probabilities"])
```
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_url_to_cache
from gradio.utils import get_upload_folder, is_in_or_equal

from bcx.app.classify import NETWORK
from bcx.errors import BcxError

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task


def build_api(sessions: Sessions, task: Task, predict: Callable[..., Prediction], stream: Callable[..., Any]) -> None:
    """Add the public endpoints. Their docstrings are what people and language models read about them.

    Args:
        sessions: the open pages.
        task: what the model that answers here was trained for.
        predict, stream: as `Classifier.predict` and `Classifier.stream`.
    """
    with gr.Row(visible=False):
        one = gr.File(label="scan", file_count="single")
        many = gr.File(label="scans", file_count="multiple")
        # For a list of files Gradio gives MCP clients a schema that they cannot resolve, and hands on what they
        # send as plain text. So the schema is written out here, and `_source` reads files and text alike.
        file_schema = dict(one.api_info())
        schema = {"type": "array", "$defs": file_schema.pop("$defs", {}), "items": file_schema}
        setattr(many, "api_info", lambda: schema)  # noqa: B010
        many.data_model = None
        answer = gr.JSON(label="answer")
        call_one, call_many = gr.Button("classify"), gr.Button("batch")

    def classify(scan: dict[str, Any] | None, request: gr.Request) -> dict[str, Any]:
        """Classify one IMAGE as CLASSES, with a probability for each.

        For research and teaching, never for diagnosis: say so when you pass the answer on. Read `decision` first.
        If it is "not a scan", the picture is probably no IMAGE and the label means nothing; if it is "refer",
        the network is not sure and a person should read the picture; otherwise it is the label.

        Args:
            scan: The picture file as it is (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).

        Returns:
            One JSON object. label: the class that the network chose
            confidence: its probability, 0 to 1
            probabilities: one number per class, adding up to 1
            decision: the label, "refer" or "not a scan"
            reason: one sentence, empty where the decision is simply the label
            flags and notes: lists of sentences about the picture and about how it was read
            name, width and height: the file's name and the picture's size in pixels
            lesion_box: left, top, right and bottom of what looks like a lesion, in pixels; null where nothing does
            second_look: left, top and side of the square that was read again, enlarged; null where none was
            model, weights_sha256, backend and seconds: what answered, and how long it took
        """
        session = sessions.get(request.session_hash)
        try:
            return predict(_source(session, scan), _name(scan, "scan")).to_dict()
        except BcxError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def batch(scans: list[dict[str, Any] | str] | None, request: gr.Request) -> list[dict[str, Any]]:
        """Classify many IMAGEs in one call; a file that cannot be read does not stop the others.

        For research and teaching, never for diagnosis: say so when you pass the answers on.

        Args:
            scans: The picture files as they are (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).

        Returns:
            A JSON list with one object per file, in the order given, each with the keys that /classify returns
            for a file that could not be read the object holds name and error (kind, found, expected, remedy)
        """
        session = sessions.get(request.session_hash)
        scans = scans or []
        answers = stream([_source(session, scan) for scan in scans])
        # The files lie under names that were cleaned for the disk; the caller knows them by their own.
        names = [_name(scan, f"scan {place}") for place, scan in enumerate(scans, start=1)]
        return [{**answer.to_dict(), "name": name} for answer, name in zip(answers, names, strict=True)]

    for function in (classify, batch):
        words = function.__doc__ or ""
        function.__doc__ = words.replace("IMAGE", task.image_noun).replace("CLASSES", " or ".join(task.classes))
    call_one.click(classify, one, answer, api_name="classify", preprocess=False, **NETWORK)
    call_many.click(batch, many, answer, api_name="batch", preprocess=False, **NETWORK)


def _source(session: Session, scan: dict[str, Any] | str | None) -> Path | bytes:
    """Return what `Scan.open` can read: an uploaded file, or the content of a data or web address (MCP clients)."""
    if isinstance(scan, str):
        return _from_address(session, scan)
    path = (scan or {}).get("path")
    if not scan or not path:
        raise gr.Error("No file was sent. Send the scan as a file.", print_exception=False)
    if not is_in_or_equal(path, get_upload_folder()):
        raise gr.Error("This is no uploaded file. Upload the scan first.", print_exception=False)
    try:
        return session.register(scan)
    except OSError:
        raise gr.Error("The uploaded file is no longer here. Send it again.", print_exception=False) from None


def _from_address(session: Session, address: str) -> Path | bytes:
    if address.startswith("data:"):
        try:
            return base64.b64decode(address.partition(",")[2], validate=True)
        except binascii.Error:
            raise gr.Error("The data address is no valid base64.", print_exception=False) from None
    if not address.startswith(("http://", "https://")):
        raise gr.Error("Send each scan as a file, or as an http, https or data address.", print_exception=False)
    # Gradio's own download: it refuses addresses inside the server's network.
    return session.register({"path": save_url_to_cache(address, get_upload_folder())})


def _name(scan: dict[str, Any] | str | None, otherwise: str) -> str:
    return str(scan.get("orig_name") or otherwise) if isinstance(scan, dict) else otherwise
