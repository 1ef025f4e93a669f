"""What one answer per patient is worth beside one per scan, on patients with several scans of one lesion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bcx.errors import DataError
from bcx.evaluate.derived import harm_figures
from bcx.evaluate.intervals import figures_with_intervals
from bcx.evaluate.metrics import REFERRED, ranked_auc
from bcx.evaluate.oof import label_positions, logits_of
from bcx.inference.patient import Answer, combine
from bcx.studies.corruptions import lesion_score
from bcx.studies.decisions import Elsewhere, calibration_figures
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature
from bcx.trust.claims import REFER
from bcx.trust.rule import Decider


def patients_table(
    sources: Sequence[str],
    elsewhere: Mapping[str, Elsewhere],
    at_home: pd.DataFrame | None,
    task: Task,
    temperature: float,
    rule: Mapping[str, Any],
) -> dict[str, Any]:
    """Return `table`, `patients_study`'s figures per source and place ("elsewhere", or "home": out of fold).

    Sources are hospitals whose groups are patients; the answers as `bcx.studies.decisions.decisions_study` has them.
    No answers to a source are a `DataError`.
    """
    rows = []
    for source in sources:
        frames = {"elsewhere": elsewhere[source].frame} if source in elsewhere else {}
        if at_home is not None and (at_home["source"] == source).any():
            frames["home"] = at_home[at_home["source"] == source]
        if not frames:
            raise DataError(
                f"There are no answers to '{source}'.",
                expected=f"one of {', '.join(elsewhere)}",
                remedy="Correct the name after --patients.",
            )
        for where, frame in frames.items():
            figures = patients_study(frame, task, temperature, Decider({"rule": rule}, task))
            rows.append({"hospital": source, "where": where, **figures})
    return {"table": rows}


def patients_study(frame: pd.DataFrame, task: Task, temperature: float, decider: Decider) -> dict[str, Any]:
    """Combine the answers to each patient's scans as `bcx predict --patients` does, and score both.

    The frame's groups are patients, each with one label; those with one scan are left out.

    Returns:
        `patients`, `scans`; `auc` (positive class against other lesions: `scan`, `patient` and the paired `gain`);
        `scan` and `patient`, each the figures of `harm_figures` and `ece`, `log_loss`; intervals over patients.
    """
    frame = frame[frame.groupby("group")["file"].transform("size") > 1].reset_index(drop=True)
    scans = apply_temperature(logits_of(frame, task), temperature).astype(float)
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    chosen, reasons = decider.decide_rows(scans)
    codes = np.where([bool(reason) for reason in reasons], REFERRED, chosen)
    decisions = [REFER if code == REFERRED else task.classes[code] for code in codes]
    names, first, of = np.unique(groups, return_index=True, return_inverse=True)
    chances = [dict(zip(task.classes, row, strict=True)) for row in scans]
    each = list(map(Answer, frame["file"], decisions, reasons, chances))
    answers = [
        combine(name, [each[k] for k in np.flatnonzero(of == number)], decider, task)
        for number, name in enumerate(names)
    ]
    patients = np.array([list(one.probabilities.values()) for one in answers])
    combined = [REFERRED if one.decision == REFER else task.classes.index(one.decision) for one in answers]

    positive = task.classes.index(task.positive)
    by_scan = ranked_auc(lesion_score(scans, task), labels == positive)
    by_patient = ranked_auc(lesion_score(patients, task), labels[first] == positive)

    def areas(weights: np.ndarray) -> np.ndarray:
        scan, patient = by_scan(weights[of]), by_patient(weights)
        return np.array([scan, patient, patient - scan])

    counts = {"scan": len(frame), "patient": len(names), "gain": len(names)}
    return {
        "patients": len(names),
        "scans": len(frame),
        "auc": figures_with_intervals(areas, counts, names),
        "scan": harm_figures(labels, codes, groups, task) | calibration_figures(labels, scans, groups),
        "patient": harm_figures(labels[first], np.array(combined), names, task)
        | calibration_figures(labels[first], patients, names),
    }
