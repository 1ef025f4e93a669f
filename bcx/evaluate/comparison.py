"""Is A better than B? Paired bootstrap over groups for any figure, and DeLong's test for two ROC curves.

Both models answered the same scans, so their errors go together and the difference is known better than either
figure: each resample draws groups once and scores both models on them.

E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 1988. X. Sun and W. Xu, "Fast implementation of DeLong's algorithm",
IEEE Signal Processing Letters 2014. A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bcx.errors import DataError
from bcx.evaluate.intervals import LEVEL, RESAMPLES, percentiles, resample_weights
from bcx.evaluate.metrics import figure_names, weighted_figures
from bcx.trust.calibration import check_lengths


@dataclass(frozen=True)
class Difference:
    """How much higher a figure is for A than for B, on the same n scans, with the 95 % interval of the difference.

    `p_value` is two-sided, of no difference; `groups` those that were drawn, n for DeLong's test, which takes scans as
    independent; `method` "paired bootstrap over groups" or "DeLong".
    """

    value_a: float
    value_b: float
    value: float
    low: float
    high: float
    p_value: float
    n: int
    groups: int
    method: str

    @property
    def significant(self) -> bool:
        """Whether "no difference" lies outside the 95 % interval."""
        return bool(self.low > 0 or self.high < 0)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, and `significant`, ready for JSON; None for what has no value."""
        values = asdict(self) | {"significant": self.significant}
        return {name: None if value != value else value for name, value in values.items()}


def compare_answers(
    labels: np.ndarray,
    probabilities_a: np.ndarray,
    probabilities_b: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: Sequence[str],
    names: Collection[str] | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Difference]:
    """Return the difference of two models in each figure of `report_with_intervals`, all from the same resamples.

    Where many figures or models are compared, some differences look real by chance: name the one that decides
    beforehand. log_loss, brier and ece are better when lower.

    Args:
        probabilities_a, probabilities_b: float [N, C], of the same scans in the same order.
        names: of the figures wanted; None: all of `figure_names`.
    """
    check_lengths(labels=labels, groups=groups)
    known = figure_names(classes)
    wanted = known if names is None else list(names)
    chosen = [known.index(name) for name in wanted]
    of_a, of_b = (weighted_figures(labels, p) for p in (probabilities_a, probabilities_b))

    def both(weights: np.ndarray) -> np.ndarray:
        return np.stack([of_a(weights)[chosen], of_b(weights)[chosen]])

    return dict(zip(wanted, paired_bootstrap(both, groups, n_resamples, seed), strict=True))


def delong(scores_a: np.ndarray, scores_b: np.ndarray, positive: np.ndarray) -> Difference:
    """Compare the areas under two ROC curves of the same scans by DeLong's test (normal approximation).

    It takes scans as independent. Where several belong to one patient its interval is too narrow: prefer
    `paired_bootstrap` there, and give this one for comparison with published figures. Scores that order the scans alike
    have no difference, an interval of no width and a p-value of 1. Arguments and errors as `delong_covariance`.
    """
    from scipy.stats import norm

    areas, covariance = delong_covariance([scores_a, scores_b], positive)
    value = float(areas[0] - areas[1])
    spread = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    half = float(norm.ppf((1 + LEVEL) / 2)) * spread
    p_value = float(2 * norm.sf(abs(value) / spread)) if spread > 0 else float(value == 0)
    n = len(np.asarray(positive))
    return Difference(float(areas[0]), float(areas[1]), value, value - half, value + half, p_value, n, n, "DeLong")


def delong_covariance(scores: Sequence[np.ndarray], positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return K areas under ROC curves, float64 [K], and their covariance, float64 [K, K] (Sun and Xu 2014).

    Raises:
        DataError: shapes that do not fit, or fewer than two scans of a kind.
    """
    from scipy.stats import rankdata

    rows, positive = np.atleast_2d(np.asarray(scores, np.float64)), np.asarray(positive, bool)
    if rows.ndim != 2 or positive.shape != rows.shape[1:] or min(positive.sum(), (~positive).sum()) < 2:
        raise DataError(
            f"Scores {rows.shape} came with {int(positive.sum())} positive and {int((~positive).sum())} other scans.",
            expected="one score per scan, and at least two scans of each kind",
            remedy="Compare the models on scans of both kinds.",
        )
    ill, well = int(positive.sum()), int((~positive).sum())
    # A positive scan's rank among all, less its rank among its kind, counts the negatives below it (ties half).
    ranks = rankdata(rows, axis=1)
    above = (ranks[:, positive] - rankdata(rows[:, positive], axis=1)) / well
    below = 1 - (ranks[:, ~positive] - rankdata(rows[:, ~positive], axis=1)) / ill
    return above.mean(axis=1), np.atleast_2d(np.cov(above) / ill + np.cov(below) / well)


def paired_bootstrap(
    both: Callable[[np.ndarray], np.ndarray],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Difference]:
    """Compare K figures of two models by resampling whole groups, the same ones for both.

    The p-value is twice the smaller share of resamples in which the difference is not above, or not below, nought, with
    one added to count and total (Davison and Hinkley 1997), so it is never below 2 / (n_resamples + 1). Interval and
    p-value are nan with fewer than two groups or when more than half of the resamples have no value.

    `both` gives the figures of A and of B, float64 [2, K], from weights, float64 [N].
    """
    n, count = len(groups), len(np.unique(np.asarray(groups)))
    first, second = both(np.ones(n))
    drawn = np.full((1, len(first)), np.nan)
    if count > 1:
        drawn = np.stack([np.subtract(*both(weights)) for weights in resample_weights(groups, n_resamples, seed)])
    found = []
    for a, b, low, high, column in zip(first, second, *percentiles(drawn), drawn.T, strict=True):
        known = column[np.isfinite(column)]
        p_value = float("nan")
        if np.isfinite(low) and np.isfinite(a - b):
            p_value = min(1.0, 2 * (int(min((known <= 0).sum(), (known >= 0).sum())) + 1) / (len(known) + 1))
        else:
            low = high = p_value
        value_a, value_b, low, high = float(a), float(b), float(low), float(high)
        method = "paired bootstrap over groups"
        found.append(Difference(value_a, value_b, value_a - value_b, low, high, p_value, n, count, method))
    return found
