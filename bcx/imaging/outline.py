"""The lesion map as a picture: an outline, a soft fill, and the frame of what was read again.

The colour says *where*, and is neither of those that say *for* and *against* (`bcx.imaging.overlay`).

>>> import numpy as np
>>> lesion = np.zeros((80, 100), np.float32)
>>> lesion[20:40, 30:60] = 0.9
>>> red, green, blue = lay_outline(np.zeros((80, 100), np.uint8), lesion, level=0.5).getpixel((45, 20))
>>> red > 150, green > 150, blue < 100
(True, True, True)
>>> regions(lesion, level=0.5)
[Region(left=30, top=20, width=30, height=20, area=600)]
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

#: Yellow (Okabe and Ito 2008) stays apart from blue, orange and every grey for all common kinds of colour blindness.
COLOUR = (240, 228, 66)
# Lines have a dark edge, so that they can be seen on light tissue as well.
_EDGE = (16, 16, 16)
_FRAME = (255, 255, 255)
_FILL = 0.4  # of a place that is surely lesion, at full opacity: the tissue below stays visible
_SMALL = 0.1  # a region smaller than this share of the largest is a crumb of it


@dataclass(frozen=True)
class Region:
    """A connected place of a lesion map, in scan pixels: its bounding box, and how many pixels it has."""

    left: int
    top: int
    width: int
    height: int
    area: int


def regions(lesion: np.ndarray, level: float) -> list[Region]:
    """Return the connected places at or above a level, largest first, without crumbs; [] where there are none.

    Args:
        lesion: float32 `[H, W]`, 0..1.
        level: 0..1.
    """
    _, _, boxes, _ = cv2.connectedComponentsWithStats((lesion >= level).astype(np.uint8))
    found = [Region(*(int(value) for value in box)) for box in boxes[1:]]  # the first is the background
    found.sort(key=lambda region: -region.area)
    return [region for region in found if region.area >= _SMALL * found[0].area]


def lay_outline(
    pixels: np.ndarray,
    lesion: np.ndarray,
    level: float,
    opacity: float = 0.5,
    frame: tuple[int, int, int] | None = None,
    thick: int | None = None,
) -> Image.Image:
    """Lay a lesion map over the picture that it belongs to.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        lesion: float32 `[H, W]`, 0..1.
        level: where the outline runs, 0..1.
        opacity: 0 (the picture alone) to 1; lines are at their full strength from one half on.
        frame: (x, y, side) of the part that was read again, in pixels; drawn dashed, as far as it lies in the picture.
        thick: width of the outline in pixels; default: it grows with the picture.

    Returns:
        An RGB picture of the same size.
    """
    scan = pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)
    opacity = float(np.clip(opacity, 0, 1))
    weight = _FILL * opacity * lesion[..., None]
    filled = scan + weight * (np.array(COLOUR, np.float32) - scan)
    drawn = np.ascontiguousarray(np.rint(filled).astype(np.uint8))
    thick = thick or max(1, round(max(lesion.shape) / 280))
    if frame is not None:
        drawn = _with_frame(drawn, frame, max(1, thick // 2))
    lines, _ = cv2.findContours((lesion >= level).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(drawn, lines, -1, _EDGE, thick + 2, cv2.LINE_AA)
    cv2.drawContours(drawn, lines, -1, COLOUR, thick, cv2.LINE_AA)
    return Image.fromarray(np.rint(filled + min(1.0, 2 * opacity) * (drawn - filled)).astype(np.uint8))


def _with_frame(picture: np.ndarray, frame: tuple[int, int, int], thick: int) -> np.ndarray:
    height, width = picture.shape[:2]
    x, y, side = frame
    left, top, right, bottom = max(0, x), max(0, y), min(width, x + side) - 1, min(height, y + side) - 1
    edges = (
        ((left, top), (right, top)),
        ((right, top), (right, bottom)),
        ((right, bottom), (left, bottom)),
        ((left, bottom), (left, top)),
    )
    for colour, line in ((_EDGE, thick + 2), (_FRAME, thick)):
        for start, end in edges:
            _dashes(picture, start, end, colour, line, step=max(4, 8 * thick))
    return picture


def _dashes(
    picture: np.ndarray, start: tuple[int, int], end: tuple[int, int], colour: tuple[int, ...], thick: int, step: int
) -> None:
    first, last = np.array(start, float), np.array(end, float)
    count = max(1, round(float(np.abs(last - first).max()) / step)) | 1  # odd: begins and ends with a dash
    stops = np.rint(np.linspace(first, last, count + 1)).astype(int).tolist()
    for number in range(0, count, 2):
        cv2.line(picture, stops[number], stops[number + 1], colour, thick)
