"""What machines differ in: tone curves rise, gain changes smoothly, grain is grain."""

from __future__ import annotations

import albumentations as A
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcx.simulate import simulate
from bcx.train.augment import RECIPES, Augmentation
from bcx.train.augment_machines import GainField, Grain, ToneCurve, machines

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
    found = drawn(GainField(spread=0.35, p=1.0), GREY, seed).astype(float)
    assert found.std() > 2  # it does something ...
    steps = max(np.abs(np.diff(found, axis=axis)).max() for axis in (0, 1))
    assert steps < 0.15 * np.ptp(found) + 1  # ... without an edge anywhere (1: rounding)


@pytest.mark.parametrize("seed", range(6))
def test_grain_is_even_over_the_picture_and_not_deeper_than_wide(seed):
    found = np.log(drawn(Grain(strongest=0.4, p=1.0), np.full((256, 256), 120, np.uint8), seed) / 120.0)
    assert 0.03 < found.std() < 0.45
    assert abs(found.mean()) < 0.05

    def alike(axis):
        a, b = (np.take(found, range(start, 253 + start), axis) for start in (0, 3))
        return np.corrcoef(a.ravel(), b.ravel())[0, 1]

    assert alike(1) > alike(0) - 0.05


def test_no_strength_changes_nothing_and_more_changes_more():
    scan = simulate("malignant", 2, height=96, width=96).pixels

    def change(strength):
        pipeline = A.Compose(machines(strength))
        pipeline.set_random_seed(3)
        return np.mean([np.abs(pipeline(image=scan)["image"].astype(float) - scan).mean() for _ in range(30)])

    assert change(0.0) == 0
    assert change(0.3) < 0.5 * change(1.0)


def test_it_varies_grey_values_more_than_the_plain_recipe_and_moves_the_lesion_alike():
    scan = simulate("benign", 4, height=109, width=109)
    mask = scan.mask.astype(np.uint8)
    plain, wide = Augmentation("ultrasound", 64), Augmentation("ultrasound-machines", 64)
    pairs = [(plain.with_mask(scan.pixels, mask, seed), wide.with_mask(scan.pixels, mask, seed)) for seed in range(30)]
    assert all(np.array_equal(a[1], b[1]) for a, b in pairs)
    assert np.std([b[0].mean() for _, b in pairs]) > np.std([a[0].mean() for a, _ in pairs])
    assert "ultrasound-machines" in RECIPES


def test_colour_pictures_stay_colour_pictures():
    scan = simulate("benign", 4, height=64, width=64).pixels
    colour = np.stack([scan, scan // 2, scan // 3], -1)
    pipeline = A.Compose(machines(1.0))
    for seed in range(12):
        pipeline.set_random_seed(seed)
        found = pipeline(image=colour)["image"]
        assert found.shape == colour.shape
        assert found.dtype == np.uint8
