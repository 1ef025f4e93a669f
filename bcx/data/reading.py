"""What every reader of a source uses: its result with all problems, sorted folders, labels, folds and `groups.csv`."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from bcx.data.records import Record
from bcx.data.tables import as_meant, read_table
from bcx.errors import BcxError, DataError, SplitError
from bcx.imaging.names import NO_PICTURE, called_a_picture
from bcx.imaging.scan import sniff_file
from bcx.tasks import Task

GROUPS = "groups.csv"
"""Beside the images: which scans belong together (columns file and group), as `bcx audit` writes it."""
_MASK_NAME = re.compile(r"^(?P<scan>.+)_mask(?:_(?P<number>\d+))?$", re.IGNORECASE)

Name = TypeVar("Name", bound=Hashable)


class Folder(NamedTuple):
    """The images directly inside one folder, in order of name; masks by the name of their scan without its ending."""

    scans: list[Path]
    masks: dict[str, tuple[Path, ...]]
    strays: list[Path]


@dataclass(frozen=True)
class Reading:
    """Records of one source with all problems found on the way; `left_out`: (path below its folder, why)."""

    records: list[Record] = field(default_factory=list)
    problems: list[BcxError] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def wrong(self, found: str, expected: str, remedy: str) -> None:
        self.problems.append(DataError(found, expected=expected, remedy=remedy))

    def look(self, folder: Path, root: Path, *, trusted: Iterable[str] = ()) -> Folder:
        """Sort the files of a folder (not of its subfolders) by their first bytes; note what is broken or passed over.

        `root` is what paths are told below; `trusted` are names without endings whose bytes are not looked at, because
        a manifest names them.
        """
        known = set(trusted)
        scans, strays = list[Path](), list[Path]()
        masks: dict[str, list[tuple[int, Path]]] = defaultdict(list)
        for file in sorted(folder.iterdir()):
            if file.name.startswith(".") or not file.is_file():
                continue
            named_picture, mask = called_a_picture(file.name), _MASK_NAME.match(file.stem)
            name = mask["scan"] if mask else file.stem
            if not (named_picture and name in known) and (kind := sniff_file(file)) in (None, "svg"):
                path = file.relative_to(root).as_posix()
                if named_picture or kind == "svg":
                    self.problems.append(broken_picture(path))
                else:
                    self.left_out.append((path, NO_PICTURE))
                    strays.append(file)
            elif mask:
                masks[name].append((int(mask["number"] or 0), file))
            else:
                scans.append(file)
        return Folder(scans, {name: tuple(file for _, file in sorted(found)) for name, found in masks.items()}, strays)

    def add_groups(self, folder: Path, source: str) -> bool:
        """Sort records by key and tie them together as `groups.csv` in their folder says; tell whether it did.

        Groups that records already have are kept whole; those that are joined get the name of the first.
        """
        self.records.sort(key=lambda record: record.key)
        if not (folder / GROUPS).is_file():
            return False
        layout = "a CSV table with the columns file and group, as bcx audit writes it"
        try:
            rows = read_table(folder / GROUPS, ("file", "group"), layout=layout).rows
        except DataError as error:
            self.problems.append(error)
            return False
        own = {record.key: record.group for record in self.records}
        full = [row for _, row in rows if row["file"] and row["group"]]
        named = {as_meant(row["file"]).replace("\\", "/"): row["group"] for row in full}
        tied = [(own[f"{source}/{file}"], (group,)) for file, group in named.items() if f"{source}/{file}" in own]
        if named and not tied:
            self.wrong(
                f"'{GROUPS}' names none of the scans here; its first row is '{next(iter(named))}'.",
                "paths relative to the folder in which it lies",
                "Run bcx audit on this folder, or remove the table.",
            )
            return False
        group_of: dict[str, str] = {}
        for members in join(tied):
            groups = sorted(member for member in members if isinstance(member, str))
            group_of |= dict.fromkeys(groups, groups[0])
        self.records[:] = [replace(record, group=group_of.get(record.group, record.group)) for record in self.records]
        self.notes.append(f"'{GROUPS}' ties {len(tied)} scans into groups.")
        if absent := len(named) - len(tied):
            self.notes.append(f"{absent} rows of '{GROUPS}' name files that are not among the scans read here.")
        return True

    def checked(self, root: str | Path) -> list[Record]:
        """The records, or the first problem as an error that says how many more there are."""
        if not self.problems:
            return self.records
        first, count = self.problems[0], len(self.problems) - 1
        if count == 0:
            raise first
        more = "There is 1 more problem" if count == 1 else f"There are {count} more problems"
        remedy = f"{first.remedy} {more}: 'bcx data check \"{root}\"' lists all."
        raise type(first)(first.found, expected=first.expected, remedy=remedy)


def join(pairs: Iterable[tuple[Name, Name]]) -> list[set[Name]]:
    """Return the sets into which pairs tie their members."""
    from scipy.cluster.hierarchy import DisjointSet

    pairs = list(pairs)
    sets = DisjointSet(name for pair in pairs for name in pair)
    for pair in pairs:
        sets.merge(*pair)
    return sets.subsets()


def existing_folder(root: Path, layout: str) -> Path:
    """Return `root` where it is a folder; `DataError` where there is nothing, or a file."""
    if root.is_dir():
        return root
    found = f"'{root}' is a file, not a folder." if root.exists() else f"There is no folder '{root}'."
    raise DataError(found, expected=layout, remedy="Check the path.")


def class_folders(root: Path, task: Task) -> dict[str, list[Path]]:
    """Subfolders of `root` that are called like a class, in any case, by class."""
    folders = subfolders(root)
    return {label: [f for f in folders if f.name.strip().lower() == label.lower()] for label in task.classes}


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
        expected = "a whole number from 0 on, or nothing"
        raise DataError(f"{where} has the fold '{text}'.", expected=expected, remedy="Correct the cell.")
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
