"""From a scan's pixels to what the network sees, and back: one class for training, evaluation and answers alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bcx.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Rec. 601 luma, the weights that Pillow and OpenCV use for "L".
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def to_grey(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 `[H, W]` from uint8 `[H, W]` or `[H, W, 3]` (Rec. 601 luma)."""
    if pixels.ndim == 2:
        return pixels
    return np.rint(pixels.astype(np.float32) @ _LUMA).astype(np.uint8)


def resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Resize uint8 or float32 `[H, W]` or `[H, W, C]`: area averaging where it shrinks, bilinear where it grows."""
    shrinks = width * height < pixels.shape[0] * pixels.shape[1]
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def with_side(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize as `resize`, the longer side to `side` pixels, the shorter in proportion (1 at least)."""
    scale = side / max(pixels.shape[:2])
    return resize(pixels, max(1, round(scale * pixels.shape[1])), max(1, round(scale * pixels.shape[0])))


@dataclass(frozen=True)
class Preprocess:
    """How a scan becomes the network's input: the whole of it is squashed to a square, nothing is cut off.

    Attributes:
        size: side of the network's input, in pixels.
        mean, std: per channel, in units of the 0..1 range; what the starting weights were trained with.
        grey: turn colour to luma first, for all three channels (ultrasound); False keeps colour (histology).
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    grey: bool = True

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048 or min(self.std) <= 0:
            raise ConfigError(
                f"Preprocess has size {self.size} and std {self.std}.",
                expected="a size of 16 to 2048 pixels and positive std values",
                remedy="Correct the 'preprocess' block of the checkpoint or recipe.",
            )

    def plane(self, pixels: np.ndarray, size: int | None = None) -> np.ndarray:
        """Return the squashed scan, uint8 `[H, W]` or `[H, W, 3]`, as uint8 `[S, S]` (grey) or `[S, S, 3]`.

        `size` is another side than the network's, for augmentation that zooms afterwards.
        """
        side = size or self.size
        if self.grey:
            pixels = to_grey(pixels)
        elif pixels.ndim == 2:
            pixels = np.repeat(pixels[:, :, None], 3, axis=2)
        return resize(pixels, side, side)

    def normalise(self, planes: torch.Tensor) -> torch.Tensor:
        """Turn uint8 `[B, S, S]` or `[B, S, S, 3]` into float32 `[B, 3, S, S]`, channels last, as CPUs prefer."""
        import torch

        stack = planes if planes.ndim == 4 else planes[..., None]
        scale = torch.tensor([1 / (255 * s) for s in self.std], device=planes.device)
        shift = torch.tensor([-m / s for m, s in zip(self.mean, self.std, strict=True)], device=planes.device)
        # Broadcasting grey to three channels and normalising is one pass over memory.
        return (stack.to(torch.float32) * scale + shift).permute(0, 3, 1, 2)

    def tensor(self, pixels: np.ndarray) -> torch.Tensor:
        """Return one scan as float32 `[3, S, S]`, normalised."""
        import torch

        return self.normalise(torch.from_numpy(self.plane(pixels)[None]))[0]

    def to_network(self, xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Map points, float `[N, 2]`, x then y, from a scan of (height, width) `shape` to the network's input."""
        return np.asarray(xy, float) * (self.size / np.array(shape[::-1]))

    def to_scan(self, xy: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Map points from the network's input back to the scan (the inverse of `to_network`)."""
        return np.asarray(xy, float) * (np.array(shape[::-1]) / self.size)

    def enlarge(self, grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Enlarge maps, float32 `[C, h, w]`, from any grid that spans the input to the scan's (height, width).

        Bilinear: values keep their units and never leave the grid's range.
        """
        planes = [cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR) for plane in grid]
        return np.stack(planes).astype(np.float32, copy=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON block that a checkpoint stores."""
        return {"size": self.size, "mean": list(self.mean), "std": list(self.std), "grey": self.grey, "fit": "squash"}
