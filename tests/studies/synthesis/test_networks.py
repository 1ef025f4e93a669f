"""The networks have the published grids, and a spectral norm of 1 where it is asked for."""

import numpy as np
import pytest
import torch
from torch import nn

from bcx.studies.synthesis.generator import build_networks
from bcx.studies.synthesis.recipes import SynthRecipe

DCGAN = {"networks": "dcgan", "noise": 100, "width": 32, "spectral_norm": False, "loss": "bce", "augment": (), "ema": 0}


def sizes(network, kinds, batch):
    """Channels and side of what each layer of these kinds returns."""
    seen = []
    hooks = [
        layer.register_forward_hook(lambda _layer, _given, out: seen.append(tuple(out.shape[1:3])))
        for layer in network.modules()
        if isinstance(layer, kinds)
    ]
    with torch.no_grad():
        out = network.eval()(batch)
    for hook in hooks:
        hook.remove()
    return seen, out


def test_the_published_dcgan_has_its_grids_and_channels():
    generator, discriminator = build_networks(SynthRecipe(size=224, **DCGAN))
    assert generator.dense.weight.shape == (28 * 28 * 256, 100)
    seen, pictures = sizes(generator, nn.ConvTranspose2d, torch.randn(1, 100))
    assert seen == [(128, 28), (64, 56), (32, 112), (1, 224)]
    seen, verdict = sizes(discriminator, nn.Conv2d, pictures)
    assert seen == [(32, 112), (64, 56), (128, 28)]
    assert verdict.shape == (1,)
    assert float(pictures.abs().max()) <= 1


@pytest.mark.parametrize("size", [16, 32, 64])
def test_the_upsampling_pair_goes_from_4_pixels_up_and_back_down(size):
    generator, discriminator = build_networks(SynthRecipe(size=size, width=4, noise=8))
    seen, pictures = sizes(generator, nn.Upsample, torch.randn(3, 8))
    assert [side for _, side in seen] == [2**power for power in range(3, size.bit_length())]
    assert pictures.shape == (3, 1, size, size)
    assert discriminator(pictures).shape == (3,)


@pytest.mark.parametrize("networks", ["dcgan", "upsampling"])
def test_every_layer_of_the_discriminator_has_a_spectral_norm_of_1(networks):
    recipe = SynthRecipe(networks=networks, size=32, width=4, noise=8)
    _, discriminator = build_networks(recipe)
    for _ in range(60):  # one step of power iteration each
        discriminator(torch.randn(4, 1, 32, 32))
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) >= 4
    for layer in layers:
        largest = np.linalg.svd(layer.weight.detach().flatten(1).numpy(), compute_uv=False)[0]
        assert largest == pytest.approx(1, abs=0.03)


def test_a_seed_fixes_the_weights_and_leaves_torchs_own_draws_alone():
    recipe = SynthRecipe(size=16, width=4, noise=8)
    torch.manual_seed(5)
    before = torch.rand(1)
    torch.manual_seed(5)
    first, second, other = (
        build_networks(recipe.model_copy(update={"seed": seed}))[0].dense.weight for seed in (1, 1, 2)
    )
    assert torch.equal(torch.rand(1), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
