"""Augmentation: the same seed draws the same picture, and the lesion stays in it."""

import numpy as np
import pytest

from bcx.errors import ConfigError
from bcx.imaging.preprocess import resize
from bcx.simulate import simulate
from bcx.train.augment import RECIPES, Augmentation


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
    drawn = [first(picture, mask, seed) for seed in range(12)]
    again = [second(picture, mask, seed) for seed in reversed(range(12))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    # "plain" has few things to change, and may do none of them.
    assert len({each.tobytes() for each in drawn}) >= (8 if recipe == "plain" else 12)
    assert all(each.shape[:2] == (64, 64) and each.dtype == np.uint8 for each in drawn)


def test_a_gentler_strength_changes_less(scan):
    plane, mask = scan
    plain = resize(plane, 64, 64).astype(float)

    def change(strength):
        augment = Augmentation("ultrasound", 64, strength)
        drawn = [augment(plane, mask, seed).astype(float) for seed in range(20)]
        # The mirror is not a matter of strength, so compare with whichever side is nearer.
        return np.mean([min(np.abs(d - plain).mean(), np.abs(d[:, ::-1] - plain).mean()) for d in drawn])

    assert change(0.2) < 0.7 * change(1.0)


def test_the_lesion_stays_in_the_picture():
    """A white square near a corner on black: after augmentation some of it is always left."""
    plane = np.zeros((109, 109), np.uint8)
    plane[3:23, 3:23] = 255
    augment = Augmentation("ultrasound", 64)
    kept = [int((augment(plane, plane, seed) > 60).sum()) for seed in range(60)]
    without = [int((augment(plane, None, seed) > 60).sum()) for seed in range(60)]
    whole = int((resize(plane, 64, 64) > 60).sum())
    # Zooming out shrinks the square to 1/1.33 squared and the aspect a little more; of that 60 % stays at least.
    assert min(kept) > 0.6 * whole / 1.33**2 * 0.7
    assert min(without) < min(kept)  # without a mask nothing is held back


def test_unknown_recipe():
    with pytest.raises(ConfigError):
        Augmentation("no-such", 32)
