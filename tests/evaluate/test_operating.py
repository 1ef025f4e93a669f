"""Decisions from out-of-fold answers: fitted on the other folds, every hospital weighing the same."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from bcx.errors import DataError
from bcx.evaluate.derived import (
    HOSPITALS,
    STORED,
    decide,
    fit_decisions,
    fit_hospitals,
    fit_rules,
    harm_figures,
    summarise_decisions,
)
from bcx.evaluate.metrics import REFERRED
from bcx.tasks import get_task
from bcx.trust.calibration import apply_temperature
from bcx.trust.rule import ABSENT_HARM, NEGATIVE_HARM, Decider

TASK = get_task("breast-ultrasound")


def simulated(seed: int = 0, per_class: int = 60, clear: float = 2.0) -> pd.DataFrame:
    """An out-of-fold table of two hospitals, the second without normals; `clear` logits in favour of the truth."""
    rng = np.random.default_rng(seed)
    rows = []
    for source, classes in (("busi", (0, 1, 2)), ("busbra", (1, 2))):
        for label in classes:
            for number in range(per_class):
                logits = rng.normal(0, 1, 3)
                logits[label] += clear
                name = f"{source}:{label}-{number}"
                rows.append([f"{name}.png", source, name, number % 4, TASK.classes[label], *logits, *logits])
    columns = ["file", "source", "group", "fold", "label"]
    columns += [f"{view}_{name}" for view in ("logit", "mirror_logit") for name in TASK.classes]
    return pd.DataFrame(rows, columns=columns)


def probabilities_of(frame: pd.DataFrame) -> np.ndarray:
    return apply_temperature(frame[[f"logit_{name}" for name in TASK.classes]].to_numpy(np.float32), 1.0)


def decided(frame: pd.DataFrame, rules: dict) -> tuple[np.ndarray, np.ndarray]:
    chosen, reasons = Decider(rules, TASK).decide_rows(probabilities_of(frame))
    return chosen, np.array([bool(reason) for reason in reasons])


def test_figures_are_scikit_learns_for_the_rules_of_the_other_folds():
    frame = simulated()
    found = summarise_decisions(frame, TASK, fit_decisions(frame, TASK, 1.0)[0])
    truth = frame["label"].map(TASK.classes.index).to_numpy()
    chosen, referred = np.zeros(len(frame), int), np.zeros(len(frame), bool)
    for fold in range(4):
        inside = (frame["fold"] == fold).to_numpy()
        chosen[inside], referred[inside] = decided(frame[inside], fit_rules(frame[~inside], TASK, 1.0))
    busi = (frame["source"] == "busi").to_numpy()
    figures = found["sources"]["busi"]
    assert figures["accuracy"]["value"] == pytest.approx(accuracy_score(truth[busi], chosen[busi]))
    recalls = recall_score(truth[busi], chosen[busi], average=None)
    assert figures["sensitivity"]["value"] == pytest.approx(recalls[2])
    assert figures["absent_recall"]["value"] == pytest.approx(recalls[0])
    assert figures["specificity"]["value"] == pytest.approx(
        recall_score(truth[busi] == 2, chosen[busi] == 2, pos_label=False)
    )
    told = figures.pop("confusion")
    answers = np.where(referred, 3, chosen)[busi]
    expected = confusion_matrix(truth[busi], answers, labels=[0, 1, 2, 3])[:3].tolist()
    assert [[told[true][given] for given in (*TASK.classes, "refer")] for true in TASK.classes] == expected
    assert figures["referred"]["value"] == pytest.approx(referred[busi].mean())
    assert figures["missed"]["value"] == pytest.approx(np.isin(answers[truth[busi] == 2], [0, 1]).mean())
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in figures.values())
    assert "absent_recall" not in found["sources"]["busbra"]  # it has no normals
    assert found["sources"]["busbra"]["sensitivity"]["n"] == 60
    screening, rule_in = (found["points"][name]["busi"] for name in ("screening", "rule-in"))
    assert screening["called"]["value"] > figures["called"]["value"] > rule_in["called"]["value"]
    assert screening["false_alarms"]["value"] > figures["false_alarms"]["value"] > rule_in["false_alarms"]["value"]


def test_folds_that_are_hospitals_are_decided_by_the_other_hospitals():
    frame = simulated().assign(distance=np.linspace(0, 1, len(simulated())))
    frame["fold"] = (frame["source"] == "busi").astype(int)
    fitted, rules = fit_decisions(frame, TASK, 1.0, HOSPITALS)
    shares = frame["label"].value_counts(normalize=True)[list(TASK.classes)].tolist()
    temperature, rule = fit_hospitals(frame[frame["source"] == "busbra"], TASK, shares)
    assert rule.unlike_above is not None
    busi = frame[frame["source"] == "busi"]
    scaled = apply_temperature(busi[[f"logit_{name}" for name in TASK.classes]].to_numpy(np.float32), temperature)
    chosen, reasons = rule.decide(scaled, busi["distance"].to_numpy())
    labels, referred = decide(frame, TASK, fitted)
    places = (frame["source"] == "busi").to_numpy()
    assert (labels[places] == chosen).all()
    assert (referred[places] == (reasons > 0)).all()
    assert rules["rule"] == fit_hospitals(frame, TASK, shares, rules["rule"]["fitted_on"])[1].to_dict()


def test_a_stored_rule_decides_every_scan():
    frame = simulated()
    other = fit_rules(frame[frame["fold"] == 0], TASK, 2.0)
    fitted, rules = fit_decisions(frame, TASK, 1.0, STORED, (2.0, other))
    logits = frame[[f"logit_{name}" for name in TASK.classes]].to_numpy(np.float32)
    chosen, reasons = Decider(other, TASK).decide_rows(apply_temperature(logits, 2.0))
    labels, referred = decide(frame, TASK, fitted)
    assert rules == other
    assert (labels == chosen).all()
    assert (referred == [bool(reason) for reason in reasons]).all()


def test_few_cancers_are_answered_with_another_class():
    frame = simulated()
    chosen, referred = decided(frame, fit_rules(frame, TASK, 1.0))
    truth = frame["label"].map(TASK.classes.index).to_numpy()
    answered = (truth == 2) & ~referred
    # Both hospitals have as many scans here, so what holds for their mean holds for all.
    assert (chosen[answered] == 0).sum() <= ABSENT_HARM * (truth == 2).sum() + 1e-9
    assert (chosen[answered] == 1).sum() <= NEGATIVE_HARM * (truth == 2).sum() + 1e-9
    assert 0 < referred.mean() < 1


def test_a_large_hospital_weighs_no_more_than_a_small_one():
    frame = simulated()
    large = frame[frame["source"] == "busbra"]
    copies = [large.assign(file=large["file"] + f"-{i}") for i in range(5)]
    few, many = (fit_rules(table, TASK, 1.0)["rule"] for table in (frame, pd.concat([frame, *copies])))
    assert many["prevalence"] != few["prevalence"]
    thresholds = [name for name in few if name.endswith(("_above", "_below"))]
    assert [many[name] for name in thresholds] == [few[name] for name in thresholds]


def test_a_class_that_is_missing_is_named():
    frame = simulated()
    with pytest.raises(DataError):
        fit_rules(frame[frame["label"] != "malignant"], TASK, 1.0)


def test_harm_is_counted_and_what_was_never_seen_has_the_rule_of_three():
    labels, answers = np.array([2, 2, 2, 2, 1, 1]), np.array([0, 1, 2, REFERRED, 1, 2])
    found = harm_figures(labels, answers, list("abcdef"), TASK)
    shares = {"missed": 0.5, "called": 0.25, "referred": 1 / 6, "false_alarms": 0.5, "as_absent": 0.25, "right": 0.4}
    assert {name: found[name]["value"] for name in shares} == pytest.approx(shares)
    assert found["absent_cleared"]["value"] is None
    benign = harm_figures(labels, np.full(6, 1), list("abcdef"), TASK)["called"]
    assert (benign["value"], benign["high"]) == (0, 3 / 4)
