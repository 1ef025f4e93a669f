"""Curves with bands from the bootstrap over groups: ROC, precision-recall, reliability, net benefit, referral."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate.intervals import FOR_CURVES, bootstrap_intervals, figures_with_intervals
from bcx.evaluate.metrics import (
    ECE_BINS,
    equal_mass_bins,
    figure_names,
    net_benefit,
    or_none,
    ranked_auc,
    ranked_precision,
    weighted_figures,
)
from bcx.trust.calibration import check_lengths
from bcx.trust.decisions import risk_coverage

GRID = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.01, 0.60, 60)
"""Probabilities at which somebody might act. Above them nobody would wait."""
COVERAGES = np.linspace(0.05, 1.0, 96)
_DIGITS = 5


@dataclass(frozen=True)
class Band:
    """A curve as scikit-learn gives it, its pointwise 95 % band on an even grid, and the area under it.

    Precision begins at the first threshold that finds anything; `base` is the share of positive scans, the precision of
    a guess. nan where a bound has no value.
    """

    line_x: np.ndarray
    line_y: np.ndarray
    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: float
    area_low: float
    area_high: float
    base: float


def curve_band(
    kind: Literal["roc", "pr"],
    score: np.ndarray,
    positive: np.ndarray,
    groups: Sequence | np.ndarray,
    n_resamples: int = FOR_CURVES,
    seed: int = 0,
) -> Band:
    """Return a curve and its band, that of y at each x.

    ROC: x the share of false alarms, y the sensitivity. Precision-recall: x the recall, y the precision of the highest
    threshold that reaches it, so the curve is a staircase, and the area under it is the average precision.

    Raises:
        DataError: shapes that do not fit, or scans of one kind only.
    """
    score, positive = np.asarray(score, np.float64), np.asarray(positive, bool)
    check_lengths(scores=score, positive=positive, groups=groups)
    if positive.all() or not positive.any():
        raise DataError(
            f"{int(positive.sum())} of {len(positive)} scans are positive.",
            expected="scans of both kinds",
            remedy="Leave out classes that these scans do not have.",
        )
    if kind == "roc":
        x, y, _ = sk.roc_curve(positive, score, drop_intermediate=False)
        area = ranked_auc(score, positive)
    else:
        precision, recall, _ = sk.precision_recall_curve(positive, score)
        # from the first threshold that finds anything: before it there is no precision worth the name
        some = recall[::-1] > 0
        x, y = np.append(0.0, recall[::-1][some]), np.append(np.nan, precision[::-1][some])
        y[0] = y[1]
        area = ranked_precision(score, positive)
    values, position = np.unique(-score, return_inverse=True)

    def cumulated(weights: np.ndarray) -> np.ndarray:
        """What is found, or a false alarm, [K + 1], as the threshold falls."""
        return np.append(0.0, np.cumsum(np.bincount(position, weights, len(values))))

    def figures(weights: np.ndarray) -> np.ndarray:
        found, alarms = cumulated(weights * positive), cumulated(weights * ~positive)
        if not found[-1] or (kind == "roc" and not alarms[-1]):
            return np.full(len(GRID) + 1, np.nan)
        if kind == "roc":
            return np.append(np.interp(GRID, alarms / alarms[-1], found / found[-1]), area(weights))
        # a recall of 0 is reached by the first threshold that finds anything
        first = np.searchsorted(found, np.maximum(GRID, 1e-9) * found[-1] * (1 - 1e-12))
        return np.append(found[first] / (found[first] + alarms[first]), area(weights))

    low, high = bootstrap_intervals(figures, groups, n_resamples, seed)
    whole = float(area(np.ones(len(score))))
    return Band(x, y, GRID, low[:-1], high[:-1], whole, float(low[-1]), float(high[-1]), float(positive.mean()))


def reliability_table(
    confidence: np.ndarray, happened: np.ndarray, groups: Sequence | np.ndarray, bins: int = ECE_BINS
) -> list[dict[str, float | int | None]]:
    """Return how often what was given a probability happened, in at most `bins` bins of equal mass, ready for JSON.

    The mean over the rows of |right - confidence|, weighted by n, is `calibration_error`. Scans of equal confidence
    share a bin; bins stay as they are in the resamples.

    Args:
        confidence: float [N], 0..1: the probability of the predicted class, or of any one class.
        happened: bool [N]: whether the prediction was right, or the scan is of that class.
    """
    confidence, happened = np.asarray(confidence, np.float64), np.asarray(happened, bool)
    check_lengths(confidence=confidence, happened=happened, groups=groups)
    _, where = np.unique(equal_mass_bins(confidence, bins), return_inverse=True)
    count = int(where.max()) + 1

    def shares(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.bincount(where, weights * happened, count) / np.bincount(where, weights, count)

    low, high = bootstrap_intervals(shares, groups, FOR_CURVES)
    rows: list[dict[str, float | int | None]] = []
    for b, right in enumerate(shares(np.ones(len(groups)))):
        inside = confidence[where == b]
        rows.append(
            {
                "n": len(inside),
                "from": float(inside.min()),
                "to": float(inside.max()),
                "confidence": float(inside.mean()),
                "right": float(right),
                "low": or_none(low[b]),
                "high": or_none(high[b]),
            }
        )
    return rows


def reliability_report(
    answers: Mapping[str, np.ndarray], labels: np.ndarray, groups: Sequence | np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return how far probabilities, float [N, C] by name, can be believed: before and after scaling, say.

    Returns:
        name -> {"log_loss", "brier", "ece": {"value", "low", "high", "n"}, "bins": rows of `reliability_table`}.
    """
    labels = np.asarray(labels)
    report: dict[str, dict[str, Any]] = {}
    for name, probabilities in answers.items():
        figures = weighted_figures(labels, probabilities)
        names = figure_names([str(c) for c in range(probabilities.shape[1])])
        wanted = dict.fromkeys(("log_loss", "brier", "ece"), len(labels))
        chosen = [names.index(figure) for figure in wanted]
        # bound here: the next name has figures of its own
        report[name] = figures_with_intervals(lambda w, f=figures, c=chosen: f(w)[c], wanted, groups)  # type: ignore[misc]
        right = probabilities.argmax(axis=1) == labels
        report[name]["bins"] = reliability_table(probabilities.max(axis=1), right, groups)
    return report


def decision_curve(probability: np.ndarray, positive: np.ndarray, groups: Sequence | np.ndarray) -> dict[str, list]:
    """Return the net benefit of acting where the positive class has at least some probability, over such probabilities.

    `on_all` is that of acting on every scan; acting on none has 0. Ready for JSON.
    """
    probability, positive = np.asarray(probability, np.float64), np.asarray(positive, bool)
    values = [net_benefit(probability, positive, t) for t in THRESHOLDS]
    on_all = [net_benefit(np.ones(len(positive)), positive, t) for t in THRESHOLDS]
    # net benefit is a sum over scans, so that all resamples are products with one table [K, N]
    odds = (THRESHOLDS / (1 - THRESHOLDS))[:, None]
    gain = (probability >= THRESHOLDS[:, None]) * np.where(positive, 1.0, -odds)
    low, high = bootstrap_intervals(lambda w: gain @ w / w.sum(), groups, FOR_CURVES)
    return _lists(threshold=THRESHOLDS, net_benefit=values, low=low, high=high, on_all=on_all)


def referral_curve(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, chosen: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the share of wrong answers when only the surest share of scans is answered and the rest is referred.

    The area under it is the mean risk over all coverages, lower is better; each of `COVERAGES` is reached by the first
    threshold that answers at least so many. `chosen`: the answers; None: the most probable class. Ready for JSON.
    """
    right = (np.asarray(probabilities).argmax(axis=1) if chosen is None else chosen) == np.asarray(labels)
    sure = np.asarray(probabilities, np.float64).max(axis=1)

    def risks(weights: np.ndarray) -> np.ndarray:
        _, coverage, risk = risk_coverage(sure, right, weights)
        at = np.searchsorted(coverage, COVERAGES * (1 - 1e-12))
        return np.append(risk[at], (risk * np.diff(coverage, prepend=0)).sum())

    values = risks(np.ones(len(right)))
    low, high = bootstrap_intervals(risks, groups, FOR_CURVES)
    area = {"value": float(values[-1]), "low": or_none(low[-1]), "high": or_none(high[-1])}
    return {"area": area} | _lists(answered=COVERAGES, wrong=values[:-1], low=low[:-1], high=high[:-1])


def _lists(**columns: np.ndarray | list[float]) -> dict[str, list[float | None]]:
    return {
        name: [round(float(value), _DIGITS) if np.isfinite(value) else None for value in values]
        for name, values in columns.items()
    }
