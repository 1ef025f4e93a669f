"""Figures: PNGs of a sensible size, and what is drawn in them is what was measured."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image
from scipy.special import softmax
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate import figures, intervals
from bcx.evaluate.curves import decision_curve, referral_curve, reliability_report
from bcx.evaluate.derived import derive
from bcx.evaluate.metrics import calibration_error, pair_score
from bcx.evaluate.oof import oof_columns
from bcx.evaluate.words import units
from bcx.tasks import get_task
from tests.evaluate.test_curves import net_benefit

TASK = get_task("breast-ultrasound")
CLASSES = TASK.classes
DRAWS = intervals.resample_weights


def answers(count: int = 150, seed: int = 0, classes: tuple[int, ...] = (0, 1, 2)):
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count)
    logits = 1.5 * rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]
    return labels, softmax(logits, axis=1), np.arange(count) // 2


def frame(source: str = "busi", classes: tuple[int, ...] = (0, 1, 2), seed: int = 0) -> pd.DataFrame:
    labels, probabilities, groups = answers(60, seed, classes)
    columns = {
        "file": [f"{source}/{i}.png" for i in range(60)],
        "source": source,
        "group": [f"{source}:{g}" for g in groups],
        "fold": groups % 3,
        "label": [CLASSES[c] for c in labels],
    }
    logits = {name: np.log(probabilities[:, i % 3]) for i, name in enumerate(oof_columns(TASK)[5:])}
    return pd.DataFrame(columns | logits)


def check_png(path: Path, least: int = 500) -> None:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert least <= min(picture.size)
        assert max(picture.size) <= 4000
        assert np.asarray(picture.convert("L")).std() > 10  # something is drawn
    assert not list(path.parent.glob("*.partial"))


def panel(figure: Figure, title: str):
    return next(axes for axes in figure.axes if axes.get_title(loc="left").startswith(title))


def curve_of(axes) -> tuple[np.ndarray, np.ndarray]:
    """The longest line of the axes: the curve, not its guide."""
    line = max(axes.lines, key=lambda line: len(line.get_xdata()))
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


@pytest.mark.slow
def test_the_area_under_each_drawn_curve_is_scikit_learns(tmp_path):
    labels, probabilities, groups = answers()
    roc = figures.curve_figure("roc", labels, probabilities, groups, TASK, tmp_path / "roc.png", {})
    pr = figures.curve_figure("pr", labels, probabilities, groups, TASK, tmp_path / "pr.png", {})
    check_png(tmp_path / "roc.png")
    check_png(tmp_path / "pr.png")
    lesions = labels > 0
    cases = [(f"{name} against the rest", labels == c, probabilities[:, c]) for c, name in enumerate(CLASSES)]
    cases.append(("malignant against benign", labels[lesions] == 2, pair_score(probabilities, 1, 2)[lesions]))
    for title, positive, score in cases:
        x, y = curve_of(panel(roc, title))
        area = sk.roc_auc_score(positive, score)
        assert np.trapezoid(y, x) == pytest.approx(area)
        assert f"AUC {units(area)}" in panel(roc, title).get_title(loc="left")
        x, y = curve_of(panel(pr, title))
        precision = sk.average_precision_score(positive, score)
        assert (np.diff(x) * y[1:]).sum() == pytest.approx(precision)
        assert f"AP {units(precision)}" in panel(pr, title).get_title(loc="left")
        assert f"{positive.sum()} of {len(positive)}" in panel(pr, title).get_title(loc="left")
    assert panel(roc, "malignant against benign").lines[1].get_color() == TASK.colours[2]


def test_classes_that_no_scan_has_are_left_out(tmp_path):
    labels, probabilities, groups = answers(classes=(1, 2))
    figure = figures.curve_figure("roc", labels, probabilities, groups, TASK, tmp_path / "roc.png", {})
    titles = [axes.get_title(loc="left").split("\n")[0] for axes in figure.axes if axes.lines]
    assert titles == ["benign against the rest", "malignant against the rest"]
    with pytest.raises(DataError, match="4 of 4 scans are positive"):
        figures.curve_figure("roc", np.ones(4, int), np.eye(3)[[1] * 4], np.arange(4), TASK, tmp_path / "never.png", {})


def test_the_matrix_shows_counts_and_shares_of_rows(tmp_path):
    confusion = {"normal": {"normal": 8, "malignant": 2}, "malignant": {"normal": 1, "malignant": 1039}}
    figure = figures.confusion_figure(confusion, tmp_path / "confusion.png", "Confusion matrix")
    check_png(tmp_path / "confusion.png", 400)
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == ["8", "80 %", "2", "20 %", "1", "0 %", "1,039", "100 %"]
    assert axes.get_title(loc="left") == "Confusion matrix: 100 % right"
    np.testing.assert_allclose(axes.images[0].get_array(), [[0.8, 0.2], [1 / 1040, 1039 / 1040]])
    light, dark = axes.texts[2], axes.texts[0]
    assert (light.get_color(), dark.get_color()) == ("#1a1a1a", "white")  # ink on light cells, white on dark ones


def test_reliability_shows_every_bin_before_and_after(tmp_path):
    labels, probabilities, groups = answers()
    sharp = probabilities**2 / (probabilities**2).sum(axis=1, keepdims=True)
    report = reliability_report({"before": sharp, "after": probabilities}, labels, groups)
    figure = figures.reliability_figure(report, tmp_path / "reliability.png")
    check_png(tmp_path / "reliability.png")
    for (name, found), axes in zip(report.items(), figure.axes, strict=True):
        title = axes.get_title(loc="left")
        assert title.startswith(f"{name}\nECE {units(found['ece']['value'])}")
        x, y = curve_of(axes)
        assert x.tolist() == [row["confidence"] for row in found["bins"]]
        assert y.tolist() == [row["right"] for row in found["bins"]]
        low, high = axes.get_ylim()
        assert low <= min(row["low"] for row in found["bins"])
        assert high > 1
    gaps = [row["n"] * abs(row["right"] - row["confidence"]) for row in report["before"]["bins"]]
    right = sharp.argmax(axis=1) == labels
    assert sum(gaps) / 150 == pytest.approx(calibration_error(sharp.max(axis=1), right, np.ones(150)))


def test_referral_marks_its_rules_on_the_curve(tmp_path):
    labels, probabilities, groups = answers(300)
    curve = referral_curve(probabilities, labels, groups)
    rule = curve["answered"][60], curve["wrong"][60]
    figure = figures.referral_figure(curve, tmp_path / "referral.png", rule)
    check_png(tmp_path / "referral.png")
    (axes,) = figure.axes
    x, y = curve_of(axes)
    assert (x.tolist(), y.tolist()) == (curve["answered"], curve["wrong"])
    (mark,) = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == rule
    assert units(curve["area"]["value"]) in axes.get_title(loc="left")


def test_the_decision_curve_holds_all_three_ways_to_act(tmp_path):
    labels, probabilities, groups = answers()
    found = decision_curve(probabilities[:, 2], labels == 2, groups)
    figure = figures.decision_figure(found, "malignant", tmp_path / "decision.png")
    check_png(tmp_path / "decision.png")
    (axes,) = figure.axes
    model, on_all, none = axes.lines
    for threshold, benefit in list(zip(*model.get_data(), strict=True))[::20]:
        assert benefit == pytest.approx(net_benefit(probabilities[:, 2], labels == 2, threshold), abs=1e-5)
    assert on_all.get_ydata()[0] > 0 > on_all.get_ydata()[-1]
    assert set(none.get_ydata()) == {0}
    assert "malignant" in axes.get_xlabel()


def test_training_shows_each_run_and_part_as_it_was_noted(tmp_path):
    rows = [
        {"epoch": str(e), "train_loss": str(2 / e), "train_accuracy": str(1 - 0.4 / e), "inner_accuracy": ""}
        for e in range(1, 5)
    ]
    watched = [row | {"epoch": e, "inner_accuracy": 0.5 + 0.1 * e} for e, row in enumerate(rows, 1)]
    figure = figures.training_figure({"small": rows, "large": watched}, tmp_path / "training.png")
    check_png(tmp_path / "training.png")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["loss", "accuracy"]
    drawn = {line.get_label(): line for line in figure.axes[1].lines}
    assert list(drawn) == ["small, training", "large, training", "large, validation"]
    assert drawn["large, validation"].get_ydata() == pytest.approx([0.6, 0.7, 0.8, 0.9])
    assert drawn["large, validation"].get_linestyle() == "--"
    assert drawn["small, training"].get_xdata().tolist() == [1, 2, 3, 4]
    with pytest.raises(DataError, match="history"):
        figures.training_figure({"empty": [{"epoch": 1}]}, tmp_path / "never.png")
    assert not (tmp_path / "never.png").exists()


def test_members_of_an_ensemble_are_runs_of_their_own(tmp_path):
    rows = [{"member": m, "epoch": str(e), "train_loss": str(m + 1 / e)} for m in (0, 1) for e in range(1, 4 - m)]
    figure = figures.training_figure({"the shipped model": rows}, tmp_path / "training.png")
    drawn = {line.get_label(): line.get_xdata().tolist() for line in figure.axes[0].lines}
    assert drawn == {
        "the shipped model, network 1, training": [1, 2, 3],
        "the shipped model, network 2, training": [1, 2],
    }


def test_trainings_that_are_averaged_are_runs_of_their_own(tmp_path):
    rows = [{"member": "0", "epoch": "1", "training": "", "train_loss": "1"}]
    rows += [{"member": "1", "epoch": "1", "training": str(part), "train_loss": "2"} for part in (0, 1)]
    figure = figures.training_figure({"": rows}, tmp_path / "training.png")
    assert [line.get_label() for line in figure.axes[0].lines] == [
        "network 1, training",
        "network 2, variant 1, training",
        "network 2, variant 2, training",
    ]


@pytest.mark.slow
def test_a_table_is_drawn_source_by_source_from_its_results(tmp_path, monkeypatch):
    table = pd.concat([frame(), frame("busbra", (1, 2), 1)], ignore_index=True)
    monkeypatch.setattr(intervals, "resample_weights", lambda groups, n: DRAWS(groups, 20))
    results = derive(table, TASK)
    runs = {"fold 0": [{"epoch": 1, "train_loss": 0.9}, {"epoch": 2, "train_loss": 0.5}]}
    written = figures.draw_all(table, TASK, results, tmp_path / "new", runs)
    kinds = ("roc", "pr", "confusion", "confusion-answers", "reliability", "risk-coverage", "decision-curve")
    expected = {f"{kind}-{source}.png" for kind in kinds for source in ("busi", "busbra")} | {"classes.png"}
    assert {path.name for path in written} == expected | {"training.png"}
    assert {path.name for path in (tmp_path / "new").iterdir()} == expected | {"training.png"}
    for path in written:
        check_png(path)


def test_one_source_needs_no_name(tmp_path, monkeypatch):
    monkeypatch.setattr(intervals, "resample_weights", lambda groups, n: DRAWS(groups, 20))
    table = frame(classes=(1,))
    names = [path.name for path in figures.draw_all(table, TASK, derive(table, TASK), tmp_path, {})]
    assert names == ["classes.png", "confusion.png", "reliability.png", "risk-coverage.png"]
