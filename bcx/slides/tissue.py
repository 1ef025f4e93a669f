"""Which tiles hold tissue: stained places have colour, bare glass has none.

>>> import numpy as np
>>> glass = np.full((60, 60, 3), 240, np.uint8)
>>> glass[:, :30] = (200, 120, 180)  # a stained half
>>> tissue_of(glass)[:, :30].all(), tissue_of(glass)[:, 32:].any()
(np.True_, np.False_)

The test: the overview's saturation (of HSV, smoothed over 5 pixels) is split in two by Otsu's threshold (IEEE
Transactions on Systems, Man, and Cybernetics 9, 1979), which is held between 13 and 51 of 255. Otsu's alone would
find tissue on empty glass and holes in a slide that is full of tissue. What is nearly black (pen, the edge of a
cover slip, parts that the scanner left out) is no tissue. A grey picture has no colour to go by: all of it is tissue.
"""

from __future__ import annotations

import cv2
import numpy as np

from bcx.slides.grid import Grid

#: Otsu's threshold is held between these, of 255.
LEAST, MOST = 13, 51
#: Darker than this, of 255, is no tissue.
DARK = 25
#: A tile counts where at least this share of it is tissue.
SHARE = 0.1


def tissue_of(overview: np.ndarray) -> np.ndarray:
    """Return bool `[h, w]`: where an overview, uint8 `[h, w]` or `[h, w, 3]`, shows tissue."""
    if overview.ndim == 2 or (np.ptp(overview, axis=2) == 0).all():
        return np.ones(overview.shape[:2], bool)
    smooth = cv2.GaussianBlur(overview, (5, 5), 0)
    _, saturation, value = cv2.split(cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV))
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return (saturation > np.clip(threshold, LEAST, MOST)) & (value > DARK)


def tiles_with_tissue(tissue: np.ndarray, grid: Grid) -> np.ndarray:
    """Return bool `[rows, columns]`: which tiles of the grid hold enough tissue.

    Args:
        tissue: bool `[h, w]`, of the overview.
    """
    height, width = tissue.shape
    sums = cv2.integral(tissue.astype(np.uint8)).astype(np.int64)
    top, bottom = _edges(grid.ys, grid.tile, height)
    left, right = _edges(grid.xs, grid.tile, width)
    counts = (
        sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    )  # fmt: skip
    return counts >= SHARE * (bottom - top)[:, None] * (right - left)[None]


def _edges(starts: tuple[int, ...], tile: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where tiles begin and end on the overview, at least one pixel apart."""
    low = np.asarray(starts, np.float64)
    factor = length / (low[-1] + tile)  # the last tile ends where the slide does
    first = np.minimum(np.floor(low * factor).astype(int), length - 1)
    return first, np.maximum(np.ceil((low + tile) * factor).astype(int).clip(max=length), first + 1)
