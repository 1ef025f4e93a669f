"""Changes of pixels that albumentations lacks: stains of tissue; grey map, gain and grain of ultrasound scanners.

>>> import numpy as np
>>> jitter = StainJitter(strength=0.2, p=1.0)
>>> int(jitter(image=np.full((8, 8, 3), 255, np.uint8))["image"].min())   # glass stays white
255
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
from skimage.color import rgb_from_hed

# Optical densities of haematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston, "Quantification of
# histochemical staining by color deconvolution", Analytical and Quantitative Cytology and Histology 2001.
_UNMIX = np.linalg.inv(rgb_from_hed)
# Optical density of each grey level; 0 counts as 1, since no film is black without end.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


class StainJitter(A.ImageOnlyTransform):
    """Change how strongly each stain took, and how much of it lies on the glass.

    The image is taken apart into haematoxylin, eosin and a rest in optical density; each is multiplied by a random
    factor and shifted, and the image put together again (Tellez et al., "Whole-slide mitosis detection in H&E breast
    histology using PHH3 as a reference to train distilled stain-invariant convolutional networks", IEEE TMI 2018).
    Albumentations' own HEStain takes ten times as long.

    Args:
        strength: factors are drawn from 1 - strength to 1 + strength, shifts from -strength / 5 to strength / 5 of a
            stain's unit; Tellez et al. call 0.05 light and 0.2 strong.
        p: share of the images that are changed.
    """

    def __init__(self, strength: float = 0.05, p: float = 0.5) -> None:
        super().__init__(p=p)
        self.strength = strength

    def get_params(self) -> dict[str, Any]:
        """Draw a factor and a shift for each stain."""
        factors = [self.py_random.uniform(1 - self.strength, 1 + self.strength) for _ in range(3)]
        return {
            "factors": factors,
            "shifts": [self.py_random.uniform(-self.strength / 5, self.strength / 5) for _ in range(3)],
        }

    def apply(self, img: np.ndarray, factors: list[float], shifts: list[float], **_: Any) -> np.ndarray:
        """Return uint8 `[H, W, 3]`; both steps and the way back are one matrix in optical density."""
        matrix = (_UNMIX @ np.diag(factors) @ rgb_from_hed).astype(np.float32)
        shift = (np.array(shifts) @ rgb_from_hed).astype(np.float32)
        density = _DENSITY[img].reshape(-1, 3)
        stained = np.minimum(density.sum(1, keepdims=True), 1)  # the shift stays away from bare glass
        levels = np.rint(255 * np.exp(-(density @ matrix + stained * shift)))
        return np.clip(levels, 0, 255).astype(np.uint8).reshape(img.shape)


_KNOTS = 6  # of a tone curve
_EVENNESS = 1.5  # of its steps: shape of their gamma distribution; larger is nearer to a straight line
_BLACK = 8  # what was black before stays at most this bright
_KNOTS_DOWN, _KNOTS_ACROSS = (2, 4), (2, 5)  # of a gain field, at least and at most
_COARSEST = 2.5  # sigma of the grain, pixels
_LONGEST = 2.5  # how much wider than deep grain may be: scanners resolve less across than along the beam


class ToneCurve(A.ImageOnlyTransform):
    """Put a random rising curve over the grey levels, as grey maps, dynamic range and gain do.

    Black stays nearly black, so that what lies outside the scan does not turn into tissue.
    """

    def get_params(self) -> dict[str, Any]:
        """Draw a curve: uint8 `[256]`, the new level of each grey level."""
        draw = self.random_generator
        steps = np.concatenate([[0.0], np.cumsum(draw.gamma(_EVENNESS, 1.0, _KNOTS - 1))])
        lowest = draw.uniform(0, 0.12) * draw.integers(2)  # haze in every second image
        levels = lowest + draw.uniform(0.75, 1) * steps / steps[-1]
        curve = np.interp(np.arange(256), np.linspace(0, 255, _KNOTS), levels.clip(0, 1) * 255).astype(np.uint8)
        curve[0] = min(curve[0], _BLACK)
        return {"curve": curve}

    def apply(self, img: np.ndarray, curve: np.ndarray, **_: Any) -> np.ndarray:
        """Return uint8, of the same shape."""
        return curve[img]


class GainField(A.ImageOnlyTransform):
    """Multiply by a smooth field: gain that changes with depth, shadows, poor contact at a side.

    `spread` is the standard deviation of the field's logarithm at its knots.
    """

    def __init__(self, spread: float = 0.35, p: float = 0.5) -> None:
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
    """Multiply by grain of a random size, wider than deep: speckle as another frequency or depth shows it.

    `strongest` is the largest standard deviation of the grain's logarithm.
    """

    def __init__(self, strongest: float = 0.4, p: float = 0.5) -> None:
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


def _multiplied(pixels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    each = factors if pixels.ndim == 2 else factors[..., None]
    return (pixels * each).clip(0, 255).astype(np.uint8)
