"""BreakHis (Spanhol et al., IEEE TBME 2016): subtype, patient and magnification from the published names.

>>> parse_name("SOB_B_TA-14-4659-40-001")
SlideName(label='benign', subtype='tubular adenoma', year='14', patient='4659', magnification=40, number='001')
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bcx.data.reading import Reading, existing_folder, subfolders
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.tasks import HISTOLOGY_BREAKHIS, HISTOLOGY_BREAKHIS_SUBTYPES, Task

LAYOUT = "BreakHis as published: <benign|malignant>/SOB/<subtype>/<slide>/<magnification>X/SOB_B_TA-14-4659-40-001.png"
NAME = "SOB_<B|M>_<subtype>-<year>-<patient>-<magnification>-<n>, such as SOB_B_TA-14-4659-40-001"
MAGNIFICATIONS = (40, 100, 200, 400)
# Names of sources that mean this layout, and which magnification they take.
KINDS = {"breakhis": None} | {f"breakhis-{zoom}x": zoom for zoom in MAGNIFICATIONS}
# The published abbreviations.
_BENIGN = {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumor", "TA": "tubular adenoma"}
_MALIGNANT = {
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}
_SUBTYPES = {"B": _BENIGN, "M": _MALIGNANT}
_LABELS = {"B": "benign", "M": "malignant"}
_NAME = re.compile(
    r"SOB_(?P<kind>[BM])_(?P<subtype>[A-Z]+)-(?P<year>\d{2})-(?P<patient>[0-9A-Z]+)-(?P<magnification>\d+)-(?P<number>\d+)",
    re.ASCII,
)


@dataclass(frozen=True)
class SlideName:
    """What a picture's name says.

    Attributes:
        label: "benign" or "malignant".
        subtype: one of the eight, in words.
        year: of the biopsy, two digits.
        patient: the slide's id, digits and capitals; `22549AB` and `22549CD` are slides of one patient.
        magnification: 40, 100, 200 or 400.
        number: running number, as written.
    """

    label: str
    subtype: str
    year: str
    patient: str
    magnification: int
    number: str

    @property
    def group(self) -> str:
        """Year and patient without the letters that tell that patient's slides apart."""
        return f"{self.year}-{self.patient.rstrip('ABCDEFGHIJKLMNOPQRSTUVWXYZ') or self.patient}"

    def __str__(self) -> str:
        """The published name again."""
        kind = self.label[0].upper()
        short = next(short for short, words in _SUBTYPES[kind].items() if words == self.subtype)
        return f"SOB_{kind}_{short}-{self.year}-{self.patient}-{self.magnification}-{self.number}"


def parse_name(stem: str) -> SlideName:
    """Read a file's name without its ending.

    Raises:
        DataError: it is not of the published form, or names a subtype or magnification that does not exist.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        raise DataError(f"'{stem}' is no name of BreakHis.", expected=NAME, remedy="Give the file its published name.")
    subtypes, magnification = _SUBTYPES[found["kind"]], int(found["magnification"])
    if found["subtype"] not in subtypes:
        raise DataError(
            f"'{stem}' has the subtype '{found['subtype']}'.",
            expected=f"one of {', '.join(subtypes)} for {_LABELS[found['kind']]} tumours",
            remedy="Give the file its published name.",
        )
    if magnification not in MAGNIFICATIONS or found["magnification"] != str(magnification):
        raise DataError(
            f"'{stem}' has the magnification '{found['magnification']}'.",
            expected=f"one of {', '.join(map(str, MAGNIFICATIONS))}",
            remedy="Give the file its published name.",
        )
    return SlideName(
        _LABELS[found["kind"]],
        subtypes[found["subtype"]],
        found["year"],
        found["patient"],
        magnification,
        found["number"],
    )


def magnification_of(source: str) -> int | None:
    """Return the magnification that a source's name asks for (`breakhis-40x`), None for all."""
    return KINDS.get(source)


def looks_like_breakhis(root: Path) -> bool:
    """Whether `root`, or one of the folders that it is published in, holds `benign/SOB` or `malignant/SOB`."""
    return root.is_dir() and _published_root(root) is not None


def _published_root(root: Path) -> Path | None:
    for folder in (root, root / "breast", root / "histology_slides" / "breast"):
        if any((folder / kind / "SOB").is_dir() for kind in _LABELS.values()):
            return folder
    inner = subfolders(root)
    return _published_root(inner[0]) if len(inner) == 1 else None


def read_breakhis(root: Path, *, task: Task, source: str = "breakhis") -> Reading:
    """Read every picture below `root`, in the published folders or in any others: the names say it all.

    The group is the patient, and begins with "breakhis:" for any of this module's sources, so that two magnifications
    of one patient, named as two sources, are never on two sides of a split.

    Args:
        root: the unpacked download, or any folder inside it.
        task: `histology-breakhis` (or another with the classes benign and malignant), or
            `histology-breakhis-subtypes`.
        source: first part of keys; `breakhis-40x`, `-100x`, `-200x` or `-400x` takes that magnification alone, any
            other name takes all.

    Raises:
        DataError: no such folder, no picture in it, or a task of other classes.
    """
    existing_folder(root, LAYOUT)
    magnification = magnification_of(source)
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
            path = file.relative_to(root).as_posix()
            try:
                name = parse_name(file.stem)
                _check_folders(file, name)
            except DataError as error:
                reading.problems.append(error)
                continue
            if magnification is not None and name.magnification != magnification:
                others += 1
                continue
            label = name.subtype if by_subtype else name.label
            reading.records.append(Record(file, f"{source}/{path}", label, f"breakhis:{name.group}", source))
    if not reading.records and not reading.problems:
        raise DataError(
            f"'{root}' holds no picture{f' at magnification {magnification}' if others else ''}.",
            expected=LAYOUT,
            remedy="Check the path." if not others else "Ask for another magnification, or for all.",
        )
    if others:
        reading.notes.append(f"{others} pictures have another magnification than {magnification}.")
    reading.records.sort(key=lambda record: record.key)
    return reading


def _check_folders(file: Path, name: SlideName) -> None:
    """Hold the folders against the file's name.

    Raises:
        DataError: it lies below `benign` and is called malignant, or the other way round.
    """
    other = next(kind for kind in _LABELS.values() if kind != name.label)
    if other in file.parts[:-1] and name.label not in file.parts[:-1]:
        raise DataError(
            f"'{file.name}' is called {name.label}, but lies below a folder '{other}'.",
            expected="folders that say the same as the file's name",
            remedy="Move it to where it belongs, or remove it.",
        )
