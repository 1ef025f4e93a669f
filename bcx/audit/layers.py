"""What a scan is made of: tissue, and what the scanner or a person drew over it.

Two scans of one scanner share logo, ruler, text and layout, and a copy may carry other marks than its original. So
tissue alone is compared: what is burnt in is found here, left out, and filled from around it.
"""

from __future__ import annotations

import cv2
import numpy as np

from bcx.imaging.preprocess import resize, to_grey

LOOK_SIDE = 512
"""Longer side, in pixels, at which marks are looked for: strokes of text are one to three pixels wide there."""

PICTURE_SIDE = 160
"""Longer side, in pixels, of the small picture that is compared: tissue is recognisable, speckle mostly gone."""

STROKE = 9
"""Strokes thinner than this, at `LOOK_SIDE`, may be burnt in."""
STROKE_CONTRAST, STROKE_LEVEL = 70, 140
"""Grey levels that a stroke stands above what is around it, and that it has at least."""
CHROMA = 40
"""Difference between the strongest and the weakest channel from which a pixel is coloured."""
DARK = 10
"""Mean grey level up to which a place is background."""
TISSUE_SHARE = 0.05
"""Smallest share of the picture that a part of the tissue fills."""

_NOISE = 4.0  # grey levels of detail below which contrast is not raised further


def shrunk(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return the picture with its longer side at `side` pixels, the shorter in proportion (1 at least)."""
    height, width = pixels.shape[:2]
    factor = side / max(height, width)
    return resize(pixels, max(1, round(width * factor)), max(1, round(height * factor)))


def looked_at(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W] or [H, W, 3] no longer than `LOOK_SIDE`."""
    return shrunk(pixels, LOOK_SIDE) if max(pixels.shape[:2]) > LOOK_SIDE else pixels


def chroma(pixels: np.ndarray) -> np.ndarray | None:
    """Return uint8 [H, W], how coloured each pixel is; None for a grey picture."""
    if pixels.ndim == 2:
        return None
    red, green, blue = cv2.split(np.ascontiguousarray(pixels))
    return cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))


def burnt_in(pixels: np.ndarray) -> np.ndarray:
    """Return bool [H, W] of pixels no longer than `LOOK_SIDE`: bright thin strokes (text, calipers, rulers) and colour.

    True reflectors that are as thin and bright are taken as well: tissue enough remains.
    """
    grey = to_grey(pixels)
    raised = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((STROKE, STROKE), np.uint8))
    marks = (raised > STROKE_CONTRAST) & (grey > STROKE_LEVEL)
    coloured = chroma(pixels)
    return marks if coloured is None else marks | (coloured > CHROMA)


def tissue(grey: np.ndarray) -> np.ndarray:
    """Return bool [H, W] of uint8 [H, W] at about `PICTURE_SIDE`: large connected parts that are not black."""
    bright = (cv2.blur(grey, (3, 3)) > DARK).astype(np.uint8)
    solid = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((6, 6), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(solid)
    large = stats[:, cv2.CC_STAT_AREA] >= TISSUE_SHARE * grey.size
    large[0] = False
    whole = cv2.morphologyEx(large[parts].astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8))
    return whole.astype(bool)


def small_picture(pixels: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 [h, w], longer side `PICTURE_SIDE`, marks filled from around them; bool [h, w], unmarked tissue.

    Args:
        pixels: uint8 [H, W] or [H, W, 3].
        marks: bool [H, W], from `burnt_in` of these pixels.
    """
    grey = to_grey(pixels)
    clear = (~marks).astype(np.float32)
    share = shrunk(clear, PICTURE_SIDE)
    if marks.any():
        seen = shrunk(grey.astype(np.float32) * clear, PICTURE_SIDE)
        # Where marks leave less than half of a pixel, the neighbours speak for it.
        around = cv2.GaussianBlur(seen, (0, 0), 3) / np.maximum(cv2.GaussianBlur(share, (0, 0), 3), 1e-3)
        small = np.where(share > 0.5, seen / np.maximum(share, 1e-3), around)
        small = np.clip(np.rint(small), 0, 255).astype(np.uint8)
    else:
        small = shrunk(grey, PICTURE_SIDE)
    covered = cv2.dilate((share < 0.95).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return small, tissue(small) & ~covered


def band(picture: np.ndarray, mask: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Return details between two sizes, float32 [h, w], at even local contrast: gain and shadow hardly count.

    Args:
        picture: [h, w], grey levels.
        mask: float32 [h, w], 1 where the picture counts, else 0, as is the result there.
        fine, coarse: standard deviations in pixels of the two blurs whose difference is taken.
    """
    values = picture.astype(np.float32) * mask
    near, far, wide = (np.maximum(cv2.GaussianBlur(mask, (0, 0), s), 1e-3) for s in (fine, coarse, 1.5 * coarse))
    detail = cv2.GaussianBlur(values, (0, 0), fine) / near - cv2.GaussianBlur(values, (0, 0), coarse) / far
    detail *= mask
    power = cv2.GaussianBlur(detail * detail, (0, 0), 1.5 * coarse) / wide
    return detail / (np.sqrt(power) + _NOISE)
