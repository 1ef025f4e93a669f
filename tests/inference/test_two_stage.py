"""One look or two: what is read, in which order, and that nothing depends on what else is in the batch."""

from functools import partial

import cv2
import numpy as np
import pytest
import timm
import torch

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.imaging.crop import find_box
from bcx.imaging.preprocess import Preprocess
from bcx.inference.two_stage import read_scans
from bcx.networks.build import forward_maps
from bcx.networks.run import Outputs, run_network
from bcx.simulate import simulate

SCANS = [simulate(label, seed, 100 + 9 * seed, 150).pixels for seed, label in enumerate(["malignant", "benign"] * 3)]


@pytest.fixture(scope="module")
def lesion(tiny_lesion_checkpoint):
    return load_checkpoint(tiny_lesion_checkpoint)


@pytest.fixture(scope="module")
def linear(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint)


def read(checkpoint, scans):
    return read_scans(partial(run_network, checkpoint.network, checkpoint.preprocess), checkpoint.preprocess, scans)


def run_alone(checkpoint, pixels):
    with torch.inference_mode():
        out = forward_maps(checkpoint.network, checkpoint.preprocess.tensor(pixels)[None])
    return [None if part is None else part[0].numpy() for part in out]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        scale = max(1, float(np.abs(other.maps).max()))
        for name in ("logits", "maps", "stages"):
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=3e-5 * scale)
        assert (one.second is None) == (other.second is None)
        if one.second is not None:
            assert one.second.box == other.second.box
            np.testing.assert_allclose(one.lesion, other.lesion, atol=3e-5)
            np.testing.assert_allclose(one.second.maps, other.second.maps, atol=3e-5 * scale)
            np.testing.assert_allclose(one.second.lesion, other.second.lesion, atol=3e-5)


def test_two_looks_are_the_mean_of_the_scan_and_of_its_part_enlarged(lesion):
    readings = read(lesion, SCANS)
    assert np.ptp([reading.logits for reading in readings]) > 0.1  # there is something to compare
    for pixels, reading in zip(SCANS, readings, strict=True):
        logits, maps, stages, seen = run_alone(lesion, pixels)
        scale = max(1, float(np.abs(maps).max()))
        box = find_box(seen, pixels.shape)
        assert reading.second.box == box
        margin = box.side  # what stands outside the scan is black
        part = np.pad(pixels, margin)[margin + box.y :, margin + box.x :][: box.side, : box.side]
        again = run_alone(lesion, part)
        np.testing.assert_allclose(reading.logits, (logits + again[0]) / 2, atol=3e-5 * scale)
        np.testing.assert_allclose(reading.maps, maps, atol=3e-5 * scale)
        np.testing.assert_allclose(reading.stages, stages, atol=3e-5 * scale)
        np.testing.assert_allclose(reading.lesion, seen, atol=3e-5)
        np.testing.assert_allclose(reading.second.maps, again[1], atol=3e-5 * scale)
        np.testing.assert_allclose(reading.second.lesion, again[3], atol=3e-5)


def test_the_linear_head_looks_once(linear, tiny_checkpoint):
    plain = timm.create_model(f"local-dir:{tiny_checkpoint}", pretrained=True).eval()
    with torch.inference_mode():
        logits = plain(torch.stack([linear.preprocess.tensor(pixels) for pixels in SCANS])).numpy()
    readings = read(linear, SCANS)
    scale = max(1, float(np.abs(logits).max()))
    np.testing.assert_allclose([reading.logits for reading in readings], logits, atol=3e-5 * scale)
    assert all(reading.second is None and reading.lesion is None for reading in readings)


@pytest.mark.parametrize("head", ["linear", "lesion"])
def test_alone_or_among_scans_of_other_sizes_a_scan_is_read_alike(head, request):
    checkpoint = request.getfixturevalue(head)
    together = read(checkpoint, SCANS)
    assert_same(together, [read(checkpoint, [pixels])[0] for pixels in SCANS])
    assert_same(read(checkpoint, SCANS[::-1]), together[::-1])


@pytest.mark.parametrize("head", ["linear", "lesion"])
def test_a_kept_reading_does_not_keep_its_batch(head, request):
    for reading in read(request.getfixturevalue(head), SCANS):
        arrays = [reading.logits, reading.maps, reading.stages]
        if reading.second is not None:
            arrays += [reading.lesion, reading.second.maps, reading.second.lesion]
        assert all(array.base is None for array in arrays)


def see_brightness(planes: np.ndarray, asked: list[np.ndarray], enlarged: bool = False) -> Outputs:
    """A network made by hand, to which a bright place is a lesion; notes what it is shown."""
    assert enlarged == bool(asked)  # the second stage is announced
    asked.append(planes)
    grid = np.stack([cv2.resize(plane, (8, 8), interpolation=cv2.INTER_AREA) for plane in planes]) / np.float32(255)
    logits = np.repeat(grid.mean((1, 2))[:, None], 3, axis=1)
    return Outputs(logits, np.repeat(grid[:, None], 3, axis=1), logits, grid)


def test_the_second_stage_shows_what_the_first_one_saw_and_larger():
    scans = [np.full((160, 240), 20, np.uint8), np.full((300, 200), 20, np.uint8)]
    scans[0][100:130, 180:210] = 240
    scans[1][30:60, 40:80] = 240
    asked: list[np.ndarray] = []
    readings = read_scans(partial(see_brightness, asked=asked), Preprocess(size=64), scans)
    assert [planes.shape for planes in asked] == [(2, 64, 64)] * 2  # one pass for all first looks, one for all second
    for reading, pixels, first, second in zip(readings, scans, *asked, strict=True):
        bright = np.argwhere(pixels > 200)
        box = reading.second.box
        assert box.x <= bright[:, 1].min() < bright[:, 1].max() < box.x + box.side
        assert box.y <= bright[:, 0].min() < bright[:, 0].max() < box.y + box.side
        assert (second > 130).mean() > 2 * (first > 130).mean()
