"""Folders and tables of scans become records: class folders, CSV manifests, BrEaST, BUS-BRA; who reads what."""

import difflib
import os
from pathlib import Path, PurePosixPath, PureWindowsPath

from bcx.data import busi, histology
from bcx.data.reading import (
    Reading,
    broken_picture,
    class_folders,
    existing_folder,
    fold_problems,
    match_label,
    parse_fold,
    some,
    subfolders,
)
from bcx.data.records import Record
from bcx.data.tables import read_table
from bcx.errors import DataError, ScanError
from bcx.imaging.scan import sniff_file
from bcx.tasks import Task


def read_folder(root: Path, *, task: Task, source: str) -> Reading:
    """Read `root/<class>/*`, folders called like the task's classes in any case.

    Images are told by their first bytes. `x_mask.png`, `x_mask_1.png` ... beside `x.png` are its masks. `groups.csv` in
    the folder, as `bcx audit` writes it, says which scans belong together; any other is its own group.
    """
    layout = f"one subfolder per class, called {', '.join(task.classes)}, with pictures in it"
    folders = class_folders(existing_folder(root, layout), task)
    known = [folder for found in folders.values() for folder in found]
    others = [folder for folder in subfolders(root) if folder not in known]
    if not known:
        inner = [folder for folder in others if any(class_folders(folder, task).values())]
        raise DataError(
            f"'{root}' holds {some([folder.name for folder in others]) or 'no subfolder'}, none called like a class.",
            expected=layout,
            remedy=f"Point to '{inner[0]}' instead." if inner else "Check the path, or use a CSV manifest.",
        )
    reading = Reading()
    for folder in others:
        if Reading().look(folder, root).scans:
            reading.wrong(
                f"'{folder.name}' holds pictures, but the task '{task.name}' knows no such label.",
                layout,
                "Rename the folder, or move it elsewhere.",
            )
    for label, found in folders.items():
        for folder in found:
            _read_class(reading, folder, root, label, layout, source)
    if not reading.add_groups(root, source):
        reading.notes.append("Nothing says which scans belong to one patient: each counts as its own group.")
    return reading


def _read_class(reading: Reading, folder: Path, root: Path, label: str, layout: str, source: str) -> None:
    inside, where = reading.look(folder, root), folder.name
    if not inside.scans:
        reading.wrong(f"The class folder '{where}' holds no picture.", layout, "Add scans, or remove the empty folder.")
    if inside.strays:
        names = some([file.name for file in inside.strays])
        reading.notes.append(f"Passed over in '{where}', since they are no pictures: {names}.")
    for inner in subfolders(folder):  # masks, patients or strays? Nobody can tell, so nothing is guessed
        if (deeper := Reading().look(inner, root)).scans or deeper.masks:
            reading.wrong(
                f"The subfolder '{where}/{inner.name}' holds pictures, which are not read.",
                "pictures directly inside the class folder",
                "Move them up; if subfolders are patients, write a CSV manifest with a group column.",
            )
    stems = {file.stem for file in inside.scans}
    for stem, masks in inside.masks.items():
        if stem not in stems:
            reading.wrong(
                f"The mask '{where}/{masks[0].name}' has no scan beside it.",
                f"a picture called '{stem}'",
                "Add the scan, or remove the mask.",
            )
    for file in inside.scans:
        path, masks = f"{where}/{file.name}", inside.masks.get(file.stem, ())
        reading.records.append(Record(file, f"{source}/{path}", label, f"{source}:{path}", source, masks))


_COLUMNS = ("file", "label", "group", "mask", "fold", "split")
_MANIFEST = "a CSV table with the columns file, label and, as you like, group, mask, fold, split"


def read_manifest(table: Path, *, task: Task, source: str, split: str = "dev") -> Reading:
    """Read a CSV manifest `file,label[,group,mask,fold,split]`, a row for each scan, as `bcx.data.tables` reads it.

    `file` and `mask` (several masks with `|` between them) are paths relative to the table's folder, with forward or
    backward slashes, and stay inside it: keys are made of them. `group` is the patient or lesion; without it each scan
    is its own group. `fold` is given for all rows or for none. `groups.csv` beside the table, as `bcx audit` writes it,
    ties further scans (and so their patients) together. With a column `split`, the rows of that split are read ("all":
    every row). Other columns are passed over, but not one that looks like a slip of the pen for one of these.
    """
    if not table.is_file():
        raise DataError(f"There is no manifest '{table}'.", expected=_MANIFEST, remedy="Check the path.")
    rows, columns = _manifest_rows(table, split)
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
        reading.wrong(f"'{table.name}' has no rows.", _MANIFEST, "Add a row for each scan.")
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


_BREAST = "a folder with 'manifest.csv', 'Images' and 'Masks'"


def read_breast(root: Path, *, task: Task, source: str) -> Reading:
    """Read BrEaST (Pawlowska et al., Scientific Data 2024) by a table `manifest.csv` in its folder.

    Its file, label, group and mask are the published Image_filename, Classification, CaseID and Mask_tumor_filename.
    """
    table = existing_folder(root, _BREAST) / "manifest.csv"
    if not table.is_file():
        remedy = "Point to the folder of BrEaST that holds the table."
        raise DataError(f"'{root}' has no '{table.name}'.", expected=_BREAST, remedy=remedy)
    return read_manifest(table, task=task, source=source)


def _manifest_rows(path: Path, split: str) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Rows of the split with their line numbers, and the columns that are there."""
    table = read_table(path, ("file", "label"), _COLUMNS[2:], layout=_MANIFEST)
    # A group column by another spelling would be passed over, and one patient would end up on both sides of a split.
    slips = [n for n in table.columns if n not in _COLUMNS and difflib.get_close_matches(n.lower(), _COLUMNS, 1, 0.85)]
    if slips:
        raise DataError(
            f"'{path.name}' has a column {some(slips)}.", expected=_MANIFEST, remedy="Rename or remove the column."
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


_BUSBRA = "a folder with 'bus_data.csv', 'Images' and 'Masks'"
_TABLE = "bus_data.csv"
_BUSBRA_ROWS = "the columns ID, Case and Pathology, a row for each picture"


def read_busbra(root: Path, *, task: Task, source: str) -> Reading:
    """Read BUS-BRA (Gomez-Flores et al., Medical Physics 2024): `Images`, `Masks` and `bus_data.csv`.

    `Case`, the patient, is the group. A column `fold`, where there is one, gives the folds; a row with an empty fold
    stays outside. Without it `fold` is None throughout.
    """
    table = existing_folder(root, _BUSBRA) / _TABLE
    if not table.is_file() or not (root / "Images").is_dir():
        raise DataError(
            f"'{root}' has no '{'Images' if table.is_file() else _TABLE}'.",
            expected=_BUSBRA,
            remedy="Point to the unpacked folder of BUS-BRA.",
        )
    rows = _busbra_rows(table)
    names = [row["ID"] for row in rows]
    reading = Reading()
    by_name = {file.stem: file for file in reading.look(root / "Images", root, trusted=names).scans}
    masks: dict[str, Path] = {}
    if (root / "Masks").is_dir():
        found = reading.look(root / "Masks", root, trusted=[_mask_name(name) for name in names])
        masks = {file.stem: file for file in found.scans}
    missing: list[str] = []
    for name, row in zip(names, rows, strict=True):
        file, mask = by_name.pop(name, None), masks.get(_mask_name(name))
        if file is None:
            missing.append(name)
            continue
        try:
            label = match_label(row["Pathology"], task, f"'{name}' in {_TABLE}")
            fold = parse_fold(row.get("fold", ""), f"'{name}' in {_TABLE}")
        except DataError as error:
            reading.problems.append(error)
            continue
        key, group = f"{source}/Images/{file.name}", f"{source}:{row['Case']}"
        reading.records.append(Record(file, key, label, group, source, (mask,) if mask else (), fold))
    if twice := sorted({name for name in missing if names.count(name) > 1}):
        reading.wrong(f"{_TABLE} has more than one row for {some(twice)}.", "one row per ID", "Keep one.")
    if missing := [name for name in missing if name not in twice]:
        reading.wrong(
            f"{len(missing)} of the {len(rows)} pictures in {_TABLE} are missing from '{root / 'Images'}'; "
            f"the first is '{missing[0]}'.",
            _BUSBRA,
            "Unpack the download again, or remove their rows.",
        )
    if by_name:
        reading.wrong(
            f"{len(by_name)} pictures in 'Images' have no row in {_TABLE}: {some(sorted(by_name))}.",
            "one row per picture",
            "Remove them, or use the table that belongs to them.",
        )
    reading.problems.extend(fold_problems(reading.records))
    return reading


def busbra_devices(root: Path, source: str = "busbra") -> dict[str, str]:
    """Return the scanner of each image by the key of its record; `DataError` without a column `Device`."""
    table = existing_folder(root, _BUSBRA) / _TABLE
    rows = _busbra_rows(table) if table.is_file() else []
    if not rows or "Device" not in rows[0]:
        raise DataError(
            f"'{root}' does not say which machine took its pictures.",
            expected=f"the column Device in '{_TABLE}'",
            remedy="Use the table as it was published.",
        )
    devices = {row["ID"]: row["Device"] for row in rows}
    files = Reading().look(existing_folder(root / "Images", _BUSBRA), root, trusted=devices).scans
    return {f"{source}/Images/{file.name}": devices[file.stem] for file in files if devices.get(file.stem)}


def _mask_name(name: str) -> str:
    return "mask_" + name.removeprefix("bus_")


def _busbra_rows(table: Path) -> list[dict[str, str]]:
    read = read_table(table, ("ID", "Case", "Pathology"), ("fold", "Device"), layout=_BUSBRA_ROWS)
    if not read.rows:
        raise DataError(f"'{table}' has no rows.", expected=_BUSBRA_ROWS, remedy="Use the table as it was published.")
    return [row for _, row in read.rows]


_READERS = {
    "busbra": read_busbra,
    "breast": read_breast,
    "idc": histology.read_idc,
    **dict.fromkeys(histology.BREAKHIS_KINDS, histology.read_breakhis),
    "folder": read_folder,
}
KINDS = ("busi", *_READERS, "manifest")


def read_source(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> list[Record]:
    """Read one source of labelled scans.

    Args:
        kind_or_name: becomes `Record.source`; one of `KINDS`, or a name of your own (see `detect_kind`).
        split: for BUSI `dev`, `test`, `conflict` or `all`; for a manifest with a column `split` one of its values.

    Returns:
        Records in the order of their keys (BUSI and BUS-BRA: in published order).

    Raises:
        DataError: what is wrong first, and how many more problems there are; `survey` returns them all.
    """
    return survey(kind_or_name, root, task=task, split=split).checked(root)


def survey(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> Reading:
    """Like `read_source`, but problems that leave something to read are collected instead of raised."""
    try:
        kind = detect_kind(kind_or_name, root)
        if kind == "busi":
            return busi.read_busi(root, task=task, split=split, source=kind_or_name)
        if kind == "manifest":
            return read_manifest(root, task=task, source=kind_or_name, split=split)
        if split not in ("dev", "all"):
            raise DataError(
                f"'{root}' has no split called '{split}'.",
                expected="'dev' or 'all', which mean every scan here",
                remedy="Only BUSI and manifests with a column 'split' have splits.",
            )
        return _READERS[kind](root, task=task, source=kind_or_name)
    except ScanError as error:  # a file whose first bytes cannot be read
        raise DataError(error.found, expected=error.expected, remedy=error.remedy) from error
    except OSError as error:
        raise DataError(
            f"'{error.filename or root}' cannot be opened ({error.strerror or error}).",
            expected="files and folders that this account may read",
            remedy="Check the permissions and the disk.",
        ) from error


def detect_kind(kind_or_name: str, root: Path) -> str:
    """Tell what lies at `root`: one of `KINDS`.

    A name in `KINDS` is believed. Otherwise a file is a manifest, a folder with `bus_data.csv` is BUS-BRA, one of
    patients with the folders 0 and 1 is IDC, one with `benign/SOB` or `malignant/SOB` in it is BreakHis, one with
    at least half of BUSI's published `dev` names is BUSI, and any other is a plain class folder.
    """
    if kind_or_name in KINDS:
        return kind_or_name
    if root.is_file() or root.suffix.lower() == ".csv":
        return "manifest"
    if (root / _TABLE).is_file():
        return "busbra"
    if histology.looks_like_idc(root):
        return "idc"
    if histology.looks_like_breakhis(root):
        return "breakhis"
    return "busi" if busi.looks_like_busi(root) else "folder"
