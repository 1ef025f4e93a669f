"""One pass of a classifier over labelled scans: its answers as people get them, and where asked for, its maps.

Sets without one of the classes (a hospital without normals) leave some figures without meaning; these are None, and
macro figures are means over the classes that are there (see `bcx.evaluate.metrics`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.errors import BcxError, DataError
from bcx.evaluate.figures_data import ContactSheet
from bcx.evaluate.intervals import means_with_intervals, report_with_intervals
from bcx.evaluate.localisation import (
    Localisation,
    deletion_check,
    deletion_table,
    localisation_table,
    localise,
    summarise_deletion,
    summarise_localisation,
)
from bcx.evaluate.metrics import figure_names, named_confusion
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Failure, Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN


@dataclass
class Evaluation:
    """What was found, in one pass or several (one per fold, each by its own network)."""

    task: Task
    scores: list[dict[str, Any]] = field(default_factory=list)  # one per scan, from `scored`
    places: list[Localisation] | None = None  # one per scan with a lesion mask; None where that was not asked for
    hidden: list[dict[str, Any]] = field(default_factory=list)  # one per scan called positive, from `deletion_check`
    masks_failed: list[dict[str, str]] = field(default_factory=list)  # [{file, error}], that could not be read
    backend: str | None = None  # what ran the network; None where no file could be read

    def summary(self) -> dict[str, Any]:
        """Return all figures, ready for JSON: as `summarise_scores`, for each source too where there are several.

        Where localisation was asked for, `localisation` (None where no mask with a lesion could be read),
        `masks_failed` and `deletion` are added.
        """
        table = score_table(self.scores, self.task)
        found = summarise_scores(table, self.task)
        if table["source"].nunique() > 1:
            parts = table.groupby("source")
            found["sources"] = {str(name): summarise_scores(part, self.task) for name, part in parts}
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


def evaluate(
    classifier: Classifier,
    records: Sequence[Record],
    *,
    localisation: bool = False,
    sheet: ContactSheet | None = None,
    on_scan: Callable[[], object] = lambda: None,
    before: Evaluation | None = None,
) -> Evaluation:
    """Answer every scan, one in memory at a time, and note what the figures need, after what was found `before`.

    With `localisation` maps are held against masks, and the hottest region of scans called positive is hidden (four
    more answers for each of those); the sheet is shown every scan with a mask. `DataError` without scans or masks.
    """
    if not records:
        raise DataError(
            "There are no scans to evaluate.", expected="at least one scan", remedy="Check the folder and the split."
        )
    if localisation and not any(record.masks for record in records):
        raise DataError(
            "None of the scans has a lesion mask.",
            expected="masks beside the scans, such as 'a_mask.png' beside 'a.png'",
            remedy="Leave the localisation out, or name a folder with masks.",
        )
    evaluation = before or Evaluation(classifier.task, places=[] if localisation else None)
    for record, answer in zip(records, classifier.stream(record.file for record in records), strict=True):
        evaluation.scores.append(scored(record, answer))
        if isinstance(answer, Prediction):
            evaluation.backend = answer.backend
            if evaluation.places is not None:
                try:
                    if (found := localise(record, answer)) is not None:
                        evaluation.places.append(found)
                        if sheet is not None:
                            sheet.offer(record, answer, found)
                except BcxError as error:
                    evaluation.masks_failed.append({"file": record.key, "error": error.found})
                if (check := deletion_check(classifier, record, answer)) is not None:
                    evaluation.hidden.append(check)
        on_scan()
    return evaluation


def scored(record: Record, answer: Prediction | Failure) -> dict[str, Any]:
    """Return what of an answer the figures need, a row of `score_table`; its images are not kept."""
    about = {"file": record.key, "source": record.source, "group": record.group, "label": record.label}
    if isinstance(answer, Failure):
        # Results are published, folders of a machine are not.
        return about | {"error": answer.error.found.replace(str(record.file), record.key)}
    probabilities = {f"p_{name}": value for name, value in answer.probabilities.items()}
    return about | {"answer": answer.label, "decision": answer.decision, **probabilities, "error": ""}


def score_table(rows: Sequence[dict[str, Any]], task: Task) -> pd.DataFrame:
    """Return a row per scan; answer, decision and probabilities are missing where the file could not be read."""
    names = [f"p_{name}" for name in task.classes]
    return pd.DataFrame(rows, columns=["file", "source", "group", "label", "answer", "decision", *names, "error"])


def summarise_scores(table: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return the figures of a set of scans, ready for JSON; all but the counts are about the scans that were answered.

    By answer: accuracy, balanced_accuracy, macro_f1, sensitivity_<class>, specificity_<positive>,
    lesions_called_<absent> (of the scans of all other classes), not_a_scan. By probability: macro_auc, auc_<class>
    (against the rest), auc_<b>_vs_<a> (their scans alone, by the odds of b against a), log_loss, ece.
    """
    known = table[table["answer"].notna()]
    summary: dict[str, Any] = {
        "n": len(table),
        "groups": table["group"].nunique(),
        "counts": {name: int((table["label"] == name).sum()) for name in task.classes},
        "answered": len(known),
        "failed": table.loc[table["answer"].isna(), ["file", "error"]].to_dict("records"),
        "decisions": known["decision"].value_counts().sort_index().to_dict(),
    }
    if known.empty:
        return summary | {"confusion": {}, "figures": {}}
    groups = known["group"].tolist()
    labels, said = (known[column].map(task.classes.index).to_numpy() for column in ("label", "answer"))
    probabilities = known[[f"p_{name}" for name in task.classes]].to_numpy(float)
    wanted = ["accuracy", "balanced_accuracy", "macro_f1", *(f"sensitivity_{name}" for name in task.classes)]
    wanted += [f"specificity_{task.positive}", "macro_auc"]
    wanted += [*(name for name in figure_names(task.classes) if name.startswith("auc_")), "log_loss", "ece"]
    shares = {"not_a_scan": known["decision"] == NOT_A_SCAN}
    if task.absent is not None:
        absent = task.classes.index(task.absent)
        shares[f"lesions_called_{task.absent}"] = np.where(labels == absent, np.nan, said == absent)
    figures = report_with_intervals(labels, probabilities, groups, task.classes, wanted, said)
    figures |= means_with_intervals(shares, groups)
    return summary | {"confusion": named_confusion(labels, said, task.classes), "figures": figures}
