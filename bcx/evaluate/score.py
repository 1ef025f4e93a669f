"""A classifier's answers to labelled scans, as people get them: by `label`, and by `decision`.

>>> from bcx.tasks import get_task
>>> rows = [Scored(f"a/{i}", "a", f"a:{i}", truth, said, said, p) for i, (truth, said, p) in enumerate([
...     ("benign", "benign", (0.1, 0.7, 0.2)),
...     ("malignant", "malignant", (0.1, 0.5, 0.4)),    # the operating point asks for less than one half
...     ("malignant", "normal", (0.8, 0.1, 0.1))])]
>>> found = summarise_scores(rows, get_task("breast-ultrasound"))
>>> found["figures"]["sensitivity_malignant"]["value"], found["figures"]["auc_malignant_vs_benign"]["value"]
(0.5, 1.0)
>>> found["confusion"]["malignant"]
{'normal': 1, 'benign': 0, 'malignant': 1}

Sets without one of the classes (a hospital without normals) leave some figures without meaning; these are None, and
macro figures are means over the classes that are there (see `bcx.evaluate.metrics`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.evaluate.intervals import figures_with_intervals, means_with_intervals
from bcx.evaluate.metrics import figure_counts, figure_names, named_confusion, weighted_confusion, weighted_figures
from bcx.inference.prediction import Failure, Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN


@dataclass(frozen=True)
class Scored:
    """One labelled scan and what became of it.

    Attributes:
        file, source, group, label: as in the scan's record; `file` is its key.
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
    """Return the figures of a set of scans, ready for JSON.

    Returns:
        `n`, `groups`, `counts` (scans per class), `answered`, `failed` ([{file, error}]; every other figure is about
        the answered scans), `decisions` (scans per decision), `confusion` ({label: {answer: scans}}) and `figures`,
        each {"value", "low", "high", "n"}. By answer: accuracy, balanced_accuracy, macro_f1, sensitivity_<class>
        (share of a class's scans answered with it), specificity_<positive>, lesions_called_<absent> (of the scans of
        all other classes), not_a_scan. By probability: macro_auc, auc_<class> (against the rest), auc_<b>_vs_<a>
        (their scans alone, by the odds of b against a), log_loss, ece.
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
