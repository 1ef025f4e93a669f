"""DiffAugment: changes that the discriminator sees on real and generated pictures alike, and that gradients pass.

With a hundred pictures a discriminator learns them by heart; shown changed ones only, it cannot, and since generated
pictures are changed in the same ways, the changes do not leak into what the generator makes.

S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu and S. Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS
2020. Ranges are theirs; saturation has no meaning without colour, and the mirror image is added.

>>> import torch
>>> draws = torch.Generator().manual_seed(0)
>>> tuple(augment(torch.zeros(2, 1, 16, 16), ("flip", "translation", "cutout"), draws).shape)
(2, 1, 16, 16)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad


def augment(pictures: torch.Tensor, names: Sequence[str], draws: torch.Generator) -> torch.Tensor:
    """Change each picture of a batch differently.

    Args:
        pictures: float32 `[B, 1, S, S]` in -1..1.
        names: out of `bcx.studies.synthesis.config.AUGMENTATIONS`, in the order in which they are done.
        draws: on the CPU; what is drawn does not depend on the device.

    Returns:
        As `pictures`; brightness and contrast may leave the range.
    """
    for name in names:
        pictures = _CHANGES[name](pictures, draws)
    return pictures


def _uniform(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """One number in 0..1 per picture, `[B, 1, 1, 1]`."""
    return torch.rand(len(pictures), 1, 1, 1, generator=draws).to(pictures)


def _flip(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return torch.where(_uniform(pictures, draws) < 0.5, pictures.flip(3), pictures)


def _brightness(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return pictures + (_uniform(pictures, draws) - 0.5)


def _contrast(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    mean = pictures.mean((1, 2, 3), keepdim=True)
    return (pictures - mean) * (_uniform(pictures, draws) + 0.5) + mean


def _translation(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Move by up to an eighth of the side; what comes in is 0, middle grey, as in the authors' code."""
    count, side = len(pictures), pictures.shape[3]
    reach = int(side / 8 + 0.5)
    moves = torch.randint(0, 2 * reach + 1, (count, 2), generator=draws).to(pictures.device)
    padded = pad(pictures, (reach, reach, reach, reach))
    places = torch.arange(side, device=pictures.device)
    rows, columns = (moves[:, axis, None] + places for axis in (0, 1))
    which = torch.arange(count, device=pictures.device)[:, None, None]
    return padded[which, 0, rows[:, :, None], columns[:, None, :]][:, None]


def _cutout(pictures: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Grey out a square of half the side, anywhere, also partly outside."""
    side = pictures.shape[3]
    half = int(side / 2 + 0.5) // 2
    centre = torch.randint(0, side + 1, (len(pictures), 2), generator=draws).to(pictures.device)
    places = torch.arange(side, device=pictures.device)
    inside = [(places >= centre[:, axis, None] - half) & (places < centre[:, axis, None] + half) for axis in (0, 1)]
    return pictures * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


_CHANGES: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "flip": _flip,
    "brightness": _brightness,
    "contrast": _contrast,
    "translation": _translation,
    "cutout": _cutout,
}
