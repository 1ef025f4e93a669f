"""Does the map belong to the answer? Hide where it is hottest, hide as much elsewhere, and compare.

For each scan that is called positive ("malignant"), the hottest region of the heat (the connected part at and above
half of its maximum that holds the hottest pixel) is hidden and the scan is answered again; then the same shape is
hidden at other places of the scan. If the answer rests on what the map shows, the first lowers the probability more.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.evaluate.intervals import means_with_intervals
from bcx.evaluate.localisation import heat_of
from bcx.explain.hiding import hide, hottest_region, moved

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction

#: How many other places are tried; their mean is what "elsewhere" does, so that one lucky place does not decide.
PLACES = 3


@dataclass(frozen=True)
class Deletion:
    """One scan that was called positive.

    Attributes:
        file, source, group, label: as in the scan's record; `file` is its key.
        probability: of the positive class, nothing hidden.
        region_share: share of the picture that was hidden; 0 where the map has no heat.
        drop_here: by how much hiding the hottest region lowers the probability; None where the map has no heat.
        drop_elsewhere: the same for an equal region elsewhere, the mean of up to `PLACES`; None where the region is too
            large to lie anywhere else in the picture.
    """

    file: str
    source: str
    group: str
    label: str
    probability: float
    region_share: float
    drop_here: float | None
    drop_elsewhere: float | None


def deletion_check(classifier: Classifier, record: Record, prediction: Prediction) -> Deletion | None:
    """Hide the hottest region, then as much elsewhere, and answer the scan again each time.

    Returns:
        None where the scan was not called positive.
    """
    positive = classifier.task.positive
    if prediction.label != positive:
        return None
    before = prediction.probabilities[positive]
    pixels = prediction.scan.pixels
    region = hottest_region(heat_of(prediction, positive))

    def drop(hidden: np.ndarray) -> float:
        return before - classifier.predict(hide(pixels, hidden)).probabilities[positive]

    here = elsewhere = None
    if region.any():
        here = drop(region)
        # The key seeds the places: the same scan is tested at the same places, in whatever order scans come.
        others = moved(region, PLACES, np.random.default_rng(zlib.crc32(record.key.encode())))
        elsewhere = float(np.mean([drop(other) for other in others])) if others else None
    about = (record.key, record.source, record.group, record.label)
    return Deletion(*about, before, float(region.mean()), here, elsewhere)


def deletion_table(found: Sequence[Deletion]) -> pd.DataFrame:
    """Return a row per scan called positive, with the attributes of `Deletion` as columns."""
    return pd.DataFrame([asdict(each) for each in found], columns=list(Deletion.__dataclass_fields__))


def summarise_deletion(found: Sequence[Deletion]) -> dict[str, Any]:
    """Return the figures of a set of scans, ready for JSON.

    Returns:
        `called_positive`, `without_heat`, `without_room` (scans whose region can lie nowhere else), and over the rest,
        each as {"value", "low", "high", "n"}: `probability` (before), `region_share`, `drop_here`, `drop_elsewhere`,
        `difference` (here minus elsewhere) and `here_more`, the share of scans where hiding the region did more.
    """
    rest = [each for each in found if each.drop_elsewhere is not None]
    here = np.array([each.drop_here for each in rest], np.float64)
    elsewhere = np.array([each.drop_elsewhere for each in rest], np.float64)
    columns: dict[str, Sequence | np.ndarray] = {
        "probability": [each.probability for each in rest],
        "region_share": [each.region_share for each in rest],
        "drop_here": here,
        "drop_elsewhere": elsewhere,
        "difference": here - elsewhere,
        "here_more": here > elsewhere,
    }
    return {
        "called_positive": len(found),
        "without_heat": sum(each.drop_here is None for each in found),
        "without_room": sum(each.drop_here is not None and each.drop_elsewhere is None for each in found),
        **means_with_intervals(columns, [each.group for each in rest]),
    }
