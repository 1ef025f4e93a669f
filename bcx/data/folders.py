"""Any folder with one subfolder per class."""

from __future__ import annotations

from pathlib import Path

from bcx.data.groups import add_groups
from bcx.data.reading import Reading, class_folders, existing_folder, look_into, some, subfolders
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.tasks import Task

LAYOUT = "one subfolder per class, called {classes}, with pictures in it"


def read_folder(root: Path, *, task: Task, source: str) -> Reading:
    """Read `root/<class>/*`.

    Folder names match the task's classes in any case; a class without a folder is simply not there. Images are told by
    their first bytes; other files are passed over. `x_mask.png`, `x_mask_1.png` ... beside `x.png` are its masks.
    `groups.csv` in the folder, as `bcx audit` writes it, says which scans belong together; any other is its own group.
    """
    layout = LAYOUT.format(classes=", ".join(task.classes))
    existing_folder(root, layout)
    folders = class_folders(root, task)
    known = [folder for found in folders.values() for folder in found]
    if not known:
        inner = [f.name for f in subfolders(root) if any(class_folders(f, task).values())]
        here = some([f.name for f in subfolders(root)]) or "no subfolder"
        raise DataError(
            f"'{root}' holds {here}, none called like a class.",
            expected=layout,
            remedy=f"Point to '{root / inner[0]}' instead." if inner else "Check the path, or use a CSV manifest.",
        )
    reading = Reading()
    for folder in subfolders(root):
        if folder not in known and look_into(folder).scans:
            reading.wrong(
                f"'{folder.name}' holds pictures, but the task '{task.name}' knows no such label.",
                layout,
                "Rename the folder, or move it elsewhere.",
            )
    for label, found in folders.items():
        for folder in found:
            _read_class(reading, folder, root, label, layout, source)
    grouped = add_groups(reading, root, source)
    if len(grouped.notes) == len(reading.notes):
        grouped.notes.append("Nothing says which scans belong to one patient: each counts as its own group.")
    return grouped


def _read_class(reading: Reading, folder: Path, root: Path, label: str, layout: str, source: str) -> None:
    inside, where = reading.look(folder, root), folder.name
    if not inside.scans:
        reading.wrong(f"The class folder '{where}' holds no picture.", layout, "Add scans, or remove the empty folder.")
    if inside.strays:
        names = some([file.name for file in inside.strays])
        reading.notes.append(f"Passed over in '{where}', since they are no pictures: {names}.")
    for inner in subfolders(folder):  # masks, patients or strays? Nobody can tell, so nothing is guessed
        if (deeper := look_into(inner)).scans or deeper.masks:
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
