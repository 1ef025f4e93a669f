"""What is kept of each scan for comparing it: landmarks, a coarse picture, a small picture.

Two scans of one scanner share logo, ruler, text and layout, and a copy may carry other marks than its original. So
tissue alone is compared: what is burnt in is found, left out, and filled from around it.

Landmarks are SIFT keypoints: crops, scales and brightness leave them alone, and a mirrored scan has mirrored ones.
The coarse picture finds the same lesion in another frame, whose landmarks have all changed.
"""

from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from safetensors.numpy import load, save

from bcx.imaging.preprocess import to_grey, with_side
from bcx.trust.plain import CHROMA, chroma_of

LOOK_SIDE = 512  # longer side at which marks are looked for: strokes of text are one to three pixels wide there
PICTURE_SIDE = 160  # longer side of the small picture: tissue is recognisable, speckle mostly gone
COARSE_SIDE = 32
KEYPOINTS = 200  # strongest landmarks kept of each scan
COARSE_BAND = (0.67, 4.0)  # sizes of the details in the coarse picture, in its pixels
MIDDLE_BAND, FINE_BAND = (1.25, 7.5), (0.6, 3.0)  # and in the small picture
ROUGH_SIDE, ROUGH_BAND = 80, (0.75, 6.0)  # of the picture by which an alignment is refined

STROKE = 9  # strokes thinner than this, at `LOOK_SIDE`, may be burnt in
STROKE_CONTRAST, STROKE_LEVEL = 70, 140  # grey levels that a stroke stands above what is around it, and has at least
DARK = 10  # mean grey level up to which a place is background
TISSUE_SHARE = 0.05  # smallest share of the picture that a part of the tissue fills

_NOISE = 4.0  # grey levels of detail below which contrast is not raised further
_CONTRAST = 0.01  # lower than SIFT's own: tissue has little contrast
_MIRRORED_TURNS = [0, 7, 6, 5, 4, 3, 2, 1]


def looked_at(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [H, W] or [H, W, 3] no longer than `LOOK_SIDE`."""
    return with_side(pixels, LOOK_SIDE) if max(pixels.shape[:2]) > LOOK_SIDE else pixels


def burnt_in(pixels: np.ndarray) -> np.ndarray:
    """Return bool [H, W] of pixels no longer than `LOOK_SIDE`: bright thin strokes (text, calipers, rulers) and colour.

    True reflectors that are as thin and bright are taken as well: tissue enough remains.
    """
    grey = to_grey(pixels)
    raised = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, np.ones((STROKE, STROKE), np.uint8))
    marks = (raised > STROKE_CONTRAST) & (grey > STROKE_LEVEL)
    return marks if pixels.ndim == 2 else marks | (chroma_of(pixels) > CHROMA)


def _tissue(grey: np.ndarray) -> np.ndarray:
    """Return bool [H, W] of uint8 [H, W] at about `PICTURE_SIDE`: large connected parts that are not black."""
    bright = (cv2.blur(grey, (3, 3)) > DARK).astype(np.uint8)
    solid = cv2.morphologyEx(bright, cv2.MORPH_OPEN, np.ones((6, 6), np.uint8))
    _, parts, stats, _ = cv2.connectedComponentsWithStats(solid)
    large = stats[:, cv2.CC_STAT_AREA] >= TISSUE_SHARE * grey.size
    large[0] = False
    return cv2.morphologyEx(large[parts].astype(np.uint8), cv2.MORPH_CLOSE, np.ones((7, 7), np.uint8)).astype(bool)


def _small_picture(pixels: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `picture` and `mask` of `Features`."""
    grey = to_grey(pixels)
    clear = (~marks).astype(np.float32)
    share = with_side(clear, PICTURE_SIDE)
    small = with_side(grey, PICTURE_SIDE)
    if marks.any():
        seen = with_side(grey.astype(np.float32) * clear, PICTURE_SIDE)
        # Where marks leave less than half of a pixel, the neighbours speak for it.
        around = cv2.GaussianBlur(seen, (0, 0), 3) / np.maximum(cv2.GaussianBlur(share, (0, 0), 3), 1e-3)
        filled = np.where(share > 0.5, seen / np.maximum(share, 1e-3), around)
        small = np.clip(np.rint(filled), 0, 255).astype(np.uint8)
    covered = cv2.dilate((share < 0.95).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    return small, _tissue(small) & ~covered


def _band(picture: np.ndarray, mask: np.ndarray, fine: float, coarse: float) -> np.ndarray:
    """Return details between two sizes, float32 [h, w], at even local contrast: gain and shadow hardly count.

    `mask` is float32 [h, w], 1 where the picture counts, else 0, as is the result there; `fine` and `coarse` are the
    standard deviations in pixels of the two blurs whose difference is taken.
    """
    values = picture.astype(np.float32) * mask
    near, far, wide = (np.maximum(cv2.GaussianBlur(mask, (0, 0), s), 1e-3) for s in (fine, coarse, 1.5 * coarse))
    detail = cv2.GaussianBlur(values, (0, 0), fine) / near - cv2.GaussianBlur(values, (0, 0), coarse) / far
    detail *= mask
    power = cv2.GaussianBlur(detail * detail, (0, 0), 1.5 * coarse) / wide
    return detail / (np.sqrt(power) + _NOISE)


def _coarse_picture(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    weight = with_side(mask.astype(np.float32), COARSE_SIDE)
    seen = with_side(picture * mask.astype(np.float32), COARSE_SIDE)
    level = np.where(weight > 0.05, seen / np.maximum(weight, 1e-3), 0)
    detail = _band(level, (weight > 0.3).astype(np.float32), *COARSE_BAND)
    out = np.zeros((COARSE_SIDE, COARSE_SIDE), np.float32)
    out[: detail.shape[0], : detail.shape[1]] = detail / (np.linalg.norm(detail) + 1e-6)
    return out


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """What is kept of one scan, and what comparing it needs, each part made when first asked for."""

    points: np.ndarray  # float32 [K, 2], x and y of the landmarks in pixels of `picture`
    descriptors: np.ndarray  # uint8 [K, 128], SIFT
    picture: np.ndarray  # uint8 [h, w], longer side `PICTURE_SIDE`, marks filled
    mask: np.ndarray  # bool [h, w], tissue without marks
    coarse: np.ndarray  # float32 [32, 32] of length 1, coarse details of tissue: the scan at the left top, 0 beyond it
    scale: float  # pixels of `picture` per pixel of the scan

    @cached_property
    def plain(self) -> np.ndarray:
        return rooted(self.descriptors)

    @cached_property
    def flipped(self) -> np.ndarray:
        return rooted(mirrored(self.descriptors))

    @cached_property
    def weight(self) -> np.ndarray:
        return self.mask.astype(np.float32)

    @cached_property
    def bands(self) -> list[np.ndarray]:
        """Middle and fine details of the picture."""
        return [_band(self.picture, self.weight, *ends) for ends in (MIDDLE_BAND, FINE_BAND)]

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Fourier transform of the coarse picture with room to shift it."""
        return np.fft.rfft2(self.coarse, (2 * COARSE_SIDE, 2 * COARSE_SIDE))

    @cached_property
    def rough(self) -> tuple[np.ndarray, np.ndarray]:
        """Details for refining an alignment, float32 [h, w] with the longer side at `ROUGH_SIDE`; their mask, uint8."""
        mask = (with_side(self.weight, ROUGH_SIDE) > 0.5).astype(np.float32)
        return _band(with_side(self.picture, ROUGH_SIDE), mask, *ROUGH_BAND), mask.astype(np.uint8) * 255


def describe(pixels: np.ndarray) -> Features:
    """Describe uint8 [H, W] or [H, W, 3]."""
    seen = looked_at(pixels)
    picture, mask = _small_picture(seen, burnt_in(seen))
    keypoints, descriptors = _sift().detectAndCompute(picture, mask.astype(np.uint8))
    order = np.argsort([-keypoint.response for keypoint in keypoints], kind="stable")[:KEYPOINTS]
    points = np.array([keypoints[k].pt for k in order], np.float32).reshape(-1, 2)
    values = np.zeros((0, 128), np.uint8) if descriptors is None else descriptors[order].astype(np.uint8)
    scale = max(picture.shape) / max(pixels.shape[:2])
    return Features(points, values, picture, mask, _coarse_picture(picture, mask), scale)


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


def write_features(store: Path, place: int, features: Features) -> None:
    """Keep features in a folder, so that memory does not grow with the number of scans."""
    arrays = {name: getattr(features, name) for name in ("points", "descriptors", "picture")}
    arrays["mask"] = np.packbits(features.mask)
    arrays["coarse"], arrays["scale"] = features.coarse.astype(np.float16), np.array(features.scale, np.float32)
    (store / str(place)).write_bytes(save(arrays))


@lru_cache(128)
def read_features(store: Path, place: int) -> Features:
    """Return the features at a place that was written; those read last are kept at hand."""
    arrays = load((store / str(place)).read_bytes())
    mask = np.unpackbits(arrays["mask"], count=arrays["picture"].size).reshape(arrays["picture"].shape).astype(bool)
    coarse, scale = arrays["coarse"].astype(np.float32), float(arrays["scale"])
    return Features(arrays["points"], arrays["descriptors"], arrays["picture"], mask, coarse, scale)
