"""The second stage: boxes that lie where they should, and pictures that are cut out and put back without a shift."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label, regionprops
from skimage.transform import resize as skimage_resize

from bcx.imaging.crop import CONTEXT, LEAST_SIDE, Box, box_around, cut, find_box, merge_lesion, paste

sides = st.integers(16, 900)
shapes = st.tuples(sides, sides)
shares = st.floats(0, 1)


def bilinear(plane: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scikit-image's own enlarging: pixel centres at halves, edges repeated."""
    return skimage_resize(plane.astype(float), (height, width), order=1, mode="edge", anti_aliasing=False)


def inside(box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Bool `[H, W]`: the pixels of the scan that belong to the box."""
    rows, columns = np.indices(shape)
    return (rows >= box.y) & (rows < box.y + box.side) & (columns >= box.x) & (columns < box.x + box.side)


def put(grid: np.ndarray, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """A map enlarged into its box on a canvas that holds the scan and all around it; the scan's part of that."""
    margin = 4 * max(shape)
    canvas = np.zeros((shape[0] + 2 * margin, shape[1] + 2 * margin))
    canvas[margin + box.y :, margin + box.x :][: box.side, : box.side] = bilinear(grid, box.side, box.side)
    return canvas[margin:-margin, margin:-margin]


def boxes(shape: tuple[int, int]):
    """Boxes of any kind: inside, sticking out, beside the scan, around it."""
    return st.builds(
        Box, st.integers(-shape[1], 2 * shape[1]), st.integers(-shape[0], 2 * shape[0]), st.integers(8, 2 * max(shape))
    )


# Where the box lies.


@given(shapes, shares, shares, st.floats(0.5, 1500), st.floats(0.5, 3))
def test_a_box_lies_inside_the_scan_where_it_fits_and_covers_it_where_not(shape, right, down, longer, context):
    box = box_around(right * shape[1], down * shape[0], longer, shape, context)
    assert all(isinstance(number, int) for number in (box.x, box.y, box.side))
    for start, length in ((box.x, shape[1]), (box.y, shape[0])):
        if box.side <= length:
            assert 0 <= start <= length - box.side
        else:
            assert start <= 0
            assert start + box.side >= length


@given(shapes, shares, shares, st.floats(0.5, 1500), st.floats(0.5, 3))
def test_a_box_has_the_lesions_size_and_centre_as_far_as_the_scan_allows(shape, right, down, longer, context):
    box = box_around(right * shape[1], down * shape[0], longer, shape, context)
    assert box.side == pytest.approx(max(longer * context, LEAST_SIDE * min(shape), 8), abs=0.5)
    for start, length, share in ((box.x, shape[1], right), (box.y, shape[0], down)):
        if box.side / 2 + 1 <= share * length <= length - box.side / 2 - 1:
            assert start + box.side / 2 == pytest.approx(share * length, abs=0.51)


def by_scikit_image(lesion: np.ndarray, shape: tuple[int, int]) -> Box | None:
    """The same box by scikit-image's regions; None where two of them are equally heavy."""
    regions = regionprops(label(lesion >= lesion.max() / 2, connectivity=2), lesion)
    masses = [region.image_intensity.sum(dtype=float) for region in regions]
    order = np.argsort(masses)
    if len(order) > 1 and masses[order[-1]] - masses[order[-2]] < 1e-4:
        return None
    top, left, bottom, right = (float(edge) for edge in regions[order[-1]].bbox)
    down, across = shape[0] / lesion.shape[0], shape[1] / lesion.shape[1]
    longer = max((right - left) * across, (bottom - top) * down)
    return box_around((left + right) / 2 * across, (top + bottom) / 2 * down, longer, shape)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 4, 12]), shapes)
def test_the_box_is_the_one_around_the_heaviest_region_by_scikit_image(seed, power, shape):
    lesion = np.random.default_rng(seed).random((28, 28), np.float32) ** power  # fewer, smaller regions as it grows
    expected = by_scikit_image(lesion, shape)
    assume(expected is not None)
    assert find_box(lesion, shape) == expected


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (7, 7), elements=st.floats(0, 1, width=32)), shapes)
def test_the_box_depends_on_where_and_not_on_how_surely(lesion, shape):
    assume(lesion.max() > 1e-6)
    assert find_box(lesion / 4, shape) == find_box(lesion, shape)  # a quarter loses no bit


def test_a_heavy_region_wins_over_a_brighter_speck():
    lesion = np.zeros((28, 28), np.float32)
    lesion[3, 3] = 1.0
    lesion[18:24, 16:22] = 0.6
    assert find_box(lesion, (280, 280)) == box_around(190, 210, 60, (280, 280))


@pytest.mark.parametrize("value", [0.0, 1e-30, 0.3, 1.0])
def test_a_map_that_sees_nothing_special_gives_the_whole_scan(value):
    box = find_box(np.full((28, 28), value, np.float32), (300, 400))
    assert box == Box(-120, -170, 640)
    assert inside(box, (300, 400)).all()


def test_places_that_touch_at_a_corner_are_one_region():
    lesion = np.zeros((10, 10), np.float32)
    lesion[[2, 3, 4], [2, 3, 4]] = 1
    assert find_box(lesion, (100, 100)) == box_around(35, 35, 30, (100, 100), CONTEXT)


# Cutting out and putting back.


@settings(max_examples=40, deadline=None)
@given(st.data(), st.tuples(st.integers(16, 60), st.integers(16, 60)), st.booleans())
def test_what_is_cut_out_is_what_stands_there_and_black_outside(data, shape, colour):
    box = data.draw(boxes(shape))
    pixels = np.random.default_rng(0).integers(1, 256, (*shape, 3) if colour else shape, np.uint8)
    margin = 4 * max(shape)
    padded = np.pad(pixels, [(margin, margin)] * 2 + [(0, 0)] * colour)
    expected = padded[margin + box.y :, margin + box.x :][: box.side, : box.side]
    piece = cut(pixels, box)
    assert (piece.dtype, piece.shape[:2]) == (np.uint8, (box.side, box.side))
    assert np.array_equal(piece, expected)


@settings(max_examples=40, deadline=None)
@given(st.data(), st.tuples(st.integers(16, 60), st.integers(16, 60)))
def test_what_was_cut_out_goes_back_where_it_was(data, shape):
    box = data.draw(boxes(shape))
    plane = np.random.default_rng(1).random(shape).astype(np.float32)
    back = paste(cut(plane, box)[None], box, shape)
    assert (back.shape, back.dtype) == ((1, *shape), np.float32)
    assert np.array_equal(back[0], np.where(inside(box, shape), plane, 0))


@settings(max_examples=20, deadline=None)
@given(st.data(), st.tuples(st.integers(40, 90), st.integers(40, 90)))
def test_a_map_is_enlarged_to_its_box_as_scikit_image_does(data, shape):
    box = data.draw(boxes(shape))
    grid = np.random.default_rng(3).normal(0, 1, (2, 7, 7)).astype(np.float32)
    found = paste(grid, box, shape)
    for plane, small in zip(found, grid, strict=True):
        np.testing.assert_allclose(plane, put(small, box, shape), atol=1e-3)
        assert np.all(plane[~inside(box, shape)] == 0)


# Both looks in one map.

SHAPE = (50, 64)


def random_looks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((7, 7), np.float32), rng.random((7, 7), np.float32)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), boxes(SHAPE))
def test_the_merged_map_is_the_chance_that_both_looks_see_a_lesion(seed, box):
    first, second = random_looks(seed)
    merged = merge_lesion(first, second, box, SHAPE)
    assert (merged.shape, merged.dtype) == (SHAPE, np.float32)
    np.testing.assert_allclose(merged, bilinear(first, *SHAPE) * put(second, box, SHAPE), atol=1e-3)
    assert np.all(merged[~inside(box, SHAPE)] == 0)
    assert 0 <= merged.min() <= merged.max() <= 1


def test_a_box_that_fades_has_no_edge_and_keeps_its_middle():
    box = Box(20, 30, 50)
    plain, faded = (paste(np.ones((1, 4, 4), np.float32), box, (100, 100), fade)[0] for fade in (0.0, 0.2))
    assert np.abs(np.diff(plain, axis=1)).max() == 1
    assert np.abs(np.diff(faded, axis=1)).max() < 0.11
    assert np.array_equal(plain[40:70, 30:60], faded[40:70, 30:60])
