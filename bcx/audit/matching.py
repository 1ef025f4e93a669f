"""Whether two scans show the same frame, the same lesion, or neither.

Landmarks that agree on one affine map give the alignment of copies, however they were cropped, scaled or flipped.
Another frame of a lesion shares no landmarks: there, the coarse pictures give a first alignment and the enhanced
correlation coefficient (Evangelidis 2008) refines it. Either way the aligned *tissue* must agree, place by place, so
that equal writing, calipers, logos or rulers do not make a pair.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np

from bcx.audit.candidates import COARSE, MIRRORED, WORDS
from bcx.audit.features import COARSE_SIDE, Features, Store, mirrored, rooted
from bcx.audit.layers import PICTURE_SIDE, band, shrunk

NEAR_DUPLICATE, SAME_LESION = "near-duplicate", "same lesion"

LEAST_LANDMARKS = 10
"""Landmarks that must agree on one map."""
COPY_LANDMARKS, COPY_FINE = 12, 0.5
"""Landmarks, or correlation in fine details, from which it is the same frame and not just the same lesion."""
LEAST_COPY = 0.35
"""Correlation of the tissue, over all and in the median place, of scans that landmarks align."""

LEAST_COARSE = 0.48
"""Correlation of two coarse pictures from which another frame of one lesion is looked for."""
LEAST_REFINED = 0.46
"""The same after refining the alignment."""
LESION_SURE, LESION_LIKELY = (0.60, 0.60), (0.50, 0.75)
"""What two frames of a lesion reach: correlation in middle and fine details together, and the share of the smaller
scan's tissue that they have in common. Likely pairs need more tissue."""
RAISE, RAISE_FROM = 0.04, 700
"""By how much both correlations rise whenever there are e times as many scans, beyond so many: the more scans there
are, the more of them look alike by chance. Among 1,501 scans of BUS-BRA, which names its patients, chance pairs became
e times rarer with each .04."""
LESION_LARGER_SHARE, LESION_STRETCH, LESION_ANGLE = 0.56, 1.3, 10.0
"""Share of the larger scan's tissue, stretch (largest over smallest scale) and degrees of two frames of a lesion."""

_MIDDLE, _FINE = (1.25, 7.5), (0.6, 3.0)  # sizes of details, in pixels of the small picture
_PLACE = 20  # side of a place, in pixels
_REACH = 3.5  # pixels by which a landmark may miss
_RATIO = 0.92
_ECC_SIDE = 80


@dataclass(frozen=True)
class Match:
    """What two scans have in common.

    Attributes:
        kind: "near-duplicate" or "same lesion".
        score: correlation of the aligned tissue in middle details, -1..1.
        landmarks: how many agree on the alignment; 0 where it came from the coarse pictures.
        mirrored: whether one is the mirror image of the other.
        changes: what was done to one of them, in words.
    """

    kind: str
    score: float
    landmarks: int = 0
    mirrored: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How well two aligned scans agree: correlations in middle and fine details, the median over places, shares."""

    middle: float = 0.0
    fine: float = 0.0
    median: float = 0.0
    share: float = 0.0
    larger_share: float = 0.0


class Ready:
    """A scan's features with what comparing needs, each part made when first asked for."""

    def __init__(self, features: Features) -> None:
        self.features = features
        self.mask = features.mask.astype(np.float32)

    @cached_property
    def plain(self) -> np.ndarray:
        return rooted(self.features.descriptors)

    @cached_property
    def flipped(self) -> np.ndarray:
        return rooted(mirrored(self.features.descriptors))

    @cached_property
    def middle(self) -> np.ndarray:
        return band(self.features.picture, self.mask, *_MIDDLE)

    @cached_property
    def fine(self) -> np.ndarray:
        return band(self.features.picture, self.mask, *_FINE)

    @cached_property
    def spectrum(self) -> np.ndarray:
        """Fourier transform of the coarse picture with room to shift it."""
        return np.fft.rfft2(self.features.coarse, (2 * COARSE_SIDE, 2 * COARSE_SIDE))

    @cached_property
    def rough(self) -> tuple[np.ndarray, np.ndarray]:
        """Details for the refinement, float32 [h, w] with the longer side at 80, and their mask, uint8."""
        mask = (shrunk(self.mask, _ECC_SIDE) > 0.5).astype(np.float32)
        return band(shrunk(self.features.picture, _ECC_SIDE), mask, 0.75, 6.0), mask.astype(np.uint8) * 255


def compare(a: Ready, b: Ready, proposed: int, among: int = 2) -> Match | None:
    """Return what two scans have in common; None where that is nothing, or too little to say so.

    Args:
        a, b: features, made ready.
        proposed: bits of `bcx.audit.candidates`: mirrored scans are tried where landmarks proposed them so, another
            frame where the coarse pictures did.
        among: how many scans these two were picked from.
    """
    shift = _coarse_shift(a, b) if proposed & COARSE else None
    if (proposed & WORDS or shift) and (found := _copy(a, b, False)):
        return found
    if proposed & MIRRORED and (found := _copy(a, b, True)):
        return found
    return _frame(a, b, shift, RAISE * max(0.0, math.log(among / RAISE_FROM))) if shift else None


def _copy(a: Ready, b: Ready, turned: bool) -> Match | None:
    """Align by landmarks and look whether the tissue agrees place by place."""
    aligned = _by_landmarks(a, b, turned)
    if aligned is None:
        return None
    warp, count = aligned
    found = agreement(a, b, warp, turned)
    if found.median < LEAST_COPY or found.middle < LEAST_COPY:
        return None
    if count < COPY_LANDMARKS and found.fine < COPY_FINE:
        return Match(SAME_LESION, round(found.middle, 3), count, turned)
    return Match(NEAR_DUPLICATE, round(found.middle, 3), count, turned, _changes(a, b, warp, turned, found))


def _by_landmarks(a: Ready, b: Ready, turned: bool) -> tuple[np.ndarray, int] | None:
    """Return the affine map from b to a, float64 [2, 3], and how many landmarks agree on it; None for too few."""
    theirs = b.flipped if turned else b.plain
    if min(len(a.plain), len(theirs)) < LEAST_LANDMARKS:
        return None
    alike = a.plain @ theirs.T
    best = alike.argmax(1)
    rows = np.arange(len(best))
    top = alike[rows, best]
    second = np.partition(alike, -2, axis=1)[:, -2]
    mutual = alike.argmax(0)[best] == rows
    kept = mutual & (1 - top < _RATIO**2 * (1 - second))  # squared distances of unit vectors are 2 (1 - product)
    if kept.sum() < LEAST_LANDMARKS:
        return None
    to, of = a.features.points[kept], b.features.points[best[kept]].copy()
    if turned:
        of[:, 0] = b.mask.shape[1] - 1 - of[:, 0]
    warp, inside = cv2.estimateAffine2D(
        of, to, method=cv2.RANSAC, ransacReprojThreshold=_REACH, maxIters=1000, confidence=0.99
    )
    if warp is None or inside.sum() < LEAST_LANDMARKS or not _plausible(warp):
        return None
    return warp, int(inside.sum())


def _plausible(warp: np.ndarray) -> bool:
    """Tell whether a map is one that people or programs make: no fold, no extreme scale or squeeze."""
    large, small = np.linalg.svd(warp[:, :2], compute_uv=False)
    return bool(np.linalg.det(warp[:, :2]) > 0 and small > 0.2 and large < 5 and large < 2.2 * small)


def _coarse_shift(a: Ready, b: Ready) -> tuple[int, int] | None:
    """Return by how much b's coarse picture lies right of and below a's; None where they do not agree."""
    product = np.fft.irfft2(a.spectrum.conj() * b.spectrum)
    down, right = np.unravel_index(int(product.argmax()), product.shape)
    if product[down, right] < LEAST_COARSE:
        return None
    half = COARSE_SIDE
    return (int(right) + half) % (2 * half) - half, (int(down) + half) % (2 * half) - half


def _frame(a: Ready, b: Ready, shift: tuple[int, int], raised: float) -> Match | None:
    """Refine the alignment of the coarse pictures, and look whether middle and fine details agree."""
    scale = _ECC_SIDE / COARSE_SIDE
    back = np.array([[1, 0, shift[0] * scale], [0, 1, shift[1] * scale]], np.float32)
    (mine, _), (theirs, their_mask) = a.rough, b.rough
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
    try:
        reached, refined = cv2.findTransformECC(mine, theirs, back, cv2.MOTION_AFFINE, stop, their_mask, 5)
    except cv2.error:  # it does not converge: they have nothing in common
        return None
    if reached < LEAST_REFINED:
        return None
    grow = np.diag([PICTURE_SIDE / _ECC_SIDE] * 2 + [1.0])
    warp = np.linalg.inv(grow @ np.vstack([refined, [0, 0, 1]]) @ np.linalg.inv(grow))[:2]
    large, small = np.linalg.svd(warp[:, :2], compute_uv=False)
    if not _plausible(warp) or large > LESION_STRETCH * small or abs(_angle(warp)) > LESION_ANGLE:
        return None
    found = agreement(a, b, warp, False)
    together = found.middle + found.fine
    if found.larger_share < LESION_LARGER_SHARE or not any(
        together >= least + raised and found.share >= share for least, share in (LESION_SURE, LESION_LIKELY)
    ):
        return None
    if found.fine >= COPY_FINE and found.median >= COPY_FINE:
        return Match(NEAR_DUPLICATE, round(found.middle, 3), 0, False, _changes(a, b, warp, False, found))
    return Match(SAME_LESION, round(found.middle, 3))


def _angle(warp: np.ndarray) -> float:
    """Return by how many degrees a map turns."""
    return float(np.degrees(np.arctan2(warp[1, 0] - warp[0, 1], warp[0, 0] + warp[1, 1])))


def agreement(a: Ready, b: Ready, warp: np.ndarray, turned: bool) -> Agreement:
    """Return how well b, mapped by `warp` (and mirrored before, where `turned`), agrees with a."""
    height, width = a.mask.shape

    def moved(layer: np.ndarray) -> np.ndarray:
        layer = np.ascontiguousarray(layer[:, ::-1]) if turned else layer
        return cv2.warpAffine(layer, warp, (width, height), flags=cv2.INTER_LINEAR)

    joint = ((moved(b.mask) > 0.95) & (a.mask > 0)).astype(np.float32)
    areas = float(a.mask.sum()), float(b.mask.sum() * abs(np.linalg.det(warp[:, :2])))
    if joint.sum() < 400:
        return Agreement()
    middle, fine = moved(b.middle), moved(b.fine)
    return Agreement(
        _correlation(a.middle, middle, joint),
        _correlation(a.fine, fine, joint),
        _median_place(a.middle, middle, joint),
        float(joint.sum()) / max(1.0, min(areas)),
        float(joint.sum()) / max(1.0, max(areas)),
    )


def _correlation(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    one = (one - (one * weight).sum() / total) * weight
    other = (other - (other * weight).sum() / total) * weight
    return float((one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum() + 1e-6))


def _median_place(one: np.ndarray, other: np.ndarray, weight: np.ndarray) -> float:
    """Return the median of the correlations of small squares, so that no single bright thing decides."""
    places = []
    for y in range(0, weight.shape[0], _PLACE):
        for x in range(0, weight.shape[1], _PLACE):
            here = slice(y, y + _PLACE), slice(x, x + _PLACE)
            if weight[here].sum() > _PLACE**2 / 2:
                places.append(_correlation(one[here], other[here], weight[here]))
    return float(np.median(places)) if places else 0.0


def _changes(a: Ready, b: Ready, warp: np.ndarray, turned: bool, found: Agreement) -> tuple[str, ...]:
    """Say what was done to one of two copies."""
    said = ["mirrored"] if turned else []
    if abs(angle := _angle(warp)) > 2:
        said.append(f"turned by {abs(angle):.0f} degrees")
    scale = np.sqrt(abs(np.linalg.det(warp[:, :2]))) * b.features.scale / a.features.scale
    if abs(np.log(scale)) > 0.03:
        said.append(f"scaled by {max(scale, 1 / scale):.2f}")
    if found.larger_share < 0.88:
        said.append(f"cropped to {100 * found.larger_share:.0f} %")
    levels = [float(r.features.picture[r.features.mask].mean()) for r in (a, b)]
    if abs(levels[0] - levels[1]) > 8:
        said.append("brightness changed")
    return tuple(said)


@lru_cache(128)
def ready(store: Store, place: int) -> Ready:
    """Return a stored scan for comparing; those read last are kept at hand."""
    return Ready(store.read(place))


def compare_some(store: Store, pairs: Sequence[tuple[int, int, int]], among: int) -> list[tuple[int, int, Match]]:
    """Return what the pairs (place, place, proposed) have in common, those that have anything."""
    compared = ((a, b, compare(ready(store, a), ready(store, b), proposed, among)) for a, b, proposed in pairs)
    return [(a, b, match) for a, b, match in compared if match]
