"""Places of a scan that the second stage can read: a box that a person chose, and what looks like a lesion.

>>> checked_box((20, 30.4, 120, 90), 200, 160)
(20, 30, 120, 90)
>>> square_of((20, 30, 120, 90), (160, 200))
Box(x=20, y=10, side=100)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bcx.errors import ConfigError
from bcx.imaging.crop import Box, blobs, box_around, box_of

#: Left, top, right and bottom in scan pixels.
Edges = tuple[int, int, int, int]
#: Least width and height of a box that a person chooses, in pixels.
LEAST_BOX = 8
#: Places of a lesion map that are listed, the heaviest ones.
MOST_LESIONS = 8


@dataclass(frozen=True)
class Lesion:
    """A place that the first stage takes for a lesion.

    Attributes:
        box: (left, top, right, bottom) around it, scan pixels, to a place of the lesion map.
        peak: the lesion map's largest value there, 0..1.
        crop: the box for `Classifier.predict` that has the second stage read this place, with its surroundings.
        read: whether its centre lies in what the second stage has read.
    """

    box: Edges
    peak: float
    crop: Edges
    read: bool

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON."""
        return {"box": list(self.box), "peak": round(self.peak, 4), "crop": list(self.crop), "read": self.read}


def checked_box(box: Any, width: int, height: int) -> Edges:
    """Return a box in whole pixels.

    Args:
        box: left, top, right and bottom in pixels, anything at all.
        width, height: of the scan, pixels.

    Raises:
        ConfigError: not four finite numbers, outside the scan, or less than `LEAST_BOX` pixels wide or high.
    """
    row = isinstance(box, (Sequence, np.ndarray)) and not isinstance(box, (str, bytes))
    edges = list(box) if row else []
    if len(edges) != 4 or not all(map(_is_number, edges)):
        raise _wrong(box, "four numbers: left, top, right and bottom in pixels")
    left, top, right, bottom = (round(float(edge)) for edge in edges)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise _wrong(box, f"left, top, right and bottom within the scan of {width} x {height} pixels")
    if min(right - left, bottom - top) < LEAST_BOX:
        raise _wrong(box, f"at least {LEAST_BOX} pixels in width and height")
    return left, top, right, bottom


def square_of(box: Edges, shape: tuple[int, int], mirrored: bool = False) -> Box:
    """Return the square that the second stage reads for a box: around it, moved into the scan as far as it fits.

    It is never smaller than the second stage's own least square.

    Args:
        box: from `checked_box`.
        shape: the scan's (height, width).
        mirrored: return its place in the scan flipped left to right.
    """
    left, top, right, bottom = box
    square = box_around((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top), shape, context=1)
    return Box(shape[1] - square.x - square.side, square.y, square.side) if mirrored else square


def inside(box: Box, shape: tuple[int, int]) -> Edges:
    """Return the edges of a square, as far as it lies in the scan, whose (height, width) is `shape`."""
    height, width = shape
    return max(0, box.x), max(0, box.y), min(width, box.x + box.side), min(height, box.y + box.side)


def lesions_of(lesion: np.ndarray, level: float, read: Box, shape: tuple[int, int]) -> tuple[Lesion, ...]:
    """Return the places of the first stage's map at or above a level, the heaviest first, `MOST_LESIONS` at most.

    Args:
        lesion: float32 `[h, w]`, 0..1, spanning the scan.
        level: 0..1.
        read: what the second stage has read.
        shape: the scan's (height, width).
    """
    down, across = shape[0] / lesion.shape[0], shape[1] / lesion.shape[1]
    found = []
    for blob in blobs(lesion, level)[:MOST_LESIONS]:
        left, top, right, bottom = blob.edges
        box = round(left * across), round(top * down), round(right * across), round(bottom * down)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        seen = read.x <= x <= read.x + read.side and read.y <= y <= read.y + read.side
        found.append(Lesion(box, blob.peak, inside(box_of(blob, lesion.shape, shape), shape), seen))
    return tuple(found)


def _is_number(value: Any) -> bool:
    kinds: Any = (int, float, np.integer, np.floating)
    return isinstance(value, kinds) and not isinstance(value, bool) and bool(abs(value) < 1e6)


def _wrong(box: Any, expected: str) -> ConfigError:
    return ConfigError(f"The box is {str(box)[:80]}.", expected=expected, remedy="Choose another box.")
