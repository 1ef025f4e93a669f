"""Open every file of a source and list what was found and everything that is wrong: `bcx data check`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median

from bcx.data.busi import busi_rows, dhash, row_problem
from bcx.data.cleaning import BLANK, faults
from bcx.data.readers import detect_kind, survey
from bcx.data.reading import Reading, some
from bcx.data.records import Record, load_mask
from bcx.errors import BcxError, DataError, SplitError
from bcx.imaging.scan import Scan
from bcx.tasks import Task


@dataclass(frozen=True)
class Look:
    """One file that was opened: `height` and `width` in pixels, 0 where it could not be read."""

    record: Record
    height: int = 0
    width: int = 0
    sha256: str = ""
    empty_mask: bool = False
    problems: tuple[BcxError, ...] = ()


@dataclass(frozen=True)
class Report:
    """What `check_folder` found: one `Look` per record, and problems, notes and files left out as in `Reading`."""

    root: Path
    kind: str
    task: Task
    looks: list[Look] = field(default_factory=list)
    problems: list[BcxError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def records(self) -> list[Record]:
        return [look.record for look in self.looks]

    @property
    def folds(self) -> list[int]:
        """The folds that occur."""
        return sorted({record.fold for record in self.records if record.fold is not None})

    @property
    def sizes(self) -> str:
        """Widths and heights of the readable scans, in words; empty where there are none."""
        read = [look for look in self.looks if look.width]
        if not read:
            return ""
        widths, heights = [look.width for look in read], [look.height for look in read]
        return (
            f"{min(widths)} to {max(widths)} pixels wide (median {median(widths):.0f}), "
            f"{min(heights)} to {max(heights)} high (median {median(heights):.0f})"
        )


def check_folder(
    root: Path,
    *,
    task: Task,
    kind: str | None = None,
    split: str = "dev",
    on_file: Callable[[int, int], object] = lambda *_: None,
) -> Report:
    """Read a source, open every scan and mask, and collect all problems: none where training could start.

    Args:
        kind: one of `bcx.data.readers.KINDS`; None tells it from what is there.
        on_file: called with (files done, files in all) after each.
    """
    kind = kind or detect_kind("", root)
    try:
        reading = survey(kind, root, task=task, split=split)
    except DataError as error:
        return Report(root, kind, task, problems=[error])
    looks: list[Look] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
        for look in pool.map(partial(_look_at, task=task, published=kind == "busi"), reading.records):
            looks.append(look)
            on_file(len(looks), len(reading.records))
    problems: list[BcxError] = [*reading.problems, *(problem for look in looks for problem in look.problems)]
    problems += [*_same_content(looks, copies=task.tile is not None), *_thin_folds(reading.records)]
    return Report(root, kind, task, looks, problems, _notes(reading, looks, task, kind), reading.left_out)


def _look_at(record: Record, *, task: Task, published: bool) -> Look:
    try:
        scan = Scan.open(record.file)
    except BcxError as error:
        return Look(record, problems=(_named(record, error),))
    problems: list[BcxError] = []
    empty = False
    try:
        mask = load_mask(record, scan.pixels.shape)
        empty = mask is not None and not mask.any()
    except DataError as error:
        problems.append(_named(record, error))
    if published and (wrong := row_problem(record, dhash(scan.pixels))):
        problems.append(wrong)
    problems += [_faulty(record, scan, fault, task) for fault in faults(scan.pixels, task)]
    return Look(record, scan.height, scan.width, scan.sha256, empty, tuple(problems))


def _faulty(record: Record, scan: Scan, fault: str, task: Task) -> DataError:
    found = "blank: one even tone" if fault == BLANK else f"{scan.width} x {scan.height} pixels"
    return DataError(
        f"{record.key.split('/', 1)[1]}: the {task.image_noun} is {found}.",
        expected=f"{task.tile} x {task.tile} pixels of tissue",
        remedy="Training leaves it out; remove it to be rid of this line.",
    )


def _named(record: Record, error: BcxError) -> BcxError:
    name = record.key.split("/", 1)[1]
    return type(error)(f"{name}: {error.found}", expected=error.expected, remedy=error.remedy)


def _same_content(looks: Sequence[Look], copies: bool) -> Iterator[BcxError]:
    """Byte-identical files that a split would tear apart, or that carry two labels; with `copies`, any."""
    by_content: dict[str, list[Record]] = defaultdict(list)
    for look in looks:
        if look.sha256:
            by_content[look.sha256].append(look.record)
    for same in by_content.values():
        names = some([record.key.split("/", 1)[1] for record in same])
        labels = sorted({record.label for record in same})
        if len(labels) > 1:
            yield DataError(
                f"The same file has different labels ({', '.join(labels)}): {names}.",
                expected="one label per picture",
                remedy="Find out which label is right and remove the others.",
            )
        elif len({record.group for record in same}) > 1:
            yield SplitError(
                f"The same file is there more than once, in different groups: {names}.",
                expected="copies in one group, so that no split has them on both sides",
                remedy="Keep one copy, or give them one group in a CSV manifest.",
            )
        elif copies and len(same) > 1:
            yield DataError(
                f"The same patch is there {len(same)} times: {names}.",
                expected="each patch once",
                remedy="Training keeps the first; remove the others to be rid of this line.",
            )


def _thin_folds(records: Sequence[Record]) -> Iterator[BcxError]:
    """Folds that lack a class which the source has: their figures would mean little."""
    labels = {record.label for record in records}
    for fold in sorted({record.fold for record in records if record.fold is not None}):
        if missing := labels - {record.label for record in records if record.fold == fold}:
            yield SplitError(
                f"Fold {fold} holds no {', '.join(sorted(missing))}.",
                expected="every class in every fold",
                remedy="Use fewer folds, or leave the fold column out to have folds made.",
            )


def _notes(reading: Reading, looks: Sequence[Look], task: Task, kind: str) -> list[str]:
    records = reading.records
    notes = [*reading.notes]
    if absent := [label for label in task.classes if label not in {record.label for record in records}]:
        notes.append(f"No {' and no '.join(absent)}: train together with a source that has them.")
    labels: dict[str, set[str]] = defaultdict(set)
    for record in records:
        labels[record.group].add(record.label)
    if mixed := sorted(group for group, found in labels.items() if len(found) > 1):
        notes.append(f"{len(mixed)} groups hold more than one label: {some(mixed)}.")
    if empty := Counter(look.record.label for look in looks if look.empty_mask):
        notes.append("Empty masks: " + ", ".join(f"{count} {label}" for label, count in sorted(empty.items())) + ".")
    outside = sum(record.fold is None for record in records)
    if 0 < outside < len(records):
        notes.append(f"{outside} scans are outside all folds.")
    if kind == "busi":
        published = {row.file: row.sha256 for row in busi_rows()}
        exact = sum(published.get(look.record.key.split("/", 1)[1]) == look.sha256 for look in looks)
        notes.append(f"{exact} of {len(looks)} files are the published ones byte for byte; the others are copies.")
    return notes
