"""The second stage's crop: where the first stage found something, the scan is cut out and read again, enlarged.

>>> lesion = np.zeros((28, 28), np.float32)
>>> lesion[10:14, 20:24] = 0.9
>>> box = find_box(lesion, (560, 560))
>>> box
Box(x=376, y=176, side=128)
>>> cut(np.zeros((560, 560), np.uint8), box).shape
(128, 128)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

#: Side of the box, in units of the longer side of what was found: a lesion is read with its surroundings.
CONTEXT = 1.6
#: The box is never smaller than this share of the scan's shorter side: below it, enlarging shows speckle alone.
LEAST_SIDE = 0.2


@dataclass(frozen=True)
class Box:
    """A square of the scan, in its pixels; where it is larger than the scan it sticks out, and is black there.

    Attributes:
        x, y: left and upper edge.
        side: width and height.
    """

    x: int
    y: int
    side: int

    def scaled(self, scale: float) -> Box:
        """Return where the box lies in the scan made larger or smaller by a factor."""
        return Box(round(self.x * scale), round(self.y * scale), max(1, round(self.side * scale)))


@dataclass(frozen=True)
class Blob:
    """A connected region of a lesion map.

    Attributes:
        edges: left, top, right and bottom of its bounding box, in places of the map.
        peak: largest value, 0..1.
    """

    edges: tuple[int, int, int, int]
    peak: float


def blobs(lesion: np.ndarray, level: float) -> list[Blob]:
    """Return the connected regions at or above a level, the heaviest (by the sum of their values) first.

    Args:
        lesion: float32 `[h, w]`, 0..1.
        level: 0..1.
    """
    _, parts = cv2.connectedComponents((lesion >= level).astype(np.uint8))
    masses = np.bincount(parts.ravel(), lesion.ravel())
    found = []
    for part in sorted(range(1, len(masses)), key=lambda part: -masses[part]):  # 0 is the background
        rows, columns = np.nonzero(parts == part)
        edges = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
        found.append(Blob(edges, float(lesion[rows, columns].max())))
    return found


def find_box(lesion: np.ndarray, shape: tuple[int, int]) -> Box:
    """Return the square around the heaviest connected region of a lesion map.

    The region is what lies above half of the map's maximum; there always is one, also where nothing was found, so that
    every scan is read twice.

    Args:
        lesion: float32 `[h, w]`, 0..1, spanning the whole scan.
        shape: the scan's (height, width).
    """
    return box_of(blobs(lesion, lesion.max() / 2)[0], lesion.shape, shape)


def box_of(blob: Blob, grid: tuple[int, ...], shape: tuple[int, int]) -> Box:
    """Return the square in which the second stage reads a blob.

    Args:
        blob: from `blobs`.
        grid: its map's (height, width).
        shape: the scan's (height, width).
    """
    left, top, right, bottom = blob.edges
    down, across = shape[0] / grid[0], shape[1] / grid[1]
    longer = max((right - left) * across, (bottom - top) * down)
    return box_around((left + right) / 2 * across, (top + bottom) / 2 * down, longer, shape)


def box_around(x: float, y: float, longer: float, shape: tuple[int, int], context: float = CONTEXT) -> Box:
    """Return the box around a lesion, moved into the scan as far as it fits.

    Args:
        x, y: its centre, scan pixels.
        longer: the longer side of its bounding box, scan pixels.
        shape: the scan's (height, width).
        context: side of the box in units of `longer`.
    """
    side = round(max(longer * context, LEAST_SIDE * min(shape), 8.0))
    left, top = (_moved_in(round(centre - side / 2), side, length) for centre, length in ((x, shape[1]), (y, shape[0])))
    return Box(left, top, side)


def _moved_in(start: int, side: int, length: int) -> int:
    """Shift a stretch into 0..length; where it is longer than that, so that it covers all of it."""
    low, high = sorted((0, length - side))
    return min(max(start, low), high)


def cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Return the pixels of a box, `[side, side]` or `[side, side, C]`; black outside the scan."""
    height, width = pixels.shape[:2]
    piece = np.zeros((box.side, box.side, *pixels.shape[2:]), pixels.dtype)
    top, bottom = max(0, box.y), min(height, box.y + box.side)
    left, right = max(0, box.x), min(width, box.x + box.side)
    if top < bottom and left < right:
        piece[top - box.y : bottom - box.y, left - box.x : right - box.x] = pixels[top:bottom, left:right]
    return piece


def paste(grid: np.ndarray, box: Box, shape: tuple[int, int], fade: float = 0.0) -> np.ndarray:
    """Enlarge maps of a box and put them where the box lies: float32 `[C, H, W]`, 0 elsewhere.

    Args:
        grid: float32 `[C, h, w]`, spanning the box.
        box: as the scan was cut.
        shape: the scan's (height, width).
        fade: over this share of its side the box fades in from its edge, for drawing; 0 keeps every value.
    """
    height, width = shape
    whole = np.zeros((len(grid), height, width), np.float32)
    top, bottom = max(0, box.y), min(height, box.y + box.side)
    left, right = max(0, box.x), min(width, box.x + box.side)
    if top < bottom and left < right:
        from_edge = np.minimum(np.arange(box.side), np.arange(box.side)[::-1]).astype(np.float32)
        ramp = np.clip(from_edge / (fade * box.side), 0, 1) if fade else np.ones(box.side, np.float32)
        for number, plane in enumerate(grid):
            piece = cv2.resize(plane, (box.side, box.side), interpolation=cv2.INTER_LINEAR)
            piece *= ramp[:, None] * ramp
            whole[number, top:bottom, left:right] = piece[top - box.y : bottom - box.y, left - box.x : right - box.x]
    return whole


def merge_lesion(first: np.ndarray, second: np.ndarray, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Return one lesion map of both stages at the scan's size: float32 `[H, W]`, 0..1.

    Args:
        first: float32 `[h, w]`, spanning the scan.
        second: float32 `[h, w]`, spanning the box.
        box: of the second stage.
        shape: the scan's (height, width).

    Returns:
        The product of both inside the box, 0 outside it: the chance that both stages find a lesion, were they
        independent. What only one of them finds stays faint.
    """
    height, width = shape
    whole = cv2.resize(first, (width, height), interpolation=cv2.INTER_LINEAR)
    return whole * paste(second[None], box, shape)[0]
