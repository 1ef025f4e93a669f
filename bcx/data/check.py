"""Open every file of a source and list what was found and everything that is wrong: `bcx data check`."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bcx.data.busi import busi_rows, dhash, row_problem
from bcx.data.cleaning import BLANK, faults
from bcx.data.readers import detect_kind, survey
from bcx.data.reading import Reading, some
from bcx.data.records import Record, load_mask
from bcx.errors import BcxError, DataError, SplitError
from bcx.imaging.scan import Scan
from bcx.tasks import Task


class _Look(NamedTuple):
    """One file that was opened: `size` is width and height in pixels, None where it could not be read."""

    record: Record
    size: tuple[int, int] | None
    sha256: str
    empty_mask: bool
    problems: list[BcxError]


@dataclass(frozen=True, kw_only=True)
class Report(Reading):
    """What `check_folder` found; `sizes` says how large the readable scans are, empty where there are none."""

    root: Path
    kind: str
    task: Task
    sizes: str = ""

    @property
    def folds(self) -> list[int]:
        """The folds that occur."""
        return sorted({record.fold for record in self.records if record.fold is not None})


def check_folder(
    root: Path,
    *,
    task: Task,
    kind: str | None = None,
    split: str = "dev",
    on_file: Callable[[int, int], object] = lambda *_: None,
) -> Report:
    """Read a source, open every scan and mask, and collect all problems: none where training could start.

    `kind` is one of `bcx.data.readers.KINDS`, or told from what is there; `on_file` gets (files done, files in all).
    """
    kind = kind or detect_kind("", root)
    try:
        reading = survey(kind, root, task=task, split=split)
    except DataError as error:
        return Report(root=root, kind=kind, task=task, problems=[error])
    looks: list[_Look] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
        for look in pool.map(partial(_look_at, task=task, published=kind == "busi"), reading.records):
            looks.append(look)
            on_file(len(looks), len(reading.records))
    found = Report(**vars(reading), root=root, kind=kind, task=task, sizes=_sizes(looks))
    found.problems.extend(problem for look in looks for problem in look.problems)
    found.problems.extend(_same_content(looks, copies=task.tile is not None))
    found.problems.extend(_thin_folds(found))
    found.notes.extend(_notes(found, looks))
    return found


def _look_at(record: Record, *, task: Task, published: bool) -> _Look:
    try:
        scan = Scan.open(record.file)
    except BcxError as error:
        return _Look(record, None, "", False, [_named(record, error)])
    problems: list[BcxError] = []
    empty = False
    try:
        mask = load_mask(record, scan.pixels.shape)
        empty = mask is not None and not mask.any()
    except DataError as error:
        problems.append(_named(record, error))
    if published and (wrong := row_problem(record, dhash(scan.pixels))):
        problems.append(wrong)
    for fault in faults(scan.pixels, task):
        found = "blank: one even tone" if fault == BLANK else f"{scan.width} x {scan.height} pixels"
        problems.append(
            DataError(
                f"{_name(record)}: the {task.image_noun} is {found}.",
                expected=f"{task.tile} x {task.tile} pixels of tissue",
                remedy="Training leaves it out; remove it to be rid of this line.",
            )
        )
    return _Look(record, (scan.width, scan.height), scan.sha256, empty, problems)


def _sizes(looks: Sequence[_Look]) -> str:
    sizes = [look.size for look in looks if look.size]
    words = zip(("pixels wide", "high"), zip(*sizes, strict=True), strict=bool(sizes))
    return ", ".join(f"{min(n)} to {max(n)} {word} (median {median(n):.0f})" for word, n in words)


def _name(record: Record) -> str:
    return record.key.split("/", 1)[1]


def _named(record: Record, error: BcxError) -> BcxError:
    return type(error)(f"{_name(record)}: {error.found}", expected=error.expected, remedy=error.remedy)


def _same_content(looks: Sequence[_Look], copies: bool) -> Iterator[BcxError]:
    """Byte-identical files that a split would tear apart, or that carry two labels; with `copies`, any."""
    by_content: dict[str, list[Record]] = defaultdict(list)
    for look in looks:
        if look.sha256:
            by_content[look.sha256].append(look.record)
    for same in by_content.values():
        names = some([_name(record) for record in same])
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


def _thin_folds(found: Report) -> Iterator[BcxError]:
    """Folds that lack a class which the source has: their figures would mean little."""
    labels = {record.label for record in found.records}
    for fold in found.folds:
        if missing := labels - {record.label for record in found.records if record.fold == fold}:
            yield SplitError(
                f"Fold {fold} holds no {', '.join(sorted(missing))}.",
                expected="every class in every fold",
                remedy="Use fewer folds, or leave the fold column out to have folds made.",
            )


def _notes(found: Report, looks: Sequence[_Look]) -> Iterator[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    for record in found.records:
        labels[record.group].add(record.label)
    if absent := [label for label in found.task.classes if label not in set().union(*labels.values())]:
        yield f"No {' and no '.join(absent)}: train together with a source that has them."
    if mixed := sorted(group for group, of_group in labels.items() if len(of_group) > 1):
        yield f"{len(mixed)} groups hold more than one label: {some(mixed)}."
    if empty := Counter(look.record.label for look in looks if look.empty_mask):
        yield "Empty masks: " + ", ".join(f"{count} {label}" for label, count in sorted(empty.items())) + "."
    outside = sum(record.fold is None for record in found.records)
    if 0 < outside < len(looks):
        yield f"{outside} scans are outside all folds."
    if found.kind == "busi":
        published = {row.file: row.sha256 for row in busi_rows()}
        exact = sum(published.get(_name(look.record)) == look.sha256 for look in looks)
        yield f"{exact} of {len(looks)} files are the published ones byte for byte; the others are copies."
