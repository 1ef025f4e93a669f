"""What every reader of a source uses: its result with all problems, sorted folders, labels, folds."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bcx.data.records import Record
from bcx.errors import DataError, SplitError
from bcx.imaging.names import NO_PICTURE, called_a_picture
from bcx.imaging.scan import sniff_file
from bcx.tasks import Task

_MASK_NAME = re.compile(r"^(?P<scan>.+)_mask(?:_(?P<number>\d+))?$", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """Records of one source with all problems found on the way.

    `notes` are worth knowing, but nothing is wrong; `left_out` are files that were passed over, as (path below the
    source's folder, why).
    """

    records: list[Record] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def wrong(self, found: str, expected: str, remedy: str) -> None:
        self.problems.append(DataError(found, expected=expected, remedy=remedy))

    def look(self, folder: Path, root: Path, *, trusted: Iterable[str] = ()) -> Folder:
        """As `look_into`, with what is broken or passed over there added; `root` is what paths are told below."""
        inside = look_into(folder, trusted=trusted)
        self.left_out.extend((file.relative_to(root).as_posix(), NO_PICTURE) for file in inside.strays)
        self.problems.extend(broken_picture(file.relative_to(root).as_posix()) for file in inside.broken)
        return inside

    def checked(self, root: str | Path) -> list[Record]:
        """The records, or the first problem as an error that says how many more there are."""
        if not self.problems:
            return self.records
        first = self.problems[0]
        count = len(self.problems) - 1
        if count == 0:
            raise first
        more = "There is 1 more problem" if count == 1 else f"There are {count} more problems"
        raise type(first)(
            first.found,
            expected=first.expected,
            remedy=f"{first.remedy} {more}: 'bcx data check \"{root}\"' lists all.",
        )


@dataclass(frozen=True)
class Folder:
    """The images directly inside one folder.

    Attributes:
        scans: images that are no masks, in order of name.
        masks: masks by the name of their scan without its ending, in the order of their numbers.
        broken: files with an image's name whose first bytes are those of no image that bcx reads.
        strays: other files.
    """

    scans: tuple[Path, ...]
    masks: dict[str, tuple[Path, ...]]
    broken: tuple[Path, ...]
    strays: tuple[Path, ...]


def look_into(folder: Path, *, trusted: Iterable[str] = ()) -> Folder:
    """Sort the files of a folder (not of its subfolders) by their first bytes.

    `trusted` are names without endings whose bytes are not looked at, because a manifest names them.
    """
    known = set(trusted)
    scans: list[Path] = []
    masks: dict[str, list[tuple[int, Path]]] = defaultdict(list)
    broken: list[Path] = []
    strays: list[Path] = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not file.is_file():
            continue
        named_picture = called_a_picture(file.name)
        mask = _MASK_NAME.match(file.stem)
        scan_name = mask["scan"] if mask else file.stem
        if not (named_picture and scan_name in known):
            kind = sniff_file(file)
            if kind is None or kind == "svg":
                (broken if named_picture or kind == "svg" else strays).append(file)
                continue
        if mask:
            masks[scan_name].append((int(mask["number"] or 0), file))
        else:
            scans.append(file)
    ordered = {name: tuple(file for _, file in sorted(found)) for name, found in masks.items()}
    return Folder(tuple(scans), ordered, tuple(broken), tuple(strays))


def existing_folder(root: Path, layout: str) -> Path:
    """Return `root` where it is a folder; `DataError` where there is nothing, or a file."""
    if root.is_dir():
        return root
    raise DataError(
        f"'{root}' is a file, not a folder." if root.exists() else f"There is no folder '{root}'.",
        expected=layout,
        remedy="Check the path.",
    )


def class_folders(root: Path, task: Task) -> dict[str, list[Path]]:
    """Subfolders of `root` that are called like a class, in any case, by class."""
    found: dict[str, list[Path]] = {label: [] for label in task.classes}
    names = {label.lower(): label for label in task.classes}
    for folder in subfolders(root):
        if folder.name.strip().lower() in names:
            found[names[folder.name.strip().lower()]].append(folder)
    return found


def subfolders(root: Path) -> list[Path]:
    """Visible subfolders in order of name; `__MACOSX`, which archives made on a Mac carry, is none."""
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith(".") and f.name != "__MACOSX")


def match_label(text: str, task: Task, where: str) -> str:
    """The class that `text` names, in any case; `DataError` where the task knows no such class."""
    for label in task.classes:
        if text.strip().lower() == label.lower():
            return label
    raise DataError(
        f"{where} has the label '{text}', which the task '{task.name}' does not know.",
        expected=f"one of {', '.join(task.classes)}",
        remedy="Correct the label, or leave this file out.",
    )


def parse_fold(text: str, where: str) -> int | None:
    """A fold number, or None where the cell is empty; `DataError` where it is neither."""
    if not text.strip():
        return None
    number = re.fullmatch(r"([0-9]{1,9})(?:[.,]0{1,9})?", text.strip())  # spreadsheets and pandas write 1 as 1,0 or 1.0
    if number is None:
        raise DataError(
            f"{where} has the fold '{text}'.",
            expected="a whole number from 0 on, or nothing",
            remedy="Correct the cell.",
        )
    return int(number[1])


def broken_picture(name: str) -> DataError:
    """The problem of a file that is called an image and is none."""
    return DataError(
        f"'{name}' is called a picture, but its first bytes are those of no format that bcx reads.",
        expected="PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM",
        remedy="Replace or remove the file.",
    )


def fold_problems(records: Sequence[Record]) -> Iterator[DataError]:
    """One problem for each group that has scans in two folds, or in a fold and outside all."""
    groups: dict[str, dict[int | None, str]] = defaultdict(dict)
    for record in records:
        groups[record.group].setdefault(record.fold, record.key)
    for group, folds in sorted(groups.items()):
        if len(folds) > 1:
            places = [f"'{key}' in {'no fold' if fold is None else f'fold {fold}'}" for fold, key in folds.items()]
            yield SplitError(
                f"Group '{group}' is on both sides of a split: {', '.join(places)}.",
                expected="all scans of a group (patient, lesion) in the same fold",
                remedy="Give them the same fold, or leave the fold column out to have folds made.",
            )


def some(names: Sequence[object], limit: int = 3) -> str:
    """The first few names in quotes, and how many there are beyond them."""
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
