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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.evaluate.intervals import figures_with_intervals, means_with_intervals
from bcx.evaluate.metrics import figure_counts, figure_names, named_confusion, weighted_figures
from bcx.inference.prediction import Failure, Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier


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


def answers(classifier: Classifier, records: Sequence[Record]) -> Iterator[tuple[Record, Prediction | Failure]]:
    """Yield each record with its answer, in order; memory stays flat as long as answers are not kept."""
    yield from zip(records, classifier.stream(record.file for record in records), strict=True)


def scored(record: Record, answer: Prediction | Failure) -> Scored:
    """Return what of an answer the figures need; its pictures are not kept."""
    about = (record.key, record.source, record.group, record.label)
    if isinstance(answer, Failure):
        # Results are published, folders of a machine are not.
        return Scored(*about, None, None, error=answer.error.found.replace(str(record.file), record.key))
    return Scored(*about, answer.label, answer.decision, tuple(answer.probabilities.values()))


def score_table(rows: Sequence[Scored], task: Task) -> pd.DataFrame:
    """Return a row per scan: file, source, group, label, answer, decision, p_<class> and error."""
    columns = {name: [getattr(row, name) for row in rows] for name in ("file", "source", "group", "label")}
    columns |= {name: [getattr(row, name) for row in rows] for name in ("answer", "decision")}
    for c, name in enumerate(task.classes):
        columns[f"p_{name}"] = [row.probabilities[c] if row.probabilities else None for row in rows]
    return pd.DataFrame({**columns, "error": [row.error for row in rows]})


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
    labels, said = (
        np.array([task.classes.index(name) for name in names], np.int64)
        for names in ([row.label for row in known], [str(row.answer) for row in known])
    )
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
    by_answer, by_probability = _weighted_answers(labels, said, task), weighted_figures(labels, probabilities)
    chosen = [names.index(name) for name in of_probabilities]

    def figures(weights: np.ndarray) -> np.ndarray:
        return np.concatenate([by_answer(weights), by_probability(weights)[chosen]])

    return figures_with_intervals(figures, counts, groups)


def _weighted_answers(labels: np.ndarray, said: np.ndarray, task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [N] to the figures of the answers themselves, nan where one has no value."""
    count = len(task.classes)
    cell, held = labels * count + said, np.unique(labels)
    positive = task.classes.index(task.positive)

    def figures(weights: np.ndarray) -> np.ndarray:
        total = weights.sum()
        confusion = np.bincount(cell, weights, count * count).reshape(count, count)
        hits, true, called = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, f1 = hits / true, 2 * hits / (true + called)
            specificity = (total - true - called + hits) / (total - true)
            found = [hits.sum() / total, recall[held].mean(), f1[held].mean(), *recall, specificity[positive]]
            if task.absent is not None:
                found.append(1 - specificity[task.classes.index(task.absent)])
        return np.array(found)

    return figures
