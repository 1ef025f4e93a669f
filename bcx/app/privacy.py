"""Sessions: what the server knows about one open page, and how it forgets it.

A session's pictures, answers and files live here under the page's session hash. They are deleted when the page
is closed (`Sessions.close`, called from `Blocks.unload`), and pages that vanish without a word are forgotten later.

>>> import tempfile
>>> sessions = Sessions(tempfile.mkdtemp())
>>> folder = sessions.get("page-1").folder
>>> folder.is_dir()
True
>>> sessions.close("page-1")
>>> folder.exists()
False
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcx.app.rows import Batch
    from bcx.app.slide_tab import SlideRun
    from bcx.inference.prediction import Prediction

#: The folder of sessions, beside Gradio's uploads.
SESSIONS = "sessions"
#: A page that says nothing for so long is forgotten, even if its end was never reported.
IDLE_SECONDS = 6 * 3600
#: More pages than this at once, and the one that was silent longest is forgotten.
MOST_SESSIONS = 500


@dataclass
class Session:
    """One open page.

    Attributes:
        folder: private to this session, with a name that nobody can guess; gone after it.
        answer: the last single answer, kept so that opacity and class need no second run of the network.
        batch: the last batch.
        slide: the last slide.
        ended: set once the page is closed, so that a batch or slide that is still running stops.
        model: the name of the model that the person chose; None while it is the default one.
    """

    folder: Path
    answer: Prediction | None = None
    batch: Batch | None = None
    slide: SlideRun | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    last_used: float = field(default_factory=time.monotonic)
    uploads: dict[Path, tuple[int, int]] = field(default_factory=dict)
    pictures: dict[str, Path] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    model: str | None = None

    def start_over(self, model: str) -> None:
        """Forget what another model answered; a batch or slide that is still running stops."""
        self.model, self.answer = model, None
        if self.batch is not None:
            self.batch.stop.set()
            self.batch = None
        if self.slide is not None:
            self.slide.stop.set()
            self.slide = None

    def register(self, upload: Mapping[str, Any]) -> Path:
        """Note an uploaded file for deletion and return where it is."""
        path = Path(upload["path"])
        self.uploads[path] = _identity(path)
        return path

    def adopt(self, upload: Mapping[str, Any]) -> Path:
        """Keep an uploaded file for as long as the session lasts and return where.

        The upload folder is swept by a timer; a second name in the session's folder outlives that and costs no space.
        """
        path = self.register(upload)
        target = self.folder / secrets.token_hex(8) / path.name
        target.parent.mkdir(parents=True)
        try:
            os.link(path, target)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(path, target)
        return target

    def picture(self, role: str, suffix: str = ".png") -> Path:
        """Return a fresh path for a picture on show and delete the one before the last in the same role.

        A fresh name each time keeps browsers from showing the old picture.
        """
        for old in [name for name in self.pictures if name == f"{role}-before"]:
            self.pictures.pop(old).unlink(missing_ok=True)
        if role in self.pictures:
            self.pictures[f"{role}-before"] = self.pictures[role]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pictures[role] = self.folder / f"{role}-{secrets.token_hex(4)}{suffix}"
        return self.pictures[role]


class Sessions:
    """All open pages, by session hash. Safe to use from several threads."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """Return the session `key`, made if it is new; without a key (a call without a page) one of its own."""
        key = key or f"call-{secrets.token_hex(8)}"
        with self._lock:
            session = self._sessions.pop(key, None)
            if session is None:
                folder = self.root / secrets.token_urlsafe(16)
                folder.mkdir(parents=True, mode=0o700)
                session = Session(folder)
            session.last_used = time.monotonic()
            self._sessions[key] = session
            stale = self._stale()
        for old in stale:
            _forget(old)
        return session

    def close(self, key: str | None) -> None:
        """Delete everything that the session holds, in memory and on disk; nothing to do if it is unknown."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            _forget(session)

    def __len__(self) -> int:
        return len(self._sessions)

    def _stale(self) -> list[Session]:
        """Take out the sessions that were silent for too long, or are too many. The lock is held."""
        taken = []
        limit = time.monotonic() - IDLE_SECONDS
        for key, session in list(self._sessions.items()):
            if session.last_used >= limit and len(self._sessions) <= MOST_SESSIONS:
                break  # ordered by last use: the rest is younger
            taken.append(self._sessions.pop(key))
        return taken


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def _forget(session: Session) -> None:
    session.ended.set()
    session.answer = session.batch = session.slide = None
    for path, identity in session.uploads.items():
        # Gradio names uploads by content, so another page may have sent the same file since: that one is not ours.
        try:
            if _identity(path) == identity:
                path.unlink()
                path.parent.rmdir()
        except OSError:  # already gone, or the folder holds another page's file
            continue
    session.uploads.clear()
    session.pictures.clear()
    shutil.rmtree(session.folder, ignore_errors=True)


def sweep_uploads(root: Path, seconds: float) -> None:
    """Delete uploads in `root` that are older than `seconds`, whoever sent them; sessions are left alone.

    Gradio's own timer (`delete_cache`) does not know every file that an MCP call leaves.
    """
    limit = time.time() - seconds
    for folder in root.iterdir():
        if folder.name == SESSIONS:
            continue
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            with contextlib.suppress(OSError):  # gone meanwhile, or a folder with younger files
                if path.lstat().st_ctime < limit:
                    path.rmdir() if path.is_dir() else path.unlink()
