"""The ultrasound region of a DICOM header: where the scan lies in the machine's frame.

A header is believed only where it speaks plainly: one region, of B-mode tissue, inside the picture, with most of what
is to be seen in it. Whatever else it says is left alone, with a note.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bcx.imaging.limits import MIN_SIDE

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Region = tuple[int, int, int, int]

_MOST_BYTES = 1 << 16  # a region takes some 300
_B_MODE, _TISSUE = 1, 1
_LEAST_SHARE = 0.1  # of the picture: smaller regions are colour bars and the like
_DARK = 16  # the frame around a scan is black, but for its text


class _Wrong(Exception):
    """What is wrong with a region: the end of a sentence that begins with "it"."""


def find_region(header: Dataset, pixels: np.ndarray) -> tuple[Region | None, list[str]]:
    """Return (left, top, right, bottom) of the scan where it is a part of the picture, else None, and notes.

    Args:
        header: with the element SequenceOfUltrasoundRegions, if the file has it.
        pixels: uint8 `[H, W]` or `[H, W, 3]`, the whole picture.
    """
    keyword = "SequenceOfUltrasoundRegions"
    if keyword not in header:
        return None, []
    try:
        raw = header.get_item(keyword)
        if isinstance(raw.value, bytes) and len(raw.value) > _MOST_BYTES:
            raise _Wrong("is far too large")
        items = header[keyword].value
        if len(items) != 1:
            raise _Wrong(f"is one of {len(items)}" if items else "is empty")
        region = _region(items[0], pixels)
    except Exception as error:  # pydicom raises whatever the damage leads it to
        why = str(error) if isinstance(error, _Wrong) else "cannot be read"
        return None, [f"ultrasound region of its header ignored: it {why}"]
    left, top, right, bottom = region
    height, width = pixels.shape[:2]
    if (right - left, bottom - top) == (width, height):
        return None, []
    size = f"{right - left} x {bottom - top} of {width} x {height} pixels"
    return region, [f"scan area cut out as its header says, {size}"]


def _region(item: Dataset, pixels: np.ndarray) -> Region:
    if (item.RegionSpatialFormat, item.RegionDataType) != (_B_MODE, _TISSUE):
        raise _Wrong("is not one of B-mode tissue")
    height, width = pixels.shape[:2]
    left, top = int(item.RegionLocationMinX0), int(item.RegionLocationMinY0)
    right, bottom = int(item.RegionLocationMaxX1) + 1, int(item.RegionLocationMaxY1) + 1
    right -= right == width + 1  # the last pixel belongs to the region; some machines name the one after it
    bottom -= bottom == height + 1
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise _Wrong("does not lie in the picture")
    if min(right - left, bottom - top) < MIN_SIDE or (right - left) * (bottom - top) < _LEAST_SHARE * width * height:
        raise _Wrong("is too small for a scan")
    bright = pixels.reshape(height, width, -1).max(axis=2) > _DARK
    inside = np.count_nonzero(bright[top:bottom, left:right])
    if np.count_nonzero(bright) - inside > inside / 2:
        raise _Wrong("leaves out much of the picture")
    return left, top, right, bottom
