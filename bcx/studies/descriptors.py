"""What each BI-RADS descriptor tells of malignancy, measured on the doctors' own outlines, against the biopsy."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.errors import DataError
from bcx.evaluate.intervals import figures_with_intervals
from bcx.evaluate.metrics import ranked_auc
from bcx.explain.descriptors import describe
from bcx.imaging.scan import Scan
from bcx.tasks import Task

#: Numbers that do not depend on the scan's scale, which published sets leave out; True: more of it is more malignant.
NUMBERS = {
    **{"depth_to_width": True, "angle": True, "axis_ratio": False, "circularity": False, "lobulation": True},
    **{"corners": True, "margin_width": True, "echo_difference": False, "posterior_difference": False},
}
TERMS = ("orientation", "shape", "margin", "echo", "posterior")


def descriptor_rows(records: Sequence[Record], on_scan: Callable[[], object] = lambda: None) -> pd.DataFrame:
    """Describe every scan's outlined lesion, a row each, none where no mask.

    Columns: file, source, group, label, `NUMBERS`, `TERMS`.
    """
    rows = []
    for record in records:
        pixels = Scan.open(record.file).pixels
        mask = load_mask(record, pixels.shape)
        found = None if mask is None else describe(pixels, mask)
        on_scan()
        if found is not None:
            about = {"file": record.key, "source": record.source, "group": record.group, "label": record.label}
            rows.append(found.to_dict() | about | {"depth_to_width": round(found.depth / found.width, 3)})
    return pd.DataFrame(rows, columns=["file", "source", "group", "label", *NUMBERS, *TERMS])


def summarise(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return by source, ready for JSON, what each descriptor is worth; lesions of one class only are a `DataError`.

    Of a source these are `scans`, `patients`; `auc`: number -> area under the ROC curve for the positive class against
    other lesions, in the direction that `NUMBERS` says, with its interval over groups, on the scans that have the
    number; `terms`: term -> value -> scans, and how many of them are positive.
    """
    frame = frame[frame["label"] != task.absent]
    parts = dict(iter(frame.groupby("source"))) or {"all sources": frame}
    return {str(source): _summary(source, part, task) for source, part in parts.items()}


def _summary(source: object, frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    positive = frame["label"] == task.positive
    if positive.nunique() < 2:
        raise DataError(
            f"Outlined lesions of {source}: {len(frame)}, of which {int(positive.sum())} {task.positive}.",
            expected="masks of both kinds of lesion",
            remedy="Name a folder with masks and labels, such as BUS-BRA.",
        )
    areas: dict[str, Any] = {}
    for name, more in NUMBERS.items():
        part = frame[frame[name].notna()]
        area = ranked_auc(part[name].to_numpy(float) * (1 if more else -1), positive[part.index].to_numpy())
        figures = partial(lambda area, weights: np.array([area(weights)]), area)
        areas |= figures_with_intervals(figures, {name: len(part)}, part["group"].tolist())
    terms = {
        term: {
            str(value): {"scans": len(part), task.positive: int(positive[part.index].sum())}
            for value, part in frame.groupby(term)
        }
        for term in TERMS
    }
    return {"scans": len(frame), "patients": int(frame["group"].nunique()), "auc": areas, "terms": terms}
