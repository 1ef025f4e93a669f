"""95 % intervals by the bootstrap over groups, and whether A is better than B.

Scans of one group (one lesion, one patient, near-duplicates) are not independent, so whole groups are drawn with
replacement, never single scans. A draw is a whole-number weight per scan, and every figure here is a function of
such weights, float64 [N]. Two models that answered the same scans err together: each resample scores both of them,
which tells their difference better than either figure. Draws are always the same.

A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997 (cluster and percentile bootstrap).
E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, "Comparing the areas under two or more correlated receiver
operating characteristic curves", Biometrics 1988. X. Sun and W. Xu, "Fast implementation of DeLong's algorithm",
IEEE Signal Processing Letters 2014.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bcx.evaluate.metrics import figure_counts, figure_names, or_none, weighted_figures
from bcx.trust.calibration import check_lengths

RESAMPLES, LEVEL = 1000, 0.95
FOR_CURVES = 500  # enough for a band as a figure shows it


def bootstrap_intervals(
    statistics: Callable[[np.ndarray], np.ndarray], groups: Sequence | np.ndarray, n_resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of K figures from the same resamples: low [K] and high [K], float64.

    `statistics` gives the figures from weights (how often each scan was drawn), nan where a resample leaves one without
    a value (no scan of a class). With fewer than two groups all is nan.
    """
    if len(np.unique(np.asarray(groups))) < 2:
        return percentiles(np.full((1, len(statistics(np.ones(len(groups))))), np.nan))
    return percentiles(np.stack([statistics(weights) for weights in resample_weights(groups, n_resamples)]))


def percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile intervals of K figures, low [K] and high [K], from float64 [resamples, K].

    A figure that more than half of the resamples lack has none, nan: the rest would be about other data.
    """
    known = np.isfinite(drawn).mean(axis=0) >= 0.5
    ends = np.full((2, drawn.shape[1]), np.nan)
    if known.any():
        ends[:, known] = np.nanquantile(drawn[:, known], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return ends[0], ends[1]


def resample_weights(groups: Sequence | np.ndarray, n_resamples: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield float64 [N] per resample: how often each scan's group was drawn, out of as many draws as groups."""
    names, position = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(len(names), 1 / len(names))
    for _ in range(n_resamples):
        yield rng.multinomial(len(names), share)[position].astype(np.float64)


def figures_with_intervals(
    statistics: Callable[[np.ndarray], np.ndarray], counts: Mapping[str, int], groups: Sequence | np.ndarray
) -> dict[str, dict[str, Any]]:
    """Return figures with their intervals, ready for JSON: name -> {"value", "low", "high", "n"}, None without meaning.

    `counts`: number of scans that each figure rests on, by name, in the order of `statistics`.
    """
    bounds = [statistics(np.ones(len(groups))), *bootstrap_intervals(statistics, groups)]
    triples = named_triples(counts, np.stack(bounds, axis=1))
    return {name: {**triples[name], "n": n} for name, n in counts.items()}


def named_triples(names: Iterable[str], triples: np.ndarray) -> dict[str, dict[str, float | None]]:
    """Return {name: {value, low, high}} of float [K, 3], ready for JSON: None for nan."""
    keys = ("value", "low", "high")
    return {name: dict(zip(keys, map(or_none, row), strict=True)) for name, row in zip(names, triples, strict=True)}


def report_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: Sequence[str],
    names: Collection[str] | None = None,
    said: np.ndarray | None = None,
) -> dict[str, dict]:
    """Return figures of `weighted_figures`, all without `names`, with intervals, as `figures_with_intervals`.

    A resample without any scan of a class that the labels hold has no balanced accuracy and no macro figures. The
    calibration error grows when scans repeat, so its interval leans upwards and may lie above its value.
    """
    figures = weighted_figures(labels, probabilities, said)
    check_lengths(labels=labels, groups=groups)
    counts = figure_counts(labels, classes)
    counts = counts if names is None else {name: counts[name] for name in names}
    chosen = [figure_names(classes).index(name) for name in counts]
    return figures_with_intervals(lambda weights: figures(weights)[chosen], counts, groups)


def means_with_intervals(columns: Mapping[str, Sequence | np.ndarray], groups: Sequence | np.ndarray) -> dict[str, Any]:
    """Return the mean of each column, float [N], nan where a scan has no such figure, as `figures_with_intervals`."""
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    there = np.isfinite(values)
    known = np.where(there, values, 0.0)

    def means(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ known) / (weights @ there)

    return figures_with_intervals(means, dict(zip(columns, there.sum(axis=0).tolist(), strict=True)), groups)


def _difference(
    a: float, b: float, low: float, high: float, p_value: float, n: int, groups: int, method: str
) -> dict[str, Any]:
    """How much higher a figure is for A than for B, on the same n scans, ready for JSON; None for what has no value.

    `low` and `high` are the 95 % interval of the difference, which is `significant` where they leave nought out;
    `p_value` is two-sided, of no difference; `groups` those that were drawn, n for DeLong's test.
    """
    values = {"value_a": a, "value_b": b, "value": a - b, "low": low, "high": high, "p_value": p_value}
    about = {"n": n, "groups": groups, "method": method, "significant": bool(low > 0 or high < 0)}
    return {name: or_none(value) for name, value in values.items()} | about


def compare_answers(
    labels: np.ndarray,
    probabilities_a: np.ndarray,
    probabilities_b: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: Sequence[str],
    names: Collection[str],
) -> dict[str, dict[str, Any]]:
    """Return the difference of two models in figures of `figure_names`, all from the same resamples.

    Where many are compared, some differences look real by chance: name the one that decides beforehand. log_loss, brier
    and ece are better when lower. Both probabilities, float [N, C], are of the same scans in the same order.
    """
    check_lengths(labels=labels, groups=groups)
    chosen = [figure_names(classes).index(name) for name in names]
    of_a, of_b = (weighted_figures(labels, p) for p in (probabilities_a, probabilities_b))

    def both(weights: np.ndarray) -> np.ndarray:
        return np.stack([of_a(weights)[chosen], of_b(weights)[chosen]])

    return dict(zip(names, paired_bootstrap(both, groups), strict=True))


def paired_bootstrap(both: Callable[[np.ndarray], np.ndarray], groups: Sequence | np.ndarray) -> list[dict[str, Any]]:
    """Compare K figures of two models by resampling whole groups, the same ones for both; each as `_difference`.

    `both` gives the figures of A and of B, float64 [2, K], from weights, float64 [N]. The p-value is twice the smaller
    share of resamples in which the difference is not above, or not below, nought, with one added to count and total
    (Davison and Hinkley 1997). Interval and p-value are None with fewer than two groups or when more than half of the
    resamples have no value.
    """
    n, count = len(groups), len(np.unique(np.asarray(groups)))
    first, second = both(np.ones(n))
    drawn = np.full((1, len(first)), np.nan)
    if count > 1:
        drawn = np.stack([np.subtract(*both(weights)) for weights in resample_weights(groups, RESAMPLES)])
    found = []
    for a, b, low, high, column in zip(first, second, *percentiles(drawn), drawn.T, strict=True):
        known = column[np.isfinite(column)]
        p_value = min(1.0, 2 * (min((known <= 0).sum(), (known >= 0).sum()) + 1) / (len(known) + 1))
        if not (np.isfinite(low) and np.isfinite(a - b)):
            low = high = p_value = np.nan
        found.append(_difference(a, b, low, high, p_value, n, count, "paired bootstrap over groups"))
    return found


def delong(scores_a: np.ndarray, scores_b: np.ndarray, positive: np.ndarray) -> dict[str, Any]:
    """Compare the areas under two ROC curves of the same scans, two or more of each kind, by DeLong's test.

    It takes scans as independent. Where several belong to one patient its interval is too narrow: prefer
    `paired_bootstrap` there, and give this one for comparison with published figures. Scores that order the scans alike
    have no difference, an interval of no width and a p-value of 1.
    """
    from scipy.stats import norm, rankdata

    rows, ill, well = np.array([scores_a, scores_b], np.float64), int(positive.sum()), int((~positive).sum())
    # A positive scan's rank among all, less its rank among its kind, counts the negatives below it (ties half).
    ranks = rankdata(rows, axis=1)
    above = (ranks[:, positive] - rankdata(rows[:, positive], axis=1)) / well
    below = 1 - (ranks[:, ~positive] - rankdata(rows[:, ~positive], axis=1)) / ill
    covariance = np.cov(above) / ill + np.cov(below) / well  # Sun and Xu 2014
    a, b = above.mean(axis=1).tolist()
    value = a - b
    spread = float(np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)))
    half = float(norm.ppf((1 + LEVEL) / 2)) * spread
    p_value = float(2 * norm.sf(abs(value) / spread)) if spread > 0 else float(value == 0)
    return _difference(a, b, value - half, value + half, p_value, ill + well, ill + well, "DeLong")
