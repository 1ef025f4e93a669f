"""The rows of a batch: what is kept of each file, and how a page of them looks.

A row keeps its table cells, a thumbnail of a few kilobytes and the network's maps on its own small grid.
Pixels and full-size overlays are made again from the file when a row is opened, so that thousands of rows stay small.

>>> clock(75)
'1 min 15 s'
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.app.worklist import OWN_LABEL, View
from bcx.imaging.names import count_left_out
from bcx.inference import table
from bcx.inference.archives import Member, content
from bcx.inference.prediction import Failure, Prediction
from bcx.report.pictures import row_picture
from bcx.report.words import NEUTRAL, in_question, percent
from bcx.trust.claims import NOT_A_SCAN, REFER

if TYPE_CHECKING:
    from bcx.tasks import Task

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
        if self.slim is None:
            return None
        return self.slim.with_pixels(content(self.source))


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
    clip = None if answer.clip is None else dataclasses.replace(answer.clip, answers=())
    slim = dataclasses.replace(answer.without_pixels(), name=name, clip=clip)
    return Row(source, cells, row_picture(answer, THUMBNAIL), slim)


def unique_names(names: list[str]) -> list[str]:
    """Return the names, with a number added where one repeats (`a.png`, `a (2).png`).

    >>> unique_names(["a.png", "a.png", "b.png"])
    ['a.png', 'a (2).png', 'b.png']
    """
    taken: set[str] = set()
    unique = []
    for name in names:
        stem, suffix = Path(name).stem, Path(name).suffix
        candidate, number = name, 1
        while candidate in taken:
            number += 1
            candidate = str(Path(name).with_name(f"{stem} ({number}){suffix}"))
        taken.add(candidate)
        unique.append(candidate)
    return unique


def clock(seconds: float) -> str:
    """Return a duration in words."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def progress_html(batch: Batch) -> str:
    """Return the progress bar: files done, failed, time left."""
    done, total = len(batch.rows), len(batch.files)
    spent = (batch.ended or time.monotonic()) - batch.started
    share = 100 * done / total if total else 100
    if batch.ended is None:
        left = f", about {clock(spent / done * (total - done))} left" if done else ""
        text = f"{done} of {total} files{left}"
    else:
        stopped = "" if done == total else f" of {total}: stopped"
        text = f"{done}{stopped} file{'' if total == 1 else 's'} in {clock(spent)}"
    extras = [f"{batch.failed} could not be read"] if batch.failed else []
    left_out = f"left out: {count_left_out(why for _, why in batch.left_out)}" if batch.left_out else ""
    if left_out and batch.ended is None:  # named at the end; until then the list would close each time it is told
        extras.append(left_out)
        left_out = ""
    note = f"<span>{escape('; '.join(extras))}</span>" if extras else ""
    return (
        f'<div class="bcx-progress" data-done="{done}" data-finished="{str(batch.ended is not None).lower()}">'
        f'<p role="status"><strong>{escape(text)}</strong>{note}</p><div class="bcx-bar-track" role="progressbar" '
        f'aria-label="Files done" aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{done}">'
        f'<span class="bcx-bar-fill" style="width: {share:.1f}%; background: var(--bcx-ink)"></span></div>'
        f"{_left_out_html(left_out, batch.left_out)}</div>"
    )


def _left_out_html(words: str, files: list[tuple[str, str]]) -> str:
    if not words:
        return ""
    names = "".join(f"<li>{escape(file)}: {escape(why)}</li>" for file, why in files[:NAMED])
    more = f"<li>and {len(files) - NAMED:,} more</li>" if len(files) > NAMED else ""
    return f'<details class="bcx-left-out"><summary>{escape(words)}</summary><ul>{names}{more}</ul></details>'


def pages(shown: int) -> int:
    """Return how many pages that many rows fill, at least one."""
    return max(1, -(-shown // PAGE_ROWS))


def rows_html(batch: Batch, task: Task) -> str:
    """Return the page of rows on show, each a button that opens it beside the person's own label, and the pager."""
    places = batch.view.places(batch.rows, task)
    count = pages(len(places))
    batch.page = min(batch.page, count - 1)
    if not places:
        return '<p class="bcx-none">No rows match.</p>' if batch.rows else ""
    first = batch.page * PAGE_ROWS
    items = [_row_html(batch, place, task) for place in places[first : first + PAGE_ROWS]]
    pager = ""
    if count > 1:
        turns = [
            f'<button type="button" data-page="{batch.page + by}" data-turn="{by}"'
            f"{'' if 0 <= batch.page + by < count else ' disabled'}>{words}</button>"
            for by, words in ((-1, "Previous page"), (1, "Next page"))
        ]
        middle = f"<span>Page {batch.page + 1} of {count}</span>"
        pager = f'<nav class="bcx-pager" aria-label="Pages">{turns[0]}{middle}{turns[1]}</nav>'
    return f'<ol class="bcx-rows" start="{first + 1}" data-on="{batch.page}">{"".join(items)}</ol>{pager}'


def _row_html(batch: Batch, place: int, task: Task) -> str:
    row = batch.rows[place]
    name = escape(str(row.cells["file"]))
    if row.slim is None:
        return (
            f'<li><div class="bcx-row bcx-row-failed" data-row="{place}">'
            f'<span class="bcx-thumb" aria-hidden="true">!</span>'
            f'<span class="bcx-row-name">{name}</span><span class="bcx-row-verdict">could not be read</span>'
            f'<span class="bcx-row-more">{escape(str(row.cells["reason"]))}</span></div></li>'
        )
    decision = row.slim.decision
    plain = decision not in (NOT_A_SCAN, REFER)
    colour = task.colours[task.classes.index(row.slim.label)] if plain else NEUTRAL
    verdict = f"refer: {in_question(row.slim)}" if decision == REFER else decision
    number = percent(row.slim.confidence) if plain else ""
    current = ' aria-current="true"' if place == batch.current else ""
    flags = "".join(f'<span class="bcx-row-flag">{escape(flag)}</span>' for flag in row.slim.flags)
    more = "; ".join([*([row.slim.reason] if row.slim.reason else []), *row.slim.notes])
    return (
        f'<li><button type="button" class="bcx-row" data-row="{place}" data-pick="{place}"{current}>'
        f'<img class="bcx-thumb" src="{row.thumbnail}" alt=""><span class="bcx-row-name" title="{name}">{name}</span>'
        f'<span class="bcx-row-verdict"><span class="bcx-dot" style="background: {colour}"></span>'
        f"{escape(verdict)} <b>{number}</b></span>"
        f'<span class="bcx-row-more">{_sorted_by(row, batch.view.order, task)}{escape(more)}{flags}</span></button>'
        f"{_own_html(place, name, batch.own.get(place, ''), task)}</li>"
    )


def _sorted_by(row: Row, order: str, task: Task) -> str:
    """Return the number that a row is sorted by; nothing for names, and for what is no scan."""
    if order == "name" or row.slim is None or row.slim.decision == NOT_A_SCAN:
        return ""
    likeliest = max(row.slim.probabilities, key=row.slim.probabilities.__getitem__)
    name = task.positive if order == "suspicion" else likeliest
    words = f"{name} {percent(row.slim.probabilities[name])}"
    return f'<span class="bcx-row-sorted">{escape(words)}</span>'


def _own_html(place: int, name: str, label: str, task: Task) -> str:
    options = "".join(
        f'<option value="{escape(each)}"{" selected" if each == label else ""}>{escape(each or "your label")}</option>'
        for each in ("", *task.classes)
    )
    return f'<select class="bcx-own" data-own="{place}" aria-label="Your label for {name}">{options}</select>'
