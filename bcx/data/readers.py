"""Folders and manifests of scans become records: which layout a source has, and who reads it; plain class folders."""

from __future__ import annotations

from pathlib import Path

from bcx.data import busbra, busi, histology, manifest
from bcx.data.reading import Reading, class_folders, existing_folder, some, subfolders
from bcx.data.records import Record
from bcx.errors import DataError, ScanError
from bcx.tasks import Task


def read_folder(root: Path, *, task: Task, source: str) -> Reading:
    """Read `root/<class>/*`.

    Folder names match the task's classes in any case; a class without a folder is simply not there. Images are told by
    their first bytes; other files are passed over. `x_mask.png`, `x_mask_1.png` ... beside `x.png` are its masks.
    `groups.csv` in the folder, as `bcx audit` writes it, says which scans belong together; any other is its own group.
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


_READERS = {
    "busbra": busbra.read_busbra,
    "breast": manifest.read_breast,
    "idc": histology.read_idc,
    **dict.fromkeys(histology.BREAKHIS_KINDS, histology.read_breakhis),
    "folder": read_folder,
}
KINDS = ("busi", *_READERS, "manifest")


def read_source(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> list[Record]:
    """Read one source of labelled scans.

    Args:
        kind_or_name: one of `KINDS`, or a name of your own, which becomes `Record.source` while the kind is told
            from what is there (`detect_kind`).
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
            return manifest.read_manifest(root, task=task, source=kind_or_name, split=split)
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
    if (root / busbra.TABLE).is_file():
        return "busbra"
    if histology.looks_like_idc(root):
        return "idc"
    if histology.looks_like_breakhis(root):
        return "breakhis"
    return "busi" if busi.looks_like_busi(root) else "folder"
