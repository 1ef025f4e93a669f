"""Which scans to refer to a person: those that the network is least sure of.

>>> import numpy as np
>>> probabilities = np.array([[0.40, 0.35, 0.25], [0.10, 0.55, 0.35]])
>>> ReferRule(below=0.5).refers(probabilities).tolist()
[True, False]

Y. Geifman and R. El-Yaniv, "Selective classification for deep neural networks", NeurIPS 2017 (risk and coverage).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bcx.errors import ConfigError, DataError
from bcx.trust.decisions import OperatingPoint, Stored, at_least, check_answers, check_rows, check_share

CONFIDENCES = ("highest", "margin")


@dataclass(frozen=True)
class ReferRule(Stored):
    """Refer a scan to a person when the answer's confidence is below a threshold.

    Attributes:
        below: the threshold, 0..1; 0 refers nothing.
        confidence: "highest" (the highest probability) or "margin" (highest minus second).
        accuracy: the share right among what is not referred, as it was when the rule was fitted; None: not fitted.
        coverage: the share that was not referred then; None: not fitted.
    """

    below: float
    confidence: str = "highest"
    accuracy: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        check_share(self.below, "The threshold for referral")
        for name in ("accuracy", "coverage"):
            if getattr(self, name) is not None:
                check_share(getattr(self, name), f"The referral's {name}")
        _check_confidence(self.confidence)

    def refers(self, probabilities: np.ndarray) -> np.ndarray:
        """Return bool [N]: whether each row of float [N, C] is referred."""
        return confidence_of(probabilities, self.confidence) < self.below


def confidence_of(probabilities: np.ndarray, kind: str = "highest") -> np.ndarray:
    """Return float64 [N], 0..1: how sure each row of float [N, C] is.

    Args:
        probabilities: float [N, C], rows summing to 1.
        kind: "highest" (the highest probability) or "margin" (highest minus second).

    Raises:
        ConfigError: another kind.
        DataError: a shape that does not fit.
    """
    _check_confidence(kind)
    ordered = np.sort(check_rows(probabilities, 1), axis=1)
    return ordered[:, -1] - ordered[:, -2] if kind == "margin" else ordered[:, -1]


def risk_coverage(
    confidence: np.ndarray, correct: np.ndarray, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the risk-coverage curve: what is answered, and how often wrongly, as the least sure scans are referred.

    Args:
        confidence: float [N].
        correct: bool [N].
        weights: float [N], not negative; None counts every scan once.

    Returns:
        threshold, coverage and risk, each float64 [K], one entry per value of confidence among scans that count, from
        the highest down: scans with at least this confidence are the share `coverage` (rising to 1) of all,
        and the share `risk` of them is wrong.

    Raises:
        DataError: shapes that do not fit, or no scan that counts.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, bool)
    weights = np.ones(len(correct)) if weights is None else np.asarray(weights, np.float64)
    if confidence.ndim != 1 or not confidence.shape == correct.shape == weights.shape or not weights.sum() > 0:
        raise DataError(
            f"Confidences {confidence.shape} came with answers {correct.shape} and weights {weights.shape}.",
            expected="one of each per scan, and at least one scan that counts",
            remedy="Give each scan its confidence and whether it was answered rightly.",
        )
    values, position = np.unique(confidence[weights > 0], return_inverse=True)
    mass = np.bincount(position, weights[weights > 0])[::-1].cumsum()
    wrong = np.bincount(position, (weights * ~correct)[weights > 0])[::-1].cumsum()
    return values[::-1], mass / mass[-1], wrong / mass


def fit_refer_threshold(
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    accuracy: float,
    point: OperatingPoint | None = None,
    confidence: str = "highest",
    weights: np.ndarray | None = None,
) -> ReferRule:
    """Return the rule that refers as few scans as it can and reaches `accuracy` on those it does not.

    Args:
        probabilities: float [N, C], 0..1, rows summing to 1; after temperature, of scans that the network was not
            trained on.
        labels: int [N].
        accuracy: 0..1, the share right among what is not referred.
        point: how answers are chosen; None: the most probable class.
        confidence: as `confidence_of`.
        weights: float [N], not negative; None counts every scan once.

    Returns:
        The rule, with the accuracy and coverage that it had on these scans; `below` is 0 where nothing must be
        referred.

    Raises:
        DataError: shapes that do not fit, or an accuracy that not even the surest scans reach.
        ConfigError: an accuracy that is no share, or an unknown kind of confidence.
    """
    check_share(accuracy, "The accuracy asked for")
    probabilities, labels, weights = check_answers(probabilities, labels, weights, point.positive if point else 1)
    chosen = point.choose(probabilities) if point else probabilities.argmax(axis=1)
    thresholds, coverage, risk = risk_coverage(confidence_of(probabilities, confidence), chosen == labels, weights)
    enough = np.flatnonzero(at_least(1 - risk, accuracy))
    if not len(enough):
        raise DataError(
            f"An accuracy of {accuracy:g} is not reached: it is at most {1 - risk.min():.3f}, whatever is referred.",
            expected="an accuracy that the surest answers reach",
            remedy="Ask for less, or train a better network.",
        )
    last = enough[-1]
    below = 0.0 if last == len(risk) - 1 else float((thresholds[last] + thresholds[last + 1]) / 2)
    return ReferRule(below, confidence, accuracy=float(1 - risk[last]), coverage=float(coverage[last]))


def _check_confidence(kind: str) -> None:
    if kind not in CONFIDENCES:
        raise ConfigError(
            f"There is no confidence called {kind!r}.", expected=" or ".join(CONFIDENCES), remedy="Use one of these."
        )
