"""From the scan to the network and back: the same pixels as other libraries make, and coordinates that return."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from skimage.transform import resize as skimage_resize
from torchvision.transforms.functional import normalize, to_tensor

from bcx.errors import ConfigError
from bcx.imaging.preprocess import Preprocess, to_grey
from bcx.simulate import simulate

SCAN = simulate("malignant", 3, 300, 360).pixels
sides = st.integers(16, 3000)


@given(arrays(float, (5, 2), elements=st.floats(-1e4, 1e4)), st.integers(16, 2048), st.tuples(sides, sides))
def test_coordinates_return(points, size, shape):
    step = Preprocess(size=size)
    np.testing.assert_allclose(step.to_scan(step.to_network(points, shape), shape), points, rtol=1e-9, atol=1e-9)


@given(st.integers(16, 2048), st.tuples(sides, sides))
def test_corners_meet_corners(size, shape):
    corners = np.array([[0, 0], [shape[1], shape[0]]])
    assert np.allclose(Preprocess(size=size).to_network(corners, shape), [[0, 0], [size, size]])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 6), st.integers(0, 6), st.tuples(st.integers(60, 400), st.integers(60, 400)))
def test_a_hot_cell_lands_where_the_coordinates_say(row, column, shape):
    grid = np.zeros((1, 7, 7), np.float32)
    grid[0, row, column] = 1
    step = Preprocess(size=224)
    enlarged = step.enlarge(grid, shape)[0].astype(float)
    assert enlarged.shape == shape
    centre = step.to_scan((np.array([[column, row]]) + 0.5) * step.size / 7, shape)[0]
    for axis, cell in ((1, column), (0, row)):
        profile = enlarged.sum(1 - axis)
        # An inner cell becomes a tent with its top, and its centre of mass, over the cell's centre.
        if 0 < cell < 6:
            found = (profile * (np.arange(len(profile)) + 0.5)).sum() / profile.sum()
            assert found == pytest.approx(centre[1 - axis], abs=0.5)
        else:
            assert profile[0 if cell == 0 else -1] == pytest.approx(profile.max())
            assert (profile > profile.max() / 2).sum() == pytest.approx(len(profile) / 7, abs=1.5)


def test_a_bright_spot_of_the_scan_lands_where_the_coordinates_say():
    pixels = np.zeros((400, 600), np.uint8)
    pixels[100:108, 450:462] = 255
    step = Preprocess(size=200)
    seen = step.plane(pixels).astype(float)
    rows, columns = np.mgrid[:200, :200] + 0.5
    found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
    np.testing.assert_allclose(found, step.to_network(np.array([[456, 104]]), (400, 600))[0], atol=0.1)


def test_enlarging_agrees_with_pillow_and_keeps_units():
    grid = np.random.default_rng(0).normal(0, 5, (3, 7, 7)).astype(np.float32)
    enlarged = Preprocess().enlarge(grid, (150, 210))
    assert (enlarged.shape, enlarged.dtype) == ((3, 150, 210), np.float32)
    for plane, given_ in zip(enlarged, grid, strict=True):
        expected = Image.fromarray(given_).resize((210, 150), Image.Resampling.BILINEAR)
        np.testing.assert_allclose(plane, np.asarray(expected), atol=1e-2)
        assert given_.min() <= plane.min() <= plane.max() <= given_.max()


def test_grey_scans_give_the_same_pixels_in_one_channel_or_three():
    step = Preprocess(size=96)
    three = np.stack([SCAN] * 3, axis=2)
    assert np.array_equal(step.plane(three), step.plane(SCAN))
    assert np.array_equal(Preprocess(size=96, grey=False).plane(SCAN), np.stack([step.plane(SCAN)] * 3, axis=2))


def test_luma_is_pillows():
    colours = np.random.default_rng(1).integers(0, 256, (50, 60, 3), np.uint8)
    pillow = np.asarray(Image.fromarray(colours).convert("L")).astype(int)
    assert np.abs(to_grey(colours) - pillow).max() <= 1


@pytest.mark.parametrize("shape", [(448, 448), (448, 672), (300, 360), (231, 500)])
def test_shrinking_is_area_averaging_as_in_pillow(shape):
    pixels = simulate("benign", 4, *shape).pixels
    expected = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.BOX)).astype(float)
    found = Preprocess(size=224).plane(pixels).astype(float)
    if shape[0] % 224 == shape[1] % 224 == 0:  # whole blocks: there is only one average
        assert np.abs(found - expected).max() <= 1
    else:  # Pillow gives every pixel it touches the same weight, area averaging its share
        assert np.abs(found - expected).mean() < 3


@pytest.mark.parametrize("shape", [(300, 360), (231, 500)])
def test_shrinking_weighs_each_pixel_by_its_share(shape):
    """Area averaging written out: one matrix per axis of how much of each pixel falls into each new one."""

    def shares(length, side):
        edges = np.arange(side + 1) * length / side
        left, right = np.arange(length), np.arange(1, length + 1)
        overlap = np.minimum(edges[1:, None], right) - np.maximum(edges[:-1, None], left)
        return np.clip(overlap, 0, None) * side / length

    pixels = simulate("normal", 5, *shape).pixels
    expected = shares(shape[0], 224) @ pixels.astype(float) @ shares(shape[1], 224).T
    assert np.abs(Preprocess(size=224).plane(pixels) - expected).max() <= 0.51


def test_growing_is_bilinear_as_in_scikit_image():
    pixels = simulate("normal", 6, 100, 120).pixels
    expected = skimage_resize(pixels, (224, 224), order=1, preserve_range=True, mode="edge", anti_aliasing=False)
    assert np.abs(Preprocess(size=224).plane(pixels) - expected).max() <= 1


def test_normalising_is_torchvisions():
    step = Preprocess(size=64, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    expected = normalize(to_tensor(np.stack([step.plane(SCAN)] * 3, axis=2)), step.mean, step.std)
    found = step.tensor(SCAN)
    assert (found.dtype, tuple(found.shape)) == (torch.float32, (3, 64, 64))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_a_batch_is_its_scans():
    step = Preprocess(size=64)
    others = [SCAN, simulate("normal", 7, 90, 200).pixels]
    batch = step.normalise(torch.from_numpy(np.stack([step.plane(pixels) for pixels in others])))
    assert all(torch.equal(batch[i], step.tensor(pixels)) for i, pixels in enumerate(others))


@pytest.mark.parametrize("change", [{"size": 4}, {"size": 4096}, {"std": (0.5, 0.5, 0.0)}], ids=str)
def test_what_no_network_could_see_is_an_error(change):
    with pytest.raises(ConfigError, match="Expected"):
        Preprocess(**change)
