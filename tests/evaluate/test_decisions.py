"""Reliability, net benefit and referral against counting, and what a cross-fitted scaling may know."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax

from bcx.errors import DataError
from bcx.evaluate.decisions import cross_fitted, decision_curve, referral_curve, reliability_report, reliability_table
from bcx.evaluate.metrics import calibration_error, net_benefit
from bcx.trust.calibration import apply_temperature, fit_temperature
from bcx.trust.decisions import OperatingPoint


def answers(count: int = 300, seed: int = 0, factor: float = 2.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are too sure of themselves by `factor`, labels, and groups of two."""
    rng = np.random.default_rng(seed)
    logits = 1.5 * rng.normal(size=(count, 3))
    labels = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return factor * logits, labels, np.arange(count) // 2


def test_the_tables_gaps_add_up_to_the_calibration_error():
    logits, labels, groups = answers()
    probabilities = softmax(logits, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    table = reliability_table(confidence, right, groups, bins=10)
    assert sum(row["n"] for row in table) == 300
    gap = sum(row["n"] * abs(row["right"] - row["confidence"]) for row in table) / 300
    assert gap == pytest.approx(calibration_error(confidence, right, bins=10))
    assert [row["n"] for row in table] == [30] * 10
    for row, after in pairwise(table):
        assert row["from"] <= row["confidence"] <= row["to"] < after["from"]
        inside = (confidence >= row["from"]) & (confidence <= row["to"])
        assert row["right"] == pytest.approx(right[inside].mean())
        assert row["low"] < row["right"] < row["high"] or row["right"] == 1
    assert json.loads(json.dumps(table, allow_nan=False)) == table


def test_few_or_equal_confidences_make_few_rows():
    assert len(reliability_table(np.full(6, 0.5), np.array([True, False] * 3), range(6))) == 1
    alone = reliability_table(np.array([0.7]), np.array([True]), ["g"])
    assert alone == [{"n": 1, "from": 0.7, "to": 0.7, "confidence": 0.7, "right": 1.0, "low": None, "high": None}]
    with pytest.raises(DataError, match="groups"):
        reliability_table(np.array([0.7]), np.array([True]), ["g", "h"])


def test_scaling_shows_in_the_report():
    logits, labels, groups = answers(600, factor=3.0)
    report = reliability_report(
        {"before": apply_temperature(logits), "after": apply_temperature(logits, 3.0)}, labels, groups
    )
    assert report["before"]["ece"]["value"] > 0.1 > 0.06 > report["after"]["ece"]["value"]
    assert report["before"]["log_loss"]["low"] > report["after"]["log_loss"]["high"]
    assert report["after"]["brier"]["n"] == 600
    assert len(report["after"]["bins"]) == 15


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_a_fold_is_scaled_without_a_look_at_its_labels(scaling):
    logits, labels, _ = answers()
    folds = np.arange(300) % 3
    scaled = cross_fitted(logits, labels, folds, scaling)
    shuffled = labels.copy()
    shuffled[folds == 1] = 0
    again = cross_fitted(logits, shuffled, folds, scaling)
    np.testing.assert_array_equal(scaled[folds == 1], again[folds == 1])
    assert (scaled[folds == 0] != again[folds == 0]).any()
    if scaling == "temperature":
        rest = folds != 2
        expected = apply_temperature(logits[~rest], fit_temperature(logits[rest], labels[rest]))
        np.testing.assert_array_equal(scaled[~rest], expected)
    np.testing.assert_allclose(cross_fitted(logits, labels, folds, "none"), softmax(logits, axis=1), atol=1e-12)


def test_a_scaling_that_cannot_be_cross_fitted_is_refused():
    logits, labels, _ = answers(20)
    for folds, scaling in ((np.zeros(20), "temperature"), (np.arange(20) % 2, "matrix"), (np.arange(19), "vector")):
        with pytest.raises(DataError, match="folds"):
            cross_fitted(logits, labels, folds, scaling)


def test_the_decision_curve_is_the_net_benefit_at_each_threshold():
    logits, labels, groups = answers()
    probability, positive = softmax(logits, axis=1)[:, 2], labels == 2
    thresholds = np.array([0.05, 0.2, 0.5])
    curve, on_all = decision_curve(probability, positive, groups, thresholds)
    assert curve.y.tolist() == [net_benefit(probability, positive, t) for t in thresholds]
    share = positive.mean()
    np.testing.assert_allclose(on_all, share - (1 - share) * thresholds / (1 - thresholds))
    assert (curve.low < curve.y).all()
    assert (curve.y < curve.high).all()
    np.testing.assert_allclose(decision_curve(probability, positive, groups, share * np.ones(1))[1], 0, atol=1e-12)


@pytest.mark.parametrize("point", [None, OperatingPoint(0.4, 0.4)])
def test_the_risk_is_counted_among_the_surest(point):
    logits, labels, groups = answers()
    probabilities = softmax(logits, axis=1)
    given = None if point is None else point.choose(probabilities)
    curve, area = referral_curve(probabilities, labels, groups, chosen=given, coverages=np.array([0.1, 0.5, 1.0]))
    chosen = probabilities.argmax(axis=1) if given is None else given
    surest = np.argsort(-probabilities.max(axis=1))
    wrong = (chosen != labels)[surest]
    np.testing.assert_allclose(curve.y, [wrong[:30].mean(), wrong[:150].mean(), wrong.mean()])
    assert area["value"] == pytest.approx((np.cumsum(wrong) / np.arange(1, 301)).mean())
    assert area["low"] < area["value"] < area["high"]
    assert (curve.low <= curve.y).all()
    assert (curve.y <= curve.high).all()
