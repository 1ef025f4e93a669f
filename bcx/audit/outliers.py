"""What is odd about a scan only beside the others of its folder: size, brightness, and whether it is a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from bcx.audit.look import Look
from bcx.audit.oddities import Odd

FEWEST = 12
"""Scans below which nothing is called unusual."""
FAR = 5.0
"""Distance from the median, in units of the usual deviation (1.48 times the median of all deviations)."""
SIZE_FACTOR = 1.8
"""Factor from the median that an unusual width, height or proportion also has."""
GREY_LEVELS = 30
"""Grey levels from the median that an unusual brightness or contrast also has."""
PATIENCE = 60
"""Scans in a row that pass before the network is no longer asked about the next less unusual one."""


def outliers(looks: Sequence[Look]) -> list[tuple[int, Odd]]:
    """Return what is unusual about each scan, as (number in `looks`, what)."""
    read = [number for number, look in enumerate(looks) if look.width and not _is(look, "mask", "not a scan")]
    if len(read) < FEWEST:
        return []
    sizes = np.array([[looks[k].width, looks[k].height] for k in read], float)
    logs = np.log(np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]]))
    odd = (_distance(logs) > FAR) & (np.abs(logs - np.median(logs, axis=0)) > np.log(SIZE_FACTOR))
    middle = np.median(sizes, axis=0)
    usual = f"the usual size is {middle[0]:.0f} x {middle[1]:.0f}"
    found = [
        (read[row], Odd("size", f"{looks[read[row]].width} x {looks[read[row]].height} pixels; {usual}."))
        for row in np.flatnonzero(odd.any(axis=1))
    ]
    levels = np.array([looks[k].measures[:2] for k in read])
    middle = np.median(levels, axis=0)
    odd = (_distance(levels) > FAR) & (np.abs(levels - middle) > GREY_LEVELS)
    for row in np.flatnonzero(odd.any(axis=1)):
        mean, spread = levels[row]
        detail = f"Mean grey level {mean:.0f}, deviation {spread:.0f}; usual are {middle[0]:.0f} and {middle[1]:.0f}."
        found.append((read[row], Odd("intensity", detail)))
    return found


def no_scans(looks: Sequence[Look], is_scan: Callable[[Sequence[Look]], list[bool]]) -> list[int]:
    """Return the numbers in `looks` of those that are no scans, by a network that is asked.

    The most unusual images are asked about first, until many in a row are scans: a network that reads every image of a
    large folder would take longer than all the rest.
    """
    asked = [number for number, look in enumerate(looks) if look.comparable and not _is(look, "not a scan")]
    if not asked:
        return []
    measures = np.array([looks[k].measures for k in asked])
    order = np.argsort(-_distance(measures).max(axis=1), kind="stable")
    found: list[int] = []
    passed = 0
    for start in range(0, len(order), PATIENCE // 2):
        some = [asked[row] for row in order[start : start + PATIENCE // 2]]
        for number, fine in zip(some, is_scan([looks[k] for k in some]), strict=True):
            passed = passed + 1 if fine else 0
            if not fine:
                found.append(number)
        if passed >= PATIENCE:
            break
    return sorted(found)


def _distance(values: np.ndarray) -> np.ndarray:
    """Return [N, M]: how far each value is from its column's median, in robust standard deviations."""
    apart = np.abs(values - np.median(values, axis=0))
    return apart / (1.4826 * np.median(apart, axis=0) + 1e-6)


def _is(look: Look, *kinds: str) -> bool:
    return any(odd.kind in kinds for odd in look.odd)
