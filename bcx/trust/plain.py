"""Plain checks: what needs no network to be told from an ultrasound scan, or from tissue under the microscope.

The limits were set on true scans of BUSI (672) and BUS-BRA (1,501), so that they stop next to none; what those measure
stands beside each. Where colour counts, only blank images are stopped, and tissue in other colours than the stain's.
"""

from __future__ import annotations

import numpy as np

from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan
from bcx.tasks import BREAST_ULTRASOUND, Task

_POINTS = 20_000  # about so many points of a regular grid are counted: right to within a percent, quick at any size
TINY = 96  # shorter side in pixels; smallest true scan: 190
LONGEST = 6.0  # longer side over shorter side; largest of a true scan: 3.22
BLANK_RANGE = 24  # grey levels between the 1st and 99th percentile; smallest range of a true scan: 72
PAGE_SHARE = 0.25  # share of points that are bright and even with their neighbours; largest of a true scan: .074
TONE_SHARE = 0.55  # share of points of one single tone, black left out; largest of a true scan: .30
CHROMA = 40  # difference of two channels from which a point is coloured
COLOUR_SHARE = 0.35  # share of coloured points; largest of a true scan: .009 (marks of the scanner)
COLOUR_FLAG = 0.001  # share of coloured points from which colour is worth a word
TINT = 0.25  # a tint (sepia, blue) goes with brightness: what is left without it, as a share of all colour
STAIN_CHROMA, STAIN_SHARE = 20, 0.005  # as `CHROMA`, and least share of coloured points, of stained tissue
PINK_SHARE = 0.75  # least share of its coloured points in which green is the weakest colour
_UNSTAINED = (
    "This picture does not have the colours of tissue stained with haematoxylin and eosin (pink and purple). "
    "It may be bare glass, another stain, or no microscope picture."
)


def shape_reason(width: int, height: int) -> str:
    """Say why an image of this size, in pixels, is no scan; "" where its shape may be one's.

    Asked before a network is: the second stage reads a square, and of 16 x 20,000 pixels that would be one of 20,000.
    """
    if max(width, height) <= LONGEST * min(width, height):
        return ""
    return f"This picture is far too long and narrow ({width:,} x {height:,} pixels) to be a scan."


def plain_checks(scan: Scan, task: Task = BREAST_ULTRASOUND) -> tuple[list[str], list[str]]:
    """Return why an image is no scan, told without a network: sentences, the plainest first (none: it passes).

    And flags: sentences worth saying about it without stopping it.
    """
    points, step = points_of(scan.pixels)
    grey = to_grey(points)
    tones = np.bincount(grey.ravel(), minlength=256) / grey.size
    below = np.cumsum(tones)
    if np.searchsorted(below, 0.99) - np.searchsorted(below, 0.01) < BLANK_RANGE:
        return ["This picture is blank: it shows one even tone."], []
    if not task.grey:
        if task.augmentation == "histology":
            return ([] if is_stained(points) else [_UNSTAINED]), []
        colourless = points.ndim == 2 or _colours(points, grey)[0] <= COLOUR_FLAG
        return [], [f"The picture has no colour, which a {task.image_noun} has."] if colourless else []
    reasons: list[str] = []
    flags: list[str] = []
    if min(scan.height, scan.width) < TINY:
        reasons.append(f"This picture is tiny ({scan.width} x {scan.height} pixels), too small to read a scan from.")
    if points.ndim == 3:
        coloured, tinted = _colours(points, grey)
        if coloured > COLOUR_SHARE and not tinted:
            reasons.append("This picture has strong colours, like a photograph. A breast ultrasound scan is grey.")
        elif coloured > COLOUR_FLAG:
            what = "is tinted" if tinted else "has coloured parts"
            flags.append(f"The picture {what}; the model reads its brightness only.")
    if _bright_and_even(scan.pixels, step) > PAGE_SHARE:
        reasons.append("This picture has large bright even areas, like a page of text, a drawing or a screenshot.")
    elif tones[12:].max() > TONE_SHARE:
        reasons.append("Most of this picture has one single tone, like a drawing or a screenshot.")
    return reasons, flags


def is_stained(points: np.ndarray) -> bool:
    """Tell whether points, uint8 `[h, w]` or `[h, w, 3]`, may show tissue stained with haematoxylin and eosin.

    Both dyes take up green most. Of 1,500 patches of 223 patients 1.7 % fail (nearly bare glass, brown folds), of 590
    photographs, documents, drawings, scans and other stains 99.3 %.
    """
    if points.ndim == 2:
        return False
    red, green, blue = (points[..., channel].astype(np.int16) for channel in range(3))
    lower, higher = np.minimum(red, blue), np.maximum(red, blue)
    coloured = np.maximum(higher, green) - np.minimum(lower, green) > STAIN_CHROMA
    share = float(coloured.mean())
    return share >= STAIN_SHARE and float((coloured & (green <= lower)).mean()) >= PINK_SHARE * share


def points_of(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the points of a regular grid over uint8 `[H, W]` or `[H, W, 3]`, and how many pixels lie between two."""
    height, width = pixels.shape[:2]
    step = max(1, int(np.sqrt(height * width / _POINTS)))
    return pixels[: height - 1 : step, : width - 1 : step], step


def chroma_of(points: np.ndarray) -> np.ndarray:
    """Return the largest difference of two channels at each point of uint8 [h, w, 3], uint8 [h * w]."""
    # Channel by channel: NumPy's maximum along an axis of three is twenty times slower.
    red, green, blue = (points[..., channel].ravel() for channel in range(3))
    return np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)


def _colours(points: np.ndarray, grey: np.ndarray) -> tuple[float, bool]:
    """The share of coloured points of uint8 [h, w, 3], and whether their colour is a mere tint."""
    share = float((chroma_of(points) > CHROMA).mean())
    return share, share > COLOUR_SHARE and goes_with_brightness(points, grey)


def goes_with_brightness(points: np.ndarray, grey: np.ndarray) -> bool:
    """Whether the colour of uint8 [h, w, 3] follows from the grey level, as a tint's does."""
    red, green, blue = (points[..., channel].ravel() for channel in range(3))
    level = grey.ravel() >> 4
    counts = np.maximum(np.bincount(level, minlength=16), 1)
    left = total = 0.0
    for channel in (red, blue):
        opponent = channel.astype(np.float32) - green
        usual = (np.bincount(level, opponent, 16) / counts).astype(np.float32)
        left += float(np.abs(opponent - usual[level]).sum())
        total += float(np.abs(opponent).sum())
    return left < TINT * total


def _bright_and_even(pixels: np.ndarray, step: int) -> float:
    """The share of points that are bright and no more than one level off the next pixel to their right."""
    here, beside = (to_grey(pixels[:-1:step, start : pixels.shape[1] - 1 + start : step]) for start in (0, 1))
    steady = np.maximum(here, beside) - np.minimum(here, beside) <= 1
    return float((steady & (here >= 160)).mean())
