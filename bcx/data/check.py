"""Open every file of a source: list all that is wrong (`bcx data check`), leave out patches that teach nothing."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from bcx.data.busi import busi_rows, row_problem
from bcx.data.readers import survey
from bcx.data.reading import Reading, some
from bcx.data.records import Record, load_mask
from bcx.errors import BcxError, DataError, SplitError
from bcx.imaging.scan import Scan
from bcx.tasks import Task

UNREADABLE, BLANK, SIZE = "that cannot be read", "blank", "of another size"
COPY, CONFLICT = "copy of another", "under two labels"
# Grey levels between the 1st and the 99th percentile. Of 9,218 published IDC patches one, nearly black, has 10; all
# others have 28 and more.
BLANK_RANGE = 20


class _Look(NamedTuple):
    """One file that was opened: `size` is width and height in pixels, None where it could not be read."""

    record: Record
    size: tuple[int, int] | None
    sha256: str
    empty_mask: bool
    problems: list[BcxError]
    fault: str  # of `UNREADABLE`, `BLANK` and `SIZE`; "" for none


def check_folder(
    root: Path, *, task: Task, kind: str, split: str = "dev", on_file: Callable[[int, int], object] = lambda *_: None
) -> Reading:
    """Read a source, open every scan and mask, and collect all problems: none where training could start.

    `kind` is one of `bcx.data.readers.KINDS`; `on_file` gets (files done, files in all).
    """
    try:
        found = survey(kind, root, task=task, split=split)
    except DataError as error:
        return Reading(problems=[error])
    looks: list[_Look] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
        for look in pool.map(partial(_look_at, task=task, published=kind == "busi"), found.records):
            looks.append(look)
            on_file(len(looks), len(found.records))
    found.problems.extend(problem for look in looks for problem in look.problems)
    found.problems.extend(_same_content(looks, copies=task.tile is not None))
    found.problems.extend(_thin_folds(found.records))
    found.notes[:0] = _sizes(looks)
    found.notes.extend(_notes(looks, task, published=kind == "busi"))
    return found


def _look_at(record: Record, *, task: Task, published: bool) -> _Look:
    try:
        scan = Scan.open(record.file)
    except BcxError as error:
        return _Look(record, None, "", False, [_named(record, error)], UNREADABLE)
    problems: list[BcxError] = []
    empty = False
    try:
        mask = load_mask(record, scan.pixels.shape)
        empty = mask is not None and not mask.any()
    except DataError as error:
        problems.append(_named(record, error))
    if published and (problem := row_problem(record, scan.pixels)):
        problems.append(problem)
    tested = {BLANK: is_blank(scan.pixels), SIZE: scan.pixels.shape[:2] != (task.tile, task.tile)} if task.tile else {}
    wrong = [fault for fault, there in tested.items() if there]
    for fault in wrong:
        found = "blank: one even tone" if fault == BLANK else f"{scan.width} x {scan.height} pixels"
        problems.append(
            DataError(
                f"{_name(record)}: the {task.image_noun} is {found}.",
                expected=f"{task.tile} x {task.tile} pixels of tissue",
                remedy="Training leaves it out; remove it to be rid of this line.",
            )
        )
    return _Look(record, (scan.width, scan.height), scan.sha256, empty, problems, next(iter(wrong), ""))


def _sizes(looks: Sequence[_Look]) -> Iterator[str]:
    if sizes := [look.size for look in looks if look.size]:
        words = zip(("pixels wide", "high"), zip(*sizes, strict=True), strict=True)
        said = ", ".join(f"{min(n)} to {max(n)} {word} (median {median(n):.0f})" for word, n in words)
        yield f"Scans are {said}."


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


def _notes(looks: Sequence[_Look], task: Task, published: bool) -> Iterator[str]:
    labels: dict[str, set[str]] = defaultdict(set)
    for look in looks:
        labels[look.record.group].add(look.record.label)
    if absent := [label for label in task.classes if label not in set().union(*labels.values())]:
        yield f"No {' and no '.join(absent)}: train together with a source that has them."
    if mixed := sorted(group for group, of_group in labels.items() if len(of_group) > 1):
        yield f"{len(mixed)} groups hold more than one label: {some(mixed)}."
    if empty := Counter(look.record.label for look in looks if look.empty_mask):
        yield "Empty masks: " + ", ".join(f"{count} {label}" for label, count in sorted(empty.items())) + "."
    outside = sum(look.record.fold is None for look in looks)
    if 0 < outside < len(looks):
        yield f"{outside} scans are outside all folds."
    if published:
        hashes = {row.file: row.sha256 for row in busi_rows()}
        exact = sum(hashes.get(_name(look.record)) == look.sha256 for look in looks)
        yield f"{exact} of {len(looks)} files are the published ones byte for byte; the others are copies."


def is_blank(pixels: np.ndarray) -> bool:
    """Whether a patch, uint8 `[H, W]` or `[H, W, 3]`, shows next to nothing: even glass, or no light."""
    grey = pixels if pixels.ndim == 2 else pixels.mean(axis=2)
    return bool(np.ptp(np.percentile(grey, (1, 99))) < BLANK_RANGE)


def clean(records: Sequence[Record], task: Task) -> tuple[list[Record], dict[str, list[str]]]:
    """Open every file; return the good patches in the same order, and {reason: keys of the others}.

    Of byte-identical files the first by key is kept; where they carry different labels, none is. Other tasks' records
    are returned as they are.
    """
    if task.tile is None:
        return list(records), {}
    left_out: dict[str, list[str]] = {reason: [] for reason in (UNREADABLE, BLANK, SIZE, COPY, CONFLICT)}
    by_content: dict[str, list[Record]] = defaultdict(list)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
        for look in pool.map(partial(_look_at, task=task, published=False), records):
            if look.fault:
                left_out[look.fault].append(look.record.key)
            else:
                by_content[look.sha256].append(look.record)
    for same in by_content.values():
        if len({record.label for record in same}) > 1:
            left_out[CONFLICT] += [record.key for record in same]
        else:
            left_out[COPY] += sorted(record.key for record in same)[1:]
    gone = {key for keys in left_out.values() for key in keys}
    return [record for record in records if record.key not in gone], left_out
