"""Harm first: the targets are met at the least referral, and no answer contradicts the probabilities dangerously."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcx.errors import CheckpointError, ConfigError, DataError
from bcx.tasks import get_task
from bcx.trust.rule import POINTS, REASONS, Decider, HarmRule, fit_rule, full_prevalence, with_prevalence

TASK = get_task("breast-ultrasound")
SHARES = st.tuples(*[st.floats(0.001, 1)] * 3).map(lambda values: np.array(values) / sum(values))
RULE = st.builds(
    HarmRule,
    absent_above=st.floats(0.5, 1),
    negative_below=st.floats(0, 0.5),
    screening_above=st.floats(0, 1),
    rule_in_above=st.floats(0, 1),
    prevalence=st.just((0.05, 0.65, 0.3)),
)


def simulated(seed: int = 0, n: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    logits = rng.normal(0, 1.2, (n, 3)) + 2 * np.eye(3)[labels]
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def answers(rule: HarmRule, probabilities: np.ndarray, **how) -> np.ndarray:
    """The class that is answered, -1 where it is referred."""
    labels, reasons = rule.decide(probabilities, **how)
    return np.where(reasons > 0, -1, labels)


@given(RULE, SHARES, SHARES, st.sampled_from(POINTS))
def test_normal_is_never_said_where_malignant_is_more_probable(rule, probabilities, wanted, point):
    shown = with_prevalence(probabilities, rule.prevalence, wanted)
    label, reason = (int(part[0]) for part in rule.decide(probabilities[None], point=point, shown=shown[None]))
    if label != 2:
        assert label == shown.argmax()  # malignant alone may be said before it is the likeliest: at "screening"
    if reason == 0 and label == 0:
        assert probabilities[0] >= rule.absent_above
        assert shown[0] >= shown[2]
    if reason == 0 and label == 1:
        assert probabilities[2] <= rule.negative_below
        assert shown[1] >= shown[2]


@pytest.mark.parametrize(
    ("row", "point", "said"),
    [
        ((0.05, 0.89, 0.06), "default", "Benign is the most probable, but malignant is too probable to rule out."),
        ((0.1, 0.3, 0.6), "rule-in", "Malignant is the most probable, but not probable enough for an answer."),
        ((0.6, 0.38, 0.02), "default", "Normal is the most probable, but not probable enough for an answer."),
    ],
)
def test_the_reason_of_a_referral_agrees_with_the_probabilities(row, point, said):
    decider = Decider({"rule": HarmRule(0.7, 0.05, 0.1, 0.8).to_dict()}, TASK, point=point)
    assert decider.decide(np.array(row))[1] == said


def test_an_unknown_operating_point_decides_nothing():
    with pytest.raises(ConfigError, match="no operating point called 'rule in'"):
        HarmRule(0.7, 0.1, 0.05, 0.8).decide(np.eye(3), point="rule in")


def test_each_row_is_decided_as_the_sentence_says():
    probabilities, _ = simulated()
    rule = HarmRule(0.7, 0.1, 0.05, 0.8, unlike_above=1.5)
    distances = np.linspace(0, 2, len(probabilities))
    labels, reasons = rule.decide(probabilities, distances)
    for p, label, reason, distance in zip(probabilities, labels, reasons, distances, strict=True):
        assert label == p.argmax()
        safe = {0: p[0] >= 0.7, 1: p[2] <= 0.1, 2: True}[label]
        expected = "unlike" if distance > 1.5 else "" if safe else {0: "absent", 1: "kind"}[label]
        assert REASONS[reason] == expected


def test_harm_stays_below_its_targets_in_every_hospital():
    probabilities, labels = simulated()
    hospitals = np.where(np.arange(len(labels)) % 3 == 0, "a", "b")
    probabilities = np.where((hospitals == "a")[:, None], probabilities**0.5, probabilities)  # doubts more
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    targets = {"absent_harm": 0.02, "negative_harm": 0.05}
    strict, mean = (fit_rule(probabilities, labels, TASK, **targets, hospitals=h) for h in (hospitals, None))
    each = [fit_rule(probabilities[hospitals == h], labels[hospitals == h], TASK, **targets) for h in "ab"]
    assert strict.absent_above == max(rule.absent_above for rule in each)
    assert strict.negative_below == min(rule.negative_below for rule in each)
    assert strict.negative_below < mean.negative_below
    for place in "ab":
        ill = (labels == 2) & (hospitals == place)
        said = answers(strict, probabilities[ill])
        assert (said == 0).mean() <= 0.02
        assert (said == 1).mean() <= 0.05


def test_harm_stays_below_its_targets_and_no_milder_threshold_would_do():
    probabilities, labels = simulated()
    rule = fit_rule(probabilities, labels, TASK, absent_harm=0.02, negative_harm=0.05)
    ill, likeliest = labels == 2, probabilities.argmax(axis=1)
    given_answers = answers(rule, probabilities)
    assert (given_answers[ill] == 0).mean() <= 0.02
    assert (given_answers[ill] == 1).mean() <= 0.05
    milder = np.sort(probabilities[ill & (likeliest == 0), 0])
    milder = milder[milder < rule.absent_above][-1]
    assert ((likeliest == 0) & (probabilities[:, 0] >= milder))[ill].mean() > 0.02
    milder = np.sort(probabilities[ill & (likeliest == 1), 2])
    milder = milder[milder > rule.negative_below][0]
    assert ((likeliest == 1) & (probabilities[:, 2] <= milder))[ill].mean() > 0.05


def test_operating_points_hold_their_sensitivity_and_specificity_and_no_more():
    probabilities, labels = simulated()
    rule, ill = fit_rule(probabilities, labels, TASK), labels == 2
    called = answers(rule, probabilities, point="screening") == 2
    assert 0.95 <= called[ill].mean() < 0.95 + 1 / ill.sum()
    called = answers(rule, probabilities, point="rule-in") == 2
    assert 0.05 - 1 / (~ill).sum() < called[~ill].mean() <= 0.05


def test_a_hospital_with_many_scans_weighs_as_one_with_few():
    probabilities, labels = simulated()
    large, other = np.repeat(np.arange(500), 4), np.arange(500, 1500)
    rows = np.concatenate([large, other])
    weights = np.concatenate([np.full(2000, 1 / 4), np.ones(1000)])
    few, many = (
        fit_rule(probabilities, labels, TASK),
        fit_rule(probabilities[rows], labels[rows], TASK, weights=weights),
    )
    assert few == many


def test_clean_scans_do_not_lower_a_threshold_below_one_half():
    probabilities, labels = np.eye(3)[[0, 1, 2] * 5] * 0.94 + 0.02, np.array([0, 1, 2] * 5)
    rule = fit_rule(probabilities, labels, TASK)
    assert (rule.absent_above, rule.negative_below) == (0.5, 0.5)


def test_it_is_stored_as_json_and_says_what_it_does():
    rule = fit_rule(*simulated(), TASK, prevalence=(0.1, 0.6, 0.3), fitted_on="x", distances=np.linspace(0, 2, 101))
    assert rule.unlike_above == pytest.approx(1.94)
    assert HarmRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    assert f"P(malignant) is at most {rule.negative_below:.3f}" in rule.what
    assert f"P(normal) is at least {rule.absent_above:.3f}" in rule.what


def test_prevalence_is_bayes_rule_and_can_be_taken_back():
    stated, wanted = (0.1, 0.6, 0.3), full_prevalence({"malignant": 0.01}, TASK.classes, (0.1, 0.6, 0.3))
    assert wanted == pytest.approx((0.99 / 7, 0.99 * 6 / 7, 0.01))
    probabilities, _ = simulated()
    shown = with_prevalence(probabilities, stated, wanted)
    # the likelihood ratio of two classes, which no prevalence changes
    odds = (shown[:, 2] / shown[:, 1]) / (wanted[2] / wanted[1])
    assert odds == pytest.approx((probabilities[:, 2] / probabilities[:, 1]) / (stated[2] / stated[1]))
    assert with_prevalence(shown, wanted, stated) == pytest.approx(probabilities)


@pytest.mark.parametrize(
    "wanted", [{"malign": 0.1}, {"malignant": 1.0}, {"malignant": 0.0}, {"normal": 0.6, "benign": 0.6}]
)
def test_a_prevalence_that_is_none_is_refused(wanted):
    with pytest.raises(ConfigError, match="The prevalence is"):
        full_prevalence(wanted, TASK.classes, (0.1, 0.6, 0.3))


def test_shares_of_all_classes_must_sum_to_one():
    whole = {"normal": 0.8, "benign": 0.15, "malignant": 0.05}
    assert full_prevalence(whole, TASK.classes, (0.1, 0.6, 0.3)) == pytest.approx(tuple(whole.values()))
    with pytest.raises(ConfigError, match="1 in all"):
        full_prevalence(whole | {"normal": 0.7}, TASK.classes, (0.1, 0.6, 0.3))


@pytest.mark.parametrize(
    "change",
    [
        *({"positive": 0}, {"positive": "2"}, {"prevalence": 0.3}, {"prevalence": [0.5, "x", 0.5]}),
        *({"prevalence": [0.5, 0.5]}, {"positive": 1}, {"unlike_above": "far"}, {"what": None}, {"more": 1}),
        *({"absent_above": 1.7}, {"negative_below": float("nan")}, {"prevalence": [0.5, 0.6, -0.1]}),
    ],
    ids=str,
)
def test_a_stored_rule_that_is_damaged_is_an_error_of_the_checkpoint(change):
    stored = HarmRule(0.7, 0.1, 0.05, 0.8).to_dict() | change
    with pytest.raises(CheckpointError, match="'mine'"):
        Decider({"rule": stored}, TASK, name="mine")


def test_what_cannot_be_fitted_or_asked_is_named():
    probabilities, labels = simulated()
    with pytest.raises(DataError, match="0 are malignant"):
        fit_rule(probabilities[labels < 2], labels[labels < 2], TASK)
    with pytest.raises(ConfigError, match="operating point called 'safe'"):
        Decider({"rule": HarmRule(0.7, 0.1, 0.05, 0.8).to_dict()}, TASK, point="safe")
