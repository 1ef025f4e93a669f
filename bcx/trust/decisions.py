"""Rules of two classes: an operating point and a rule for referral.

Tasks with an absent class have a rule of their own (`bcx.trust.rule`). W. J. Youden, "Index for rating diagnostic
tests", Cancer 1950; Y. Geifman and R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, Self

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError

from bcx.checkpoints.config import Share
from bcx.errors import ConfigError, DataError, problems_of
from bcx.trust.calibration import check_labelled, check_lengths

PLATEAU = 0.01  # thresholds that score within this of the best balance are as good: the middle one is taken


class Stored:
    """A dataclass that becomes a dict for config.json, and is read back with nothing overlooked."""

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote; `ConfigError`: a key is missing or unknown, or a value out of range."""
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
    """The threshold of two classes: the first is answered from the probability `normal_above` on, else the second."""

    normal_above: Share
    positive_above: Share = 0.0  # as stored; of two classes, without effect
    positive: Literal[1] = 1

    def choose(self, probabilities: np.ndarray) -> np.ndarray:
        """Return int64 [N], the class of each row of float [N, 2]."""
        return (check_rows(probabilities, 1)[:, 0] < self.normal_above).astype(np.int64)


@dataclass(frozen=True)
class ReferRule(Stored):
    """Refer a scan to a person whose highest probability is `below` a threshold."""

    below: Share
    confidence: Literal["highest"] = "highest"
    accuracy: Share | None = None  # the share right among what was not referred when the rule was fitted
    coverage: Share | None = None  # the share that was not referred then

    def refers(self, probabilities: np.ndarray) -> np.ndarray:
        """Return bool [N]: whether each row of float [N, C] is referred."""
        return check_rows(probabilities, 1).max(axis=1) < self.below


def fit_operating_point(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    positive_sensitivity: float | None = None,
    weights: np.ndarray | None = None,
) -> OperatingPoint:
    """Fit the threshold of two classes on the probability of the second one, the positive.

    With `positive_sensitivity`, the highest threshold that calls at least this share of the positive scans positive;
    without, the middle of those whose balanced accuracy is within `PLATEAU` of the best. A threshold lies halfway
    between the scores of two scans, so that rounding changes no answer. `DataError`: shapes that do not fit, or a class
    that is missing.
    """
    probabilities, labels, weights = check_answers(probabilities, labels, weights, 1)
    ill, share = labels == 1, probabilities[:, 1]
    for there, which in ((~ill, 0), (ill, 1)):
        if not weights[there].sum() > 0:
            raise DataError(
                f"No scan of class {which} is among the {len(labels)} that the operating point is fitted on.",
                expected="scans of both classes",
                remedy="Fit it on a source that has both.",
            )
    # 0 (call all), halfway between neighbours, above the highest
    ends = np.append(np.unique(share), 1.0)
    thresholds = np.concatenate([[0.0], (ends[:-1] + ends[1:]) / 2])
    found = _called(share[ill], weights[ill], thresholds)
    if positive_sensitivity is not None:
        above = float(thresholds[at_least(found, positive_sensitivity)].max())
    else:
        balance = (found - _called(share[~ill], weights[~ill], thresholds)) / 2
        good = thresholds[balance >= balance.max() - PLATEAU]
        above = float(good[np.abs(good - (good[0] + good[-1]) / 2).argmin()])
    return OperatingPoint(normal_above=1 - above)


def _called(scores: np.ndarray, weights: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """The share of the weight whose score is at least each threshold."""
    order = np.argsort(scores)
    mass = np.concatenate([[0.0], np.cumsum(weights[order])])
    return 1 - mass[np.searchsorted(scores[order], thresholds, side="left")] / mass[-1]


def sensitivity_points(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None
) -> list[dict[str, Any]]:
    """Return what 90 and 95 % sensitivity cost, on the scans that the points are fitted on.

    Each is a `point` with its `sensitivity`, `specificity` and `accuracy`, 0..1.
    """
    probabilities, labels, weights = check_answers(probabilities, labels, weights, 1)
    parts = {"sensitivity": labels == 1, "specificity": labels == 0, "accuracy": labels < 2}
    found = []
    for asked in (0.90, 0.95):
        point = fit_operating_point(probabilities, labels, positive_sensitivity=asked, weights=weights)
        right = point.choose(probabilities) == labels
        shares = {name: float(weights[part & right].sum() / weights[part].sum()) for name, part in parts.items()}
        found.append({"point": point.to_dict(), **shares})
    return found


def risk_coverage(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return threshold, coverage and risk, float64 [K] each, one entry per confidence, from the highest down.

    Scans with at least this confidence are the share `coverage` of all, and the share `risk` of them is wrong. A
    weight of 2 equals that scan twice.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    weights = np.ones(len(correct)) if weights is None else np.asarray(weights, np.float64)
    check_lengths(confidence=confidence, correct=correct, weights=weights)
    values, position = np.unique(confidence[weights > 0], return_inverse=True)
    mass = np.bincount(position, weights[weights > 0])[::-1].cumsum()
    wrong = np.bincount(position, (weights * ~correct)[weights > 0])[::-1].cumsum()
    return values[::-1], mass / mass[-1], wrong / mass


def fit_refer_threshold(
    probabilities: np.ndarray, labels: np.ndarray, *, accuracy: float, point: OperatingPoint
) -> ReferRule:
    """Return the rule that refers as few scans as it can and reaches `accuracy`, 0..1, on those it does not.

    Answers are chosen by `point`. `DataError`: shapes that do not fit, or an accuracy that not even the surest scans
    reach.
    """
    probabilities, labels, _ = check_answers(probabilities, labels, None, 1)
    thresholds, coverage, risk = risk_coverage(probabilities.max(axis=1), point.choose(probabilities) == labels)
    enough = np.flatnonzero(at_least(1 - risk, accuracy))
    if not len(enough):
        raise DataError(
            f"An accuracy of {accuracy:g} is not reached: it is at most {1 - risk.min():.3f}, whatever is referred.",
            expected="an accuracy that the surest answers reach",
            remedy="Ask for less, or train a better network.",
        )
    last = enough[-1]
    below = 0.0 if last == len(risk) - 1 else float((thresholds[last] + thresholds[last + 1]) / 2)
    return ReferRule(below, accuracy=float(1 - risk[last]), coverage=float(coverage[last]))


def at_least(reached: np.ndarray | float, asked: np.ndarray | float) -> np.ndarray:
    """`reached >= asked` for shares of sums, where 0.9 may come out as 0.8999999999999999."""
    return np.asarray(reached) >= np.asarray(asked) - 1e-9


def check_answers(
    probabilities: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, positive: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return float64 [N, C], int64 [N] and weights, float64 [N], or raise a `DataError` where they do not fit."""
    probabilities, labels = check_labelled(check_rows(probabilities, positive), labels)
    weights = np.ones(len(labels)) if weights is None else np.asarray(weights, np.float64)
    if weights.shape != labels.shape or not (weights >= 0).all() or not weights.sum() > 0:
        raise DataError(
            f"{len(labels)} labels came with weights {weights.shape}, {weights.sum():g} in all.",
            expected="one weight per row, not negative, and some above 0",
            remedy="Give one weight per row of probabilities.",
        )
    return probabilities, labels, weights


def check_rows(probabilities: np.ndarray, positive: int) -> np.ndarray:
    """Return float64 [N, C], or raise a `DataError` where there is no such class or a number is not finite."""
    probabilities = np.asarray(probabilities, np.float64)
    least = max(2, positive + 1)
    if probabilities.ndim != 2 or probabilities.shape[1] < least or not np.isfinite(probabilities).all():
        raise DataError(
            f"The probabilities have the shape {probabilities.shape}, or are not finite.",
            expected=f"finite numbers [scans, classes] with at least {least} classes",
            remedy="Pass one row of probabilities per scan.",
        )
    return probabilities
