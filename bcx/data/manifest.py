"""CSV manifests: `file,label[,group,mask,fold,split]`, a row for each scan. BrEaST comes with one.

```
file,label,group,mask
images/a1.png,benign,anna,masks/a1.png
images/a2.png,benign,anna,
images/b1.png,malignant,berta,masks/b1-left.png|masks/b1-right.png
```
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from bcx.data.reading import Reading, broken_picture, existing_folder, fold_problems, match_label, parse_fold, some
from bcx.data.records import Record
from bcx.data.tables import read_table
from bcx.errors import DataError
from bcx.imaging.scan import sniff_file
from bcx.tasks import Task

COLUMNS = ("file", "label", "group", "mask", "fold", "split")
LAYOUT = "a CSV table with the columns file, label and, as you like, group, mask, fold, split"


def read_manifest(table: Path, *, task: Task, source: str, split: str = "dev") -> Reading:
    """Read a CSV manifest, as `bcx.data.tables` reads it.

    `file` and `mask` (several masks with `|` between them) are paths relative to the table's folder, with forward or
    backward slashes, and stay inside it: keys are made of them. `group` is the patient or lesion; without it each scan
    is its own group. `fold` is given for all rows or for none. `groups.csv` beside the table, as `bcx audit` writes it,
    ties further scans (and so their patients) together. With a column `split`, the rows of that split are read ("all":
    every row). Other columns are passed over, but not one that looks like a slip of the pen for one of these.
    """
    if not table.is_file():
        raise DataError(f"There is no manifest '{table}'.", expected=LAYOUT, remedy="Check the path.")
    rows, columns = _rows(table, split)
    reading, folder = Reading(), table.parent
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"Line {line} of '{table.name}'"
        try:
            path = _inside(row["file"], where)
            if path in seen:
                raise DataError(
                    f"{where} names '{path}' again (first in line {seen[path]}).",
                    expected="one row per file",
                    remedy="Remove one of the two rows.",
                )
            seen[path] = line
            label, fold = match_label(row["label"], task, where), parse_fold(row.get("fold", ""), where)
            masks = [_inside(mask, where) for mask in row.get("mask", "").split("|") if mask.strip()]
            if absent := [name for name in (path, *masks) if not os.path.isfile(folder / name)]:
                raise DataError(
                    f"{where} names '{absent[0]}', which is not there.",
                    expected="files relative to the folder of the manifest",
                    remedy="Correct the path, or remove the row.",
                )
            if sniff_file(folder / path) in (None, "svg"):
                raise broken_picture(path)
        except DataError as error:
            reading.problems.append(error)
            continue
        key, group = f"{source}/{path}", f"{source}:{row.get('group', '').strip() or path}"
        places = tuple(folder / mask for mask in masks)
        reading.records.append(Record(folder / path, key, label, group, source, places, fold))
    if not rows:
        reading.wrong(f"'{table.name}' has no rows.", LAYOUT, "Add a row for each scan.")
    outside = [record.key for record in reading.records if record.fold is None]
    if 0 < len(outside) < len(reading.records):
        reading.wrong(
            f"{len(outside)} of {len(reading.records)} rows of '{table.name}' have no fold; the first is "
            f"'{outside[0]}'.",
            "a fold in every row, or in none",
            "Complete the column, or leave it out to have folds made.",
        )
    if not reading.add_groups(folder, source) and "group" not in columns:
        reading.notes.append("There is no column 'group': each scan counts as its own patient.")
    reading.problems.extend(fold_problems(reading.records))
    return reading


BREAST_LAYOUT = "a folder with 'manifest.csv', 'Images' and 'Masks'"


def read_breast(root: Path, *, task: Task, source: str) -> Reading:
    """Read BrEaST (Pawlowska et al., Scientific Data 2024) by a table `manifest.csv` in its folder.

    That is the published spreadsheet's Image_filename, Classification, CaseID and Mask_tumor_filename, under the names
    file, label, group and mask.
    """
    table = existing_folder(root, BREAST_LAYOUT) / "manifest.csv"
    if not table.is_file():
        remedy = "Point to the folder of BrEaST that holds the table."
        raise DataError(f"'{root}' has no '{table.name}'.", expected=BREAST_LAYOUT, remedy=remedy)
    return read_manifest(table, task=task, source=source)


def _rows(path: Path, split: str) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Rows of the split with their line numbers, and the columns that are there."""
    table = read_table(path, ("file", "label"), COLUMNS[2:], layout=LAYOUT)
    # A group column by another spelling would be passed over, and one patient would end up on both sides of a split.
    slips = [n for n in table.columns if n not in COLUMNS and difflib.get_close_matches(n.lower(), COLUMNS, 1, 0.85)]
    if slips:
        raise DataError(
            f"'{path.name}' has a column {some(slips)}.", expected=LAYOUT, remedy="Rename or remove the column."
        )
    if "split" not in table.columns or split == "all":
        return table.rows, table.columns
    kept = [(line, row) for line, row in table.rows if row["split"] == split]
    if table.rows and not kept:
        raise DataError(
            f"'{path.name}' has no row with the split '{split}'.",
            expected=f"one of {some(sorted({row['split'] for _, row in table.rows}), 8)}",
            remedy="Ask for another split ('all' takes every row), or remove the column.",
        )
    return kept, table.columns


def _inside(text: str, where: str) -> str:
    """A relative path with forward slashes that stays inside the manifest's folder."""
    plain = text.strip().replace("\\", "/")
    path = PurePosixPath(plain)
    if not plain or path.is_absolute() or PureWindowsPath(plain).drive or ".." in path.parts:
        raise DataError(
            f"{where} names the file '{text}'." if plain else f"{where} names no file.",
            expected="a path relative to the folder of the manifest that stays inside it",
            remedy="Put the manifest into a folder that holds all the files.",
        )
    return path.as_posix()
