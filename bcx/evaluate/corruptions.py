"""A fixed suite of changes that another scanner, or another person's habits, bring to a scan.

Every change leaves the lesion in the image and readable; what a network makes of the changed scan shows whether it
has learnt lesions or the look of one hospital's images. Names and strengths are part of the measurement: another
suite gives other figures (`suite_fingerprint` tells them apart).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from bcx.errors import ConfigError, DataError
from bcx.evaluate.marks import draw_calipers, image_side, invert_marks, remove_marks, write_text
from bcx.imaging.preprocess import resize

# A function that carries any plane of one scan along: its pixels or its mask.
Carry = Callable[[np.ndarray], np.ndarray]
Lesion = np.ndarray | None
# A change of grey values: from pixels, the lesion's mask if there is one, the strength and a source of chance.
Shade = Callable[[np.ndarray, Lesion, float, np.random.Generator], np.ndarray]
# A change of geometry: from pixels, mask and strength.
Move = Callable[[np.ndarray, Lesion, float], Carry]


@dataclass(frozen=True)
class Corruption:
    """One change. Call it with a scan, and with the mask of its lesion where there is one.

    Attributes:
        name: as in tables.
        sentence: what is done, in plain words.
        strength: the one number that sets how much.
        shade: the function, where grey values change and everything stays in its place.
        move: the function, where things move.
    """

    name: str
    sentence: str
    strength: float
    shade: Shade | None = None
    move: Move | None = None

    def __call__(self, pixels: np.ndarray, mask: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the changed scan, uint8 `[H', W']`, and its mask, bool; the same input gives the same output, always.

        Where things move the mask moves too, and no change hides the lesion; without a mask, a crop is taken about the
        middle.

        Raises:
            DataError: another dtype or shape than uint8 `[H, W]` and bool `[H, W]`.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.size == 0:
            raise DataError(
                f"An image of shape {pixels.shape} and type {pixels.dtype} was to be changed by '{self.name}'.",
                expected="one grey plane, uint8 [H, W]",
                remedy="Turn it grey first, with bcx.imaging.preprocess.to_grey.",
            )
        if mask is not None and (mask.shape != pixels.shape or mask.dtype != np.bool_):
            raise DataError(
                f"A mask of shape {mask.shape} and type {mask.dtype} came with an image of shape {pixels.shape}.",
                expected="a mask of the same shape, bool",
                remedy="Read it with bcx.data.records.load_mask.",
            )
        lesion = mask if mask is not None and mask.any() else None
        if self.shade is not None:
            # Chance depends on the image's content alone, so that neither order nor company changes anything.
            content = repr((self.name, pixels.shape)).encode() + pixels.tobytes()
            digest = hashlib.blake2b(content, digest_size=8).digest()
            chance = np.random.default_rng(int.from_bytes(digest, "big"))
            return self.shade(pixels, lesion, self.strength, chance), mask
        assert self.move is not None
        carry = self.move(pixels, lesion, self.strength)
        return carry(pixels), None if mask is None else carry(mask.astype(np.uint8) * 255) > 127


# ---------------------------------------------------------------- geometry


def _window(left: int, top: int, width: int, height: int) -> Carry:
    """See a plane through a window that may stick out of it, where it is black."""
    return lambda plane: np.array(Image.fromarray(plane).crop((left, top, left + width, top + height)))


def _holding(start: float, length: float, lesion: Lesion, axis: int, full: int) -> tuple[int, int]:
    """Shift, or if need be lengthen, a stretch of an axis (0 down, 1 right) until the lesion is in it, whole pixels."""
    size, low, high = round(length), full, 0
    if lesion is not None:
        found = np.flatnonzero(lesion.any(axis=1 - axis))
        margin = round(0.03 * full)
        low, high = max(0, int(found[0]) - margin), min(full, int(found[-1]) + 1 + margin)
    size = int(np.clip(max(size, high - low), 1, full))
    first = max(min(round(start), low), high - size)
    return int(np.clip(first, 0, full - size)), size


def _zoom_out(pixels: np.ndarray, lesion: Lesion, share: float) -> Carry:
    height, width = pixels.shape
    tall, wide = round(height / share), round(width / share)
    return _window(-((wide - width) // 2), -((tall - height) // 2), wide, tall)


def _zoom_in(pixels: np.ndarray, lesion: Lesion, share: float) -> Carry:
    height, width = pixels.shape
    for axis, full in enumerate((height, width)):  # a lesion larger than the window widens it in both directions
        share = max(share, _holding(0, share * full, lesion, axis, full)[1] / full)
    top, tall = _holding((1 - share) / 2 * height, share * height, lesion, 0, height)
    left, wide = _holding((1 - share) / 2 * width, share * width, lesion, 1, width)
    return _window(left, top, wide, tall)


def _scan_area(pixels: np.ndarray, lesion: Lesion, inset: float) -> Carry:
    """The bounding box of the largest lit region, and a little less of it on every side."""
    height, width = pixels.shape
    reach = max(1, round(image_side(pixels) / 25))
    lit = cv2.blur(pixels, (reach, reach)) > 20
    _, _, boxes, _ = cv2.connectedComponentsWithStats(lit.astype(np.uint8))
    if len(boxes) < 2:  # all black
        return _window(0, 0, width, height)
    left, top, wide, tall, _ = (int(value) for value in boxes[1 + boxes[1:, cv2.CC_STAT_AREA].argmax()])
    y, rows = _holding(top + inset * tall, (1 - 2 * inset) * tall, lesion, 0, height)
    x, columns = _holding(left + inset * wide, (1 - 2 * inset) * wide, lesion, 1, width)
    return _window(x, y, columns, rows)


def _widen(pixels: np.ndarray, lesion: Lesion, factor: float) -> Carry:
    """Resample the width on an unchanged canvas: black at the sides where it shrinks, cut off where it grows."""
    height, width = pixels.shape
    if factor < 1:
        wide = max(1, round(width * factor))
        pad = _window(-((width - wide) // 2), 0, width, height)
        return lambda plane: pad(resize(plane, wide, height))
    left, kept = _holding((1 - 1 / factor) / 2 * width, width / factor, lesion, 1, width)
    return lambda plane: resize(np.ascontiguousarray(plane[:, left : left + kept]), width, height)


def _shallow(pixels: np.ndarray, lesion: Lesion, share: float) -> Carry:
    height, width = pixels.shape
    depth = share * height
    if lesion is not None:  # the skin stays at the top; a deep lesion leaves more depth
        depth = max(depth, np.flatnonzero(lesion.any(axis=1))[-1] + 1 + 0.03 * height)
    return _window(0, 0, width, int(np.clip(np.ceil(depth), 1, height)))


def _screen(pixels: np.ndarray, lesion: Lesion, factor: float) -> Carry:
    height, width = pixels.shape
    return _window(-round(0.05 * width), -round(0.1 * height), round(factor * width), round(factor * height))


def _fan(pixels: np.ndarray, lesion: Lesion, opening: float) -> Carry:
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
    return lambda plane: cv2.remap(
        plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )


# ---------------------------------------------------------------- grey values


def _curve(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Send every grey value v to values[v]."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)[pixels]


def _gamma(pixels: np.ndarray, lesion: Lesion, power: float, chance: np.random.Generator) -> np.ndarray:
    return _curve(pixels, 255 * (np.arange(256) / 255) ** power)


def _contrast(pixels: np.ndarray, lesion: Lesion, factor: float, chance: np.random.Generator) -> np.ndarray:
    tissue = pixels[pixels > 8]  # a black margin would pull the middle down
    middle = float(tissue.mean()) if tissue.size else 0.0
    return _curve(pixels, middle + factor * (np.arange(256) - middle))


def _depth_gain(pixels: np.ndarray, lesion: Lesion, last: float, chance: np.random.Generator) -> np.ndarray:
    return np.rint(pixels * np.linspace(1, last, len(pixels))[:, None]).astype(np.uint8)


def _blur(pixels: np.ndarray, lesion: Lesion, share: float, chance: np.random.Generator) -> np.ndarray:
    return cv2.GaussianBlur(pixels, (0, 0), max(0.3, share * image_side(pixels)))


def _speckle(pixels: np.ndarray, lesion: Lesion, spread: float, chance: np.random.Generator) -> np.ndarray:
    """Multiply by grain of mean 1 and standard deviation `spread`, whose grains are 1/250 of the side."""
    height, width = pixels.shape
    grain = max(1.0, image_side(pixels) / 250)
    coarse = chance.standard_normal((int(np.ceil(height / grain)), int(np.ceil(width / grain)))).astype(np.float32)
    field = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR))
    scale = np.float32(spread / max(float(field.std()), 0.5))  # enlarging has smoothed it
    return np.clip(np.rint(pixels * (1 + scale * field)), 0, 255).astype(np.uint8)


def _jpeg(pixels: np.ndarray, lesion: Lesion, quality: float, chance: np.random.Generator) -> np.ndarray:
    _, packed = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(quality)])
    return np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))


# ---------------------------------------------------------------- the suite

CORRUPTIONS: tuple[Corruption, ...] = (
    Corruption("zoom-out", "The scan fills 70 % of the width and height of a black canvas.", 0.7, move=_zoom_out),
    Corruption("zoom-out-far", "The scan fills half of the width and height of a black canvas.", 0.5, move=_zoom_out),
    Corruption(
        "zoom-in", "Three quarters of the width and height are left, with the lesion inside.", 0.75, move=_zoom_in
    ),
    Corruption("crop", "All but the scan area is cut off, and 5 % of that on every side.", 0.05, move=_scan_area),
    Corruption("squeezed", "The width is pressed to 75 %, with black at the sides.", 0.75, move=_widen),
    Corruption("stretched", "The width is drawn out to 133 %, and the sides are cut off.", 4 / 3, move=_widen),
    Corruption(
        "shallow", "Only the upper 70 % of the depth are shown, or down to the lesion's end.", 0.7, move=_shallow
    ),
    Corruption("screen", "The scan lies in the upper left of a black screen 1.4 times its size.", 1.4, move=_screen),
    Corruption("sector", "The scan is bent into a fan of up to 60 degrees, as from a convex probe.", 60.0, move=_fan),
    Corruption("darker", "Gamma 1.6: the middle tones get darker.", 1.6, shade=_gamma),
    Corruption("brighter", "Gamma 0.6: the middle tones get brighter.", 0.6, shade=_gamma),
    Corruption(
        "contrast-low", "Grey values keep 60 % of their distance from the mean of the tissue.", 0.6, shade=_contrast
    ),
    Corruption("contrast-high", "Grey values lie 1.6 times as far from the mean of the tissue.", 1.6, shade=_contrast),
    Corruption(
        "depth-gain", "The picture gets darker with depth, down to 45 % at the bottom.", 0.45, shade=_depth_gain
    ),
    Corruption("blur", "A Gaussian blur with a sigma of 1/250 of the picture's side.", 1 / 250, shade=_blur),
    Corruption("speckle", "Grain that multiplies the grey values by 1 with a spread of 0.2.", 0.2, shade=_speckle),
    Corruption("jpeg", "Saved as JPEG of quality 10.", 10, shade=_jpeg),
    Corruption(
        "marks-removed",
        "Burnt-in text and calipers are painted over.",
        0.003,
        shade=lambda pixels, _, reach, __: remove_marks(pixels, reach),
    ),
    Corruption(
        "marks-inverted",
        "Burnt-in text and calipers are black on white.",
        0.003,
        shade=lambda pixels, _, reach, __: invert_marks(pixels, reach),
    ),
    Corruption("text-added", "Two lines of text in a corner, and a ruler along the edge.", 0.035, shade=write_text),
    Corruption(
        "calipers-added", "Two calipers at the edge that is farthest from the lesion.", 0.015, shade=draw_calipers
    ),
)


def get_corruption(name: str) -> Corruption:
    """Return the change called `name`.

    Raises:
        ConfigError: no such change.
    """
    known = {corruption.name: corruption for corruption in CORRUPTIONS}
    if name not in known:
        raise ConfigError(
            f"There is no corruption called '{name}'.",
            expected=f"one of {', '.join(known)}",
            remedy="Use one of these names.",
        )
    return known[name]


def suite_fingerprint() -> str:
    """Return a hash of names and strengths, so that figures of another suite are not taken for those of this one."""
    content = [(corruption.name, corruption.strength) for corruption in CORRUPTIONS]
    return hashlib.sha256(repr(content).encode()).hexdigest()
