"""Means of figures that each scan has one of, with intervals over groups.

>>> found = means_with_intervals({"hit": [1.0, 0.0, 1.0, float("nan")]}, ["a", "a", "b", "c"])
>>> found["hit"]["n"], round(found["hit"]["value"], 3)
(3, 0.667)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bcx.evaluate.intervals import bootstrap_intervals


def means_with_intervals(columns: Mapping[str, Sequence | np.ndarray], groups: Sequence[str]) -> dict[str, Any]:
    """Return the mean of each column with its 95 % bootstrap interval over groups.

    Args:
        columns: name -> float [N], nan where a scan has no such figure.
        groups: [N], the group of each scan.

    Returns:
        name -> {"value", "low", "high", "n"}; n is the number of scans that have the figure, and a value or bound
        without meaning (no scan, fewer than two groups) is None.
    """
    values = np.stack([np.asarray(column, np.float64) for column in columns.values()], axis=1)
    there = np.isfinite(values)
    known = np.where(there, values, 0.0)

    def means(weights: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (weights @ known) / (weights @ there)

    low, high = bootstrap_intervals(means, groups) if len(groups) else (np.full(len(columns), np.nan),) * 2
    return {
        name: {"value": or_none(value), "low": or_none(a), "high": or_none(b), "n": int(n)}
        for name, value, a, b, n in zip(columns, means(np.ones(len(groups))), low, high, there.sum(axis=0), strict=True)
    }


def or_none(value: float) -> float | None:
    """Return a plain float, or None for nan, which JSON does not know."""
    return None if np.isnan(value) else float(value)
