"""One answer for the scans of one patient or lesion, from the answers to each, and the table of patients.

The scans' probabilities are averaged as logarithms and scaled to sum to 1 (the mean of the networks' logits), and the
model's rule of decision is applied. It is "refer" where one scan alone is answered with a more harmful class, or is
referred for what no probability shows (a damaged file, an image unlike the training data, a place that looks like a
lesion), and "not a scan" where none is a scan. Images that are none do not count. Why: docs/explanation/patients.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from bcx.errors import ConfigError
from bcx.inference.table import csv_lines
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction
    from bcx.trust.rule import Decider

#: What tells whose a scan is, beside a table: its folder, or its DICOM study.
FOLDER, STUDY = "folder", "study"
_LEAST = 1e-6  # what tables round a probability to


class Answer(NamedTuple):
    """What a patient's answer needs of one scan; the attributes as in `Prediction`."""

    name: str
    decision: str
    reason: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True)
class PatientAnswer:
    """The combined answer."""

    patient: str
    label: str  # the class by the rule; where the decision is "refer", what it would be
    confidence: float  # its probability, 0..1
    probabilities: dict[str, float]  # by class, summing to 1
    decision: str  # the label, "refer", or "not a scan"
    reason: str  # why it is not the label; "" where it is
    scans: tuple[str, ...]  # names of those that count
    left_out: tuple[str, ...]  # names of images that are none


def combine(patient: str, answers: Sequence[Answer | Prediction], decider: Decider, task: Task) -> PatientAnswer:
    """Combine one model's answers to one patient's scans, at least one, by that model's decider."""
    if not answers:
        found, remedy = f"There are no scans of '{patient}'.", "Name a patient with scans."
        raise ConfigError(found, expected="one or more", remedy=remedy)
    import numpy as np  # here, since the command line, which uses this module, starts without it

    def row(each: Answer | Prediction) -> list[float]:
        return [each.probabilities[name] for name in task.classes]

    scans = [each for each in answers if each.decision != NOT_A_SCAN]
    logs = np.log(np.maximum([row(each) for each in scans or answers], _LEAST)).mean(axis=0)
    mean = np.exp(logs - logs.max())
    mean /= mean.sum()
    winner, reason = decider.decide(mean)
    label = task.classes[winner]
    decision = REFER if reason else label
    harm = dict.fromkeys(task.classes, 1) | {task.absent: 0, task.positive: 2}
    graver = [each for each in scans if harm.get(each.decision, -1) > harm[label]]
    doubtful = [
        each for each in scans if each.decision == REFER and each.reason != decider.decide(np.array(row(each)))[1]
    ]
    if not scans:
        decision, reason = NOT_A_SCAN, "None of the pictures is a scan."
    elif graver and not reason:
        decision, reason = REFER, f"Together {label}, but {graver[0].name} alone is answered {graver[0].decision}."
    elif doubtful and not reason:
        decision, reason = REFER, f"{doubtful[0].name}: {doubtful[0].reason}"
    probabilities = dict(zip(task.classes, mean.tolist(), strict=True))
    counted = tuple(each.name for each in scans)
    left_out = tuple(each.name for each in answers if each.decision == NOT_A_SCAN)
    return PatientAnswer(patient, label, probabilities[label], probabilities, decision, reason, counted, left_out)


def folder_of(file: str) -> str:
    """Return the folder of a file, as the results name it."""
    return file.rpartition("/")[0] or "."


def patient_rows(
    classifier: Classifier, rows: Iterable[Mapping[str, Any]], patients: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Combine rows of results, CSV's or JSON's, by patient; `patients`: file to patient, files of nobody are not in it.

    A scan that could not be read stands in the reason of its patient's row.
    """
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
    combined = [classifier.combine(patient, own) for patient, own in answers.items() if own]
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
    return cells + [{"patient": name, "reason": lost[name], "scans": 0} for name, own in answers.items() if not own]


def patient_lines(cells: Iterable[Mapping[str, Any]], classes: Sequence[str]) -> Iterator[str]:
    """Yield the table of patients as lines of CSV."""
    said = [f"p_{name}" for name in classes]
    return csv_lines(cells, ["patient", "label", "confidence", "decision", *said, "reason", "scans", "files"])
