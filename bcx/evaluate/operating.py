"""From out-of-fold probabilities to the decisions that a checkpoint stores, and what they are worth.

Tasks with an absent class get a rule that puts harm first (`bcx.trust.rule`); of two classes, a threshold on the
positive one and a rule for referral.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bcx.errors import DataError
from bcx.evaluate.harm import harm_figures
from bcx.evaluate.intervals import figures_with_intervals
from bcx.evaluate.metrics import REFERRED, named_confusion
from bcx.evaluate.oof import label_positions, logits_of
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature
from bcx.trust.decisions import fit_operating_point, fit_refer_threshold, sensitivity_points
from bcx.trust.rule import POINTS, Decider, fit_rule

#: Of two classes: of what is not referred, at least this share must be right out of fold.
REFER_ACCURACY = 0.90


def fit_rules(frame: pd.DataFrame, task: Task, temperature: float) -> dict[str, Any]:
    """Fit what a checkpoint stores as `decisions` on out-of-fold answers (one view), where `has_decisions` holds.

    Every hospital weighs the same within each class, whatever its number of scans. `refer` is None where not even the
    surest answers reach `REFER_ACCURACY`.

    Raises:
        DataError: a class is missing.
    """
    probabilities = apply_temperature(logits_of(frame, task), temperature)
    labels, weights = label_positions(frame, task), _equal_mass(frame)
    if task.absent is not None:
        shares = np.bincount(labels, minlength=len(task.classes)) / len(labels)
        said = f"out-of-fold answers to {', '.join(sorted(frame['source'].unique()))}"
        rule = fit_rule(probabilities, labels, task, prevalence=shares.tolist(), fitted_on=said, weights=weights)
        return {"rule": rule.to_dict()}
    point = fit_operating_point(probabilities, labels, weights=weights)
    try:
        refer = fit_refer_threshold(probabilities, labels, accuracy=REFER_ACCURACY, point=point)
    except DataError:  # not even the surest answers are that good
        return {"operating_point": point.to_dict(), "refer": None}
    return {"operating_point": point.to_dict(), "refer": refer.to_dict()}


def summarise_decisions(frame: pd.DataFrame, task: Task, temperature: float) -> dict[str, Any]:
    """Return what the decisions are worth: each fold is decided by rules fitted on the other folds.

    `rules` are fitted on all folds, as stored; `sources` have figures by label and, with an absent class, of
    `bcx.evaluate.harm`, for each of `points`, too; `lost_lesions` are lesions called normal; `sensitivity_points`, of
    two classes, are judged on the scans that they were fitted on.
    """
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    places = {source: (frame["source"] == source).to_numpy() for source in sorted(frame["source"].unique())}
    chosen, referred = decide_folds(frame, task, temperature)
    answers = chosen if task.absent is None else np.where(referred, REFERRED, chosen)
    sources, referral = {}, {}
    for source, rows in places.items():
        sources[source] = _figures(chosen[rows], labels[rows], groups[rows], task)
        if task.absent is not None:
            sources[source] |= harm_figures(labels[rows], answers[rows], groups[rows], task)
        sources[source]["confusion"] = named_confusion(labels[rows], answers[rows], task.classes)
        answered = rows & ~referred
        referral[source] = {
            "answered": round(float(answered.sum() / rows.sum()), 4),
            "accuracy": round(float((chosen == labels)[answered].mean()), 4) if answered.any() else None,
        }
    found: dict[str, Any] = {
        "what": "label and decision; each fold decided by rules fitted on the others",
        "rules": fit_rules(frame, task, temperature),
        "sources": sources,
        "referral": referral,
    }
    if task.absent is None:
        probabilities = apply_temperature(logits_of(frame, task), temperature)
        return found | {"sensitivity_points": sensitivity_points(probabilities, labels, _equal_mass(frame))}
    found["points"] = {}
    for name in POINTS[1:]:
        chosen, referred = decide_folds(frame, task, temperature, name)
        answers = np.where(referred, REFERRED, chosen)
        found["points"][name] = {
            source: harm_figures(labels[rows], answers[rows], groups[rows], task) for source, rows in places.items()
        }
    return found


def has_decisions(frame: pd.DataFrame, task: Task) -> bool:
    """Whether thresholds can be fitted: absent and positive class are there, or there are two, the second positive."""
    asked = task.absent is not None or (len(task.classes) == 2 and task.positive == task.classes[1])
    return asked and {task.classes[0], task.positive} <= set(frame["label"])


def decide_folds(
    frame: pd.DataFrame, task: Task, temperature: float, point: str = "default"
) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [N] and bool [N]: each scan's class, and whether it is referred, by the other folds' rules."""
    probabilities = apply_temperature(logits_of(frame, task), temperature)
    folds = frame["fold"].to_numpy()
    chosen, referred = np.zeros(len(frame), np.int64), np.zeros(len(frame), bool)
    for fold in np.unique(folds):
        inside = folds == fold
        decider = Decider(fit_rules(frame[~inside], task, temperature), task, point=point)
        chosen[inside], reasons = decider.decide_rows(probabilities[inside])
        referred[inside] = [bool(reason) for reason in reasons]
    return chosen, referred


def _equal_mass(frame: pd.DataFrame) -> np.ndarray:
    """Weights [N] that give every source the same mass within each class that it has."""
    return 1 / frame.groupby(["source", "label"])["label"].transform("size").to_numpy(float)


def _figures(chosen: np.ndarray, labels: np.ndarray, groups: np.ndarray, task: Task) -> dict[str, Any]:
    positive = task.classes.index(task.positive)
    ill, called = labels == positive, chosen == positive
    shares = {
        "accuracy": (np.ones(len(labels), bool), chosen == labels),
        "sensitivity": (ill, called),
        "specificity": (~ill, ~called),
    }
    if task.absent is not None:
        shares |= {"absent_recall": (labels == 0, chosen == 0), "lost_lesions": (labels > 0, chosen == 0)}
    counts = {name: int(among.sum()) for name, (among, _) in shares.items()}
    if task.absent is None:
        counts |= dict.fromkeys(("balanced_accuracy", "f1"), len(labels))

    def figures(weights: np.ndarray) -> np.ndarray:
        masses = [(weights @ among, weights @ (among & hit)) for among, hit in shares.values()]
        found = [hits / mass if mass > 0 else np.nan for mass, hits in masses]
        if task.absent is None:
            both = weights @ ill + weights @ called
            found += [(found[1] + found[2]) / 2, 2 * (weights @ (ill & called)) / both if both > 0 else np.nan]
        return np.array(found)

    known = figures_with_intervals(figures, counts, groups)
    return {name: figure for name, figure in known.items() if figure["value"] is not None}
