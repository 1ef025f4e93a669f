"""Figures of a classifier, from labels and probabilities; scikit-learn does the arithmetic.

>>> import numpy as np
>>> labels = np.array([0, 0, 1, 1])
>>> probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.7, 0.3], [0.2, 0.8]])
>>> report = classification_report(labels, probabilities, ("benign", "malignant"))
>>> report["accuracy"], report["auc"]["malignant"], report["recall"]["malignant"]
(0.75, 0.75, 0.5)

**What has no value.** Sources without one of the classes, and small validation parts, leave some figures
without meaning; these are None rather than a number that looks like one:

* a class of which the labels hold no scan has no precision, recall, F1, ROC-AUC, PR-AUC and net benefit;
* a class to which every label belongs has no specificity, ROC-AUC and PR-AUC;
* a pair of classes has no ROC-AUC unless both are among the labels;
* MCC and Cohen's kappa are None when all labels are of one class.

Macro figures are means over the classes that have a value. A class that is there but was never predicted has
precision and F1 0 (scikit-learn's `zero_division=0`), and MCC is 0 when every prediction is the same.

A. J. Vickers and E. B. Elkin, "Decision curve analysis", Medical Decision Making 2006 (net benefit).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from sklearn import metrics as sk

from bcx.errors import DataError

ECE_BINS = 15
NET_BENEFIT_AT = 0.1
"""Probability at which the report's net benefit acts: whoever acts there takes nine false alarms for one find."""

Figure = float | None


def classification_report(labels: np.ndarray, probabilities: np.ndarray, classes: Sequence[str]) -> dict:
    """Return every figure that bcx reports for one set of answers, ready for JSON.

    Args:
        labels: int [N], positions in `classes`.
        probabilities: float [N, C] in 0..1, rows summing to 1; the prediction is the most probable class.
        classes: C names.

    Returns:
        `n`, `counts` (scans per class); `accuracy`, `balanced_accuracy`, `mcc`, `kappa`, `log_loss` (nats),
        `brier` (mean over scans of the squared error summed over classes, 0..2), `ece` (see `calibration_error`);
        `macro_<figure>` and `<figure>` as {class: value} for precision, recall (sensitivity), specificity, f1,
        auc (ROC, one against the rest) and pr_auc (average precision); `net_benefit` as {class: value} (see
        `net_benefit`) when acting at `NET_BENEFIT_AT`; `auc_pairs`, {"b_vs_a": value}, where b
        comes after a in `classes` and only their scans count; `confusion`, {true class: {predicted class: n}}.
        See the module's text for the figures that are None.

    Raises:
        DataError: shapes that do not fit, no scans, labels out of range, rows that are no probabilities.
    """
    labels, probabilities = check_answers(labels, probabilities)
    if len(classes) != probabilities.shape[1]:
        raise DataError(
            f"There are {probabilities.shape[1]} probabilities per scan and {len(classes)} classes.",
            expected="one probability per class",
            remedy="Pass the classes of the task that the network was trained on.",
        )
    predicted = probabilities.argmax(axis=1)
    every = range(len(classes))
    confusion = sk.confusion_matrix(labels, predicted, labels=list(every))
    per_class = _per_class(labels, probabilities)
    report: dict = {
        "n": len(labels),
        "counts": {name: int(confusion[c].sum()) for c, name in enumerate(classes)},
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "balanced_accuracy": mean_of_known(per_class["recall"]),
        "mcc": _mcc(labels, predicted),
        "kappa": _kappa(labels, predicted),
        "log_loss": float(sk.log_loss(labels, probabilities, labels=list(every))),
        "brier": float(sk.brier_score_loss(labels, probabilities, labels=list(every), scale_by_half=False)),
        "ece": calibration_error(probabilities.max(axis=1), predicted == labels),
    }
    for name, values in per_class.items():
        report[f"macro_{name}"] = mean_of_known(values)
        report[name] = dict(zip(classes, values, strict=True))
    report["net_benefit"] = {
        name: net_benefit(probabilities[:, c], labels == c, NET_BENEFIT_AT) if (labels == c).any() else None
        for c, name in enumerate(classes)
    }
    report["auc_pairs"] = {
        f"{classes[b]}_vs_{classes[a]}": _pair_auc(labels, probabilities, a, b) for a, b in combinations(every, 2)
    }
    report["confusion"] = {
        true: {name: int(confusion[r, c]) for c, name in enumerate(classes)} for r, true in enumerate(classes)
    }
    return report


def epoch_metrics(labels: np.ndarray, probabilities: np.ndarray, loss: float) -> dict[str, Figure]:
    """Return the flat set of figures that a training run notes for each epoch.

    Args:
        labels: int [N].
        probabilities: float [N, C].
        loss: the epoch's mean loss as training saw it (class weights and smoothing included).

    Returns:
        loss, accuracy, precision, recall, f1, roc_auc, pr_auc (macro, one against the rest) and mcc, in this
        order; None as in the module's text.

    Raises:
        DataError: as `classification_report`.
    """
    labels, probabilities = check_answers(labels, probabilities)
    predicted = probabilities.argmax(axis=1)
    per_class = _per_class(labels, probabilities)
    return {
        "loss": float(loss),
        "accuracy": float(sk.accuracy_score(labels, predicted)),
        "precision": mean_of_known(per_class["precision"]),
        "recall": mean_of_known(per_class["recall"]),
        "f1": mean_of_known(per_class["f1"]),
        "roc_auc": mean_of_known(per_class["auc"]),
        "pr_auc": mean_of_known(per_class["pr_auc"]),
        "mcc": _mcc(labels, predicted),
    }


def calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = ECE_BINS, weights: np.ndarray | None = None
) -> float:
    """Return the expected calibration error of the predicted class over bins of equal mass.

    The mean over bins, weighted by their mass, of |share right - mean confidence| (Naeini et al. 2015), with
    adaptive bins, each holding the same number of scans (Nguyen and O'Connor 2015; Nixon et al. 2019).
    Scans of equal confidence share a bin, so the order of the rows changes nothing, and a whole-number weight
    equals that many copies of the row.

    Args:
        confidence: float [N] in 0..1, the probability of the predicted class.
        correct: bool [N].
        bins: at most this many bins.
        weights: float [N], not negative; None counts every scan once.

    Returns:
        0 (confidence is the share right) to 1.
    """
    values, position = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    correct = np.asarray(correct, dtype=np.float64)
    weights = np.ones(len(correct)) if weights is None else np.asarray(weights, dtype=np.float64)
    mass = np.bincount(position, weights, len(values))
    gap = np.bincount(position, weights * correct, len(values)) - mass * values
    which = _bin_of_value(mass, bins)
    return float(np.abs(np.bincount(which, gap, bins)).sum() / mass.sum())


def equal_mass_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """Return int64 [N], the bin of each scan, 0 for the least sure; the bins of `calibration_error`."""
    values, position = np.unique(np.asarray(confidence, dtype=np.float64), return_inverse=True)
    return _bin_of_value(np.bincount(position, minlength=len(values)).astype(np.float64), bins)[position]


def _bin_of_value(mass: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each distinct confidence, rising, from the mass that it holds: where the middle of that mass lies."""
    middle = (np.cumsum(mass) - mass / 2) / mass.sum()
    return np.minimum((middle * bins).astype(np.int64), bins - 1)


def net_benefit(
    probability: np.ndarray, positive: np.ndarray, threshold: float, weights: np.ndarray | None = None
) -> float:
    """Return the net benefit of acting on every scan whose probability is at least `threshold` (Vickers 2006).

    True positives less false positives, each false one counting threshold / (1 - threshold), per scan. Doing nothing
    has 0; who acts at a probability of `threshold` says that so many false alarms are worth one find.

    Args:
        probability: float [N] in 0..1.
        positive: bool [N].
        threshold: above 0 and below 1.
        weights: float [N], not negative; None counts every scan once.

    Returns:
        At most the share of positive scans; below 0 where acting does more harm than good.

    Raises:
        DataError: a threshold out of range.
    """
    if not 0 < threshold < 1:
        raise DataError(
            f"The threshold of a net benefit is {threshold}.",
            expected="a probability above 0 and below 1",
            remedy="Give the probability at which one would act, such as 0.1.",
        )
    weights = np.ones(len(positive)) if weights is None else np.asarray(weights, dtype=np.float64)
    acted, positive = np.asarray(probability) >= threshold, np.asarray(positive, dtype=bool)
    found, alarms = weights[acted & positive].sum(), weights[acted & ~positive].sum()
    return float((found - alarms * threshold / (1 - threshold)) / weights.sum())


def pair_score(probabilities: np.ndarray, a: int, b: int) -> np.ndarray:
    """Return float64 [N]: the log-odds of class `b` against class `a`, whatever the other classes got."""
    tiny = np.finfo(np.float64).tiny
    return np.log(np.maximum(probabilities[:, b], tiny)) - np.log(np.maximum(probabilities[:, a], tiny))


def mean_of_known(values: Sequence[Figure]) -> Figure:
    """Return the mean of the values that are not None, or None when there is none."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def check_answers(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return labels as int64 [N] and probabilities as float64 [N, C] with rows that sum to 1 exactly.

    Raises:
        DataError: shapes that do not fit, no scans, labels out of range, rows that are no probabilities.
    """
    labels = np.asarray(labels)
    probabilities = np.asarray(probabilities, dtype=np.float64)
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or len(labels) == 0:
        raise DataError(
            f"Labels of shape {labels.shape} came with probabilities of shape {probabilities.shape}.",
            expected="labels [N] and probabilities [N, C], with N at least 1",
            remedy="Give one row of probabilities per label.",
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= probabilities.shape[1]:
        raise DataError(
            f"The labels are of type {labels.dtype} and run from {labels.min()} to {labels.max()}.",
            expected=f"whole numbers from 0 to {probabilities.shape[1] - 1}",
            remedy="Give each label as the position of its class.",
        )
    total = probabilities.sum(axis=1, keepdims=True)
    if not (np.isfinite(probabilities).all() and (probabilities >= 0).all() and (abs(total - 1) < 1e-3).all()):
        raise DataError(
            "Some rows are not probabilities.",
            expected="values from 0 to 1 that sum to 1 in each row",
            remedy="Pass the softmax of the logits, not the logits.",
        )
    return labels.astype(np.int64), probabilities / total


def _per_class(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, list[Figure]]:
    predicted = probabilities.argmax(axis=1)
    found: dict[str, list[Figure]] = {
        name: [] for name in ("precision", "recall", "specificity", "f1", "auc", "pr_auc")
    }
    for c in range(probabilities.shape[1]):
        positive, called, score = labels == c, predicted == c, probabilities[:, c]
        some, both = bool(positive.any()), bool(positive.any() and not positive.all())
        found["precision"].append(float(sk.precision_score(positive, called, zero_division=0)) if some else None)
        found["recall"].append(float(sk.recall_score(positive, called)) if some else None)
        found["specificity"].append(None if positive.all() else float(sk.recall_score(~positive, ~called)))
        found["f1"].append(float(sk.f1_score(positive, called, zero_division=0)) if some else None)
        found["auc"].append(float(sk.roc_auc_score(positive, score)) if both else None)
        found["pr_auc"].append(float(sk.average_precision_score(positive, score)) if both else None)
    return found


def _pair_auc(labels: np.ndarray, probabilities: np.ndarray, a: int, b: int) -> Figure:
    if not ((labels == a).any() and (labels == b).any()):
        return None
    chosen = (labels == a) | (labels == b)
    return float(sk.roc_auc_score(labels[chosen] == b, pair_score(probabilities[chosen], a, b)))


def _mcc(labels: np.ndarray, predicted: np.ndarray) -> Figure:
    return None if (labels == labels[0]).all() else float(sk.matthews_corrcoef(labels, predicted))


def _kappa(labels: np.ndarray, predicted: np.ndarray) -> Figure:
    return None if (labels == labels[0]).all() else float(sk.cohen_kappa_score(labels, predicted))
