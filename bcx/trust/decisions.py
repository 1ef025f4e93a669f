"""Operating points of two classes, and those that older checkpoints of three store: from probabilities to one class.

>>> import numpy as np
>>> probabilities = np.array([[0.70, 0.30], [0.55, 0.45]])  # negative, positive
>>> probabilities.argmax(axis=1).tolist()
[0, 0]
>>> OperatingPoint(normal_above=0.6, positive_above=0.0, positive=1).choose(probabilities).tolist()
[0, 1]

A threshold is fitted on out-of-fold probabilities after temperature, for tasks of two classes of which the second is
the positive one. Tasks with an absent class have a rule of their own (`bcx.trust.rule`).

W. J. Youden, "Index for rating diagnostic tests", Cancer 1950.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bcx.errors import ConfigError, DataError, problems_of

PLATEAU = 0.01
"""Thresholds that score within this of the best balance are as good: the middle one is taken, so that one scan more or
less does not move it far."""


class Stored:
    """What plain dataclasses of decisions have in common: a dict for config.json, and back with nothing overlooked."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            ConfigError: a key that is missing or unknown, or a value out of range.
        """
        known = [f.name for f in fields(cls)]  # type: ignore[arg-type]
        try:
            if absent := set(known) - set(values):
                raise ValueError(f"keys without a value: {', '.join(sorted(absent))}")
            return TypeAdapter(cls).validate_json(json.dumps(values))
        except (TypeError, ValueError) as error:
            found = problems_of(error) if isinstance(error, ValidationError) else str(error)
            raise ConfigError(
                f"A stored {cls.__name__} does not fit: {found}.",
                expected=f"exactly the keys {', '.join(known)}",
                remedy="Fetch or write the checkpoint again.",
            ) from error


@dataclass(frozen=True)
class OperatingPoint(Stored):
    """Two thresholds that turn probabilities into one class.

    For tasks whose first class means that nothing is there ("normal") and that have one class whose sensitivity
    matters most ("malignant"); and for tasks of two classes, where the second is the positive one: it is the answer
    wherever the first one is not.

    Attributes:
        normal_above: the answer is class 0 when its probability is at least this, 0..1.
        positive_above: else it is the positive class when that holds at least this share of the probability
            outside class 0, 0..1; else the most probable of the classes that remain.
        positive: position of the positive class, 1..C-1.
    """

    normal_above: float
    positive_above: float
    positive: int = 2

    def __post_init__(self) -> None:
        for name in ("normal_above", "positive_above"):
            check_share(getattr(self, name), f"The operating point's {name}")
        check_positive(self.positive)

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Return int64 [N], the class of each row.

        Args:
            probabilities: float [N, C], 0..1, rows summing to 1.

        Raises:
            DataError: a shape that does not fit.
        """
        probabilities = check_rows(probabilities, self.positive)
        rest = probabilities.copy()
        rest[:, [0, self.positive]] = -1
        chosen = rest.argmax(axis=1)
        chosen[positive_share(probabilities, self.positive) >= self.positive_above] = self.positive
        chosen[probabilities[:, 0] >= self.normal_above] = 0
        return chosen


@dataclass(frozen=True)
class PointFigures:
    """What an operating point gives on a set of scans. Shares 0..1; nan where no scan is of that kind.

    Attributes:
        point: the threshold.
        sensitivity: of all positive scans, the share called positive.
        specificity: of all others, the share not called positive.
        accuracy: the share right.
    """

    point: OperatingPoint
    sensitivity: float
    specificity: float
    accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, ready for JSON: the point as its own dict, None for what has no value."""
        values = asdict(self)
        return {name: None if value != value else value for name, value in values.items()}


def positive_share(probabilities: np.ndarray, positive: int = 2) -> np.ndarray:
    """Return float64 [N], 0..1: the positive class's share of the probability outside class 0 (0 where none is)."""
    probabilities = check_rows(probabilities, positive)
    lesion = probabilities[:, 1:].sum(axis=1)
    return probabilities[:, positive] / np.where(lesion > 0, lesion, 1)


def point_figures(
    point: OperatingPoint, probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> PointFigures:
    """Return what `point` gives on labelled scans; arguments as `fit_operating_point`."""
    probabilities, labels, weights = check_answers(probabilities, labels, weights, point.positive)
    chosen, positive = point.choose(probabilities), labels == point.positive

    def share(of: np.ndarray, among: np.ndarray) -> float:
        mass = weights[among].sum()
        return float(weights[among & of].sum() / mass) if mass > 0 else float("nan")

    return PointFigures(
        point=point,
        sensitivity=share(chosen == point.positive, positive),
        specificity=share(chosen != point.positive, ~positive),
        accuracy=share(chosen == labels, np.ones_like(positive)),
    )


def fit_operating_point(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    positive_sensitivity: float | None = None,
    weights: np.ndarray | None = None,
) -> OperatingPoint:
    """Fit the threshold of two classes on out-of-fold probabilities of the second one, the positive.

    With `positive_sensitivity`, the highest threshold that calls at least this share of the positive scans positive (so
    it costs the least specificity); without, the middle of those whose balanced accuracy is within `PLATEAU` of the
    best. A threshold lies halfway between the scores of two scans, so that rounding changes no answer.

    Args:
        probabilities: float [N, 2], 0..1, rows summing to 1; after temperature, of scans that the network was not
            trained on.
        labels: int [N], 0 or 1; both must be there.
        positive_sensitivity: 0..1, or None.
        weights: float [N], not negative; None counts every scan once.

    Raises:
        DataError: shapes that do not fit, or a class that is missing.
        ConfigError: a share that is none.
    """
    probabilities, labels, weights = check_answers(probabilities, labels, weights, 1)
    if positive_sensitivity is not None:
        check_share(positive_sensitivity, "The sensitivity asked for")
    for there, which in ((labels == 0, 0), (labels == 1, 1)):
        if not weights[there].sum() > 0:
            raise DataError(
                f"No scan of class {which} is among the {len(labels)} that the operating point is fitted on.",
                expected="scans of both classes",
                remedy="Fit it on a source that has both.",
            )
    above = _positive_threshold(probabilities[:, 1], labels == 1, weights, positive_sensitivity)
    return OperatingPoint(normal_above=1 - above, positive_above=0.0, positive=1)


def sensitivity_points(
    probabilities: np.ndarray,
    labels: np.ndarray,
    sensitivities: Sequence[float] = (0.90, 0.95),
    *,
    weights: np.ndarray | None = None,
) -> list[PointFigures]:
    """Return an operating point for each stated sensitivity of the positive class, with the specificity it costs.

    Arguments and errors as `fit_operating_point`; the figures are those of the same scans.
    """
    return [
        point_figures(
            fit_operating_point(probabilities, labels, positive_sensitivity=asked, weights=weights),
            probabilities,
            labels,
            weights,
        )
        for asked in sensitivities
    ]


def _positive_threshold(
    share: np.ndarray, ill: np.ndarray, weights: np.ndarray, positive_sensitivity: float | None
) -> float:
    thresholds = _between(share)
    found = _called(share[ill], weights[ill], thresholds)
    if positive_sensitivity is not None:
        return float(thresholds[at_least(found, positive_sensitivity)].max())
    return _middle(thresholds, (found - _called(share[~ill], weights[~ill], thresholds)) / 2)


def _between(scores: np.ndarray) -> np.ndarray:
    """Thresholds that tell scores 0..1 apart, rising: 0 (call all), halfway between neighbours, above the highest."""
    values = np.unique(scores)
    ends = np.append(values, 1.0)
    return np.concatenate([[0.0], (ends[:-1] + ends[1:]) / 2])


def _called(scores: np.ndarray, weights: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of the weight whose score is at least each threshold."""
    order = np.argsort(scores)
    mass = np.concatenate([[0.0], np.cumsum(weights[order])])
    return 1 - mass[np.searchsorted(scores[order], thresholds, side="left")] / mass[-1]


def _middle(thresholds: np.ndarray, balance: np.ndarray) -> float:
    """The threshold nearest to the middle of those whose balance is within PLATEAU of the best."""
    good = thresholds[balance >= balance.max() - PLATEAU]
    return float(good[np.abs(good - (good[0] + good[-1]) / 2).argmin()])


def at_least(reached: np.ndarray | float, asked: np.ndarray | float) -> np.ndarray:
    """`reached >= asked` for shares of sums, where 0.9 may come out as 0.8999999999999999."""
    return np.asarray(reached) >= np.asarray(asked) - 1e-9


def check_answers(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, positive: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    probabilities, labels = check_rows(probabilities, positive), np.asarray(labels)
    weights = np.ones(len(probabilities)) if weights is None else np.asarray(weights, np.float64)
    count, classes = probabilities.shape
    fits = labels.shape == weights.shape == (count,) and labels.dtype.kind in "iu" and count > 0
    if not fits or labels.min() < 0 or labels.max() >= classes or not (weights >= 0).all() or not weights.sum() > 0:
        raise DataError(
            f"Probabilities {probabilities.shape} came with labels {labels.shape} of type {labels.dtype} and weights "
            f"{weights.shape}.",
            expected=f"one whole number from 0 to {classes - 1} and one weight, not negative, per row",
            remedy="Give one label (and weight) per row of probabilities.",
        )
    return probabilities, labels, weights


def check_rows(probabilities: np.ndarray, positive: int) -> np.ndarray:
    probabilities = np.asarray(probabilities, np.float64)
    least = max(2, positive + 1)
    if probabilities.ndim != 2 or probabilities.shape[1] < least or not np.isfinite(probabilities).all():
        raise DataError(
            f"The probabilities have the shape {probabilities.shape}, or are not finite.",
            expected=f"finite numbers [scans, classes] with at least {least} classes",
            remedy="Pass one row of probabilities per scan.",
        )
    return probabilities


def check_share(value: Any, what: str) -> None:
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise ConfigError(f"{what} is {value!r}.", expected="a number from 0 to 1", remedy="Give a share, such as 0.9.")


def check_positive(value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(
            f"The positive class's position is {value!r}.",
            expected="a whole number of at least 1 (class 0 means that nothing is there)",
            remedy="Give the position of the task's positive class.",
        )
