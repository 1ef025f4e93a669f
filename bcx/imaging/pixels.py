"""From whatever numbers a source holds to the bytes that a Scan holds."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

#: Rows that are worked on at once where intermediate numbers are larger than pixels.
_ROWS = 256
_TURNS = {
    2: "mirrored",
    3: "turned by 180 degrees",
    4: "flipped upside down",
    5: "transposed",
    6: "turned by 90 degrees",
    7: "transposed along the other diagonal",
    8: "turned by 270 degrees",
}


@dataclass(frozen=True)
class Decoded:
    """What a decoder made of one frame: `values`, bool, integer or float, [H, W] or [H, W, 1 to 4].

    `orientation` is EXIF's, 1 to 8; all else is as in `bcx.imaging.scan.Scan`.
    """

    values: np.ndarray
    notes: list[str] = field(default_factory=list)
    orientation: int = 1
    damage: str = ""
    mm_per_pixel: float | None = None
    region: tuple[int, int, int, int] | None = None


def stretch(values: np.ndarray) -> tuple[np.ndarray, str]:
    """Map finite real numbers from their own range onto 0..255, rounded, a constant onto 0; and the range in words."""
    low, high = values.min().item(), values.max().item()
    span = f"{low:g}..{high:g}" if isinstance(low, float) else f"{low}..{high}"
    if high == low:
        return np.zeros(values.shape, np.uint8), span
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:  # a table is exact, and saves a float copy
        table = np.rint((np.arange(low, high + 1) - low) * (255 / (high - low))).astype(np.uint8)
        pixels = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), _ROWS):  # in strips, since looking up makes 8 bytes of each value
            np.take(table, values[start : start + _ROWS] - values.dtype.type(low), out=pixels[start : start + _ROWS])
        return pixels, span
    # halves first: the span of float64's own range would overflow
    share = (values / 2 - low / 2) / (high / 2 - low / 2)
    return np.rint(share * 255).astype(np.uint8), span


def to_bytes(values: np.ndarray) -> tuple[np.ndarray, str | None]:
    """Turn finite values into uint8; and what was done in words (None where nothing was).

    bool becomes 0 and 255; uint8 stays; floats within 0..1 are multiplied by 255, floats within
    0..255 are rounded; everything else is stretched from its own range.
    """
    if values.dtype == np.uint8:
        return values, None
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255), None
    kind = f"{8 * values.dtype.itemsize} bit"
    if values.dtype.kind == "f":
        kind = "decimal numbers"
        values = values.astype(np.float64 if values.dtype.itemsize > 4 else np.float32, copy=False)
        low, high = values.min(), values.max()
        if low >= 0 and high <= 1:
            return np.rint(values * 255).astype(np.uint8), "decimal numbers scaled from 0..1"
        if low >= 0 and high <= 255:
            return np.rint(values).astype(np.uint8), "decimal numbers within 0..255 rounded"
    pixels, span = stretch(values)
    return pixels, f"{kind} scaled from {span}"


def alpha_share(alpha: np.ndarray) -> np.ndarray:
    """Opacity as uint8 0..255: integers by the range of their type, floats as 0..1 (0..255 where they exceed 1)."""
    if alpha.dtype in (np.uint8, np.bool_):
        return to_bytes(alpha)[0]
    if alpha.dtype == np.uint16:
        return np.rint(alpha / np.float32(257)).astype(np.uint8)
    share = alpha.astype(np.float64) * (255.0 if alpha.max() <= 1 else 1.0)
    return np.rint(np.clip(share, 0, 255)).astype(np.uint8)


def on_black(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Compose uint8 [H, W, 3] with uint8 opacity [H, W] on black: colour * alpha / 255, rounded to the nearest."""
    image = Image.fromarray(np.ascontiguousarray(colour))
    return np.asarray(Image.composite(image, Image.new("RGB", image.size), Image.fromarray(alpha)))


def grey_if_grey(pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] whose three channels agree everywhere becomes [H, W]; anything else stays."""
    for step in (16, 1):  # an image in colour mostly shows it on a coarse grid already
        red, green, blue = (pixels[::step, ::step, channel] for channel in range(3))
        if not (np.array_equal(red, green) and np.array_equal(red, blue)):
            return pixels
    return np.ascontiguousarray(pixels[..., 0])


def turn(pixels: np.ndarray, orientation: int) -> tuple[np.ndarray, str | None]:
    """Undo an EXIF orientation (1 to 8) of [H, W] or [H, W, 3]; and what was done in words (None for 1)."""
    if orientation == 1:
        return pixels, None
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)  # 5 is this alone; 6, 7 and 8 mirror what comes out of it
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels), f"{_TURNS[orientation]} as its EXIF tag asks"
