"""Intervals against scikit-learn's weighted figures, SciPy's bootstrap and what whole groups imply."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate import intervals
from bcx.evaluate.intervals import bootstrap_intervals, means_with_intervals, report_with_intervals, resample_weights
from bcx.evaluate.metrics import classification_report, ranked_auc, ranked_precision

CLASSES = ("normal", "benign", "malignant")
OVERALL = (
    *("accuracy", "balanced_accuracy", "macro_auc", "macro_f1", "mcc", "log_loss", "ece", "brier", "kappa"),
    *("macro_precision", "macro_specificity", "macro_pr_auc"),
)


def answers(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    odds = np.exp(rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels])
    return labels, odds / odds.sum(axis=1, keepdims=True), rng.integers(0, max(2, count // 2), count)


@given(seed=st.integers(0, 10_000), count=st.integers(2, 40), levels=st.integers(1, 6), whole=st.booleans())
@settings(max_examples=150, deadline=None)
def test_ranked_areas_equal_scikit_learns_with_ties_and_weights(seed, count, levels, whole):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, levels, count) / levels
    positive = rng.random(count) < 0.5
    positive[:2] = [True, False]
    weights = rng.integers(0, 4, count).astype(float) if whole else rng.random(count)
    weights[:2] += 1
    for ranked, theirs in ((ranked_auc, sk.roc_auc_score), (ranked_precision, sk.average_precision_score)):
        expected = theirs(positive, scores, sample_weight=weights)
        assert ranked(scores, positive)(weights) == pytest.approx(expected, abs=1e-12)
        assert np.isnan(ranked(scores, positive)(weights * ~positive))


def test_ranked_auc_without_a_class_has_no_value():
    area = ranked_auc(np.array([0.1, 0.9]), np.array([False, True]))
    assert np.isnan(area(np.array([1.0, 0.0])))
    assert area(np.array([1.0, 1.0])) == 1.0


def test_groups_are_drawn_whole_as_often_as_there_are_groups():
    groups = np.array(["b", "a", "b", "c", "a", "d"])
    drawn = np.stack(list(resample_weights(groups, 4000, seed=1)))
    for name in "abcd":
        member = drawn[:, groups == name]
        assert (member == member[:, :1]).all()
        assert member[:, 0].mean() == pytest.approx(1.0, abs=0.06)
    one_per_group = drawn[:, [0, 1, 3, 5]]
    assert (one_per_group.sum(axis=1) == 4).all()
    # the number of times that one of n is drawn in n draws is binomial: variance 1 - 1/n
    assert one_per_group.var() == pytest.approx(0.75, abs=0.05)


def bootstrap_interval(statistic, groups, *count) -> tuple[float, float]:
    """The interval of one figure."""
    (low,), (high,) = bootstrap_intervals(lambda weights: np.array([statistic(weights)]), groups, *count)
    return low, high


def test_single_scans_agree_with_scipys_percentile_bootstrap():
    values = np.random.default_rng(2).exponential(size=150)
    ours = bootstrap_interval(lambda w: float((w * values).sum() / w.sum()), np.arange(150), 4000)
    theirs = bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(3))
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_copies_of_a_scan_in_its_group_do_not_narrow_the_interval():
    values = np.random.default_rng(5).normal(size=80)
    copied = np.repeat(values, 4)

    def mean_of(data: np.ndarray):
        return lambda weights: float((weights * data).sum() / weights.sum())

    single = bootstrap_interval(mean_of(values), np.arange(80))
    grouped = bootstrap_interval(mean_of(copied), np.repeat(np.arange(80), 4))
    assert grouped == pytest.approx(single)
    low, high = bootstrap_interval(mean_of(copied), np.arange(320))  # the mistake: copies taken for new scans
    assert high - low < 0.65 * (single[1] - single[0])


def test_fewer_than_two_groups_have_no_interval():
    assert np.isnan(bootstrap_interval(lambda w: 1.0, ["one", "one"])).all()


@pytest.mark.parametrize(("share", "known"), [(0.3, True), (0.7, False)])
def test_resamples_without_a_value_are_left_out_until_they_are_most(share, known):
    rng = np.random.default_rng(0)
    found = bootstrap_interval(lambda w: float("nan") if rng.random() < share else 2.0, np.arange(5), 400)
    assert (found == (2.0, 2.0)) if known else np.isnan(found).all()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bounds_are_those_of_resampled_reports(seed, monkeypatch):
    """The quick weighted arithmetic against the whole report, computed again from copies of the drawn scans."""
    labels, probabilities, groups = answers(70, seed)
    probabilities = np.round(probabilities, 1) + 0.01  # ties
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    weights_drawn = list(resample_weights(groups, 60, seed=9))
    monkeypatch.setattr(intervals, "resample_weights", lambda groups, count: iter(weights_drawn))
    found = report_with_intervals(labels, probabilities, groups, CLASSES)
    report = classification_report(labels, probabilities, CLASSES)
    held = report["counts"]
    drawn = []
    for weights in weights_drawn:
        rows = np.repeat(np.arange(70), weights.astype(int))
        drawn.append(classification_report(labels[rows], probabilities[rows], CLASSES))
    pick = {name: (lambda r, name=name: r[name]) for name in OVERALL}
    for name in CLASSES:
        pick[f"sensitivity_{name}"] = lambda r, name=name: r["recall"][name]
        pick[f"specificity_{name}"] = lambda r, name=name: r["specificity"][name]
        for figure in ("auc", "precision", "f1", "pr_auc", "net_benefit"):
            pick[f"{figure}_{name}"] = lambda r, name=name, figure=figure: r[figure][name]
    for name in ("benign_vs_normal", "malignant_vs_normal", "malignant_vs_benign"):
        pick[f"auc_{name}"] = lambda r, name=name: r["auc_pairs"][name]
    assert set(pick) == set(found)
    counted = {"sensitivity": held, "specificity": {c: 70 - n for c, n in held.items()}}
    for name, figure in found.items():
        low, high = np.quantile([pick[name](each) for each in drawn], [0.025, 0.975])
        assert (figure["low"], figure["high"]) == pytest.approx((low, high), abs=1e-9), name
        assert figure["value"] == pick[name](report)
        of, _, class_ = name.partition("_")
        assert figure["n"] == counted.get(of, {}).get(class_, 70) or "_vs_" in name
    assert found["auc_malignant_vs_benign"]["n"] == held["malignant"] + held["benign"]


def test_a_missing_class_has_no_figures_and_no_intervals():
    labels, probabilities, groups = answers(120, seed=3)
    kept = labels != 0
    found = report_with_intervals(labels[kept], probabilities[kept], groups[kept], CLASSES)
    missing = ("sensitivity", "auc", "precision", "f1", "pr_auc", "net_benefit")
    for name in (*(f"{figure}_normal" for figure in missing), "auc_benign_vs_normal"):
        assert (found[name]["value"], found[name]["low"], found[name]["high"]) == (None, None, None)
    assert found["sensitivity_normal"]["n"] == 0
    for name in (*OVERALL, "specificity_normal", "auc_malignant_vs_benign"):
        if name == "ece":
            continue
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]


def test_one_scan_gives_values_without_intervals():
    found = report_with_intervals(np.array([1]), np.array([[0.1, 0.8, 0.1]]), ["g"], CLASSES)
    assert found["accuracy"] == {"value": 1.0, "low": None, "high": None, "n": 1}


def test_groups_must_match():
    labels, probabilities, groups = answers(10)
    with pytest.raises(DataError, match="groups"):
        report_with_intervals(labels, probabilities, groups[:-1], CLASSES)


def test_a_column_without_gaps_has_the_interval_of_its_mean():
    values = np.random.default_rng(0).normal(size=50)
    groups = [f"g{i // 2}" for i in range(50)]
    found = means_with_intervals({"x": values, "one": np.ones(50)}, groups)
    expected = bootstrap_interval(lambda w: float((w * values).sum() / w.sum()), groups)
    assert (found["x"]["low"], found["x"]["high"]) == pytest.approx(expected)
    assert found["x"]["value"] == pytest.approx(values.mean())
    assert found["one"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 50}


def test_scans_without_a_figure_are_left_out_of_its_mean_alone():
    nan = float("nan")
    found = means_with_intervals({"x": [1.0, nan, 3.0], "y": [nan] * 3, "z": [0, 1, 2]}, ["a", "b", "c"])
    assert (found["x"]["value"], found["x"]["n"]) == (2.0, 2)
    assert found["y"] == {"value": None, "low": None, "high": None, "n": 0}
    assert (found["z"]["value"], found["z"]["n"]) == (1.0, 3)


def test_no_scans_and_one_group_have_no_interval():
    assert means_with_intervals({"x": []}, [])["x"] == {"value": None, "low": None, "high": None, "n": 0}
    assert means_with_intervals({"x": [1, 0]}, ["a", "a"])["x"] == {"value": 0.5, "low": None, "high": None, "n": 2}
