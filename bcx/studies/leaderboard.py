"""One table of several models that answered the same scans: figures with intervals, and who is really better.

>>> import pandas as pd
>>> from bcx.evaluate.oof import oof_columns
>>> from bcx.tasks import get_task
>>> task = get_task("breast-ultrasound")
>>> def frame(strength):
...     rows = [(f"s{i}", "mine", f"g{i}", 0, task.classes[i % 3], *[strength * (c == i % 3) for c in range(3)] * 2)
...             for i in range(12)]
...     return pd.DataFrame(rows, columns=oof_columns(task))
>>> board = rank_models({"a": frame(0.0), "b": frame(3.0)}, task)
>>> [(row.name, row.figures["macro_auc"]["value"]) for row in board.rows]
[('b', 1.0), ('a', 0.5)]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcx.errors import DataError
from bcx.evaluate.comparison import Difference, compare_answers, delong
from bcx.evaluate.intervals import report_with_intervals
from bcx.evaluate.oof import label_positions, view_logits
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature, fit_temperature

#: The figure that decides who is best, named before anything is measured: it needs no threshold and no temperature.
DECIDES = "macro_auc"
ALSO = ("accuracy", "balanced_accuracy")
LEVEL = 0.05


@dataclass(frozen=True)
class Row:
    """One model.

    Attributes:
        name: of the model.
        figures: name -> {value, low, high, n} (see `report_with_intervals`).
        temperature: fitted on these very logits.
        to_best: the best model's figures less this one's, by name; None for the best itself.
        delong: the same for the area under the ROC curve of the positive class against the rest, scans taken as
            independent; None for the best, or with fewer than two scans of a kind.
        p_holm: of the deciding figure, adjusted for as many comparisons as there are other models (Holm 1979).
        probabilities: float64 [N, C], in the order of `Board.labels`.
    """

    name: str
    figures: dict[str, dict[str, Any]]
    temperature: float
    to_best: dict[str, Difference] | None
    delong: Difference | None
    p_holm: float | None
    probabilities: np.ndarray

    @property
    def worse(self) -> bool | None:
        """Whether it is significantly worse than the best; None for the best, and where that cannot be said."""
        return None if self.p_holm is None or self.p_holm != self.p_holm else self.p_holm < LEVEL


@dataclass(frozen=True)
class Board:
    """The models, best first, and the scans that all of them answered: int [N] labels, text [N] groups."""

    rows: list[Row]
    labels: np.ndarray
    groups: np.ndarray


def rank_models(answers: Mapping[str, pd.DataFrame], task: Task) -> Board:
    """Order models by `DECIDES` and compare each with the best.

    Each model's probabilities are taken at the temperature that fits its own logits best, so that log-loss, Brier score
    and calibration error compare the networks and not their temperatures.

    Args:
        answers: out-of-fold tables by model, all of the same scans (see `bcx.evaluate.oof.read_oof`).

    Raises:
        DataError: fewer than two models, or tables of different scans.
    """
    if len(answers) < 2:
        raise DataError("One model alone was given.", expected="at least two", remedy="Name further models.")
    frames = {name: frame.sort_values("file", ignore_index=True) for name, frame in answers.items()}
    first_name, first = next(iter(frames.items()))
    for name, frame in frames.items():
        if not frame[["file", "label", "group"]].equals(first[["file", "label", "group"]]):
            raise DataError(
                f"'{name}' and '{first_name}' did not answer the same scans.",
                expected="the same files, labels and groups in every table",
                remedy="Run both over the same folds of the same data.",
            )
    labels, groups = label_positions(first, task), first["group"].to_numpy(str)
    temperatures, probabilities, figures = {}, {}, {}
    for name, frame in frames.items():
        logits = view_logits(frame, task)[0]
        temperatures[name] = fit_temperature(logits, labels)
        probabilities[name] = apply_temperature(logits, temperatures[name])
        figures[name] = report_with_intervals(labels, probabilities[name], groups, task.classes)
    order = sorted(frames, key=lambda name: (-round(figures[name][DECIDES]["value"], 9), name))
    best, others = order[0], order[1:]
    names = (DECIDES, *ALSO, f"auc_{task.positive}")
    positive = labels == task.classes.index(task.positive)
    testable = min(positive.sum(), (~positive).sum()) >= 2
    to_best, by_delong = {}, {}
    for name in others:
        to_best[name] = compare_answers(labels, probabilities[best], probabilities[name], groups, task.classes, names)
        column = task.classes.index(task.positive)
        if testable:
            by_delong[name] = delong(probabilities[best][:, column], probabilities[name][:, column], positive)
    adjusted = dict(zip(others, holm([to_best[name][DECIDES].p_value for name in others]), strict=True))
    rows = [
        Row(
            name,
            figures[name],
            temperatures[name],
            to_best.get(name),
            by_delong.get(name),
            adjusted.get(name),
            probabilities[name],
        )
        for name in order
    ]
    return Board(rows, labels, groups)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that all of them together err with at most the stated chance (Holm 1979).

    A comparison without a p-value (nan) keeps none, and counts as one all the same.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        if np.isnan(p_values[place]):  # these come last
            adjusted[place] = float("nan")
            continue
        least = max(least, (len(p_values) - rank) * p_values[place])
        adjusted[place] = float(min(1.0, least))
    return adjusted
