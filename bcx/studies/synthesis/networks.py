"""Generators and discriminators, for grey images in -1..1.

*dcgan*: dense layer, transposed convolutions, batch normalisation, LeakyReLU, tanh (Radford et al. 2016). At 224
pixels, with a width of 32, grids and channels are those of the published comparison that `configs/r4-dcgan.yaml`
repeats. It gives no kernel size and no slope: 5 x 5 and 0.2 are those of Radford et al.

*upsampling*: enlarge by repetition, then convolve, which leaves no chequerboard (Odena et al. 2016); the discriminator
under spectral normalisation (Miyato et al. 2018).
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from bcx.studies.synthesis.recipes import SynthRecipe

_SLOPE = 0.2
_WIDEST = 8  # times `width`: channels at the coarsest grids


def build_generator(recipe: SynthRecipe) -> nn.Module:
    """Return a network from noise float32 `[B, noise]` to images float32 `[B, 1, S, S]` in -1..1.

    The weights are drawn from torch's global generator.
    """
    kind = _dcgan_generator if recipe.networks == "dcgan" else _upsampling_generator
    network = kind(recipe.size, recipe.noise, recipe.width)
    network.apply(_draw)
    return network.to(memory_format=torch.channels_last)


def build_networks(recipe: SynthRecipe) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator, drawn by the recipe's seed; torch's own state is left as it was.

    The discriminator takes images to logits float32 `[B]`, positive for real; the sigmoid is part of the loss.
    """
    kind = _dcgan_discriminator if recipe.networks == "dcgan" else _downsampling_discriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator, discriminator = build_generator(recipe), kind(recipe.size, recipe.width, recipe.spectral_norm)
    return generator, discriminator.to(memory_format=torch.channels_last)


def _dcgan_generator(size: int, noise: int, width: int) -> nn.Module:
    """Four transposed convolutions; `size` is a multiple of 8."""
    channels = (8 * width, 4 * width, 2 * width, width)
    dense = nn.Linear(noise, channels[0] * (size // 8) ** 2, bias=False)
    layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.LeakyReLU(_SLOPE)]
    for before, after, stride in zip(channels, channels[1:], (1, 2, 2), strict=False):
        layers += [_enlarging(before, after, stride), nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
    return _from_noise(dense, size // 8, [*layers, _enlarging(width, 1, 2), nn.Tanh()])


def _dcgan_discriminator(size: int, width: int, normed: bool) -> nn.Module:
    """Three convolutions with batch normalisation, and a dense layer."""
    layers: list[nn.Module] = [_held(nn.Conv2d(1, width, 5, 2, 2), normed), nn.LeakyReLU(_SLOPE)]
    for before in (width, 2 * width):
        layers += [_held(nn.Conv2d(before, 2 * before, 5, 2, 2), normed)]
        layers += [nn.BatchNorm2d(2 * before), nn.LeakyReLU(_SLOPE)]
    return _to_logits(layers, 4 * width * (size // 8) ** 2, normed)


def _upsampling_generator(size: int, noise: int, width: int) -> nn.Module:
    """Every block doubles the grid from 4 x 4 on; `size` is a power of 2."""
    channels = _channels(size, width)[::-1]
    dense = nn.Linear(noise, 16 * channels[0])
    layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.LeakyReLU(_SLOPE)]
    for before, after in pairwise(channels):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
    return _from_noise(dense, 4, [*layers, nn.Conv2d(channels[-1], 1, 3, 1, 1), nn.Tanh()])


def _downsampling_discriminator(size: int, width: int, normed: bool) -> nn.Module:
    """Every block halves the grid down to 4 x 4, without batch normalisation."""
    channels = _channels(size, width)
    layers: list[nn.Module] = [_held(nn.Conv2d(1, channels[0], 3, 1, 1), normed), nn.LeakyReLU(_SLOPE)]
    for before, after in pairwise(channels):
        layers += [_held(nn.Conv2d(before, after, 4, 2, 1), normed), nn.LeakyReLU(_SLOPE)]
    return _to_logits(layers, 16 * channels[-1], normed)


def _from_noise(dense: nn.Linear, grid: int, layers: list[nn.Module]) -> nn.Module:
    unfolded = nn.Unflatten(1, (-1, grid, grid))
    return nn.Sequential(OrderedDict(dense=dense, grid=unfolded, layers=nn.Sequential(*layers)))


def _to_logits(layers: list[nn.Module], features: int, normed: bool) -> nn.Module:
    return nn.Sequential(*layers, nn.Flatten(), _held(nn.Linear(features, 1), normed), nn.Flatten(0))


def _channels(size: int, width: int) -> list[int]:
    """Channels from the finest grid (S) to the coarsest (4)."""
    return [width * min(2**step, _WIDEST) for step in range(size.bit_length() - 2)]


def _enlarging(before: int, after: int, stride: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 5, stride, 2, output_padding=stride - 1)


def _held(module: nn.Module, normed: bool) -> nn.Module:
    """Draw a discriminator's layer; the spectral norm starts from the weights that are there, so it comes after."""
    _draw(module)
    return spectral_norm(module) if normed else module


def _draw(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02), as DCGAN does."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
