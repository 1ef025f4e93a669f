"""Uploads: which files came in through the upload route, each under a path that nobody can guess.

Gradio puts an upload into a folder named after its content, which whoever has the same file can name. Here each request
gets a random folder of its own, and every path that it returned is noted. A path that is not in that list is no upload,
whatever lies there; the first session that names one takes the file over, and no other session can.
"""

import contextlib
import os
import secrets
import shutil
import stat
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import gradio.mcp
import gradio.routes

from bcx.errors import RequestError

_routes: Any = gradio.routes
_mcp_server: Any = gradio.mcp.GradioMCPServer
_receive = _routes.upload_fn


class _Upload(NamedTuple):
    identity: tuple[int, int]
    folder: Path
    arrived: float


class Uploads:
    """Files that were uploaded and that no session has taken over yet. Safe to use from several threads."""

    def __init__(self) -> None:
        self._waiting: dict[str, _Upload] = {}
        self._lock = threading.Lock()

    def __contains__(self, path: str) -> bool:
        return path in self._waiting

    def note(self, path: str, folder: Path) -> None:
        """Note a file that the upload route has just written, somewhere below `folder`, which is its request's own."""
        status = os.lstat(path)
        with self._lock:
            self._waiting[path] = _Upload((status.st_dev, status.st_ino), folder, time.monotonic())

    def take(self, path: str, into: Path) -> Path:
        """Move an upload into a session's folder and return where it is; `RequestError`: no upload, or gone."""
        with self._lock:
            upload = self._waiting.pop(path, None)
        if upload is None:
            expected = "what the upload returned, once"
            remedy = "Upload the scan, then send what that returns."
            raise RequestError("This is no uploaded file, or it was used already.", expected=expected, remedy=remedy)
        target = into / secrets.token_hex(8) / Path(path).name
        try:
            target.parent.mkdir(parents=True)
            os.rename(path, target)
            status = os.lstat(target)
            if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != upload.identity:
                target.unlink()
                raise FileNotFoundError(path)
        except OSError:
            words = "The uploaded file is no longer here."
            raise RequestError(words, expected="a file sent a moment ago", remedy="Send it again.") from None
        finally:
            _remove_empty(Path(path).parent, upload.folder)
        return target

    def sweep(self, seconds: float) -> None:
        limit = time.monotonic() - seconds
        with self._lock:
            old = {path: upload for path, upload in self._waiting.items() if upload.arrived < limit}
            self._waiting = {path: upload for path, upload in self._waiting.items() if path not in old}
        for path, upload in old.items():
            Path(path).unlink(missing_ok=True)
            _remove_empty(Path(path).parent, upload.folder)


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove `folder` and what is above it, up to `top`, as far as they are empty."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        if folder != top:
            _remove_empty(folder.parent, top)


async def receive(request: Any, upload_dir: Any, *arguments: Any, **named: Any) -> Any:
    """Gradio's `upload_fn` with a random folder per request, for pages that keep `Uploads`."""
    sessions = getattr(request.app.get_blocks(), "bcx_sessions", None)
    if sessions is None:
        return await _receive(request, upload_dir, *arguments, **named)
    folder = Path(upload_dir) / secrets.token_urlsafe(24)
    folder.mkdir(parents=True, mode=0o700)
    try:
        written, copies, targets = await _receive(request, folder, *arguments, **named)
        for path in written:
            sessions.uploads.note(str(path), folder)
    except BaseException:  # broken off or refused: what came so far is nobody's
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return written, copies, targets


def as_sent(self: Any, value: Any, positions: Any) -> Any:
    """Leave addresses to the handler, and refuse paths: Gradio's own would upload any file of this machine."""
    waiting = [value]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and "path" in node:
            raise ValueError("Send a file as an http, https or data address, not as a path.")
        waiting += node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return value


# Gradio offers no settings for these; it looks the names up at each request.
_routes.upload_fn = receive
_mcp_server.convert_strings_to_filedata = as_sent
