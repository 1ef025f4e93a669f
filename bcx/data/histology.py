"""Published sets of histology images whose folders and names say it all: IDC patches and BreakHis."""

import re
from pathlib import Path
from string import ascii_uppercase
from typing import NamedTuple

from bcx.data.reading import Reading, existing_folder, some, subfolders
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.tasks import HISTOLOGY_BREAKHIS, HISTOLOGY_BREAKHIS_SUBTYPES, Task

# --- IDC patches (Cruz-Roa et al. 2014; Janowczyk and Madabhushi 2016) --------------------------------------------

IDC_LAYOUT = "a folder per patient, with the folders 0 (without) and 1 (with carcinoma) in it, and patches in those"
_PATCH = re.compile(r"^(?P<patient>.+?)_idx\d+_x\d+_y\d+_class(?P<label>[01])$")


def looks_like_idc(root: Path) -> bool:
    """Whether most subfolders hold nothing but folders called 0 and 1."""
    patients = subfolders(root) if root.is_dir() else []
    return 2 * sum(map(_is_patient, patients)) > len(patients)


def _is_patient(folder: Path) -> bool:
    inner = {inner.name for inner in subfolders(folder)}
    return bool(inner) and inner <= {"0", "1"}


def read_idc(root: Path, *, task: Task, source: str) -> Reading:
    """Read `root/<patient>/<0|1>/*`: the patient is the group, and 0 or 1 the first or second class of the task.

    A file whose published name (`<patient>_idx5_x<X>_y<Y>_class<0|1>`) says otherwise is a problem; other names are
    welcome. `groups.csv` in the folder, as `bcx audit` writes it, may tie patients together.
    """
    folders = subfolders(existing_folder(root, IDC_LAYOUT))
    if len(task.classes) != 2:
        raise DataError(
            f"'{root}' has the folders 0 and 1, but the task '{task.name}' has {len(task.classes)} classes.",
            expected="a task of two classes, such as histology-idc",
            remedy="Name that task in the recipe.",
        )
    patients = [folder for folder in folders if _is_patient(folder)]
    if not patients:
        raise DataError(
            f"'{root}' holds {some([folder.name for folder in folders]) or 'no subfolder'}.",
            expected=IDC_LAYOUT,
            remedy="Check the path.",
        )
    reading = Reading()
    if others := [folder.name for folder in folders if folder not in patients]:
        reading.notes.append(f"Passed over, since they hold no folders 0 and 1 alone: {some(others)}.")
    for patient in patients:
        for folder in subfolders(patient):
            # Published names are believed to be images: cleaning opens the files anyway.
            trusted = [file.stem for file in folder.iterdir() if _PATCH.match(file.stem)]
            for file in reading.look(folder, root, trusted=trusted).scans:
                path = f"{patient.name}/{folder.name}/{file.name}"
                name = _PATCH.match(file.stem)
                if name and (name["patient"], name["label"]) != (patient.name, folder.name):
                    reading.wrong(
                        f"'{path}' is called patient {name['patient']}, class {name['label']}.",
                        f"patient {patient.name}, class {folder.name}, as its folders say",
                        "Move it to where it belongs, or remove it.",
                    )
                    continue
                label = task.classes[int(folder.name)]
                reading.records.append(Record(file, f"{source}/{path}", label, f"{source}:{patient.name}", source))
    reading.add_groups(root, source)
    return reading


# --- BreakHis (Spanhol et al., IEEE TBME 2016) --------------------------------------------------------------------

BREAKHIS_LAYOUT = (
    "BreakHis as published: <benign|malignant>/SOB/<subtype>/<slide>/<magnification>X/SOB_B_TA-14-4659-40-001.png"
)
MAGNIFICATIONS = (40, 100, 200, 400)
#: Names of sources that mean this layout, and which magnification they take (None: all).
BREAKHIS_KINDS = {"breakhis": None} | {f"breakhis-{zoom}x": zoom for zoom in MAGNIFICATIONS}
_NAME_FORM = "SOB_<B|M>_<subtype>-<year>-<patient>-<magnification>-<n>, such as SOB_B_TA-14-4659-40-001"
_NAME = re.compile(
    r"SOB_(?P<kind>[BM])_(?P<subtype>[A-Z]+)-(?P<year>\d{2})-(?P<patient>[0-9A-Z]+)-(?P<magnification>\d+)-\d+",
    re.ASCII,
)
_LABELS = {"B": "benign", "M": "malignant"}
_SUBTYPES = {
    "B": {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumor", "TA": "tubular adenoma"},
    "M": {f"{kind[0].upper()}C": f"{kind} carcinoma" for kind in ("ductal", "lobular", "mucinous", "papillary")},
}


class SlideName(NamedTuple):
    """What an image's name says; `group` is the patient."""

    label: str
    subtype: str
    group: str
    magnification: int


def parse_name(stem: str) -> SlideName:
    """Read a file's name without its ending; `DataError` where it is not as published."""
    found = _NAME.fullmatch(stem)
    if found is None:
        wrong, expected = "is no name of BreakHis", _NAME_FORM
    elif found["subtype"] not in (subtypes := _SUBTYPES[found["kind"]]):
        wrong = f"has the subtype '{found['subtype']}'"
        expected = f"one of {', '.join(subtypes)} for {_LABELS[found['kind']]} tumours"
    elif found["magnification"] not in map(str, MAGNIFICATIONS):
        wrong = f"has the magnification '{found['magnification']}'"
        expected = f"one of {', '.join(map(str, MAGNIFICATIONS))}"
    else:
        # Slides of one patient differ in their letters: 22549AB and 22549CD.
        patient = found["patient"].rstrip(ascii_uppercase) or found["patient"]
        group = f"{found['year']}-{patient}"
        return SlideName(_LABELS[found["kind"]], subtypes[found["subtype"]], group, int(found["magnification"]))
    raise DataError(f"'{stem}' {wrong}.", expected=expected, remedy="Give the file its published name.")


def looks_like_breakhis(root: Path) -> bool:
    """Whether `root`, or one of the folders that it is published in, holds `benign/SOB` or `malignant/SOB`."""
    folders = (root, root / "breast", root / "histology_slides" / "breast")
    if any((folder / label / "SOB").is_dir() for folder in folders for label in _LABELS.values()):
        return True
    inner = subfolders(root) if root.is_dir() else []
    return len(inner) == 1 and looks_like_breakhis(inner[0])


def read_breakhis(root: Path, *, task: Task, source: str) -> Reading:
    """Read every image below `root`, in the published folders or in any others: the names say it all.

    `source` may say which magnification is taken. The group is the patient, and begins with "breakhis:" for any of
    `BREAKHIS_KINDS`: two magnifications of one patient, named as two sources, are never on two sides of a split.
    """
    existing_folder(root, BREAKHIS_LAYOUT)
    magnification = BREAKHIS_KINDS.get(source)
    by_subtype = set(task.classes) == set(HISTOLOGY_BREAKHIS_SUBTYPES.classes)
    if not by_subtype and set(task.classes) != set(HISTOLOGY_BREAKHIS.classes):
        raise DataError(
            f"The names of BreakHis say nothing of the classes {', '.join(task.classes)}.",
            expected=f"the task {HISTOLOGY_BREAKHIS.name} or {HISTOLOGY_BREAKHIS_SUBTYPES.name}",
            remedy="Name one of these as 'task' in the recipe.",
        )
    reading = Reading()
    others = 0
    for folder in [root, *sorted(path for path in root.rglob("*") if path.is_dir())]:
        for file in reading.look(folder, root).scans:
            try:
                name = parse_name(file.stem)
            except DataError as error:
                reading.problems.append(error)
                continue
            (other,) = set(_LABELS.values()) - {name.label}
            if other in file.parts[:-1] and name.label not in file.parts[:-1]:
                reading.wrong(
                    f"'{file.name}' is called {name.label}, but lies below a folder '{other}'.",
                    "folders that say the same as the file's name",
                    "Move it to where it belongs, or remove it.",
                )
            elif magnification in (None, name.magnification):
                key, label = f"{source}/{file.relative_to(root).as_posix()}", name.subtype if by_subtype else name.label
                reading.records.append(Record(file, key, label, f"breakhis:{name.group}", source))
            else:
                others += 1
    if not reading.records and not reading.problems:
        raise DataError(
            f"'{root}' holds no picture{f' at magnification {magnification}' if others else ''}.",
            expected=BREAKHIS_LAYOUT,
            remedy="Ask for another magnification, or for all." if others else "Check the path.",
        )
    if others:
        reading.notes.append(f"{others} pictures have another magnification than {magnification}.")
    reading.records.sort(key=lambda record: record.key)
    return reading
