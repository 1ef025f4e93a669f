"""The endpoints `/classify` and `/batch`: for `gradio_client`, for plain HTTP, and as MCP tools.

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
answer = client.predict(handle_file("examples/simulated-benign-1.png"), api_name="/classify")
print(answer["label"], answer["probabilities"])
```
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.classify import NETWORK
from bcx.errors import BcxError

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.prediction import Prediction


def build_api(sessions: Sessions, predict: Callable[..., Prediction], stream: Callable[..., Any]) -> None:
    """Add the public endpoints. Their docstrings are what people and language models read about them."""
    with gr.Row(visible=False):
        one = gr.File(label="scan", file_count="single")
        many = gr.File(label="scans", file_count="multiple")
        # Gradio describes a list of files by reference, which MCP clients cannot follow; this says the same in full.
        file_schema = dict(one.api_info())
        schema = {"type": "array", "$defs": file_schema.pop("$defs", {}), "items": file_schema}
        setattr(many, "api_info", lambda: schema)  # noqa: B010
        answer = gr.JSON(label="answer")
        call_one, call_many = gr.Button("classify"), gr.Button("batch")

    def classify(scan: dict[str, Any] | None, request: gr.Request) -> dict[str, Any]:
        """Classify one breast ultrasound scan as normal, benign or malignant, with a probability for each.

        For research and teaching, never for diagnosis: say so when you pass the answer on. Read `decision` first.
        If it is "not a scan", the picture is no breast ultrasound and the label means nothing; if it is "refer",
        the network is not sure and a person should read the scan; otherwise it is the label.

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
            model, weights_sha256, backend and seconds: what answered, and how long it took
        """
        session = sessions.get(request.session_hash)
        try:
            return predict(_upload(session, scan), _name(scan)).to_dict()
        except BcxError as error:
            raise gr.Error(str(error), print_exception=False) from None

    def batch(scans: list[dict[str, Any]] | None, request: gr.Request) -> list[dict[str, Any]]:
        """Classify many breast ultrasound scans in one call; a file that cannot be read does not stop the others.

        For research and teaching, never for diagnosis: say so when you pass the answers on.

        Args:
            scans: The picture files as they are (PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM; 8 or 16 bit).

        Returns:
            A JSON list with one object per file, in the order given, each with the keys that /classify returns
            for a file that could not be read the object holds name and error (kind, found, expected, remedy)
        """
        session = sessions.get(request.session_hash)
        scans = scans or []
        results = [answer.to_dict() for answer in stream([_upload(session, scan) for scan in scans])]
        # The files lie under names that were cleaned for the disk; the caller knows them by their own.
        return [{**result, "name": _name(scan)} for result, scan in zip(results, scans, strict=True)]

    call_one.click(classify, one, answer, api_name="classify", preprocess=False, **NETWORK)
    call_many.click(batch, many, answer, api_name="batch", preprocess=False, **NETWORK)


def _upload(session: Session, scan: dict[str, Any] | None) -> Any:
    if not scan:
        raise gr.Error("No file was sent. Send the scan as a file.", print_exception=False)
    try:
        return session.register(scan)
    except FileNotFoundError:
        raise gr.Error("The uploaded file is no longer here. Send it again.", print_exception=False) from None


def _name(scan: dict[str, Any] | None) -> str:
    return str((scan or {}).get("orig_name") or "scan")
