"""From probabilities to an answer, harm first: which are safe to answer with a class, and which a person should read.

The harm is the share of positive scans (cancers) that is answered with "nothing there" or with another lesion.

C. K. Chow, "On optimum recognition error and reject tradeoff", IEEE Trans. Information Theory 1970 (reject option);
M. Saerens, P. Latinne and C. Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities",
Neural Computation 2002 (prevalence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from bcx.checkpoints.config import Share
from bcx.errors import ConfigError, DataError, check_name, loading
from bcx.tasks import Task
from bcx.trust.decisions import OperatingPoint, ReferRule, Stored, at_least, check_answers, check_rows

#: Of the positive scans, at most these shares may be answered with the absent class, and with another lesion.
ABSENT_HARM, NEGATIVE_HARM = 0.01, 0.03
HELD = 0.95  # sensitivity that the operating point "screening" holds, and specificity that "rule-in" holds
USUAL = 0.97  # share of scans of other hospitals that are not "unlike the scans learned from"
LEAST = 0.5  # no class is answered below this probability, however clean the scans of the fit were

POINTS = ("default", "screening", "rule-in")
REASONS = ("", "absent", "kind", "unlike")
_UNSURE = "The highest probability is below the threshold for an answer."


@dataclass(frozen=True)
class HarmRule(Stored):
    """When a class is safe to say. Class 0 means that nothing is there; thresholds hold at the stated prevalence.

    Attributes:
        absent_above: class 0 is answered where it is the most probable and has at least this probability, 0..1.
        negative_below: another lesion is answered where it is the most probable and the positive class has at most this
            probability, 0..1.
        screening_above: the operating point "screening" answers with the positive class from this probability on.
        rule_in_above: likewise, "rule-in"; without an operating point it is answered where it is the most probable.
        unlike_above: scans further than this from those learned from (see `bcx.trust.input_check`) are referred;
            None: never.
        positive: position of the positive class.
        prevalence: shares of the classes that the probabilities stand for, in the task's order; empty: not known.
        fitted_on: on which answers, in words.
        what: what the rule does, in a sentence.
    """

    absent_above: Share
    negative_below: Share
    screening_above: Share
    rule_in_above: Share
    unlike_above: float | None = None
    positive: Annotated[int, Field(ge=1)] = 2
    prevalence: tuple[Share, ...] = ()
    fitted_on: str = ""
    what: str = ""

    def decide(
        self,
        probabilities: np.ndarray,
        distances: np.ndarray | None = None,
        *,
        point: str = "default",
        shown: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return int64 [N], each row's class, and int64 [N], why it is referred (position in `REASONS`; 0: it is not).

        Where a row is referred, its class is the most probable one.

        Args:
            probabilities: float [N, C], at the prevalence of the rule.
            distances: float [N], from the scans learned from; None: not known.
            shown: the same probabilities at another prevalence; no answer contradicts them in the dangerous direction.
        """
        check_name(point, POINTS, "operating point")
        probabilities = check_rows(probabilities, self.positive)
        labels = (probabilities if shown is None else check_rows(shown, self.positive)).argmax(axis=1)
        suspicion = probabilities[:, self.positive]
        if point == "default":
            called = labels == self.positive
        else:
            called = suspicion >= (self.screening_above if point == "screening" else self.rule_in_above)
            labels[called] = self.positive
        _, absent, kind, unlike = range(len(REASONS))
        reasons = np.where(suspicion > self.negative_below, kind, 0)
        reasons[labels == 0] = np.where(probabilities[labels == 0, 0] < self.absent_above, absent, 0)
        reasons[labels == self.positive] = kind
        reasons[called] = 0
        if distances is not None and self.unlike_above is not None:
            reasons[np.asarray(distances) > self.unlike_above] = unlike
        return labels, reasons


def fit_rule(
    probabilities: np.ndarray,
    labels: np.ndarray,
    task: Task,
    *,
    prevalence: Sequence[float] = (),
    fitted_on: str = "",
    distances: np.ndarray | None = None,
    absent_harm: float = ABSENT_HARM,
    negative_harm: float = NEGATIVE_HARM,
    weights: np.ndarray | None = None,
    hospitals: np.ndarray | None = None,
) -> HarmRule:
    """Return the rule that refers least among those whose harm stays at or below both targets, in every hospital.

    Args:
        probabilities: float [N, C], after temperature, best of hospitals that the network was not trained on.
        distances: float [M], of scans from hospitals that the input check was not fitted on; None: nothing is "unlike".
        hospitals: [N], where each scan comes from; None: one place. `DataError` without a positive or another scan.
    """
    positive = task.classes.index(task.positive)
    probabilities, labels, weights = check_answers(probabilities, labels, weights, positive)
    ill = labels == positive
    if not weights[ill].sum() > 0 or not weights[~ill].sum() > 0:
        raise DataError(
            f"Of {len(labels)} scans, {int(ill.sum())} are {task.positive}.",
            expected=f"scans that are {task.positive} and scans that are not",
            remedy="Fit the rule on a source that has both.",
        )
    likeliest, suspicion = probabilities.argmax(axis=1), probabilities[:, positive]
    as_absent = np.where(likeliest == 0, probabilities[:, 0], 0.0)
    as_negative = np.where((likeliest != 0) & (likeliest != positive), 1 - suspicion, 0.0)
    places = np.zeros(len(labels), int) if hospitals is None else np.asarray(hospitals)
    parts = [ill & (places == place) for place in np.unique(places[ill & (weights > 0)])]
    absent_above = max(LEAST, *(_least(as_absent[part], weights[part], absent_harm) for part in parts))
    negative_below = min(LEAST, *(1 - _least(as_negative[part], weights[part], negative_harm) for part in parts))
    absent, others = task.classes[0], " or ".join(task.classes[c] for c in range(1, len(task.classes)) if c != positive)
    what = (
        f"{task.positive} where it is the most probable class; {others} only where it is the most probable and "
        f"P({task.positive}) is at most {negative_below:.3f}; {absent} only where it is the most probable and "
        f"P({absent}) is at least {absent_above:.3f}; all else is referred: of the {task.positive} scans that this was "
        f"fitted on, {100 * absent_harm:g} % at most are answered {absent} and {100 * negative_harm:g} % {others}"
        f"{', in every hospital' if len(parts) > 1 else ''}."
    )
    return HarmRule(
        absent_above=absent_above,
        negative_below=negative_below,
        # The highest threshold that calls 95 % of the positive: of 1 - p, the least that leaves out no more than 5 %.
        screening_above=1 - _least(1 - suspicion[ill], weights[ill], 1 - HELD),
        rule_in_above=_least(suspicion[~ill], weights[~ill], 1 - HELD),
        unlike_above=None if distances is None else float(np.quantile(distances, USUAL)),
        positive=positive,
        prevalence=tuple(prevalence),
        fitted_on=fitted_on,
        what=what[0].upper() + what[1:],
    )


def _least(scores: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The lowest threshold, halfway between two scores 0..1, at or above which at most `share` of the weight lies."""
    values, position = np.unique(scores, return_inverse=True)
    above = np.bincount(position, weights)[::-1].cumsum()[::-1] / weights.sum()
    fits = at_least(share, np.append(above, 0.0))  # from each value on, and from beyond the highest
    first = int(np.flatnonzero(fits)[0])
    ends = np.concatenate([[0.0], values, [1.0]])
    return float((ends[first] + ends[first + 1]) / 2) if first else 0.0


def with_prevalence(probabilities: np.ndarray, stated: Sequence[float], wanted: Sequence[float]) -> np.ndarray:
    """Return float [..., C] for another prevalence, by Bayes' rule: p * wanted / stated, rows summing to 1."""
    odds = np.asarray(probabilities, np.float64) * (np.asarray(wanted, np.float64) / np.asarray(stated, np.float64))
    return odds / odds.sum(axis=-1, keepdims=True)


def full_prevalence(wanted: Mapping[str, float], classes: Sequence[str], stated: Sequence[float]) -> tuple[float, ...]:
    """Return the shares of all classes, summing to 1; those not named share the rest as they are stated.

    >>> full_prevalence({"malignant": 0.01}, ("normal", "benign", "malignant"), (0.1, 0.6, 0.3))[1]
    0.8485714285714286

    `ConfigError`: an unknown class, a share outside 0..1, shares above 1 in all, or (all named) another sum.
    """
    if len(stated) != len(classes) or min(stated, default=0) <= 0:
        raise ConfigError(
            "The model does not say for which prevalence its probabilities stand.",
            expected="a checkpoint whose rule of decision states the share of every class",
            remedy="Store one with bcx decisions, or leave the prevalence out.",
        )
    rest = sum(share for name, share in zip(classes, stated, strict=True) if name not in wanted)
    total = sum(wanted.values())
    known = set(wanted) <= set(classes) and all(0 < share < 1 for share in wanted.values())
    if not known or (total >= 1 if rest else abs(total - 1) > 1e-6):
        raise ConfigError(
            f"The prevalence is {', '.join(f'{name}={share}' for name, share in wanted.items())}.",
            expected=f"shares between 0 and 1 of {', '.join(classes)}, 1 in all; those left out share the rest",
            remedy="Write for example malignant=0.01.",
        )
    scale = (1 - total) / rest if rest else 0.0
    shares = [wanted.get(name, share * scale) for name, share in zip(classes, stated, strict=True)]
    return tuple(share / sum(shares) for share in shares)


class Decider:
    """The stored rules of one checkpoint, at an operating point and a prevalence. Threads may share it.

    A checkpoint stores a `rule`, or of two classes an `operating_point` and `refer`, or nothing: the answer is then the
    most probable class.
    """

    def __init__(self, stored: Mapping[str, Any] | None, task: Task, *, name: str = "", point: str = "default") -> None:
        """Read what the checkpoint `name` stores as `decisions`, at one of `POINTS`.

        `CheckpointError`: the block is damaged or for other classes. `ConfigError`: an operating point that is not had.
        """
        expected = f"'rule', or 'operating_point' and 'refer', as `bcx train` writes them for {', '.join(task.classes)}"
        with loading(f"The checkpoint '{name}' stores rules of decision that do not fit", expected):
            rule, two, refer = ((stored or {}).get(key) for key in ("rule", "operating_point", "refer"))
            self._rule = None if rule is None else HarmRule.from_dict(rule)
            self._two = None if two is None else OperatingPoint.from_dict(two)
            self._refer = None if refer is None else ReferRule.from_dict(refer)
            self._stated = () if self._rule is None else self._rule.prevalence
            fits = self._two is None or len(task.classes) == 2
            if self._rule is not None:
                fits &= self._rule.positive == task.classes.index(task.positive)
                fits &= len(self._stated) in (0, len(task.classes))
            if not fits:
                raise ValueError("they are for other classes")
        check_name(point, POINTS if self._rule is not None else POINTS[:1], "operating point")
        self.point, self._task = point, task
        self._wanted: tuple[float, ...] | None = None

    def at(self, prevalence: Mapping[str, float] | None) -> Decider:
        """Return the same rules where each class has another share among the scans to come; None: as stored.

        Classes left out share the rest. `ConfigError`: a prevalence that cannot be had.
        """
        other = copy(self)
        other._wanted = full_prevalence(prevalence, self._task.classes, self._stated) if prevalence else None
        return other

    @property
    def prevalence(self) -> dict[str, float]:
        """The share of each class that the probabilities stand for; empty where the checkpoint does not say."""
        return dict(zip(self._task.classes, self._wanted or self._stated, strict=False))

    @property
    def asked(self) -> dict[str, float] | None:
        """The `prevalence` that was asked for; None where it is the checkpoint's own."""
        return None if self._wanted is None else self.prevalence

    def adjust(self, probabilities: np.ndarray) -> np.ndarray:
        """Return the network's probabilities, float64 [..., C], at the prevalence that was asked for."""
        if self._wanted is None:
            return probabilities
        return with_prevalence(probabilities, self._stated, self._wanted)

    def restore(self, adjusted: np.ndarray) -> np.ndarray:
        """Return what `adjust` was given, from what it returned."""
        return adjusted if self._wanted is None else with_prevalence(adjusted, self._wanted, self._stated)

    def choose(self, adjusted: np.ndarray) -> np.ndarray:
        """Return int64 [N], the class of each row of `adjust`ed probabilities, float [N, C]."""
        return self.decide_rows(adjusted)[0]

    def decide(self, adjusted: np.ndarray, distance: float | None = None) -> tuple[int, str]:
        """Return the class of one scan and, where it is referred, the reason in words ("" where it is not).

        `adjusted` is float [C], from `adjust`; `distance` that of `bcx.trust.input_check`, None where it is not known.
        """
        distances = None if distance is None else np.array([distance])
        labels, reasons = self.decide_rows(np.asarray(adjusted)[None], distances)
        return int(labels[0]), reasons[0]

    def decide_rows(self, rows: np.ndarray, distances: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
        """Return int64 [N] and N reasons, as `decide`, for `adjust`ed probabilities, float [N, C]."""
        if self._rule is not None:
            labels, codes = self._rule.decide(self.restore(rows), distances, point=self.point, shown=rows)
            return labels, [self._words(REASONS[code], label) for code, label in zip(codes, labels, strict=True)]
        labels = rows.argmax(axis=1) if self._two is None else self._two.choose(rows)
        unsure = np.zeros(len(rows), bool) if self._refer is None else self._refer.refers(rows)
        return labels, [_UNSURE if each else "" for each in unsure]

    def _words(self, reason: str, label: int) -> str:
        name, positive = self._task.classes[label], self._task.positive
        if reason == "unlike":
            return "This picture differs too much from the training data for an answer."
        if reason == "kind" and name != positive:
            return f"{name.capitalize()} is the most probable, but {positive} is too probable to rule out."
        return f"{name.capitalize()} is the most probable, but not probable enough for an answer." if reason else ""
