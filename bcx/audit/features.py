"""What is kept of each scan for comparing it: landmarks, a coarse picture, a small picture.

Landmarks are SIFT keypoints: crops, scales and brightness leave them alone, and a mirrored scan has mirrored ones.
The coarse picture finds the same lesion in another frame, whose landmarks have all changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bcx.audit.layers import PICTURE_SIDE, band, burnt_in, looked_at, shrunk, small_picture

KEYPOINTS = 200
"""Strongest landmarks kept of each scan."""
COARSE_SIDE = 32
"""Side, in pixels, of the coarse picture."""
COARSE_BAND = (0.67, 4.0)
"""Sizes of the details in it, in its pixels."""
_CONTRAST = 0.01  # lower than SIFT's own: tissue has little contrast
_MIRRORED_TURNS = [0, 7, 6, 5, 4, 3, 2, 1]


@dataclass(frozen=True, eq=False)
class Features:
    """What is kept of one scan.

    Attributes:
        points: float32 [K, 2], x and y of the landmarks in pixels of `picture`.
        descriptors: uint8 [K, 128], SIFT.
        picture: uint8 [h, w], longer side `PICTURE_SIDE`, marks filled.
        mask: bool [h, w], tissue without marks.
        coarse: float32 [32, 32], from `coarse_picture`.
        scale: pixels of `picture` per pixel of the scan.
    """

    points: np.ndarray = field(repr=False)
    descriptors: np.ndarray = field(repr=False)
    picture: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    coarse: np.ndarray = field(repr=False)
    scale: float = 1.0


def describe(pixels: np.ndarray, marks: np.ndarray | None = None) -> Features:
    """Describe uint8 [H, W] or [H, W, 3]; `marks` from `burnt_in(looked_at(pixels))`, or None to find them."""
    seen = looked_at(pixels)
    picture, mask = small_picture(seen, burnt_in(seen) if marks is None else marks)
    keypoints, descriptors = _sift().detectAndCompute(picture, mask.astype(np.uint8))
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")[:KEYPOINTS]
    points = np.array([keypoints[k].pt for k in order], np.float32).reshape(-1, 2)
    values = np.zeros((0, 128), np.uint8) if descriptors is None else descriptors[order].astype(np.uint8)
    scale = max(picture.shape) / max(pixels.shape[:2])
    return Features(points, values, picture, mask, coarse_picture(picture, mask), scale)


@cache
def _sift() -> Any:
    return cv2.SIFT_create(KEYPOINTS, 3, _CONTRAST, 12, 1.6)  # type: ignore[attr-defined]  # OpenCV's stubs forget it


def mirrored(descriptors: np.ndarray) -> np.ndarray:
    """Return what SIFT would say of the mirrored scan: [K, 128], cells and directions of gradients swapped."""
    cells = descriptors.reshape(-1, 4, 4, 8)
    return np.ascontiguousarray(cells[:, ::-1][..., _MIRRORED_TURNS]).reshape(-1, 128)


def rooted(descriptors: np.ndarray) -> np.ndarray:
    """Return float32 [K, 128] of length 1: the roots of shares, whose products compare better (Arandjelovic 2012)."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1.0))


def coarse_picture(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return coarse details of tissue, float32 [32, 32] of length 1: the scan at the left top, 0 beyond it.

    Args:
        picture, mask: as in `Features`.
    """
    weight = shrunk(mask.astype(np.float32), COARSE_SIDE)
    seen = shrunk(picture * mask.astype(np.float32), COARSE_SIDE)
    level = np.where(weight > 0.05, seen / np.maximum(weight, 1e-3), 0)
    detail = band(level, (weight > 0.3).astype(np.float32), *COARSE_BAND)
    out = np.zeros((COARSE_SIDE, COARSE_SIDE), np.float32)
    out[: detail.shape[0], : detail.shape[1]] = detail / (np.linalg.norm(detail) + 1e-6)
    return out


# --- kept on disk, so that memory does not grow with the number of scans -----------------------------------------

_RECORD = np.dtype(
    [
        ("scale", "<f4"),
        ("count", "<u2"),
        ("height", "u1"),
        ("width", "u1"),
        ("points", "<f4", (KEYPOINTS, 2)),
        ("descriptors", "u1", (KEYPOINTS, 128)),
        ("picture", "u1", (PICTURE_SIDE * PICTURE_SIDE,)),
        ("mask", "u1", (PICTURE_SIDE * PICTURE_SIDE // 8,)),
        ("coarse", "<f2", (COARSE_SIDE, COARSE_SIDE)),
    ]
)


@dataclass(frozen=True)
class Store:
    """A file of features, one record of a fixed size for each scan; `path` is made when something is written."""

    path: Path

    def write(self, place: int, features: Features) -> None:
        """Put features at a place; places may be written in any order, by several processes."""
        record = np.zeros((), _RECORD)
        count, (height, width) = len(features.points), features.picture.shape
        record["scale"], record["count"] = features.scale, count
        record["height"], record["width"] = height, width
        record["points"][:count] = features.points
        record["descriptors"][:count] = features.descriptors
        record["picture"][: height * width] = features.picture.ravel()
        bits = np.packbits(features.mask.ravel())
        record["mask"][: len(bits)] = bits
        record["coarse"] = features.coarse
        self.path.touch()
        with self.path.open("r+b", buffering=0) as file:
            file.seek(place * _RECORD.itemsize)
            file.write(record.tobytes())

    def read(self, place: int) -> Features:
        """Return the features at a place that was written."""
        record = np.fromfile(self.path, _RECORD, count=1, offset=place * _RECORD.itemsize)[0]
        count, height, width = int(record["count"]), int(record["height"]), int(record["width"])
        size = height * width
        return Features(
            record["points"][:count],
            record["descriptors"][:count],
            record["picture"][:size].reshape(height, width),
            np.unpackbits(record["mask"], count=size).reshape(height, width).astype(bool),
            record["coarse"].astype(np.float32),
            float(record["scale"]),
        )
