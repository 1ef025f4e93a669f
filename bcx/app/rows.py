"""The rows of a batch as a worklist: what is kept of each file, which are on show in which order, the person's labels.

Pixels and full-size overlays are made again from the file when a row is opened, so that thousands of rows stay small.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_auc_score

from bcx.app.markup import html
from bcx.app.takeaway import slim
from bcx.evaluate.intervals import bootstrap_interval
from bcx.evaluate.metrics import ranked_auc
from bcx.imaging.names import count_left_out
from bcx.inference import table
from bcx.inference.archives import Member, content
from bcx.inference.prediction import Failure, Prediction
from bcx.report.pictures import row_picture
from bcx.report.words import likeliest, percent
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

#: Rows shown at once; the pager reaches the others, so that a browser never holds thousands of rows.
PAGE_ROWS = 50
THUMBNAIL = 72
#: Files left out that are named.
NAMED = 1000
#: What rows are ordered by, and what a person reads.
ORDERS = {"name": "Name", "suspicion": "Suspicion", "uncertainty": "Uncertainty"}
#: Filters beside the task's classes and the decisions: files without an answer, and answers with a doubt.
FAILED, FLAGGED = "could not be read", "flagged"
#: Characters of a search at most.
LONGEST_SEARCH = 200
#: Of `Batch.by`: the rows that a person picks.
PICKED = "picked"
#: Column of the page's table for the person's own label.
OWN_LABEL = "own_label"
#: Before the names of the columns for what a person's box was answered; they are there where a box was read.
BOXED = "box_"


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

    def score(self, order: str, task: Task) -> float:
        """Return what it is sorted by: the positive class's probability, or 1 minus that of the likeliest class."""
        assert self.slim is not None
        probabilities = self.slim.probabilities
        return float(probabilities[task.positive]) if order == "suspicion" else 1.0 - max(probabilities.values())

    def sorted_by(self, order: str, task: Task) -> str:
        """Return that in words; nothing for names, and for what is no scan."""
        if order == "name" or self.slim is None or self.slim.decision == NOT_A_SCAN:
            return ""
        name = task.positive if order == "suspicion" else likeliest(self.slim)[0][0]
        return f"{name} {percent(self.slim.probabilities[name])}"

    @property
    def kinds(self) -> list[str]:
        """What it counts as: its decision, and whether it is flagged."""
        return [FAILED] if self.slim is None else [self.slim.decision, *([FLAGGED] if self.slim.flags else [])]


@dataclass
class View:
    """Which rows are on show, and in which order.

    Attributes:
        order: a key of `ORDERS`.
        decision: one of `filters`; "" shows all.
        text: part of a file's name, or of what is said about it; "" shows all.
    """

    order: str = "name"
    decision: str = ""
    text: str = ""

    def places(self, rows: Sequence[Row], task: Task) -> list[int]:
        """Return the places in `rows` of those on show, in order; what is no scan, then failed files, come last."""
        text = self.text.casefold()

        def fits(row: Row) -> bool:
            said = " ".join(str(row.cells[name]) for name in ("file", "decision", "reason", "flags", "notes"))
            return (not self.decision or self.decision in row.kinds) and (not text or text in said.casefold())

        def rank(place: int) -> tuple[int, float]:
            row = rows[place]
            return (2, 0) if row.slim is None else (row.slim.decision == NOT_A_SCAN, -row.score(self.order, task))

        kept = [place for place, row in enumerate(rows) if fits(row)]
        return kept if self.order == "name" else sorted(kept, key=rank)


@dataclass
class Batch:
    """A batch that runs or has run.

    Attributes:
        files: where each file is and what it is called; the names are unique.
        left_out: what was left out of a folder or an archive, as (file, why).
        rows: one per finished file, in the order of `files`.
        task: the name of the task of the model that it was chosen for.
        own: the person's own labels, by the row's place: what its folder is called, or what was chosen.
        by: what tells whose a scan is, a key of `bcx.app.patients.CHOICES`; "" for no answer per patient.
        boxed: the answer to the person's box, without its pixels, by the row's place.
        beside: what stands beside the open row's answer, with its pixels: that of a box, or of a part hidden.
        picked: the places of the rows that a person picked, and `groups` of those that were combined before.
        patients: the rows of the table of patients.
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
    boxed: dict[int, Prediction] = field(default_factory=dict)
    beside: Prediction | None = None
    by: str = ""
    picked: set[int] = field(default_factory=set)
    groups: list[list[int]] = field(default_factory=list)
    patients: list[dict[str, Any]] = field(default_factory=list)
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
        kept = {name: getattr(self, name) for name in ("task", "own", "by", "groups", "view")}
        return Batch(self.files, self.left_out, **kept)

    def table(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of each row, with the person's own label and what their box was answered."""
        for place, row in enumerate(list(self.rows)):
            yield {**row.cells, OWN_LABEL: self.own.get(place, ""), **self.box_cells(place)}

    def box_cells(self, place: int) -> dict[str, Any]:
        """Return the cells of a row's box; empty where none was read."""
        found = self.boxed.get(place)
        if found is None:
            return {}
        said = {name: getattr(found, name) for name in ("label", "confidence", "decision", "reason")}
        said |= {f"p_{name}": p for name, p in found.probabilities.items()}
        cells = {BOXED + name: round(value, 6) if isinstance(value, float) else value for name, value in said.items()}
        return {"box": " ".join(map(str, found.box or ())), **cells}

    def more_columns(self) -> list[str]:
        """Return the names of the columns of `table` that come after those of every door."""
        return [OWN_LABEL, *(self.box_cells(next(iter(self.boxed))) if self.boxed else ())]


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


def natural_key(name: str) -> list[Any]:
    """Return a key that sorts `scan2` before `scan10`, folder by folder, whatever the case of letters.

    >>> sorted(["b/2.png", "a/mono10.dcm", "a/mono2.dcm"], key=natural_key)
    ['a/mono2.dcm', 'a/mono10.dcm', 'b/2.png']
    """
    return [
        [
            (len(part.lstrip("0")), part.lstrip("0")) if part.isascii() and part.isdigit() else part
            for part in re.split("([0-9]+)", step)
        ]
        for step in name.casefold().replace(".", "\0").split("/")  # a point first: `scan.png` before `scan (2).png`
    ]


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
    return html.rows(batch, places[first : first + PAGE_ROWS], task, count, first, batch.by == PICKED)


def filters(task: Task) -> list[str]:
    """Return what rows can be filtered by, in the order in which it is shown."""
    return [*task.classes, REFER, NOT_A_SCAN, FAILED, FLAGGED]


def counts_html(batch: Batch, task: Task) -> str:
    """Return the number of rows of each decision, each a button that shows these alone."""
    counted = Counter(kind for row in batch.rows for kind in row.kinds)
    every = [("", "all", len(batch.rows))] + [(name, name, counted[name]) for name in filters(task)]
    always = ("", *task.classes, batch.view.decision)
    return html.counts([each for each in every if each[2] or each[0] in always], batch.view.decision)


def own_labels(names: Sequence[str], task: Task) -> dict[int, str]:
    """Return the labels that folders give: place of a file -> class that the nearest folder above it is called like."""
    by_name = {each.casefold(): each for each in task.classes}
    labels = {}
    for place, name in enumerate(names):
        for folder in PurePosixPath(name).parts[:-1]:  # the nearest comes last
            if folder.casefold() in by_name:
                labels[place] = by_name[folder.casefold()]
    return labels


def score_html(batch: Batch, task: Task) -> str:
    """Return the answers held against the person's own labels, with 95 % intervals; "" while there are none."""
    rows = [(row, batch.own[place]) for place, row in enumerate(batch.rows) if place in batch.own]
    read = [(row.slim, own) for row, own in rows if row.slim is not None and row.slim.decision != NOT_A_SCAN]
    if not read:
        return ""
    answered = [(slim.decision, own) for slim, own in read if slim.decision != REFER]
    right = sum(decision == own for decision, own in answered)
    lines = [f"{len(rows):,} labelled, {len(answered):,} of them given a class"]
    if len(read) > len(answered):
        lines[0] += f", {len(read) - len(answered):,} referred"
    if len(rows) > len(read):
        lines[0] += f", {len(rows) - len(read):,} not a scan or not read"
    if answered:
        interval = binomtest(right, len(answered)).proportion_ci(0.95, method="wilson")
        spread = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
        accuracy = f"{100 * right / len(answered):.0f} % ({spread}), {right:,} of {len(answered):,}"
        lines.append(f"Accuracy of those given a class: {accuracy}")
    lines.append(_auc_words([(slim.probabilities[task.positive], own) for slim, own in read], task.positive))
    given = [*task.classes, REFER]
    counted = confusion_matrix([own for _, own in read], [slim.decision for slim, _ in read], labels=given)
    return html.score(
        lines,
        {true: dict(zip(given, map(int, row), strict=True)) for true, row in zip(task.classes, counted, strict=False)},
    )


def _auc_words(scored: Sequence[tuple[float, str]], positive: str) -> str:
    scores = np.array([score for score, _ in scored])
    is_positive = np.array([own == positive for _, own in scored])
    if is_positive.all() or not is_positive.any():
        return f"ROC-AUC needs labels of {positive} and of another class"
    area = roc_auc_score(is_positive, scores)
    low, high = bootstrap_interval(ranked_auc(scores, is_positive), range(len(scores)))
    # where every scan of one kind stands above every other, resamples do too, and say nothing of other scans
    spread = f" ({low:.2f} to {high:.2f})" if low < high else " (too few for an interval)"
    return f"ROC-AUC of {positive} against the rest: {area:.2f}{spread}, {len(scores):,} scans"
