"""What differs between machines, their settings and what a department saves: grey map, gain, sharpness, grain.

Each is drawn far beyond what one hospital shows, and several are stacked, so that the network cannot live on how one
machine's pictures look (Zhang et al., "Generalizing deep learning for medical image segmentation to unseen domains via
deep stacked transformation", IEEE TMI 2020).

>>> import numpy as np
>>> curve = ToneCurve(p=1.0)
>>> curve.set_random_seed(0)
>>> ramp = curve(image=np.arange(256, dtype=np.uint8)[None])["image"][0].astype(int)
>>> bool((np.diff(ramp[1:]) >= 0).all())         # brighter stays brighter
True
"""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2
import numpy as np

#: How pictures are made coarser and large again.
DOWN_UP = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}

_KNOTS = 6  # of a tone curve
_EVENNESS = 1.5  # of its steps: shape of their gamma distribution; larger is nearer to a straight line
_BLACK = 8  # what was black before stays at most this bright
_KNOTS_DOWN, _KNOTS_ACROSS = (2, 4), (2, 5)  # of a gain field, at least and at most
_COARSEST = 2.5  # sigma of the grain, pixels
_LONGEST = 2.5  # how much wider than deep grain may be: machines resolve less across than along the beam


class ToneCurve(A.ImageOnlyTransform):
    """Put a random rising curve over the grey levels, as grey maps, dynamic range and gain do.

    Black stays nearly black, so that what lies outside the scan does not turn into tissue.
    """

    def get_params(self) -> dict[str, Any]:
        """Draw a curve: uint8 `[256]`, the new level of each grey level."""
        draw = self.random_generator
        steps = np.concatenate([[0.0], np.cumsum(draw.gamma(_EVENNESS, 1.0, _KNOTS - 1))])
        lowest = draw.uniform(0, 0.12) * draw.integers(2)  # haze in every second picture
        levels = lowest + draw.uniform(0.75, 1) * steps / steps[-1]
        curve = np.interp(np.arange(256), np.linspace(0, 255, _KNOTS), levels.clip(0, 1) * 255).astype(np.uint8)
        curve[0] = min(curve[0], _BLACK)
        return {"curve": curve}

    def apply(self, img: np.ndarray, curve: np.ndarray, **_: Any) -> np.ndarray:
        """Return uint8, of the same shape."""
        return curve[img]


class GainField(A.ImageOnlyTransform):
    """Multiply by a smooth field: gain that changes with depth, shadows, poor contact at a side."""

    def __init__(self, spread: float = 0.35, p: float = 0.5) -> None:
        """Set how much gain varies.

        Args:
            spread: standard deviation of the field's logarithm at its knots.
            p: share of the pictures that are changed.
        """
        super().__init__(p=p)
        self.spread = spread

    def get_params(self) -> dict[str, Any]:
        """Draw the logarithm of the gain at 2 to 4 knots down and 2 to 5 across."""
        down, across = (self.random_generator.integers(*n, endpoint=True) for n in (_KNOTS_DOWN, _KNOTS_ACROSS))
        return {"knots": self.random_generator.normal(0, self.spread, (down, across)).astype(np.float32)}

    def apply(self, img: np.ndarray, knots: np.ndarray, **_: Any) -> np.ndarray:
        """Return uint8, of the same shape."""
        height, width = img.shape[:2]
        return _multiplied(img, np.exp(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)))


class Grain(A.ImageOnlyTransform):
    """Multiply by grain of a random size, wider than deep: speckle as another frequency or depth shows it."""

    def __init__(self, strongest: float = 0.4, p: float = 0.5) -> None:
        """Set how strong grain gets.

        Args:
            strongest: largest standard deviation of the grain's logarithm.
            p: share of the pictures that are changed.
        """
        super().__init__(p=p)
        self.strongest = strongest

    def get_params(self) -> dict[str, Any]:
        """Draw size, width and strength of the grain, and the seed of its noise."""
        draw = self.random_generator
        size = draw.uniform(0.6, _COARSEST)
        strength = draw.uniform(self.strongest / 8, self.strongest)
        return {
            "sigmas": (size * draw.uniform(1, _LONGEST), size),
            "strength": strength,
            "seed": int(draw.integers(1 << 31)),
        }

    def apply(self, img: np.ndarray, sigmas: tuple[float, float], strength: float, seed: int, **_: Any) -> np.ndarray:
        """Return uint8, of the same shape."""
        white = np.random.default_rng(seed).standard_normal(img.shape[:2], np.float32)
        noise = cv2.GaussianBlur(white, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1])
        return _multiplied(img, np.exp(strength * noise / (noise.std() + 1e-6)))


def machines(strength: float) -> list[A.BasicTransform]:
    """Return what is done to the pixels; `strength` scales ranges and chances, 1 is what the recipes use."""
    s = strength
    return [
        ToneCurve(p=min(1, 0.6 * s)),
        GainField(spread=0.35 * s, p=min(1, 0.5 * s)),
        A.RandomGamma(gamma_limit=(100 * np.exp(-0.5 * s), 100 * np.exp(0.5 * s)), p=min(1, 0.6 * s)),
        A.RandomBrightnessContrast(brightness_limit=0.15 * s, contrast_limit=0.35 * s, p=min(1, 0.6 * s)),
        A.OneOf(
            [
                A.GaussianBlur(sigma_limit=(0.4, 2.2), blur_limit=0),
                A.Downscale(scale_range=(0.3, 0.8), interpolation_pair=DOWN_UP),
                A.Sharpen(alpha=(0.2, 0.8)),
                A.MedianBlur(blur_limit=5),
                A.MotionBlur(blur_limit=5),
            ],
            p=min(1, 0.6 * s),
        ),
        Grain(strongest=0.4 * s, p=min(1, 0.5 * s)),
        A.MultiplicativeNoise(multiplier=(1 - 0.2 * s, 1 + 0.2 * s), elementwise=True, p=min(1, 0.3 * s)),
        A.CLAHE(clip_limit=(1, 6), p=min(1, 0.3 * s)),
        A.ImageCompression(quality_range=(15, 70), p=min(1, 0.2 * s)),
    ]


def _multiplied(pixels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    each = factors if pixels.ndim == 2 else factors[..., None]
    return (pixels * each).clip(0, 255).astype(np.uint8)
