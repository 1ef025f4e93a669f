"""Sessions: what the server knows about one open page, and how it forgets it.

A session's images, answers and files live in one folder, which only the server names, and are deleted with it when
the page is closed. Pages that vanish without a word are forgotten later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import shutil
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.app.incoming import file_path, session_name
from bcx.app.uploads import Uploads
from bcx.errors import RequestError
from bcx.imaging.style import STYLE, MapStyle
from bcx.inference.prediction import Prediction
from bcx.report.pictures import data_url, page_overlay

if TYPE_CHECKING:
    from bcx.app.rows import Batch
    from bcx.app.slide_tab import SlideRun
    from bcx.explain.checks import Checks
    from bcx.explain.methods import Explanation

#: A page that says nothing for so long is forgotten, even if its end was never reported.
IDLE_SECONDS = 6 * 3600
#: More sessions than this at once, and those without an open page go, the one that was silent longest first.
MOST_SESSIONS = 500
#: Answers of a session that can be opened again.
MOST_PAST = 8


@dataclass(frozen=True)
class Chosen:
    """The single scan that a person chose, for a model of some task."""

    path: Path
    name: str
    task: str
    made: str | None = None  # what a shipped example was made to show; None for a file of the person's own


@dataclass
class Past:
    """A `slim` answer, a small image of it as a data address, its scan, and when it was given."""

    prediction: Prediction
    thumbnail: str
    chosen: Chosen
    at: datetime

    def open(self) -> Prediction:
        return self.prediction.with_pixels(self.chosen.path)


def slim(prediction: Prediction) -> Prediction:
    """Return what is kept of an answer, some kilobytes: no pixels, and no other frames of a clip."""
    clip = None if prediction.clip is None else dataclasses.replace(prediction.clip, answers=())
    return dataclasses.replace(prediction.without_pixels(), clip=clip)


def kept(prediction: Prediction) -> tuple[Prediction, str]:
    return slim(prediction), data_url(page_overlay(prediction), side=120)


@dataclass
class Session:
    """One open page."""

    folder: Path  # private to this session, with a name that nobody can guess; gone after it
    uploads: Uploads
    model: str | None = None  # the name of the one that the person chose; None while it is the default one
    style: MapStyle = STYLE  # how maps are drawn on this page
    # Classify: the last answer, kept so that opacity and class need no second run of the network, and its scan
    answer: Prediction | None = None
    on_show: Prediction | None = None  # itself, or the answer of another frame of its clip
    compared: tuple[Prediction, str | None] | None = None  # beside it, and what a shipped example was made to show
    prevalence: dict[str, float] | None = None  # as the person said; None: the model's own
    chosen: Chosen | None = None
    past: deque[Past] = field(default_factory=lambda: deque(maxlen=MOST_PAST))  # newest first; outlasts the model
    opened: Past | None = None  # the one of them that `answer` is
    # the answer whose maps stand side by side, these maps, their checks by method, and how far it is
    explained: tuple[Prediction, list[Explanation], dict[str, Checks], str] | None = None
    explaining: threading.Event = field(default_factory=threading.Event)  # set when what runs, or ran, should stop
    # the other tabs
    batch: Batch | None = None
    slide: SlideRun | None = None
    again: set[str] = field(default_factory=set)  # what the page shows anew after another model: "scan", "batch"
    # of each viewer, by its name: the scan's image, and the layer and its strength
    shown: dict[str, str] = field(default_factory=dict)
    seen: dict[str, tuple[str, float]] = field(default_factory=dict)
    pictures: dict[str, list[Path]] = field(default_factory=dict)
    taken: dict[str, Path] = field(default_factory=dict)
    running: int = 0  # calls at work for it
    last_used: float = field(default_factory=time.monotonic)
    ended: threading.Event = field(default_factory=threading.Event)  # stops a batch or slide that is still running

    def drawn(self, prediction: Prediction) -> Prediction:
        same = prediction.style == self.style
        return prediction if same else dataclasses.replace(prediction, style=self.style)

    def start_over(self, model: str) -> None:
        """Forget what another model answered, but not the files; a batch or slide that is still running stops."""
        self.model, self.answer, self.on_show, self.compared, self.prevalence = model, None, None, None, None
        self.again = set()
        if self.batch is not None:
            self.batch.stop.set()
            self.batch = self.batch.unread()
        if self.slide is not None:
            self.slide.stop.set()
            self.slide = None

    def take(self, sent: Any) -> Path:
        """Return where what a client sent is now, as long as the session; `RequestError` for no upload of its own."""
        path = file_path(sent)
        if path not in self.taken:
            self.taken[path] = self.uploads.take(path, self.folder)
        return self.taken[path]

    def drop(self, path: Path) -> None:
        """Delete a file that `take` returned, before the session ends."""
        self.taken = {sent: kept for sent, kept in self.taken.items() if kept != path}
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()

    def choose(self, chosen: Chosen) -> None:
        """Take the scan that is read now, and delete the one before, unless it belongs to one of `past`."""
        before, self.chosen, self.compared = self.chosen, chosen, None
        self._drop_unused(before)

    def remember(self, found: Prediction, chosen: Chosen) -> None:
        """Keep an answer with its scan as the open one; the oldest goes where there are too many."""
        oldest = self.past[-1].chosen if len(self.past) == MOST_PAST else None
        self.opened = Past(*kept(found), chosen, datetime.now().astimezone())
        self.past.appendleft(self.opened)
        self._drop_unused(oldest)

    def _drop_unused(self, chosen: Chosen | None) -> None:
        used = [self.chosen, *(each.chosen for each in self.past)]
        if chosen is not None and chosen.made is None and chosen.path not in [each.path for each in used if each]:
            self.drop(chosen.path)

    def picture(self, role: str, suffix: str = ".png") -> Path:
        """Return a fresh path for an image on show and delete the one before the last in the same role.

        A fresh name each time keeps browsers from showing the old image, and others from guessing it.
        """
        made = self.pictures.setdefault(role, [])
        if len(made) == 2:
            made.pop(0).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        made.append(self.folder / f"{role}-{secrets.token_hex(4)}{suffix}")
        return made[-1]


class Sessions:
    """All open pages, by session hash. Safe to use from several threads.

    A page gives itself its hash, so a request can name any. Pages that do not exist cannot push out one that does, and
    the hash of an open page is worth nothing without the cookie of its browser. Callers without cookies, such as
    gradio_client and pages within another site's frame, are known by their hash alone: 52 bits and more.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.uploads = Uploads()
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._pages: dict[str, list[str]] = {}  # the cookie of each connection that a page holds open
        self._closed: set[str] = set()
        self._lock = threading.Lock()

    def get(self, key: str) -> Session:
        """Return the session `key`, made if it is new; `RequestError` where every place is taken by an open page."""
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
            most = f"at most {MOST_SESSIONS} at once"
            raise RequestError("Too many pages are open.", expected=most, remedy="Try again in some minutes.")
        return session

    @contextlib.contextmanager
    def at_work(self, key: str | None) -> Iterator[Session]:
        """The session `key`, or a new one, kept while a call works for it; without an open page it ends after."""
        key = session_name(key) or f"call-{secrets.token_hex(16)}"
        session = self.get(key)
        with self._lock:
            session.running += 1
        try:
            yield session
        finally:
            with self._lock:
                session.running -= 1
                over = key not in self._pages and session.running == 0
            if over:
                self.close(key)

    def opened(self, key: str, cookie: str = "") -> None:
        """Note that a page of that hash holds a connection open; `cookie` is its browser's, "" where it has none."""
        with self._lock:
            self._pages.setdefault(key, []).append(cookie)

    def closed(self, key: str) -> None:
        """Note that such a connection ended; with the last one the session does."""
        with self._lock:
            last = len(self._pages[key]) == 1
            if last:
                del self._pages[key]
                self._closed.add(key)
            else:
                self._pages[key].pop()
        if last:
            self.close(key)

    def take_closed(self) -> set[str]:
        """Return the hashes of the pages that were closed since the last time."""
        with self._lock:
            taken, self._closed = self._closed, set()
        return taken

    def is_open(self, key: str | None) -> bool:
        """Whether a page of that hash holds a connection open, or a call is at work for it."""
        session = self._sessions.get(key or "")
        return key in self._pages or (session is not None and session.running > 0)

    def may_speak_for(self, key: str, cookie: str) -> bool:
        """Whether a request with that cookie may name the session: always where its page's browser takes none."""
        own = self._pages.get(key, [""])[0]
        return not own or secrets.compare_digest(own.encode(), cookie.encode())

    def close(self, key: str | None) -> None:
        """Delete everything that the session holds, in memory and on disk; nothing to do if it is unknown."""
        with self._lock:
            session = self._sessions.pop(key or "", None)
        if session is not None:
            _forget(session)

    def _stale(self, room: bool) -> list[Session]:
        """Take out sessions that were silent for too long, and to make room those without an open page. Lock held."""
        limit = time.monotonic() - IDLE_SECONDS
        spare = [key for key, session in self._sessions.items() if not session.running]
        gone = [key for key in spare if self._sessions[key].last_used < limit]
        surplus = len(self._sessions) + room - MOST_SESSIONS - len(gone)
        gone += [key for key in spare if key not in gone and key not in self._pages][: max(surplus, 0)]
        return [self._sessions.pop(key) for key in gone]


def _forget(session: Session) -> None:
    """Delete the files, and whatever a call that still works for the session would hold in memory."""
    session.ended.set()
    still = {"ended": session.ended, "running": session.running}
    vars(session).update(vars(Session(session.folder, session.uploads)) | still)
    shutil.rmtree(session.folder, ignore_errors=True)
