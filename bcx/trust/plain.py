"""What needs no network to be told from an ultrasound scan, or from tissue under the microscope.

*Plain checks*: tiny, blank, coloured, a page. Their limits were set on true scans of BUSI (672) and BUS-BRA (1,501), so
that they stop next to none; what those measure stands beside each. Where colour counts, only blank images are stopped,
and tissue in other colours than the stain's. *Looks* that no scan of a breast has: a sector's fan, several scans in
one, colour, ripples of a screen, even speckle. Their limits were set on 2,408 true scans of three hospitals and on
drawn pictures (`bcx.evaluate.others.SEEN`).
"""

from functools import lru_cache, reduce

import cv2
import numpy as np

from bcx.imaging.preprocess import resize, to_grey, with_side
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

# Looks. What they stop, by kind: docs/explanation/input-check.md.
COLOUR_PART = 0.015  # share of coloured points; largest of a true scan: .009 (marks, a little flow)
FAINT, FAINT_SHARE = 8, 0.35  # difference of channels that is faint colour, share of such points; at most .05
SIDE = 1024  # longer side at which a picture is looked at, in pixels; smaller ones as they are
STEEP = 0.53  # slope of a fan's sides; of true scans through flat probes with beams that spread: .50 at most
NARROW_TOP = 0.42  # length of a fan's top over its bottom's; of a true scan: .44 at least
SEAM = 0.68  # share of a line across the middle at which the picture jumps; all true scans but one (.79) lie below
FRAMES = 4  # lines anywhere at half of whose length the picture jumps; most in a true scan: 3
RIPPLE = 60.0  # power of one frequency over that around it; largest of a true scan: 41
EVEN = (0.12, 0.012)  # how far tones differ across (third quartile) and from depth to depth (mean), over the mean tone


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
    coloured, green_weakest = chroma_of(points) > STAIN_CHROMA, points[..., 1] <= points[..., ::2].min(axis=-1)
    share = float(coloured.mean())
    return share >= STAIN_SHARE and float((coloured & green_weakest).mean()) >= PINK_SHARE * share


def points_of(pixels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the points of a regular grid over uint8 `[H, W]` or `[H, W, 3]`, and how many pixels lie between two."""
    height, width = pixels.shape[:2]
    step = max(1, int(np.sqrt(height * width / _POINTS)))
    return pixels[: height - 1 : step, : width - 1 : step], step


def chroma_of(points: np.ndarray) -> np.ndarray:
    """Return the largest difference of two channels at each point of uint8 [h, w, 3], uint8 [h, w]."""
    channels = cv2.split(np.ascontiguousarray(points))  # NumPy's maximum along an axis of three is twenty times slower
    return cv2.subtract(reduce(cv2.max, channels), reduce(cv2.min, channels))


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


def look_reasons(pixels: np.ndarray) -> list[str]:
    """Say why a picture, uint8 `[H, W]` or `[H, W, 3]`, is no scan of a breast; nothing where its look may be one's."""
    if pixels.ndim == 3 and (reason := _colour_reason(pixels)):
        return [reason]
    plane = np.ascontiguousarray(pixels if pixels.ndim == 2 else pixels[..., 1])
    plane = with_side(plane, min(SIDE, max(plane.shape)))
    looks = {
        "is a fan, as of a curved or phased probe. Breasts are mostly scanned with a flat one.": is_fan(plane),
        "is made of several, like a split screen or a report. Cut out one scan.": is_split(plane),
        "has the ripples of a photographed screen. Export the scan instead.": ripple(plane) > RIPPLE,
        "shows even speckle, like a test phantom, and no layers of tissue.": is_even(plane),
    }
    return [f"This picture {look}" for look, seen in looks.items() if seen]


def _colour_reason(pixels: np.ndarray) -> str:
    points = points_of(pixels)[0]
    chroma, grey = chroma_of(points), to_grey(points)
    coloured, faint = float((chroma > CHROMA).mean()), float((chroma > FAINT).mean())
    if coloured <= COLOUR_PART and faint <= FAINT_SHARE:
        return ""
    bright = chroma[grey >= 64]  # a tint colours all that is bright
    if (bright > FAINT // 2).mean() >= 0.8 and goes_with_brightness(points, grey):
        return ""
    if coloured > COLOUR_PART:
        return (
            "This picture has colour over the grey, like Doppler, elastography or a screen's frame. "
            "Save the scan without colour, or cut it out."
        )
    return "This picture has faint colours all over, like a photograph of a screen or of paper."


def is_fan(plane: np.ndarray) -> bool:
    """Whether what is lit, in uint8 [H, W], widens downwards between two straight sides like a sector."""
    small = with_side(plane, 256)
    dark = int(np.bincount(small.ravel(), minlength=256)[:24].argmax())
    lit = cv2.morphologyEx((small > dark + 3).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))  # no text
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(lit, np.ones((7, 7), np.uint8)))
    if len(boxes) < 2:
        return False
    lit[parts != 1 + boxes[1:, cv2.CC_STAT_AREA].argmax()] = 0
    rows = np.flatnonzero(lit.any(axis=1))
    ends = lit[rows].argmax(axis=1), lit.shape[1] - 1 - lit[rows, ::-1].argmax(axis=1)
    points = np.concatenate([np.stack([end, rows], axis=1) for end in ends]).astype(np.int32)
    hull = cv2.approxPolyDP(cv2.convexHull(points), 2.5, closed=True)[:, 0].astype(np.float64)
    middle = (ends[0].min() + ends[1].max()) / 2
    sides = []
    for sign, end in zip((-1, 1), ends, strict=True):
        found = [(0.0, 0.0, 0.0, 0.0)]
        for one, other in zip(hull, np.roll(hull, -1, axis=0), strict=True):
            (x0, y0), (x1, y1) = sorted((one, other), key=lambda point: point[1])
            along = (rows >= y0) & (rows <= y1)
            if y1 - y0 < 0.15 * len(small) or sign * (x1 - x0) <= 0 or sign * ((x0 + x1) / 2 - middle) < 0:
                continue
            line = x0 + (rows[along] - y0) * (x1 - x0) / (y1 - y0)
            lying = float((np.abs(end[along] - line) < 3).mean())  # of what is lit on the line
            if lying > 0.3:
                found.append(((y1 - y0) * lying, sign * (x1 - x0) / (y1 - y0), x0, x1))
        sides.append(max(found))
    (_, left, left_top, left_bottom), (_, right, right_top, right_bottom) = sides
    if min(left, right) <= 0 or left + right < 0.4 or abs(left - right) > 0.4 * (left + right):
        return False
    return left + right > 2 * STEEP or right_top - left_top < NARROW_TOP * (right_bottom - left_bottom)


def is_split(plane: np.ndarray) -> bool:
    """Whether uint8 [H, W] jumps along a straight line from edge to edge through its middle, or along many lines."""
    frames = 0
    for picture in (plane, plane.T):
        lines = np.ascontiguousarray(picture[:: max(1, len(picture) // 120)])
        steps = cv2.absdiff(lines[:, 1:], lines[:, :-1]).astype(np.float32)
        some = (steps > 0).astype(np.float32)  # repeated pixels, of a scan enlarged by a viewer, do not count
        around = (cv2.blur(steps, (17, 1)) * 17 - steps) / np.maximum(cv2.blur(some, (17, 1)) * 17 - some, 4)
        jumps = ((steps > 3 * around) & (steps > 8)).mean(axis=0)
        if jumps[len(jumps) // 4 : 3 * len(jumps) // 4].max() > SEAM:
            return True
        at = np.flatnonzero(jumps > 0.5)
        frames += len(at) and 1 + int((np.diff(at) > 3).sum())
    return frames >= FRAMES


def ripple(plane: np.ndarray) -> float:
    """How far the strongest slanting wave in the middle of uint8 [H, W], 3 to 12 pixels long, stands out; 0 if tiny."""
    side = min(256, *plane.shape)
    if side < 128:
        return 0.0
    top, left = ((length - side) // 2 for length in plane.shape)
    middle = plane[top : top + side, left : left + side].astype(np.float32)
    window, slants = _waves(side)
    waves = cv2.dft((middle - middle.mean()) * window, flags=cv2.DFT_COMPLEX_OUTPUT)
    power = np.fft.fftshift(waves[..., 0] ** 2 + waves[..., 1] ** 2)
    return float((power[slants] / (cv2.blur(power, (31, 31))[slants] + 1e-6)).max())


@lru_cache(maxsize=8)
def _waves(side: int) -> tuple[np.ndarray, np.ndarray]:
    """A window, float32 [S, S], and which shifted frequencies are asked for, bool [S, S]."""
    window = np.hanning(side).astype(np.float32)
    steps = np.abs(np.fft.fftshift(np.fft.fftfreq(side)))
    length = np.hypot(steps[:, None], steps)
    slants = (steps > 3 / side)[:, None] & (steps > 3 / side)  # along the axes lie layers, shadows and letters
    return window[:, None] * window, slants & (length > 1 / 12) & (length < 1 / 3)


def is_even(plane: np.ndarray) -> bool:
    """Whether the tones of uint8 [H, W] differ next to nothing across and from depth to depth."""
    smooth = cv2.GaussianBlur(resize(plane, 96, 96).astype(np.float32), (0, 0), 2.0)
    depths = np.median(smooth, axis=1, keepdims=True)
    inner, tone = slice(14, -14), max(float(smooth.mean()), 8.0)
    across = float(np.quantile(np.abs(smooth - depths)[inner], 0.75)) / tone
    deep = float(np.abs(np.diff(depths[10:-10, 0])).mean()) / tone
    return across < EVEN[0] and deep < EVEN[1]
