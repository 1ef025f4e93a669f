"""The words of the trade, measured: what a radiologist would say of an outlined lesion, as numbers with definitions.

>>> rows, columns = np.mgrid[:200, :300]
>>> mask = ((rows - 100) / 40) ** 2 + ((columns - 150) / 80) ** 2 <= 1
>>> scan = np.where(mask, 40, 120).astype(np.uint8)
>>> found = describe(scan, mask, mm_per_pixel=0.1)
>>> found.shape, found.orientation, found.echo, found.posterior, round(found.long_axis)
('oval', 'parallel', 'hypoechoic', 'no posterior features', 16)

Terms are those of the BI-RADS lexicon (American College of Radiology, 5th edition, 2013). They are measured on the
outline and the grey levels, not read by a radiologist: a poor outline gives poor numbers.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.optimize import curve_fit
from scipy.signal import find_peaks
from scipy.spatial import cKDTree
from scipy.special import erf

from bcx.imaging.preprocess import to_grey
from bcx.inference.prediction import Prediction

MEASURED = "measured, not read by a radiologist"
FAT = (0.06, 0.12)  # where it is looked for, in shares of the picture's height: below the skin, above the gland
ROUND, IRREGULAR = 1.15, 0.9  # axis ratio below which an oval is round; area over convex hull below which it is neither
BRIGHTER = 10.0  # grey levels, out of 255, by which tissue must differ to be called brighter or darker
ANECHOIC = 12.0  # grey level inside, below which a lesion is called so
SHARP = 0.15  # width of the margin, as a share of the lesion's diameter, up to which it is called circumscribed
_CORNER, _ARM, _POINTS = 60.0, 0.04, 200  # degrees; share of the outline on either side; points of the outline
_SMALLEST = 8  # pixels across, below which nothing is measured
_MOST = 20_000  # pixels around the outline that are looked at


@dataclass(frozen=True)
class Descriptors:
    """One lesion in numbers and terms, defined in docs/how-to/explain-an-answer.md; lengths are in `unit`.

    Numbers are None where the scan has no room for them (nothing behind the lesion, no fat above it, no edge).
    """

    unit: str  # "mm" or "pixels"
    long_axis: float  # longest diameter of the outline
    width: float  # along the skin
    depth: float  # away from it
    orientation: str
    angle: float  # of the long axis against the skin, degrees, 0 to 90
    shape: str
    circularity: float
    lobulation: float
    axis_ratio: float  # of the ellipse with the same second moments
    margin: str
    margin_width: float | None  # as a share of the diameter
    corners: int
    echo: str
    echo_difference: float | None  # grey levels
    posterior: str
    posterior_difference: float | None  # grey levels

    def to_dict(self) -> dict[str, Any]:
        rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}
        return {**rounded, "note": MEASURED}


def describe_lesion(prediction: Prediction) -> Descriptors | None:
    """Describe the lesion that an answer outlines, the largest where there are several; None where there is none."""
    found = prediction.screen
    if found.lesion is None:
        return None
    # Of a scan larger than a screen, sizes are those of the scan itself.
    scale = prediction.scan.width / found.scan.width
    return describe(found.scan.pixels, found.lesion >= found.outline_level, prediction.scan.mm_per_pixel, scale)


def describe(
    pixels: np.ndarray, mask: np.ndarray, mm_per_pixel: float | None = None, scale: float = 1.0
) -> Descriptors | None:
    """Describe one lesion; None where nothing, or hardly anything, is outlined.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`; the skin is at the top.
        mask: bool `[H, W]`; of several parts the largest is the lesion.
        mm_per_pixel: of the scan; None: lengths are in pixels.
        scale: pixels of the scan for each of `pixels`.
    """
    # scikit-image takes half a second to import, once
    from skimage.measure import label, regionprops

    parts = regionprops(label(mask))
    lesion = max(parts, key=lambda part: part.area, default=None)
    if lesion is None or min(lesion.image.shape) < _SMALLEST:
        return None
    top, left, bottom, right = lesion.bbox
    inside = np.zeros(mask.shape, bool)
    inside[lesion.slice] = lesion.image_filled
    grey = to_grey(pixels).astype(np.float32)
    length = scale * (mm_per_pixel or 1.0)
    diameter = lesion.equivalent_diameter_area
    ratio = lesion.axis_major_length / max(lesion.axis_minor_length, 1e-6)
    angle = abs(90 - abs(np.degrees(lesion.orientation)))  # scikit-image counts it from the vertical
    outline = _outline(inside)
    width, corners = _margin_width(grey, inside, outline), _corners(outline)
    shape = "irregular" if lesion.solidity < IRREGULAR else "round" if ratio < ROUND else "oval"
    sharp = width is not None and width <= SHARP * diameter
    brightness, fat, behind = float(grey[inside].mean()), _fat(grey, mask), _behind(grey, inside, mask)
    echo = None if fat is None else brightness - fat
    word = _word(echo, "hypoechoic", "isoechoic", "hyperechoic") if brightness >= ANECHOIC else "anechoic"
    return Descriptors(
        unit="pixels" if mm_per_pixel is None else "mm",
        long_axis=length * lesion.feret_diameter_max,
        width=length * (right - left),
        depth=length * (bottom - top),
        orientation="parallel" if right - left > bottom - top else "not parallel",
        angle=float(angle),
        shape=shape,
        circularity=float(min(1.0, 4 * np.pi * lesion.area_filled / lesion.perimeter_crofton**2)),
        lobulation=float(1 - lesion.solidity),
        axis_ratio=float(ratio),
        margin="circumscribed" if sharp and not corners else "not circumscribed",
        margin_width=None if width is None else width / diameter,
        corners=corners,
        echo=word,
        echo_difference=echo,
        posterior=_word(behind, "shadowing", "no posterior features", "enhancement"),
        posterior_difference=behind,
    )


def _outline(inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The longest outline (row, column), float64 `[N + 1, 2]`, closed, between pixels; and how far along each is."""
    from skimage.measure import find_contours

    soft = gaussian_filter(np.pad(inside, 4).astype(np.float32), 1)  # takes the staircase away
    line = max(find_contours(soft, 0.5), key=len) - 4
    return line, np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])


def _along(outline: tuple[np.ndarray, np.ndarray], count: int) -> np.ndarray:
    line, along = outline
    places = np.linspace(0, along[-1], count, endpoint=False)
    return np.stack([np.interp(places, along, line[:, axis]) for axis in (0, 1)], axis=1)


def _margin_width(grey: np.ndarray, inside: np.ndarray, outline: tuple[np.ndarray, np.ndarray]) -> float | None:
    """10 to 90 % width in pixels of the mean profile across the outline, fitted by a blurred step."""
    rough = distance_transform_edt(~inside) - distance_transform_edt(inside)
    reach = float(np.clip(-rough.min(), 4, 40))
    pixels = np.argwhere(np.abs(rough) <= reach + 1)
    pixels = pixels[:: math.ceil(len(pixels) / _MOST)]
    distance = cKDTree(_along(outline, math.ceil(5 * outline[1][-1]))).query(pixels)[0]
    rows, columns = pixels.T
    distance[inside[rows, columns]] *= -1
    bins = np.floor(4 * (distance - distance.min())).astype(int)  # a quarter of a pixel wide
    counts = np.bincount(bins)
    there = counts > 0
    x, profile = (np.bincount(bins, each)[there] / counts[there] for each in (distance, grey[rows, columns]))

    def step(x: np.ndarray, low: float, high: float, place: float, blur: float) -> np.ndarray:
        return low + (high - low) * (1 + erf((x - place) / (blur * math.sqrt(2)))) / 2

    limits = ([0, 0, -reach, 0.1], [255, 255, reach, reach])
    start = np.clip((profile[0], profile[-1], 0.0, 2.0), *limits)
    try:
        low, high, _, blur = curve_fit(step, x, profile, start, 1 / np.sqrt(counts[there]), bounds=limits)[0]
    except RuntimeError:  # no convergence
        return None
    return 2.563 * float(blur) if abs(high - low) >= BRIGHTER / 2 else None


def _corners(outline: tuple[np.ndarray, np.ndarray]) -> int:
    """How often the outline turns outwards by more than `_CORNER`."""
    points = _along(outline, _POINTS)
    arm = round(_ARM * _POINTS)
    before, after = points - np.roll(points, arm, axis=0), np.roll(points, -arm, axis=0) - points
    cross, along = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], (before * after).sum(axis=1)
    turn = np.degrees(np.arctan2(cross, along)) * np.sign(cross.sum())  # outwards is positive, whichever way round
    start = int(turn.argmin())  # so that no corner lies across the ends
    return len(find_peaks(np.roll(turn, -start), height=_CORNER, distance=arm)[0])


def _fat(grey: np.ndarray, mask: np.ndarray) -> float | None:
    strip = slice(*(round(share * grey.shape[0]) for share in FAT))
    free = ~mask[strip]
    return float(grey[strip][free].mean()) if free.sum() >= grey.shape[1] / 4 else None


def _behind(grey: np.ndarray, inside: np.ndarray, mask: np.ndarray) -> float | None:
    """Mean grey level from the lesion's lower end down by its depth, its middle half minus half a width beside it."""
    rows, columns = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    top, depth = rows[-1] + 1 + round(0.1 * len(rows)), len(rows)
    left, wide = columns[0], len(columns)
    band = slice(top, top + depth)
    middle = grey[band, left + wide // 4 : left + wide - wide // 4]
    sides = np.zeros(grey.shape, bool)
    gap = max(1, wide // 8)  # shadows of the lesion's own edges
    for start, end in ((left - gap - wide // 2, left - gap), (left + wide + gap, left + wide + gap + wide // 2)):
        sides[band, max(0, start) : max(0, end)] = True
    sides &= ~mask
    if len(middle) < depth / 4 or sides.sum() < middle.size / 4:
        return None
    return float(middle.mean() - grey[sides].mean())


def _word(difference: float | None, darker: str, alike: str, brighter: str) -> str:
    if difference is None:
        return "not known"
    if abs(difference) < BRIGHTER:
        return alike
    return brighter if difference > 0 else darker
