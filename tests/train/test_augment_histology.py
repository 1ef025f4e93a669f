"""Augmentation of tissue: geometry without an up, stains as skimage takes them apart, nothing of ultrasound's."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest
from skimage.color import hed_from_rgb, rgb_from_hed

from bcx.data.idc import read_idc
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.simulate.histology import simulate_patch, write_idc_folder
from bcx.tasks import HISTOLOGY_IDC
from bcx.train.augment import OVERSIZE, RECIPES, Augmentation, oversize
from bcx.train.augment_histology import STAINS, StainJitter, histology
from bcx.train.dataset import ScanDataset

PATCH = simulate_patch("positive", 3)


def changed(factors, shifts, pixels=PATCH):
    return StainJitter(0.2).apply(pixels, factors, shifts)


def test_the_stains_are_ruifroks():
    assert np.allclose(STAINS, rgb_from_hed)


def test_factors_act_on_the_stains_that_skimage_finds():
    factors = [1.3, 0.7, 1.0]
    density = -np.log(np.maximum(PATCH, 1) / 255)
    stains = density @ hed_from_rgb
    expected = 255 * np.exp(-(stains * factors) @ rgb_from_hed)
    found = changed(factors, [0, 0, 0])
    assert np.abs(found - np.clip(expected, 0, 255)).max() <= 0.51  # rounding to whole grey levels


def test_no_change_changes_nothing_and_glass_stays_white():
    assert np.array_equal(changed([1, 1, 1], [0, 0, 0]), np.maximum(PATCH, 1))
    glass = np.full((4, 4, 3), 255, np.uint8)
    assert np.array_equal(changed([1.3, 0.7, 1.2], [0.05, 0.05, 0.05], glass), glass)


def test_more_haematoxylin_makes_nuclei_darker():
    darker = changed([1.3, 1, 1], [0, 0, 0]).astype(int)
    assert darker.mean() < PATCH.mean()
    assert (PATCH.astype(int) - darker)[..., 0].mean() > 0


def test_all_eight_positions_and_no_other_turn_come_up():
    geometry = A.Compose(histology(1.0)[0][:1])
    marker = np.arange(9, dtype=np.uint8).reshape(3, 3)
    seen = set()
    for seed in range(120):
        geometry.set_random_seed(seed)
        seen.add(geometry(image=marker)["image"].tobytes())
    turns = [np.rot90(m, k) for m in (marker, marker[:, ::-1]) for k in range(4)]
    assert seen == {np.ascontiguousarray(turn).tobytes() for turn in turns}


@pytest.mark.parametrize("name", ["histology", "plain", "flips-turn-brightness"])
def test_variants_are_repeatable_keep_colour_and_differ(name):
    warp = Augmentation(name, size=64)
    plane = np.asarray(Preprocess(size=64, grey=False).plane(PATCH))
    one, again, other = warp(plane, None, 5), warp(plane, None, 5), warp(plane, None, 6)
    assert one.shape == (64, 64, 3)
    assert one.dtype == np.uint8
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_nothing_of_ultrasound_is_done_to_tissue():
    kinds = {type(step).__name__ for part in histology(1.0) for step in part}
    assert not kinds & {"CLAHE", "MultiplicativeNoise", "RandomGamma", "Downscale", "OneOf"}
    assert HISTOLOGY_IDC.augmentation == "histology"
    assert oversize("histology") == 1.0
    assert oversize("ultrasound") == OVERSIZE
    assert set(RECIPES) >= {"histology", "plain", "flips-turn-brightness"}


def test_small_patches_are_kept_small_and_shown_in_colour(tmp_path):
    records = read_idc(write_idc_folder(tmp_path, patients=2, patches=2), task=HISTOLOGY_IDC).records
    preprocess = Preprocess(size=96, grey=False)
    dataset = ScanDataset(records, HISTOLOGY_IDC, preprocess, augment=1.0, seed=0)
    assert sum(plane.nbytes for plane in dataset._planes) == len(records) * 50 * 50 * 3
    plane, label, _ = dataset[0]
    assert plane.shape == (96, 96, 3)
    assert label == 0
    still = ScanDataset(records, HISTOLOGY_IDC, preprocess, augment=0, seed=0)

    assert np.array_equal(still[3][0], preprocess.plane(Scan.open(records[3].file).pixels))
