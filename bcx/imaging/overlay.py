"""Class maps as pictures: one signed colour scale, laid over the scan.

What speaks for a class is purple, what speaks against it green, nothing is transparent: a map without evidence
leaves the scan as it is, since nothing is stretched picture by picture. Neither is a class's colour, or the lesion's.

>>> import numpy as np
>>> colourise(np.array([[-2.0, 0.0, 2.0]], np.float32), limit=2.0).tolist()
[[[92, 158, 0], [255, 255, 255], [182, 95, 230]]]
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from bcx.imaging.preprocess import to_grey

#: The scale never spans less than this many logit units, so that faint evidence stays faint.
LEAST_LIMIT = 4.0
#: Share of all places whose evidence the scale can tell apart; the few beyond it share its full colour.
REACH = 0.995

# Equally light, so that neither looks stronger; apart for all common kinds of colour blindness, and far from grey.
_AGAINST = np.array([92, 158, 0], np.float32)
_NONE = np.array([255, 255, 255], np.float32)
_FOR = np.array([182, 95, 230], np.float32)


def scale_limit(maps: np.ndarray) -> float:
    """Return the end of the colour scale that all maps of one answer share, in logit units.

    Where evidence stands in one small lesion, its peak may be ten times what the rest of the lesion holds; a scale up
    to there would show the peak and little else. So the largest half per cent of the places is left out. On a coarse
    grid, of 200 values or fewer, that is none.

    Args:
        maps: float32 `[C, h, w]`, every class's map.

    Returns:
        The magnitude that all other places stay within, rounded up to a whole number, at least `LEAST_LIMIT`.
    """
    magnitudes = np.abs(maps).ravel()
    place = math.ceil(REACH * (magnitudes.size - 1))
    return float(max(LEAST_LIMIT, math.ceil(float(np.partition(magnitudes, place)[place]))))


def colourise(values: np.ndarray, limit: float) -> np.ndarray:
    """Paint evidence on the signed scale.

    Args:
        values: float32 `[H, W]`, logit units.
        limit: evidence that gets the full colour; larger magnitudes get it too.

    Returns:
        uint8 `[H, W, 3]`, white where there is no evidence.
    """
    share = np.clip(values / limit, -1, 1)[..., None]
    full = np.where(share < 0, _AGAINST, _FOR)
    return np.rint(_NONE + np.abs(share) * (full - _NONE)).astype(np.uint8)


def lay_over(pixels: np.ndarray, values: np.ndarray, limit: float, opacity: float) -> Image.Image:
    """Lay one class's evidence over the scan.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`, the scan; the colours of the latter fade to grey, all from one half on.
        values: float32 `[H, W]`, logit units, at the scan's size.
        limit: as in `colourise`.
        opacity: 0 (the scan alone) to 1 (full colour where the evidence is strongest).

    Returns:
        An RGB picture of the scan's size.
    """
    opacity = float(np.clip(opacity, 0, 1))
    scan = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    if pixels.ndim == 3:  # purple on a stain's pink could not be seen, so colours give way
        scan = scan + min(1.0, 2 * opacity) * (to_grey(pixels)[..., None] - scan.astype(np.float32))
    share = np.clip(values / limit, -1, 1)[..., None]
    colour = np.where(share < 0, _AGAINST, _FOR)
    weight = opacity * np.abs(share)
    return Image.fromarray(np.rint(scan + weight * (colour - scan)).astype(np.uint8))
