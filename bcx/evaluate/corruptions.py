"""A fixed suite of changes that another scanner, or another person's habits, bring to a scan.

Every change leaves the lesion in the image and readable; what a network makes of the changed scan shows whether it
has learnt lesions or the look of one hospital's images. Names and strengths are part of the measurement: another
suite gives other figures (`suite_fingerprint` tells them apart).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bcx.errors import DataError
from bcx.imaging.preprocess import resize

_SIDES = ("RT", "LT", "RT BREAST", "LT BREAST", "R", "L")
_PLACES = ("UOQ", "LIQ", "10 O'CLOCK", "3:00 N4", "SUBAREOLAR", "RAD", "TRV")
_SETTINGS = ("FR 22Hz", "B 12 MHz", "GN 54", "MI 0.9", "TIS 0.3", "DR 66", "MAP E/0", "PWR 100 %")

# A function that carries any plane of one scan along: its pixels or its mask.
Carry = Callable[[np.ndarray], np.ndarray]
Lesion = np.ndarray | None
# From pixels, the lesion's mask if there is one, the strength and a source of chance: new grey values, or where things
# move.
Change = Callable[[np.ndarray, Lesion, float, np.random.Generator], np.ndarray | Carry]


@dataclass(frozen=True)
class Corruption:
    """One change, as `sentence` says; `strength` sets how much. Call it with a scan, and its lesion's mask if any."""

    name: str
    strength: float
    change: Change
    sentence: str

    def __call__(self, pixels: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the changed scan, uint8 `[H', W']`, and its mask, bool; the same input gives the same output, always.

        Where things move the mask moves too, and no change hides the lesion; without a mask, a crop is taken about the
        middle. `DataError` for another dtype or shape than uint8 `[H, W]` and bool `[H, W]`.
        """
        fits = mask is None or (mask.shape == pixels.shape and mask.dtype == np.bool_)
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.size == 0 or not fits:
            given = "no mask" if mask is None else f"a mask of shape {mask.shape} and type {mask.dtype}"
            raise DataError(
                f"An image of shape {pixels.shape} and type {pixels.dtype} with {given} was given to '{self.name}'.",
                expected="one grey plane, uint8 [H, W], and no mask or one of the same shape, bool",
                remedy="Turn it grey with bcx.imaging.preprocess.to_grey, read masks with bcx.data.records.load_mask.",
            )
        # Chance depends on the image's content alone, so that neither order nor company changes anything.
        content = repr((self.name, pixels.shape)).encode() + pixels.tobytes()
        chance = np.random.default_rng(int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big"))
        changed = self.change(pixels, mask if mask is not None and mask.any() else None, self.strength, chance)
        if isinstance(changed, np.ndarray):
            return changed, mask
        return changed(pixels), None if mask is None else changed(mask.astype(np.uint8) * 255) > 127


def _side(pixels: np.ndarray) -> float:
    """Return the geometric mean of height and width: what sizes of marks, grain and blur are measured by."""
    return float(np.sqrt(pixels.size))


# ---------------------------------------------------------------- geometry


def _window(left: int, top: int, width: int, height: int) -> Carry:
    """See a plane through a window that may stick out of it, where it is black."""
    return lambda plane: np.array(Image.fromarray(plane).crop((left, top, left + width, top + height)))


def _holding(start: float, length: float, lesion: Lesion, axis: int, full: int) -> tuple[int, int]:
    """Shift, or if need be lengthen, a stretch of an axis (0 down, 1 right) until the lesion is in it, whole pixels."""
    low, high = full, 0
    if lesion is not None:
        found = np.flatnonzero(lesion.any(axis=1 - axis))
        margin = round(0.03 * full)
        low, high = max(0, int(found[0]) - margin), min(full, int(found[-1]) + 1 + margin)
    size = int(np.clip(max(round(length), high - low), 1, full))
    first = max(min(round(start), low), high - size)
    return int(np.clip(first, 0, full - size)), size


def _zoom_out(pixels: np.ndarray, lesion: Lesion, share: float, _: object) -> Carry:
    height, width = pixels.shape
    tall, wide = round(height / share), round(width / share)
    return _window(-((wide - width) // 2), -((tall - height) // 2), wide, tall)


def _zoom_in(pixels: np.ndarray, lesion: Lesion, share: float, _: object) -> Carry:
    height, width = pixels.shape
    for axis, full in enumerate((height, width)):  # a lesion larger than the window widens it in both directions
        share = max(share, _holding(0, share * full, lesion, axis, full)[1] / full)
    top, tall = _holding((1 - share) / 2 * height, share * height, lesion, 0, height)
    left, wide = _holding((1 - share) / 2 * width, share * width, lesion, 1, width)
    return _window(left, top, wide, tall)


def _scan_area(pixels: np.ndarray, lesion: Lesion, inset: float, _: object) -> Carry:
    """The bounding box of the largest lit region, and a little less of it on every side."""
    height, width = pixels.shape
    reach = max(1, round(_side(pixels) / 25))
    lit = cv2.blur(pixels, (reach, reach)) > 20
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lit.astype(np.uint8))
    if len(boxes) < 2:  # all black
        return _window(0, 0, width, height)
    left, top, wide, tall, _ = (int(value) for value in boxes[1 + boxes[1:, cv2.CC_STAT_AREA].argmax()])
    y, rows = _holding(top + inset * tall, (1 - 2 * inset) * tall, lesion, 0, height)
    x, columns = _holding(left + inset * wide, (1 - 2 * inset) * wide, lesion, 1, width)
    return _window(x, y, columns, rows)


def _widen(pixels: np.ndarray, lesion: Lesion, factor: float, _: object) -> Carry:
    """Resample the width on an unchanged canvas: black at the sides where it shrinks, cut off where it grows."""
    height, width = pixels.shape
    if factor < 1:
        wide = max(1, round(width * factor))
        pad = _window(-((width - wide) // 2), 0, width, height)
        return lambda plane: pad(resize(plane, wide, height))
    left, kept = _holding((1 - 1 / factor) / 2 * width, width / factor, lesion, 1, width)
    return lambda plane: resize(np.ascontiguousarray(plane[:, left : left + kept]), width, height)


def _shallow(pixels: np.ndarray, lesion: Lesion, share: float, _: object) -> Carry:
    height, width = pixels.shape
    depth = share * height
    if lesion is not None:  # the skin stays at the top; a deep lesion leaves more depth
        depth = max(depth, np.flatnonzero(lesion.any(axis=1))[-1] + 1 + 0.03 * height)
    return _window(0, 0, width, int(np.clip(np.ceil(depth), 1, height)))


def _screen(pixels: np.ndarray, lesion: Lesion, factor: float, _: object) -> Carry:
    height, width = pixels.shape
    return _window(-round(0.05 * width), -round(0.1 * height), round(factor * width), round(factor * height))


def _fan(pixels: np.ndarray, lesion: Lesion, opening: float, _: object) -> Carry:
    """Bend the rectangle into a fan whose arc in the middle is as long as the scan is wide.

    The fan opens by `opening` degrees, or by less where a narrow scan would be pinched at the probe.
    """
    height, width = pixels.shape
    half = min(np.deg2rad(opening) / 2, width / (2.2 * height))
    probe = width / (2 * half) - height / 2  # the radius of the probe's surface: at least 0.6 of the depth
    deepest = probe + height
    left, top = deepest * np.sin(half), probe * np.cos(half)
    x = np.arange(max(1, round(2 * left)), dtype=np.float32)[None] + np.float32(0.5 - left)
    y = np.arange(max(1, round(deepest - top)), dtype=np.float32)[:, None] + np.float32(0.5 + top)
    columns = ((np.arctan2(x, y) / (2 * half) + 0.5) * width - 0.5).astype(np.float32)
    rows = (np.hypot(x, y) - probe - 0.5).astype(np.float32)
    return lambda plane: cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


# ---------------------------------------------------------------- grey values


def _curve(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Send every grey value v to values[v]."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)[pixels]


def _gamma(pixels: np.ndarray, lesion: Lesion, power: float, _: object) -> np.ndarray:
    return _curve(pixels, 255 * (np.arange(256) / 255) ** power)


def _contrast(pixels: np.ndarray, lesion: Lesion, factor: float, _: object) -> np.ndarray:
    tissue = pixels[pixels > 8]  # a black margin would pull the middle down
    middle = float(tissue.mean()) if tissue.size else 0.0
    return _curve(pixels, middle + factor * (np.arange(256) - middle))


def _depth_gain(pixels: np.ndarray, lesion: Lesion, last: float, _: object) -> np.ndarray:
    return np.rint(pixels * np.linspace(1, last, len(pixels))[:, None]).astype(np.uint8)


def _blur(pixels: np.ndarray, lesion: Lesion, share: float, _: object) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(0.3, share * _side(pixels)))


def _speckle(pixels: np.ndarray, lesion: Lesion, spread: float, chance: np.random.Generator) -> np.ndarray:
    """Multiply by grain of mean 1 and standard deviation `spread`, whose grains are 1/250 of the side."""
    height, width = pixels.shape
    coarse = chance.standard_normal(np.ceil(np.divide(pixels.shape, max(1.0, _side(pixels) / 250))).astype(int))
    field = np.asarray(cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR))
    scale = np.float32(spread / max(float(field.std()), 0.5))  # enlarging has smoothed it
    return np.clip(np.rint(pixels * (1 + scale * field)), 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray, lesion: Lesion, quality: float, _: object) -> np.ndarray:
    _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))


# ---------------------------------------------------------------- burnt-in marks


def find_marks(pixels: np.ndarray) -> np.ndarray:
    """Return bool `[H, W]`, True on burnt-in text, calipers, dotted lines and rulers of a scan, uint8 `[H, W]`.

    They are near white, stand out from their surroundings by far, and each stroke is thin and each sign small. Bright
    tissue is thicker, or not as bright; single grains of a very bright scan may be taken for marks.
    """
    side = _side(pixels)
    stroke = 2 * max(1, round(side / 150)) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (stroke, stroke))
    rise = cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, element)
    core = ((pixels >= 190) & (rise >= 100)).astype(np.uint8)
    _, parts, boxes, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    small = boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1) <= max(3, side / 8)
    small[0] = False  # the background
    return small[parts]


def _grown_marks(pixels: np.ndarray, reach: float) -> np.ndarray:
    """Marks and their soft edge, which goes `reach` of the image's side far (1 pixel at least): uint8 `[H, W]`."""
    size = 2 * max(1, round(reach * _side(pixels))) + 1
    return cv2.dilate(find_marks(pixels).astype(np.uint8), np.ones((size, size), np.uint8))


def _remove_marks(pixels: np.ndarray, lesion: Lesion, reach: float, _: object) -> np.ndarray:
    """Paint marks over from their surroundings (fast marching; Telea 2004); without marks, a copy."""
    marks = _grown_marks(pixels, reach)
    if not marks.any() or 1 in pixels.shape:  # in a single row or column OpenCV's result differs from call to call
        return pixels.copy()
    return cv2.inpaint(pixels, marks, 3, cv2.INPAINT_TELEA)


def _invert_marks(pixels: np.ndarray, lesion: Lesion, reach: float, _: object) -> np.ndarray:
    """Turn marks from white on black to black on white."""
    return np.where(_grown_marks(pixels, reach) > 0, 255 - pixels, pixels)


def _far_from(lesion: Lesion, places: np.ndarray, chance: np.random.Generator) -> int:
    """Return the number of the place (float `[N, 2]`, x and y as shares) farthest from the lesion, else any."""
    if lesion is None:
        return int(chance.integers(len(places)))
    rows, columns = np.nonzero(lesion)
    centre = np.array([columns.mean() / lesion.shape[1], rows.mean() / lesion.shape[0]])
    return int(((places - centre) ** 2).sum(axis=1).argmax())


def write_text(pixels: np.ndarray, lesion: Lesion, size: float, chance: np.random.Generator) -> np.ndarray:
    """Write two lines in the corner farthest from the lesion, and a ruler along the edge on the other side.

    `size` is the height of the letters as a share of the image's side. Without a lesion, chance picks the corner.
    """
    height, width = pixels.shape
    letter = max(4, round(size * _side(pixels)))
    image = Image.fromarray(pixels)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(letter)
    corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]], float)
    right, below = corners[_far_from(lesion, corners, chance)].astype(int)
    annotation = f"{chance.choice(_SIDES)} {chance.choice(_PLACES)}"
    lines = (annotation, " ".join(chance.choice(_SETTINGS, 2, replace=False)))
    for number, line in enumerate(lines):
        x = width - letter - draw.textlength(line, font=font) if right else letter
        y = height - (2.6 - 1.2 * number) * letter if below else (0.4 + 1.2 * number) * letter
        draw.text((x, y), line, fill=255, font=font)
    edge = letter // 2 if right else width - 1 - letter // 2
    for number, y in enumerate(np.linspace(0.05 * height, 0.95 * height, 11)):
        tick = letter // (1 if number % 5 == 0 else 2)
        draw.line([(edge, y), (edge + (tick if right else -tick), y)], fill=255, width=max(1, letter // 10))
    return np.array(image)


def draw_calipers(pixels: np.ndarray, lesion: Lesion, size: float, chance: np.random.Generator) -> np.ndarray:
    """Set two crosses with a dotted line between them near the edge that is farthest from the lesion.

    As `write_text`; `size` is the length of a cross's arm, and `chance` chooses the distance.
    """
    height, width = pixels.shape
    centres = np.array([[0.12, 0.5], [0.88, 0.5], [0.5, 0.12], [0.5, 0.88]])
    middle = centres[_far_from(lesion, centres, chance)] * (width, height)
    along = np.array([0, 1]) if abs(middle[0] / width - 0.5) > 0.2 else np.array([1, 0])
    half = chance.uniform(0.08, 0.16) * _side(pixels) * along
    arm, thick = max(1.0, size * _side(pixels)), max(1, round(_side(pixels) / 200))
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y in (middle - half, middle + half):
        draw.line([(x - arm, y), (x + arm, y)], fill=255, width=thick)
        draw.line([(x, y - arm), (x, y + arm)], fill=255, width=thick)
    dots = max(2, int(2 * np.abs(half).sum() / (4 * thick)))
    for x, y in np.linspace(middle - half, middle + half, dots).round().astype(int):
        draw.rectangle([x, y, x + thick - 1, y + thick - 1], fill=255)
    return np.array(image)


# ---------------------------------------------------------------- the suite

_SUITE: tuple[tuple[str, float, Change, str], ...] = (
    ("zoom-out", 0.7, _zoom_out, "The scan fills 70 % of the width and height of a black canvas."),
    ("zoom-out-far", 0.5, _zoom_out, "The scan fills half of the width and height of a black canvas."),
    ("zoom-in", 0.75, _zoom_in, "Three quarters of the width and height are left, with the lesion inside."),
    ("crop", 0.05, _scan_area, "All but the scan area is cut off, and 5 % of that on every side."),
    ("squeezed", 0.75, _widen, "The width is pressed to 75 %, with black at the sides."),
    ("stretched", 4 / 3, _widen, "The width is drawn out to 133 %, and the sides are cut off."),
    ("shallow", 0.7, _shallow, "Only the upper 70 % of the depth are shown, or down to the lesion's end."),
    ("screen", 1.4, _screen, "The scan lies in the upper left of a black screen 1.4 times its size."),
    ("sector", 60.0, _fan, "The scan is bent into a fan of up to 60 degrees, as from a convex probe."),
    ("darker", 1.6, _gamma, "Gamma 1.6: the middle tones get darker."),
    ("brighter", 0.6, _gamma, "Gamma 0.6: the middle tones get brighter."),
    ("contrast-low", 0.6, _contrast, "Grey values keep 60 % of their distance from the mean of the tissue."),
    ("contrast-high", 1.6, _contrast, "Grey values lie 1.6 times as far from the mean of the tissue."),
    ("depth-gain", 0.45, _depth_gain, "The picture gets darker with depth, down to 45 % at the bottom."),
    ("blur", 1 / 250, _blur, "A Gaussian blur with a sigma of 1/250 of the picture's side."),
    ("speckle", 0.2, _speckle, "Grain that multiplies the grey values by 1 with a spread of 0.2."),
    ("jpeg", 10, _jpeg, "Saved as JPEG of quality 10."),
    ("marks-removed", 0.003, _remove_marks, "Burnt-in text and calipers are painted over."),
    ("marks-inverted", 0.003, _invert_marks, "Burnt-in text and calipers are black on white."),
    ("text-added", 0.035, write_text, "Two lines of text in a corner, and a ruler along the edge."),
    ("calipers-added", 0.015, draw_calipers, "Two calipers at the edge that is farthest from the lesion."),
)
CORRUPTIONS = tuple(Corruption(*row) for row in _SUITE)


def suite_fingerprint() -> str:
    """Return a hash of names and strengths, so that figures of another suite are not taken for those of this one."""
    content = [(corruption.name, corruption.strength) for corruption in CORRUPTIONS]
    return hashlib.sha256(repr(content).encode()).hexdigest()
