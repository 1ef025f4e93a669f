"""Groups: scans that belong together, the labels they carry, and the parts of a split that they straddle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bcx.data.groups import join
from bcx.data.tables import as_meant, read_table
from bcx.errors import ConfigError
from bcx.tasks import TASKS

SPLIT_COLUMNS = ("split", "fold")
SPLIT_LAYOUT = "a CSV table with the columns file and split (or fold), a row for each image"


@dataclass(frozen=True)
class Group:
    """Scans that show the same frame or lesion.

    Attributes:
        name: made of the content, so that it does not depend on file names.
        files: sorted.
        labels: the different labels among them; more than one is a conflict.
        parts: the different parts of the split among them; more than one means that it leaks.
    """

    name: str
    files: tuple[str, ...]
    labels: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @property
    def harmful(self) -> bool:
        """Whether the group carries more than one label, or lies in more than one part of the split."""
        return len(self.labels) > 1 or len(self.parts) > 1


def make_groups(
    pairs: Iterable[tuple[str, str]],
    content: Mapping[str, str],
    labels: Mapping[str, str],
    parts: Mapping[str, str],
) -> list[Group]:
    """Join pairs of files into groups, in the order of their first file; `content` digests each file's pixels."""
    groups = []
    for members in join(pairs):
        if len(members) < 2:
            continue
        files = tuple(sorted(members))
        name = min(content[file] for file in files)[:12]
        found = [tuple(sorted({kind[f] for f in files if kind.get(f)})) for kind in (labels, parts)]
        groups.append(Group(name, files, *found))
    return sorted(groups, key=lambda group: group.files)


def labels_of(files: Sequence[str]) -> dict[str, str]:
    """Tell each file's label: the folder nearest to it that is called like a class of a task, in any case.

    Where no file has one, the outermost folder, if there are two to twelve of them.
    """
    classes = {name.lower() for task in TASKS.values() for name in task.classes}
    found: dict[str, str] = {}
    for file in files:
        named = [part.strip().lower() for part in PurePosixPath(file).parts[:-1]]
        label = next((part for part in reversed(named) if part in classes), "")
        if label:
            found[file] = label
    if found:
        return found
    outer = {file: PurePosixPath(file).parts[0] for file in files if "/" in file}
    return outer if 2 <= len(set(outer.values())) <= 12 and not _PARTS.keys() & set(outer.values()) else {}


_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def parts_of(files: Sequence[str]) -> dict[str, str]:
    """Tell each file's part of a split from folders called train, val, test and the like."""
    found = {}
    for file in files:
        named = [part.strip().lower() for part in PurePosixPath(file).parts[:-1]]
        if part := next((_PARTS[name] for name in named if name in _PARTS), ""):
            found[file] = part
    return found


def read_split(table: Path, files: Iterable[str]) -> dict[str, str]:
    """Read which part of a split each file belongs to.

    Args:
        table: CSV with the columns `file` and `split`, `fold`, or both (then a part is "split, fold"). A file is its
            path below the audited folder; a name alone will do where it is unique there.

    Raises:
        ConfigError: no such table, no such columns, or no row that names a file of the folder.
    """
    if not table.is_file():
        raise ConfigError(f"There is no table '{table}'.", expected=SPLIT_LAYOUT, remedy="Check the path.")
    read = read_table(table, ("file",), SPLIT_COLUMNS, layout=SPLIT_LAYOUT, error=ConfigError)
    columns = [name for name in SPLIT_COLUMNS if name in read.columns]
    if not columns or not read.rows:
        there = ",".join(read.columns)
        raise ConfigError(
            f"'{table.name}' has the columns '{there}'." if read.rows else f"'{table.name}' has no rows.",
            expected=SPLIT_LAYOUT,
            remedy="Name the columns in the first line, with commas between them.",
        )
    known = set(files)
    by_name: dict[str, list[str]] = defaultdict(list)
    for file in known:
        by_name[PurePosixPath(file).name].append(file)
    parts: dict[str, str] = {}
    for _, row in read.rows:
        asked = as_meant(row["file"]).replace("\\", "/").removeprefix("./")
        part = ", ".join(row[name] for name in columns if row[name])
        same = [asked] if asked in known else by_name.get(PurePosixPath(asked).name, []) if "/" not in asked else []
        if part and len(same) == 1:
            parts[same[0]] = part
    if not parts:
        raise ConfigError(
            f"No row of '{table.name}' names a file of this folder with its split.",
            expected="paths relative to the audited folder",
            remedy="Correct the column 'file'.",
        )
    return parts
