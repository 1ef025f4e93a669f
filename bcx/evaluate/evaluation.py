"""One pass of a classifier over labelled scans: its answers, and where asked for, its maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from bcx.data.records import Record
from bcx.errors import BcxError, DataError
from bcx.evaluate.contact_sheet import ContactSheet
from bcx.evaluate.deletion import Deletion, deletion_check, deletion_table, summarise_deletion
from bcx.evaluate.localisation import (
    Localisation,
    localisation_table,
    localise,
    require_masks,
    summarise_localisation,
)
from bcx.evaluate.score import Scored, score_table, scored, summarise_scores
from bcx.inference.prediction import Prediction
from bcx.tasks import Task

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier


@dataclass
class Evaluation:
    """What one pass found. Several passes (one per fold, each by its own network) may be joined list by list.

    Attributes:
        task: what was classified.
        scores: one per scan.
        places: one per scan with a lesion mask; None where localisation was not asked for.
        hidden: one per scan called positive.
        masks_failed: [{file, error}], masks that could not be read.
        backend: what ran the network; None where no file could be read.
    """

    task: Task
    scores: list[Scored] = field(default_factory=list)
    places: list[Localisation] | None = None
    hidden: list[Deletion] = field(default_factory=list)
    masks_failed: list[dict[str, str]] = field(default_factory=list)
    backend: str | None = None

    def summary(self) -> dict[str, Any]:
        """Return all figures, ready for JSON.

        Returns:
            As `summarise_scores`; `sources`, the same for each source where there are several; and where localisation
            was asked for, `localisation` (as `summarise_localisation`, None where no scan has a readable mask with a
            lesion), `masks_failed` and `deletion` (as `summarise_deletion`).
        """
        found = summarise_scores(self.scores, self.task)
        sources = sorted({row.source for row in self.scores})
        if len(sources) > 1:
            parts = {name: [row for row in self.scores if row.source == name] for name in sources}
            found["sources"] = {name: summarise_scores(part, self.task) for name, part in parts.items()}
        if self.places is not None:
            found["localisation"] = summarise_localisation(self.places) if self.places else None
            found["masks_failed"] = self.masks_failed
            found["deletion"] = summarise_deletion(self.hidden)
        return found

    def table(self) -> pd.DataFrame:
        """Return a row per scan: the answer, and where asked for, the figures of its map."""
        table = score_table(self.scores, self.task)
        if self.places is not None:
            places = localisation_table(self.places).drop(columns=["source", "group", "label", "answer"])
            drops = deletion_table(self.hidden)[["file", "region_share", "drop_here", "drop_elsewhere"]]
            table = table.merge(places, "left", "file").merge(drops, "left", "file")
        return table


def joined(parts: Sequence[Evaluation]) -> Evaluation:
    """Return several passes as one: those of the networks of a cross-validation, each over its own fold."""
    whole = replace(parts[0], places=None if parts[0].places is None else [], scores=[], hidden=[], masks_failed=[])
    for part in parts:
        whole.scores += part.scores
        whole.hidden += part.hidden
        whole.masks_failed += part.masks_failed
        if whole.places is not None and part.places is not None:
            whole.places += part.places
    return whole


def evaluate(
    classifier: Classifier,
    records: Sequence[Record],
    *,
    localisation: bool = False,
    sheet: ContactSheet | None = None,
    on_scan: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Answer every scan, one in memory at a time, and note what the figures need.

    Args:
        localisation: hold maps against masks, and hide the hottest region of scans called positive (four more answers
            for each of those).
        sheet: is shown every scan with a mask; only with `localisation`.

    Raises:
        DataError: no scans, or localisation was asked for and no scan has a mask.
    """
    if not records:
        raise DataError(
            "There are no scans to evaluate.", expected="at least one scan", remedy="Check the folder and the split."
        )
    require_masks(not localisation or any(record.masks for record in records))
    evaluation = Evaluation(classifier.task, places=[] if localisation else None)
    for record, answer in zip(records, classifier.stream(record.file for record in records), strict=True):
        evaluation.scores.append(scored(record, answer))
        if isinstance(answer, Prediction):
            evaluation.backend = answer.backend
            if evaluation.places is not None:
                try:
                    found = localise(record, answer)
                except BcxError as error:
                    evaluation.masks_failed.append({"file": record.key, "error": error.found})
                else:
                    if found is not None:
                        evaluation.places.append(found)
                        if sheet is not None:
                            sheet.offer(record, answer, found)
                if (check := deletion_check(classifier, record, answer)) is not None:
                    evaluation.hidden.append(check)
        on_scan()
    return evaluation
