"""From out-of-fold probabilities to the decisions that a checkpoint stores, and what they are worth.

rules = fit_rules(frame, task, temperature)          # stored in the checkpoint, used by the engine
figures = summarise_decisions(frame, task, temperature)
figures["sources"]["busi"]["sensitivity"]            # {"value": ..., "low": ..., "high": ..., "n": ...}
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.errors import DataError
from bcx.evaluate.intervals import bootstrap_intervals
from bcx.evaluate.oof import label_positions, view_logits
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature
from bcx.trust.decisions import OperatingPoint, fit_operating_point, sensitivity_points
from bcx.trust.referral import ReferRule, fit_refer_threshold

if TYPE_CHECKING:
    import pandas as pd

#: Of the lesions, at most this share may be called normal out of fold.
LOST_LESIONS = 0.05
#: Of what is not referred, at least this share must be right out of fold.
REFER_ACCURACY = 0.90

_FIGURES = ("accuracy", "sensitivity", "specificity")
_WITH_ABSENT = ("absent_recall", "lost_lesions")
_OF_TWO = ("balanced_accuracy", "f1")


@dataclass(frozen=True)
class Rules:
    """What turns probabilities into decisions."""

    point: OperatingPoint
    refer: ReferRule | None

    def to_dict(self) -> dict[str, Any]:
        """Return the blocks `operating_point` and `refer` of a checkpoint's config.json."""
        return {
            "operating_point": self.point.to_dict(),
            "refer": None if self.refer is None else self.refer.to_dict(),
        }


def fit_rules(frame: pd.DataFrame, task: Task, temperature: float) -> Rules:
    """Fit the operating point and the rule for referral on out-of-fold answers (one view).

    Every hospital weighs the same within each class, whatever its number of scans: balanced accuracy decides, for
    normal against lesion and then for the positive class against the rest.

    Args:
        frame: see `bcx.evaluate.oof`; `has_decisions` must hold.
        task: has an absent class, or two classes of which the second is the positive one.
        temperature: divides the logits.

    Returns:
        The rules; no referral where not even the surest answers reach `REFER_ACCURACY`.

    Raises:
        DataError: a class is missing.
    """
    probabilities, labels, weights = _weighed(frame, task, temperature)
    positive = task.classes.index(task.positive)
    point = fit_operating_point(probabilities, labels, lost_lesions=LOST_LESIONS, weights=weights, positive=positive)
    try:
        refer = fit_refer_threshold(probabilities, labels, accuracy=REFER_ACCURACY, point=point)
    except DataError:
        refer = None
    return Rules(point, refer)


def summarise_decisions(frame: pd.DataFrame, task: Task, temperature: float) -> dict[str, Any]:
    """Return what the decisions are worth: each fold is decided by rules fitted on the other folds.

    Returns:
        `rules` (fitted on all folds, as stored), `sources`: per source `accuracy`, `sensitivity` and `specificity` of
        the positive class, `absent_recall` (normals called normal) and `lost_lesions` (lesions called normal), each
        with its interval over groups and its n, and `confusion`, {true class: {answer: n}}; of a task without an absent
        class `balanced_accuracy` and `f1` (of the positive class) in place of the last two; `referral`: per source the
        share answered and the accuracy among them; `sensitivity_points`: what 90 and 95 % sensitivity cost, on the same
        scans that they were fitted on.
    """
    probabilities, labels, weights = _weighed(frame, task, temperature)
    positive = task.classes.index(task.positive)
    chosen, referred = decide_folds(frame, task, temperature)
    sources, referral = {}, {}
    for source in sorted(frame["source"].unique()):
        rows = (frame["source"] == source).to_numpy()
        groups = frame["group"].to_numpy()[rows]
        confusion = {"confusion": named_confusion(labels[rows], chosen[rows], task.classes)}
        sources[source] = _figures(chosen[rows], labels[rows], groups, positive, task.absent is not None) | confusion
        answered = rows & ~referred
        referral[source] = {
            "answered": round(float(answered.sum() / rows.sum()), 4),
            "accuracy": round(float((chosen == labels)[answered].mean()), 4) if answered.any() else None,
        }
    points = sensitivity_points(probabilities, labels, lost_lesions=LOST_LESIONS, weights=weights, positive=positive)
    return {
        "what": "label at the operating point; each fold decided by rules fitted on the others",
        "rules": fit_rules(frame, task, temperature).to_dict(),
        "sources": sources,
        "referral": referral,
        "sensitivity_points": [point.to_dict() for point in points],
    }


def has_decisions(frame: pd.DataFrame, task: Task) -> bool:
    """Whether thresholds can be fitted: absent and positive class are there, or there are two, the second positive."""
    asked = task.absent is not None or (len(task.classes) == 2 and task.positive == task.classes[1])
    return asked and {task.classes[0], task.positive} <= set(frame["label"])


def decide_folds(frame: pd.DataFrame, task: Task, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [N] and bool [N]: each scan's class, and whether it is referred, by the other folds' rules."""
    probabilities = apply_temperature(view_logits(frame, task)[0], temperature)
    folds = frame["fold"].to_numpy()
    chosen, referred = np.zeros(len(frame), np.int64), np.zeros(len(frame), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        rules = fit_rules(frame[~inside], task, temperature)
        chosen[inside] = rules.point.choose(probabilities[inside])
        if rules.refer is not None:
            referred[inside] = rules.refer.refers(probabilities[inside])
    return chosen, referred


def named_confusion(labels: np.ndarray, chosen: np.ndarray, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Return {true class: {answer: n}} of labels and answers, both int [N]."""
    count = len(classes)
    cells = np.bincount(labels * count + chosen, minlength=count * count).reshape(count, count)
    return {true: dict(zip(classes, row, strict=True)) for true, row in zip(classes, cells.tolist(), strict=True)}


def _weighed(frame: pd.DataFrame, task: Task, temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, labels, and weights that give every source the same mass within each class that it has."""
    probabilities = apply_temperature(view_logits(frame, task)[0], temperature)
    labels = label_positions(frame, task)
    kinds = frame["source"].astype(str) + "\t" + frame["label"].astype(str)
    return probabilities, labels, 1 / kinds.map(kinds.value_counts()).to_numpy(float)


def _figures(
    chosen: np.ndarray, labels: np.ndarray, groups: np.ndarray, positive: int, with_absent: bool
) -> dict[str, Any]:
    ill, called = labels == positive, chosen == positive
    among = [np.ones(len(labels), bool), ill, ~ill, *([labels == 0, labels > 0] if with_absent else [])]
    right = [chosen == labels, called, ~called, *([chosen == 0, chosen == 0] if with_absent else [])]
    names = [*_FIGURES, *(_WITH_ABSENT if with_absent else _OF_TWO)]
    counts = [int(of.sum()) for of in among] + [len(labels)] * (len(names) - len(among))

    def shares(weights: np.ndarray) -> np.ndarray:
        masses = [(weights @ of, weights @ (of & hit)) for of, hit in zip(among, right, strict=True)]
        found = [hits / mass if mass > 0 else np.nan for mass, hits in masses]
        if not with_absent:
            both = weights @ ill + weights @ called
            found += [(found[1] + found[2]) / 2, 2 * (weights @ (ill & called)) / both if both > 0 else np.nan]
        return np.array(found)

    values = shares(np.ones(len(labels)))
    low, high = bootstrap_intervals(shares, groups)
    return {
        name: {"value": float(values[i]), "low": float(low[i]), "high": float(high[i]), "n": counts[i]}
        for i, name in enumerate(names)
        if np.isfinite(values[i])
    }
