"""What a rule of decision does to people: cancers sent home, scans referred, false alarms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bcx.evaluate.intervals import means_with_intervals
from bcx.evaluate.metrics import REFERRED as REFERRED
from bcx.tasks import Task

FIGURES = {
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
"""What is counted, in words."""


def harm_figures(
    labels: np.ndarray, answers: np.ndarray, groups: Sequence[str] | np.ndarray, task: Task
) -> dict[str, dict[str, Any]]:
    """Return the shares of `FIGURES`, each as {"value", "low", "high", "n"}, value None where no scan is of that kind.

    Where none of n scans was seen, the upper end is 3 over the number of their groups (rule of three), which resampling
    could not find. Answers, int [N], are `REFERRED` where no class was answered; the task has an absent class.
    """
    labels, answers, names = np.asarray(labels), np.asarray(answers), np.asarray(groups)
    positive = task.classes.index(task.positive)
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
    found = means_with_intervals({name: np.where(of, hit, np.nan) for name, (of, hit) in among.items()}, list(names))
    for name, (of, _) in among.items():
        if found[name]["value"] == 0:
            found[name]["high"] = min(1.0, 3 / len(np.unique(names[of])))
    return found
