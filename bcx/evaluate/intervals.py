"""95 % intervals by the bootstrap over groups.

Scans of one group (one lesion, one patient, near-duplicates) are not independent, so whole groups are drawn with
replacement, never single scans. A draw is a whole-number weight per scan, and every figure here is a function of
such weights.

>>> import numpy as np
>>> right = np.array([1, 1, 1, 0, 1, 1, 0, 1])
>>> groups = ["a", "a", "b", "b", "c", "d", "e", "f"]
>>> low, high = bootstrap_interval(lambda w: float((w * right).sum() / w.sum()), groups)
>>> low < 0.75 < high
True

A. C. Davison and D. V. Hinkley, "Bootstrap Methods and their Application", 1997 (cluster and percentile bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np

from bcx.errors import DataError
from bcx.evaluate.metrics import (
    NET_BENEFIT_AT,
    calibration_error,
    check_answers,
    classification_report,
    pair_score,
)

RESAMPLES = 1000
LEVEL = 0.95

_OVERALL = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "mcc", "log_loss", "ece"),
    *("brier", "kappa", "macro_precision", "macro_specificity", "macro_pr_auc"),
)


def bootstrap_interval(
    statistic: Callable[[np.ndarray], float],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the 95 % percentile interval of `statistic` under resampling of whole groups.

    Args:
        statistic: from weights, float64 [N] (how often each scan was drawn), to one figure; nan where a resample
            leaves it without a value (no scan of a class).
        groups: [N], the group of each scan.
        n_resamples: draws; equal seeds give equal intervals.

    Returns:
        low, high. Both nan when there are fewer than two groups or when more than half of the resamples have no
        value: an interval from the rest would be about other data.
    """
    low, high = bootstrap_intervals(lambda weights: np.array([statistic(weights)]), groups, n_resamples, seed)
    return float(low[0]), float(high[0])


def bootstrap_intervals(
    statistics: Callable[[np.ndarray], np.ndarray],
    groups: Sequence | np.ndarray,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the intervals of K figures from the same resamples: low [K] and high [K], float64.

    As `bootstrap_interval`, with `statistics` from weights [N] to figures [K].
    """
    if len(np.unique(np.asarray(groups))) < 2:
        count = len(statistics(np.ones(len(groups))))
        return np.full(count, np.nan), np.full(count, np.nan)
    drawn = np.stack([statistics(weights) for weights in resample_weights(groups, n_resamples, seed)])
    known = np.isfinite(drawn).mean(axis=0) >= 0.5
    low, high = np.full(drawn.shape[1], np.nan), np.full(drawn.shape[1], np.nan)
    tails = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    if known.any():
        low[known], high[known] = np.nanquantile(drawn[:, known], tails, axis=0)
    return low, high


def resample_weights(groups: Sequence | np.ndarray, n_resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield float64 [N] per resample: how often each scan's group was drawn, out of as many draws as groups."""
    names, position = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(seed)
    share = np.full(len(names), 1 / len(names))
    for _ in range(n_resamples):
        yield rng.multinomial(len(names), share)[position].astype(np.float64)


def ranked_auc(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function from weights [N] to the area under the ROC curve; the sorting is done once.

    The area is the weighted share of (positive, negative) pairs in the right order, ties counting one half
    (Mann-Whitney U; Hanley and McNeil 1982). It equals `sklearn.metrics.roc_auc_score` with `sample_weight`.

    Args:
        scores: float [N].
        positive: bool [N].
    """
    values, position = np.unique(np.asarray(scores), return_inverse=True)
    positive = np.asarray(positive, dtype=np.float64)

    def auc(weights: np.ndarray) -> float:
        above = np.bincount(position, weights * positive, len(values))
        below = np.bincount(position, weights * (1 - positive), len(values))
        pairs = above.sum() * below.sum()
        if pairs == 0:
            return float("nan")
        return float((above * (np.cumsum(below) - below / 2)).sum() / pairs)

    return auc


def ranked_precision(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function from weights [N] to the average precision (PR-AUC); the sorting is done once.

    The mean of the precision at each threshold, weighted by the recall that it adds, without interpolation. It equals
    `sklearn.metrics.average_precision_score` with `sample_weight`.

    Args:
        scores: float [N].
        positive: bool [N].
    """
    values, position = np.unique(-np.asarray(scores), return_inverse=True)
    positive = np.asarray(positive, dtype=np.float64)

    def average_precision(weights: np.ndarray) -> float:
        found = np.bincount(position, weights * positive, len(values))
        called = np.bincount(position, weights, len(values)).cumsum()
        total = found.sum()
        if total == 0:
            return float("nan")
        # where nothing is called yet nothing is found either, whatever stands below the line
        return float((found * found.cumsum() / np.where(called > 0, called, 1)).sum() / total)

    return average_precision


def report_with_intervals(
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: Sequence | np.ndarray,
    classes: Sequence[str],
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, dict]:
    """Return the headline figures, each with its interval and the number of scans that it rests on.

    Args:
        labels: int [N], positions in `classes`.
        probabilities: float [N, C].
        groups: [N].
        classes: C names.

    Returns:
        name -> {"value", "low", "high", "n"}, where a value or bound without meaning is None (see
        `bcx.evaluate.metrics` and `bootstrap_interval`). Names: accuracy, balanced_accuracy, macro_f1, macro_auc,
        mcc, log_loss, ece, brier, kappa, macro_precision, macro_specificity, macro_pr_auc; sensitivity_<class>,
        specificity_<class>, auc_<class>, precision_<class>, f1_<class>, pr_auc_<class>, net_benefit_<class>;
        auc_<b>_vs_<a> per pair. The macro recall is the balanced accuracy.
        A resample without any scan of a class that the labels hold has no balanced accuracy and no macro figures.
        The calibration error grows when scans repeat, so its interval leans upwards and may lie above its value.

    Raises:
        DataError: as `classification_report`, or not one group per scan.
    """
    report = classification_report(labels, probabilities, classes)
    if len(groups) != len(labels):
        raise DataError(
            f"There are {len(labels)} labels and {len(groups)} groups.",
            expected="one group per scan",
            remedy="Give a scan that belongs to no group one of its own.",
        )
    names, values, counts = _headline(report, classes)
    low, high = bootstrap_intervals(weighted_figures(labels, probabilities), groups, n_resamples, seed)
    return {
        name: {
            "value": value,
            "low": None if value is None or np.isnan(a) else float(a),
            "high": None if value is None or np.isnan(b) else float(b),
            "n": n,
        }
        for name, value, a, b, n in zip(names, values, low, high, counts, strict=True)
    }


def figure_names(classes: Sequence[str]) -> list[str]:
    """Return the names of the figures of `report_with_intervals`, in the order of `weighted_figures`."""
    per_class = ("sensitivity", "specificity", "auc", "precision", "f1", "pr_auc", "net_benefit")
    pairs = [f"auc_{b}_vs_{a}" for a, b in combinations(classes, 2)]
    return [*_OVERALL, *(f"{figure}_{c}" for figure in per_class for c in classes), *pairs]


def weighted_figures(labels: np.ndarray, probabilities: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from weights [N] to the figures named by `figure_names`, float64 [K].

    A weight of 2 equals that scan twice. What does not depend on the weights is done once, so that a thousand
    resamples take a second.

    Args:
        labels: int [N].
        probabilities: float [N, C], rows summing to 1.

    Raises:
        DataError: as `bcx.evaluate.metrics.check_answers`.
    """
    labels, probabilities = check_answers(labels, probabilities)
    count = probabilities.shape[1]
    predicted = probabilities.argmax(axis=1)
    cell = labels * count + predicted
    held = np.unique(labels)
    surprise = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).eps))
    squared = ((probabilities - np.eye(count)[labels]) ** 2).sum(axis=1)
    confidence, correct = probabilities.max(axis=1), predicted == labels
    # a net benefit is a sum over scans: of 1 for each one found, of the threshold's odds for each false alarm
    odds = NET_BENEFIT_AT / (1 - NET_BENEFIT_AT)
    gain = (probabilities >= NET_BENEFIT_AT) * np.where(np.eye(count)[labels] > 0, 1, -odds)
    against_rest = [ranked_auc(probabilities[:, c], labels == c) for c in range(count)]
    average_precision = [ranked_precision(probabilities[:, c], labels == c) for c in range(count)]
    pairs = []
    for a, b in combinations(range(count), 2):
        pairs.append((ranked_auc(pair_score(probabilities, a, b), labels == b), np.isin(labels, (a, b))))

    def figures(weights: np.ndarray) -> np.ndarray:
        total = weights.sum()
        confusion = np.bincount(cell, weights, count * count).reshape(count, count)
        hits, true, called = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity = hits / true
            specificity = (total - true - called + hits) / (total - true)
            f1 = np.where(true > 0, 2 * hits / (true + called), np.nan)
        # never called: precision 0, as in the report
        precision = np.where(true > 0, hits / np.where(called > 0, called, 1), np.nan)
        auc = np.array([area(weights) for area in against_rest])
        pr_auc = np.where(true < total, [area(weights) for area in average_precision], np.nan)
        overall = [
            hits.sum() / total,
            sensitivity[held].mean(),
            f1[held].mean(),
            auc[held].mean(),
            _mcc(hits.sum(), true, called, total),
            (weights * surprise).sum() / total,
            calibration_error(confidence, correct, weights=weights),
            (weights * squared).sum() / total,
            _kappa(hits.sum(), true, called, total),
            precision[held].mean(),
            np.nanmean(specificity) if (true < total).any() else np.nan,
            pr_auc[held].mean(),
        ]
        between = [area(weights * chosen) for area, chosen in pairs]
        benefit = np.where(true > 0, weights @ gain / total, np.nan)
        return np.concatenate([overall, sensitivity, specificity, auc, precision, f1, pr_auc, benefit, between])

    return figures


def _headline(report: dict, classes: Sequence[str]) -> tuple[list[str], list[float | None], list[int]]:
    """Names, values and numbers of scans of the figures, in the order of `weighted_figures`."""
    total, held = report["n"], report["counts"]
    rows = [(report[name], total) for name in _OVERALL]
    rows += [(report["recall"][c], held[c]) for c in classes]
    rows += [(report["specificity"][c], total - held[c]) for c in classes]
    rows += [(report[name][c], total) for name in ("auc", "precision", "f1", "pr_auc", "net_benefit") for c in classes]
    rows += [(report["auc_pairs"][f"{b}_vs_{a}"], held[a] + held[b]) for a, b in combinations(classes, 2)]
    values, counts = zip(*rows, strict=True)
    return figure_names(classes), list(values), list(counts)


def _mcc(hits: float, true: np.ndarray, called: np.ndarray, total: float) -> float:
    """Matthews correlation for several classes (Gorodkin 2004), nan when all labels are of one class."""
    spread = (total**2 - (true**2).sum()) * (total**2 - (called**2).sum())
    if (true > 0).sum() < 2:
        return float("nan")
    return float((hits * total - (true * called).sum()) / np.sqrt(spread)) if spread > 0 else 0.0


def _kappa(hits: float, true: np.ndarray, called: np.ndarray, total: float) -> float:
    """Cohen's kappa (1960), nan when all labels are of one class."""
    by_chance = (true * called).sum() / total**2
    return float((hits / total - by_chance) / (1 - by_chance)) if (true > 0).sum() > 1 else float("nan")
