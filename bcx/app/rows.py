"""The rows of a batch: what is kept of each file, and how a page of them looks.

Pixels and full-size overlays are made again from the file when a row is opened, so that thousands of rows stay small.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bcx.app.markup import html
from bcx.app.takeaway import slim
from bcx.app.worklist import OWN_LABEL, View
from bcx.imaging.names import count_left_out
from bcx.inference import table
from bcx.inference.archives import Member, content
from bcx.inference.prediction import Failure, Prediction
from bcx.report.pictures import row_picture
from bcx.report.words import likeliest, percent
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

#: Rows shown at once; the pager reaches the others, so that a browser never holds thousands of rows.
PAGE_ROWS = 50
THUMBNAIL = 72
#: Files left out that are named.
NAMED = 1000


@dataclass(frozen=True)
class Row:
    """One file of a batch.

    Attributes:
        source: the file in the session's folder, or a member of an archive there.
        cells: its row of the results table (`bcx.inference.table.columns`).
        thumbnail: a small JPEG as a data address; empty for a file that could not be read.
        slim: the prediction without its pixels; None for a file that could not be read.
        at: when it was read.
    """

    source: Path | Member
    cells: dict[str, Any]
    thumbnail: str = ""
    slim: Prediction | None = None
    at: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def prediction(self) -> Prediction | None:
        """Return the prediction with its pixels, read again from the file; the network does not run."""
        return None if self.slim is None else self.slim.with_pixels(content(self.source))

    def sorted_by(self, order: str, task: Task) -> str:
        """Return the number that it is sorted by; nothing for names, and for what is no scan."""
        if order == "name" or self.slim is None or self.slim.decision == NOT_A_SCAN:
            return ""
        name = task.positive if order == "suspicion" else likeliest(self.slim)[0][0]
        return f"{name} {percent(self.slim.probabilities[name])}"


@dataclass
class Batch:
    """A batch that runs or has run.

    Attributes:
        files: where each file is and what it is called; the names are unique.
        left_out: what was left out of a folder or an archive, as (file, why).
        rows: one per finished file, in the order of `files`.
        task: the name of the task of the model that it was chosen for.
        own: the person's own labels, by the row's place: what its folder is called, or what was chosen.
        view: which rows are on show, and in which order.
        page: the page of rows on show, from 0.
        opened: the row on show beside the table, with its pixels.
        current: that row's place.
        stop: set when the person asked to stop.
    """

    files: list[tuple[Path | Member, str]]
    left_out: list[tuple[str, str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    task: str = ""
    own: dict[int, str] = field(default_factory=dict)
    view: View = field(default_factory=View)
    page: int = 0
    opened: Prediction | None = None
    current: int | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    ended: float | None = None

    @property
    def failed(self) -> int:
        """How many files could not be read."""
        return sum(row.slim is None for row in self.rows)

    def unread(self) -> Batch:
        """Return a batch of the same files and labels that has not run."""
        return Batch(self.files, self.left_out, task=self.task, own=self.own, view=self.view)

    def table(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of each row, with the person's own label."""
        for place, row in enumerate(self.rows):
            yield {**row.cells, OWN_LABEL: self.own.get(place, "")}


def make_row(answer: Prediction | Failure, source: Path | Member, name: str, task: Task) -> Row:
    """Return what is kept of one answer."""
    cells = table.row(answer, name, task)
    if isinstance(answer, Failure):
        return Row(source, cells)
    kept = dataclasses.replace(slim(answer), name=name)
    return Row(source, cells, row_picture(answer, THUMBNAIL), kept)


def unique_names(names: list[str]) -> list[str]:
    """Return the names, with a number added where one repeats.

    >>> unique_names(["a.png", "a.png", "b.png"])
    ['a.png', 'a (2).png', 'b.png']
    """
    unique: dict[str, None] = {}  # as a set that keeps the order
    for name in names:
        path, candidate, number = Path(name), name, 1
        while candidate in unique:
            number += 1
            candidate = str(path.with_name(f"{path.stem} ({number}){path.suffix}"))
        unique[candidate] = None
    return list(unique)


def clock(seconds: float) -> str:
    """Return a duration in words.

    >>> clock(75)
    '1 min 15 s'
    """
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def progress_html(batch: Batch) -> str:
    """Return the progress bar: files done, failed, time left."""
    done, total, ended = len(batch.rows), len(batch.files), batch.ended is not None
    spent = (batch.ended or time.monotonic()) - batch.started
    if ended:
        stopped = "" if done == total else f" of {total}: stopped"
        text = f"{done}{stopped} file{'' if total == 1 else 's'} in {clock(spent)}"
    else:
        left = f", about {clock(spent / done * (total - done))} left" if done else ""
        text = f"{done} of {total} files{left}"
    beside = [f"{batch.failed} could not be read"] if batch.failed else []
    below = ""
    if batch.left_out:
        left_out = f"left out: {count_left_out(why for _, why in batch.left_out)}"
        if ended:  # named at the end only; until then the list would close each time it is told
            below = html.left_out(left_out, batch.left_out, NAMED)
        else:
            beside.append(left_out)
    share = 100 * done / total if total else 100
    return html.progress(text, done, ended, share, "Files done", total, done, "; ".join(beside), below)


def pages(shown: int) -> int:
    """Return how many pages that many rows fill, at least one."""
    return max(1, -(-shown // PAGE_ROWS))


def rows_html(batch: Batch, task: Task) -> str:
    """Return the page of rows on show, each a button that opens it beside the person's own label, and the pager."""
    places = batch.view.places(batch.rows, task)
    count = pages(len(places))
    batch.page = min(batch.page, count - 1)
    if not places:
        return html.no_rows() if batch.rows else ""
    first = batch.page * PAGE_ROWS
    return html.rows(batch, places[first : first + PAGE_ROWS], task, count, first)
