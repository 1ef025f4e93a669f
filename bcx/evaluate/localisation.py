"""Does the heat lie in the lesion? Maps against masks, scan by scan, and summed up over a set.

**Heat** is the lesion map (0..1) where the model has one; else the non-negative part of the map of the class that the
model answered with, divided by its peak. A map without any heat: share 0, pointing missed, IoU 0.

**Pointing** (Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018): does the hottest pixel lie
in the mask, or within 15 pixels of it? Of several equally hot ones, the share that do: what a fair pick scores.

**IoU** of {heat >= t} with the mask is given at a fixed t, at the one t that is best for the whole set (chosen on these
scans, hence optimistic), and at each scan's own best t (an upper bound). Best means best of 0.01, 0.02 ... 1.

**To judge by**: the whole image as a map scores the lesion's share of the image in every figure, and a blob in the
image's centre more than that without looking, since people centre what they scan. Both are reported alongside.

**Deletion**: of each scan called positive, the hottest region (the connected part at and above half of the maximum that
holds the hottest pixel) is hidden and the scan answered again; then the same shape at other places. If the answer rests
on what the map shows, the first lowers the probability more.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.errors import DataError
from bcx.evaluate.intervals import means_with_intervals
from bcx.explain.hiding import hide, hottest_region, moved
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import LESION_LEVEL, Prediction

THRESHOLDS = np.arange(1, 101) / 100  # where IoU is measured to find the best threshold
#: The fixed threshold of class maps, as a share of the peak: a convention, since none is natural. That of lesion maps
#: is `bcx.inference.prediction.LESION_LEVEL`, from which on the model itself takes a pixel for lesion.
CLASS_MAP_LEVEL = 0.3
TOLERANCE = 15  # pixels of the scan by which the hottest one may miss the mask
#: Lesions by their share of the image: fixed cuts, so that sets can be compared.
SIZES = {"small (below 3 %)": (0.0, 0.03), "medium (3 to 8 %)": (0.03, 0.08), "large (8 % or more)": (0.08, 1.01)}
BLOB = 0.2  # the blob's standard deviation, as a share of the image's width and height
PLACES = 3  # other places that are hidden; their mean is "elsewhere", so that one lucky place does not decide

_ABOUT = ["file", "source", "group", "label", "answer", "map", "lesion_share"]
_FIGURES = ["heat_inside", "pointing", "pointing_15px", "iou", "iou_best_threshold", "iou_own_threshold"]
_OF_DELETION = ["file", "source", "group", "label", "probability", "region_share", "drop_here", "drop_elsewhere"]
_OF_BLOB = ["heat_inside", "pointing", "pointing_15px", "iou_best_threshold"]


@dataclass(frozen=True)
class Fit:
    """How one map fits one mask, all 0..1."""

    inside: float  # share of all heat that lies inside the mask
    pointing: float  # whether the hottest pixel lies in the mask (between for ties)
    near: float  # or within `TOLERANCE` of it
    iou: float  # of {heat >= t} with the mask, at the fixed threshold
    peak: float  # the map's largest value; 0 where there is no heat at all
    ious: np.ndarray = field(repr=False)  # at each of `THRESHOLDS`


@dataclass(frozen=True)
class Localisation:
    """One scan with a lesion mask: where the heat lies."""

    file: str  # the record's key
    source: str
    group: str
    label: str
    answer: str  # the class answered
    map: str  # "lesion map" or "class map"
    threshold: float  # the fixed threshold of `fit.iou`
    lesion_share: float  # of the image, 0..1: what the whole image scores as a map
    fit: Fit  # how the model's map fits
    blob: Fit  # and a blob in the image's centre


def heat_of(prediction: Prediction, class_: str | None = None) -> np.ndarray:
    """Return the heat, float32 `[H, W]`, 0..1, at the scan's size; `class_`: of whose map, default: the label's."""
    if prediction.lesion is not None:
        return prediction.lesion
    heat = np.maximum(prediction.maps[list(prediction.probabilities).index(class_ or prediction.label)], 0)
    peak = float(heat.max())
    return heat / peak if peak > 0 else heat


def measure(heat: np.ndarray, mask: np.ndarray, threshold: float) -> Fit:
    """Hold a map, float `[H, W]`, against a mask, bool `[H, W]`, not empty (else `DataError`); heat below 0 is 0."""
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
        near = float((distance[hottest] <= TOLERANCE).mean())
    region = heat >= threshold
    iou = float(np.count_nonzero(region & mask) / np.count_nonzero(region | mask))
    # Of all thresholds from one histogram: how many pixels reach each, in all and in the mask.
    reached = np.searchsorted(THRESHOLDS, heat, side="right")
    counts = [np.bincount(part.ravel(), minlength=len(THRESHOLDS) + 1) for part in (reached, reached[mask])]
    everywhere, within = (np.cumsum(count[::-1])[::-1][1:] for count in counts)
    return Fit(inside, pointing, near, iou, peak, within / (everywhere + np.count_nonzero(mask) - within))


def centred_blob(shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian in the image's centre: float32 `[H, W]`, 0..1, whatever the scan shows."""
    down, across = (np.exp(-0.5 * (((np.arange(n) + 0.5) / n - 0.5) / BLOB) ** 2) for n in shape)
    return np.outer(down, across).astype(np.float32)


def localise(record: Record, prediction: Prediction) -> Localisation | None:
    """Hold an answer's map against the scan's own mask; None where it has no mask, or an empty one.

    `DataError` for a mask that cannot be read, or of another size than the scan.
    """
    shape = (prediction.scan.height, prediction.scan.width)
    mask = load_mask(record, shape)
    if mask is None or not mask.any():
        return None
    kind, level = ("class map", CLASS_MAP_LEVEL) if prediction.lesion is None else ("lesion map", LESION_LEVEL)
    about = (record.key, record.source, record.group, record.label, prediction.label, kind, level, float(mask.mean()))
    return Localisation(*about, *(measure(heat, mask, level) for heat in (heat_of(prediction), centred_blob(shape))))


def localisation_table(found: Sequence[Localisation]) -> pd.DataFrame:
    """Return a row per scan: what it is, and every figure of the model's map (0..1)."""
    about = pd.DataFrame([vars(each) for each in found], columns=_ABOUT)
    return about.join(_figures([each.fit for each in found]))


def summarise_localisation(found: Sequence[Localisation]) -> dict[str, Any]:
    """Return the figures of a set of scans, one or more, all from one model with one fixed threshold, ready for JSON.

    The best thresholds are the same for all scans; `centred_blob` has figures of a blob that never looks, at its own.
    """
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


def _figures(fits: Sequence[Fit]) -> pd.DataFrame:
    best = _best(fits)
    rows = [(fit.inside, fit.pointing, fit.near, fit.iou, fit.ious[best], fit.ious.max()) for fit in fits]
    return pd.DataFrame(rows, columns=_FIGURES)


def _best(fits: Sequence[Fit]) -> int:
    """Position of the threshold with the highest mean IoU over all scans."""
    return int(np.mean([fit.ious for fit in fits], axis=0).argmax()) if fits else 0


# ---------------------------------------------------------------- deletion


def deletion_check(classifier: Classifier, record: Record, prediction: Prediction) -> dict[str, Any] | None:
    """Hide the hottest region, then as much elsewhere, and answer again each time; None if not called positive.

    Returns what stands for the scan; probability (of the positive class, nothing hidden); region_share (of the image, 0
    where the map has no heat); and by how much hiding lowers the probability: drop_here, None where there is no heat;
    drop_elsewhere, of an equal region elsewhere, the mean of up to `PLACES`, None where it can lie nowhere else.
    """
    positive = classifier.task.positive
    if prediction.label != positive:
        return None
    before, region = prediction.probabilities[positive], hottest_region(heat_of(prediction, positive))

    def drop(hidden: np.ndarray) -> float:
        return before - classifier.predict(hide(prediction.scan.pixels, hidden)).probabilities[positive]

    here = elsewhere = None
    if region.any():
        here = drop(region)
        # The key seeds the places: the same scan is tested at the same places, in whatever order scans come.
        others = moved(region, PLACES, np.random.default_rng(zlib.crc32(record.key.encode())))
        elsewhere = float(np.mean([drop(other) for other in others])) if others else None
    found = (record.key, record.source, record.group, record.label, before, float(region.mean()), here, elsewhere)
    return dict(zip(_OF_DELETION, found, strict=True))


def deletion_table(found: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return a row per scan called positive, NaN for None."""
    return pd.DataFrame(found, columns=_OF_DELETION).astype({"drop_here": float, "drop_elsewhere": float})


def summarise_deletion(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of a set of scans, ready for JSON: counts, and means over the scans that could be compared.

    `without_room` counts scans whose region can lie nowhere else; `difference` is here minus elsewhere, `here_more` the
    share of scans where hiding the region did more.
    """
    table = deletion_table(found)
    rest = table[table["drop_elsewhere"].notna()]
    here, elsewhere = rest["drop_here"], rest["drop_elsewhere"]
    columns = dict(rest[_OF_DELETION[4:]].items()) | {"difference": here - elsewhere, "here_more": here > elsewhere}
    without_heat = int(table["drop_here"].isna().sum())
    return {
        "called_positive": len(found),
        "without_heat": without_heat,
        "without_room": len(found) - len(rest) - without_heat,
        **means_with_intervals(columns, rest["group"].tolist()),
    }
