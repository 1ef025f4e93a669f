"""Figures against scikit-learn called another way, counting by hand, and invariants."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate.metrics import NET_BENEFIT_AT, calibration_error, classification_report, epoch_metrics

CLASSES = ("normal", "benign", "malignant")


def answers(count: int = 200, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    logits = rng.normal(size=(count, classes)) + 1.5 * np.eye(classes)[labels]
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


def test_overall_figures_equal_scikit_learns_multiclass_ones():
    labels, probabilities = answers()
    predicted = probabilities.argmax(axis=1)
    report = classification_report(labels, probabilities, CLASSES)
    assert report["accuracy"] == pytest.approx(sk.accuracy_score(labels, predicted))
    assert report["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert report["macro_auc"] == pytest.approx(sk.roc_auc_score(labels, probabilities, multi_class="ovr"))
    assert report["macro_pr_auc"] == pytest.approx(sk.average_precision_score(np.eye(3)[labels], probabilities))
    assert report["macro_f1"] == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
    assert report["macro_precision"] == pytest.approx(sk.precision_score(labels, predicted, average="macro"))
    assert report["mcc"] == pytest.approx(sk.matthews_corrcoef(labels, predicted))
    agreed, by_chance = (predicted == labels).mean(), np.bincount(labels) @ np.bincount(predicted) / len(labels) ** 2
    assert report["kappa"] == pytest.approx((agreed - by_chance) / (1 - by_chance))


def test_per_class_figures_by_counting():
    labels, probabilities = answers(seed=1)
    predicted = probabilities.argmax(axis=1)
    report = classification_report(labels, probabilities, CLASSES)
    for c, name in enumerate(CLASSES):
        hit = int(((labels == c) & (predicted == c)).sum())
        false_alarm = int(((labels != c) & (predicted == c)).sum())
        missed = int(((labels == c) & (predicted != c)).sum())
        passed = len(labels) - hit - false_alarm - missed
        assert report["counts"][name] == hit + missed
        assert report["recall"][name] == pytest.approx(hit / (hit + missed))
        assert report["specificity"][name] == pytest.approx(passed / (passed + false_alarm))
        assert report["precision"][name] == pytest.approx(hit / (hit + false_alarm))
        assert report["f1"][name] == pytest.approx(2 * hit / (2 * hit + false_alarm + missed))
        assert report["confusion"][name] == {
            other: int(((labels == c) & (predicted == d)).sum()) for d, other in enumerate(CLASSES)
        }


def test_net_benefit_counts_a_false_alarm_by_the_odds_of_the_threshold():
    labels, probabilities = answers(seed=4)
    acted, benign = probabilities[:, 1] >= NET_BENEFIT_AT, labels == 1
    expected = ((acted & benign).sum() - (acted & ~benign).sum() / 9) / len(labels)
    report = classification_report(labels, probabilities, CLASSES)
    assert report["net_benefit"]["benign"] == pytest.approx(expected)


def test_log_loss_and_brier_by_their_formulas():
    labels, probabilities = answers(seed=3)
    report = classification_report(labels, probabilities, CLASSES)
    right = probabilities[np.arange(len(labels)), labels]
    assert report["log_loss"] == pytest.approx(float(-np.log(right).mean()))
    assert report["brier"] == pytest.approx(float(((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1).mean()))


def test_perfect_and_hopeless_answers():
    labels = np.array([0, 1, 2, 0, 1, 2])
    perfect = classification_report(labels, np.eye(3)[labels], CLASSES)
    for name in ("accuracy", "balanced_accuracy", "mcc", "macro_auc", "macro_pr_auc", "macro_f1", "macro_specificity"):
        assert perfect[name] == pytest.approx(1.0)
    assert perfect["ece"] == perfect["brier"] == pytest.approx(0.0)
    wrong = classification_report(labels, np.eye(3)[(labels + 1) % 3], CLASSES)
    assert wrong["accuracy"] == wrong["macro_f1"] == 0.0
    assert wrong["ece"] == pytest.approx(1.0)
    assert wrong["brier"] == pytest.approx(2.0)
    assert np.isfinite(wrong["log_loss"])


def test_a_source_without_normals_has_no_figures_for_normal():
    labels, probabilities = answers(seed=4)
    kept = labels != 0
    report = classification_report(labels[kept], probabilities[kept], CLASSES)
    for name in ("precision", "recall", "f1", "auc", "pr_auc"):
        assert report[name]["normal"] is None
        both = [report[name]["benign"], report[name]["malignant"]]
        assert report[f"macro_{name}"] == pytest.approx(np.mean(both))
    assert report["specificity"]["normal"] == pytest.approx((probabilities[kept].argmax(axis=1) != 0).mean())
    assert report["auc_pairs"]["benign_vs_normal"] is None
    assert report["auc_pairs"]["malignant_vs_benign"] is not None
    assert report["counts"]["normal"] == 0


def test_labels_of_one_class_leave_what_needs_two_without_a_value():
    probabilities = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    report = classification_report(np.array([1, 1]), probabilities, CLASSES)
    assert report["accuracy"] == report["recall"]["benign"] == 0.5
    assert (
        report["kappa"]
        is report["mcc"]
        is report["macro_auc"]
        is report["macro_pr_auc"]
        is report["specificity"]["benign"]
        is None
    )
    assert set(report["auc_pairs"].values()) == {None}


def test_a_class_that_is_never_predicted_counts_as_nought():
    labels = np.array([0, 1, 2, 2])
    report = classification_report(labels, np.tile([0.8, 0.1, 0.1], (4, 1)), CLASSES)
    assert report["precision"]["malignant"] == report["f1"]["malignant"] == report["mcc"] == 0.0
    assert report["macro_precision"] == pytest.approx(0.25 / 3)
    assert report["macro_auc"] == pytest.approx(0.5)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 8), classes=st.integers(2, 4))
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("error::RuntimeWarning", "error::UserWarning", "error::FutureWarning")
def test_the_smallest_parts_never_crash_and_stay_json(seed, count, classes):
    labels, probabilities = answers(count, classes, seed)
    report = classification_report(labels, probabilities, [f"class {c}" for c in range(classes)])
    flat = epoch_metrics(labels, probabilities.astype(np.float32), loss=0.7)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert json.loads(json.dumps(flat, allow_nan=False)) == flat
    assert sum(sum(row.values()) for row in report["confusion"].values()) == report["n"] == count


def test_the_epochs_figures_are_the_reports():
    labels, probabilities = answers(seed=5)
    report = classification_report(labels, probabilities, CLASSES)
    flat = epoch_metrics(labels, probabilities, loss=1.25)
    assert list(flat) == ["loss", "accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "mcc"]
    assert flat["loss"] == 1.25
    same = {"precision": "macro_precision", "recall": "macro_recall", "f1": "macro_f1"}
    same |= {"accuracy": "accuracy", "roc_auc": "macro_auc", "pr_auc": "macro_pr_auc", "mcc": "mcc"}
    for here, there in same.items():
        assert flat[here] == report[there]


def test_calibration_error_over_equal_bins_by_hand():
    rng = np.random.default_rng(6)
    confidence = rng.permutation(np.linspace(0.4, 0.99, 150))
    correct = rng.random(150) < 0.7
    order = np.argsort(confidence)
    bins = zip(np.split(confidence[order], 15), np.split(correct[order], 15), strict=True)
    by_hand = np.mean([abs(right.mean() - sure.mean()) for sure, right in bins])
    assert calibration_error(confidence, correct, np.ones(len(correct))) == pytest.approx(by_hand)


@given(
    rows=st.lists(st.tuples(st.sampled_from([0.4, 0.5, 0.55, 0.7, 0.9]), st.booleans(), st.integers(0, 4)), min_size=1),
    seed=st.integers(0, 100),
)
@settings(max_examples=100, deadline=None)
def test_calibration_error_ignores_order_and_takes_weights_as_copies(rows, seed):
    confidence, correct, weights = (np.array(column) for column in zip(*rows, strict=True))
    if weights.sum() == 0:
        weights[0] = 1
    found = calibration_error(confidence, correct, weights)
    copies = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(rows)), weights))
    assert found == pytest.approx(
        calibration_error(confidence[copies], correct[copies], np.ones(len(copies))), abs=1e-12
    )
    assert 0 <= found <= 1
    overall = abs(np.average(correct, weights=weights) - np.average(confidence, weights=weights))
    assert found >= overall - 1e-12  # bins can only add to the gap of the whole


def test_one_confidence_throughout_is_one_bin():
    correct = np.arange(100) < 62
    assert calibration_error(np.full(100, 0.7), correct, np.ones(100)) == pytest.approx(0.08)


def test_equal_confidences_go_where_the_middle_of_their_mass_lies():
    confidence = np.array([0.5] + [0.8] * 9)
    correct = np.array([True] + [False] * 9)
    # two bins: the first scan alone (gap +0.5), the nine others (gap -0.8 each); in one bin the gaps would cancel
    assert calibration_error(confidence, correct, np.ones(10)) == pytest.approx((0.5 + 9 * 0.8) / 10)


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [
        (np.array([0, 1]), np.array([[0.5, 0.5]])),
        (np.array([], int), np.zeros((0, 2))),
        (np.array([2]), np.array([[0.5, 0.5]])),
        (np.array([-1]), np.array([[0.5, 0.5]])),
        (np.array([0.0]), np.array([[0.5, 0.5]])),
        (np.array([0]), np.array([[2.0, -1.0]])),
        (np.array([0]), np.array([[0.4, 0.4]])),
        (np.array([0]), np.array([[np.nan, 0.4]])),
    ],
)
def test_what_does_not_fit_is_refused(labels, probabilities):
    with pytest.raises(DataError):
        classification_report(labels, probabilities, ("benign", "malignant"))
