"""Curves with bands from the bootstrap over groups: ROC, precision-recall, reliability, net benefit, referral."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bcx.errors import DataError
from bcx.evaluate.intervals import FOR_CURVES, bootstrap_intervals, report_with_intervals
from bcx.evaluate.metrics import equal_mass_bins, or_none, ranked_auc, ranked_precision
from bcx.trust.calibration import check_lengths
from bcx.trust.decisions import risk_coverage

GRID = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.01, 0.60, 60)  # at which somebody might act; above them nobody would wait
COVERAGES = np.linspace(0.05, 1.0, 96)


class Band(NamedTuple):
    """A curve as scikit-learn gives it, its pointwise 95 % band on an even grid, and the area {value, low, high}.

    Precision begins at the first threshold that finds anything. nan where a bound of the band has no value.
    """

    line_x: np.ndarray
    line_y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    area: dict[str, float]


def curve_band(kind: str, score: np.ndarray, positive: np.ndarray, groups: Sequence | np.ndarray) -> Band:
    """Return a curve and its band, that of y at each x of `GRID`.

    ROC: x the share of false alarms, y the sensitivity. Precision-recall: x the recall, y the precision of the highest
    threshold that reaches it, so the curve is a staircase, and the area under it is the average precision. `DataError`
    for shapes that do not fit, or scans of one kind only.
    """
    score, positive = np.asarray(score, np.float64), np.asarray(positive, bool)
    check_lengths(scores=score, positive=positive, groups=groups)
    if positive.all() or not positive.any():
        raise DataError(
            f"{int(positive.sum())} of {len(positive)} scans are positive.",
            expected="scans of both kinds",
            remedy="Leave out classes that these scans do not have.",
        )
    values, position = np.unique(-score, return_inverse=True)
    area = (ranked_auc if kind == "roc" else ranked_precision)(score, positive)

    def curve(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        each = [np.bincount(position, weights * of, len(values)) for of in (positive, ~positive)]
        found, alarms = (np.append(0.0, np.cumsum(counts)) for counts in each)
        if kind == "roc":
            return alarms / alarms[-1], found / found[-1]
        # From the first threshold that finds anything: before it there is no precision worth the name.
        precision = found[found > 0] / (found + alarms)[found > 0]
        return np.append(0.0, found[found > 0] / found[-1]), np.append(precision[0], precision)

    def figures(weights: np.ndarray) -> np.ndarray:
        if not weights[positive].any() or (kind == "roc" and not weights[~positive].any()):
            return np.full(len(GRID) + 1, np.nan)
        x, y = curve(weights)
        at = np.interp(GRID, x, y) if kind == "roc" else y[np.searchsorted(x, GRID * (1 - 1e-12))]
        return np.append(at, area(weights))

    low, high = bootstrap_intervals(figures, groups, FOR_CURVES)
    whole = {"value": area(np.ones(len(score))), "low": float(low[-1]), "high": float(high[-1])}
    return Band(*curve(np.ones(len(score))), low[:-1], high[:-1], whole)


def reliability_table(
    confidence: np.ndarray, happened: np.ndarray, groups: Sequence | np.ndarray
) -> list[dict[str, float | int | None]]:
    """Return how often what was given a probability happened, in at most `ECE_BINS` bins of equal mass, for JSON.

    The mean over the rows of |right - confidence|, weighted by n, is `calibration_error`; bins stay as they are in the
    resamples. `confidence` is float [N], 0..1, of the predicted class; `happened` bool [N].
    """
    check_lengths(confidence=confidence, happened=happened, groups=groups)
    _, where = np.unique(equal_mass_bins(confidence), return_inverse=True)
    count = int(where.max()) + 1

    def shares(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.bincount(where, weights * happened, count) / np.bincount(where, weights, count)

    low, high = bootstrap_intervals(shares, groups, FOR_CURVES)
    bins = [confidence[where == b] for b in range(count)]
    return [
        {
            "n": len(inside),
            **{"from": float(inside.min()), "to": float(inside.max()), "confidence": float(inside.mean())},
            **{"right": float(right), "low": or_none(lowest), "high": or_none(highest)},
        }
        for inside, right, lowest, highest in zip(bins, shares(np.ones(len(groups))), low, high, strict=True)
    ]


def reliability_report(
    answers: Mapping[str, np.ndarray], labels: np.ndarray, groups: Sequence | np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return how far probabilities, float [N, C] by name, can be believed: before and after scaling, say.

    Returns:
        name -> {"log_loss", "brier", "ece": {"value", "low", "high", "n"}, "bins": rows of `reliability_table`}.
    """
    report: dict[str, dict[str, Any]] = {}
    for name, probabilities in answers.items():
        classes = [str(c) for c in range(probabilities.shape[1])]
        report[name] = report_with_intervals(labels, probabilities, groups, classes, ("log_loss", "brier", "ece"))
        right = probabilities.argmax(axis=1) == labels
        report[name]["bins"] = reliability_table(probabilities.max(axis=1), right, groups)
    return report


def decision_curve(probability: np.ndarray, positive: np.ndarray, groups: Sequence | np.ndarray) -> dict[str, list]:
    """Return the net benefit of acting where the positive class has at least some probability, over such probabilities.

    True positives less false positives, each false one counting threshold / (1 - threshold), per scan (Vickers and
    Elkin, "Decision curve analysis", Medical Decision Making 2006). `on_all` is that of acting on every scan; acting on
    none has 0. Ready for JSON.
    """
    # a sum over scans, so that all resamples are products with one table [K, N]
    worth = np.where(positive, 1.0, -(THRESHOLDS / (1 - THRESHOLDS))[:, None])
    gain = (probability >= THRESHOLDS[:, None]) * worth
    low, high = bootstrap_intervals(lambda w: gain @ w / w.sum(), groups, FOR_CURVES)
    values = gain.mean(axis=1)
    return _lists(threshold=THRESHOLDS, net_benefit=values, low=low, high=high, on_all=worth.mean(axis=1))


def referral_curve(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, chosen: np.ndarray | None = None
) -> dict[str, Any]:
    """Return the share of wrong answers when only the surest share of scans is answered and the rest is referred.

    The area under it is the mean risk over all coverages, lower is better; each of `COVERAGES` is reached by the first
    threshold that answers at least so many. `chosen`: the answers; None: the most probable class. Ready for JSON.
    """
    right = (probabilities.argmax(axis=1) if chosen is None else chosen) == labels
    sure = probabilities.max(axis=1)

    def risks(weights: np.ndarray) -> np.ndarray:
        _, coverage, risk = risk_coverage(sure, right, weights)
        at = np.searchsorted(coverage, COVERAGES * (1 - 1e-12))
        return np.append(risk[at], (risk * np.diff(coverage, prepend=0)).sum())

    values = risks(np.ones(len(right)))
    low, high = bootstrap_intervals(risks, groups, FOR_CURVES)
    area = {"value": float(values[-1]), "low": or_none(low[-1]), "high": or_none(high[-1])}
    return {"area": area} | _lists(answered=COVERAGES, wrong=values[:-1], low=low[:-1], high=high[:-1])


def _lists(**columns: np.ndarray) -> dict[str, list[float | None]]:
    return {name: [or_none(value) for value in values.round(5).tolist()] for name, values in columns.items()}
