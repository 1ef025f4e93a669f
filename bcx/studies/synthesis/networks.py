"""Generators and discriminators, for grey pictures in -1..1.

*dcgan*: dense layer, transposed convolutions, batch normalisation, LeakyReLU, tanh (Radford et al. 2016). At 224
pixels, with a width of 32, grids and channels are those of the published comparison that `configs/r4-dcgan.yaml`
repeats. It gives no kernel size and no slope: 5 x 5 and 0.2 are those of Radford et al.

*upsampling*: enlarge by repetition, then convolve, which leaves no chequerboard (Odena et al. 2016); the discriminator
under spectral normalisation (Miyato et al. 2018).

>>> import torch
>>> generator, discriminator = build_networks(SynthRecipe(size=16, width=8, noise=10), seed=0)
>>> pictures = generator(torch.zeros(2, 10))
>>> tuple(pictures.shape), tuple(discriminator(pictures).shape)
((2, 1, 16, 16), (2,))
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from bcx.studies.synthesis.config import SynthRecipe

_SLOPE = 0.2
_WIDEST = 8  # times `width`: channels at the coarsest grids


class DcganGenerator(nn.Module):
    """Noise float32 `[B, noise]` to pictures float32 `[B, 1, S, S]` in -1..1; S is a multiple of 8."""

    def __init__(self, size: int, noise: int, width: int) -> None:
        super().__init__()
        self._grid, self._deep = size // 8, 8 * width
        self.dense = nn.Linear(noise, self._deep * self._grid**2, bias=False)
        channels = (8 * width, 4 * width, 2 * width, width)
        layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.LeakyReLU(_SLOPE)]
        for before, after, stride in zip(channels, channels[1:], (1, 2, 2), strict=False):
            layers += [_enlarging(before, after, stride), nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, _enlarging(width, 1, 2), nn.Tanh())

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Make one picture per row of noise."""
        return self.layers(self.dense(noise).view(-1, self._deep, self._grid, self._grid))


class DcganDiscriminator(nn.Module):
    """Pictures float32 `[B, 1, S, S]` to logits float32 `[B]`, positive for real; the sigmoid is part of the loss."""

    def __init__(self, size: int, width: int, normed: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = [_held(nn.Conv2d(1, width, 5, 2, 2), normed), nn.LeakyReLU(_SLOPE)]
        for before in (width, 2 * width):
            layers += [_held(nn.Conv2d(before, 2 * before, 5, 2, 2), normed)]
            layers += [nn.BatchNorm2d(2 * before), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), _held(nn.Linear(4 * width * (size // 8) ** 2, 1), normed))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Judge each picture."""
        return self.layers(pictures)[:, 0]


class UpsamplingGenerator(nn.Module):
    """As `DcganGenerator`; S is a power of 2, and every block doubles the grid from 4 x 4 on."""

    def __init__(self, size: int, noise: int, width: int) -> None:
        super().__init__()
        channels = _channels(size, width)[::-1]
        self._deep = channels[0]
        self.dense = nn.Linear(noise, 16 * self._deep)
        layers: list[nn.Module] = [nn.BatchNorm2d(self._deep), nn.LeakyReLU(_SLOPE)]
        for before, after in pairwise(channels):
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1, bias=False)]
            layers += [nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 1, 3, 1, 1), nn.Tanh())

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        """Make one picture per row of noise."""
        return self.layers(self.dense(noise).view(-1, self._deep, 4, 4))


class DownsamplingDiscriminator(nn.Module):
    """As `DcganDiscriminator`, down to 4 x 4, without batch normalisation."""

    def __init__(self, size: int, width: int, normed: bool) -> None:
        super().__init__()
        channels = _channels(size, width)
        layers: list[nn.Module] = [_held(nn.Conv2d(1, channels[0], 3, 1, 1), normed), nn.LeakyReLU(_SLOPE)]
        for before, after in pairwise(channels):
            layers += [_held(nn.Conv2d(before, after, 4, 2, 1), normed), nn.LeakyReLU(_SLOPE)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), _held(nn.Linear(16 * channels[-1], 1), normed))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Judge each picture."""
        return self.layers(pictures)[:, 0]


def build_generator(recipe: SynthRecipe) -> nn.Module:
    """Return the recipe's generator with weights drawn from torch's global generator."""
    kind = DcganGenerator if recipe.networks == "dcgan" else UpsamplingGenerator
    network = kind(recipe.size, recipe.noise, recipe.width)
    network.apply(_draw)
    return network.to(memory_format=torch.channels_last)


def build_networks(recipe: SynthRecipe, seed: int) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator; the same seed gives the same weights, torch's own state is left as it was."""
    kind = DcganDiscriminator if recipe.networks == "dcgan" else DownsamplingDiscriminator
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator, discriminator = build_generator(recipe), kind(recipe.size, recipe.width, recipe.spectral_norm)
    return generator, discriminator.to(memory_format=torch.channels_last)


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
