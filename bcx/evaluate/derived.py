"""Everything in results.json that follows from the out-of-fold table alone, so that anybody can derive it again.

Among it the decisions that a checkpoint stores and what they are worth: tasks with an absent class get a rule that puts
harm first (`bcx.trust.rule`); of two classes, a threshold on the positive one and a rule for referral.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.busi import busi_rows
from bcx.errors import DataError
from bcx.evaluate.curves import decision_curve, referral_curve, reliability_report
from bcx.evaluate.intervals import means_with_intervals, report_with_intervals
from bcx.evaluate.metrics import REFERRED, classification_report, named_confusion
from bcx.evaluate.oof import DISTANCE, checked, label_positions, logits_of, view_probabilities
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature, apply_vector, fit_temperature, fit_vector
from bcx.trust.decisions import fit_operating_point, fit_refer_threshold, sensitivity_points
from bcx.trust.rule import POINTS, Decider, HarmRule, fit_rule

DERIVED = (
    *("temperature", "n", "groups", "one_view", "two_views", "report", "folds", "without", "sources"),
    *("decisions", "uncalibrated", "reliability", "risk_coverage", "decision_curve"),
)
"""The keys of results.json that come from the table; all others say what was run."""

BY_HOSPITAL = "hospitals left out"  # `protocol` in results.json where no network saw the fold's hospital
#: What decides a scan, `by` of `decisions` in results.json.
FOLDS, HOSPITALS, STORED = "rules fitted on the other folds", "rules fitted on the other hospitals", "the stored rule"
#: Of two classes: of what is not referred, at least this share must be right out of fold.
REFER_ACCURACY = 0.90
HARM = {
    "as_absent": "{positive} scans answered {absent}",
    "as_other": "{positive} scans answered with another lesion",
    "missed": "{positive} scans answered with either",
    "positive_referred": "{positive} scans referred",
    "called": "{positive} scans answered {positive}",
    "referred": "scans referred",
    "false_alarms": "other scans answered {positive}",
    "others_cleared": "other lesions answered as such",
    "absent_cleared": "{absent} scans answered {absent}",
    "right": "right among the scans answered",
}
"""What a rule of decision does to people, in words."""


@dataclass(frozen=True)
class Fitted:
    """Temperature and rules of decision, as a checkpoint stores them, for some rows of a table: bool [N]."""

    rows: np.ndarray
    temperature: float
    rules: Mapping[str, Any]


def derive(
    frame: pd.DataFrame,
    task: Task,
    leave_out: Mapping[str, Collection[str]] | None = None,
    by: str = FOLDS,
    stored: tuple[float, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return all figures of a cross-validation, ready for JSON: the keys of `DERIVED`; errors as `read_oof`.

    `reliability` scales each fold by what was fitted on the others ("none" alone where there is one fold). Where there
    are `decisions`, scans are decided `by` `FOLDS`, `HOSPITALS` (every fold is one, and weighs the same), or `STORED`:
    the temperature and rules `stored`, fitted on answers that are not in the table.
    """
    logits, labels = logits_of(frame, task), label_positions(frame, task)
    temperature = fit_temperature(logits, labels, equal_mass(frame["source"]) if by == HOSPITALS else None)
    found = summarise_oof(frame, task, temperature, leave_out)
    chosen = None
    if has_decisions(frame, task):
        fitted, rules = fit_decisions(frame, task, temperature, by, stored)
        found["decisions"] = {"by": by, "rules": rules, **summarise_decisions(frame, task, fitted)}
        chosen = decide(frame, task, fitted)[0]
    found["uncalibrated"] = classification_report(labels, apply_temperature(logits), task.classes)
    probabilities = apply_temperature(logits, temperature)
    folds, groups = frame["fold"].to_numpy(), frame["group"].to_numpy(str)
    scaled = {"none": apply_temperature(logits)}
    if len(np.unique(folds)) > 1:
        weights = equal_mass(frame["source"]) if by == HOSPITALS else None
        scaled |= {name: cross_fitted(logits, labels, folds, name, weights) for name in ("temperature", "vector")}
    positive = task.classes.index(task.positive)
    parts: dict[str, dict[str, Any]] = {"reliability": {}, "risk_coverage": {}, "decision_curve": {}}
    for source, rows in sorted(frame.groupby("source").indices.items()):
        told, truth, places = probabilities[rows], labels[rows], groups[rows]
        reliability = reliability_report({name: values[rows] for name, values in scaled.items()}, truth, places)
        # Cut to what a curve needs: the bins' ends are no figures of their own.
        cut = json.loads(json.dumps(reliability), parse_float=lambda text: round(float(text), 5))
        parts["reliability"][source] = cut
        parts["risk_coverage"][source] = referral_curve(told, truth, places, None if chosen is None else chosen[rows])
        if (truth == positive).any():
            parts["decision_curve"][source] = decision_curve(told[:, positive], truth == positive, places)
    return found | parts


def summarise_oof(
    frame: pd.DataFrame, task: Task, temperature: float = 1.0, leave_out: Mapping[str, Collection[str]] | None = None
) -> dict[str, Any]:
    """Return the headline figures of a cross-validation, ready for JSON.

    Two views are the mean of the probabilities of scan and mirrored scan. The figures are given once more `without` the
    files of each name in `leave_out`, and for each of the `sources` where there are several. `DataError` as `read_oof`.
    """
    frame = checked(frame, task, "the table")
    one, two = view_probabilities(frame, task, temperature)
    labels, folds = label_positions(frame, task), []
    for fold, rows in sorted(frame.groupby("fold").indices.items()):
        single, double = (classification_report(labels[rows], view[rows], task.classes) for view in (one, two))
        figures = {name: single[name] for name in ("n", "accuracy", "macro_auc")}
        figures |= {f"two_views_{name}": double[name] for name in ("accuracy", "macro_auc")}
        folds.append({"fold": int(fold), **figures})
    summary = {
        "temperature": float(temperature),
        **_both_views(frame, task, temperature),
        "report": classification_report(labels, one, task.classes),
        "folds": folds,
    }
    if leave_out:
        rests = {name: frame[~frame["file"].isin(list(files))] for name, files in leave_out.items()}
        summary["without"] = {
            name: {"left_out": len(frame) - len(rest), **_both_views(rest, task, temperature)}
            for name, rest in rests.items()
        }
    if frame["source"].nunique() > 1:
        parts = frame.groupby("source")
        summary["sources"] = {source: _both_views(part, task, temperature) for source, part in parts}
    return summary


def _both_views(frame: pd.DataFrame, task: Task, temperature: float) -> dict:
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    views = zip(("one_view", "two_views"), view_probabilities(frame, task, temperature), strict=True)
    reports = {name: report_with_intervals(labels, view, groups, task.classes) for name, view in views}
    return {"n": len(frame), "groups": len(np.unique(groups)), **reports}


def cross_fitted(
    logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, scaling: str, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return float64 [N, C], probabilities scaled ("temperature" or "vector") as on new scans: by the other folds.

    `weights`, [N], are those of the scans in the fit of a temperature.
    """
    scaled = np.zeros(logits.shape)
    for fold in np.unique(folds):
        inside = folds == fold
        rest = logits[~inside], labels[~inside]
        if scaling == "vector":
            scaled[inside] = apply_vector(logits[inside], *fit_vector(*rest))
        else:
            own = None if weights is None else weights[~inside]
            scaled[inside] = apply_temperature(logits[inside], fit_temperature(*rest, own))
    return scaled


def noted_scans(keys: Iterable[str]) -> dict[str, list[str]] | None:
    """Return {"axilla": BUSI's scans of the armpit among `keys`}, or None: figures are given once more without them."""
    noted = {f"busi/{row.file}" for row in busi_rows() if row.note == "axilla"}
    found = [key for key in keys if key in noted]
    return {"axilla": found} if found else None


def fit_rules(frame: pd.DataFrame, task: Task, temperature: float) -> dict[str, Any]:
    """Fit what a checkpoint stores as `decisions` on out-of-fold answers (one view), where `has_decisions` holds.

    Every hospital weighs the same within each class, whatever its number of scans. `refer` is None where not even the
    surest answers reach `REFER_ACCURACY`. `DataError` where a class is missing.
    """
    probabilities = apply_temperature(logits_of(frame, task), temperature)
    labels, weights = label_positions(frame, task), equal_mass(frame["source"], frame["label"])
    if task.absent is not None:
        shares = np.bincount(labels, minlength=len(task.classes)) / len(labels)
        said = f"out-of-fold answers to {', '.join(sorted(frame['source'].unique()))}"
        rule = fit_rule(probabilities, labels, task, prevalence=shares.tolist(), fitted_on=said, weights=weights)
        return {"rule": rule.to_dict()}
    point = fit_operating_point(probabilities, labels, weights=weights)
    try:
        refer = fit_refer_threshold(probabilities, labels, accuracy=REFER_ACCURACY, point=point).to_dict()
    except DataError:  # not even the surest answers are that good
        refer = None
    return {"operating_point": point.to_dict(), "refer": refer}


def fit_hospitals(
    frame: pd.DataFrame, task: Task, prevalence: Sequence[float], fitted_on: str = "", **harms: float
) -> tuple[float, HarmRule]:
    """Fit a temperature and a rule on answers to hospitals that no network saw, each of which weighs the same.

    The targets of harm are to be met in every one of them. Arguments as `bcx.trust.rule.fit_rule`.
    """
    logits, labels = logits_of(frame, task), label_positions(frame, task)
    temperature = fit_temperature(logits, labels, equal_mass(frame["source"]))
    distances = frame[DISTANCE].dropna().to_numpy() if DISTANCE in frame else np.empty(0)
    rule = fit_rule(
        apply_temperature(logits, temperature),
        labels,
        task,
        prevalence=prevalence,
        fitted_on=fitted_on,
        distances=distances if len(distances) else None,
        weights=equal_mass(frame["source"], frame["label"] == task.positive),
        hospitals=frame["source"].to_numpy(str),
        **harms,
    )
    return temperature, rule


def fit_decisions(
    frame: pd.DataFrame,
    task: Task,
    temperature: float,
    by: str = FOLDS,
    stored: tuple[float, Mapping[str, Any]] | None = None,
) -> tuple[list[Fitted], dict[str, Any]]:
    """Return what decides each row, and the rules for new scans: fitted on all rows, or `stored` (see `derive`)."""
    folds = frame["fold"].to_numpy()
    if by == STORED:
        assert stored is not None
        return [Fitted(np.ones(len(frame), bool), *stored)], dict(stored[1])
    parts = [folds == fold for fold in np.unique(folds)]
    if by == FOLDS:
        fitted = [Fitted(inside, temperature, fit_rules(frame[~inside], task, temperature)) for inside in parts]
        return fitted, fit_rules(frame, task, temperature)
    shares = np.bincount(label_positions(frame, task), minlength=len(task.classes)) / len(frame)
    said = f"answers to {', '.join(sorted(frame['source'].unique()))} by networks that never saw them"

    def fit(rows: np.ndarray) -> tuple[float, dict[str, Any]]:
        own, rule = fit_hospitals(frame[rows], task, shares.tolist(), said)
        return own, {"rule": rule.to_dict()}

    return [Fitted(inside, *fit(~inside)) for inside in parts], fit(np.ones(len(frame), bool))[1]


def summarise_decisions(frame: pd.DataFrame, task: Task, fitted: Sequence[Fitted]) -> dict[str, Any]:
    """Return what decisions are worth: `sources` have figures by label and, with an absent class, of `harm_figures`.

    `sensitivity_points`, of two classes, are judged on the scans that they were fitted on.
    """
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    places = {source: (frame["source"] == source).to_numpy() for source in sorted(frame["source"].unique())}

    def harm(answers: np.ndarray, rows: np.ndarray) -> dict[str, Any]:
        return harm_figures(labels[rows], answers[rows], groups[rows], task)

    chosen, referred = decide(frame, task, fitted)
    answers = chosen if task.absent is None else np.where(referred, REFERRED, chosen)
    sources, referral = {}, {}
    for source, rows in places.items():
        sources[source] = _figures(chosen[rows], labels[rows], groups[rows], task)
        if task.absent is not None:
            sources[source] |= harm(answers, rows)
        sources[source]["confusion"] = named_confusion(labels[rows], answers[rows], task.classes)
        answered = rows & ~referred
        referral[source] = {
            "answered": round(float(answered.sum() / rows.sum()), 4),
            "accuracy": round(float((chosen == labels)[answered].mean()), 4) if answered.any() else None,
        }
    found: dict[str, Any] = {"sources": sources, "referral": referral}
    if task.absent is None:
        probabilities = apply_temperature(logits_of(frame, task), fitted[0].temperature)
        return found | {
            "sensitivity_points": sensitivity_points(probabilities, labels, equal_mass(frame["source"], frame["label"]))
        }
    found["points"] = {}
    for name in POINTS[1:]:
        chosen, referred = decide(frame, task, fitted, name)
        answers = np.where(referred, REFERRED, chosen)
        found["points"][name] = {source: harm(answers, rows) for source, rows in places.items()}
    return found


def harm_figures(
    labels: np.ndarray, answers: np.ndarray, groups: Sequence[str] | np.ndarray, task: Task
) -> dict[str, dict[str, Any]]:
    """Return the shares of `HARM`, each as {"value", "low", "high", "n"}, value None where no scan is of that kind.

    Where none of n scans was seen, the upper end is 3 over the number of their groups (rule of three), which resampling
    could not find. Answers, int [N], are `REFERRED` where no class was answered; the task has an absent class.
    """
    names, positive = np.asarray(groups), task.classes.index(task.positive)
    ill, absent = labels == positive, labels == 0
    other, known = ~ill & ~absent, answers != REFERRED
    lesion = known & (answers != 0) & (answers != positive)
    among = {
        "as_absent": (ill, answers == 0),
        "as_other": (ill, lesion),
        "missed": (ill, known & (answers != positive)),
        "positive_referred": (ill, ~known),
        "called": (ill, answers == positive),
        "referred": (np.ones(len(labels), bool), ~known),
        "false_alarms": (~ill, answers == positive),
        "others_cleared": (other, lesion),
        "absent_cleared": (absent, answers == 0),
        "right": (known, answers == labels),
    }
    found = means_with_intervals({name: np.where(of, hit, np.nan) for name, (of, hit) in among.items()}, names)
    for name, (of, _) in among.items():
        if found[name]["value"] == 0:
            found[name]["high"] = min(1.0, 3 / len(np.unique(names[of])))
    return found


def has_decisions(frame: pd.DataFrame, task: Task) -> bool:
    """Whether thresholds can be fitted: absent and positive class are there, or there are two, the second positive."""
    asked = task.absent is not None or (len(task.classes) == 2 and task.positive == task.classes[1])
    return asked and {task.classes[0], task.positive} <= set(frame["label"])


def decide(
    frame: pd.DataFrame, task: Task, fitted: Sequence[Fitted], point: str = "default"
) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [N] and bool [N]: each scan's class, and whether it is referred."""
    logits, chosen, referred = logits_of(frame, task), np.zeros(len(frame), np.int64), np.zeros(len(frame), bool)
    distances = frame[DISTANCE].to_numpy(float) if DISTANCE in frame else np.full(len(frame), np.nan)
    for part in fitted:
        probabilities = apply_temperature(logits[part.rows], part.temperature)
        decider = Decider(part.rules, task, point=point)
        chosen[part.rows], reasons = decider.decide_rows(probabilities, distances[part.rows])
        referred[part.rows] = [bool(reason) for reason in reasons]
    return chosen, referred


def equal_mass(*kinds: pd.Series) -> np.ndarray:
    """Return weights [N] with which all kinds of scan, told apart by these columns, have the same mass."""
    return 1 / kinds[0].groupby(list(kinds)).transform("size").to_numpy(float)


def _figures(chosen: np.ndarray, labels: np.ndarray, groups: np.ndarray, task: Task) -> dict[str, Any]:
    positive = task.classes.index(task.positive)
    ill, called = labels == positive, chosen == positive
    shares = {"accuracy": (labels >= 0, chosen == labels), "sensitivity": (ill, called), "specificity": (~ill, ~called)}
    if task.absent is not None:
        shares |= {"absent_recall": (labels == 0, chosen == 0), "lost_lesions": (labels > 0, chosen == 0)}
    known = means_with_intervals({name: np.where(of, hit, np.nan) for name, (of, hit) in shares.items()}, groups)
    if task.absent is None:
        wanted = ["balanced_accuracy"] * (len(np.unique(labels)) > 1) + [f"f1_{task.positive}"]
        both = report_with_intervals(labels, np.eye(2)[chosen], groups, task.classes, wanted, chosen)
        known |= {name.removesuffix(f"_{task.positive}"): figure for name, figure in both.items()}
    return {name: figure for name, figure in known.items() if figure["value"] is not None}
