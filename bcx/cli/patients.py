"""`bcx predict --patients`: one row per patient beside the one per scan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.errors import BcxError, ConfigError, DataError, writing

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.input_files import Found

FOLDER, STUDY = "folder", "study"
#: Columns that the table of scans gets with `STUDY`, from DICOM headers.
PLACE = ("study", "series", "laterality", "view")


def places_of(pictures: Sequence[Found]) -> dict[str, dict[str, str]]:
    """Return what the header of each file says of `PLACE`; "" where it says nothing or is no DICOM header."""
    return {found.file: _place(found) for found in pictures}


def patients_of(pictures: Sequence[Found], by: str, places: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the patient of each file: `Found.file` to a name. Files of nobody known are not in it.

    Args:
        pictures: what will be answered.
        by: "folder" (that of the file), "study" (DICOM's Study Instance UID), or a CSV table's path with the columns
            `file` and `patient`; a file is told by its path as the results have it, or by its name where that is the
            only one of its kind.
        places: from `places_of`, for "study".

    Raises:
        ConfigError: no such table.
        DataError: the table cannot be read.
    """
    if by == FOLDER:
        return {found.file: found.file.rpartition("/")[0] or "." for found in pictures}
    if by == STUDY:
        return {file: place["study"] for file, place in places.items() if place["study"]}
    if not Path(by).is_file():
        raise ConfigError(
            f"--patients is '{by}'.",
            expected="folder, study, or a CSV table with the columns file and patient",
            remedy="Use one of the three.",
        )
    from bcx.data.tables import read_table

    table = read_table(Path(by), ("file", "patient"), layout="a CSV table with the columns file and patient")
    named = {row["file"]: row["patient"] for _, row in table.rows if row["patient"]}
    names = [found.file.rpartition("/")[2] for found in pictures]
    found_by = {
        found.file: named.get(found.file) or (named.get(name) if names.count(name) == 1 else None)
        for found, name in zip(pictures, names, strict=True)
    }
    if not any(found_by.values()):
        raise DataError(
            f"None of the {len(pictures)} files is in '{Path(by).name}', which begins with '{next(iter(named), '')}'.",
            expected="files as the results name them, or plain file names",
            remedy="Correct the column file.",
        )
    return {file: patient for file, patient in found_by.items() if patient}


def _place(found: Found) -> dict[str, str]:
    from bcx.imaging.dicom import place_of
    from bcx.imaging.scan import read_file

    try:
        source = found.source
        return place_of(read_file(source) if isinstance(source, Path) else source.read())
    except BcxError:
        return dict.fromkeys(PLACE, "")  # its row says why it cannot be read


def write_patients(
    classifier: Classifier, rows: Iterable[Mapping[str, Any]], patients: Mapping[str, str], target: Path
) -> str:
    """Combine rows of results by patient, write a table, and return what was done, in words.

    A scan that could not be read stands in the reason of its patient's row.

    Args:
        classifier: that answered.
        rows: as the results have them, CSV's or JSON's.
        patients: from `patients_of`.
        target: the CSV file. Columns: patient, label, confidence, decision, p_<class>, reason, scans, files.
    """
    from bcx.inference.patient import Answer
    from bcx.inference.table import csv_lines, write_text

    answers: dict[str, list[Answer]] = {}
    unread: dict[str, list[str]] = {}
    for row in rows:
        if row["file"] not in patients:
            continue
        own = answers.setdefault(patients[row["file"]], [])
        if row.get("decision"):
            each = row.get("probabilities") or {name: float(row[f"p_{name}"]) for name in classifier.classes}
            own.append(Answer(row["file"], row["decision"], row["reason"], each))
        else:
            unread.setdefault(patients[row["file"]], []).append(row["file"])
    combined = [classifier.combine(patient, own) for patient, own in answers.items() if own]
    lost = {patient: f"Could not be read: {', '.join(files)}." for patient, files in unread.items()}
    cells = [
        {
            "patient": one.patient,
            "label": one.label,
            "confidence": round(one.confidence, 6),
            "decision": one.decision,
            **{f"p_{name}": round(p, 6) for name, p in one.probabilities.items()},
            "reason": " ".join(filter(None, (one.reason, lost.get(one.patient)))),
            "scans": len(one.scans),
            "files": "; ".join((*one.scans, *one.left_out)),
        }
        for one in combined
    ]
    cells += [{"patient": name, "reason": lost[name], "scans": 0} for name, own in answers.items() if not own]
    said = [f"p_{name}" for name in classifier.classes]
    columns = ["patient", "label", "confidence", "decision", *said, "reason", "scans", "files"]
    with writing(target):
        write_text(csv_lines(cells, columns), target)
    counts = Counter(cell.get("decision", "without a scan that can be read") for cell in cells)
    tally = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{len(cells)} patient{'' if len(cells) == 1 else 's'}: {tally}; written to {target}."
