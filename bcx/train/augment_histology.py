"""Augmentation of tissue under the microscope: there is no up or down, and laboratories stain differently.

>>> import numpy as np
>>> jitter = StainJitter(strength=0.2, p=1.0)
>>> int(jitter(image=np.full((8, 8, 3), 255, np.uint8))["image"].min())   # glass stays white
255
"""

from __future__ import annotations

from typing import Any

import albumentations as A
import cv2
import numpy as np

# Optical densities of haematoxylin, eosin and DAB in red, green and blue: Ruifrok and Johnston, "Quantification of
# histochemical staining by color deconvolution", Analytical and Quantitative Cytology and Histology 2001; as in
# skimage.color.hed2rgb.
STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float64)
_UNMIX = np.linalg.inv(STAINS)
# Optical density of each grey level; 0 counts as 1, since no film is black without end.
_DENSITY = -np.log(np.maximum(np.arange(256), 1) / 255).astype(np.float32)


class StainJitter(A.ImageOnlyTransform):
    """Change how strongly each stain took, and how much of it lies on the glass.

    The picture is taken apart into haematoxylin, eosin and a rest in optical density; each is multiplied by a random
    factor and shifted, and the picture put together again (Tellez et al., "Whole-slide mitosis detection in H&E breast
    histology using PHH3 as a reference to train distilled stain-invariant convolutional networks", IEEE TMI 2018).
    Albumentations' own HEStain takes ten times as long.
    """

    def __init__(self, strength: float = 0.05, p: float = 0.5) -> None:
        """Set how far stains vary.

        Args:
            strength: factors are drawn from 1 - strength to 1 + strength, shifts from -strength / 5 to strength / 5 of
                a stain's unit; Tellez et al. call 0.05 light and 0.2 strong.
            p: share of the pictures that are changed.
        """
        super().__init__(p=p)
        self.strength = strength

    def get_params(self) -> dict[str, Any]:
        """Draw a factor and a shift for each stain."""
        factors = self.py_random.uniform, 1 - self.strength, 1 + self.strength
        shifts = self.py_random.uniform, -self.strength / 5, self.strength / 5
        return {
            "factors": [factors[0](*factors[1:]) for _ in range(3)],
            "shifts": [shifts[0](*shifts[1:]) for _ in range(3)],
        }

    def apply(self, img: np.ndarray, factors: list[float], shifts: list[float], **_: Any) -> np.ndarray:
        """Return uint8 `[H, W, 3]`; both steps and the way back are one matrix in optical density."""
        matrix = (_UNMIX @ np.diag(factors) @ STAINS).astype(np.float32)
        shift = (np.array(shifts) @ STAINS).astype(np.float32)
        # The shift stays away from bare glass.
        density = _DENSITY[img].reshape(-1, 3)
        stained = np.minimum(density.sum(1, keepdims=True), 1)
        return (
            np.clip(np.rint(255 * np.exp(-(density @ matrix + stained * shift))), 0, 255)
            .astype(np.uint8)
            .reshape(img.shape)
        )


def histology(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """All flips and right-angle turns, a little zoom and shift, stains, light and focus."""
    s = strength
    # What a shift uncovers is filled with what lies beside it, mirrored: tissue goes on there.
    edge = {"interpolation": cv2.INTER_LINEAR, "border_mode": cv2.BORDER_REFLECT_101}
    geometry: list[A.BasicTransform] = [
        A.D4(p=1),
        A.Affine(
            scale=(1 / (1 + 0.15 * s), 1 + 0.15 * s),
            keep_ratio=True,
            rotate=(-10 * s, 10 * s),
            translate_percent={"x": (-0.06 * s, 0.06 * s), "y": (-0.06 * s, 0.06 * s)},
            p=min(1, 0.5 * s),
            **edge,
        ),
    ]
    intensity: list[A.BasicTransform] = [
        StainJitter(strength=0.2 * s, p=min(1, 0.8 * s)),
        A.RandomBrightnessContrast(brightness_limit=0.08 * s, contrast_limit=0.12 * s, p=min(1, 0.5 * s)),
        A.GaussianBlur(sigma_limit=(0.3, 0.9), blur_limit=0, p=min(1, 0.15 * s)),
    ]
    return geometry, intensity


def plain(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """For pictures of anything: a mirror image, a little turn, zoom and shift, light and contrast."""
    s = strength
    geometry: list[A.BasicTransform] = [
        A.HorizontalFlip(p=0.5),
        A.Affine(
            scale=(1 / (1 + 0.15 * s), 1 + 0.15 * s),
            keep_ratio=True,
            rotate=(-10 * s, 10 * s),
            translate_percent={"x": (-0.06 * s, 0.06 * s), "y": (-0.06 * s, 0.06 * s)},
            p=min(1, 0.8 * s),
            interpolation=cv2.INTER_LINEAR,
            border_mode=cv2.BORDER_REFLECT_101,
        ),
    ]
    light = A.RandomBrightnessContrast(brightness_limit=0.15 * s, contrast_limit=0.15 * s, p=min(1, 0.5 * s))
    return geometry, [light]


def flips_turn_brightness(strength: float) -> tuple[list[A.BasicTransform], list[A.BasicTransform]]:
    """Flips both ways, turns up to 0.2 of a full one, brightness up to 0.2: a published system's."""
    s = strength
    geometry: list[A.BasicTransform] = [
        A.HorizontalFlip(p=0.5),
        A.VerticalFlip(p=0.5),
        A.Affine(rotate=(-72 * s, 72 * s), p=1, interpolation=cv2.INTER_LINEAR, border_mode=cv2.BORDER_REFLECT_101),
    ]
    return geometry, [A.RandomBrightnessContrast(brightness_limit=0.2 * s, contrast_limit=0, p=1)]
