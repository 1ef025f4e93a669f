"""Hiding a part of a scan: which part, what takes its place, and where else it can lie."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as components

from bcx.explain.hiding import hide, hottest_region, moved

SHAPE = (60, 80)
BRIGHT = np.zeros(SHAPE, bool)
BRIGHT[20:35, 30:50] = True


def regions(seed: int) -> np.ndarray:
    """A random connected region."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(12, 50, 2))
    heat = rng.random(shape)
    heat[rng.integers(0, shape[0] // 2) :, rng.integers(0, shape[1] // 2) :] += rng.random() * 2
    return hottest_region(heat)


def test_the_region_is_the_connected_part_that_holds_the_peak():
    heat = np.zeros(SHAPE, np.float32)
    heat[5:10, 5:10] = 0.5
    heat[30:40, 30:45] = 0.6
    heat[35, 35] = 1.0
    region = hottest_region(heat)
    assert region.sum() == 150
    assert region[30:40, 30:45].all()
    assert not hottest_region(np.zeros(SHAPE)).any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_moved_regions_are_equal_lie_inside_and_apart(seed):
    region = regions(seed)
    assert components(region, np.ones((3, 3)))[1] == 1
    copies = moved(region, 3, np.random.default_rng(seed))
    rows, columns = np.nonzero(region)
    for copy in copies:
        assert not (copy & region).any()
        ys, xs = np.nonzero(copy)
        assert (ys - ys.min()).tolist() == (rows - rows.min()).tolist()
        assert (xs - xs.min()).tolist() == (columns - columns.min()).tolist()


def test_every_free_place_is_found():
    region = np.zeros((4, 7), bool)
    region[:, 2:4] = True
    copies = moved(region, 100, np.random.default_rng(0))  # columns 0, 4 and 5 are free for its left edge
    assert sorted(int(np.nonzero(copy)[1].min()) for copy in copies) == [0, 4, 5]


def test_hidden_is_only_the_region_and_nothing_of_it_remains():
    noise = np.random.default_rng(0).integers(0, 40, SHAPE, dtype=np.uint8)
    scan = np.where(BRIGHT, 250, noise).astype(np.uint8)
    hidden = hide(scan, BRIGHT)
    assert (hidden[~BRIGHT] == scan[~BRIGHT]).all()
    assert hidden[BRIGHT].max() < 40
    assert abs(hidden[BRIGHT].mean() - noise[~BRIGHT].mean()) < 2
    assert (scan[BRIGHT] == 250).all()  # the scan itself stays
    colour = np.stack([scan, scan // 2, scan // 3], axis=-1)
    assert (hide(colour, BRIGHT)[..., 0] == hidden).all()


@pytest.mark.parametrize(
    "region", [np.s_[:, :79], np.s_[1:, :], np.s_[0:1, :], np.s_[:, 79:], np.s_[1:59, 1:79]], ids=str
)
def test_regions_at_the_edge_and_as_large_as_the_picture_are_filled(region):
    mask = np.zeros(SHAPE, bool)
    mask[region] = True
    assert (hide(np.full(SHAPE, 77, np.uint8), mask) == 77).all()
