"""Augmentation by task: geometry that keeps the lesion in the image, then what differs between scanners.

>>> import numpy as np
>>> warp = Augmentation("ultrasound", size=32)
>>> warp(np.zeros((48, 48), np.uint8), None, seed=1).shape
(32, 32)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import numpy as np

from bcx.errors import ConfigError
from bcx.imaging.preprocess import resize
from bcx.train.transforms import GainField, Grain, StainJitter, ToneCurve

#: Images are squashed to this multiple of the network's side before augmentation, so that zooming in finds detail.
OVERSIZE = 1.7
# At least this share of the lesion's area stays in the image, else the geometry is drawn again ...
_KEEP = 0.6
# ... at most this often; then the image is taken as it is.
_DRAWS = 6

Steps = list[A.BasicTransform]

# What a turn or a shift leaves empty: black; the nearest pixel, as in published systems; tissue, mirrored.
_BLACK = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_CONSTANT, "fill": 0}
_NEAREST = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_REPLICATE}
_MIRRORED = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_REFLECT_101}
_DOWN_UP = {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}


def _shift(share: float) -> dict[str, Any]:
    return {"translate_percent": {"x": (-share, share), "y": (-share, share)}}


def _gamma_and_contrast(s: float, gamma: float, light: float, contrast: float, chance: float) -> Steps:
    return [
        A.RandomGamma(gamma_limit=(100 * np.exp(-gamma * s), 100 * np.exp(gamma * s)), p=min(1, chance * s)),
        A.RandomBrightnessContrast(brightness_limit=light * s, contrast_limit=contrast * s, p=min(1, chance * s)),
    ]


def _ultrasound(s: float) -> tuple[Steps, Steps]:
    """The pilots' "strong" recipe."""
    aspect = (1 - 0.11 * s, 1 + 0.13 * s)  # scans are squashed, and scanners differ in width to depth
    geometry: Steps = [
        A.Affine(scale={"x": aspect, "y": aspect}, p=min(1, 0.8 * s), **_BLACK),
        A.Affine(
            scale=(1 / (1 + 0.33 * s), 1 + 0.7 * s),
            keep_ratio=True,
            balanced_scale=True,
            rotate=(-12 * s, 12 * s),
            p=min(1, 0.9 * s),
            **_shift(0.18 * s),
            **_BLACK,
        ),
        _flip(),
    ]
    focus = [
        A.GaussianBlur(sigma_limit=(0.4, 1.6), blur_limit=0),
        A.Downscale(scale_range=(0.4, 0.8), interpolation_pair=_DOWN_UP),
    ]
    intensity: Steps = [
        *_gamma_and_contrast(s, 0.4, 0.12, 0.25, chance=0.8),
        A.OneOf(focus, p=min(1, 0.45 * s)),
        # Multiplicative, pixel by pixel: what speckle does before the display's own compression.
        A.MultiplicativeNoise(multiplier=(1 - 0.15 * s, 1 + 0.15 * s), elementwise=True, p=min(1, 0.3 * s)),
        A.CLAHE(clip_limit=(1, 3), p=min(1, 0.15 * s)),
    ]
    return geometry, intensity


def _ultrasound_machines(s: float) -> tuple[Steps, Steps]:
    """The same geometry, and grey map, gain, sharpness and grain far beyond what one hospital shows.

    Several are stacked, so that the network cannot live on how one scanner's images look (Zhang et al., "Generalizing
    deep learning for medical image segmentation to unseen domains via deep stacked transformation", IEEE TMI 2020).
    """
    focus = [
        A.GaussianBlur(sigma_limit=(0.4, 2.2), blur_limit=0),
        A.Downscale(scale_range=(0.3, 0.8), interpolation_pair=_DOWN_UP),
        A.Sharpen(alpha=(0.2, 0.8)),
        A.MedianBlur(blur_limit=5),
        A.MotionBlur(blur_limit=5),
    ]
    return _ultrasound(s)[0], [
        ToneCurve(p=min(1, 0.6 * s)),
        GainField(spread=0.35 * s, p=min(1, 0.5 * s)),
        *_gamma_and_contrast(s, 0.5, 0.15, 0.35, chance=0.6),
        A.OneOf(focus, p=min(1, 0.6 * s)),
        Grain(strongest=0.4 * s, p=min(1, 0.5 * s)),
        A.MultiplicativeNoise(multiplier=(1 - 0.2 * s, 1 + 0.2 * s), elementwise=True, p=min(1, 0.3 * s)),
        A.CLAHE(clip_limit=(1, 6), p=min(1, 0.3 * s)),
        A.ImageCompression(quality_range=(15, 70), p=min(1, 0.2 * s)),
    ]


def _turn_shift_shear(s: float) -> tuple[Steps, Steps]:
    """Rotation up to 20 degrees, shifts, shear, horizontal flip; how far to shift and shear is our choice."""
    shear = {"x": (-10 * s, 10 * s), "y": (0, 0)}
    return [A.Affine(rotate=(-20 * s, 20 * s), shear=shear, p=1, **_shift(0.1 * s), **_NEAREST), _flip()], []


def _turn_zoom(s: float) -> tuple[Steps, Steps]:
    """Horizontal flip, rotation and zoom; how far to turn and zoom is our choice."""
    zoom = (1 / (1 + 0.2 * s), 1 + 0.2 * s)
    return [A.Affine(scale=zoom, keep_ratio=True, rotate=(-20 * s, 20 * s), p=1, **_NEAREST), _flip()], []


def _flip() -> A.BasicTransform:
    return A.HorizontalFlip(p=0.5)


def _little_move(s: float, chance: float) -> A.BasicTransform:
    zoom = (1 / (1 + 0.15 * s), 1 + 0.15 * s)
    turn = {"rotate": (-10 * s, 10 * s), **_shift(0.06 * s)}
    return A.Affine(scale=zoom, keep_ratio=True, p=min(1, chance * s), **turn, **_MIRRORED)


def _histology(s: float) -> tuple[Steps, Steps]:
    """Tissue has no up or down, and laboratories stain differently: flips, right-angle turns, stains, light, focus."""
    return [A.D4(p=1), _little_move(s, 0.5)], [
        StainJitter(strength=0.2 * s, p=min(1, 0.8 * s)),
        A.RandomBrightnessContrast(brightness_limit=0.08 * s, contrast_limit=0.12 * s, p=min(1, 0.5 * s)),
        A.GaussianBlur(sigma_limit=(0.3, 0.9), blur_limit=0, p=min(1, 0.15 * s)),
    ]


def _plain(s: float) -> tuple[Steps, Steps]:
    """For images of anything: a mirror image, a little turn, zoom and shift, light and contrast."""
    light = A.RandomBrightnessContrast(brightness_limit=0.15 * s, contrast_limit=0.15 * s, p=min(1, 0.5 * s))
    return [_flip(), _little_move(s, 0.8)], [light]


def _flips_turn_brightness(s: float) -> tuple[Steps, Steps]:
    """Flips both ways, turns up to 0.2 of a full one, brightness up to 0.2: a published system's."""
    turn = A.Affine(rotate=(-72 * s, 72 * s), p=1, **_MIRRORED)
    light = A.RandomBrightnessContrast(brightness_limit=0.2 * s, contrast_limit=0, p=1)
    return [_flip(), A.VerticalFlip(p=0.5), turn], [light]


#: Geometry and intensity for a strength, which scales ranges and chances; 1 is what the recipes use.
RECIPES: dict[str, Callable[[float], tuple[Steps, Steps]]] = {
    "ultrasound": _ultrasound,
    "ultrasound-machines": _ultrasound_machines,
    "turn-shift-shear": _turn_shift_shear,
    "turn-zoom": _turn_zoom,
    "histology": _histology,
    "plain": _plain,
    "flips-turn-brightness": _flips_turn_brightness,
}

# Tissue is not zoomed into, so that these need no image larger than the network's input; it would be made up anyway
# where a patch has fewer pixels than that. Published systems vary what already has the network's size.
_AS_SEEN = ("histology", "flips-turn-brightness", "turn-shift-shear", "turn-zoom")
# Those of published systems, which know no masks.
_UNGUARDED = ("turn-shift-shear", "turn-zoom")


def oversize(recipe: str) -> float:
    """Return the multiple of the network's side to which images are squashed before this augmentation."""
    return 1.0 if recipe in _AS_SEEN else OVERSIZE


class Augmentation:
    """Draws one variant of an image; the same seed draws the same variant.

    Args:
        recipe: a key of `RECIPES`.
        size: side of what comes out.
        strength: 1 is the recipe; smaller is gentler, up to 2.

    Raises:
        ConfigError: no such recipe.
    """

    def __init__(self, recipe: str, size: int, strength: float = 1.0) -> None:
        if recipe not in RECIPES:
            raise ConfigError(
                f"There is no augmentation called '{recipe}'.",
                expected=f"one of {', '.join(RECIPES)}",
                remedy="Correct the recipe, or the task in bcx/tasks.py.",
            )
        self.size = size
        self._guarded = recipe not in _UNGUARDED
        geometry, intensity = RECIPES[recipe](strength)
        self._geometry = A.Compose(geometry, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
        self._intensity = A.Compose(intensity)

    def __call__(self, plane: np.ndarray, mask: np.ndarray | None, seed: int) -> np.ndarray:
        """Return a variant of `plane`, uint8 `[size, size]` or `[size, size, 3]`; arguments as for `with_mask`."""
        return self.with_mask(plane, mask, seed)[0]

    def with_mask(self, plane: np.ndarray, mask: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a variant of `plane`, and the mask under the same geometry.

        Args:
            plane: uint8 `[T, T]` or `[T, T, 3]`, squashed, usually larger than `size`.
            mask: uint8 `[T, T]`, non-zero in the lesion, or None.
            seed: what to draw.

        Returns:
            uint8 `[size, size]` or `[size, size, 3]`; uint8 `[T, T]`, zeros where the mask is None.
        """
        self._geometry.set_random_seed(seed)
        points = _sample_points(mask if self._guarded else None)
        whole = np.zeros(plane.shape[:2], np.uint8) if mask is None else mask
        warped, moved = plane, whole
        height, width = plane.shape[:2]
        for _ in range(_DRAWS if len(points) else 1):
            drawn = self._geometry(image=plane, mask=whole, keypoints=points)
            where = np.asarray(drawn["keypoints"]).reshape(-1, 2)
            inside = ((where >= 0) & (where < (width, height))).all(axis=1)
            if not len(points) or inside.mean() >= _KEEP:
                warped, moved = drawn["image"], drawn["mask"]
                break
        small = resize(warped, self.size, self.size)
        self._intensity.set_random_seed(seed + 1)
        return self._intensity(image=small)["image"], moved


def _sample_points(mask: np.ndarray | None) -> np.ndarray:
    """Return float32 `[N, 2]` (x, y), at most 64 points spread evenly over the lesion; none without a mask."""
    if mask is None:
        return np.zeros((0, 2), np.float32)
    rows, columns = np.nonzero(mask)
    step = max(1, len(rows) // 64)
    return np.stack([columns[::step], rows[::step]], axis=1).astype(np.float32)[:64]
