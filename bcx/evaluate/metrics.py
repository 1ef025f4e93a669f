"""Figures of a classifier, from labels, probabilities and a weight per scan; tests hold them to scikit-learn's.

A weight of 2 equals that scan twice, so that one piece of arithmetic serves the figures and their bootstrap, and what
does not depend on weights (sorting) is done once: a thousand resamples take a second.

What has no value is None: a class without scans has no precision, recall, F1, ROC-AUC, PR-AUC and net benefit; a class
to which every scan belongs no specificity, ROC-AUC and PR-AUC; a pair of classes no ROC-AUC unless both are there;
scans of one class no MCC and no Cohen's kappa. Macro figures are means over the classes that have a value. A class that
is there but was never predicted has precision and F1 0, and MCC is 0 when every prediction is the same.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from bcx.errors import DataError
from bcx.trust.calibration import check_labelled

ECE_BINS = 15
NET_BENEFIT_AT = 0.1  # probability at which one acts: whoever does so there takes nine false alarms for one find
REFERRED = -1  # the answer to a scan that is referred

_OVERALL = (
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "mcc", "log_loss", "ece"),
    *("brier", "kappa", "macro_precision", "macro_specificity", "macro_pr_auc"),
)
_PER_CLASS = ("sensitivity", "specificity", "auc", "precision", "f1", "pr_auc", "net_benefit")


def classification_report(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict:
    """Return every figure that bcx reports for one set of answers, ready for JSON; the most probable class is answered.

    `log_loss` is in nats, `brier` 0..2, `ece` as `calibration_error`, `net_benefit` at `NET_BENEFIT_AT`; `auc_pairs`
    counts the scans of two classes alone. Errors as `check_answers`.
    """
    figures = weighted_figures(labels, probabilities)
    found = dict(zip(figure_names(classes), map(or_none, figures(np.ones(len(labels)))), strict=True))
    overall = ("accuracy", "balanced_accuracy", "mcc", "kappa", "log_loss", "brier", "ece")
    report: dict = {"n": len(labels), "counts": _counts(labels, classes), **{name: found[name] for name in overall}}
    for name in ("precision", "recall", "specificity", "f1", "auc", "pr_auc"):
        report[f"macro_{name}"] = found["balanced_accuracy" if name == "recall" else f"macro_{name}"]
        report[name] = {c: found[f"{'sensitivity' if name == 'recall' else name}_{c}"] for c in classes}
    report["net_benefit"] = {c: found[f"net_benefit_{c}"] for c in classes}
    report["auc_pairs"] = {f"{b}_vs_{a}": found[f"auc_{b}_vs_{a}"] for a, b in combinations(classes, 2)}
    report["confusion"] = named_confusion(labels, probabilities.argmax(axis=1), classes)
    return report


def epoch_metrics(labels: np.ndarray, probabilities: np.ndarray, loss: float) -> dict[str, float | None]:
    """Return what training notes for each epoch, macro figures where there is one per class; `loss` as it saw it."""
    report = classification_report(labels, probabilities, [str(c) for c in range(probabilities.shape[1])])
    macro = {"precision": "precision", "recall": "recall", "f1": "f1", "roc_auc": "auc", "pr_auc": "pr_auc"}
    figures = {name: report[f"macro_{key}"] for name, key in macro.items()}
    return {"loss": float(loss), "accuracy": report["accuracy"], **figures, "mcc": report["mcc"]}


def named_confusion(labels: np.ndarray, chosen: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return {true class: {answer: n}} of labels and answers, both int [N]; `REFERRED` ones are counted as "refer"."""
    names = [*classes, "refer"] if (chosen == REFERRED).any() else list(classes)
    given = np.where(chosen == REFERRED, len(classes), chosen)
    cells = np.bincount(labels * len(names) + given, minlength=len(classes) * len(names)).reshape(-1, len(names))
    return {true: dict(zip(names, row, strict=True)) for true, row in zip(classes, cells.tolist(), strict=True)}


def figure_names(classes: Sequence[str]) -> list[str]:
    """Return the names of the figures, in the order of `weighted_figures`."""
    pairs = [f"auc_{b}_vs_{a}" for a, b in combinations(classes, 2)]
    return [*_OVERALL, *(f"{figure}_{c}" for figure in _PER_CLASS for c in classes), *pairs]


def figure_counts(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    """Return how many scans each figure of `figure_names` rests on; `labels`: int [N], positions in `classes`."""
    held = _counts(labels, classes)
    counts = dict.fromkeys(figure_names(classes), len(labels))
    counts |= {f"sensitivity_{c}": held[c] for c in classes}
    counts |= {f"specificity_{c}": len(labels) - held[c] for c in classes}
    return counts | {f"auc_{b}_vs_{a}": held[a] + held[b] for a, b in combinations(classes, 2)}


def weighted_figures(
    labels: np.ndarray, probabilities: np.ndarray, said: np.ndarray | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from weights [N] to the figures named by `figure_names`, float64 [K], nan without a value.

    `said`: the classes answered, int [N], None for the most probable ones, which `ece` is about in any case; a class
    without scans that was answered has F1 0 there. Errors as `check_answers`.
    """
    labels, probabilities = check_answers(labels, probabilities)
    count = probabilities.shape[1]
    predicted, held = probabilities.argmax(axis=1), np.unique(labels)
    cell = labels * count + (predicted if said is None else said)
    surprise = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float64).eps))
    squared = ((probabilities - np.eye(count)[labels]) ** 2).sum(axis=1)
    confidence, correct = probabilities.max(axis=1), predicted == labels
    # a net benefit is a sum over scans: of 1 for each one found, of the threshold's odds for each false alarm
    odds = NET_BENEFIT_AT / (1 - NET_BENEFIT_AT)
    gain = (probabilities >= NET_BENEFIT_AT) * np.where(np.eye(count)[labels] > 0, 1, -odds)
    against_rest = [ranked_auc(probabilities[:, c], labels == c) for c in range(count)]
    average_precision = [ranked_precision(probabilities[:, c], labels == c) for c in range(count)]
    pairs = [
        (ranked_auc(pair_score(probabilities, a, b), labels == b), np.isin(labels, (a, b)))
        for a, b in combinations(range(count), 2)
    ]

    def figures(weights: np.ndarray) -> np.ndarray:
        total = weights.sum()
        confusion = np.bincount(cell, weights, count * count).reshape(count, count)
        hits, true, called = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            sensitivity, specificity = hits / true, (total - true - called + hits) / (total - true)
            f1 = 2 * hits / (true + called)
        if said is None:
            f1[true == 0] = np.nan
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
            calibration_error(confidence, correct, weights),
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


def ranked_auc(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function from weights [N] to the area under the ROC curve, nan without pairs; the sorting is done once.

    The weighted share of (positive, negative) pairs in the right order, ties counting one half (Hanley and McNeil
    1982): `sklearn.metrics.roc_auc_score` with `sample_weight`.
    """
    values, position = np.unique(scores, return_inverse=True)

    def auc(weights: np.ndarray) -> float:
        above, below = (np.bincount(position, weights * kind, len(values)) for kind in (positive, ~positive))
        pairs = above.sum() * below.sum()
        return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else float("nan")

    return auc


def ranked_precision(scores: np.ndarray, positive: np.ndarray) -> Callable[[np.ndarray], float]:
    """Return a function from weights [N] to the average precision (PR-AUC), nan without positive scans.

    That is `sklearn.metrics.average_precision_score` with `sample_weight`; the sorting is done once.
    """
    values, position = np.unique(-scores, return_inverse=True)

    def average_precision(weights: np.ndarray) -> float:
        found = np.bincount(position, weights * positive, len(values))
        called = np.bincount(position, weights, len(values)).cumsum()
        total = found.sum()
        # where nothing is called yet nothing is found either, whatever stands below the line
        at_each = found * found.cumsum() / np.where(called > 0, called, 1)
        return float(at_each.sum() / total) if total else float("nan")

    return average_precision


def calibration_error(confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> float:
    """Return the expected calibration error of the predicted class, 0 (confidence is the share right) to 1.

    The mean over bins, weighted by their mass, of |share right - mean confidence| (Naeini et al. 2015), with at most
    `ECE_BINS` adaptive bins of the same number of scans (Nguyen and O'Connor 2015; Nixon et al. 2019). Scans of equal
    confidence share a bin, and a whole-number weight equals that many copies of the row.
    """
    values, position = np.unique(confidence, return_inverse=True)
    mass = np.bincount(position, weights, len(values))
    gap = np.bincount(position, weights * correct, len(values)) - mass * values
    return float(np.abs(np.bincount(_bin_of_value(mass), gap, ECE_BINS)).sum() / mass.sum())


def equal_mass_bins(confidence: np.ndarray) -> np.ndarray:
    """Return int64 [N], the bin of each scan, 0 for the least sure; the bins of `calibration_error`."""
    _, position, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    return _bin_of_value(counts.astype(np.float64))[position]


def _bin_of_value(mass: np.ndarray) -> np.ndarray:
    """The bin of each distinct confidence, rising, from the mass that it holds: where the middle of that mass lies."""
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.minimum((middle * ECE_BINS).astype(np.int64), ECE_BINS - 1)


def pair_score(probabilities: np.ndarray, a: int, b: int) -> np.ndarray:
    """Return float64 [N]: the log-odds of class `b` against class `a`, whatever the other classes got."""
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(probabilities[:, b], tiny)) - np.log(np.maximum(probabilities[:, a], tiny))


def or_none(value: float) -> float | None:
    """Return a plain float, or None for nan, which JSON does not know."""
    return None if np.isnan(value) else float(value)


def check_answers(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int64 [N] and probabilities as float64 [N, C] with rows that sum to 1 exactly.

    `DataError` as `check_labelled`, or for rows that are no probabilities.
    """
    probabilities, labels = check_labelled(probabilities, labels)
    total = probabilities.sum(axis=1, keepdims=True)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (abs(total - 1) < 1e-3).all()):
        raise DataError(
            "Some rows are not probabilities.",
            expected="values from 0 to 1 that sum to 1 in each row",
            remedy="Pass the softmax of the logits, not the logits.",
        )
    return labels, probabilities / total


def _counts(labels: np.ndarray, classes: Sequence[str]) -> dict[str, int]:
    return dict(zip(classes, np.bincount(labels, minlength=len(classes)).tolist(), strict=True))


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
