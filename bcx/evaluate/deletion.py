"""Does the map belong to the answer? Hide where it is hottest, hide as much elsewhere, and compare.

For each scan that is called positive ("malignant"), the hottest region of the heat (the connected part at and above
half of its maximum that holds the hottest pixel) is hidden and the scan is answered again; then the same shape is
hidden at other places of the scan. If the answer rests on what the map shows, the first lowers the probability more.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
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
    """One scan that was called positive; `file` is the record's key.

    Attributes:
        probability: of the positive class, nothing hidden.
        region_share: share of the image that was hidden; 0 where the map has no heat.
        drop_here: by how much hiding the hottest region lowers the probability; None where the map has no heat.
        drop_elsewhere: the same for an equal region elsewhere, the mean of up to `PLACES`; None where the region is too
            large to lie anywhere else in the image.
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
    """Hide the hottest region, then as much elsewhere, and answer again each time; None if not called positive."""
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
    """Return a row per scan called positive, with the attributes of `Deletion` as columns, NaN for None."""
    table = pd.DataFrame([vars(each) for each in found], columns=list(Deletion.__dataclass_fields__))
    return table.astype({"drop_here": float, "drop_elsewhere": float})


def summarise_deletion(found: Sequence[Deletion]) -> dict[str, Any]:
    """Return the figures of a set of scans, ready for JSON: counts, and means over the scans that could be compared.

    `without_room` counts scans whose region can lie nowhere else; `difference` is here minus elsewhere, `here_more` the
    share of scans where hiding the region did more.
    """
    table = deletion_table(found)
    rest = table[table["drop_elsewhere"].notna()]
    here, elsewhere = rest["drop_here"], rest["drop_elsewhere"]
    columns = dict(rest[["probability", "region_share", "drop_here", "drop_elsewhere"]].items())
    columns |= {"difference": here - elsewhere, "here_more": here > elsewhere}
    without_heat = int(table["drop_here"].isna().sum())
    return {
        "called_positive": len(found),
        "without_heat": without_heat,
        "without_room": len(found) - len(rest) - without_heat,
        **means_with_intervals(columns, rest["group"].tolist()),
    }
