"""Augmentation by task: geometry that keeps the lesion in the picture, then what differs between machines.

>>> import numpy as np
>>> warp = Augmentation("ultrasound", size=32)
>>> warp(np.zeros((48, 48), np.uint8), None, seed=1).shape
(32, 32)
"""

from __future__ import annotations

from collections.abc import Callable

import albumentations as A
import cv2
import numpy as np

from bcx.errors import ConfigError
from bcx.imaging.preprocess import resize
from bcx.train.augment_histology import flips_turn_brightness, histology, plain
from bcx.train.augment_machines import DOWN_UP, machines

#: Pictures are squashed to this multiple of the network's side before augmentation, so that zooming in finds detail.
OVERSIZE = 1.7
# At least this share of the lesion's area stays in the picture, else the geometry is drawn again ...
_KEEP = 0.6
# ... at most this often; then the picture is taken as it is.
_DRAWS = 6


def _ultrasound(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """Geometry and intensity of the pilots' "strong" recipe; `strength` scales ranges and chances."""
    s = strength
    edge = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_CONSTANT, "fill": 0}
    geometry: list[A.BasicTransform] = [
        # Aspect: scans are squashed, and machines differ in width to depth.
        A.Affine(
            scale={"x": (1 - 0.11 * s, 1 + 0.13 * s), "y": (1 - 0.11 * s, 1 + 0.13 * s)}, p=min(1, 0.8 * s), **edge
        ),
        A.Affine(
            scale=(1 / (1 + 0.33 * s), 1 + 0.7 * s),
            keep_ratio=True,
            balanced_scale=True,
            rotate=(-12 * s, 12 * s),
            translate_percent={"x": (-0.18 * s, 0.18 * s), "y": (-0.18 * s, 0.18 * s)},
            p=min(1, 0.9 * s),
            **edge,
        ),
        A.HorizontalFlip(p=0.5),
    ]
    intensity: list[A.BasicTransform] = [
        A.RandomGamma(gamma_limit=(100 * np.exp(-0.4 * s), 100 * np.exp(0.4 * s)), p=min(1, 0.8 * s)),
        A.RandomBrightnessContrast(brightness_limit=0.12 * s, contrast_limit=0.25 * s, p=min(1, 0.8 * s)),
        A.OneOf(
            [
                A.GaussianBlur(sigma_limit=(0.4, 1.6), blur_limit=0),
                A.Downscale(scale_range=(0.4, 0.8), interpolation_pair=DOWN_UP),
            ],
            p=min(1, 0.45 * s),
        ),
        # Multiplicative, pixel by pixel: what speckle does before the display's own compression.
        A.MultiplicativeNoise(multiplier=(1 - 0.15 * s, 1 + 0.15 * s), elementwise=True, p=min(1, 0.3 * s)),
        A.CLAHE(clip_limit=(1, 3), p=min(1, 0.15 * s)),
    ]
    return geometry, intensity


def _ultrasound_machines(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """The same geometry, and a wider range of machines than any hospital has."""
    return _ultrasound(strength)[0], machines(strength)


# Published systems fill what a turn or a shift leaves empty with the nearest pixel.
_NEAREST = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_REPLICATE}


def _turn_shift_shear(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """Rotation up to 20 degrees, shifts, shear, horizontal flip; how far to shift and shear is our choice."""
    s = strength
    move = {
        "rotate": (-20 * s, 20 * s),
        "translate_percent": {"x": (-0.1 * s, 0.1 * s), "y": (-0.1 * s, 0.1 * s)},
        "shear": {"x": (-10 * s, 10 * s), "y": (0, 0)},
    }
    return [A.Affine(**move, p=1, **_NEAREST), A.HorizontalFlip(p=0.5)], []


def _turn_zoom(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """Horizontal flip, rotation and zoom; how far to turn and zoom is our choice."""
    s = strength
    zoom = {"scale": (1 / (1 + 0.2 * s), 1 + 0.2 * s), "keep_ratio": True, "rotate": (-20 * s, 20 * s)}
    return [A.Affine(**zoom, p=1, **_NEAREST), A.HorizontalFlip(p=0.5)], []


RECIPES: dict[str, Callable[[float], tuple[list[A.BasicTransform], list[A.BasicTransform]]]] = {
    "ultrasound": _ultrasound,
    "ultrasound-machines": _ultrasound_machines,
    "turn-shift-shear": _turn_shift_shear,
    "turn-zoom": _turn_zoom,
    "histology": histology,
    "plain": plain,
    "flips-turn-brightness": flips_turn_brightness,
}

# Tissue is not zoomed into, so that these need no picture larger than the network's input; it would be made up anyway
# where a patch has fewer pixels than that. Published systems vary what already has the network's size.
_AS_SEEN = ("histology", "flips-turn-brightness", "turn-shift-shear", "turn-zoom")
# Those of published systems, which know no masks.
_UNGUARDED = ("turn-shift-shear", "turn-zoom")


def oversize(recipe: str) -> float:
    """Return the multiple of the network's side to which pictures are squashed before this augmentation."""
    return 1.0 if recipe in _AS_SEEN else OVERSIZE


def prepared(recipe: str, size: int, strength: float) -> tuple[Augmentation | None, int]:
    """Return the augmentation, None at strength 0, and the side to which pictures are squashed before it."""
    return (Augmentation(recipe, size, strength), round(size * oversize(recipe))) if strength else (None, size)


class Augmentation:
    """Draws one variant of a picture; the same seed draws the same variant."""

    def __init__(self, recipe: str, size: int, strength: float = 1.0) -> None:
        """Prepare the pipelines.

        Args:
            recipe: a task's `augmentation`, or what a recipe puts in its place.
            size: side of what comes out.
            strength: 1 is the recipe; smaller is gentler, up to 2.

        Raises:
            ConfigError: no such recipe.
        """
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
        """Return a variant of `plane`.

        Args:
            plane: uint8 `[T, T]` or `[T, T, 3]`, squashed, usually larger than `size`.
            mask: uint8 `[T, T]`, non-zero in the lesion, or None.
            seed: what to draw.

        Returns:
            uint8 `[size, size]` or `[size, size, 3]`.
        """
        return self.with_mask(plane, mask, seed)[0]

    def with_mask(self, plane: np.ndarray, mask: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a variant of `plane`, and the mask under the same geometry; arguments as for a call.

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
