"""The files of a folder that an audit looks at, and what their names and a table say: labels, and parts of a split."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from bcx.data.reading import existing_folder
from bcx.data.tables import as_meant, read_table
from bcx.errors import ConfigError
from bcx.tasks import TASKS

_MASK = re.compile(r"^(.+)_mask(_?\d+)?$", re.IGNORECASE)
_PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
_PARTS |= dict.fromkeys(("val", "valid", "validation", "dev"), "validation")
_SPLIT_COLUMNS = ("split", "fold")
_SPLIT_LAYOUT = "a CSV table with the columns file and split (or fold), a row for each image"


def list_files(root: Path, leave_out: Path | None = None) -> tuple[list[str], list[str], dict[str, str]]:
    """List a folder: files, masks (`<scan>_mask` beside a scan), and folders that cannot be listed, with the reason.

    Paths are sorted, below the folder, with forward slashes; whether the files are images is not yet known. Left out
    are hidden files, what archives made on a Mac carry, and `leave_out`, which this run writes.
    """
    existing_folder(root, "a folder of images, in subfolders or not")
    closed: dict[str, str] = {}

    def refuse(error: OSError) -> None:
        closed[Path(error.filename).relative_to(root).as_posix()] = error.strerror or str(error)

    own = leave_out and leave_out.resolve()
    files, masks = list[str](), list[str]()
    for folder, inner, names in os.walk(root, onerror=refuse):
        here = Path(folder)
        inner[:] = [n for n in inner if not n.startswith(".") and n != "__MACOSX" and (here / n).resolve() != own]
        stems = {Path(name).stem for name in names}
        for name in names:
            mask = _MASK.match(Path(name).stem)
            if not name.startswith("."):
                (masks if mask and mask[1] in stems else files).append((here / name).relative_to(root).as_posix())
    return sorted(files), sorted(masks), closed


def _folders(file: str) -> list[str]:
    return [part.strip().lower() for part in PurePosixPath(file).parts[:-1]]


def labels_of(files: Sequence[str]) -> dict[str, str]:
    """Tell each file's label: the folder nearest to it that is called like a class of a task, in any case.

    Where no file has one, the outermost folder, if there are two to twelve of them.
    """
    classes = {name.lower() for task in TASKS.values() for name in task.classes}
    named = {file: [part for part in _folders(file) if part in classes] for file in files}
    if found := {file: parts[-1] for file, parts in named.items() if parts}:
        return found
    outer = {file: PurePosixPath(file).parts[0] for file in files if "/" in file}
    return outer if 2 <= len(set(outer.values())) <= 12 and not _PARTS.keys() & set(outer.values()) else {}


def parts_of(files: Sequence[str]) -> dict[str, str]:
    """Tell each file's part of a split from folders called train, val, test and the like."""
    named = {file: [_PARTS[part] for part in _folders(file) if part in _PARTS] for file in files}
    return {file: parts[0] for file, parts in named.items() if parts}


def read_split(table: Path, files: Iterable[str]) -> dict[str, str]:
    """Read which part of a split each file belongs to, from a CSV with the columns `file` and `split`, `fold`, or both.

    Of both, a part is "split, fold". A file is its path below the audited folder; a name alone will do where it is
    unique there. `ConfigError`: no such table, no such columns, or no row that names a file of the folder.
    """
    if not table.is_file():
        raise ConfigError(f"There is no table '{table}'.", expected=_SPLIT_LAYOUT, remedy="Check the path.")
    read = read_table(table, ("file",), _SPLIT_COLUMNS, layout=_SPLIT_LAYOUT, error=ConfigError)
    columns = [name for name in _SPLIT_COLUMNS if name in read.columns]
    if not columns or not read.rows:
        found = f"'{table.name}' has " + (f"the columns '{','.join(read.columns)}'." if read.rows else "no rows.")
        remedy = "Name the columns in the first line, with commas between them."
        raise ConfigError(found, expected=_SPLIT_LAYOUT, remedy=remedy)
    known, by_name = set(files), defaultdict[str, list[str]](list)
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
