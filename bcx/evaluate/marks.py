"""Burnt-in marks: text, calipers, rulers. Find them, take them away, turn them dark, or add others."""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SIDES = ("RT", "LT", "RT BREAST", "LT BREAST", "R", "L")
_PLACES = ("UOQ", "LIQ", "10 O'CLOCK", "3:00 N4", "SUBAREOLAR", "RAD", "TRV")
_SETTINGS = ("FR 22Hz", "B 12 MHz", "GN 54", "MI 0.9", "TIS 0.3", "DR 66", "MAP E/0", "PWR 100 %")


def image_side(pixels: np.ndarray) -> float:
    """Return the geometric mean of height and width: what sizes of marks, grain and blur are measured by."""
    return float(np.sqrt(pixels.size))


def find_marks(pixels: np.ndarray) -> np.ndarray:
    """Return bool `[H, W]`, True on burnt-in text, calipers, dotted lines and rulers of a scan, uint8 `[H, W]`.

    They are near white, stand out from their surroundings by far, and each stroke is thin and each sign small. Bright
    tissue is thicker, or not as bright; single grains of a very bright scan may be taken for marks.
    """
    side = image_side(pixels)
    stroke = 2 * max(1, round(side / 150)) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (stroke, stroke))
    rise = cv2.morphologyEx(pixels, cv2.MORPH_TOPHAT, element)
    core = ((pixels >= 190) & (rise >= 100)).astype(np.uint8)
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(core, connectivity=8)
    longest = boxes[:, [cv2.CC_STAT_WIDTH, cv2.CC_STAT_HEIGHT]].max(axis=1)
    small = longest <= max(3, side / 8)
    small[0] = False  # the background
    return small[parts] if count > 1 else np.zeros(pixels.shape, bool)


def _around(marks: np.ndarray, reach: float) -> np.ndarray:
    """Grow marks by `reach` pixels (at least 1), which takes in their soft edge: uint8 `[H, W]`, 0 or 1."""
    size = 2 * max(1, round(reach)) + 1
    return cv2.dilate(marks.astype(np.uint8), np.ones((size, size), np.uint8))


def remove_marks(pixels: np.ndarray, reach: float) -> np.ndarray:
    """Paint marks over from their surroundings (fast marching; Telea 2004); without marks, a copy.

    `reach`: how far a mark's soft edge goes, as a share of the image's side.
    """
    marks = find_marks(pixels)
    if not marks.any():
        return pixels.copy()
    return cv2.inpaint(pixels, _around(marks, reach * image_side(pixels)), 3, cv2.INPAINT_TELEA)


def invert_marks(pixels: np.ndarray, reach: float) -> np.ndarray:
    """Turn marks, and what lies within `reach` of them, from white on black to black on white; as `remove_marks`."""
    grown = _around(find_marks(pixels), reach * image_side(pixels))
    return np.where(grown > 0, 255 - pixels, pixels)


def _far_from(lesion: np.ndarray | None, places: np.ndarray, chance: np.random.Generator) -> int:
    """Return the number of the place (float `[N, 2]`, x and y as shares) farthest from the lesion, else any."""
    if lesion is None:
        return int(chance.integers(len(places)))
    rows, columns = np.nonzero(lesion)
    centre = np.array([columns.mean() / lesion.shape[1], rows.mean() / lesion.shape[0]])
    return int(((places - centre) ** 2).sum(axis=1).argmax())


def write_text(pixels: np.ndarray, lesion: np.ndarray | None, size: float, chance: np.random.Generator) -> np.ndarray:
    """Write two lines in the corner farthest from the lesion, and a ruler along the edge on the other side.

    `size` is the height of the letters as a share of the image's side. Without a lesion, chance picks the corner.
    """
    height, width = pixels.shape
    letter = max(4, round(size * image_side(pixels)))
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


def draw_calipers(
    pixels: np.ndarray, lesion: np.ndarray | None, size: float, chance: np.random.Generator
) -> np.ndarray:
    """Set two crosses with a dotted line between them near the edge that is farthest from the lesion.

    As `write_text`; `size` is the length of a cross's arm, and `chance` chooses the distance.
    """
    height, width = pixels.shape
    centres = np.array([[0.12, 0.5], [0.88, 0.5], [0.5, 0.12], [0.5, 0.88]])
    middle = centres[_far_from(lesion, centres, chance)] * (width, height)
    along = np.array([0, 1]) if abs(middle[0] / width - 0.5) > 0.2 else np.array([1, 0])
    half = chance.uniform(0.08, 0.16) * image_side(pixels) * along
    arm, thick = max(1.0, size * image_side(pixels)), max(1, round(image_side(pixels) / 200))
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    for x, y in (middle - half, middle + half):
        draw.line([(x - arm, y), (x + arm, y)], fill=255, width=thick)
        draw.line([(x, y - arm), (x, y + arm)], fill=255, width=thick)
    dots = max(2, int(2 * np.abs(half).sum() / (4 * thick)))
    for x, y in np.linspace(middle - half, middle + half, dots).round().astype(int):
        draw.rectangle([x, y, x + thick - 1, y + thick - 1], fill=255)
    return np.array(image)
