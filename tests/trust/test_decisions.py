"""Operating points against plain loops, brute force over every threshold, and what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcx.errors import ConfigError, DataError
from bcx.trust.decisions import (
    LOST_AS_NORMAL,
    PLATEAU,
    OperatingPoint,
    default_point,
    fit_operating_point,
    point_figures,
    positive_share,
    sensitivity_points,
)


def answers(count: int = 400, seed: int = 0, signal: float = 1.5, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    odds = np.exp(rng.normal(size=(count, classes)) + signal * np.eye(classes)[labels])
    return odds / odds.sum(axis=1, keepdims=True), labels


def balance(point: OperatingPoint, probabilities: np.ndarray, labels: np.ndarray) -> float:
    found = point_figures(point, probabilities, labels)
    return (found.absent_recall + 1 - found.lost_lesions) / 2


@given(
    seed=st.integers(0, 1000), normal=st.floats(0, 1), positive=st.floats(0, 1), which=st.sampled_from([(3, 2), (4, 1)])
)
@settings(max_examples=60, deadline=None)
def test_choosing_is_the_rule_in_the_docstring(seed, normal, positive, which):
    classes, ill = which
    probabilities, _ = answers(30, seed, classes=classes)
    chosen = OperatingPoint(normal, positive, ill).choose(probabilities)
    others = [c for c in range(1, classes) if c != ill]
    for row, found in zip(probabilities, chosen, strict=True):
        if row[0] >= normal:
            assert found == 0
        elif row[ill] / row[1:].sum() >= positive:
            assert found == ill
        else:
            assert found == max(others, key=lambda c: row[c])


def test_the_default_point_differs_from_the_most_probable_class_only_towards_a_lesion():
    probabilities, _ = answers(5000, signal=0.5)
    chosen, likely = default_point().choose(probabilities), probabilities.argmax(axis=1)
    differs = chosen != likely
    assert 0 < differs.mean() < 0.15
    assert (likely[differs] == 0).all()
    assert (probabilities[differs, 0] < 0.5).all()
    assert (chosen[likely > 0] == likely[likely > 0]).all()


def test_a_scan_that_is_surely_normal_has_no_share_of_malignant():
    sure = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert positive_share(sure).tolist() == [0.0, 1.0]
    assert OperatingPoint(1.0, 0.0).choose(sure).tolist() == [0, 2]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("lost", [0.02, 0.05, 0.3])
def test_normal_is_as_balanced_as_any_threshold_within_the_allowed_loss(seed, lost):
    probabilities, labels = answers(seed=seed)
    point = fit_operating_point(probabilities, labels, lost_lesions=lost)
    best = 0.0
    for threshold in np.unique(probabilities[:, 0]):
        tried = OperatingPoint(float(threshold), 0.5)
        if point_figures(tried, probabilities, labels).lost_lesions <= lost:
            best = max(best, balance(tried, probabilities, labels))
    assert point_figures(point, probabilities, labels).lost_lesions <= lost
    assert best - PLATEAU <= balance(point, probabilities, labels) <= best + 1e-12


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_stated_recall_of_normal_is_reached_with_the_fewest_lost_lesions(seed):
    probabilities, labels = answers(seed=seed)
    point = fit_operating_point(probabilities, labels, absent_recall=0.8, lost_lesions=0.5)
    found = point_figures(point, probabilities, labels)
    assert found.absent_recall >= 0.8
    for threshold in np.unique(probabilities[:, 0]):
        tried = point_figures(OperatingPoint(float(threshold), 0.5), probabilities, labels)
        assert tried.absent_recall < 0.8 or tried.lost_lesions >= found.lost_lesions


@pytest.mark.parametrize("sensitivity", [0.8, 0.9, 0.95, 1.0])
def test_a_stated_sensitivity_is_reached_over_all_malignant_scans_at_the_least_cost(sensitivity):
    probabilities, labels = answers(seed=4)
    point = fit_operating_point(probabilities, labels, positive_sensitivity=sensitivity)
    found = point_figures(point, probabilities, labels)
    assert found.sensitivity >= sensitivity - 1e-9
    chosen = point.choose(probabilities)
    assert (chosen[labels == 2] == 0).mean() <= LOST_AS_NORMAL * (1 - sensitivity) + 1e-9
    for share in np.unique(positive_share(probabilities)):
        tried = point_figures(OperatingPoint(point.normal_above, float(share)), probabilities, labels)
        assert tried.sensitivity < sensitivity - 1e-9 or tried.specificity <= found.specificity + 1e-12


def test_without_a_stated_sensitivity_the_positive_class_is_balanced():
    probabilities, labels = answers(seed=5)
    point = fit_operating_point(probabilities, labels)

    def of(share: float) -> float:
        found = point_figures(OperatingPoint(point.normal_above, share), probabilities, labels)
        return (found.sensitivity + found.specificity) / 2

    assert of(point.positive_above) >= max(of(float(s)) for s in positive_share(probabilities)) - PLATEAU


def test_a_whole_number_weight_equals_that_many_copies():
    probabilities, labels = answers(120, seed=6)
    weights = np.random.default_rng(0).integers(0, 4, 120)
    rows = np.repeat(np.arange(120), weights)
    for rules in ({}, {"positive_sensitivity": 0.9, "absent_recall": 0.5, "lost_lesions": 0.3}):
        weighted = fit_operating_point(probabilities, labels, weights=weights, **rules)
        copied = fit_operating_point(probabilities[rows], labels[rows], **rules)
        # scores without weight may move a threshold between its neighbours, but no scan that counts crosses it
        np.testing.assert_array_equal(weighted.choose(probabilities[rows]), copied.choose(probabilities[rows]))
    assert point_figures(copied, probabilities, labels, weights).__dict__ == pytest.approx(
        point_figures(copied, probabilities[rows], labels[rows]).__dict__
    )


def test_thresholds_keep_clear_of_every_score():
    probabilities, labels = answers(seed=7)
    point = fit_operating_point(probabilities, labels, positive_sensitivity=0.9)
    np.testing.assert_array_equal(
        point.choose(probabilities.astype(np.float32)), point.choose(probabilities * (1 + 1e-9))
    )
    assert np.abs(probabilities[:, 0] - point.normal_above).min() > 1e-7


def test_figures_are_shares_counted_by_hand():
    probabilities = np.array([[0.9, 0.1, 0], [0.2, 0.7, 0.1], [0.8, 0.1, 0.1], [0.1, 0.2, 0.7], [0.1, 0.3, 0.6]])
    labels = np.array([0, 0, 2, 2, 1])
    found = point_figures(OperatingPoint(0.5, 0.5), probabilities, labels)
    assert (found.sensitivity, found.specificity) == (0.5, pytest.approx(2 / 3))
    assert (found.absent_recall, found.lost_lesions, found.accuracy) == (0.5, pytest.approx(1 / 3), pytest.approx(0.4))
    no_normal = point_figures(OperatingPoint(0.5, 0.5), probabilities[2:], labels[2:])
    assert np.isnan(no_normal.absent_recall)
    stored = json.loads(json.dumps(no_normal.to_dict(), allow_nan=False))
    assert (stored["absent_recall"], stored["point"]) == (None, OperatingPoint(0.5, 0.5).to_dict())


def test_higher_sensitivity_costs_specificity():
    probabilities, labels = answers(seed=8)
    ninety, ninety_five = sensitivity_points(probabilities, labels)
    assert 0.95 > ninety.sensitivity >= 0.90
    assert ninety_five.sensitivity >= 0.95
    assert ninety_five.specificity < ninety.specificity
    assert ninety.point == fit_operating_point(probabilities, labels, positive_sensitivity=0.9)


def test_what_is_stored_comes_back():
    point = OperatingPoint(0.1 + 0.2, 1 / 3)
    stored = json.loads(json.dumps(point.to_dict()))
    assert stored == {"normal_above": 0.1 + 0.2, "positive_above": 1 / 3, "positive": 2}
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
        {"positive": 2.0},
        {"benign_above": 0.5},
    ],
)
def test_a_stored_point_that_is_wrong_is_refused(change):
    with pytest.raises(ConfigError):
        OperatingPoint.from_dict({"normal_above": 0.5, "positive_above": 0.5, "positive": 2} | change)
    with pytest.raises(ConfigError, match="keys"):
        OperatingPoint.from_dict({"normal_above": 0.5})
    with pytest.raises(ConfigError, match="keys"):
        OperatingPoint.from_dict([0.5, 0.5])  # type: ignore[arg-type]


def test_what_cannot_be_fitted_says_so():
    probabilities, labels = answers(60)
    with pytest.raises(DataError, match="No scan of class 0"):
        fit_operating_point(probabilities[labels > 0], labels[labels > 0])
    with pytest.raises(DataError, match="No scan of class 2"):
        fit_operating_point(probabilities[labels < 2], labels[labels < 2])
    with pytest.raises(DataError, match="costs more lesions than allowed"):
        fit_operating_point(probabilities, labels, absent_recall=1.0, lost_lesions=0.0)
    with pytest.raises(ConfigError, match="sensitivity"):
        fit_operating_point(probabilities, labels, positive_sensitivity=90)
    with pytest.raises(DataError, match="labels"):
        fit_operating_point(probabilities, labels[:-1])
    with pytest.raises(DataError, match="classes"):
        default_point().choose(probabilities[:, :2])
