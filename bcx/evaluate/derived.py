"""Everything in results.json that follows from the out-of-fold table alone, so that anybody can derive it again.

Curves are kept as numbers, so that a card, a page and a figure show the same ones.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.busi import busi_rows
from bcx.evaluate.decisions import Curve, cross_fitted, decision_curve, referral_curve, reliability_report
from bcx.evaluate.metrics import classification_report
from bcx.evaluate.oof import label_positions, summarise_oof, view_logits
from bcx.evaluate.operating import decide_folds, has_decisions, summarise_decisions
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature, fit_temperature

DERIVED = (
    *("temperature", "n", "groups", "one_view", "two_views", "report", "folds", "without", "sources"),
    *("decisions", "uncalibrated", "reliability", "risk_coverage", "decision_curve"),
)
"""The keys of results.json that come from the table; all others say what was run."""

#: `protocol` in results.json where every fold is a hospital that its networks never saw.
BY_HOSPITAL = "hospitals left out"

_DIGITS = 5


def derive(frame: pd.DataFrame, task: Task, leave_out: Mapping[str, Collection[str]] | None = None) -> dict[str, Any]:
    """Return all figures of a cross-validation, ready for JSON.

    Args:
        frame: see `bcx.evaluate.oof`.
        leave_out: names of figures given once more without the files listed (see `summarise_oof`).

    Returns:
        What `summarise_oof` gives, at the temperature fitted here; `uncalibrated` (the report without it);
        `decisions` (see `summarise_decisions`) where the task and the labels allow; and per source:

        * `reliability`: scaling ("none", "temperature", "vector") -> log_loss, brier, ece and bins, each fold scaled by
          what was fitted on the others; where there is one fold only, "none" alone;
        * `risk_coverage`: `area`, and the curve as lists `answered`, `wrong`, `low`, `high`; the answers are the labels
          at the operating point, each fold decided by the others' thresholds, where there are `decisions`;
        * `decision_curve`: `threshold`, `net_benefit`, `low`, `high`, `on_all`, for the task's positive class.

    Raises:
        DataError: the table is damaged.
    """
    logits, labels = view_logits(frame, task)[0], label_positions(frame, task)
    temperature = fit_temperature(logits, labels)
    found = summarise_oof(frame, task, temperature, leave_out)
    chosen = None
    if has_decisions(frame, task):
        found["decisions"] = summarise_decisions(frame, task, temperature)
        chosen = decide_folds(frame, task, temperature)[0]
    found["uncalibrated"] = classification_report(labels, apply_temperature(logits), task.classes)
    probabilities = apply_temperature(logits, temperature)
    folds, groups = frame["fold"].to_numpy(), frame["group"].to_numpy(str)
    scalings = ("none", "temperature", "vector") if len(np.unique(folds)) > 1 else ("none",)
    scaled = {name: cross_fitted(logits, labels, folds, name) for name in scalings if len(scalings) > 1}
    scaled = scaled or {"none": apply_temperature(logits)}
    positive = task.classes.index(task.positive)
    parts: dict[str, dict[str, Any]] = {"reliability": {}, "risk_coverage": {}, "decision_curve": {}}
    for source in sorted(set(frame["source"].tolist())):
        rows = (frame["source"] == source).to_numpy()
        part = probabilities[rows], labels[rows], groups[rows]
        answers = {name: values[rows] for name, values in scaled.items()}
        parts["reliability"][source] = _rounded(reliability_report(answers, labels[rows], groups[rows]))
        curve, area = referral_curve(*part, chosen=None if chosen is None else chosen[rows])
        parts["risk_coverage"][source] = {"area": area} | _lists(curve, "answered", "wrong")
        if (part[1] == positive).any():
            benefit, on_all = decision_curve(part[0][:, positive], part[1] == positive, part[2])
            drawn = _lists(benefit, "threshold", "net_benefit") | {"on_all": _list(on_all)}
            parts["decision_curve"][source] = drawn
    return found | parts


def noted_scans(keys: Iterable[str]) -> dict[str, list[str]] | None:
    """Return {"axilla": BUSI's scans of the armpit among `keys`}, without which figures are given once more.

    Returns:
        None where there is none of them.
    """
    noted = {f"busi/{row.file}" for row in busi_rows() if row.note == "axilla"}
    found = [key for key in keys if key in noted]
    return {"axilla": found} if found else None


def stored_curve(values: Mapping[str, Any], x: str, y: str) -> Curve:
    """Return a curve that `derive` wrote; a bound without a value is nan."""
    return Curve(*(np.array(values[name], dtype=np.float64) for name in (x, y, "low", "high")))


def _lists(curve: Curve, x: str, y: str) -> dict[str, list[float | None]]:
    return {x: _list(curve.x), y: _list(curve.y), "low": _list(curve.low), "high": _list(curve.high)}


def _list(values: np.ndarray) -> list[float | None]:
    return [round(float(value), _DIGITS) if np.isfinite(value) else None for value in values]


def _rounded(report: Any) -> Any:
    """The same with every number cut to what a curve needs: the bins' ends are no figures of their own."""
    if isinstance(report, dict):
        return {key: _rounded(value) for key, value in report.items()}
    if isinstance(report, list):
        return [_rounded(value) for value in report]
    return round(report, _DIGITS) if isinstance(report, float) else report
