"""Class maps and lesion maps as images over the scan that they belong to.

What speaks for a class is purple, what speaks against it green, a lesion is yellow, unless a `MapStyle` says otherwise.
Nothing is transparent, since nothing is stretched image by image.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from PIL import Image

from bcx.imaging.crop import Box
from bcx.imaging.preprocess import to_grey
from bcx.imaging.style import STYLE, MapStyle

#: The scale never spans less than this many logit units, so that faint evidence stays faint.
LEAST_LIMIT = 4.0
#: Share of all places whose evidence the scale can tell apart.
REACH = 0.995

# Equally light, so that neither looks stronger; apart for all common kinds of colour blindness, and far from grey.
_AGAINST = np.array([92, 158, 0], np.float32)
_NONE = np.array([255, 255, 255], np.float32)
_FOR = np.array([182, 95, 230], np.float32)

#: Yellow (Okabe and Ito 2008) stays apart from blue, orange and every grey for all common kinds of colour blindness.
COLOUR = (240, 228, 66)
_CV2 = {"turbo": cv2.COLORMAP_TURBO, "viridis": cv2.COLORMAP_VIRIDIS}
_BRIGHT = 0.85  # of a colour map towards either end: turbo's ends are too dark to be seen on a scan
_LEVELS = (0.25, 0.5, 0.75)  # of the scale, where a map's contour lines run
_EDGE = (16, 16, 16)  # of lines, so that they can be seen on light tissue as well
_FRAME = (255, 255, 255)
_FILL = 0.4  # of a place that is surely lesion, at full opacity: the tissue below stays visible
_SMALL = 0.1  # a region smaller than this share of the largest is a crumb of it


def scale_limit(maps: np.ndarray) -> float:
    """Return the end of the colour scale that all maps of one answer share, float32 `[C, h, w]`, in logit units.

    It is the magnitude that `REACH` of the places stay within, a small lesion's peak being ten times the rest of it;
    rounded up to a whole number, at least `LEAST_LIMIT`.
    """
    magnitudes = np.abs(maps).ravel()
    place = math.ceil(REACH * (magnitudes.size - 1))
    return float(max(LEAST_LIMIT, math.ceil(float(np.partition(magnitudes, place)[place]))))


def colourise(values: np.ndarray, limit: float, style: MapStyle = STYLE) -> np.ndarray:
    """Paint evidence, float32 `[H, W]`, as uint8 `[H, W, 3]`: white for none, full colour from the `limit` on."""
    share, full = _coloured(values, limit, style)
    return np.rint(_NONE + np.abs(share) * (full - _NONE)).astype(np.uint8)


def _coloured(values: np.ndarray, limit: float, style: MapStyle) -> tuple[np.ndarray, np.ndarray]:
    """Return -1..1 and the colour that it stands for, float32 `[H, W, 1]` and `[H, W, 3]`."""
    share = np.clip(values / limit, -1, 1)[..., None]
    if style.colours == "signed":
        return share, np.where(share < 0, _AGAINST, _FOR)
    if style.colours == "grey":
        return share, np.where(share < 0, np.float32(0), np.float32(255)).repeat(3, axis=2)
    steps = np.rint(127.5 * (1 + _BRIGHT * share[..., 0])).astype(np.uint8)
    return share, cv2.applyColorMap(steps, _CV2[style.colours])[..., ::-1].astype(np.float32)


def lay_over(
    pixels: np.ndarray, values: np.ndarray, limit: float, opacity: float, style: MapStyle = STYLE
) -> Image.Image:
    """Lay one class's evidence, float32 `[H, W]`, over the scan, uint8 `[H, W]` or `[H, W, 3]`, in RGB.

    `limit` is as in `colourise`; opacity 0 leaves the scan alone, 1 gives full colour where evidence is strongest. The
    scan's own colours fade to grey, and contour lines reach their full strength, from one half on.
    """
    scan, opacity = _in_colour(pixels), float(np.clip(opacity, 0, 1))
    if pixels.ndim == 3:  # purple on a stain's pink could not be seen, so colours give way
        scan = scan + min(1.0, 2 * opacity) * (to_grey(pixels)[..., None] - scan.astype(np.float32))
    share, colour = _coloured(values, limit, style)
    if style.contour:
        lines = np.ascontiguousarray(np.rint(scan).astype(np.uint8))
        for level in (sign * level for level in _LEVELS for sign in (-1, 1)):
            _, line = _coloured(np.array([[level]], np.float32), 1.0, style)
            _outline(lines, share[..., 0] * np.sign(level) >= abs(level), line[0, 0], cv2.RETR_LIST, _thickness(lines))
        colour, weight = lines.astype(np.float32), min(1.0, 2 * opacity)
    else:
        weight = opacity * np.abs(share)
    return Image.fromarray(np.rint(scan + weight * (colour - scan)).astype(np.uint8))


def _outline(image: np.ndarray, inside: np.ndarray, colour: Sequence[float], kind: int, thick: int) -> None:
    """Draw the edge of what is inside, bool `[H, W]`, into an image."""
    lines, _ = cv2.findContours(inside.astype(np.uint8), kind, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(image, lines, -1, _EDGE, thick + 2, cv2.LINE_AA)
    cv2.drawContours(image, lines, -1, [float(value) for value in colour], thick, cv2.LINE_AA)


def _thickness(image: np.ndarray) -> int:
    return max(1, round(max(image.shape) / 280))


def _in_colour(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else np.repeat(pixels[:, :, None], 3, axis=2)


def regions(lesion: np.ndarray, level: float) -> list[tuple[int, int, int, int]]:
    """Return (left, top, width, height) of the places of a map at or above a level, largest first, without crumbs."""
    _, _, boxes, _ = cv2.connectedComponentsWithStats((lesion >= level).astype(np.uint8))
    found = sorted(boxes[1:].tolist(), key=lambda box: -box[4])  # the first is the background, the last number an area
    return [(left, top, width, height) for left, top, width, height, area in found if area >= _SMALL * found[0][4]]


def lesion_colours(lesion: np.ndarray, style: MapStyle) -> np.ndarray:
    """Return the colours of a lesion map's filling, float32 `[H, W, 3]`, or one `[3]` for all places."""
    return np.array(COLOUR, np.float32) if style.colours == "signed" else _coloured(lesion, 1.0, style)[1]


def lay_outline(
    pixels: np.ndarray,
    lesion: np.ndarray,
    level: float,
    opacity: float = 0.5,
    frame: tuple[int, int, int] | None = None,
    thick: int | None = None,
    style: MapStyle = STYLE,
) -> Image.Image:
    """Lay a lesion map, float32 `[H, W]`, 0..1, over its scan, uint8 `[H, W]` or `[H, W, 3]`, in RGB.

    Args:
        level: where the outline runs, 0..1.
        opacity: 0 (the scan alone) to 1; lines are at their full strength from one half on.
        frame: (x, y, side) of the second stage's crop, in pixels; drawn dashed, as far as it lies in the scan.
        thick: width of the outline in pixels; default: it grows with the scan.
        style: a contour is the outline alone; it is yellow in all colours.
    """
    scan, opacity = _in_colour(pixels), float(np.clip(opacity, 0, 1))
    weight = 0.0 if style.contour else _FILL * opacity * lesion[..., None]
    filled = scan + weight * (lesion_colours(lesion, style) - scan)
    drawn = np.ascontiguousarray(np.rint(filled).astype(np.uint8))
    thick = thick or _thickness(lesion)
    if frame is not None:
        _draw_frame(drawn, frame, max(1, thick // 2))
    _outline(drawn, lesion >= level, COLOUR, cv2.RETR_EXTERNAL, thick)
    return Image.fromarray(np.rint(filled + min(1.0, 2 * opacity) * (drawn - filled)).astype(np.uint8))


def _draw_frame(image: np.ndarray, frame: tuple[int, int, int], thick: int) -> None:
    left, top, right, bottom = Box(*frame).inside(image.shape)
    right, bottom = right - 1, bottom - 1
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], float)
    for colour, line in ((_EDGE, thick + 2), (_FRAME, thick)):
        for start, end in pairwise(corners):
            dashes = round(float(np.abs(end - start).max()) / (8 * thick))
            count = max(1, dashes) | 1  # odd: begins and ends with a dash
            stops = np.rint(np.linspace(start, end, count + 1)).astype(int).tolist()
            for number in range(0, count, 2):
                cv2.line(image, stops[number], stops[number + 1], colour, line)
