"""A batch and its rows: what is kept of each file, which rows are on show in which order, the person's own labels.

Pixels and full-size overlays are made again from the file when a row is opened, so that thousands of rows stay small.
"""

from __future__ import annotations

import dataclasses
import re
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from bcx.app.incoming import MOST_FILES, file_name
from bcx.app.markup import html
from bcx.app.privacy import Session, slim
from bcx.errors import BcxError, RequestError
from bcx.evaluate.intervals import bootstrap_intervals
from bcx.evaluate.metrics import ranked_auc
from bcx.imaging.names import count_left_out
from bcx.imaging.scan import place_of
from bcx.inference import table
from bcx.inference.archives import Member, content, free_name
from bcx.inference.classifier import Classifier
from bcx.inference.input_files import Found, choose, reached
from bcx.inference.patient import FOLDER, STUDY, folder_of, patient_lines, patient_rows
from bcx.inference.prediction import Failure, Prediction
from bcx.report.pictures import lesion_picture, row_picture, save_png
from bcx.report.words import ranked
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

#: How often the page hears of new rows: often enough to feel live, seldom enough to leave the cores to the network.
TELL_SECONDS = 0.4
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
#: What tells whose a scan is, and what a person reads.
CHOICES = {"": "No", FOLDER: "Per folder", STUDY: "Per DICOM study", PICKED: "For rows that I pick"}
#: Patients that are shown, and groups of rows that a person can make.
SHOWN, MOST_GROUPS = 500, 200


@dataclass(frozen=True)
class Row:
    """One file of a batch; of one that could not be read there is neither a thumbnail nor an answer."""

    source: Path | Member  # the file in the session's folder, or a member of an archive there
    cells: dict[str, Any]  # its row of the results table (`bcx.inference.table.columns`)
    thumbnail: str = ""  # a small JPEG as a data address
    slim: Prediction | None = None  # the prediction without its pixels
    at: datetime = field(default_factory=lambda: datetime.now().astimezone())

    def prediction(self) -> Prediction | None:
        """Return the prediction with its pixels, read again from the file; the network does not run."""
        return None if self.slim is None else self.slim.with_pixels(content(self.source))

    def sorted_by(self, order: str, task: Task) -> tuple[str, float]:
        """Return the class whose probability stands for its order among the rows, and that probability."""
        assert self.slim is not None
        name = task.positive if order == "suspicion" else ranked(self.slim)[0]
        return name, self.slim.probabilities[name]

    @property
    def kinds(self) -> list[str]:
        """What it counts as: its decision, and whether it is flagged."""
        return [FAILED] if self.slim is None else [self.slim.decision, *([FLAGGED] if self.slim.flags else [])]


@dataclass
class Batch:
    files: list[tuple[Path | Member, str]]  # where each file is and what it is called; the names are unique
    left_out: list[tuple[str, str]] = field(default_factory=list)  # of a folder or an archive: (file, why)
    task: str = ""  # the name of the task of the model that it was chosen for
    # By the row's place: the person's own labels (what its folder is called, or what was chosen), and the answers to
    # their boxes, without pixels
    own: dict[int, str] = field(default_factory=dict)
    boxed: dict[int, Prediction] = field(default_factory=dict)
    by: str = ""  # what tells whose a scan is, a key of `CHOICES`; "" for no answer per patient
    picked: set[int] = field(default_factory=set)  # the places of the rows that a person picked
    groups: list[list[int]] = field(default_factory=list)  # of those that were combined before
    patients: list[dict[str, Any]] = field(default_factory=list)  # the rows of the table of patients
    # Which rows are on show: a key of `ORDERS`, one of `filters`, part of a name or of what is said about a file (""
    # for all), and the page of them, from 0
    order: str = "name"
    decision: str = ""
    text: str = ""
    page: int = 0
    # The row that is open, its answer, and what stands beside that (of a box, or of a part hidden), with their pixels
    current: int = -1
    opened: Prediction | None = None
    beside: Prediction | None = None
    rows: list[Row] = field(default_factory=list)  # one per finished file, in the order of `files`
    stop: threading.Event = field(default_factory=threading.Event)
    started: float = 0.0  # 0: not yet
    ended: float | None = None

    @property
    def failed(self) -> int:
        return sum(row.slim is None for row in self.rows)

    def unread(self) -> Batch:
        """Return a batch of the same files and labels that has not run."""
        kept = ("files", "left_out", "task", "own", "by", "groups", "order", "decision", "text")
        return Batch(**{name: getattr(self, name) for name in kept})

    def on_show(self, task: Task) -> list[int]:
        """Return the places of the rows on show, in order; what is no scan, then failed files, come last."""
        text = self.text.casefold()

        def fits(row: Row) -> bool:
            said = " ".join(str(row.cells[name]) for name in ("file", "decision", "reason", "flags", "notes"))
            return (not self.decision or self.decision in row.kinds) and (not text or text in said.casefold())

        def rank(place: int) -> tuple[int, float]:
            row = self.rows[place]
            if row.slim is None:
                return 2, 0.0
            probability = row.sorted_by(self.order, task)[1]  # the least sure first, or the most suspicious
            return row.slim.decision == NOT_A_SCAN, -probability if self.order == "suspicion" else probability

        kept = [place for place, row in enumerate(self.rows) if fits(row)]
        return kept if self.order == "name" else sorted(kept, key=rank)

    def table(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of each row, with the person's own label and what their box was answered."""
        for place, row in enumerate(list(self.rows)):
            yield {**row.cells, OWN_LABEL: self.own.get(place, ""), **self.box_cells(place)}

    def box_cells(self, place: int) -> dict[str, Any]:
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
    cells = table.row(answer, name, task)
    if isinstance(answer, Failure):
        return Row(source, cells)
    return Row(source, cells, row_picture(answer, THUMBNAIL), dataclasses.replace(slim(answer), name=name))


def take_in(session: Session, uploads: list[Any], folder: bool) -> Batch:
    """Return the batch of what the client sent in each file's place.

    Of a folder, as of a ZIP archive, masks and files that are no images are left out; a file chosen by itself is not.
    """
    paths = [session.take(upload) for upload in uploads]
    taken: set[str] = set()
    names = [free_name(file_name(upload, path.name), taken) for path, upload in zip(paths, uploads, strict=True)]
    if folder:
        met = [Found(path, name, Path(name)) for path, name in zip(paths, names, strict=True)]
    else:
        met = [found for path, name in zip(paths, names, strict=True) for found in reached(path, name, outright=True)]
    kept, left_out = choose(met)
    kept.sort(key=lambda found: natural_key(found.file))
    if len(kept) > MOST_FILES:
        many = f"These are {len(kept):,} files."
        raise RequestError(many, expected=f"at most {MOST_FILES:,}", remedy="Choose fewer at a time.")
    for path in set(paths) - {found.path for found in kept}:
        session.drop(path)
    return Batch([(found.source, found.file) for found in kept], left_out)


def run(session: Session, batch: Batch, task: Task, stream: Callable[..., Any]) -> Iterator[None]:
    """Classify the batch, until its end or until nobody waits for it; yields when the page should be told."""
    batch.started, told = time.monotonic(), 0.0
    yield
    answered = stream([source for source, _ in batch.files])
    for (source, name), answer in zip(batch.files, answered, strict=True):
        batch.rows.append(make_row(answer, source, name, task))
        if batch.stop.is_set() or session.ended.is_set() or session.batch is not batch:
            break
        if time.monotonic() - told >= TELL_SECONDS:
            yield
            told = time.monotonic()
    batch.ended = time.monotonic()
    yield


def write_overlays(session: Session, batch: Batch, classes: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Write a ZIP with the overlays of every file and of each box, and the table of patients where there is one.

    Yields how many files are done, and the ZIP's path.
    """
    target = session.picture("bcx-overlays", ".zip")
    readable = [(place, row.slim, row) for place, row in enumerate(batch.rows) if row.slim is not None]
    # PNG is compressed already, so the archive only stores.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for done, (place, kept, row) in enumerate(readable, start=1):
            if session.ended.is_set():
                return
            name = PurePosixPath(row.cells["file"]).with_suffix("")
            answers = {"": kept} | ({"box_": batch.boxed[place]} if place in batch.boxed else {})
            for prefix, each in answers.items():
                found = session.drawn(each.with_pixels(content(row.source)))
                for layer, picture in ((found.label, found.overlay()), ("lesion", lesion_picture(found))):
                    if picture is not None:
                        scratch = save_png(picture, session.folder / "one-overlay.png")
                        archive.write(scratch, f"{name}_{prefix}{layer}.png")
            yield done, target
        if batch.patients:
            archive.writestr("results.patients.csv", "".join(patient_lines(batch.patients, classes)))


def natural_key(name: str) -> list[str]:
    """Return a key that sorts `scan2` before `scan10`, folder by folder, whatever the case of letters.

    >>> sorted(["b/2.png", "a/mono10.dcm", "a/mono2.dcm"], key=natural_key)
    ['a/mono2.dcm', 'a/mono10.dcm', 'b/2.png']
    """
    # A number behind the count of its digits; and a point first: `scan.png` before `scan (2).png`.
    counted = re.sub("0*([0-9]*)", lambda found: found[0] and f"\0{len(found[1]):06}{found[1]}", name.casefold())
    return counted.replace(".", "\1").split("/")


def progress_html(batch: Batch) -> str:
    left_out = f"left out: {count_left_out(why for _, why in batch.left_out)}" if batch.left_out else ""
    return html.batch_progress(batch, (batch.ended or time.monotonic()) - batch.started, left_out, NAMED)


def pages(shown: int) -> int:
    return max(1, -(-shown // PAGE_ROWS))


def rows_html(batch: Batch, task: Task) -> str:
    """Return the page of rows on show, each a button that opens it beside the person's own label, and the pager."""
    places = batch.on_show(task)
    count = pages(len(places))
    batch.page = min(batch.page, count - 1)
    if not places:
        return html.no_rows() if batch.rows else ""
    first = batch.page * PAGE_ROWS
    return html.rows(batch, places[first : first + PAGE_ROWS], task, count, first, batch.by == PICKED)


def filters(task: Task) -> list[str]:
    return [*task.classes, REFER, NOT_A_SCAN, FAILED, FLAGGED]


def counts_html(batch: Batch, task: Task) -> str:
    counted = Counter(kind for row in batch.rows for kind in row.kinds)
    every = [("", "all", len(batch.rows))] + [(name, name, counted[name]) for name in filters(task)]
    always = ("", *task.classes, batch.decision)
    return html.counts([each for each in every if each[2] or each[0] in always], batch.decision)


def own_labels(names: Sequence[str], task: Task) -> dict[int, str]:
    """Return the labels that folders give: place of a file -> class that the nearest folder above it is called like."""
    by_name = {each.casefold(): each for each in task.classes}
    folders = [[step.casefold() for step in PurePosixPath(name).parts[-2::-1]] for name in names]  # the nearest first
    found = [next((by_name[step] for step in above if step in by_name), None) for above in folders]
    return {place: label for place, label in enumerate(found) if label}


def score_html(batch: Batch, task: Task) -> str:
    """Return the answers held against the person's own labels, with 95 % intervals; "" while there are none."""
    rows = [(row.slim, batch.own[place]) for place, row in enumerate(batch.rows) if place in batch.own]
    read = [(slim, own) for slim, own in rows if slim is not None and slim.decision != NOT_A_SCAN]
    if not read:
        return ""
    counted = Counter((own, slim.decision) for slim, own in read)
    matrix = {true: {given: counted[true, given] for given in (*task.classes, REFER)} for true in task.classes}
    answered = len(read) - sum(row[REFER] for row in matrix.values())
    right = sum(row[true] for true, row in matrix.items())
    interval = binomtest(right, answered).proportion_ci(0.95, method="wilson") if answered else None
    scores = np.array([slim.probabilities[task.positive] for slim, _ in read])
    auc = _auc_words(scores, np.array([own == task.positive for _, own in read]), task.positive)
    return html.score(len(rows), len(read), answered, right, interval, auc, matrix)


def _auc_words(scores: np.ndarray, is_positive: np.ndarray, positive: str) -> str:
    if is_positive.all() or not is_positive.any():
        return f"ROC-AUC needs labels of {positive} and of another class"
    area = roc_auc_score(is_positive, scores)
    drawn = ranked_auc(scores, is_positive)
    (low,), (high,) = bootstrap_intervals(lambda weights: np.array([drawn(weights)]), range(len(scores)))
    # where every scan of one kind stands above every other, resamples do too, and say nothing of other scans
    spread = f" ({low:.2f} to {high:.2f})" if low < high else " (too few for an interval)"
    return f"ROC-AUC of {positive} against the rest: {area:.2f}{spread}, {len(scores):,} scans"


def pick_group(batch: Batch) -> None:
    if len(batch.picked) < 2 or len(batch.groups) >= MOST_GROUPS:
        met = f"{len(batch.picked)} rows are picked, and {len(batch.groups)} answers were combined before."
        expected = f"two rows or more, and fewer than {MOST_GROUPS} answers"
        raise RequestError(met, expected=expected, remedy="Pick the scans of one patient in the list.")
    batch.groups.append(sorted(batch.picked))
    batch.picked.clear()


def combined(batch: Batch, classifier: Classifier) -> list[dict[str, Any]]:
    """Return a row per patient, as `bcx predict --patients` writes it; none while the batch runs."""
    if batch.ended is None or not batch.by:
        return []
    if batch.by == PICKED:
        each = []
        for number, places in enumerate(batch.groups, 1):
            cells = [batch.rows[place].cells for place in places if place < len(batch.rows)]
            each += patient_rows(classifier, cells, {row["file"]: f"selection {number}" for row in cells})
        return each
    whose = _study if batch.by == STUDY else lambda row: folder_of(row.cells["file"])
    told = {row.cells["file"]: who for row in batch.rows if (who := whose(row))}
    return patient_rows(classifier, [row.cells for row in batch.rows], told)


def _study(row: Row) -> str:
    try:
        return place_of(content(row.source))["study"]
    except BcxError:
        return ""  # its row says why it cannot be read
