"""Whatever a client sent becomes something checked, or a `RequestError` in words.

`bcx.app.middleware.Guard` checks a request's form by `checked_call` and its relatives. What stands in it may still be
any JSON: a handler reads each value through one of the functions here, and gets a file through `Session.take`, the only
way from a sent file to a path. A web address in a file's place goes to `bcx.app.download`.

>>> number("5", "The scale", 0, 8)
Traceback (most recent call last):
bcx.errors.RequestError: The scale is '5'. Expected: a number from 0 to 8. Load the page again.
"""

import base64
import binascii
import inspect
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import unquote

import gradio as gr
import gradio.component_meta
from gradio.data_classes import FileData

from bcx.errors import BcxError, RequestError

#: Handlers get what stands in the request, and check it.
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
#: Files in one request at most.
MOST_FILES = 20_000
#: Characters of a file's name at most, folders included.
LONGEST_NAME = 400
#: Levels of lists and objects within a call's data at most.
_DEEPEST = 8
_LOG = logging.getLogger(__name__)
_SERVED = "/gradio_api/file="
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


# Gradio would write a stub file beside this one for each of the components below.
_component_meta: Any = gradio.component_meta
_component_meta.create_or_modify_pyi = lambda *_: None


class _AsSent:
    """A component whose content reaches its handler as it was sent, so that what is wrong with it is said in words."""

    is_template = True  # the browser shows it as what it is derived from
    data_model = property(lambda self: None, lambda self, model: None)

    def get_block_name(self) -> str:
        return type(self).__bases__[1].__name__.lower()

    def api_info(self) -> dict[str, Any]:
        schema = FileData.model_json_schema()
        return {**schema, "additional_description": schema.pop("description", None)}


class Upload(_AsSent, gr.File):
    """A drop zone for files."""


class Folder(_AsSent, gr.UploadButton):
    """A button for files or a folder."""


@contextmanager
def in_words(name: str) -> Iterator[None]:
    """Turn what goes wrong in a handler of that name into words for the person; also a decorator."""
    try:
        yield
    except gr.Error:
        raise
    except BcxError as error:
        # It may repeat what was sent, half a character included, which no answer can hold.
        said = str(error).encode("utf-8", "replace").decode("utf-8")
        raise gr.Error(said, print_exception=False) from None
    except Exception as error:
        _LOG.exception("%s failed", name)
        said = "Error on the server. Try again, or try another file."
        raise gr.Error(said, print_exception=False) from error


def session_name(value: Any) -> str | None:
    fits = value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,128}", value))
    _need(fits, "The session's name", value, "up to 128 letters, digits, - and _")
    return value


def _call_of(name: Any, calls: Mapping[int, Any]) -> int:
    found = [n for n, call in calls.items() if call.api_name == name and call.api_visibility != "private"]
    known = [f"/{call.api_name}" for call in calls.values() if call.api_visibility == "public" and call.api_name]
    _need(found, "The call", name, f"one of {', '.join(known)}")
    return found[0]


def checked_call(sent: Mapping[str, Any], calls: Mapping[int, Any], name: str | None) -> dict[str, Any]:
    """Return the body of a call with what a page of bcx sends and nothing else, files as plain values.

    Without what marks a file for Gradio, Gradio does not look it up, move or fetch it before the handler sees it.
    `calls`: the page's, by number (`Blocks.fns`); `name`: where the route names one; else its number is in the body.
    """
    named = name is not None and "fn_index" not in sent
    call: Any = _call_of(name, calls) if named else sent.get("fn_index")
    known = type(call) is int and call in calls and calls[call].fn is not None
    _need(known, "The call's number", call, "one of this page's")
    values, inputs = sent.get("data"), calls[call].inputs
    if name is not None and isinstance(values, list):  # a program may leave out what has a default
        values = [*values, *(part.value for part in inputs[len(values) :] if _has_default(part))]
    counts = len(inputs), sum(not part.skip_api for part in inputs)
    _need(isinstance(values, list) and len(values) in counts, "The call's data", values, f"a list of {len(inputs)}")
    event, trigger = sent.get("event_data"), sent.get("trigger_id")
    if isinstance(event, (str, int, float)):  # a changed textbox or slider says again what stands in it
        event = None
    _need(event is None or isinstance(event, Mapping), "The event's data", event, "an object")
    return {
        "data": _plain(values),
        "event_data": _plain(event),
        "session_hash": session_name(sent.get("session_hash")),
        **({"trigger_id": trigger} if type(trigger) is int else {}),
        **({} if named else {"fn_index": call}),
    }


def checked_arguments(sent: Mapping[str, Any], calls: Mapping[int, Any], name: str) -> dict[str, Any]:
    """Return the body of a call whose values stand under their names, as `checked_call` does."""
    call = calls[_call_of(name, calls)]
    known = list(inspect.signature(call.fn).parameters)[: len(call.inputs)]
    needed = {key for key, part in zip(known, call.inputs, strict=True) if not _has_default(part)}
    fits = needed <= set(sent) <= set(known)
    _need(fits, "The call's data", dict(sent), f"an object with {', '.join(known)}")
    return _plain(dict(sent))


def _has_default(part: Any) -> bool:
    return getattr(part, "value", None) is not None


def checked_stop(sent: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body with which a page takes back a call of its own."""
    session, event, call = session_name(sent.get("session_hash")), sent.get("event_id"), sent.get("fn_index")
    fits = session is not None and isinstance(event, str) and type(call) is int
    _need(fits, "The request", dict(sent), "session_hash, event_id and fn_index of a call of this page")
    return {"session_hash": session, "event_id": event, "fn_index": call}


def _plain(value: Any, depth: int = 0) -> Any:
    """Return JSON without the key by which Gradio knows files, and not nested deeper than any component's value."""
    _need(depth <= _DEEPEST, "The call's data", value, f"at most {_DEEPEST} levels of lists and objects")
    if isinstance(value, dict):
        return {key: _plain(part, depth + 1) for key, part in value.items() if key != "meta"}
    return [_plain(part, depth + 1) for part in value] if isinstance(value, list) else value


def number(value: Any, what: str, low: float, high: float, *, whole: bool = False) -> float:
    fits = type(value) in (int, float) and low <= value <= high  # what is no number or infinite is not
    fits = fits and not (whole and value != int(value))
    _need(fits, what, value, f"{'a whole number' if whole else 'a number'} from {low:g} to {high:g}")
    return value


def index(value: Any, length: int, what: str) -> int:
    """Return a place in a list of `length`; clicks send it as text."""
    fits = type(value) in (int, str) and re.fullmatch("[0-9]{1,9}", str(value)) and int(value) < length
    _need(fits, what, value, f"one of the {length} on the page" if length else "a page that shows any")
    return int(value)


def choice(value: Any, allowed: Iterable[str], what: str) -> str:
    names = list(allowed)
    _need(isinstance(value, str) and value in names, what, value, f"one of {', '.join(names)}")
    return value


def box(value: Any) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom, in pixels (no scan has a million); the engine looks whether they fit it."""
    fits = isinstance(value, list) and len(value) == 4
    _need(fits, "The box", value, "a list of four numbers: left, top, right and bottom in pixels")
    left, top, right, bottom = (number(edge, "An edge of the box", 0, 1e6) for edge in value)
    return left, top, right, bottom


def flag(value: Any, what: str) -> bool:
    _need(isinstance(value, bool), what, value, "true or false")
    return value


def text(value: Any, what: str, most: int) -> str:
    _need(isinstance(value, str) and len(value) <= most, what, value, f"text of at most {most} characters")
    return value


def event_value(event: gr.EventData, key: str) -> Any:
    """Return what a click carries under `key`, unchecked; None where it carries nothing."""
    data = event._data
    return data.get(key) if isinstance(data, Mapping) else None


def files(value: Any, what: str) -> list[Any]:
    """Return a list of sent files, each still to be checked by `Session.take`."""
    value = [] if value is None else value
    _need(isinstance(value, list) and len(value) <= MOST_FILES, what, value, f"a list of at most {MOST_FILES:,} files")
    return value


def file_path(sent: Any) -> str:
    path = sent.get("path") if isinstance(sent, Mapping) else None
    if not isinstance(path, str) or not path:
        remedy = "Upload the scan first, then send what that returns."
        raise RequestError("No file was sent.", expected="an uploaded file", remedy=remedy)
    return path


def file_name(sent: Any, otherwise: str) -> str:
    """Return what the person calls a sent file, for display, tables and archives: relative, without `..`, short.

    Folders above it stay, with forward slashes. Control characters, and those that turn the writing direction, do not.
    """
    name = sent.get("orig_name") if isinstance(sent, Mapping) else os.path.basename(uploaded_text(sent) or "")
    text = _NOT_IN_NAMES.sub("_", name if isinstance(name, str) else "").encode("utf-8", "replace").decode("utf-8")
    parts = [
        part for part in text.replace("\\", "/").split("/") if part.strip(". ") and not re.fullmatch("[A-Za-z]:", part)
    ]
    return "/".join(parts)[-LONGEST_NAME:].lstrip("/") or otherwise


def web_address(sent: Any) -> str | None:
    """Return the http or https address that stands in a file's place, None where none does."""
    text = sent.get("path") if isinstance(sent, Mapping) else sent
    return text if isinstance(text, str) and text.startswith(("http://", "https://")) else None


def uploaded_text(sent: Any) -> str | None:
    """Return the path of an upload that a text names, None where it is none: the path alone, or this page's address.

    Such a text is what the upload returned, or `http://HOST/gradio_api/file=PATH`; the path may still be anything.
    """
    if not isinstance(sent, str):
        return None
    address = web_address(sent)
    path = sent if address is None else unquote(address.partition(_SERVED)[2])
    return path if os.path.isabs(path) else None


def data_address(sent: Any, most: int) -> bytes | None:
    """Return the content of a base64 `data:` address of at most `most` bytes, None where `sent` is no such address."""
    text = sent.get("path") or sent.get("url") if isinstance(sent, Mapping) else sent
    if not isinstance(text, str) or not text.startswith("data:"):
        return None
    head, _, body = text.partition(",")
    if len(body) > most * 4 // 3 + 4:
        size = f"at most {most // 10**6} MB"
        raise RequestError("The data address is too long.", expected=size, remedy="Upload the file instead.")
    with suppress(binascii.Error):
        if head.endswith(";base64"):
            return base64.b64decode(body, validate=True)
    form, remedy = "data:<type>;base64,<content>", "Encode the file as base64, or upload it."
    raise RequestError("The data address is no valid base64.", expected=form, remedy=remedy)


def _need(fits: Any, what: str, value: Any, expected: str) -> None:
    if not fits:
        said = repr(value) if isinstance(value, (str, int, float, bool, type(None))) else f"a {type(value).__name__}"
        raise RequestError(f"{what} is {said[:80]}.", expected=expected, remedy="Load the page again.")
