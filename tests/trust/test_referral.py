"""Referral against sorting by hand, and what a fitted rule promises."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcx.errors import ConfigError, DataError
from bcx.trust.decisions import OperatingPoint
from bcx.trust.referral import ReferRule, confidence_of, fit_refer_threshold, risk_coverage


def answers(count: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    odds = np.exp(rng.normal(size=(count, 3)) + 1.2 * np.eye(3)[labels])
    return odds / odds.sum(axis=1, keepdims=True), labels


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


@pytest.mark.parametrize("kind", ["highest", "margin"])
@pytest.mark.parametrize("point", [None, OperatingPoint(0.4, 0.3)])
@pytest.mark.parametrize("accuracy", [0.75, 0.85, 0.95])
def test_the_rule_reaches_its_accuracy_and_refers_no_more_than_it_must(kind, point, accuracy):
    probabilities, labels = answers(seed=1)
    rule = fit_refer_threshold(probabilities, labels, accuracy=accuracy, point=point, confidence=kind)
    kept = ~rule.refers(probabilities)
    right = (point.choose(probabilities) if point else probabilities.argmax(axis=1)) == labels
    assert right[kept].mean() == pytest.approx(rule.accuracy)
    assert kept.mean() == pytest.approx(rule.coverage)
    assert rule.accuracy >= accuracy
    confidence = confidence_of(probabilities, kind)
    for lower in np.unique(confidence[~kept]):
        assert right[confidence >= lower].mean() < accuracy
    assert 0 < rule.coverage < 1


def test_nothing_is_referred_where_all_answers_are_good_enough():
    probabilities, labels = answers()
    rule = fit_refer_threshold(probabilities, labels, accuracy=0.5)
    assert (rule.below, rule.coverage) == (0.0, 1.0)
    assert not rule.refers(probabilities).any()


def test_margin_and_highest():
    probabilities = np.array([[0.5, 0.3, 0.2], [0.1, 0.45, 0.45]])
    assert confidence_of(probabilities).tolist() == [0.5, 0.45]
    assert confidence_of(probabilities, "margin") == pytest.approx([0.2, 0.0])


def test_what_is_stored_comes_back():
    probabilities, labels = answers()
    rule = fit_refer_threshold(probabilities, labels, accuracy=0.9)
    assert ReferRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    assert set(rule.to_dict()) == {"below", "confidence", "accuracy", "coverage"}


@pytest.mark.parametrize("change", [{"below": -0.1}, {"confidence": "entropy"}, {"coverage": 2}, {"more": 1}])
def test_a_stored_rule_that_is_wrong_is_refused(change):
    with pytest.raises(ConfigError):
        ReferRule.from_dict({"below": 0.5, "confidence": "margin", "accuracy": None, "coverage": None} | change)


def test_what_cannot_be_fitted_says_so():
    probabilities, labels = answers()
    with pytest.raises(DataError, match="not reached"):
        fit_refer_threshold(probabilities, (probabilities.argmax(axis=1) + 1) % 3, accuracy=0.9)
    with pytest.raises(ConfigError, match="confidence"):
        fit_refer_threshold(probabilities, labels, accuracy=0.9, confidence="entropy")
    with pytest.raises(DataError, match="Confidences"):
        risk_coverage(np.ones(3), np.ones(2, bool))
