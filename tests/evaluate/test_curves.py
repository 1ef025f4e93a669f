"""Curves and bands against scikit-learn, counting and curves of copied scans; what a cross-fitted scaling may know."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate.curves import GRID, curve_band, decision_curve, referral_curve, reliability_report, reliability_table
from bcx.evaluate.derived import cross_fitted
from bcx.evaluate.intervals import resample_weights
from bcx.evaluate.metrics import calibration_error
from bcx.trust.calibration import apply_temperature, fit_temperature


def scores(count: int = 120, seed: int = 0, levels: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    score = np.round((rng.normal(size=count) + 1.3 * positive) * levels) / levels  # ties
    return score, positive, np.arange(count) // 2


def test_areas_are_scikit_learns():
    score, positive, groups = scores()
    roc, pr = curve_band("roc", score, positive, groups), curve_band("pr", score, positive, groups)
    assert roc.area["value"] == pytest.approx(sk.roc_auc_score(positive, score))
    assert np.trapezoid(roc.line_y, roc.line_x) == pytest.approx(roc.area["value"])
    assert pr.area["value"] == pytest.approx(sk.average_precision_score(positive, score))
    assert (np.diff(pr.line_x) * pr.line_y[1:]).sum() == pytest.approx(pr.area["value"])  # a staircase
    for band in (roc, pr):
        assert band.area["low"] < band.area["value"] < band.area["high"]
        assert (np.diff(band.line_x) >= 0).all()


def test_the_band_is_that_of_curves_of_copied_scans(monkeypatch):
    score, positive, groups = scores(60, seed=1)
    monkeypatch.setattr("bcx.evaluate.curves.FOR_CURVES", 40)
    roc, pr = (curve_band(kind, score, positive, groups) for kind in ("roc", "pr"))
    sensitivities, precisions = [], []
    for weights in resample_weights(groups, 40):
        rows = np.repeat(np.arange(60), weights.astype(int))
        x, y, _ = sk.roc_curve(positive[rows], score[rows])
        sensitivities.append(np.interp(GRID, x, y))
        precision, recall, thresholds = sk.precision_recall_curve(positive[rows], score[rows])
        at = [np.flatnonzero(recall[: len(thresholds)] >= max(r, 1e-9) - 1e-9).max() for r in GRID]
        precisions.append(precision[at])
    for band, curves in ((roc, sensitivities), (pr, precisions)):
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        np.testing.assert_allclose(band.low, low, atol=1e-9)
        np.testing.assert_allclose(band.high, high, atol=1e-9)


def test_the_curve_lies_in_its_band_nearly_everywhere():
    score, positive, groups = scores(400, seed=2)
    band = curve_band("roc", score, positive, groups)
    y = np.interp(GRID, band.line_x, band.line_y)
    assert ((band.low - 1e-9 <= y) & (y <= band.high + 1e-9)).mean() > 0.95


def test_scans_of_one_kind_have_no_curve():
    for kind in ("roc", "pr"):
        with pytest.raises(DataError, match="3 of 3 scans are positive"):
            curve_band(kind, np.ones(3), np.ones(3, bool), ["a", "b", "c"])
        with pytest.raises(DataError, match=r"groups \(2,\)"):
            curve_band(kind, np.ones(3), np.array([True, False, True]), ["a", "b"])


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
    table = reliability_table(confidence, right, groups)
    assert sum(row["n"] for row in table) == 300
    gap = sum(row["n"] * abs(row["right"] - row["confidence"]) for row in table) / 300
    assert gap == pytest.approx(calibration_error(confidence, right, np.ones(300)))
    assert [row["n"] for row in table] == [20] * 15
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


def net_benefit(probability: np.ndarray, positive: np.ndarray, threshold: float) -> float:
    """True positives less false positives by the odds of the threshold, per scan, counted one by one."""
    acted = probability >= threshold
    alarms = (acted & ~positive).sum() * threshold / (1 - threshold)
    return float(((acted & positive).sum() - alarms) / len(positive))


def test_the_decision_curve_is_the_net_benefit_at_each_threshold():
    logits, labels, groups = answers()
    probability, positive = softmax(logits, axis=1)[:, 2], labels == 2
    curve = decision_curve(probability, positive, groups)
    thresholds = np.array(curve["threshold"])
    expected = [net_benefit(probability, positive, t) for t in thresholds]
    np.testing.assert_allclose(curve["net_benefit"], expected, atol=1e-5)
    share = positive.mean()
    np.testing.assert_allclose(curve["on_all"], share - (1 - share) * thresholds / (1 - thresholds), atol=1e-5)
    assert all(a < b < c for a, b, c in zip(*(curve[name] for name in ("low", "net_benefit", "high")), strict=True))


@pytest.mark.parametrize("likeliest", [True, False])
def test_the_risk_is_counted_among_the_surest(likeliest):
    logits, labels, groups = answers()
    probabilities = softmax(logits, axis=1)
    given = None if likeliest else np.where(probabilities[:, 0] >= 0.4, 0, 2)
    curve = referral_curve(probabilities, labels, groups, given)
    chosen = probabilities.argmax(axis=1) if given is None else given
    surest = np.argsort(-probabilities.max(axis=1))
    wrong = (chosen != labels)[surest]
    risks = dict(zip(curve["answered"], curve["wrong"], strict=True))
    assert [risks[share] for share in (0.1, 0.5, 1.0)] == pytest.approx(
        [wrong[:30].mean(), wrong[:150].mean(), wrong.mean()], abs=1e-5
    )
    assert curve["area"]["value"] == pytest.approx((np.cumsum(wrong) / np.arange(1, 301)).mean())
    assert curve["area"]["low"] < curve["area"]["value"] < curve["area"]["high"]
    assert all(a <= b <= c for a, b, c in zip(*(curve[name] for name in ("low", "wrong", "high")), strict=True))
