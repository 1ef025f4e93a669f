"""DiffAugment: what each change does, and that gradients pass."""

import numpy as np
import pytest
import torch

from bcx.studies.synthesis.fit import augment
from bcx.studies.synthesis.recipes import AUGMENTATIONS


def changed(pictures, names, seed=0):
    return augment(pictures, names, torch.Generator().manual_seed(seed))


@pytest.fixture
def pictures():
    return torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_the_same_draws_change_alike_and_others_do_not(pictures):
    assert torch.equal(changed(pictures, AUGMENTATIONS), changed(pictures, AUGMENTATIONS))
    assert not torch.equal(changed(pictures, AUGMENTATIONS), changed(pictures, AUGMENTATIONS, seed=1))
    assert torch.equal(changed(pictures, ()), pictures)


def test_a_flip_mirrors_about_half_of_the_pictures(pictures):
    out = changed(pictures.repeat(20, 1, 1, 1), ("flip",))
    straight = (out == pictures.repeat(20, 1, 1, 1)).flatten(1).all(1)
    mirrored = (out == pictures.repeat(20, 1, 1, 1).flip(3)).flatten(1).all(1)
    assert (straight ^ mirrored).all()
    assert 80 < int(mirrored.sum()) < 160


def test_brightness_moves_and_contrast_scales_around_the_mean(pictures):
    moved = changed(pictures, ("brightness",)) - pictures
    assert torch.allclose(moved, moved[:, :, :1, :1].expand_as(moved), atol=1e-6)
    assert float(moved.abs().max()) <= 0.5
    scaled = changed(pictures, ("contrast",))
    assert torch.allclose(scaled.mean((1, 2, 3)), pictures.mean((1, 2, 3)), atol=1e-5)
    ratio = scaled.std((1, 2, 3)) / pictures.std((1, 2, 3))
    assert 0.5 <= float(ratio.min()) < float(ratio.max()) <= 1.5


def test_a_translation_is_a_shift_by_at_most_an_eighth_with_grey_coming_in(pictures):
    out = changed(pictures, ("translation",)).numpy()[:, 0]
    shifts = set()
    for before, after in zip(pictures.numpy()[:, 0], out, strict=True):
        padded = np.pad(before, 2)
        found = [
            (down, right)
            for down in range(5)
            for right in range(5)
            if np.array_equal(padded[down : down + 16, right : right + 16], after)
        ]
        assert len(found) == 1
        shifts.add(found[0])
    assert len(shifts) > 3


def test_cutout_greys_out_one_rectangle_of_at_most_half_the_side():
    out = changed(torch.ones(50, 1, 16, 16), ("cutout",))[:, 0]
    sides = set()
    for plane in out:
        rows, columns = torch.nonzero(plane == 0, as_tuple=True)
        assert 0 < len(rows) <= 64
        tall, wide = int(rows.max() - rows.min()) + 1, int(columns.max() - columns.min()) + 1
        assert tall * wide == len(rows)
        sides |= {tall, wide}
    assert max(sides) == 8


def test_gradients_pass_every_change(pictures):
    pictures.requires_grad_(True)
    changed(pictures, AUGMENTATIONS).sum().backward()
    assert (pictures.grad.flatten(1).abs().sum(1) > 0).all()
