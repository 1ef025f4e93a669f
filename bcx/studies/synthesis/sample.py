"""A trained generator: one file of weights that knows what it makes, and images out of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import BaseModel, ConfigDict, JsonValue, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from bcx import __version__
from bcx.errors import BcxError, CheckpointError
from bcx.files import whole
from bcx.studies.synthesis.networks import build_generator
from bcx.studies.synthesis.recipes import SynthRecipe

FORMAT = "bcx generator 1"
#: Key of the PNG text that says so, and its value.
MARK = ("Generated", "Made by a network. No scan of a patient; not for diagnosis.")
_AT_ONCE = 32


@dataclass(frozen=True)
class Generator:
    """A network in evaluation mode, float32, on the CPU, and what made it.

    `about` has `fold` (which it never saw, or None: it saw all), `n_train`, `epochs`, `fingerprint`.
    """

    network: nn.Module
    recipe: SynthRecipe
    label: str
    about: dict[str, Any]

    @torch.inference_mode()
    def sample(self, count: int, seed: int) -> np.ndarray:
        """Return images, uint8 `[count, S, S]`; image i of a seed is the same, but for rounding, at any count."""
        drawn = np.random.default_rng(seed).standard_normal((count, self.recipe.noise), dtype=np.float32)
        return np.concatenate([to_planes(self.network(part)) for part in torch.from_numpy(drawn).split(_AT_ONCE)])


def to_planes(images: torch.Tensor) -> np.ndarray:
    """Turn float32 `[B, 1, S, S]` in -1..1 into uint8 `[B, S, S]`."""
    return ((images[:, 0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu().numpy()


def to_images(planes: np.ndarray) -> torch.Tensor:
    """Turn uint8 `[B, S, S]` into float32 `[B, 1, S, S]` in -1..1."""
    return torch.from_numpy(planes).to(torch.float32)[:, None] / 127.5 - 1


def save_generator(file: Path, generator: Generator) -> None:
    """Write weights (safetensors) and, in the file's header, recipe, class and origin; at once or not at all."""
    header = {
        "format": FORMAT,
        "label": generator.label,
        "recipe": generator.recipe.model_dump(mode="json"),
        "about": generator.about,
    }
    tensors = {name: value.contiguous() for name, value in generator.network.state_dict().items()}
    with whole(file) as partial:  # not by `save_file`, whose files nobody but the owner may read
        partial.write_bytes(save(tensors, metadata={"bcx": json.dumps(header)}))


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal["bcx generator 1"]
    label: str
    recipe: SynthRecipe
    about: dict[str, JsonValue]

    @model_validator(mode="after")
    def _label_is_a_class(self) -> _Header:  # it names files
        if self.label not in self.recipe.labels():
            raise ValueError(f"the label is none of {', '.join(self.recipe.labels())}")
        return self


def load_generator(file: Path) -> Generator:
    """Read what `save_generator` wrote; a `CheckpointError` where that fails."""
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


def write_samples(planes: np.ndarray, generator: Generator, folder: Path, seed: int) -> list[Path]:
    """Write images, uint8 `[N, S, S]`, as `<label>-<seed>-<number>.png`, each marked as generated.

    Raises:
        BcxError: the folder cannot be written to.
    """
    files = [folder / f"{generator.label}-{seed}-{number:05d}.png" for number in range(len(planes))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, plane in zip(files, planes, strict=True):
            write_png(plane, file, f"generated '{generator.label}' by {generator.recipe.name}, seed {seed}")
    except OSError as error:
        raise BcxError(
            f"'{folder}' cannot be written to ({error.strerror or error}).",
            expected="a folder that this account may write to",
            remedy="Choose another folder with --out.",
        ) from error
    return files
