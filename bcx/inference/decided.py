"""From probabilities and maps to what is claimed, at one prevalence or another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bcx.imaging.crop import merge_lesion
from bcx.imaging.scan import Scan
from bcx.inference.prediction import SCREEN, Prediction
from bcx.inference.two_stage import Reading
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, claim, may_outline
from bcx.trust.decider import Decider


def decided(
    decider: Decider,
    task: Task,
    probabilities: np.ndarray,
    scan: Scan,
    reading: Reading,
    distance: float | None,
    no_scan: str,
) -> dict[str, Any]:
    """Return what is claimed of a scan, as fields of its `Prediction`.

    Args:
        decider: the rule.
        task: of the model.
        probabilities: float64 `[C]`, from `Decider.adjust`.
        scan: for its size and damage.
        reading: for its lesion map.
        distance: from the training data; None: not known.
        no_scan: why it is no scan; "" where it may be one.
    """
    winner, unsure = decider.decide(probabilities, distance)
    label = task.classes[winner]
    decision, reason = claim(
        label,
        task=task,
        likeliest=task.classes[int(probabilities.argmax())] if decider.point == "default" else None,
        lesion=_lesion_peak(reading, scan) if label == task.absent else 0.0,
        no_scan=no_scan,
        damage=scan.damage,
        unsure=unsure,
    )
    return {
        "label": label,
        "confidence": float(probabilities[winner]),
        "probabilities": {name: float(p) for name, p in zip(task.classes, probabilities, strict=True)},
        "decision": decision,
        "reason": reason,
        "outlines": may_outline(decision, task),
    }


def turned(prediction: Prediction, before: Decider, wanted: Decider, task: Task) -> Prediction:
    """Return an answer given by one decider as another gives it; a clip's answer stays as it is."""
    if prediction.clip is not None:
        return prediction
    probabilities = wanted.adjust(before.restore(np.array([*prediction.probabilities.values()])))
    no_scan = prediction.reason if prediction.decision == NOT_A_SCAN else ""
    scan, reading = prediction.scan, prediction.reading
    fields = decided(wanted, task, probabilities, scan, reading, prediction.distance, no_scan)
    return replace(prediction, **fields, prevalence=wanted.asked)


def _lesion_peak(reading: Reading, scan: Scan) -> float:
    """Return the largest value of the lesion map, both stages together, at a screen's size at most; 0 without one."""
    if reading.lesion is None or reading.second is None:
        return 0.0
    second = reading.second
    scale = min(1.0, SCREEN / max(scan.width, scan.height))
    shape = (max(1, round(scan.height * scale)), max(1, round(scan.width * scale)))
    return float(merge_lesion(reading.lesion, second.lesion, second.box.scaled(scale), shape).max())
