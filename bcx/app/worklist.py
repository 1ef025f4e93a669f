"""A batch as a worklist: natural order, what is on show and in which order, the person's own labels and their score."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, roc_auc_score

from bcx.app.markup import html
from bcx.evaluate.intervals import bootstrap_interval
from bcx.evaluate.metrics import ranked_auc
from bcx.trust.claims import NOT_A_SCAN, REFER

if TYPE_CHECKING:
    from bcx.app.rows import Batch, Row
    from bcx.tasks import Task

#: What rows are ordered by, and what a person reads.
ORDERS = {"name": "Name", "suspicion": "Suspicion", "uncertainty": "Uncertainty"}
#: Filters beside the task's classes and the decisions: files without an answer, and answers with a doubt.
FAILED, FLAGGED = "could not be read", "flagged"
#: Characters of a search at most.
LONGEST_SEARCH = 200
#: Column of the page's table for the person's own label.
OWN_LABEL = "own_label"


@dataclass
class View:
    """Which rows are on show, and in which order.

    Attributes:
        order: a key of `ORDERS`.
        decision: a key of `counts`; "" shows all.
        text: part of a file's name, or of what is said about it; "" shows all.
    """

    order: str = "name"
    decision: str = ""
    text: str = ""

    def places(self, rows: Sequence[Row], task: Task) -> list[int]:
        """Return the places in `rows` of those on show, in order; files without an answer come last."""
        text = self.text.casefold()
        kept = [
            place
            for place, row in enumerate(rows)
            if (not self.decision or self.decision in kinds(row)) and (not text or text in _searched(row))
        ]
        if self.order == "name":
            return kept
        score = suspicion if self.order == "suspicion" else uncertainty
        return sorted(kept, key=lambda place: _rank(rows[place], score(rows[place], task)))


def natural_key(name: str) -> list[Any]:
    """Return a key that sorts `scan2` before `scan10`, folder by folder, whatever the case of letters.

    >>> sorted(["b/2.png", "a/mono10.dcm", "a/mono2.dcm"], key=natural_key)
    ['a/mono2.dcm', 'a/mono10.dcm', 'b/2.png']
    """
    return [
        [
            (len(part.lstrip("0")), part.lstrip("0")) if part.isascii() and part.isdigit() else part
            for part in re.split("([0-9]+)", step)
        ]
        for step in name.casefold().replace(".", "\0").split("/")  # a point first: `scan.png` before `scan (2).png`
    ]


def suspicion(row: Row, task: Task) -> float:
    """Return the probability of the task's positive class; 0 without an answer."""
    return 0.0 if row.slim is None else float(row.slim.probabilities[task.positive])


def uncertainty(row: Row, _: Task) -> float:
    """Return 1 minus the probability of the likeliest class; 0 without an answer."""
    return 0.0 if row.slim is None else 1.0 - max(row.slim.probabilities.values())


def _rank(row: Row, score: float) -> tuple[bool, bool, float]:
    return row.slim is None, row.slim is not None and row.slim.decision == NOT_A_SCAN, -score


def kinds(row: Row) -> list[str]:
    """Return what a row counts as: its decision, and whether it is flagged."""
    if row.slim is None:
        return [FAILED]
    return [row.slim.decision, *([FLAGGED] if row.slim.flags else [])]


def _searched(row: Row) -> str:
    return " ".join(str(row.cells[name]) for name in ("file", "decision", "reason", "flags", "notes")).casefold()


def filters(task: Task) -> list[str]:
    """Return what rows can be filtered by, in the order in which it is shown."""
    return [*task.classes, REFER, NOT_A_SCAN, FAILED, FLAGGED]


def counts_html(batch: Batch, task: Task) -> str:
    """Return the number of rows of each decision, each a button that shows these alone."""
    counted = Counter(kind for row in batch.rows for kind in kinds(row))
    every = [("", "all", len(batch.rows))] + [(name, name, counted[name]) for name in filters(task)]
    always = ("", *task.classes, batch.view.decision)
    return html.counts([each for each in every if each[2] or each[0] in always], batch.view.decision)


def own_labels(names: Sequence[str], task: Task) -> dict[int, str]:
    """Return the labels that folders give: place of a file -> class that the nearest folder above it is called like."""
    by_name = {each.casefold(): each for each in task.classes}
    labels = {}
    for place, name in enumerate(names):
        for folder in PurePosixPath(name).parts[:-1]:  # the nearest comes last
            if folder.casefold() in by_name:
                labels[place] = by_name[folder.casefold()]
    return labels


def score_html(batch: Batch, task: Task) -> str:
    """Return the answers held against the person's own labels, with 95 % intervals; "" while there are none."""
    rows = [(row, batch.own[place]) for place, row in enumerate(batch.rows) if place in batch.own]
    read = [(row.slim, own) for row, own in rows if row.slim is not None and row.slim.decision != NOT_A_SCAN]
    if not read:
        return ""
    answered = [(slim.decision, own) for slim, own in read if slim.decision != REFER]
    right = sum(decision == own for decision, own in answered)
    lines = [f"{len(rows):,} labelled, {len(answered):,} of them given a class"]
    if len(read) > len(answered):
        lines[0] += f", {len(read) - len(answered):,} referred"
    if len(rows) > len(read):
        lines[0] += f", {len(rows) - len(read):,} not a scan or not read"
    if answered:
        interval = binomtest(right, len(answered)).proportion_ci(0.95, method="wilson")
        spread = f"{100 * interval.low:.0f} to {100 * interval.high:.0f} %"
        accuracy = f"{100 * right / len(answered):.0f} % ({spread}), {right:,} of {len(answered):,}"
        lines.append(f"Accuracy of those given a class: {accuracy}")
    lines.append(_auc_words([(slim.probabilities[task.positive], own) for slim, own in read], task.positive))
    given = [*task.classes, REFER]
    counted = confusion_matrix([own for _, own in read], [slim.decision for slim, _ in read], labels=given)
    return html.score(
        lines,
        {true: dict(zip(given, map(int, row), strict=True)) for true, row in zip(task.classes, counted, strict=False)},
    )


def _auc_words(scored: Sequence[tuple[float, str]], positive: str) -> str:
    scores = np.array([score for score, _ in scored])
    is_positive = np.array([own == positive for _, own in scored])
    if is_positive.all() or not is_positive.any():
        return f"ROC-AUC needs labels of {positive} and of another class"
    area = roc_auc_score(is_positive, scores)
    low, high = bootstrap_interval(ranked_auc(scores, is_positive), range(len(scores)))
    # where every scan of one kind stands above every other, resamples do too, and say nothing of other scans
    spread = f" ({low:.2f} to {high:.2f})" if low < high else " (too few for an interval)"
    return f"ROC-AUC of {positive} against the rest: {area:.2f}{spread}, {len(scores):,} scans"
