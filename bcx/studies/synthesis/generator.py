"""Generators: their networks and discriminators for grey images in -1..1, their file, and images out of them.

*dcgan*: dense layer, transposed convolutions, batch normalisation, LeakyReLU, tanh (Radford et al. 2016). At 224
pixels, with a width of 32, grids and channels are those of the published comparison that `configs/r4-dcgan.yaml`
repeats. It gives no kernel size and no slope: 5 x 5 and 0.2 are those of Radford et al.

*upsampling*: enlarge by repetition, then convolve, which leaves no chequerboard (Odena et al. 2016); the discriminator
under spectral normalisation (Miyato et al. 2018).
"""

import json
from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from bcx import __version__
from bcx.errors import CheckpointError, writing
from bcx.files import whole
from bcx.studies.synthesis.recipes import SynthRecipe

#: Key of the PNG text that says so, and its value.
MARK = ("Generated", "Made by a network. No scan of a patient; not for diagnosis.")
_AT_ONCE = 32
_SLOPE = 0.2
_WIDEST = 8  # times `width`: channels at the coarsest grids


@dataclass(frozen=True)
class Generator:
    """A network in evaluation mode, float32, on the CPU, and what made it.

    `about` has `fold` (which it never saw, or None: it saw all), `n_train`, `epochs`, `fingerprint`.
    """

    network: nn.Module
    recipe: SynthRecipe
    label: str
    about: dict[str, Any]  # `fold` (which it never saw, or None: it saw all), `n_train`, `epochs`, `fingerprint`

    @torch.inference_mode()
    def sample(self, count: int, seed: int) -> np.ndarray:
        """Return images, uint8 `[count, S, S]`; image i of a seed is the same, but for rounding, at any count."""
        drawn = np.random.default_rng(seed).standard_normal((count, self.recipe.noise), dtype=np.float32)
        return np.concatenate([to_planes(self.network(part)) for part in torch.from_numpy(drawn).split(_AT_ONCE)])

    def write_samples(self, folder: Path, count: int, seed: int) -> list[Path]:
        """Write images as `<label>-<seed>-<number>.png`, each marked as generated; a `BcxError` where that fails."""
        files = [folder / f"{self.label}-{seed}-{number:05d}.png" for number in range(count)]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for file, plane in zip(files, self.sample(count, seed), strict=True):
                write_png(plane, file, f"generated '{self.label}' by {self.recipe.name}, seed {seed}")
        return files

    def save(self, file: Path) -> None:
        """Write weights (safetensors) and, in the file's header, recipe, class and origin; at once or not at all."""
        header = {"format": "bcx generator 1", "label": self.label, "recipe": self.recipe.model_dump(mode="json")}
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        with whole(file) as partial:  # not by `save_file`, whose files nobody but the owner may read
            partial.write_bytes(save(tensors, metadata={"bcx": json.dumps(header | {"about": self.about})}))


def to_planes(images: torch.Tensor) -> np.ndarray:
    """Turn float32 `[B, 1, S, S]` in -1..1 into uint8 `[B, S, S]`."""
    return ((images[:, 0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_images(planes: np.ndarray) -> torch.Tensor:
    """Turn uint8 `[B, S, S]` into float32 `[B, 1, S, S]` in -1..1."""
    return torch.from_numpy(planes).to(torch.float32)[:, None] / 127.5 - 1


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal["bcx generator 1"]
    label: str
    recipe: SynthRecipe
    about: dict[str, JsonValue]

    @model_validator(mode="after")
    def _label_is_a_class(self) -> Self:  # it names files
        if self.label not in self.recipe.labels():
            raise ValueError(f"the label is none of {', '.join(self.recipe.labels())}")
        return self


def load_generator(file: Path) -> Generator:
    """Read what `Generator.save` wrote; a `CheckpointError` where that fails."""
    try:
        with safe_open(file, framework="pt") as stream:
            header = _Header.model_validate_json(stream.metadata()["bcx"])
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - safe_open is no dict
        if odd := [name for name, value in tensors.items() if not torch.isfinite(value).all()]:
            raise ValueError(f"'{odd[0]}' holds numbers that are not finite")
        network = build_generator(header.recipe)
        network.load_state_dict(tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"'{file.name}' cannot be read as a generator ({error}).",
            expected="a generator.safetensors that `bcx synth train` wrote",
            remedy="Check the path, or train the generator again.",
        ) from error
    return Generator(network.eval().requires_grad_(False), header.recipe, header.label, header.about)


def write_png(plane: np.ndarray, file: Path, title: str) -> None:
    """Write uint8 `[H, W]` as a PNG that says that it was generated, at once or not at all."""
    info = PngInfo()
    for text in (MARK, ("Title", title), ("Software", f"bcx {__version__}")):
        info.add_text(*text)
    with whole(file) as partial:
        Image.fromarray(plane).save(partial, format="PNG", pnginfo=info)


def build_generator(recipe: SynthRecipe) -> nn.Module:
    """Return a network from noise float32 `[B, noise]` to images float32 `[B, 1, S, S]` in -1..1.

    The weights are drawn from torch's global generator. *upsampling* doubles the grid from 4 x 4 on.
    """
    dcgan, width = recipe.networks == "dcgan", recipe.width
    channels = [8 * width, 4 * width, 2 * width, width] if dcgan else _channels(recipe)[::-1]
    grid = recipe.size // 8 if dcgan else 4
    dense = nn.Linear(recipe.noise, channels[0] * grid**2, bias=not dcgan)
    layers: list[nn.Module] = [nn.BatchNorm2d(channels[0]), nn.LeakyReLU(_SLOPE)]
    for step, (before, after) in enumerate(pairwise(channels)):
        if dcgan:
            layers += [_enlarging(before, after, stride=2 if step else 1)]
        else:
            layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1, bias=False)]
        layers += [nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)]
    layers += [_enlarging(width, 1, stride=2) if dcgan else nn.Conv2d(channels[-1], 1, 3, 1, 1), nn.Tanh()]
    unfolded = nn.Unflatten(1, (-1, grid, grid))
    network = nn.Sequential(OrderedDict(dense=dense, grid=unfolded, layers=nn.Sequential(*layers)))
    network.apply(_draw)
    return network.to(memory_format=torch.channels_last)


def build_networks(recipe: SynthRecipe) -> tuple[nn.Module, nn.Module]:
    """Return generator and discriminator, drawn by the recipe's seed; torch's own state is left as it was.

    The discriminator takes images to logits float32 `[B]`, positive for real; the sigmoid is part of the loss.
    """
    dcgan, width = recipe.networks == "dcgan", recipe.width
    channels = [width, 2 * width, 4 * width] if dcgan else _channels(recipe)
    first, further = ((5, 2, 2), (5, 2, 2)) if dcgan else ((3, 1, 1), (4, 2, 1))
    layers: list[nn.Module] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        generator = build_generator(recipe)
        for step, (before, after) in enumerate(pairwise([1, *channels])):
            layers.append(_held(nn.Conv2d(before, after, *(further if step else first)), recipe))
            layers += [nn.BatchNorm2d(after)] if dcgan and step else []
            layers.append(nn.LeakyReLU(_SLOPE))
        features = channels[-1] * (recipe.size // 8 if dcgan else 4) ** 2
        layers += [nn.Flatten(), _held(nn.Linear(features, 1), recipe), nn.Flatten(0)]
    return generator, nn.Sequential(*layers).to(memory_format=torch.channels_last)


def _channels(recipe: SynthRecipe) -> list[int]:
    """Channels from the finest grid (S) to the coarsest (4)."""
    return [recipe.width * min(2**step, _WIDEST) for step in range(recipe.size.bit_length() - 2)]


def _enlarging(before: int, after: int, stride: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 5, stride, 2, output_padding=stride - 1)


def _held(module: nn.Module, recipe: SynthRecipe) -> nn.Module:
    """Draw a discriminator's layer; the spectral norm starts from the weights that are there, so it comes after."""
    _draw(module)
    return spectral_norm(module) if recipe.spectral_norm else module


def _draw(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02), as DCGAN does."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
        nn.init.normal_(module.weight, 0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
