"""Descriptors against lesions whose size, shape, blur and echoes are known, drawn or sent through the simulator."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import bcx
from bcx.explain.descriptors import describe, describe_lesion
from bcx.simulate import simulate
from bcx.simulate.anatomy import Scene
from bcx.simulate.formation import envelope

HEIGHT, WIDTH = 360, 480
WITHIN = 0.05


def ellipse(a: float, b: float, tilt: float = 0.0, shape: tuple[int, int] = (HEIGHT, WIDTH)) -> np.ndarray:
    """Half axes in pixels; the first one tilted by so many degrees against the skin."""
    y, x = np.mgrid[: shape[0], : shape[1]] - np.array([0.45 * shape[0], 0.5 * shape[1]])[:, None, None]
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    return ((c * x + s * y) / a) ** 2 + ((c * y - s * x) / b) ** 2 <= 1


def grey(mask: np.ndarray, inside: float = 40, outside: float = 120, blur: float = 0.0) -> np.ndarray:
    return gaussian_filter(np.where(mask, inside, outside).astype(np.float32), blur).round().astype(np.uint8)


def simulated(mask: np.ndarray, lesion: float, fat: float, behind: float) -> np.ndarray:
    """Through the simulator's beam: echoes in dB, what the lesion lets through in dB, a grey map of 255 / 60 per dB."""
    tall = mask.any(1).sum() / mask.shape[0]
    loss = np.where(mask, -behind / tall, 0).astype(np.float32)
    scene = Scene(np.where(mask, lesion, fat).astype(np.float32), np.zeros(mask.shape, np.float32), loss)
    amplitude = envelope(scene, np.random.default_rng(0), looks=8, focus=0.4)
    return np.rint(255 * np.clip(0.74 + np.log10(np.maximum(amplitude, 1e-6)) / 3, 0, 1)).astype(np.uint8)


@pytest.mark.parametrize("tilt", [0, 25, 60, 90])
def test_size_and_shape_of_an_ellipse(tilt):
    a, b, side = 90, 45, 0.08
    mask = ellipse(a, b, tilt)
    found = describe(grey(mask), mask, side)
    across = 2 * np.hypot(a * np.cos(np.radians(tilt)), b * np.sin(np.radians(tilt)))
    deep = 2 * np.hypot(a * np.sin(np.radians(tilt)), b * np.cos(np.radians(tilt)))
    perimeter = 2 * np.pi * np.hypot(a, b) / np.sqrt(2) * 0.974  # Ramanujan's, for axes of 2 to 1
    assert found.unit == "mm"
    assert found.long_axis == pytest.approx(2 * a * side, rel=WITHIN)
    assert found.width == pytest.approx(across * side, rel=WITHIN)
    assert found.depth == pytest.approx(deep * side, rel=WITHIN)
    assert found.angle == pytest.approx(tilt, abs=2)
    assert found.axis_ratio == pytest.approx(2, rel=WITHIN)
    assert found.circularity == pytest.approx(4 * np.pi * np.pi * a * b / perimeter**2, rel=WITHIN)
    assert found.lobulation == pytest.approx(0, abs=0.02)
    assert found.corners == 0
    assert found.shape == "oval"
    assert found.orientation == ("parallel" if tilt < 45 else "not parallel")


def test_a_circle_is_round_and_lengths_are_pixels_without_a_scale():
    mask = ellipse(60, 60)
    found = describe(grey(mask), mask)
    assert (found.shape, found.unit) == ("round", "pixels")
    assert found.long_axis == pytest.approx(120, rel=WITHIN)
    assert found.circularity == pytest.approx(1, rel=WITHIN)
    assert describe(grey(mask), mask, scale=3).long_axis == pytest.approx(360, rel=WITHIN)


@pytest.mark.parametrize("count", [5, 7, 9])
def test_a_star_has_as_many_corners_as_points_and_leaves_its_hull_empty(count):
    angles = np.pi * np.arange(2 * count) / count
    radius = np.where(np.arange(2 * count) % 2, 70, 120)
    points = np.stack([240 + radius * np.cos(angles), 170 + radius * np.sin(angles)], 1)
    mask = cv2.fillPoly(np.zeros((HEIGHT, WIDTH), np.uint8), [points.round().astype(np.int32)], 1) > 0
    found = describe(grey(mask), mask)
    star = count * 120 * 70 * np.sin(np.pi / count)  # area of 2 * count triangles
    hull = count / 2 * 120**2 * np.sin(2 * np.pi / count)
    assert found.corners == count
    assert found.lobulation == pytest.approx(1 - star / hull, rel=WITHIN)
    assert (found.shape, found.margin) == ("irregular", "not circumscribed")


@pytest.mark.parametrize("blur", [2, 4, 6])
def test_the_margin_is_as_wide_as_the_edge_is_blurred(blur):
    mask = ellipse(90, 60)
    found = describe(grey(mask, blur=blur), mask)
    assert found.margin_width * 2 * np.sqrt(90 * 60) == pytest.approx(2.563 * blur, rel=WITHIN)
    assert found.margin == "circumscribed"
    assert describe(grey(mask, blur=12), mask).margin == "not circumscribed"


def test_without_a_step_there_is_no_margin():
    found = describe(np.full((HEIGHT, WIDTH), 90, np.uint8), ellipse(60, 60))
    assert found.margin_width is None
    assert (found.echo, found.posterior) == ("isoechoic", "no posterior features")


@pytest.mark.parametrize(
    ("lesion", "behind", "echo", "posterior"),
    [
        (-22, 8, "hypoechoic", "enhancement"),
        (-20, -10, "hypoechoic", "shadowing"),
        (-2, 0, "hyperechoic", "no posterior features"),
        (-60, 12, "anechoic", "enhancement"),
    ],
)
def test_echoes_of_the_simulator_in_decibels(lesion, behind, echo, posterior):
    mask, fat = ellipse(80, 50), -10
    gained = np.cumsum(behind * mask / mask.any(1).sum(), axis=0)  # dB, by the way through the lesion
    found = describe(simulated(mask, lesion, fat, behind), mask)
    assert (found.echo, found.posterior) == (echo, posterior)
    if lesion > -40:  # below, the grey map ends
        assert found.echo_difference == pytest.approx((lesion - fat + gained[mask].mean()) * 255 / 60, rel=WITHIN)
        below = gained[-1, 200:280].mean()  # the middle half of 160 columns, an ellipse's chords being unequal
        assert found.posterior_difference == pytest.approx(below * 255 / 60, rel=WITHIN, abs=1)


@pytest.mark.slow
def test_simulated_scans_show_the_signs_that_they_were_drawn_with():
    """Benign: wide, enhancement. Malignant: deep, lobulated, shadow. Not one scan alone: most of ten."""
    found = {}
    for label in ("benign", "malignant"):
        scans = [simulate(label, seed, 300, 360) for seed in range(10)]
        found[label] = [describe(scan.pixels, scan.mask) for scan in scans]
    assert sum(each.orientation == "parallel" for each in found["benign"]) == 10
    assert sum(each.orientation == "not parallel" for each in found["malignant"]) >= 8
    assert np.median([each.lobulation for each in found["malignant"]]) > 0.1
    assert np.median([each.lobulation for each in found["benign"]]) < 0.05
    behind = {key: [each.posterior_difference for each in part] for key, part in found.items()}
    assert all(value > 0 for value in behind["benign"] if value is not None)
    assert all(value < 0 for value in behind["malignant"] if value is not None)
    assert np.median([each.corners for each in found["malignant"]]) >= 4
    assert np.median([each.corners for each in found["benign"]]) == 0


def test_nothing_outlined_nothing_described():
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    assert describe(pixels, pixels > 0) is None
    assert describe(pixels, ellipse(3, 3)) is None


def test_the_largest_part_is_described_and_what_has_no_room_is_not_known():
    mask = ellipse(100, 60)
    mask[-12:, :12] = True
    assert describe(grey(mask), mask).width == pytest.approx(200, rel=WITHIN)
    low = np.roll(ellipse(60, 40), 150, axis=0)  # reaches the lower end
    assert describe(grey(low), low).posterior == "not known"
    everywhere = np.ones((HEIGHT, WIDTH), bool)
    found = describe(grey(everywhere), everywhere)
    assert (found.echo, found.echo_difference, found.posterior_difference) == ("not known", None, None)


@pytest.mark.slow
def test_an_answer_is_described_at_the_scans_own_size():
    large = simulate("malignant", 3, 600, 760)
    pixels = cv2.resize(large.pixels, (1520, 1200))
    prediction = bcx.load().predict(pixels)
    scaled = replace(prediction, scan=replace(prediction.scan, mm_per_pixel=0.05))
    found, in_mm = describe_lesion(prediction), describe_lesion(scaled)
    left, _, right, _ = prediction.lesion_box
    assert found.width == pytest.approx(right - left, rel=WITHIN)
    assert (found.unit, in_mm.unit) == ("pixels", "mm")
    assert in_mm.width == pytest.approx(0.05 * found.width)
    assert describe_lesion(bcx.load("mobilenetv2-busi").predict(large.pixels)) is None
