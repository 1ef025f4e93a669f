"""Hide a part of a scan behind its blurred surroundings, as if the tissue went on; and find another as large."""

import cv2
import numpy as np


def hottest_region(heat: np.ndarray, level: float | None = None) -> np.ndarray:
    """Return bool `[H, W]`: the connected part of {heat >= level} around the hottest pixel, empty without heat.

    `heat` is float `[H, W]`, not negative; `level` by default half of its maximum.
    """
    peak = heat.max()
    if peak <= 0:
        return np.zeros(heat.shape, bool)
    _, parts = cv2.connectedComponents((heat >= (peak / 2 if level is None else level)).astype(np.uint8))
    return parts == parts.flat[heat.argmax()]


def moved(region: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return up to `count` copies of a region, bool `[H, W]`, inside the scan where they do not overlap with it."""
    rows, columns = np.nonzero(region)
    top, left = rows.min(), columns.min()
    shape = region[top : rows.max() + 1, left : columns.max() + 1]
    # At each place of the picture, how many pixels a copy with its corner there shares with the region.
    shared = cv2.matchTemplate(region.astype(np.float32), shape.astype(np.float32), cv2.TM_CCORR)
    free = np.argwhere(shared < 0.5)
    copies = []
    for y, x in rng.choice(free, min(count, len(free)), replace=False):
        copy = np.zeros_like(region)
        copy[y : y + shape.shape[0], x : x + shape.shape[1]] = shape
        copies.append(copy)
    return copies


def hide(pixels: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Return a copy of a scan, uint8 `[H, W]` or `[H, W, 3]`, in which a region, bool `[H, W]`, not all, is blurred."""
    rows, columns = np.nonzero(region)
    # Wide enough to reach what lies around the region from every pixel inside it.
    side = 2 * int(max(np.ptp(rows), np.ptp(columns))) + 3
    keep = (~region).astype(np.float32)
    around = pixels.astype(np.float32) * (keep if pixels.ndim == 2 else keep[..., None])
    weight = cv2.blur(keep, (side, side), borderType=cv2.BORDER_REFLECT)
    blurred = cv2.blur(around, (side, side), borderType=cv2.BORDER_REFLECT)
    hidden = pixels.copy()
    inside = weight[region] if pixels.ndim == 2 else weight[region][:, None]
    hidden[region] = np.rint(blurred[region] / inside).astype(np.uint8)
    return hidden
