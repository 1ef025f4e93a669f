"""Decisions from out-of-fold answers: fitted on the other folds, every hospital weighing the same."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from bcx.errors import DataError
from bcx.evaluate.operating import LOST_LESIONS, REFER_ACCURACY, fit_rules, summarise_decisions
from bcx.tasks import get_task
from bcx.trust.calibration import apply_temperature
from bcx.trust.decisions import OperatingPoint

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


def test_figures_are_scikit_learns_for_the_rules_of_the_other_folds():
    frame = simulated()
    found = summarise_decisions(frame, TASK, 1.0)
    truth = frame["label"].map(TASK.classes.index).to_numpy()
    chosen = np.zeros(len(frame), int)
    for fold in range(4):
        inside = (frame["fold"] == fold).to_numpy()
        rules = fit_rules(frame[~inside], TASK, 1.0)
        chosen[inside] = rules.point.choose(probabilities_of(frame)[inside])
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
    expected = confusion_matrix(truth[busi], chosen[busi], labels=[0, 1, 2]).tolist()
    assert [[told[true][given] for given in TASK.classes] for true in TASK.classes] == expected
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in figures.values())
    assert "absent_recall" not in found["sources"]["busbra"]  # it has no normals
    assert found["sources"]["busbra"]["sensitivity"]["n"] == 60


def test_a_fold_does_not_decide_about_itself():
    frame = simulated()
    changed = frame.copy()
    inside = changed["fold"] == 0
    columns = [f"logit_{name}" for name in TASK.classes]
    changed.loc[inside, columns] = -changed.loc[inside, columns]
    before, after = (fit_rules(table[~inside], TASK, 1.0) for table in (frame, changed))
    assert before == after
    assert fit_rules(frame, TASK, 1.0) != fit_rules(changed, TASK, 1.0)


def test_few_lesions_are_called_normal_and_what_is_not_referred_is_mostly_right():
    frame = simulated()
    rules = fit_rules(frame, TASK, 1.0)
    probabilities = probabilities_of(frame)
    truth = frame["label"].map(TASK.classes.index).to_numpy()
    chosen = rules.point.choose(probabilities)
    # Both hospitals have as many scans here, so what holds for their mean holds for all.
    assert (chosen[truth > 0] == 0).mean() <= LOST_LESIONS + 1e-9
    answered = ~rules.refer.refers(probabilities)
    assert 0 < answered.mean() < 1
    assert (chosen == truth)[answered].mean() >= REFER_ACCURACY - 1e-9
    assert OperatingPoint.from_dict(rules.to_dict()["operating_point"]) == rules.point


def test_a_large_hospital_weighs_no_more_than_a_small_one():
    frame = simulated()
    large = frame[frame["source"] == "busbra"]
    copies = [large.assign(file=large["file"] + f"-{i}") for i in range(5)]
    many = pd.concat([frame, *copies], ignore_index=True)
    assert fit_rules(many, TASK, 1.0).point == fit_rules(frame, TASK, 1.0).point


def test_answers_without_any_skill_are_not_referred_by_a_rule_that_cannot_work():
    frame = simulated(clear=0.0)
    rng = np.random.default_rng(1)
    frame["label"] = rng.permutation(frame["label"].to_numpy())
    frame.loc[frame["source"] == "busbra", "label"] = "benign"
    assert fit_rules(frame, TASK, 1.0).refer is None or fit_rules(frame, TASK, 1.0).refer.coverage < 0.1


def test_a_class_that_is_missing_is_named():
    frame = simulated()
    with pytest.raises(DataError):
        fit_rules(frame[frame["label"] != "normal"], TASK, 1.0)
