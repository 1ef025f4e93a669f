"""Sessions: what the server knows about one open page, and how it forgets it.

A session's pictures, answers and files live in one folder, which only the server names, and are deleted with it when
the page is closed. Pages that vanish without a word are forgotten later.

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
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.app.incoming import file_path
from bcx.app.uploads import Uploads
from bcx.errors import RequestError

if TYPE_CHECKING:
    from bcx.app.rows import Batch
    from bcx.app.slide_tab import SlideRun
    from bcx.inference.prediction import Prediction

#: The folder of sessions, beside Gradio's uploads.
SESSIONS = "sessions"
#: A page that says nothing for so long is forgotten, even if its end was never reported.
IDLE_SECONDS = 6 * 3600
#: More sessions than this at once, and those without an open page go, the one that was silent longest first.
MOST_SESSIONS = 500
#: Characters of the key that a page gives itself, at most.
_LONGEST_KEY = 128


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
        running: how many calls are at work for it.
    """

    folder: Path
    uploads: Uploads = field(default_factory=Uploads)
    answer: Prediction | None = None
    batch: Batch | None = None
    slide: SlideRun | None = None
    ended: threading.Event = field(default_factory=threading.Event)
    last_used: float = field(default_factory=time.monotonic)
    pictures: dict[str, Path] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    model: str | None = None
    running: int = 0
    taken: dict[str, Path] = field(default_factory=dict)

    def start_over(self, model: str) -> None:
        """Forget what another model answered; a batch or slide that is still running stops."""
        self.model, self.answer = model, None
        if self.batch is not None:
            self.batch.stop.set()
            self.batch = None
        if self.slide is not None:
            self.slide.stop.set()
            self.slide = None

    def take(self, sent: Any) -> Path:
        """Return where a file is that this page has uploaded; it stays in the session's folder as long as that does.

        Args:
            sent: what the client sent in a file's place: any JSON.

        Raises:
            RequestError: no upload, or that of another session.
        """
        path = file_path(sent)
        if path not in self.taken:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.taken[path] = self.uploads.take(path, self.folder)
        return self.taken[path]

    def drop(self, path: Path) -> None:
        """Delete a file that `take` returned, before the session ends."""
        self.taken = {sent: kept for sent, kept in self.taken.items() if kept != path}
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def picture(self, role: str, suffix: str = ".png") -> Path:
        """Return a fresh path for a picture on show and delete the one before the last in the same role.

        A fresh name each time keeps browsers from showing the old picture, and others from guessing it.
        """
        for old in [name for name in self.pictures if name == f"{role}-before"]:
            self.pictures.pop(old).unlink(missing_ok=True)
        if role in self.pictures:
            self.pictures[f"{role}-before"] = self.pictures[role]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.pictures[role] = self.folder / f"{role}-{secrets.token_hex(4)}{suffix}"
        return self.pictures[role]


class Sessions:
    """All open pages, by session hash. Safe to use from several threads.

    A page gives itself its hash, so a request can name any: pages that do not exist cannot push out one that does.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.uploads = Uploads()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._pages: Counter[str] = Counter()
        self._lock = threading.Lock()

    def get(self, key: str | None) -> Session:
        """Return the session `key`, made if it is new; without a key (a call without a page) one of its own.

        Raises:
            RequestError: the key is none, or every place is taken by an open page.
        """
        key = _checked(key) or f"call-{secrets.token_hex(16)}"
        with self._lock:
            session = self._sessions.pop(key, None)
            stale = self._stale(room=session is None)
            if session is None and len(self._sessions) < MOST_SESSIONS:
                session = Session(self.root / secrets.token_urlsafe(24), self.uploads)
                session.folder.mkdir(parents=True, mode=0o700)
            if session is not None:
                session.last_used = time.monotonic()
                self._sessions[key] = session
        for old in stale:
            _forget(old)
        if session is None:
            raise RequestError(
                "Too many pages are open.",
                expected=f"at most {MOST_SESSIONS} at once",
                remedy="Try again in some minutes.",
            )
        return session

    def find(self, key: str | None) -> Session | None:
        """Return the session `key` if there is one."""
        return self._sessions.get(_checked(key))

    @contextlib.contextmanager
    def at_work(self, key: str | None) -> Iterator[Session]:
        """The session `key` while a call works for it: it is not pushed out, and without an open page it ends after."""
        key = _checked(key) or f"call-{secrets.token_hex(16)}"
        session = self.get(key)
        with self._lock:
            session.running += 1
        try:
            yield session
        finally:
            with self._lock:
                session.running -= 1
                over = not self._pages[key] and session.running == 0
            if over:
                self.close(key)

    def opened(self, key: str) -> None:
        """Note that a page of that hash holds a connection open."""
        with self._lock:
            self._pages[key] += 1

    def closed(self, key: str) -> None:
        """Note that such a connection ended; with the last one the session does."""
        with self._lock:
            self._pages[key] -= 1
            last = self._pages[key] <= 0
            if last:
                del self._pages[key]
        if last:
            self.close(key)

    def close(self, key: str | None) -> None:
        """Delete everything that the session holds, in memory and on disk; nothing to do if it is unknown."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            _forget(session)

    def __len__(self) -> int:
        return len(self._sessions)

    def _stale(self, room: bool) -> list[Session]:
        """Take out sessions that were silent for too long, and to make room those without an open page. Lock held."""
        limit = time.monotonic() - IDLE_SECONDS
        spare = [key for key, session in self._sessions.items() if not session.running]
        gone = [key for key in spare if self._sessions[key].last_used < limit]
        surplus = len(self._sessions) + room - MOST_SESSIONS - len(gone)
        gone += [key for key in spare if key not in gone and not self._pages[key]][: max(surplus, 0)]
        return [self._sessions.pop(key) for key in gone]


def _checked(key: str | None) -> str:
    if key is not None and (not isinstance(key, str) or len(key) > _LONGEST_KEY):
        raise RequestError(
            "The session's name is too long.",
            expected=f"at most {_LONGEST_KEY} characters",
            remedy="Load the page again.",
        )
    return key or ""


def _forget(session: Session) -> None:
    session.ended.set()
    session.answer = session.batch = session.slide = None
    session.taken.clear()
    session.pictures.clear()
    shutil.rmtree(session.folder, ignore_errors=True)


def sweep_uploads(root: Path, seconds: float) -> None:
    """Delete what Gradio left in `root` more than `seconds` ago; sessions are left alone.

    Gradio's own timer (`delete_cache`) does not know every file that an MCP call leaves.
    """
    limit = time.time() - seconds
    for folder in root.iterdir():
        if folder.name == SESSIONS:
            continue
        for path in sorted([folder, *folder.rglob("*")], reverse=True):
            with contextlib.suppress(OSError):  # gone meanwhile, or a folder with younger files
                if path.lstat().st_ctime < limit:
                    path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
