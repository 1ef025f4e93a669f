"""The colour scale: signed, symmetric, never stretched picture by picture."""

import cv2
import numpy as np
import pytest
from matplotlib import colormaps

from bcx.errors import ConfigError
from bcx.imaging.overlay import LEAST_LIMIT, colourise, lay_over, scale_limit
from bcx.imaging.style import PALETTES, MapStyle
from bcx.tasks import TASKS

RNG = np.random.default_rng(0)
SCAN = RNG.integers(0, 256, (40, 50), np.uint8)
COLOUR_SCAN = RNG.integers(0, 256, (40, 50, 3), np.uint8)
EVIDENCE = RNG.normal(0, 3, (40, 50)).astype(np.float32)


@pytest.mark.parametrize("pixels", [SCAN, COLOUR_SCAN], ids=["grey", "colour"])
def test_opacity_zero_is_the_scan(pixels):
    overlay = lay_over(pixels, EVIDENCE, 6.0, 0.0)
    assert (overlay.mode, overlay.size) == ("RGB", (50, 40))
    assert np.array_equal(overlay, pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2))


def test_colours_give_way_to_the_maps():
    """A stain is purple itself."""
    laid = np.asarray(lay_over(COLOUR_SCAN, np.zeros_like(EVIDENCE), 4.0, 0.5)).astype(int)
    assert np.ptp(laid, axis=2).max() == 0
    np.testing.assert_allclose(laid[..., 0], COLOUR_SCAN @ [0.299, 0.587, 0.114], atol=1)
    half = np.asarray(lay_over(COLOUR_SCAN, np.zeros_like(EVIDENCE), 4.0, 0.25)).astype(int)
    assert 0 < np.ptp(half, axis=2).mean() < np.ptp(COLOUR_SCAN.astype(int), axis=2).mean()


@pytest.mark.parametrize("sign", [-1, 1])
def test_full_evidence_at_full_opacity_is_the_scales_own_colour(sign):
    values = np.full(SCAN.shape, sign * 9, np.float32)
    overlay = np.asarray(lay_over(SCAN, values, 9.0, 1.0))
    assert np.array_equal(overlay, colourise(values, 9.0))
    assert len(np.unique(overlay.reshape(-1, 3), axis=0)) == 1


def test_more_opacity_shows_more_of_the_evidence():
    bare = np.stack([SCAN] * 3, axis=2).astype(float)
    change = [np.abs(np.asarray(lay_over(SCAN, EVIDENCE, 6.0, o)) - bare).sum() for o in (0.0, 0.25, 0.5, 1.0)]
    assert change == sorted(change)
    assert change[0] == 0 < change[1]


def test_the_scale_is_symmetric_about_white():
    """Equal evidence for and against takes equal shares of its colour; none is white; more never turns back."""
    steps = np.linspace(0, 5, 21, dtype=np.float32)[None]
    white = np.array([255, 255, 255], float)
    ends = {sign: colourise(np.full((1, 1), sign * 5, np.float32), 5.0)[0, 0].astype(float) for sign in (-1, 1)}
    shares = {}
    for sign, end in ends.items():
        painted = colourise(sign * steps, 5.0)[0].astype(float)
        channel = np.argmax(np.abs(end - white))  # the channel that changes most tells the share most exactly
        shares[sign] = (painted[:, channel] - 255) / (end[channel] - 255)
        assert np.array_equal(painted[0], white)
        assert (np.diff(shares[sign]) > 0).all()
    np.testing.assert_allclose(shares[-1], shares[1], atol=1 / 128)


#: Simulated vision (Machado et al. 2009, severity 1), for linear light.
VISIONS = {
    "full": np.eye(3),
    "protan": np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}


def lab(colour, vision: str = "full") -> np.ndarray:
    """Return CIE L*a*b* of an sRGB colour, 0..255, as somebody with that vision sees it."""
    c = np.asarray(colour, float) / 255
    linear = VISIONS[vision] @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear, 0, 1)
    coded = np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(coded.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0]


@pytest.mark.parametrize("vision", VISIONS)
def test_for_and_against_are_told_apart_by_everybody_and_from_grey(vision):
    ends = [lab(colourise(np.full((1, 1), v, np.float32), 4.0)[0, 0], vision) for v in (4, -4)]
    assert np.linalg.norm(ends[0] - ends[1]) > 40
    assert all(np.hypot(*end[1:]) > 15 for end in ends)


def test_for_and_against_are_equally_light_and_no_classs_colour():
    ends = [lab(colourise(np.full((1, 1), v, np.float32), 4.0)[0, 0]) for v in (4, -4)]
    assert abs(ends[0][0] - ends[1][0]) < 4
    taken = {colour for task in TASKS.values() if len(task.classes) < 8 for colour in task.colours}
    for colour in taken:
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert all(np.linalg.norm(lab(rgb) - end) > 40 for end in ends)


def test_equal_steps_of_evidence_are_equal_steps_of_colour():
    steps = np.linspace(0, 4, 9, dtype=np.float32)[None]
    overlay = np.asarray(lay_over(np.full((1, 9), 128, np.uint8), steps, 4.0, 1.0))[0].astype(float)
    moved = np.linalg.norm(np.diff(overlay, axis=0), axis=1)
    np.testing.assert_allclose(moved, moved.mean(), atol=1.5)


def test_beyond_the_limit_is_the_full_colour():
    assert np.array_equal(colourise(np.array([[50.0]], np.float32), 4.0), colourise(np.array([[4.0]], np.float32), 4.0))


def test_one_limit_holds_all_maps_and_faint_evidence_stays_faint():
    maps = np.zeros((3, 7, 7), np.float32)
    assert scale_limit(maps) == LEAST_LIMIT
    maps[2, 3, 3] = -11.2
    assert scale_limit(maps) == 12.0
    maps[0, 0, 0] = 0.3
    assert scale_limit(maps) == 12.0


def test_the_peak_of_a_fine_map_does_not_make_the_rest_of_a_lesion_pale():
    maps = np.zeros((3, 200, 200), np.float32)
    maps[:, 80:120, 60:100] = 30.0  # 4 % of the places
    maps[:, 95:98, 80:83] = 400.0
    assert scale_limit(maps) == 30.0
    maps *= -2
    assert scale_limit(maps) == 60.0


@pytest.mark.parametrize("colours", PALETTES)
def test_in_every_palette_no_evidence_is_no_colour_and_every_step_of_it_is_seen(colours):
    bare = np.asarray(lay_over(SCAN, np.zeros_like(EVIDENCE), 4.0, 1.0, MapStyle(colours)))
    assert np.array_equal(bare, np.stack([SCAN] * 3, axis=2))
    steps = np.linspace(-4, 4, 17, dtype=np.float32)[None]
    painted = np.asarray(lay_over(np.full((1, 17), 120, np.uint8), steps, 4.0, 1.0, MapStyle(colours)))[0].astype(int)
    assert (np.abs(np.diff(painted, axis=0)).max(axis=1) > 3).all()
    assert (np.abs(painted[[0, -1]] - 120).max(axis=1) > 50).all()


@pytest.mark.parametrize("colours", ["turbo", "viridis"])
def test_palettes_are_those_that_matplotlib_calls_so(colours):
    steps = np.array([[-1, 1]], np.float32)
    ours = np.asarray(lay_over(np.full((1, 2), 120, np.uint8), steps, 1.0, 1.0, MapStyle(colours)))
    theirs = colormaps[colours](0.5 + 0.425 * steps, bytes=True)[..., :3]  # a bit before the ends
    np.testing.assert_allclose(ours.astype(int), theirs.astype(int), atol=8)


def test_contours_run_where_evidence_passes_a_quarter_a_half_and_three_quarters():
    y, x = np.mgrid[:120, :160]
    cone = (4 * np.clip(1 - np.hypot(x - 80, y - 60) / 50, 0, 1)).astype(np.float32)
    scan = np.full(cone.shape, 100, np.uint8)
    drawn = np.asarray(lay_over(scan, cone, 4.0, 0.5, MapStyle(contour=True))).astype(int)
    line = (np.abs(drawn - 100).max(axis=2) > 60) & (np.ptp(drawn, axis=2) > 60)  # coloured, not the dark edge
    away = np.abs(np.hypot(x - 80, y - 60)[line][:, None] - 50 * (1 - np.array([0.25, 0.5, 0.75])))
    assert (away.min(axis=0) < 1).all(), "a circle for each of the three"
    assert away.min(axis=1).max() < 2.5, "and no line elsewhere"
    assert np.array_equal(np.asarray(lay_over(scan, cone, 4.0, 0.0, MapStyle(contour=True)))[..., 0], scan)


def test_colours_that_are_none_are_refused_in_words():
    with pytest.raises(ConfigError, match="jet"):
        MapStyle("jet")
