"""Scores by the answer that people get, against scikit-learn and the report by probabilities."""

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from bcx.data.records import Record
from bcx.errors import DamagedScan
from bcx.evaluate import evaluation
from bcx.evaluate.evaluation import score_table, scored
from bcx.evaluate.intervals import report_with_intervals, resample_weights
from bcx.inference.prediction import Failure
from bcx.tasks import BREAST_ULTRASOUND as TASK
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

P = [f"p_{name}" for name in TASK.classes]


def rows_of(
    count: int = 120, seed: int = 0, classes: tuple[int, ...] = (0, 1, 2), bias: tuple[float, ...] = (0, 0, 0)
) -> list[dict]:
    """Random answers; the class answered is the most probable one after `bias`, as an operating point would have it."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count)
    odds = np.exp(rng.normal(size=(count, 3)) + 1.5 * np.eye(3)[labels])
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    said = (np.log(probabilities) + np.array(bias)).argmax(axis=1)
    answers = [TASK.classes[c] for c in said]
    return [
        {"file": f"ward/{i}.png", "source": "ward", "group": f"ward:{i // 2}", "label": TASK.classes[labels[i]],
         "answer": answers[i], "decision": answers[i], **dict(zip(P, probabilities[i], strict=True)), "error": ""}
        for i in range(count)
    ]  # fmt: skip


def summarise_scores(rows: list[dict], task: Task) -> dict:
    return evaluation.summarise_scores(score_table(rows, task), task)


def arrays(rows: list[dict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = np.array([TASK.classes.index(row["label"]) for row in rows])
    said = np.array([TASK.classes.index(row["answer"]) for row in rows])
    return labels, said, np.array([[row[name] for name in P] for row in rows])


def test_at_the_most_probable_class_the_figures_are_the_reports():
    rows = rows_of()
    labels, _, probabilities = arrays(rows)
    report = report_with_intervals(labels, probabilities, [row["group"] for row in rows], TASK.classes)
    figures = summarise_scores(rows, TASK)["figures"]
    shared = set(figures) & set(report)
    assert {"accuracy", "balanced_accuracy", "macro_f1", "macro_auc", "auc_malignant_vs_benign"} <= shared
    assert {"sensitivity_normal", "specificity_malignant", "auc_malignant", "ece"} <= shared
    for name in shared:
        assert figures[name] == pytest.approx(report[name]), name


def test_the_answer_counts_not_the_highest_probability():
    plain, moved = rows_of(), rows_of(bias=(-1.0, 0, 1.0))
    labels, said, probabilities = arrays(moved)
    assert (said != probabilities.argmax(axis=1)).any()
    before, found = summarise_scores(plain, TASK), summarise_scores(moved, TASK)
    figures = found["figures"]
    recalls = sk.recall_score(labels, said, average=None)
    assert figures["accuracy"]["value"] == pytest.approx(sk.accuracy_score(labels, said))
    assert figures["macro_f1"]["value"] == pytest.approx(sk.f1_score(labels, said, average="macro"))
    for c, name in enumerate(TASK.classes):
        assert figures[f"sensitivity_{name}"]["value"] == pytest.approx(recalls[c])
        assert figures[f"sensitivity_{name}"]["n"] == (labels == c).sum()
    others = labels != 2
    assert figures["specificity_malignant"]["value"] == pytest.approx((said[others] != 2).mean())
    lesions = labels != 0
    assert figures["lesions_called_normal"]["value"] == pytest.approx((said[lesions] == 0).mean())
    assert figures["lesions_called_normal"]["n"] == lesions.sum()
    matrix = sk.confusion_matrix(labels, said)
    assert [list(row.values()) for row in found["confusion"].values()] == matrix.tolist()
    assert figures["auc_malignant"] == before["figures"]["auc_malignant"]  # thresholds move no AUC


def test_bounds_are_those_of_resampled_answers():
    rows = rows_of(60, seed=3, bias=(0.5, 0, 0))
    labels, said, _ = arrays(rows)
    drawn = []
    for weights in resample_weights([row["group"] for row in rows], 1000, seed=0):
        again = np.repeat(np.arange(60), weights.astype(int))
        lesions = again[labels[again] != 0]
        drawn.append([(labels[again] == said[again]).mean(), (said[lesions] == 0).mean()])
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    figures = summarise_scores(rows, TASK)["figures"]
    for position, name in enumerate(("accuracy", "lesions_called_normal")):
        assert (figures[name]["low"], figures[name]["high"]) == pytest.approx((low[position], high[position]))


def test_a_hospital_without_normals_has_every_figure_that_can_be_had():
    rows = rows_of(classes=(1, 2))
    labels, said, probabilities = arrays(rows)
    found = summarise_scores(rows, TASK)
    figures = found["figures"]
    assert found["counts"]["normal"] == 0
    assert figures["sensitivity_normal"] == {"value": None, "low": None, "high": None, "n": 0}
    assert figures["auc_normal"]["value"] is None
    assert figures["lesions_called_normal"]["value"] == pytest.approx((said == 0).mean())
    recalls = sk.recall_score(labels, said, labels=[1, 2], average=None)
    assert figures["balanced_accuracy"]["value"] == pytest.approx(recalls.mean())
    malignant = labels == 2
    odds = probabilities[:, 2] / (probabilities[:, 2] + probabilities[:, 1])
    assert figures["auc_malignant_vs_benign"]["value"] == pytest.approx(sk.roc_auc_score(malignant, odds))
    assert figures["auc_malignant"]["value"] == pytest.approx(sk.roc_auc_score(malignant, probabilities[:, 2]))
    areas = [sk.roc_auc_score(labels == c, probabilities[:, c]) for c in (1, 2)]
    assert figures["macro_auc"]["value"] == pytest.approx(np.mean(areas))


def test_failures_are_listed_and_left_out_of_the_figures():
    rows = rows_of(40)
    broken = {
        "file": "ward/x.png",
        "source": "ward",
        "group": "ward:x",
        "label": "benign",
        "error": "It ends too early.",
    }
    found = summarise_scores([*rows[:20], broken, *rows[20:]], TASK)
    assert (found["n"], found["answered"]) == (41, 40)
    assert found["failed"] == [{"file": "ward/x.png", "error": "It ends too early."}]
    assert found["figures"] == summarise_scores(rows, TASK)["figures"]
    nothing = summarise_scores([broken], TASK)
    assert (nothing["answered"], nothing["figures"]) == (0, {})


def test_pictures_that_the_gate_stops_are_counted_and_still_scored():
    rows = rows_of(40)
    stopped = [row | {"decision": NOT_A_SCAN} if i < 4 else row for i, row in enumerate(rows)]
    found, plain = summarise_scores(stopped, TASK), summarise_scores(rows, TASK)
    assert found["decisions"][NOT_A_SCAN] == 4
    assert sum(found["decisions"].values()) == 40
    assert found["figures"]["not_a_scan"]["value"] == pytest.approx(0.1)
    assert found["figures"]["accuracy"] == plain["figures"]["accuracy"]


def test_no_folder_of_this_machine_gets_into_an_error(tmp_path):
    file = Path(tmp_path, "a.png")
    error = DamagedScan(f"'{file}' ends too early.", expected="a whole file", remedy="Copy it again.")
    row = scored(Record(file, "ward/a.png", "benign", "ward:a", "ward"), Failure("a.png", error))
    assert row["error"] == "'ward/a.png' ends too early."
