"""DiffAugment: changes that the discriminator sees on real and generated images alike, and that gradients pass.

With a hundred images a discriminator learns them by heart; shown changed ones only, it cannot, and since generated
images are changed in the same ways, the changes do not leak into what the generator makes. Ranges are those of S. Zhao,
Z. Liu, J. Lin, J.-Y. Zhu and S. Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020;
saturation has no meaning without colour, and the mirror image is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import pad


def augment(images: torch.Tensor, names: Sequence[str], draws: torch.Generator) -> torch.Tensor:
    """Change each image of a batch differently.

    Args:
        images: float32 `[B, 1, S, S]` in -1..1; brightness and contrast may leave the range.
        names: out of `bcx.studies.synthesis.recipes.AUGMENTATIONS`, in the order in which they are done.
        draws: on the CPU; what is drawn does not depend on the device.
    """
    for name in names:
        images = _CHANGES[name](images, draws)
    return images


def _uniform(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """One number in 0..1 per image, `[B, 1, 1, 1]`."""
    return torch.rand(len(images), 1, 1, 1, generator=draws).to(images)


def _flip(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return torch.where(_uniform(images, draws) < 0.5, images.flip(3), images)


def _brightness(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    return images + (_uniform(images, draws) - 0.5)


def _contrast(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * (_uniform(images, draws) + 0.5) + mean


def _translation(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Move by up to an eighth of the side; what comes in is 0, middle grey, as in the authors' code."""
    count, side = len(images), images.shape[3]
    reach = int(side / 8 + 0.5)
    moves = torch.randint(0, 2 * reach + 1, (count, 2), generator=draws).to(images.device)
    padded = pad(images, (reach, reach, reach, reach))
    places = torch.arange(side, device=images.device)
    rows, columns = (moves[:, axis, None] + places for axis in (0, 1))
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, 0, rows[:, :, None], columns[:, None, :]][:, None]


def _cutout(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Grey out a square of half the side, anywhere, also partly outside."""
    side = images.shape[3]
    half = int(side / 2 + 0.5) // 2
    centre = torch.randint(0, side + 1, (len(images), 2), generator=draws).to(images.device)
    places = torch.arange(side, device=images.device)
    inside = [(places >= centre[:, axis, None] - half) & (places < centre[:, axis, None] + half) for axis in (0, 1)]
    return images * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


_CHANGES: dict[str, Callable[[torch.Tensor, torch.Generator], torch.Tensor]] = {
    "flip": _flip,
    "brightness": _brightness,
    "contrast": _contrast,
    "translation": _translation,
    "cutout": _cutout,
}
