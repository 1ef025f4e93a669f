"""Whatever a client sent becomes something checked, or a `RequestError` in words.

Handlers run with `preprocess=False`, so they get what stands in the request: any JSON. Each one is wrapped in
`handler`, which turns typed errors into words on the page, and reads its values with the functions below; files become
paths through `Session.take` alone.

    @handler
    def repaint(layer, opacity, model, request: gr.Request):
        session = sessions.get(request)
        layer = choice(layer, task.classes, "The layer")
        share = number(opacity, "The opacity", 0, 100) / 100

>>> number("5", "The scale", 0, 8)
Traceback (most recent call last):
bcx.errors.RequestError: The scale is '5'. Expected: a number from 0 to 8. Load the page again.
>>> file_name({"orig_name": "../../etc/pass\\x00wd"}, "scan")
'etc/pass_wd'
"""

from __future__ import annotations

import base64
import binascii
import functools
import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import gradio as gr
import gradio.component_meta
from gradio.data_classes import FileData

from bcx.errors import BcxError, RequestError

#: Files in one request at most.
MOST_FILES = 20_000
#: Characters of a file's name at most, folders included.
LONGEST_NAME = 400
_AGAIN = "Load the page again."
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


# Gradio would write a stub file beside this one for each of the components below.
_component_meta: Any = gradio.component_meta
_component_meta.create_or_modify_pyi = lambda *_: None


class _AsSent:
    """A component whose content reaches its handler as it was sent, so that what is wrong with it is said in words."""

    is_template = True  # the browser shows it as what it is derived from
    data_model = property(lambda self: None, lambda self, model: None)

    def api_info(self) -> dict[str, Any]:
        """Return what programs are told: a file, as Gradio describes it."""
        schema = FileData.model_json_schema()
        return {**schema, "additional_description": schema.pop("description", None)}


class Upload(_AsSent, gr.File):
    """A drop zone for files."""

    def get_block_name(self) -> str:
        return "file"


class Folder(_AsSent, gr.UploadButton):
    """A button for files or a folder."""

    def get_block_name(self) -> str:
        return "uploadbutton"


class Paste(_AsSent, gr.Image):
    """A picture from the clipboard."""

    def get_block_name(self) -> str:
        return "image"


def handler(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a handler of the page, so that a typed error reaches the person in words."""
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def steps(*arguments: Any, **named: Any) -> Any:
            try:
                yield from function(*arguments, **named)
            except BcxError as error:
                raise gr.Error(str(error), print_exception=False) from None

        return steps

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except BcxError as error:
            raise gr.Error(str(error), print_exception=False) from None

    return call


def number(
    value: Any, what: str, low: float, high: float, *, whole: bool = False, otherwise: float | None = None
) -> float:
    """Return a finite number within `low` to `high`; `otherwise`, where it is given, stands for None."""
    if value is None and otherwise is not None:
        return otherwise
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not low <= value <= high or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise _wrong(what, value, f"{kind} from {low:g} to {high:g}")
    return value


def index(value: Any, length: int, what: str) -> int:
    """Return a place in a list of `length`; clicks send it as text."""
    text = str(value) if isinstance(value, (int, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) >= length:
        raise _wrong(what, value, f"one of the {length} on the page" if length else "a page that shows some")
    return int(text)


def choice(value: Any, allowed: Iterable[str], what: str) -> str:
    """Return `value` if it is one of `allowed`."""
    names = list(allowed)
    if not isinstance(value, str) or value not in names:
        raise _wrong(what, value, f"one of {', '.join(names)}")
    return value


def event_value(event: gr.EventData, key: str) -> Any:
    """Return what a click carries under `key`, unchecked; None where it carries nothing."""
    data = event._data
    return data.get(key) if isinstance(data, Mapping) else None


def files(value: Any, what: str = "The files") -> list[Any]:
    """Return a list of sent files, each still to be checked by `Session.take` or `source`."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_FILES:
        raise _wrong(what, value, f"a list of at most {MOST_FILES:,} files")
    return value


def file_path(sent: Any) -> str:
    """Return the path that a sent file names, as text that nobody has looked up yet."""
    path = sent.get("path") if isinstance(sent, Mapping) else None
    if not isinstance(path, str) or not path:
        raise RequestError(
            "No file was sent.",
            expected="an uploaded file",
            remedy="Upload the scan first, then send what that returns.",
        )
    return path


def file_name(sent: Any, otherwise: str) -> str:
    """Return what the person calls a sent file, for display, tables and archives: relative, without `..`, short.

    Folders above it stay, with forward slashes. Control characters, and those that turn the writing direction, do not.
    """
    name = sent.get("orig_name") if isinstance(sent, Mapping) else None
    text = _NOT_IN_NAMES.sub("_", name if isinstance(name, str) else "").encode("utf-8", "replace").decode("utf-8")
    parts = [
        part for part in text.replace("\\", "/").split("/") if part.strip(". ") and not re.fullmatch("[A-Za-z]:", part)
    ]
    return "/".join(parts)[-LONGEST_NAME:].lstrip("/") or otherwise


def web_address(sent: Any) -> str | None:
    """Return the http or https address that stands in a file's place, None where none does."""
    text = sent.get("path") if isinstance(sent, Mapping) else sent
    return text if isinstance(text, str) and text.startswith(("http://", "https://")) else None


def data_address(sent: Any, most: int) -> bytes | None:
    """Return the content of a base64 `data:` address of at most `most` bytes, None where `sent` is no such address."""
    text = sent.get("path") or sent.get("url") if isinstance(sent, Mapping) else sent
    if not isinstance(text, str) or not text.startswith("data:"):
        return None
    head, _, body = text.partition(",")
    if len(body) > most * 4 // 3 + 4:
        raise RequestError(
            "The data address is too long.",
            expected=f"at most {most // 10**6} MB",
            remedy="Upload the file instead.",
        )
    try:
        if head.endswith(";base64"):
            return base64.b64decode(body, validate=True)
    except binascii.Error:
        pass
    raise RequestError(
        "The data address is no valid base64.",
        expected="data:<type>;base64,<content>",
        remedy="Encode the file as base64, or upload it.",
    )


def _wrong(what: str, value: Any, expected: str) -> RequestError:
    return RequestError(f"{what} is {repr(value)[:80]}.", expected=expected, remedy=_AGAIN)
