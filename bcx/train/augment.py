"""Augmentation by task: geometry that keeps the lesion in the image, then what differs between scanners."""

from collections.abc import Callable
from typing import Any

import albumentations as A
import cv2
import numpy as np
from skimage.color import rgb_from_hed

from bcx.errors import check_name
from bcx.imaging.preprocess import resize

#: Images are squashed to this multiple of the network's side before augmentation, so that zooming in finds detail.
OVERSIZE = 1.7
# At least this share of the lesion stays in the image, else the geometry is drawn again, so often at most.
_KEEP, _DRAWS = 0.6, 6

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
        A.HorizontalFlip(),
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

    Stacked, so that the network cannot live on how one scanner's images look (Zhang et al., IEEE TMI 2020).
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
        GainField(0.35 * s, p=min(1, 0.5 * s)),
        *_gamma_and_contrast(s, 0.5, 0.15, 0.35, chance=0.6),
        A.OneOf(focus, p=min(1, 0.6 * s)),
        Grain(0.4 * s, p=min(1, 0.5 * s)),
        A.MultiplicativeNoise(multiplier=(1 - 0.2 * s, 1 + 0.2 * s), elementwise=True, p=min(1, 0.3 * s)),
        A.CLAHE(clip_limit=(1, 6), p=min(1, 0.3 * s)),
        A.ImageCompression(quality_range=(15, 70), p=min(1, 0.2 * s)),
    ]


def _turn_shift_shear(s: float) -> tuple[Steps, Steps]:
    """A published system's; how far to shift and shear is our choice."""
    shear = {"x": (-10 * s, 10 * s), "y": (0, 0)}
    return [A.Affine(rotate=(-20 * s, 20 * s), shear=shear, p=1, **_shift(0.1 * s), **_NEAREST), A.HorizontalFlip()], []


def _turn_zoom(s: float) -> tuple[Steps, Steps]:
    """A published system's; how far to turn and zoom is our choice."""
    zoom = (1 / (1 + 0.2 * s), 1 + 0.2 * s)
    return [A.Affine(scale=zoom, keep_ratio=True, rotate=(-20 * s, 20 * s), p=1, **_NEAREST), A.HorizontalFlip()], []


def _little_move(s: float, chance: float) -> A.BasicTransform:
    zoom = (1 / (1 + 0.15 * s), 1 + 0.15 * s)
    turn = {"rotate": (-10 * s, 10 * s), **_shift(0.06 * s)}
    return A.Affine(scale=zoom, keep_ratio=True, p=min(1, chance * s), **turn, **_MIRRORED)


def _histology(s: float) -> tuple[Steps, Steps]:
    """Tissue has no up or down, and laboratories stain differently."""
    return [A.D4(p=1), _little_move(s, 0.5)], [
        StainJitter(0.2 * s, p=min(1, 0.8 * s)),
        A.RandomBrightnessContrast(brightness_limit=0.08 * s, contrast_limit=0.12 * s, p=min(1, 0.5 * s)),
        A.GaussianBlur(sigma_limit=(0.3, 0.9), blur_limit=0, p=min(1, 0.15 * s)),
    ]


def _plain(s: float) -> tuple[Steps, Steps]:
    """For images of anything."""
    light = A.RandomBrightnessContrast(brightness_limit=0.15 * s, contrast_limit=0.15 * s, p=min(1, 0.5 * s))
    return [A.HorizontalFlip(), _little_move(s, 0.8)], [light]


def _flips_turn_brightness(s: float) -> tuple[Steps, Steps]:
    """A published system's."""
    turn = A.Affine(rotate=(-72 * s, 72 * s), p=1, **_MIRRORED)
    light = A.RandomBrightnessContrast(brightness_limit=0.2 * s, contrast_limit=0, p=1)
    return [A.HorizontalFlip(), A.VerticalFlip(p=0.5), turn], [light]


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

# Published systems know no masks, and vary what already has the network's size; nor is tissue zoomed into.
_UNGUARDED = ("turn-shift-shear", "turn-zoom")
_AS_SEEN = ("histology", "flips-turn-brightness", *_UNGUARDED)


def oversize(recipe: str) -> float:
    """Return the multiple of the network's side to which images are squashed before this augmentation."""
    return 1.0 if recipe in _AS_SEEN else OVERSIZE


class Augmentation:
    """Draws one variant of an image, of the side `size`; the same seed draws the same variant.

    `recipe` is a key of `RECIPES`; a `strength` below 1 is gentler.
    """

    def __init__(self, recipe: str, size: int, strength: float = 1.0) -> None:
        check_name(recipe, RECIPES, "augmentation")
        self.size = size
        self._guarded = recipe not in _UNGUARDED
        geometry, intensity = RECIPES[recipe](strength)
        self._geometry = A.Compose(geometry, keypoint_params=A.KeypointParams("xy", remove_invisible=False))
        self._intensity = A.Compose(intensity)

    def __call__(self, plane: np.ndarray, mask: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return a variant of `plane`, uint8 `[T, T]` or `[T, T, 3]`, at the side `size`.

        And the mask, uint8 `[T, T]`, non-zero in the lesion, under the same geometry; zeros where it is None.
        """
        self._geometry.set_random_seed(seed)
        moved = np.zeros(plane.shape[:2], np.uint8) if mask is None else mask
        found = cv2.findNonZero(moved) if self._guarded else None  # x, y, row by row; None without any
        lesion = np.zeros((0, 2)) if found is None else found.reshape(-1, 2)
        points = lesion[:: max(1, len(lesion) // 64)][:64].astype(np.float32)  # spread evenly
        for _ in range(_DRAWS if len(points) else 1):
            drawn = self._geometry(image=plane, mask=moved, keypoints=points)
            where = np.asarray(drawn["keypoints"]).reshape(-1, 2)
            inside = ((where >= 0) & (where < plane.shape[1::-1])).all(axis=1)
            if not len(points) or inside.mean() >= _KEEP:
                plane, moved = drawn["image"], drawn["mask"]
                break
        self._intensity.set_random_seed(seed + 1)
        return self._intensity(image=resize(plane, self.size, self.size))["image"], moved


# What albumentations lacks. Each takes uint8 `[H, W]` or `[H, W, 3]` (stains: `[H, W, 3]`) and returns the same shape.


class _OfStrength(A.ImageOnlyTransform):
    def __init__(self, strength: float, p: float) -> None:
        super().__init__(p=p)
        self.strength = strength


# Haematoxylin, eosin and DAB: Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 2001.
_UNMIX = np.linalg.inv(rgb_from_hed)
# Optical density of each grey level; 0 counts as 1, since no film is black without end.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


class StainJitter(_OfStrength):
    """Multiply and shift haematoxylin, eosin and the rest in optical density (Tellez et al., IEEE TMI 2018).

    Of the `strength` they call 0.05 light and 0.2 strong. Albumentations' own HEStain takes ten times as long.
    """

    def get_params(self) -> dict[str, Any]:
        factors = [self.py_random.uniform(1 - self.strength, 1 + self.strength) for _ in range(3)]
        shifts = [self.py_random.uniform(-self.strength / 5, self.strength / 5) for _ in range(3)]
        return {"factors": factors, "shifts": shifts}

    def apply(self, img: np.ndarray, factors: list[float], shifts: list[float], **_: Any) -> np.ndarray:
        # There, the change and the way back are one matrix in optical density.
        matrix = (_UNMIX @ np.diag(factors) @ rgb_from_hed).astype(np.float32)
        shift = (np.array(shifts) @ rgb_from_hed).astype(np.float32)
        density = _DENSITY[img].reshape(-1, 3)
        stained = np.minimum(density.sum(1, keepdims=True), 1)  # the shift stays away from bare glass
        levels = np.rint(255 * np.exp(-(density @ matrix + stained * shift)))
        return np.clip(levels, 0, 255).astype(np.uint8).reshape(img.shape)


class ToneCurve(A.ImageOnlyTransform):
    """Put a random rising curve over the grey levels, as grey maps, dynamic range and gain do.

    Black stays nearly black, so that what lies outside the scan does not turn into tissue.
    """

    def get_params(self) -> dict[str, Any]:
        draw = self.random_generator
        steps = np.concatenate([[0.0], np.cumsum(draw.gamma(1.5, 1.0, 5))])  # a larger shape: nearer to a straight line
        lowest = draw.uniform(0, 0.12) * draw.integers(2)  # haze in every second image
        levels = lowest + draw.uniform(0.75, 1) * steps / steps[-1]
        curve = np.interp(np.arange(256), np.linspace(0, 255, 6), levels.clip(0, 1) * 255).astype(np.uint8)
        curve[0] = min(curve[0], 8)
        return {"curve": curve}

    def apply(self, img: np.ndarray, curve: np.ndarray, **_: Any) -> np.ndarray:
        return curve[img]


class GainField(_OfStrength):
    """Multiply by a smooth field: gain that changes with depth, shadows, poor contact at a side.

    `strength` is the standard deviation of the field's logarithm at its knots.
    """

    def get_params(self) -> dict[str, Any]:
        down, across = (self.random_generator.integers(2, most, endpoint=True) for most in (4, 5))
        return {"knots": self.random_generator.normal(0, self.strength, (down, across)).astype(np.float32)}

    def apply(self, img: np.ndarray, knots: np.ndarray, **_: Any) -> np.ndarray:
        height, width = img.shape[:2]
        return _multiplied(img, np.exp(cv2.resize(knots, (width, height), interpolation=cv2.INTER_CUBIC)))


class Grain(_OfStrength):
    """Multiply by grain of a random size, wider than deep: speckle as another frequency or depth shows it.

    `strength` is the largest standard deviation of the grain's logarithm.
    """

    def get_params(self) -> dict[str, Any]:
        draw = self.random_generator
        size = draw.uniform(0.6, 2.5)  # sigma, pixels
        strength = draw.uniform(self.strength / 8, self.strength)
        sigmas = (size * draw.uniform(1, 2.5), size)  # scanners resolve less across than along the beam
        return {"sigmas": sigmas, "strength": strength, "seed": int(draw.integers(1 << 31))}

    def apply(self, img: np.ndarray, sigmas: tuple[float, float], strength: float, seed: int, **_: Any) -> np.ndarray:
        white = np.random.default_rng(seed).standard_normal(img.shape[:2], np.float32)
        noise = cv2.GaussianBlur(white, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1])
        return _multiplied(img, np.exp(strength * noise / (noise.std() + 1e-6)))


def _multiplied(pixels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    each = factors if pixels.ndim == 2 else factors[..., None]
    return (pixels * each).clip(0, 255).astype(np.uint8)
