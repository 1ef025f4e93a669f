"""The ultrasound region of a DICOM header: where the scan lies in the scanner's frame, and how large its pixels are.

A header is believed only where it speaks plainly: one region, of B-mode tissue, inside the image, with most of what
is to be seen in it. Whatever else it says is left alone, with a note.
"""

from __future__ import annotations

import numpy as np
from pydicom.dataset import Dataset

from bcx.imaging.limits import MIN_SIDE

Region = tuple[int, int, int, int]

_REGIONS = "SequenceOfUltrasoundRegions"
_MOST_BYTES = 1 << 16  # a region takes some 300
_B_MODE, _TISSUE, _CENTIMETRES = 1, 1, 3
_LEAST_SHARE = 0.1  # of the image: smaller regions are colour bars and the like
_DARK = 16  # the frame around a scan is black, but for its text


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
