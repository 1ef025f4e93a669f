"""The lesion layer: an outline where it belongs, nothing without opacity, seen on every grey and by every reader."""

import numpy as np
import pytest

from bcx.imaging.overlay import COLOUR, colourise, lay_outline, regions

RNG = np.random.default_rng(0)
SCAN = RNG.integers(0, 256, (240, 300), np.uint8)
COLOUR_SCAN = RNG.integers(0, 256, (240, 300, 3), np.uint8)
LESION = np.zeros((240, 300), np.float32)
LESION[60:120, 100:180] = 0.8


def yellow(picture) -> np.ndarray:
    return (np.abs(np.asarray(picture).astype(int) - COLOUR).max(axis=2) <= 70).nonzero()  # lines are smoothed


@pytest.mark.parametrize("pixels", [SCAN, COLOUR_SCAN], ids=["grey", "colour"])
def test_opacity_zero_is_the_scan(pixels):
    laid = lay_outline(pixels, LESION, 0.5, 0.0, (80, 40, 120))
    assert (laid.mode, laid.size) == ("RGB", (300, 240))
    assert np.array_equal(laid, pixels if pixels.ndim == 3 else np.stack([pixels] * 3, axis=2))


def test_without_lesion_and_frame_the_scan_stays_as_it_is():
    assert np.array_equal(lay_outline(SCAN, np.zeros_like(LESION), 0.5, 1.0), np.stack([SCAN] * 3, axis=2))


@pytest.mark.parametrize("grey", [0, 90, 180, 255])
def test_the_outline_runs_around_the_lesion_and_is_edged(grey):
    laid = lay_outline(np.full((240, 300), grey, np.uint8), LESION, 0.5)
    rows, columns = yellow(laid)
    assert (rows.min(), columns.min()) == pytest.approx((60, 100), abs=2)
    assert (rows.max(), columns.max()) == pytest.approx((119, 179), abs=2)
    assert np.asarray(laid)[60 - 2, 140].max() < 80  # a dark edge, so that it shows on light tissue too


def test_what_is_below_the_level_is_filled_and_not_outlined():
    faint = lay_outline(np.zeros((240, 300), np.uint8), LESION * 0.3, 0.5, 1.0)
    assert yellow(faint)[0].size == 0
    inside = np.asarray(faint)[90, 140]
    surer = np.asarray(lay_outline(np.zeros((240, 300), np.uint8), LESION * 0.5, 0.5, 1.0))[90, 140]
    assert 0 < inside.max() < surer.max() < 128


def test_more_opacity_shows_more_fill_and_never_hides_the_tissue():
    bare = np.stack([SCAN] * 3, axis=2).astype(float)
    laid = [np.asarray(lay_outline(SCAN, LESION, 0.5, o)).astype(float) for o in (0.0, 0.25, 0.5, 1.0)]
    change = [np.abs(picture - bare).sum() for picture in laid]
    assert change == sorted(change)
    assert laid[-1][70:110, 110:170].std() > 0.4 * bare[70:110, 110:170].std()


@pytest.mark.parametrize("frame", [(60, 40, 140), (-40, -30, 400), (250, 200, 90)])
def test_the_frame_is_drawn_dashed_as_far_as_it_lies_in_the_picture(frame):
    laid = np.asarray(lay_outline(np.full((240, 300), 90, np.uint8), np.zeros_like(LESION), 0.5, 0.5, frame))
    x, y, side = frame
    left, top = max(0, x), max(0, y)
    right, bottom = min(300, x + side) - 1, min(240, y + side) - 1
    for edge in (laid[top : bottom + 1, right], laid[bottom, left : right + 1]):
        white = (edge == 255).all(axis=1)
        assert white.any()
        assert not white.all()


def test_a_frame_is_all_that_is_drawn_outside_the_lesion():
    laid = np.asarray(
        lay_outline(np.full((40, 50), 90, np.uint8), np.zeros((40, 50), np.float32), 0.5, 0.5, (9, 9, 20))
    )
    assert (laid == 255).all(axis=2).any()
    assert (laid[:6] == 90).all()


def test_regions_are_counted_largest_first_without_crumbs():
    lesion = np.zeros((100, 100), np.float32)
    assert regions(lesion, 0.5) == []
    lesion[10:20, 10:20], lesion[40:70, 50:90], lesion[95, 95] = 0.6, 0.9, 0.9
    assert regions(lesion, 0.5) == [(50, 40, 40, 30)]
    lesion[10:30, 10:30] = 0.6
    assert regions(lesion, 0.5) == [(50, 40, 40, 30), (10, 10, 20, 20)]


def test_yellow_keeps_apart_from_evidence_and_from_grey_for_colour_blind_readers():
    """Simulated red-green blindness (Vienot et al. 1999), linear light."""
    ends = [colourise(np.full((1, 1), v, np.float32), 4.0)[0, 0] for v in (4, -4)]
    deuteranope = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])

    def seen(colour):
        c = np.asarray(colour) / 255
        return deuteranope @ np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)

    assert all(np.abs(seen(COLOUR) - seen(end)).max() > 0.3 for end in ends)
    assert np.ptp(seen(COLOUR)) > 0.3
