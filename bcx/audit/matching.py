"""Whether two scans show the same frame, the same lesion, or neither.

Landmarks that agree on one affine map give the alignment of copies, however they were cropped, scaled or flipped.
Another frame of a lesion shares no landmarks: there, the coarse pictures give a first alignment and the enhanced
correlation coefficient (Evangelidis 2008) refines it. Either way the aligned *tissue* must agree, place by place, so
that equal writing, calipers, logos or rulers do not make a pair.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bcx.audit.candidates import COARSE, MIRRORED, WORDS
from bcx.audit.features import COARSE_SIDE, PICTURE_SIDE, ROUGH_SIDE, Features, read_features

NEAR_DUPLICATE, SAME_LESION = "near-duplicate", "same lesion"

LEAST_LANDMARKS = 10  # that must agree on one map
COPY_LANDMARKS, COPY_FINE = 12, 0.5
"""Landmarks, or correlation in fine details, from which it is the same frame and not just the same lesion."""
LEAST_COPY = 0.35
"""Correlation of the tissue, over all and in the median place, of scans that landmarks align."""

LEAST_COARSE, LEAST_REFINED = 0.48, 0.46
"""Correlation of two coarse pictures from which another frame of one lesion is looked for, and after refining."""
LESION_SURE, LESION_LIKELY = (0.60, 0.60), (0.50, 0.75)
"""What two frames of a lesion reach: correlation in middle and fine details together, and the share of the smaller
scan's tissue that they have in common. Likely pairs need more tissue."""
RAISE, RAISE_FROM = 0.04, 700
"""By how much both correlations rise whenever there are e times as many scans, beyond so many: the more scans there
are, the more of them look alike by chance. Among 1,501 scans of BUS-BRA, which names its patients, chance pairs became
e times rarer with each .04."""
LESION_LARGER_SHARE, LESION_STRETCH, LESION_ANGLE = 0.56, 1.3, 10.0
"""Share of the larger scan's tissue, stretch (largest over smallest scale) and degrees of two frames of a lesion."""

_PLACE = 20  # side of a place, in pixels
_REACH = 3.5  # pixels by which a landmark may miss
_RATIO = 0.92


@dataclass(frozen=True)
class Match:
    """What two scans have in common."""

    kind: str  # `NEAR_DUPLICATE` or `SAME_LESION`
    score: float  # correlation of the aligned tissue in middle details, -1..1
    landmarks: int = 0  # how many agree on the alignment; 0 where it came from the coarse pictures
    mirrored: bool = False  # whether one is the mirror image of the other
    changes: tuple[str, ...] = ()  # what was done to one of them, in words


class _Agreement(NamedTuple):
    """How well two aligned scans agree: correlations in middle and fine details, the median over places, shares."""

    middle: float = 0.0
    fine: float = 0.0
    median: float = 0.0
    share: float = 0.0
    larger_share: float = 0.0


def compare(a: Features, b: Features, proposed: int, among: int) -> Match | None:
    """Return what two scans have in common; None where that is nothing, or too little to say so.

    Mirrored scans are tried where landmarks proposed them so, another frame where the coarse pictures did.

    Args:
        proposed: bits of `bcx.audit.candidates`.
        among: how many scans these two were picked from.
    """
    shift = _coarse_shift(a, b) if proposed & COARSE else None
    if (proposed & WORDS or shift) and (found := _copy(a, b, False)):
        return found
    if proposed & MIRRORED and (found := _copy(a, b, True)):
        return found
    return _frame(a, b, shift, RAISE * max(0.0, math.log(among / RAISE_FROM))) if shift else None


def _copy(a: Features, b: Features, turned: bool) -> Match | None:
    """Align by landmarks and look whether the tissue agrees place by place; `turned`: with the mirror image of b."""
    theirs = b.flipped if turned else b.plain
    if min(len(a.plain), len(theirs)) < LEAST_LANDMARKS:
        return None
    alike = a.plain @ theirs.T
    best = alike.argmax(1)
    rows = np.arange(len(best))
    top, second = alike[rows, best], np.partition(alike, -2, axis=1)[:, -2]
    # Each other's best; squared distances of unit vectors are 2 (1 - product).
    kept = (alike.argmax(0)[best] == rows) & (1 - top < _RATIO**2 * (1 - second))
    if kept.sum() < LEAST_LANDMARKS:
        return None
    to, of = a.points[kept], b.points[best[kept]].copy()
    if turned:
        of[:, 0] = b.mask.shape[1] - 1 - of[:, 0]
    warp, inside = cv2.estimateAffine2D(
        of, to, method=cv2.RANSAC, ransacReprojThreshold=_REACH, maxIters=1000, confidence=0.99
    )
    if warp is None or inside.sum() < LEAST_LANDMARKS or not _plausible(warp):
        return None
    found, count = _agreement(a, b, warp, turned), int(inside.sum())
    if min(found.median, found.middle) < LEAST_COPY:
        return None
    if count < COPY_LANDMARKS and found.fine < COPY_FINE:
        return Match(SAME_LESION, round(found.middle, 3), count, turned)
    return Match(NEAR_DUPLICATE, round(found.middle, 3), count, turned, _changes(a, b, warp, turned, found))


def _plausible(warp: np.ndarray, stretch: float = 2.2) -> bool:
    """Tell whether a map is one that people or programs make: no fold, no extreme scale or squeeze."""
    large, small = np.linalg.svd(warp[:, :2], compute_uv=False)
    return bool(np.linalg.det(warp[:, :2]) > 0 and small > 0.2 and large < 5 and large < stretch * small)


def _coarse_shift(a: Features, b: Features) -> tuple[int, int] | None:
    """Return by how much b's coarse picture lies right of and below a's; None where they do not agree."""
    joined = np.fft.irfft2(a.spectrum.conj() * b.spectrum)
    down, right = np.unravel_index(int(joined.argmax()), joined.shape)
    if joined[down, right] < LEAST_COARSE:
        return None
    half = COARSE_SIDE
    return (int(right) + half) % (2 * half) - half, (int(down) + half) % (2 * half) - half


def _frame(a: Features, b: Features, shift: tuple[int, int], raised: float) -> Match | None:
    """Refine the alignment of the coarse pictures, and look whether middle and fine details agree."""
    scale = ROUGH_SIDE / COARSE_SIDE
    back = np.array([[1, 0, shift[0] * scale], [0, 1, shift[1] * scale]], np.float32)
    (mine, _), (theirs, their_mask) = a.rough, b.rough
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 25, 1e-3)
    try:
        reached, refined = cv2.findTransformECC(mine, theirs, back, cv2.MOTION_AFFINE, stop, their_mask, 5)
    except cv2.error:  # it does not converge: they have nothing in common
        return None
    if reached < LEAST_REFINED:
        return None
    grow = np.diag([PICTURE_SIDE / ROUGH_SIDE] * 2 + [1.0])
    warp = np.linalg.inv(grow @ np.vstack([refined, [0, 0, 1]]) @ np.linalg.inv(grow))[:2]
    if not _plausible(warp, LESION_STRETCH) or abs(_angle(warp)) > LESION_ANGLE:
        return None
    found = _agreement(a, b, warp, False)
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


def _agreement(a: Features, b: Features, warp: np.ndarray, turned: bool) -> _Agreement:
    """Return how well b, mapped by `warp` (and mirrored before, where `turned`), agrees with a."""
    height, width = a.mask.shape

    def moved(layer: np.ndarray) -> np.ndarray:
        layer = np.ascontiguousarray(layer[:, ::-1]) if turned else layer
        return cv2.warpAffine(layer, warp, (width, height), flags=cv2.INTER_LINEAR)

    joint = ((moved(b.weight) > 0.95) & a.mask).astype(np.float32)
    areas = float(a.weight.sum()), float(b.weight.sum() * abs(np.linalg.det(warp[:, :2])))
    if joint.sum() < 400:
        return _Agreement()
    (middle, fine), (other_middle, other_fine) = a.bands, map(moved, b.bands)
    return _Agreement(
        _correlation(middle, other_middle, joint),
        _correlation(fine, other_fine, joint),
        _median_place(middle, other_middle, joint),
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
    starts = product(range(0, weight.shape[0], _PLACE), range(0, weight.shape[1], _PLACE))
    squares = [np.s_[y : y + _PLACE, x : x + _PLACE] for y, x in starts]
    full = [here for here in squares if weight[here].sum() > _PLACE**2 / 2]
    return float(np.median([_correlation(one[here], other[here], weight[here]) for here in full])) if full else 0.0


def _changes(a: Features, b: Features, warp: np.ndarray, turned: bool, found: _Agreement) -> tuple[str, ...]:
    """Say what was done to one of two copies."""
    said = ["mirrored"] if turned else []
    if abs(angle := _angle(warp)) > 2:
        said.append(f"turned by {abs(angle):.0f} degrees")
    scale = np.sqrt(abs(np.linalg.det(warp[:, :2]))) * b.scale / a.scale
    if abs(np.log(scale)) > 0.03:
        said.append(f"scaled by {max(scale, 1 / scale):.2f}")
    if found.larger_share < 0.88:
        said.append(f"cropped to {100 * found.larger_share:.0f} %")
    levels = [float(each.picture[each.mask].mean()) for each in (a, b)]
    if abs(levels[0] - levels[1]) > 8:
        said.append("brightness changed")
    return tuple(said)


def compare_some(store: Path, among: int, pairs: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, Match]]:
    """Return what the pairs (place, place, proposed) have in common, those that have anything."""
    read = partial(read_features, store)
    compared = ((a, b, compare(read(a), read(b), proposed, among)) for a, b, proposed in pairs)
    return [(a, b, match) for a, b, match in compared if match]
