"""The second stage's crop: where the first stage, or a person, sees a lesion, the scan is cut out and read enlarged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from bcx.errors import ConfigError

#: Side of the box, in units of the longer side of the lesion, which is read with its surroundings.
CONTEXT = 1.6
#: The box is never smaller than this share of the scan's shorter side: below it, enlarging shows speckle alone.
LEAST_SIDE = 0.2
#: Least width and height of a box that a person chooses, in pixels.
LEAST_BOX = 8
#: Places of a lesion map that are listed, the heaviest ones.
MOST_LESIONS = 8
#: Left, top, right and bottom in scan pixels.
Edges = tuple[int, int, int, int]


@dataclass(frozen=True)
class Box:
    """A square of the scan, in its pixels; where it sticks out, it is black."""

    x: int
    y: int
    side: int

    def scaled(self, scale: float) -> Box:
        """Return where the box lies in the scan made larger or smaller by a factor."""
        return Box(round(self.x * scale), round(self.y * scale), max(1, round(self.side * scale)))

    def inside(self, shape: tuple[int, ...]) -> Edges:
        """Return its edges, as far as it lies in the scan, whose (height, width) is `shape`."""
        return max(0, self.x), max(0, self.y), min(shape[1], self.x + self.side), min(shape[0], self.y + self.side)


@dataclass(frozen=True)
class Lesion:
    """A place that the first stage takes for a lesion."""

    box: Edges  # around it, to a place of the lesion map
    peak: float  # the lesion map's largest value there, 0..1
    crop: Edges  # the box for `Classifier.predict` that has the second stage read this place, with its surroundings
    read: bool  # whether its centre lies in what the second stage has read

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON."""
        return {"box": list(self.box), "peak": round(self.peak, 4), "crop": list(self.crop), "read": self.read}


def _blobs(lesion: np.ndarray, level: float) -> list[tuple[Edges, float]]:
    """Return the edges and the peak of each connected region at or above a level; the largest sum of values first."""
    _, parts, boxes, _ = cv2.connectedComponentsWithStats((lesion >= level).astype(np.uint8))
    masses = np.bincount(parts.ravel(), lesion.ravel())
    found = []
    for part in sorted(range(1, len(masses)), key=lambda part: -masses[part]):  # 0 is the background
        left, top, width, height, _ = boxes[part].tolist()
        found.append(((left, top, left + width, top + height), float(lesion[parts == part].max())))
    return found


def lesions_of(lesion: np.ndarray, level: float, read: Box, shape: tuple[int, int]) -> tuple[Lesion, ...]:
    """Return the places of the first stage's map at or above a level, the heaviest first, `MOST_LESIONS` at most.

    The map, float32 `[h, w]`, 0..1, spans the scan, (height, width); the second stage has `read` one box.
    """
    down, across = shape[0] / lesion.shape[0], shape[1] / lesion.shape[1]
    found = []
    for edges, peak in _blobs(lesion, level)[:MOST_LESIONS]:
        left, top, right, bottom = edges
        box = round(left * across), round(top * down), round(right * across), round(bottom * down)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        seen = read.x <= x <= read.x + read.side and read.y <= y <= read.y + read.side
        found.append(Lesion(box, peak, _box_of(edges, lesion.shape, shape).inside(shape), seen))
    return tuple(found)


def find_box(lesion: np.ndarray, shape: tuple[int, int]) -> Box:
    """Return the square around the heaviest region above half the maximum of a lesion map, float32 `[h, w]`.

    There always is one, so that every scan is read twice. The map spans the scan, whose (height, width) is `shape`.
    """
    return _box_of(_blobs(lesion, lesion.max() / 2)[0][0], lesion.shape, shape)


def _box_of(edges: Edges, grid: tuple[int, ...], shape: tuple[int, int]) -> Box:
    left, top, right, bottom = edges
    down, across = shape[0] / grid[0], shape[1] / grid[1]
    longer = max((right - left) * across, (bottom - top) * down)
    return box_around((left + right) / 2 * across, (top + bottom) / 2 * down, longer, shape)


def box_around(x: float, y: float, longer: float, shape: tuple[int, int], context: float = CONTEXT) -> Box:
    """Return the box around a lesion, moved into the scan, (height, width), as far as it fits.

    The lesion's bounding box has its centre at `x`, `y` and the side `longer`; `context` is the box's in units of it.
    """
    side = round(max(longer * context, LEAST_SIDE * min(shape), 8.0))
    left, top = (
        sorted((0, round(centre - side / 2), length - side))[1]  # a box larger than the scan covers all of it
        for centre, length in ((x, shape[1]), (y, shape[0]))
    )
    return Box(left, top, side)


def checked_box(box: Any, width: int, height: int) -> Edges:
    """Return a box that a person chose, (left, top, right, bottom) or anything at all, in whole pixels of the scan.

    `ConfigError` where it is not four finite numbers, outside the scan, or less than `LEAST_BOX` pixels wide or high.
    """

    def wrong(expected: str) -> ConfigError:
        return ConfigError(f"The box is {str(box)[:80]}.", expected=expected, remedy="Choose another box.")

    def is_number(edge: Any) -> bool:
        kinds: Any = (int, float, np.integer, np.floating)
        return isinstance(edge, kinds) and not isinstance(edge, bool) and bool(abs(edge) < 1e6)

    row = isinstance(box, (Sequence, np.ndarray)) and not isinstance(box, (str, bytes))
    edges = list(box) if row else []
    if len(edges) != 4 or not all(map(is_number, edges)):
        raise wrong("four numbers: left, top, right and bottom in pixels")
    left, top, right, bottom = (round(float(edge)) for edge in edges)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise wrong(f"left, top, right and bottom within the scan of {width} x {height} pixels")
    if min(right - left, bottom - top) < LEAST_BOX:
        raise wrong(f"at least {LEAST_BOX} pixels in width and height")
    return left, top, right, bottom


def square_of(box: Edges, shape: tuple[int, int], mirrored: bool = False) -> Box:
    """Return the square that the second stage reads for a box, never smaller than that stage's own least one.

    `shape` is the scan's (height, width); `mirrored` gives the place in the scan flipped left to right.
    """
    left, top, right, bottom = box
    square = box_around((left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top), shape, context=1)
    return Box(shape[1] - square.x - square.side, square.y, square.side) if mirrored else square


def cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    """Return the pixels of a box, `[side, side]` or `[side, side, C]`; black outside the scan."""
    piece = np.zeros((box.side, box.side, *pixels.shape[2:]), pixels.dtype)
    left, top, right, bottom = box.inside(pixels.shape)
    if top < bottom and left < right:
        piece[top - box.y : bottom - box.y, left - box.x : right - box.x] = pixels[top:bottom, left:right]
    return piece


def paste(grid: np.ndarray, box: Box, shape: tuple[int, int], fade: float = 0.0) -> np.ndarray:
    """Enlarge maps of a box, float32 `[C, h, w]`, into the scan's (height, width): float32 `[C, H, W]`, 0 elsewhere.

    Over the share `fade` of its side the box fades in from its edge, for drawing; 0 keeps every value.
    """
    whole = np.zeros((len(grid), *shape), np.float32)
    left, top, right, bottom = box.inside(shape)
    if top < bottom and left < right:
        from_edge = np.minimum(np.arange(box.side), np.arange(box.side)[::-1]).astype(np.float32)
        ramp = np.clip(from_edge / (fade * box.side), 0, 1) if fade else np.ones(box.side, np.float32)
        for number, plane in enumerate(grid):
            piece = cv2.resize(plane, (box.side, box.side), interpolation=cv2.INTER_LINEAR)
            piece *= ramp[:, None] * ramp
            whole[number, top:bottom, left:right] = piece[top - box.y : bottom - box.y, left - box.x : right - box.x]
    return whole


def merge_lesion(first: np.ndarray, second: np.ndarray, box: Box, shape: tuple[int, int]) -> np.ndarray:
    """Return the product of both stages' lesion maps at the scan's size, float32 `[H, W]`, 0..1; 0 outside the box.

    It is the chance that both see a lesion, were they independent. The maps, float32 `[h, w]`, span scan and box.
    """
    return cv2.resize(first, shape[::-1], interpolation=cv2.INTER_LINEAR) * paste(second[None], box, shape)[0]
