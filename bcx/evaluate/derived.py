"""Everything in results.json that follows from the out-of-fold table alone, so that anybody can derive it again."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.busi import busi_rows
from bcx.errors import DataError
from bcx.evaluate.curves import decision_curve, referral_curve, reliability_report
from bcx.evaluate.intervals import report_with_intervals
from bcx.evaluate.metrics import classification_report
from bcx.evaluate.oof import checked, label_positions, logits_of, view_probabilities
from bcx.evaluate.operating import decide_folds, has_decisions, summarise_decisions
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature, apply_vector, fit_temperature, fit_vector

DERIVED = (
    *("temperature", "n", "groups", "one_view", "two_views", "report", "folds", "without", "sources"),
    *("decisions", "uncalibrated", "reliability", "risk_coverage", "decision_curve"),
)
"""The keys of results.json that come from the table; all others say what was run."""

#: `protocol` in results.json where every fold is a hospital that its networks never saw.
BY_HOSPITAL = "hospitals left out"


def derive(frame: pd.DataFrame, task: Task, leave_out: Mapping[str, Collection[str]] | None = None) -> dict[str, Any]:
    """Return all figures of a cross-validation, ready for JSON: the keys of `DERIVED`.

    `reliability` scales each fold by what was fitted on the others ("none" alone where there is one fold); the answers
    of `risk_coverage` are decided by the other folds' thresholds, where there are `decisions`.

    Raises:
        DataError: the table is damaged.
    """
    logits, labels = logits_of(frame, task), label_positions(frame, task)
    temperature = fit_temperature(logits, labels)
    found = summarise_oof(frame, task, temperature, leave_out)
    chosen = None
    if has_decisions(frame, task):
        found["decisions"] = summarise_decisions(frame, task, temperature)
        chosen = decide_folds(frame, task, temperature)[0]
    found["uncalibrated"] = classification_report(labels, apply_temperature(logits), task.classes)
    probabilities = apply_temperature(logits, temperature)
    folds, groups = frame["fold"].to_numpy(), frame["group"].to_numpy(str)
    scaled = {"none": apply_temperature(logits)}
    if len(np.unique(folds)) > 1:
        scaled |= {name: cross_fitted(logits, labels, folds, name) for name in ("temperature", "vector")}
    positive = task.classes.index(task.positive)
    parts: dict[str, dict[str, Any]] = {"reliability": {}, "risk_coverage": {}, "decision_curve": {}}
    for source in sorted(set(frame["source"].tolist())):
        rows = (frame["source"] == source).to_numpy()
        told, truth, places = probabilities[rows], labels[rows], groups[rows]
        reliability = reliability_report({name: values[rows] for name, values in scaled.items()}, truth, places)
        # Cut to what a curve needs: the bins' ends are no figures of their own.
        parts["reliability"][source] = json.loads(
            json.dumps(reliability), parse_float=lambda text: round(float(text), 5)
        )
        parts["risk_coverage"][source] = referral_curve(told, truth, places, None if chosen is None else chosen[rows])
        if (truth == positive).any():
            parts["decision_curve"][source] = decision_curve(told[:, positive], truth == positive, places)
    return found | parts


def summarise_oof(
    frame: pd.DataFrame,
    task: Task,
    temperature: float = 1.0,
    leave_out: Mapping[str, Collection[str]] | None = None,
) -> dict:
    """Return the headline figures of a cross-validation, ready for JSON.

    Two views are the mean of the probabilities of scan and mirrored scan. The figures are given once more `without` the
    files of each name in `leave_out`, and for each of the `sources` where there are several.

    Raises:
        DataError: as `read_oof`, or a name in `leave_out` that takes away all scans.
    """
    frame = checked(frame, task, "the table")
    one, two = view_probabilities(frame, task, temperature)
    labels = label_positions(frame, task)
    summary: dict = {
        "temperature": float(temperature),
        **_both_views(frame, task, temperature),
        "report": classification_report(labels, one, task.classes),
        "folds": [],
    }
    for fold in sorted(set(frame["fold"].tolist())):
        rows = (frame["fold"] == fold).to_numpy()
        single, double = (classification_report(labels[rows], view[rows], task.classes) for view in (one, two))
        summary["folds"].append(
            {
                "fold": fold,
                **{name: single[name] for name in ("n", "accuracy", "macro_auc")},
                **{f"two_views_{name}": double[name] for name in ("accuracy", "macro_auc")},
            }
        )
    if leave_out:
        rests = {name: frame[~frame["file"].isin(list(files))] for name, files in leave_out.items()}
        summary["without"] = {
            name: {"left_out": len(frame) - len(rest), **_both_views(rest, task, temperature)}
            for name, rest in rests.items()
        }
    if frame["source"].nunique() > 1:
        parts = frame.groupby("source")
        summary["sources"] = {source: _both_views(part, task, temperature) for source, part in parts}
    return summary


def _both_views(frame: pd.DataFrame, task: Task, temperature: float) -> dict:
    if frame.empty:
        raise DataError(
            "No scan is left in the out-of-fold table.",
            expected="at least one scan that is not left out",
            remedy="Check the list of files to leave out.",
        )
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    one, two = view_probabilities(frame, task, temperature)
    return {
        "n": len(frame),
        "groups": len(np.unique(groups)),
        "one_view": report_with_intervals(labels, one, groups, task.classes),
        "two_views": report_with_intervals(labels, two, groups, task.classes),
    }


def cross_fitted(logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, scaling: str) -> np.ndarray:
    """Return float64 [N, C], probabilities scaled ("temperature" or "vector") as on new scans.

    Each fold is scaled by what was fitted on the others: a scaling that is judged on the logits it was fitted on looks
    better than it is.
    """
    scaled = np.zeros(logits.shape)
    for fold in np.unique(folds):
        inside = folds == fold
        rest, answers = logits[~inside], labels[~inside]
        if scaling == "vector":
            scaled[inside] = apply_vector(logits[inside], *fit_vector(rest, answers))
        else:
            scaled[inside] = apply_temperature(logits[inside], fit_temperature(rest, answers))
    return scaled


def noted_scans(keys: Iterable[str]) -> dict[str, list[str]] | None:
    """Return {"axilla": BUSI's scans of the armpit among `keys`}, or None: figures are given once more without them."""
    noted = {f"busi/{row.file}" for row in busi_rows() if row.note == "axilla"}
    found = [key for key in keys if key in noted]
    return {"axilla": found} if found else None
