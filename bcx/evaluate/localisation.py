"""Does the heat lie in the lesion? Maps against masks, scan by scan, and summed up over a set.

**Heat** is the lesion map (0..1) where the model has one; else the non-negative part of the map of the class that the
model answered with, divided by its peak, since logit units have no natural threshold. A map without any heat points
nowhere: share 0, pointing missed, IoU 0.

**Pointing** (Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018) asks whether the hottest
pixel lies in the mask, or within 15 pixels of it. Where several pixels are equally hot, it is the share of them that
do: what a fair pick among them scores on average, which does not depend on the order of pixels.

**IoU** of {heat >= t} with the mask is given at a fixed t, at the one t that is best for the whole set (chosen on these
scans, hence optimistic), and at each scan's own best t (an upper bound). Best means best of 0.01, 0.02 ... 1.

**To judge by**: the whole image as a map scores the lesion's share of the image in every figure, and a blob in the
image's centre scores more than that without looking, since people centre what they scan. Both are reported alongside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.errors import DataError
from bcx.evaluate.intervals import means_with_intervals
from bcx.inference.prediction import LESION_LEVEL, Prediction

#: Where IoU is measured to find the best threshold.
THRESHOLDS = np.arange(1, 101) / 100
#: The fixed threshold of class maps, as a share of the peak: a convention, since none is natural. That of lesion maps
#: is `bcx.inference.prediction.LESION_LEVEL`, from which on the model itself takes a pixel for lesion.
CLASS_MAP_LEVEL = 0.3
#: Pixels of the scan by which the hottest one may miss the mask.
TOLERANCE = 15
#: Lesions by their share of the image: fixed cuts, so that sets can be compared.
SIZES = {"small (below 3 %)": (0.0, 0.03), "medium (3 to 8 %)": (0.03, 0.08), "large (8 % or more)": (0.08, 1.01)}
#: The blob's standard deviation, as a share of the image's width and height.
BLOB = 0.2

_ABOUT = ["file", "source", "group", "label", "answer", "map", "lesion_share"]
_FIGURES = ["heat_inside", "pointing", "pointing_15px", "iou", "iou_best_threshold", "iou_own_threshold"]
_OF_BLOB = ["heat_inside", "pointing", "pointing_15px", "iou_best_threshold"]


@dataclass(frozen=True)
class Fit:
    """How one map fits one mask, all 0..1.

    Attributes:
        inside: share of all heat that lies inside the mask.
        pointing, near: whether the hottest pixel lies in the mask, or within `TOLERANCE` of it (between for ties).
        iou, ious: of {heat >= t} with the mask, at the fixed threshold and at each of `THRESHOLDS`.
        peak: the map's largest value; 0 where there is no heat at all.
    """

    inside: float
    pointing: float
    near: float
    iou: float
    peak: float
    ious: np.ndarray = field(repr=False)

    @property
    def own_iou(self) -> float:
        """The best IoU that any of `THRESHOLDS` gives on this scan."""
        return float(self.ious.max())


@dataclass(frozen=True)
class Localisation:
    """One scan with a lesion mask: where the heat lies. `file` is the record's key, `answer` the class answered.

    Attributes:
        map: "lesion map" or "class map".
        threshold: the fixed threshold of `fit.iou`.
        lesion_share: share of the image that the lesion covers, 0..1: what the whole image scores as a map.
        fit, blob: how the model's map fits, and a blob in the image's centre.
    """

    file: str
    source: str
    group: str
    label: str
    answer: str
    map: str
    threshold: float
    lesion_share: float
    fit: Fit
    blob: Fit


def heat_of(prediction: Prediction, class_: str | None = None) -> np.ndarray:
    """Return the heat, float32 `[H, W]`, 0..1, at the scan's size; `class_`: of whose map, default: the label's."""
    if prediction.lesion is not None:
        return prediction.lesion
    heat = np.maximum(prediction.maps[list(prediction.probabilities).index(class_ or prediction.label)], 0)
    peak = float(heat.max())
    return heat / peak if peak > 0 else heat


def measure(heat: np.ndarray, mask: np.ndarray, threshold: float, tolerance: float = TOLERANCE) -> Fit:
    """Hold a map, float `[H, W]`, against a mask, bool `[H, W]`, not empty; heat below 0 counts as 0.

    Raises:
        DataError: other shapes, or an empty mask.
    """
    if heat.shape != mask.shape or not mask.any():
        raise DataError(
            f"A map of {heat.shape} came with a mask of {mask.shape}, of which {int(mask.sum())} pixels are lesion.",
            expected="a map and a mask of the same size, and some lesion",
            remedy="Enlarge the map to the scan's size, and leave scans without a lesion out.",
        )
    heat = np.maximum(heat, 0)
    inside = pointing = near = 0.0
    peak = float(heat.max())
    if peak > 0:
        hottest = heat == peak
        distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        inside = float(heat[mask].sum(dtype=np.float64) / heat.sum(dtype=np.float64))
        pointing = float(mask[hottest].mean())
        near = float((distance[hottest] <= tolerance).mean())
    region = heat >= threshold
    iou = float(np.count_nonzero(region & mask) / np.count_nonzero(region | mask))
    return Fit(inside, pointing, near, iou, peak, _ious(heat, mask))


def _ious(heat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """IoU at every threshold from one histogram: how many pixels reach each, in the mask and in all."""
    reached = np.searchsorted(THRESHOLDS, heat.ravel(), side="right")
    bins = len(THRESHOLDS) + 1
    everywhere, within = np.bincount(reached, minlength=bins), np.bincount(reached[mask.ravel()], minlength=bins)
    region, both = (np.cumsum(counts[::-1])[::-1][1:] for counts in (everywhere, within))
    return both / (region + np.count_nonzero(mask) - both)


def centred_blob(shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian in the image's centre: float32 `[H, W]`, 0..1, whatever the scan shows."""
    down, across = (np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / BLOB) ** 2) for n in shape)
    return np.outer(down, across).astype(np.float32)


def localise(record: Record, prediction: Prediction, threshold: float | None = None) -> Localisation | None:
    """Hold an answer's map against the scan's own mask; None where it has no mask, or an empty one.

    The threshold is `LESION_LEVEL` for lesion maps and `CLASS_MAP_LEVEL` for class maps, unless one is given.

    Raises:
        DataError: a mask that cannot be read, or of another size than the scan.
    """
    shape = (prediction.scan.height, prediction.scan.width)
    mask = load_mask(record, shape)
    if mask is None or not mask.any():
        return None
    kind, usual = ("class map", CLASS_MAP_LEVEL) if prediction.lesion is None else ("lesion map", LESION_LEVEL)
    threshold = usual if threshold is None else threshold
    return Localisation(
        file=record.key,
        source=record.source,
        group=record.group,
        label=record.label,
        answer=prediction.label,
        map=kind,
        threshold=threshold,
        lesion_share=float(mask.mean()),
        fit=measure(heat_of(prediction), mask, threshold),
        blob=measure(centred_blob(shape), mask, threshold),
    )


def localisation_table(found: Sequence[Localisation]) -> pd.DataFrame:
    """Return a row per scan: what it is, and every figure of the model's map (0..1)."""
    about = pd.DataFrame([vars(each) for each in found], columns=_ABOUT)
    return about.join(_figures([each.fit for each in found]))


def summarise_localisation(found: Sequence[Localisation]) -> dict[str, Any]:
    """Return the figures of a set of scans, all from one model with one fixed threshold, ready for JSON.

    The best thresholds are the same for all scans; `centred_blob` has figures of a blob that never looks, at its own.

    Raises:
        DataError: no scan.
    """
    require_masks(bool(found))
    fits, blobs = [each.fit for each in found], [each.blob for each in found]
    table = localisation_table(found).join(_figures(blobs)[_OF_BLOB].add_prefix("blob "))
    columns = ["lesion_share", *_FIGURES, *(f"blob {name}" for name in _OF_BLOB)]

    def part(rows: pd.Series) -> dict[str, Any]:
        groups = table["group"][rows].tolist()
        figures = means_with_intervals(dict(table.loc[rows, columns].items()), groups)
        blob = {name: figures.pop(f"blob {name}") for name in _OF_BLOB}
        return {"n": len(groups), "groups": len(set(groups)), **figures, "centred_blob": blob}

    sizes = {name: table["lesion_share"].between(*ends, inclusive="left") for name, ends in SIZES.items()}
    return {
        "map": found[0].map,
        "threshold": found[0].threshold,
        "best_threshold": float(THRESHOLDS[_best(fits)]),
        "blob_best_threshold": float(THRESHOLDS[_best(blobs)]),
        "tolerance": TOLERANCE,
        "without_heat": sum(fit.peak == 0 for fit in fits),
        "all": part(table["file"].notna()),
        "by_label": {name: part(table["label"] == name) for name in sorted(set(table["label"]))},
        "by_size": {name: part(rows) for name, rows in sizes.items() if rows.any()},
        "by_source": {name: part(table["source"] == name) for name in sorted(set(table["source"]))},
    }


def require_masks(there: bool) -> None:
    """Raise a `DataError` unless there are lesion masks to localise against."""
    if not there:
        raise DataError(
            "None of the scans has a lesion mask.",
            expected="masks beside the scans, such as 'a_mask.png' beside 'a.png'",
            remedy="Leave the localisation out, or name a folder with masks.",
        )


def _figures(fits: Sequence[Fit]) -> pd.DataFrame:
    best = _best(fits)
    rows = [(fit.inside, fit.pointing, fit.near, fit.iou, float(fit.ious[best]), fit.own_iou) for fit in fits]
    return pd.DataFrame(rows, columns=_FIGURES)


def _best(fits: Sequence[Fit]) -> int:
    """Position of the threshold with the highest mean IoU over all scans."""
    return int(np.mean([fit.ious for fit in fits], axis=0).argmax()) if fits else 0
