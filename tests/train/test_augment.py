"""Augmentation: the seed alone decides, the lesion stays, stains and scanners vary as they should."""

import albumentations as A
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import hed_from_rgb, rgb_from_hed

from bcx.data.histology import read_idc
from bcx.errors import ConfigError
from bcx.imaging.preprocess import Preprocess, resize
from bcx.imaging.scan import Scan
from bcx.simulate import simulate
from bcx.simulate.histology import simulate_patch
from bcx.tasks import HISTOLOGY_IDC
from bcx.train.augment import RECIPES, Augmentation, GainField, Grain, StainJitter, ToneCurve
from bcx.train.heads import ScanDataset
from tests.layouts import write_idc_folder


@pytest.fixture(scope="module")
def scan():
    simulated = simulate("benign", 3, height=120, width=140)
    return resize(simulated.pixels, 109, 109), resize(simulated.mask.astype(np.uint8), 109, 109)


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_the_seed_alone_decides(scan, recipe):
    picture, mask = scan
    if recipe == "histology":  # its stains are in the colours
        picture = np.stack([picture // 2 + 100, picture // 2 + 40, picture // 2 + 120], -1)
    first, second = Augmentation(recipe, 64), Augmentation(recipe, 64)
    drawn = [first(picture, mask, seed)[0] for seed in range(12)]
    again = [second(picture, mask, seed)[0] for seed in reversed(range(12))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    # "plain" has few things to change, and may do none of them.
    assert len({each.tobytes() for each in drawn}) >= (8 if recipe == "plain" else 12)
    assert all(each.shape[:2] == (64, 64) and each.dtype == np.uint8 for each in drawn)


def test_a_gentler_strength_changes_less(scan):
    plane, mask = scan
    plain = resize(plane, 64, 64).astype(float)

    def change(strength):
        augment = Augmentation("ultrasound", 64, strength)
        drawn = [augment(plane, mask, seed)[0].astype(float) for seed in range(20)]
        # The mirror is not a matter of strength, so compare with whichever side is nearer.
        return np.mean([min(np.abs(d - plain).mean(), np.abs(d[:, ::-1] - plain).mean()) for d in drawn])

    assert change(0.2) < 0.7 * change(1.0)


def test_the_lesion_stays_in_the_picture():
    """A white square near a corner on black: after augmentation some of it is always left."""
    plane = np.zeros((109, 109), np.uint8)
    plane[3:23, 3:23] = 255
    augment = Augmentation("ultrasound", 64)
    kept = [int((augment(plane, plane, seed)[0] > 60).sum()) for seed in range(60)]
    without = [int((augment(plane, None, seed)[0] > 60).sum()) for seed in range(60)]
    whole = int((resize(plane, 64, 64) > 60).sum())
    # Zooming out shrinks the square to 1/1.33 squared and the aspect a little more; of that 60 % stays at least.
    assert min(kept) > 0.6 * whole / 1.33**2 * 0.7
    assert min(without) < min(kept)  # without a mask nothing is held back


def test_unknown_recipe():
    with pytest.raises(ConfigError):
        Augmentation("no-such", 32)


PATCH = simulate_patch("positive", 3)


def changed(factors, shifts, pixels=PATCH):
    return StainJitter(0.2, p=1.0).apply(pixels, factors, shifts)


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


def test_all_eight_positions_and_no_other_turn_come_up():
    geometry = A.Compose(RECIPES["histology"](1.0)[0][:1])
    marker = np.arange(9, dtype=np.uint8).reshape(3, 3)
    seen = set()
    for seed in range(120):
        geometry.set_random_seed(seed)
        seen.add(geometry(image=marker)["image"].tobytes())
    turns = [np.rot90(m, k) for m in (marker, marker[:, ::-1]) for k in range(4)]
    assert seen == {np.ascontiguousarray(turn).tobytes() for turn in turns}


def test_small_patches_are_kept_small_and_shown_in_colour(tmp_path):
    records = read_idc(write_idc_folder(tmp_path, patients=2, patches=2), task=HISTOLOGY_IDC, source="idc").records
    preprocess = Preprocess(size=96, grey=False)
    dataset = ScanDataset(records, HISTOLOGY_IDC, preprocess, augment=1.0, seed=0)
    assert sum(plane.nbytes for plane in dataset._planes) == len(records) * 50 * 50 * 3
    plane, label, _ = dataset[0]
    assert plane.shape == (96, 96, 3)
    assert label == 0
    still = ScanDataset(records, HISTOLOGY_IDC, preprocess, augment=0, seed=0)

    assert np.array_equal(still[3][0], preprocess.plane(Scan.open(records[3].file).pixels))


GREY = np.full((96, 96), 100, np.uint8)
RAMP = np.arange(256, dtype=np.uint8)[None]


def drawn(transform, pixels, seed):
    transform.set_random_seed(seed)
    return transform(image=pixels)["image"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31 - 1))
def test_brighter_stays_brighter_and_black_stays_black(seed):
    levels = drawn(ToneCurve(p=1.0), RAMP, seed)[0].astype(int)
    assert (np.diff(levels[1:]) >= 0).all()
    assert levels[0] <= 8
    assert levels[255] >= 0.75 * 255 - 1
    assert levels[255] > levels[1]


def test_curves_differ_from_each_other_and_from_none():
    curves = {drawn(ToneCurve(p=1.0), RAMP, seed).tobytes() for seed in range(40)}
    assert len(curves) == 40
    assert RAMP.tobytes() not in curves


@pytest.mark.parametrize("seed", range(6))
def test_gain_changes_slowly_over_the_picture(seed):
    found = drawn(GainField(0.35, p=1.0), GREY, seed).astype(float)
    assert found.std() > 2  # it does something ...
    steps = max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.15 * np.ptp(found) + 1  # ... without an edge anywhere (1: rounding)


@pytest.mark.parametrize("seed", range(6))
def test_grain_is_even_over_the_picture_and_not_deeper_than_wide(seed):
    found = np.log(drawn(Grain(0.4, p=1.0), np.full((256, 256), 120, np.uint8), seed) / 120.0)
    assert 0.03 < found.std() < 0.45
    assert abs(found.mean()) < 0.05

    def alike(axis):
        a, b = (np.take(found, range(start, 253 + start), axis) for start in (0, 3))
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert alike(1) > alike(0) - 0.05


def test_no_strength_changes_nothing_and_more_changes_more():
    scan = simulate("malignant", 2, height=96, width=96).pixels

    def change(strength):
        pipeline = A.Compose(RECIPES["ultrasound-machines"](strength)[1])
        pipeline.set_random_seed(3)
        return np.mean([np.abs(pipeline(image=scan)["image"].astype(float) - scan).mean() for _ in range(30)])

    assert change(0.0) == 0
    assert change(0.3) < 0.5 * change(1.0)


def test_it_varies_grey_values_more_than_the_plain_recipe_and_moves_the_lesion_alike():
    scan = simulate("benign", 4, height=109, width=109)
    mask = scan.mask.astype(np.uint8)
    plain, wide = Augmentation("ultrasound", 64), Augmentation("ultrasound-machines", 64)
    pairs = [(plain(scan.pixels, mask, seed), wide(scan.pixels, mask, seed)) for seed in range(30)]
    assert all(np.array_equal(a[1], b[1]) for a, b in pairs)
    assert np.std([b[0].mean() for _, b in pairs]) > np.std([a[0].mean() for a, _ in pairs])
    assert "ultrasound-machines" in RECIPES


def test_colour_pictures_stay_colour_pictures():
    scan = simulate("benign", 4, height=64, width=64).pixels
    colour = np.stack([scan, scan // 2, scan // 3], -1)
    pipeline = A.Compose(RECIPES["ultrasound-machines"](1.0)[1])
    for seed in range(12):
        pipeline.set_random_seed(seed)
        found = pipeline(image=colour)["image"]
        assert found.shape == colour.shape
        assert found.dtype == np.uint8
