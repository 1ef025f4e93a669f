"""From a network's probabilities to an answer: prevalence, class, and whether a person should look."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from bcx.errors import CheckpointError, ConfigError
from bcx.tasks import Task
from bcx.trust.decisions import OperatingPoint, ReferRule
from bcx.trust.rule import POINTS, REASONS, HarmRule, full_prevalence, with_prevalence

_UNSURE = "The highest probability is below the threshold for an answer."


class Decider:
    """The stored rules of one checkpoint, at an operating point and a prevalence. Changes nothing, so threads share it.

    Checkpoints store a `rule` (`HarmRule`); older ones, and those of two classes, an `operating_point` and `refer`; or
    nothing: the answer is then the most probable class.
    """

    def __init__(
        self,
        stored: Mapping[str, Any] | None,
        task: Task,
        *,
        name: str = "",
        point: str = "default",
        prevalence: Mapping[str, float] | None = None,
    ) -> None:
        """Read what a checkpoint stores as `decisions`, at one of `bcx.trust.rule.POINTS`.

        Args:
            name: of the checkpoint, for errors.
            prevalence: share of each class among the scans to come; those left out share the rest. None: as stored.

        Raises:
            CheckpointError: the block is damaged.
            ConfigError: an operating point or a prevalence that cannot be had.
        """
        self.rule, self._old, self._refer = _read(stored or {}, name)
        if self.rule is not None and (
            self.rule.positive != task.classes.index(task.positive)
            or len(self.rule.prevalence) not in (0, len(task.classes))
        ):
            raise CheckpointError(
                f"The checkpoint '{name}' stores a rule of decision for other classes.",
                expected=f"one for {', '.join(task.classes)}",
                remedy="Fetch or train the checkpoint again.",
            )
        offered = POINTS if self.rule is not None else POINTS[:1]
        if point not in offered:
            raise ConfigError(
                f"The model has no operating point called '{point}'.",
                expected=" or ".join(offered),
                remedy="Use one of these, or leave it out.",
            )
        self.point, self._task = point, task
        self._stated = () if self.rule is None else self.rule.prevalence
        self._wanted = full_prevalence(prevalence, task.classes, self._stated) if prevalence else None

    def at(self, prevalence: Mapping[str, float] | None) -> Decider:
        """Return the same rules at another prevalence; arguments and errors as of the class."""
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

        Args:
            adjusted: float [C], from `adjust`.
            distance: from the scans learned from (`bcx.trust.input_check.Verdict.distance`); None: not known.
        """
        distances = None if distance is None else np.array([distance])
        labels, reasons = self.decide_rows(np.asarray(adjusted)[None], distances)
        return int(labels[0]), reasons[0]

    def decide_rows(self, rows: np.ndarray, distances: np.ndarray | None = None) -> tuple[np.ndarray, list[str]]:
        """Return int64 [N] and N reasons, as `decide`, for `adjust`ed probabilities, float [N, C]."""
        if self.rule is not None:
            labels, codes = self.rule.decide(self.restore(rows), distances, point=self.point, shown=rows)
            return labels, [self._words(REASONS[code], label) for code, label in zip(codes, labels, strict=True)]
        labels = rows.argmax(axis=1) if self._old is None else self._old.choose(rows)
        unsure = np.zeros(len(rows), bool) if self._refer is None else self._refer.refers(rows)
        return labels, [_UNSURE if each else "" for each in unsure]

    def _words(self, reason: str, label: int) -> str:
        name, positive = self._task.classes[label].capitalize(), self._task.positive
        if reason == "kind" and self._task.classes[label] != positive:
            return f"{name} is the most probable, but {positive} is too probable to rule out."
        if reason in ("kind", "absent"):
            return f"{name} is the most probable, but not probable enough for an answer."
        return "This picture differs too much from the training data for an answer." if reason else ""


def _read(stored: Mapping[str, Any], name: str) -> tuple[HarmRule | None, OperatingPoint | None, ReferRule | None]:
    try:
        rule, point, refer = (stored.get(key) for key in ("rule", "operating_point", "refer"))
        return (
            None if rule is None else HarmRule.from_dict(rule),
            None if point is None else OperatingPoint.from_dict(point),
            None if refer is None else ReferRule.from_dict(refer),
        )
    except (ConfigError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"The checkpoint '{name}' stores rules of decision that are damaged ({error}).",
            expected="'rule', or 'operating_point' and 'refer', as `bcx train` writes them",
            remedy="Fetch or train the checkpoint again.",
        ) from error
