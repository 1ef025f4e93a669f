"""Comparisons against DeLong's sums written out, scikit-learn, and how often chance alone looks like a difference."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from bcx.errors import DataError
from bcx.evaluate import intervals
from bcx.evaluate.intervals import compare_answers, delong, paired_bootstrap, resample_weights
from bcx.evaluate.metrics import classification_report, figure_names, ranked_auc

CLASSES = ("normal", "benign", "malignant")


def scores(count: int = 200, seed: int = 0, better: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores of two models that share much of their noise, A the better by `better`, and who is positive."""
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    positive[:4] = [True, True, False, False]
    shared = rng.normal(size=count)
    a, b = (shared + 0.7 * rng.normal(size=count) + (1.2 + more) * positive for more in (better, 0.0))
    return a, b, positive


def softmaxed(labels: np.ndarray, signal: float, rng: np.random.Generator) -> np.ndarray:
    odds = np.exp(rng.normal(size=(len(labels), 3)) + signal * np.eye(3)[labels])
    return odds / odds.sum(axis=1, keepdims=True)


def slow_delong(rows: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """DeLong et al. 1988, equations 3 to 5, pair by pair: the structural components and their covariances."""
    ill, well = rows[:, positive], rows[:, ~positive]
    m, n = ill.shape[1], well.shape[1]
    psi = np.array(
        [[[1.0 if x > y else 0.5 if x == y else 0.0 for y in well[k]] for x in ill[k]] for k in range(len(rows))]
    )
    area = psi.mean(axis=(1, 2))
    v10, v01 = psi.mean(axis=2), psi.mean(axis=1)
    count = len(rows)
    s10, s01 = np.zeros((count, count)), np.zeros((count, count))
    for r in range(count):
        for s in range(count):
            s10[r, s] = sum((v10[r, i] - area[r]) * (v10[s, i] - area[s]) for i in range(m)) / (m - 1)
            s01[r, s] = sum((v01[r, j] - area[r]) * (v01[s, j] - area[s]) for j in range(n)) / (n - 1)
    return area, s10 / m + s01 / n


@given(seed=st.integers(0, 10_000), count=st.integers(4, 30), levels=st.integers(1, 8))
@settings(max_examples=60, deadline=None)
def test_fast_delong_equals_the_sums_over_all_pairs(seed, count, levels):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, levels, (2, count)) / levels  # ties
    positive = rng.random(count) < 0.5
    positive[:4] = [True, True, False, False]
    found = delong(*rows, positive)
    area, covariance = slow_delong(rows, positive)
    spread = np.sqrt(max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0))
    np.testing.assert_allclose([found["value_a"], found["value_b"]], area, atol=1e-12)
    np.testing.assert_allclose([found["value"], (found["low"] + found["high"]) / 2], area[0] - area[1], atol=1e-7)
    np.testing.assert_allclose(found["high"] - found["low"], 2 * norm.ppf(0.975) * spread, atol=1e-7)
    np.testing.assert_allclose(area, [roc_auc_score(positive, row) for row in rows], atol=1e-12)


def paired(figure_a, figure_b, groups):
    """Compare one figure, each model's a function of weights."""
    return paired_bootstrap(lambda w: np.array([[figure_a(w)], [figure_b(w)]]), groups)[0]


def test_delong_and_the_bootstrap_agree_where_scans_are_independent():
    a, b, positive = scores(400, seed=1, better=0.3)
    exact = delong(a, b, positive)
    drawn = paired(ranked_auc(a, positive), ranked_auc(b, positive), np.arange(400))
    assert drawn["value"] == pytest.approx(exact["value"], abs=1e-12)
    assert (drawn["low"], drawn["high"]) == pytest.approx((exact["low"], exact["high"]), abs=0.01)
    assert drawn["high"] - drawn["low"] == pytest.approx(exact["high"] - exact["low"], rel=0.12)


def test_delong_rejects_equal_models_as_often_as_it_says():
    p_values = np.array([delong(*scores(150, seed))["p_value"] for seed in range(600)])
    assert (p_values < 0.05).mean() == pytest.approx(0.05, abs=0.025)
    assert (p_values < 0.5).mean() == pytest.approx(0.5, abs=0.06)


def test_the_bootstrap_rejects_equal_models_about_as_often_as_it_says_though_scans_repeat(monkeypatch):
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    rejected = 0
    for seed in range(120):
        a, b, positive = (np.repeat(values, 3) for values in scores(80, seed))
        found = paired(ranked_auc(a, positive), ranked_auc(b, positive), np.repeat(np.arange(80), 3))
        rejected += found["p_value"] < 0.05
    assert 0 < rejected < 16  # 6 are expected


def test_pairing_narrows_the_interval():
    a, b, positive = scores(300, seed=2)
    together = paired(ranked_auc(a, positive), ranked_auc(b, positive), np.arange(300))
    area = ranked_auc(a, positive), ranked_auc(b, positive)
    apart = [
        area[0](w) - area[1](v)
        for w, v in zip(resample_weights(range(300), 500, 1), resample_weights(range(300), 500, 2), strict=True)
    ]
    assert together["high"] - together["low"] < 0.75 * np.subtract(*np.quantile(apart, [0.975, 0.025]))


def test_a_model_against_itself_differs_by_nothing():
    a, _, positive = scores()
    for found in (delong(a, 2 * a + 1, positive), paired(*[ranked_auc(a, positive)] * 2, np.arange(200))):
        assert (found["value"], found["low"], found["high"], found["p_value"]) == (0, 0, 0, 1)
        assert not found["significant"]


def test_answers_are_compared_in_every_figure_of_the_report(monkeypatch):
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 3, 150)
    a, b = softmaxed(labels, 2.5, rng), softmaxed(labels, 0.8, rng)
    groups = np.arange(150) // 2
    monkeypatch.setattr(intervals, "RESAMPLES", 200)
    found = compare_answers(labels, a, b, groups, CLASSES, figure_names(CLASSES))
    assert list(found) == figure_names(CLASSES)
    of_a, of_b = (classification_report(labels, p, CLASSES) for p in (a, b))
    for name in ("accuracy", "macro_auc", "log_loss", "kappa"):
        assert found[name]["value_a"] == pytest.approx(of_a[name])
        assert found[name]["value_b"] == pytest.approx(of_b[name])
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
    assert found["macro_auc"]["p_value"] == pytest.approx(2 / 201)
    assert found["log_loss"]["high"] < 0
    assert (found["macro_auc"]["n"], found["macro_auc"]["groups"]) == (150, 75)
    alone = compare_answers(labels, a, b, groups, CLASSES, ["macro_auc"])
    assert alone == {"macro_auc": found["macro_auc"]}
    stored = json.loads(json.dumps(found["macro_auc"], allow_nan=False))
    assert stored["significant"] is True


def test_what_has_no_value_has_no_difference():
    rng = np.random.default_rng(5)
    labels = rng.integers(1, 3, 60)
    answers = (softmaxed(labels, 1, rng) for _ in "ab")
    found = compare_answers(labels, *answers, np.arange(60), CLASSES, ["auc_normal"])
    assert found["auc_normal"]["value"] is None
    assert found["auc_normal"]["p_value"] is None
    one_group = paired(lambda w: 1.0, lambda w: 0.5, ["g"] * 4)
    assert one_group["value"] == 0.5
    assert one_group["low"] is None


def test_what_does_not_fit_is_refused():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 12)
    answers = softmaxed(labels, 1, rng)
    with pytest.raises(DataError, match="labels"):
        compare_answers(labels, answers, answers[:-1], np.arange(12), CLASSES, ["ece"])
    with pytest.raises(DataError, match="groups"):
        compare_answers(labels, answers, answers, np.arange(11), CLASSES, ["ece"])
