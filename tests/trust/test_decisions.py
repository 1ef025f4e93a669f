"""Operating points and referral against plain loops, brute force over every threshold, and what they promise."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, recall_score

from bcx.errors import ConfigError, DataError
from bcx.trust.decisions import (
    OperatingPoint,
    ReferRule,
    fit_operating_point,
    fit_refer_threshold,
    risk_coverage,
    sensitivity_points,
)


def answers(count: int = 400, seed: int = 0, signal: float = 1.5, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    odds = np.exp(rng.normal(size=(count, classes)) + signal * np.eye(classes)[labels])
    return odds / odds.sum(axis=1, keepdims=True), labels


def test_a_whole_number_weight_equals_that_many_copies():
    probabilities, labels = answers(120, seed=6, classes=2)
    weights = np.random.default_rng(0).integers(0, 4, 120)
    rows = np.repeat(np.arange(120), weights)
    for asked in (None, 0.9):
        weighted = fit_operating_point(probabilities, labels, weights=weights, positive_sensitivity=asked)
        copied = fit_operating_point(probabilities[rows], labels[rows], positive_sensitivity=asked)
        # scores without weight may move a threshold between its neighbours, but no scan that counts crosses it
        np.testing.assert_array_equal(weighted.choose(probabilities[rows]), copied.choose(probabilities[rows]))


def test_thresholds_keep_clear_of_every_score():
    probabilities, labels = answers(seed=7, classes=2)
    point = fit_operating_point(probabilities, labels, positive_sensitivity=0.9)
    np.testing.assert_array_equal(
        point.choose(probabilities.astype(np.float32)), point.choose(probabilities * (1 + 1e-9))
    )
    assert np.abs(probabilities[:, 0] - point.normal_above).min() > 1e-7


def test_figures_are_the_shares_that_scikit_learn_counts():
    probabilities, labels = answers(120, seed=6, classes=2)
    weights = np.random.default_rng(0).integers(0, 4, 120)
    found = sensitivity_points(probabilities, labels, weights)
    for figures in json.loads(json.dumps(found, allow_nan=False)):
        chosen = OperatingPoint.from_dict(figures["point"]).choose(probabilities)
        assert figures["sensitivity"] == pytest.approx(recall_score(labels, chosen, sample_weight=weights))
        specificity = recall_score(labels, chosen, pos_label=0, sample_weight=weights)
        assert figures["specificity"] == pytest.approx(specificity)
        assert figures["accuracy"] == pytest.approx(accuracy_score(labels, chosen, sample_weight=weights))


def test_what_is_stored_comes_back():
    point = OperatingPoint(0.1 + 0.2)
    stored = json.loads(json.dumps(point.to_dict()))
    assert stored == {"normal_above": 0.1 + 0.2, "positive_above": 0.0, "positive": 1}
    assert OperatingPoint.from_dict(stored) == point


@pytest.mark.parametrize(
    "change",
    [
        {"normal_above": 1.1},
        {"normal_above": "0.5"},
        {"positive_above": float("nan")},
        {"positive_above": True},
        {"positive_above": None},
        {"positive": 0},
        {"positive": 1.5},
        {"positive": 2},
        {"benign_above": 0.5},
    ],
)
def test_a_stored_point_that_is_wrong_is_refused(change):
    with pytest.raises(ConfigError):
        OperatingPoint.from_dict({"normal_above": 0.5, "positive_above": 0.0, "positive": 1} | change)
    with pytest.raises(ConfigError, match="keys"):
        OperatingPoint.from_dict({"normal_above": 0.5})
    with pytest.raises(ConfigError, match="keys"):
        OperatingPoint.from_dict([0.5, 0.5])  # type: ignore[arg-type]


def test_what_cannot_be_fitted_says_so():
    probabilities, labels = answers(60, classes=2)
    for missing in (0, 1):
        with pytest.raises(DataError, match=f"No scan of class {missing}"):
            fit_operating_point(probabilities[labels != missing], labels[labels != missing])
    with pytest.raises(DataError, match="labels"):
        fit_operating_point(probabilities, labels[:-1])


# ---------------------------------------------------------------- referral


@given(seed=st.integers(0, 1000), levels=st.integers(1, 8), weighted=st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_curve_is_what_each_threshold_gives(seed, levels, weighted):
    rng = np.random.default_rng(seed)
    confidence, correct = rng.integers(0, levels, 25) / levels, rng.random(25) < 0.7
    weights = rng.integers(0, 3, 25).astype(float) if weighted else np.ones(25)
    weights[0] = 1
    thresholds, coverage, risk = risk_coverage(confidence, correct, weights)
    assert (np.diff(thresholds) < 0).all()
    assert coverage[-1] == 1
    for t, c, r in zip(thresholds, coverage, risk, strict=True):
        kept = confidence >= t
        assert c == pytest.approx(weights[kept].sum() / weights.sum())
        assert r == pytest.approx((weights * ~correct)[kept].sum() / weights[kept].sum())


@pytest.mark.parametrize("point", [OperatingPoint(0.4), OperatingPoint(0.5)])
@pytest.mark.parametrize("accuracy", [0.75, 0.85, 0.95])
def test_the_rule_reaches_its_accuracy_and_refers_no_more_than_it_must(point, accuracy):
    probabilities, labels = answers(300, seed=1, signal=0.8, classes=2)
    rule = fit_refer_threshold(probabilities, labels, accuracy=accuracy, point=point)
    kept = ~rule.refers(probabilities)
    right = point.choose(probabilities) == labels
    assert right[kept].mean() == pytest.approx(rule.accuracy)
    assert kept.mean() == pytest.approx(rule.coverage)
    assert rule.accuracy >= accuracy
    confidence = probabilities.max(axis=1)
    for lower in np.unique(confidence[~kept]):
        assert right[confidence >= lower].mean() < accuracy
    assert 0 < rule.coverage < 1
    assert ReferRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule


def test_nothing_is_referred_where_all_answers_are_good_enough():
    probabilities, labels = answers(300, classes=2)
    rule = fit_refer_threshold(probabilities, labels, accuracy=0.5, point=OperatingPoint(0.5))
    assert (rule.below, rule.coverage) == (0.0, 1.0)
    assert not rule.refers(probabilities).any()


@pytest.mark.parametrize("change", [{"below": -0.1}, {"confidence": "entropy"}, {"coverage": 2}, {"more": 1}])
def test_a_stored_referral_that_is_wrong_is_refused(change):
    with pytest.raises(ConfigError):
        ReferRule.from_dict({"below": 0.5, "confidence": "highest", "accuracy": None, "coverage": None} | change)


def test_an_accuracy_that_is_not_reached_is_told():
    probabilities, _ = answers(300, classes=2)
    with pytest.raises(DataError, match="not reached"):
        fit_refer_threshold(probabilities, probabilities.argmin(axis=1), accuracy=0.9, point=OperatingPoint(0.5))
    with pytest.raises(DataError, match="confidence"):
        risk_coverage(np.ones(3), np.ones(2, bool))
