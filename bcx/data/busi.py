"""BUSI (Al-Dhabyani et al., Data in Brief 2020) by its published manifest, and whether files are what it says."""

import csv
import os
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bcx.data.reading import Folder, Reading, class_folders, existing_folder, some, subfolders
from bcx.data.records import Record
from bcx.errors import BcxError, DataError
from bcx.imaging.scan import Scan
from bcx.tasks import Task

LAYOUT = "the folders benign, malignant and normal with files such as 'benign/benign (1).png'"
SPLITS = ("dev", "test", "conflict", "all")

# How many of the 64 bits of `dhash` may differ between a file and its row. Of 672 greyscale copies of at most 512 px,
# 646 agree in every bit and 26 differ in one; copies of these at 224 x 224 differ in at most 4, at 128 x 128 and JPEG
# quality 50 in at most 7. No two rows of different groups are closer than 8; a random pair differs in about 32.
TOLERANCE = 7


class BusiRow(NamedTuple):
    """One row of the published manifest; `fold` is None outside `dev`, and `name` has no ending."""

    file: str
    label: str
    split: str
    fold: int | None
    group: str
    dhash: int
    sha256: str
    note: str

    @property
    def name(self) -> str:
        return self.file.rsplit(".", 1)[0]


@cache
def busi_rows() -> tuple[BusiRow, ...]:
    """The 780 rows of the published manifest, which travels with the package."""
    text = files("bcx.data").joinpath("busi.csv").read_text(encoding="utf-8")
    kinds: dict[str, Callable[[str], Any]] = {"dhash": partial(int, base=16), "fold": lambda n: int(n) if n else None}
    rows = csv.DictReader(text.splitlines())
    return tuple(BusiRow(**{name: kinds.get(name, str)(row[name]) for name in BusiRow._fields}) for row in rows)


def looks_like_busi(root: Path) -> bool:
    """True where at least half of the published `dev` names are there (a small imitation is a plain folder)."""
    names = [row.file for row in busi_rows() if row.split == "dev"]
    return root.is_dir() and 2 * sum((root / name).is_file() for name in names) >= len(names)


def read_busi(root: Path, *, task: Task, split: str, source: str) -> Reading:
    """Read BUSI in the layout of Kaggle; its contents are checked by `verify_manifest`.

    The manifest decides: which files belong to the split, their labels, groups and folds. Class folders may be written
    in any case and copies may have another ending (`benign (1).jpg`); `key` always has the published name. `split` is
    `dev` (651 scans, five folds), `test` (108), `conflict` (21 scans of 7 groups that carry two labels) or `all`.
    """
    if split not in SPLITS:
        expected = f"one of {', '.join(SPLITS)}"
        raise DataError(f"BUSI has no split called '{split}'.", expected=expected, remedy="Use one of these.")
    wanted = [row for row in busi_rows() if split in (row.split, "all")]
    if unknown := sorted({row.label for row in wanted} - set(task.classes)):
        raise DataError(
            f"BUSI has the labels {some(unknown)}, which the task '{task.name}' does not know.",
            expected=f"labels among {', '.join(task.classes)}",
            remedy="Use the task breast-ultrasound.",
        )
    names = {row.name for row in busi_rows()}
    trusted = [name.split("/", 1)[1] for name in names]
    there: dict[str, tuple[Path, Folder]] = {}
    reading = Reading()
    for label, folders in class_folders(existing_folder(root, LAYOUT), task).items():
        for folder in folders:
            inside = reading.look(folder, root, trusted=trusted)
            _note_foreign(reading, folder.name, label, inside, names)
            for file in inside.scans:
                there.setdefault(f"{label}/{file.stem}", (file, inside))
    if missing := [row.file for row in wanted if row.name not in there]:
        reading.problems.insert(0, _missing(root, missing, len(wanted), split, task))
    for row in wanted:
        if row.name in there:
            file, inside = there[row.name]
            key, group, masks = f"{source}/{row.file}", f"{source}:{row.group}", inside.masks.get(file.stem, ())
            reading.records.append(Record(file, key, row.label, group, source, masks, row.fold))
    held = {part: [row.name in there for row in busi_rows() if row.split == part] for part in SPLITS[:-1]}
    present = ", ".join(f"{sum(names)} of {len(names)} of '{part}'" for part, names in held.items())
    reading.notes.append(f"Published files there: {present}.")
    return reading


def _note_foreign(reading: Reading, where: str, label: str, inside: Folder, names: set[str]) -> None:
    """Note images and masks whose names the manifest does not hold, and names that come twice."""
    masks = [mask for stem, found in inside.masks.items() if f"{label}/{stem}" not in names for mask in found]
    scans = [file for file in inside.scans if f"{label}/{file.stem}" not in names]
    if foreign := [f"{where}/{file.name}" for file in (*scans, *masks)]:
        reading.wrong(
            f"{len(foreign)} files in '{where}' are not in the published manifest of BUSI: {some(foreign)}.",
            "the published files only",
            "Remove them, or read the folder as a plain one (--data folder=...).",
        )
    counts = Counter(file.stem for file in inside.scans)
    if twice := sorted(stem for stem, count in counts.items() if count > 1):
        found = f"'{where}' holds two pictures of the name {some(twice)}."
        reading.wrong(found, "one file for each name", "Remove one of the two.")


def _missing(root: Path, missing: list[str], wanted: int, split: str, task: Task) -> DataError:
    remedy = "Point to the folder that holds them, or download BUSI again."
    for inner in subfolders(root):
        if any(class_folders(inner, task).values()):
            remedy = f"Point to '{inner}' instead: it holds the class folders."
    if split in ("test", "all"):
        remedy += " The split 'dev' needs fewer files."
    return DataError(
        f"{len(missing)} of the {wanted} files of BUSI's split '{split}' are missing from '{root}'; "
        f"the first is '{missing[0]}'.",
        expected=LAYOUT,
        remedy=remedy,
    )


def dhash(pixels: np.ndarray) -> int:
    """Difference hash: uint8 `[H, W]` or `[H, W, 3]` as 9 x 8 means, a bit for each brighter than its left neighbour.

    As the published column `dhash` (N. Krawetz, "Kind of like that", 2013): row by row, the first comparison in the
    highest of the 64 bits.
    """
    import cv2

    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def row_problem(record: Record, pixels: np.ndarray) -> DataError | None:
    """What is wrong with the pixels of a file of `read_busi`; None where their hash is near enough to its row's."""
    name, found = record.key.split("/", 1)[1], dhash(pixels)
    distances = {row.file: (found ^ row.dhash).bit_count() for row in busi_rows()}
    if distances[name] <= TOLERANCE:
        return None
    nearest = min(distances, key=distances.__getitem__)
    hint = f"; it looks like '{nearest}'" if distances[nearest] <= TOLERANCE else ""
    return DataError(
        f"'{name}' is not the picture that BUSI published under this name ({distances[name]} of 64 bits of its dhash "
        f"differ){hint}.",
        expected=f"at most {TOLERANCE} different bits, as in a copy in another size or format",
        remedy="Put the published file back, or read the folder as a plain one (--data folder=...).",
    )


def verify_manifest(records: Iterable[Record], root: Path) -> None:
    """Open the files of `read_busi`'s records; `DataError` where one is unreadable or not what the manifest says."""

    def problem(record: Record) -> DataError | None:
        try:
            return row_problem(record, Scan.open(record.file).pixels)
        except BcxError as error:
            return DataError(f"'{record.key}': {error.found}", expected=error.expected, remedy=error.remedy)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding lets other threads run
        Reading(problems=list(filter(None, pool.map(problem, records)))).checked(root)
