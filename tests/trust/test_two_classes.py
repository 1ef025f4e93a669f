"""Operating points of two classes: one threshold on the positive class, held against scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from bcx.evaluate.derived import decide, fit_decisions, fit_rules, has_decisions, summarise_decisions
from bcx.tasks import BREAST_ULTRASOUND, HISTOLOGY_IDC, get_task
from bcx.trust.decisions import fit_operating_point, sensitivity_points
from bcx.trust.rule import Decider

RNG = np.random.default_rng(0)
LABELS = (RNG.random(600) < 0.28).astype(int)
SCORE = 1 / (1 + np.exp(-(RNG.normal(size=600) + 2.2 * LABELS - 2.4)))
PROBABILITIES = np.stack([1 - SCORE, SCORE], axis=1)


def test_balanced_accuracy_decides():
    point = fit_operating_point(PROBABILITIES, LABELS)
    found = balanced_accuracy_score(LABELS, point.choose(PROBABILITIES))
    best = max(balanced_accuracy_score(LABELS, (t <= SCORE)) for t in SCORE)
    assert found >= best - 0.0101  # the middle of the thresholds within .01 of the best
    assert found > balanced_accuracy_score(LABELS, SCORE >= 0.5) + 0.02


@pytest.mark.parametrize("asked", [0.8, 0.9, 0.95, 1.0])
def test_a_stated_sensitivity_costs_the_least_specificity(asked):
    point = fit_operating_point(PROBABILITIES, LABELS, positive_sensitivity=asked)
    chosen = point.choose(PROBABILITIES)
    assert recall_score(LABELS, chosen) >= asked
    higher = SCORE[(chosen == 1) & (LABELS == 1)].min() < SCORE
    assert recall_score(LABELS, higher) < asked


def test_points_for_two_sensitivities():
    ninety, ninety_five = sensitivity_points(PROBABILITIES, LABELS)
    assert 0.90 <= ninety["sensitivity"] < 0.95 <= ninety_five["sensitivity"]
    assert ninety["specificity"] > ninety_five["specificity"]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    logits = np.log(PROBABILITIES)
    return pd.DataFrame(
        {
            "file": [f"idc/{i}.png" for i in range(600)],
            "source": "idc",
            "group": [f"idc:{i // 6}" for i in range(600)],
            "fold": np.arange(600) // 6 % 5,
            "label": [HISTOLOGY_IDC.classes[label] for label in LABELS],
            "logit_negative": logits[:, 0],
            "logit_positive": logits[:, 1],
            "mirror_logit_negative": logits[:, 0],
            "mirror_logit_positive": logits[:, 1],
        }
    )


def test_what_a_task_of_two_classes_reports(frame):
    assert has_decisions(frame, HISTOLOGY_IDC)
    fitted, _ = fit_decisions(frame, HISTOLOGY_IDC, 1.0)
    found = summarise_decisions(frame, HISTOLOGY_IDC, fitted)
    chosen, referred = decide(frame, HISTOLOGY_IDC, fitted)
    figures = found["sources"]["idc"]
    assert set(figures) == {"accuracy", "sensitivity", "specificity", "balanced_accuracy", "f1", "confusion"}
    assert figures["balanced_accuracy"]["value"] == pytest.approx(balanced_accuracy_score(LABELS, chosen))
    assert figures["f1"]["value"] == pytest.approx(f1_score(LABELS, chosen))
    assert figures["f1"]["low"] < figures["f1"]["value"] < figures["f1"]["high"]
    assert found["referral"]["idc"]["answered"] == pytest.approx(1 - referred.mean(), abs=1e-4)
    # each fold was decided without its own scans
    rules = fit_rules(frame[frame["fold"] != 2], HISTOLOGY_IDC, 1.0)
    inside = (frame["fold"] == 2).to_numpy()
    assert np.array_equal(chosen[inside], Decider(rules, HISTOLOGY_IDC).choose(PROBABILITIES[inside]))


def test_where_there_is_nothing_to_decide(frame):
    assert not has_decisions(frame[frame["label"] == "negative"], HISTOLOGY_IDC)
    first = get_task({"name": "x", "classes": ["positive", "negative"], "positive": "positive"})
    assert not has_decisions(frame, first)  # the positive class comes second, or the most probable class answers
    assert not has_decisions(frame, BREAST_ULTRASOUND)
