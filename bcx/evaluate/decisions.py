"""What probabilities are worth to a person who decides: reliability, net benefit, and what referral buys.

>>> import numpy as np
>>> sure = np.array([0.6, 0.6, 0.9, 0.9, 0.9, 0.9])
>>> right = np.array([True, False, True, True, True, False])
>>> [(row["confidence"], row["right"], row["n"]) for row in reliability_table(sure, right, range(6), bins=2)]
[(0.6, 0.5, 2), (0.9, 0.75, 4)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcx.errors import DataError
from bcx.evaluate.intervals import bootstrap_intervals, figures_with_intervals
from bcx.evaluate.metrics import ECE_BINS, equal_mass_bins, figure_names, net_benefit, or_none, weighted_figures
from bcx.trust.calibration import apply_temperature, apply_vector, fit_temperature, fit_vector
from bcx.trust.referral import confidence_of, risk_coverage

RESAMPLES = 500
"""Enough for a band as a picture shows it; figures in tables take more."""
THRESHOLDS = np.linspace(0.01, 0.60, 60)
"""Probabilities at which somebody might act. Above them nobody would wait."""
COVERAGES = np.linspace(0.05, 1.0, 96)

SCALINGS = ("none", "temperature", "vector")


@dataclass(frozen=True)
class Curve:
    """A curve on a grid, with its pointwise 95 % band; all arrays float64 [K].

    Attributes:
        x: the grid.
        y: the value there.
        low, high: the band; nan where a bound has no value.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray


def reliability_table(
    confidence: np.ndarray,
    happened: np.ndarray,
    groups: Sequence | np.ndarray,
    bins: int = ECE_BINS,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[dict[str, float | int | None]]:
    """Return how often what was given a probability happened, in bins of equal mass.

    The mean over the rows of |right - confidence|, weighted by n, is `calibration_error`.

    Args:
        confidence: float [N], 0..1: the probability of the predicted class, or of any one class.
        happened: bool [N]: whether the prediction was right, or the scan is of that class.
        groups: [N].
        bins: at most this many; scans of equal confidence share one.
        n_resamples: draws for the intervals, in which the bins stay.

    Returns:
        One row per bin that holds scans, ready for JSON: n, from, to and mean of the `confidence`, `right` (the share
        that happened), low, high (its interval; None where it has none).

    Raises:
        DataError: shapes that do not fit.
    """
    confidence, happened = np.asarray(confidence, np.float64), np.asarray(happened, bool)
    if confidence.ndim != 1 or not confidence.shape == happened.shape == (len(groups),) or len(groups) == 0:
        raise DataError(
            f"Confidences {confidence.shape} came with outcomes {happened.shape} and {len(groups)} groups.",
            expected="one of each per scan",
            remedy="Give each scan its confidence, its outcome and its group.",
        )
    _, where = np.unique(equal_mass_bins(confidence, bins), return_inverse=True)
    count = int(where.max()) + 1

    def shares(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return np.bincount(where, weights * happened, count) / np.bincount(where, weights, count)

    low, high = bootstrap_intervals(shares, groups, n_resamples, seed)
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


def cross_fitted(logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, scaling: str = "temperature") -> np.ndarray:
    """Return probabilities scaled as on new scans: each fold by a scaling fitted on the other folds.

    A scaling that is fitted and judged on the same logits looks better than it is, a vector scaling more so.

    Args:
        logits: float [N, C], each answered by the network that did not see its fold.
        labels: int [N].
        folds: int [N], at least two of them.
        scaling: "none", "temperature" or "vector".

    Returns:
        float64 [N, C].

    Raises:
        DataError: as `bcx.trust.calibration.fit_temperature`, an unknown scaling, or fewer than two folds.
    """
    folds = np.asarray(folds)
    parts = np.unique(folds)
    if scaling not in SCALINGS or folds.shape != np.shape(labels) or len(parts) < 2:
        raise DataError(
            f"The scaling '{scaling}' was asked for over {len(parts)} folds.",
            expected=f"one of {', '.join(SCALINGS)}, and a fold per scan, at least two of them",
            remedy="Pass the folds of the out-of-fold table.",
        )
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    if scaling == "none":
        return apply_temperature(logits)
    scaled = np.empty_like(logits)
    for part in parts:
        held, rest = folds == part, folds != part
        if scaling == "temperature":
            scaled[held] = apply_temperature(logits[held], fit_temperature(logits[rest], labels[rest]))
        else:
            scaled[held] = apply_vector(logits[held], fit_vector(logits[rest], labels[rest]))
    return scaled


def reliability_report(
    answers: Mapping[str, np.ndarray], labels: np.ndarray, groups: Sequence | np.ndarray, bins: int = ECE_BINS
) -> dict[str, dict[str, Any]]:
    """Return how far probabilities can be believed, before and after scaling or for several models.

    Args:
        answers: name -> probabilities, float [N, C], of the same scans.
        labels: int [N].
        groups: [N].
        bins: as `reliability_table`.

    Returns:
        name -> {"log_loss", "brier", "ece": {"value", "low", "high", "n"}, "bins": rows of `reliability_table`}.

    Raises:
        DataError: shapes that do not fit, or rows that are no probabilities.
    """
    return {
        name: _reliability(probabilities, np.asarray(labels), groups, bins) for name, probabilities in answers.items()
    }


def _reliability(
    probabilities: np.ndarray, labels: np.ndarray, groups: Sequence | np.ndarray, bins: int
) -> dict[str, Any]:
    figures = weighted_figures(labels, probabilities)
    names = figure_names([str(c) for c in range(probabilities.shape[1])])
    wanted = dict.fromkeys(("log_loss", "brier", "ece"), len(labels))
    chosen = [names.index(figure) for figure in wanted]
    report: dict[str, Any] = figures_with_intervals(lambda weights: figures(weights)[chosen], wanted, groups)
    right = probabilities.argmax(axis=1) == labels
    return report | {"bins": reliability_table(probabilities.max(axis=1), right, groups, bins)}


def decision_curve(
    probability: np.ndarray,
    positive: np.ndarray,
    groups: Sequence | np.ndarray,
    thresholds: np.ndarray = THRESHOLDS,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Curve, np.ndarray]:
    """Return the net benefit of acting on the model's word, over the probabilities at which one might act.

    Args:
        probability: float [N], 0..1, of the positive class.
        positive: bool [N].
        groups: [N].
        thresholds: float [K], above 0 and below 1.

    Returns:
        The model's curve; and float64 [K], the net benefit of acting on every scan. Acting on none has 0.
    """
    probability, positive = np.asarray(probability, np.float64), np.asarray(positive, bool)
    thresholds = np.asarray(thresholds, np.float64)
    everyone = np.ones(len(positive))
    values = np.array([net_benefit(probability, positive, t) for t in thresholds])
    on_all = np.array([net_benefit(everyone, positive, t) for t in thresholds])
    # net benefit is a sum over scans, so that all resamples are products with one table [K, N]
    odds = (thresholds / (1 - thresholds))[:, None]
    gain = (probability >= thresholds[:, None]) * np.where(positive, 1.0, -odds)
    low, high = bootstrap_intervals(lambda w: gain @ w / w.sum(), groups, n_resamples, seed)
    return Curve(thresholds, values, low, high), on_all


def referral_curve(
    probabilities: np.ndarray,
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    *,
    chosen: np.ndarray | None = None,
    confidence: str = "highest",
    coverages: np.ndarray = COVERAGES,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Curve, dict[str, float | None]]:
    """Return the share of wrong answers when only the surest share of scans is answered and the rest is referred.

    Args:
        probabilities: float [N, C].
        labels: int [N].
        groups: [N].
        chosen: int [N], the answers; None: the most probable class.
        coverages: float [K], above 0 up to 1; a coverage counts as reached by the first threshold that answers at
            least so many.

    Returns:
        The curve over `coverages`; and the area under the risk-coverage curve (the mean risk over all coverages, lower
        is better) as {"value", "low", "high"}, None where a bound has no value.
    """
    sure = confidence_of(probabilities, confidence)
    answers = np.asarray(probabilities).argmax(axis=1) if chosen is None else np.asarray(chosen)
    right = answers == np.asarray(labels)

    def risks(weights: np.ndarray) -> np.ndarray:
        _, coverage, risk = risk_coverage(sure, right, weights)
        at = np.searchsorted(coverage, np.asarray(coverages) * (1 - 1e-12))
        area = (risk * np.diff(coverage, prepend=0)).sum()
        return np.append(risk[at], area)

    values = risks(np.ones(len(right)))
    low, high = bootstrap_intervals(risks, groups, n_resamples, seed)
    area = {"value": float(values[-1]), "low": or_none(low[-1]), "high": or_none(high[-1])}
    return Curve(np.asarray(coverages, np.float64), values[:-1], low[:-1], high[:-1]), area
