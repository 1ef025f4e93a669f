"""ROC and precision-recall curves with bands from the bootstrap over groups.

>>> import numpy as np
>>> band = curve_band("roc", np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]), list("abcd"))
>>> band.area, band.line_x.tolist(), band.line_y.tolist()
(0.75, [0.0, 0.0, 0.5, 0.5, 1.0], [0.0, 0.5, 0.5, 1.0, 1.0])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate.intervals import bootstrap_intervals
from bcx.evaluate.metrics import ranked_auc, ranked_precision

RESAMPLES = 500
"""Enough for a band as a picture shows it; figures in tables take more."""
GRID = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Band:
    """A curve, and its pointwise 95 % band.

    Attributes:
        line_x, line_y: float64 [K], the curve as scikit-learn gives it, K depending on the scores; precision begins at
            the first threshold that finds anything.
        x, low, high: float64 [M], the band on an even grid; nan where a bound has no value.
        area: under the curve (ROC-AUC, or average precision).
        area_low, area_high: its interval.
        base: share of positive scans, the precision of a guess.
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
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> Band:
    """Return a curve and its band, that of y at each x.

    ROC: x the share of false alarms, y the sensitivity. Precision-recall: x the recall, y the precision of the highest
    threshold that reaches it, so the curve is a staircase, and the area under it is the average precision.

    Args:
        score: float [N], higher for positive.
        positive: bool [N], with scans of both kinds.
        groups: [N].

    Raises:
        DataError: shapes that do not fit, or scans of one kind only.
    """
    score, positive = _both_kinds(score, positive, groups)
    cumulated = _cumulated(score, positive)
    if kind == "roc":
        x, y, _ = sk.roc_curve(positive, score, drop_intermediate=False)
        area = ranked_auc(score, positive)
    else:
        precision, recall, _ = sk.precision_recall_curve(positive, score)
        # from the first threshold that finds anything: before it there is no precision worth the name
        some = recall[::-1] > 0
        x, y = (np.concatenate([first, line[::-1][some]]) for first, line in (([0.0], recall), ([np.nan], precision)))
        y[0] = y[1]
        area = ranked_precision(score, positive)

    def figures(weights: np.ndarray) -> np.ndarray:
        found, alarms = cumulated(weights)
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


def _cumulated(score: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from weights to what is found and what is false alarm, [K + 1], as the threshold falls."""
    values, position = np.unique(-score, return_inverse=True)

    def cumulated(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        counts = (np.bincount(position, weights * of, len(values)) for of in (positive, ~positive))
        found, alarms = (np.concatenate([[0.0], np.cumsum(count)]) for count in counts)
        return found, alarms

    return cumulated


def _both_kinds(
    score: np.ndarray, positive: np.ndarray, groups: Sequence | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    score, positive = np.asarray(score, np.float64), np.asarray(positive, bool)
    if score.ndim != 1 or not score.shape == positive.shape == (len(groups),) or positive.all() or not positive.any():
        raise DataError(
            f"Scores {score.shape} came with {int(positive.sum())} positive of {positive.size} scans and {len(groups)} "
            "groups.",
            expected="one score and one group per scan, and scans of both kinds",
            remedy="Leave out classes that these scans do not have.",
        )
    return score, positive
