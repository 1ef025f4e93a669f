"""One pass of a classifier over labelled scans: its answers as people get them, and where asked for, its maps.

Sets without one of the classes (a hospital without normals) leave some figures without meaning; these are None, and
macro figures are means over the classes that are there (see `bcx.evaluate.metrics`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.errors import BcxError, DataError
from bcx.evaluate.contact_sheet import ContactSheet
from bcx.evaluate.deletion import Deletion, deletion_check, deletion_table, summarise_deletion
from bcx.evaluate.intervals import figures_with_intervals, means_with_intervals
from bcx.evaluate.localisation import (
    Localisation,
    localisation_table,
    localise,
    require_masks,
    summarise_localisation,
)
from bcx.evaluate.metrics import figure_counts, figure_names, named_confusion, weighted_confusion, weighted_figures
from bcx.inference.prediction import Failure, Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier


@dataclass(frozen=True)
class Scored:
    """One labelled scan and what became of it; `file` is the record's key.

    Attributes:
        answer: the class that the model answered with; None where the file could not be read.
        decision: the answer, "refer" or "not a scan"; None where the file could not be read.
        probabilities: one per class, in the task's order; empty where the file could not be read.
        error: why it could not be read; "" where it could.
    """

    file: str
    source: str
    group: str
    label: str
    answer: str | None
    decision: str | None
    probabilities: tuple[float, ...] = ()
    error: str = ""


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
        """Return all figures, ready for JSON: as `summarise_scores`, for each source too where there are several.

        Where localisation was asked for, `localisation` (None where no mask with a lesion could be read),
        `masks_failed` and `deletion` are added.
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

    With `localisation` maps are held against masks, and the hottest region of scans called positive is hidden (four
    more answers for each of those); the sheet is shown every scan with a mask.

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


def scored(record: Record, answer: Prediction | Failure) -> Scored:
    """Return what of an answer the figures need; its images are not kept."""
    about = (record.key, record.source, record.group, record.label)
    if isinstance(answer, Failure):
        # Results are published, folders of a machine are not.
        return Scored(*about, None, None, error=answer.error.found.replace(str(record.file), record.key))
    return Scored(*about, answer.label, answer.decision, tuple(answer.probabilities.values()))


def score_table(rows: Sequence[Scored], task: Task) -> pd.DataFrame:
    """Return a row per scan: file, source, group, label, answer, decision, p_<class> and error."""
    names = [f"p_{name}" for name in task.classes]
    told = [vars(row) | dict(zip(names, row.probabilities, strict=False)) for row in rows]
    return pd.DataFrame(told, columns=["file", "source", "group", "label", "answer", "decision", *names, "error"])


def summarise_scores(rows: Sequence[Scored], task: Task) -> dict[str, Any]:
    """Return the figures of a set of scans, ready for JSON; all but the counts are about the scans that were answered.

    By answer: accuracy, balanced_accuracy, macro_f1, sensitivity_<class>, specificity_<positive>,
    lesions_called_<absent> (of the scans of all other classes), not_a_scan. By probability: macro_auc, auc_<class>
    (against the rest), auc_<b>_vs_<a> (their scans alone, by the odds of b against a), log_loss, ece.
    """
    known = [row for row in rows if row.answer is not None]
    summary: dict[str, Any] = {
        "n": len(rows),
        "groups": len({row.group for row in rows}),
        "counts": {name: sum(row.label == name for row in rows) for name in task.classes},
        "answered": len(known),
        "failed": [{"file": row.file, "error": row.error} for row in rows if row.answer is None],
    }
    if not known:
        return {**summary, "decisions": {}, "confusion": {}, "figures": {}}
    groups = [row.group for row in known]
    labels = np.array([task.classes.index(row.label) for row in known])
    said = np.array([task.classes.index(str(row.answer)) for row in known])
    probabilities = np.array([row.probabilities for row in known])
    stopped = means_with_intervals({"not_a_scan": [row.decision == NOT_A_SCAN for row in known]}, groups)
    return {
        **summary,
        "decisions": dict(sorted(Counter(str(row.decision) for row in known).items())),
        "confusion": named_confusion(labels, said, task.classes),
        "figures": {**_figures(labels, said, probabilities, groups, task), **stopped},
    }


def _figures(
    labels: np.ndarray, said: np.ndarray, probabilities: np.ndarray, groups: Sequence[str], task: Task
) -> dict[str, Any]:
    """All figures with their intervals, from the same resamples."""
    known, names = figure_counts(labels, task.classes), figure_names(task.classes)
    of_answers = ["accuracy", "balanced_accuracy", "macro_f1", *(f"sensitivity_{name}" for name in task.classes)]
    counts = {name: known[name] for name in (*of_answers, f"specificity_{task.positive}")}
    if task.absent is not None:
        counts[f"lesions_called_{task.absent}"] = known[f"specificity_{task.absent}"]
    of_probabilities = ["macro_auc", *(name for name in names if name.startswith("auc_")), "log_loss", "ece"]
    counts |= {name: known[name] for name in of_probabilities}
    counted, by_probability = (
        weighted_confusion(labels, said, len(task.classes)),
        weighted_figures(labels, probabilities),
    )
    chosen, held = [names.index(name) for name in of_probabilities], np.unique(labels)

    def figures(weights: np.ndarray) -> np.ndarray:
        hits, true, called, recall, specificity = counted(weights)
        with np.errstate(invalid="ignore"):
            f1 = 2 * hits / (true + called)
        found = [hits.sum() / weights.sum(), recall[held].mean(), f1[held].mean(), *recall]
        found.append(specificity[task.classes.index(task.positive)])
        if task.absent is not None:
            found.append(1 - specificity[task.classes.index(task.absent)])
        return np.concatenate([found, by_probability(weights)[chosen]])

    return figures_with_intervals(figures, counts, groups)
