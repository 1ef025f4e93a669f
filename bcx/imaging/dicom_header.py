"""What a DICOM header says of its pixels: look-up tables, where the scan lies in the scanner's frame, and its scale.

Each table is held against its own descriptor before it is used, and named where it does not fit: pydicom's functions
end in a TypeError or run out of memory there (PS3.3, C.11.1, C.11.2, C.7.9). The ultrasound region is believed only
where it speaks plainly: one region, of B-mode tissue, inside the image, with most of what is to be seen in it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from bcx.imaging.limits import MIN_SIDE

Region = tuple[int, int, int, int]

_MOST = 1 << 16  # entries, since a descriptor counts in 16 bits
_DISCRETE, _LINEAR, _INDIRECT = range(3)
_REGIONS = "SequenceOfUltrasoundRegions"
_MOST_BYTES = 1 << 16  # a region takes some 300
_B_MODE, _TISSUE, _CENTIMETRES = 1, 1, 3
_LEAST_SHARE = 0.1  # of the image: smaller regions are colour bars and the like
_DARK = 16  # the frame around a scan is black, but for its text


@dataclass(frozen=True)
class LookupTable:
    """A table of uint8 or uint16 `entries`; the value `first` is the first to get one of its own."""

    first: int
    entries: np.ndarray
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the entry of each value, integers of any shape; values beyond either end get the last one there."""
        top = len(self.entries) - 1
        return self.entries[np.clip(values.astype(np.int64) - self.first, 0, top).astype(np.uint16)]


def read_table(descriptor: Any, data: Any, what: str, *, little: bool = True, segmented: bool = False) -> LookupTable:
    """Check a look-up table, which errors call `what`.

    Args:
        descriptor: number of entries (0: 65,536), the first value mapped, bits per entry.
        data: bytes, or one or several integers, as pydicom reads the element.
        little: whether bytes are in little-endian order.
        segmented: whether it is written in discrete, linear and indirect segments, which are bytes; never more than
            65,536 entries are made of them, whatever they ask for.

    `ValueError`: the table is empty, shorter than its descriptor says, or maps everything to one value.
    """
    try:
        count, first, bits = (int(value) for value in descriptor)
    except (TypeError, ValueError):
        raise ValueError(f"its {what} is not described by three numbers") from None
    if not (0 <= count <= _MOST and 1 <= bits <= 16):
        raise ValueError(f"its {what} claims {count:,} entries of {bits} bits")
    count = count or _MOST
    if isinstance(data, (bytes, bytearray)):
        narrow = bits <= 8 if segmented else len(data) < 2 * count
        entries = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2")
        if narrow:
            entries = np.frombuffer(data, np.uint8)
        if segmented:
            try:
                made = _expand(entries.tolist(), 0, None, [], narrow, little)
                entries = np.asarray(made, np.uint8 if narrow else np.uint16)
            except (IndexError, ValueError) as error:
                raise ValueError(f"its {what} has segments that do not fit together ({error})") from None
    else:
        try:
            entries = np.atleast_1d(np.asarray([] if data is None or segmented else data, np.uint16))
        except (ValueError, TypeError, OverflowError):
            raise ValueError(f"its {what} holds something else than numbers") from None
    if not entries.size:
        raise ValueError(f"its {what} is empty")
    if len(entries) < count:
        raise ValueError(f"its {what} has {len(entries):,} of the {count:,} entries that it claims")
    if count == 1:
        raise ValueError(f"its {what} has one entry, and would make the picture one even tone")
    return LookupTable(first, entries[:count], bits)


def _expand(words: list[int], at: int, segments: int | None, made: list[int], narrow: bool, little: bool) -> list[int]:
    """Append what `segments` segments from `at` on stand for (None: all) to what was made before."""
    nested = segments is not None
    while at + 1 < len(words) and segments != 0:
        kind, length = words[at : at + 2]
        at += 2
        if kind == _DISCRETE:
            made += words[at : at + length]
            at += length
        elif kind == _LINEAR:
            made += np.rint(np.linspace(made[-1], words[at], length + 1)[1:]).astype(int).tolist()
            at += 1
        elif kind == _INDIRECT and not nested:
            if narrow:
                size, offset = 4, int.from_bytes(bytes(words[at : at + 4]), "little" if little else "big")
            else:  # in bytes, low word first
                size, offset = 2, sum(word << 16 * place for place, word in enumerate(words[at : at + 2])) // 2
            _expand(words, offset, length, made, narrow, little)
            at += size
        else:
            raise ValueError(f"a segment of kind {kind}" + (" within another" if nested else ""))
        if len(made) > _MOST:
            raise ValueError(f"more than {_MOST:,} entries")
        segments = None if segments is None else segments - 1
    return made


def find_region(header: Dataset, pixels: np.ndarray) -> tuple[Region | None, list[str]]:
    """Return (left, top, right, bottom) of the scan where it is a part of the image, uint8, else None, and notes."""
    if _REGIONS not in header:
        return None, []
    try:
        found = _region(header, pixels)
    except Exception:  # pydicom raises whatever the damage leads it to
        found = "cannot be read"
    if isinstance(found, str):
        return None, [f"ultrasound region of its header ignored: it {found}"]
    left, top, right, bottom = found
    height, width = pixels.shape[:2]
    if found == (0, 0, width, height):
        return None, []
    size = f"{right - left} x {bottom - top} of {width} x {height} pixels"
    return found, [f"scan area cut out as its header says, {size}"]


def _region(header: Dataset, pixels: np.ndarray) -> Region | str:
    """Return the region, or what is wrong with it."""
    raw = header.get_item(_REGIONS)
    if isinstance(raw.value, bytes) and len(raw.value) > _MOST_BYTES:
        return "is far too large"
    items = header[_REGIONS].value
    if len(items) != 1:
        return f"is one of {len(items)}" if items else "is empty"
    item = items[0]
    if (item.RegionSpatialFormat, item.RegionDataType) != (_B_MODE, _TISSUE):
        return "is not one of B-mode tissue"
    height, width = pixels.shape[:2]
    left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
    right, bottom = int(item.RegionLocationMaxX1) + 1, int(item.RegionLocationMaxY1) + 1
    right -= right == width + 1  # the last pixel belongs to the region; some scanners name the one after it
    bottom -= bottom == height + 1
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        return "does not lie in the picture"
    if min(right - left, bottom - top) < MIN_SIDE or (right - left) * (bottom - top) < _LEAST_SHARE * width * height:
        return "is too small for a scan"
    bright = pixels.reshape(height, width, -1).max(axis=2) > _DARK
    inside = np.count_nonzero(bright[top:bottom, left:right])
    if np.count_nonzero(bright) - inside > inside / 2:
        return "leaves out much of the picture"
    return left, top, right, bottom


def find_scale(header: Dataset) -> float | None:
    """Millimetres per pixel; None where nothing says, or pixels are not square, or regions have scales of their own."""
    regions = [
        region
        for region in header.get(_REGIONS) or []
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    ]
    try:
        sides = [abs(10 * float(each.get(f"PhysicalDelta{axis}"))) for each in regions for axis in "XY"]
        sides = sides or [float(side) for side in header.get("PixelSpacing") or []]
    except (TypeError, ValueError):
        return None
    plausible = sides and min(sides) >= 0.001 and max(sides) <= min(1.01 * min(sides), 10)
    return sum(sides) / len(sides) if plausible else None
