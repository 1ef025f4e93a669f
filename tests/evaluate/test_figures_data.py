"""Figures of scans, drawn from arrays and simulated scans: what stands in them, and where."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import PathPatch

from bcx.evaluate import figures_data as pictures
from bcx.evaluate.figures_data import Answer
from bcx.simulate import simulate
from bcx.tasks import get_task
from tests.evaluate.test_figures import check_png

TASK = get_task("breast-ultrasound")


def left_titles(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]


def test_bars_are_as_high_as_classes_are_frequent(tmp_path):
    counts = {"busi": {"normal": 3, "benign": 5, "malignant": 2}, "busbra": {"benign": 9, "malignant": 3}}
    figure = pictures.class_figure(counts, TASK, tmp_path / "classes.png")
    check_png(tmp_path / "classes.png")
    (axes,) = figure.axes
    assert [[bar.get_height() for bar in bars] for bars in axes.containers] == [[3, 0], [5, 9], [2, 3]]
    assert [to_hex(bars[0].get_facecolor()).upper() for bars in axes.containers] == list(TASK.colours)
    assert "5\n50 %" in [text.get_text() for text in axes.texts]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["busi\n(n = 10)", "busbra\n(n = 12)"]


def test_intensities_are_those_of_the_scans(tmp_path):
    rng = np.random.default_rng(0)
    scans = [
        (("normal", "malignant")[k % 2], np.clip(rng.normal(60 + 3 * k, 20, (20, 24 + k)), 0, 255).astype(np.uint8))
        for k in range(20)
    ]
    figure = pictures.intensity_figure(scans, TASK, tmp_path / "intensity.png")
    check_png(tmp_path / "intensity.png")
    left, right = figure.axes
    assert [step.get_label() for step in left.patches] == ["normal", "malignant"]
    boxes = [patch.get_path().get_extents() for patch in right.patches if isinstance(patch, PathPatch)]
    for label, step, box in zip(("normal", "malignant"), left.patches, boxes, strict=True):
        found = [pixels for name, pixels in scans if name == label]
        shares = np.mean([np.histogram(p, 64, (0, 256))[0] / p.size for p in found], axis=0)
        np.testing.assert_allclose(step.get_data().values, 64 * shares)
        quartiles = np.quantile([pixels.mean() / 255 for pixels in found], [0.25, 0.75])
        assert (box.y0, box.y1) == pytest.approx(tuple(quartiles))


def test_labels_of_a_narrow_box_keep_apart(tmp_path):
    scans = [("benign", np.full((4, 4), value, np.uint8)) for value in (100, 100, 101, 101, 30, 220)]
    figure = pictures.intensity_figure(scans, TASK, tmp_path / "intensity.png")
    right = figure.axes[1]
    heights = sorted(text.get_position()[1] for text in right.texts)
    low, high = right.get_ylim()
    assert np.diff(heights).min() > 0.04 * (high - low)


def test_augmented_pictures_stand_beside_the_original(tmp_path):
    original = simulate("benign", 1, height=120, width=160).pixels
    samples = {"flipped": original[:, ::-1], "colour": np.repeat(original[..., None], 3, 2)}
    figure = pictures.augmentation_figure(original, samples, tmp_path / "augmentation.png")
    check_png(tmp_path / "augmentation.png", 300)
    assert left_titles(figure) == ["as it is", "flipped", "colour"]
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    np.testing.assert_array_equal(shown[0], original)
    np.testing.assert_array_equal(shown[1], original[:, ::-1])


def some_answers() -> list[Answer]:
    pixels = np.full((60, 80), 90, np.uint8)
    heat = np.zeros((60, 80), np.float32)
    heat[10:20, 10:20], heat[40:50, 60:70] = 4, -4
    return [
        Answer(pixels, "benign", "malignant", 0.61, heat),
        Answer(pixels, "benign", "benign", 0.99, heat),
        Answer(pixels, "normal", "benign", 0.93, heat),
        Answer(pixels, "malignant", "benign", 0.55, heat),
    ]


def test_mistakes_come_with_both_labels_and_the_map(tmp_path):
    wrong = [some_answers()[k] for k in (2, 0, 3)]
    figure = pictures.mistakes_figure(wrong, tmp_path / "mistakes.png", "maps of its own")
    check_png(tmp_path / "mistakes.png", 300)
    assert left_titles(figure) == [
        *("true: normal", "answer: benign, 93 %"),
        *("true: benign", "answer: malignant, 61 %"),
        *("true: malignant", "answer: benign, 55 %"),
    ]
    overlay = np.asarray(figure.axes[1].images[0].get_array())
    assert overlay[15, 15, 1] < min(overlay[15, 15, 0], overlay[15, 15, 2])  # for: purple
    assert overlay[45, 65, 1] > max(overlay[45, 65, 0], overlay[45, 65, 2])  # against: green
    assert overlay[30, 40].tolist() == [90, 90, 90]  # no evidence: the scan
    assert figure.axes[5].images


def test_right_and_wrong_differ_in_more_than_colour(tmp_path):
    figure = pictures.answers_figure(some_answers(), tmp_path / "answers.png")
    check_png(tmp_path / "answers.png", 300)
    assert left_titles(figure)[:2] == ["✗ malignant, 61 %\n    true: benign", "✓ benign, 99 %"]
    frames = [axes.patches[0] for axes in figure.axes if axes.patches]
    assert [to_hex(frame.get_edgecolor()).upper() for frame in frames[:2]] == [pictures.WRONG, pictures.RIGHT]
    assert frames[0].get_linestyle() != frames[1].get_linestyle()
