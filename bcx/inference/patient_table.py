"""The table of patients beside a results table: one combined answer per patient, the same everywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bcx.inference.table import csv_lines

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier

#: What tells whose a scan is, beside a table: its folder, or its DICOM study.
FOLDER, STUDY = "folder", "study"


def folder_of(file: str) -> str:
    """Return the folder of a file, as the results name it.

    >>> folder_of("ward/ann/1.png"), folder_of("1.png")
    ('ward/ann', '.')
    """
    return file.rpartition("/")[0] or "."


def patient_rows(
    classifier: Classifier, rows: Iterable[Mapping[str, Any]], patients: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Combine rows of results, CSV's or JSON's, by patient; `patients`: file to patient, files of nobody are not in it.

    A scan that could not be read stands in the reason of its patient's row.
    """
    from bcx.inference.patient import Answer  # here, since it loads numpy

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
    lost = {patient: f"Could not be read: {', '.join(files)}." for patient, files in unread.items()}
    cells: list[dict[str, Any]] = []
    for patient, own in answers.items():
        if not own:
            continue
        one = classifier.combine(patient, own)
        cells.append(
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
        )
    return cells + [{"patient": name, "reason": lost[name], "scans": 0} for name, own in answers.items() if not own]


def patient_lines(cells: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> Iterator[str]:
    """Yield the table of patients as lines of CSV."""
    said = [f"p_{name}" for name in classes]
    return csv_lines(cells, ["patient", "label", "confidence", "decision", *said, "reason", "scans", "files"])
