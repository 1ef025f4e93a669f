"""IDC patches (Cruz-Roa et al. 2014; Janowczyk and Madabhushi 2016): `<patient>/<0|1>/*`, patients as groups.

>>> from tempfile import TemporaryDirectory
>>> from bcx.simulate.histology import write_idc_folder
>>> from bcx.tasks import get_task
>>> with TemporaryDirectory() as folder:
...     reading = read_idc(write_idc_folder(folder, patients=2, patches=1), task=get_task("histology-idc"))
>>> [(record.label, record.group) for record in reading.records]
[('negative', 'idc:101'), ('positive', 'idc:101'), ('negative', 'idc:102'), ('positive', 'idc:102')]
"""

from __future__ import annotations

import re
from pathlib import Path

from bcx.data.groups import add_groups
from bcx.data.reading import Reading, existing_folder, some, subfolders
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.tasks import Task

LAYOUT = "a folder per patient, with the folders 0 (without) and 1 (with carcinoma) in it, and patches in those"
_CLASSES = ("0", "1")
_NAME = re.compile(r"^(?P<patient>.+?)_idx\d+_x\d+_y\d+_class(?P<label>[01])$")


def looks_like_idc(root: Path) -> bool:
    """Whether most subfolders hold nothing but folders called 0 and 1."""
    if not root.is_dir():
        return False
    patients = subfolders(root)
    fitting = sum(_is_patient(patient) for patient in patients)
    return fitting > 0 and 2 * fitting > len(patients)


def _is_patient(folder: Path) -> bool:
    inner = [f.name for f in subfolders(folder)]
    return bool(inner) and set(inner) <= set(_CLASSES)


def read_idc(root: Path, *, task: Task, source: str = "idc") -> Reading:
    """Read `root/<patient>/<0|1>/*`.

    The patient's folder is the group, and the folder 0 or 1 the label: the task's first or second class. A file whose
    published name (`<patient>_idx5_x<X>_y<Y>_class<0|1>`) says otherwise is a problem; other names are welcome.
    `groups.csv` in the folder, as `bcx audit` writes it, may tie patients together.

    Args:
        task: must have two classes.

    Raises:
        DataError: no such folder, no patient in it, or a task of more than two classes.
    """
    existing_folder(root, LAYOUT)
    if len(task.classes) != 2:
        raise DataError(
            f"'{root}' has the folders 0 and 1, but the task '{task.name}' has {len(task.classes)} classes.",
            expected="a task of two classes, such as histology-idc",
            remedy="Name that task in the recipe.",
        )
    patients = [folder for folder in subfolders(root) if _is_patient(folder)]
    if not patients:
        raise DataError(
            f"'{root}' holds {some([f.name for f in subfolders(root)]) or 'no subfolder'}.",
            expected=LAYOUT,
            remedy="Check the path.",
        )
    reading = Reading()
    others = [folder.name for folder in subfolders(root) if folder not in patients]
    if others:
        reading.notes.append(f"Passed over, since they hold no folders 0 and 1 alone: {some(others)}.")
    for patient in patients:
        for folder in subfolders(patient):
            # Published names are believed to be pictures: cleaning opens the files anyway.
            trusted = [file.stem for file in folder.iterdir() if _NAME.match(file.stem)]
            for file in reading.look(folder, root, trusted=trusted).scans:
                path = f"{patient.name}/{folder.name}/{file.name}"
                name = _NAME.match(file.stem)
                if name and (name["patient"], name["label"]) != (patient.name, folder.name):
                    reading.wrong(
                        f"'{path}' is called patient {name['patient']}, class {name['label']}.",
                        f"patient {patient.name}, class {folder.name}, as its folders say",
                        "Move it to where it belongs, or remove it.",
                    )
                    continue
                label = task.classes[_CLASSES.index(folder.name)]
                reading.records.append(Record(file, f"{source}/{path}", label, f"{source}:{patient.name}", source))
    reading.records.sort(key=lambda record: record.key)
    records, wrong, said = add_groups(reading.records, root, source)
    return Reading(records, reading.problems + wrong, reading.notes + said, reading.left_out)
