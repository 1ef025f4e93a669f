"""95 % intervals by the bootstrap over groups.

Scans of one group (one lesion, one patient, near-duplicates) are not independent, so whole groups are drawn with
replacement, never single scans. A draw is a whole-number weight per scan, and every figure here is a function of
such weights, float64 [N]. Equal seeds give equal intervals.

A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997 (cluster and percentile bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bcx.evaluate.metrics import figure_counts, or_none, weighted_figures
from bcx.trust.calibration import check_lengths

RESAMPLES = 1000
FOR_CURVES = 500
"""Enough for a band as a figure shows it."""
LEVEL = 0.95


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval, low and high, of one figure; as `bootstrap_intervals`."""
    low, high = bootstrap_intervals(lambda weights: np.array([statistic(weights)]), groups, n_resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    statistics: Callable[[np.ndarray], np.ndarray],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of K figures from the same resamples: low [K] and high [K], float64.

    `statistics` gives the figures from weights (how often each scan was drawn), nan where a resample leaves one without
    a value (no scan of a class). With fewer than two groups all is nan.
    """
    if len(np.unique(np.asarray(groups))) < 2:
        unknown = np.full(len(statistics(np.ones(len(groups)))), np.nan)
        return unknown, unknown.copy()
    return percentiles(np.stack([statistics(weights) for weights in resample_weights(groups, n_resamples, seed)]))


def percentiles(drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % percentile intervals of K figures, low [K] and high [K], from float64 [resamples, K].

    A figure that more than half of the resamples lack has none, nan: the rest would be about other data.
    """
    known = np.isfinite(drawn).mean(axis=0) >= 0.5
    low, high = np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    if known.any():
        tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
        low[known], high[known] = np.nanquantile(drawn[:, known], tails, axis=0)
    return low, high


def figures_with_intervals(
    statistics: Callable[[np.ndarray], np.ndarray],
    counts: Mapping[str, int],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return figures with their intervals, ready for JSON: name -> {"value", "low", "high", "n"}, None without meaning.

    `counts`: number of scans that each figure rests on, by name, in the order of `statistics`.
    """
    values = statistics(np.ones(len(groups)))
    low, high = bootstrap_intervals(statistics, groups, n_resamples, seed)
    return {
        name: {"value": or_none(value), "low": or_none(a), "high": or_none(b), "n": n}
        for (name, n), value, a, b in zip(counts.items(), values, low, high, strict=True)
    }


def resample_weights(groups: Sequence | np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float64 [N] per resample: how often each scan's group was drawn, out of as many draws as groups."""
    names, position = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(len(names), 1 / len(names))
    for _ in range(n_resamples):
        yield rng.multinomial(len(names), share)[position].astype(np.float64)


def report_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: Sequence[str],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict]:
    """Return the figures of `figure_names`, each with its interval, as `figures_with_intervals`.

    A resample without any scan of a class that the labels hold has no balanced accuracy and no macro figures. The
    calibration error grows when scans repeat, so its interval leans upwards and may lie above its value.
    """
    figures = weighted_figures(labels, probabilities)
    check_lengths(labels=labels, groups=groups)
    return figures_with_intervals(figures, figure_counts(labels, classes), groups, n_resamples, seed)


def means_with_intervals(columns: Mapping[str, Sequence | np.ndarray], groups: Sequence[str]) -> dict[str, Any]:
    """Return the mean of each column, float [N], nan where a scan has no such figure, as `figures_with_intervals`."""
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    there = np.isfinite(values)
    known = np.where(there, values, 0.0)

    def means(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ known) / (weights @ there)

    return figures_with_intervals(means, dict(zip(columns, there.sum(axis=0).tolist(), strict=True)), groups)
