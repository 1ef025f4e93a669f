"""Patients against scans: areas as scikit-learn's, and averaging two noisy looks helps."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bcx.studies.decisions import patients_study
from bcx.tasks import get_task
from bcx.trust.rule import Decider, HarmRule

TASK = get_task("breast-ultrasound")


def test_two_looks_are_better_than_one():
    rng = np.random.default_rng(0)
    ill = np.repeat(rng.random(150) < 0.4, 2)
    evidence = np.where(ill, 0.6, -0.6) + rng.normal(0, 1, len(ill))
    logits = np.stack([np.full(len(ill), -4.0), -evidence, evidence], 1)
    frame = pd.DataFrame(logits, columns=[f"logit_{name}" for name in TASK.classes])
    for name in TASK.classes:
        frame[f"mirror_logit_{name}"] = frame[f"logit_{name}"]
    frame["file"] = [f"{n}.png" for n in range(len(ill))]
    frame["group"] = [f"g{n // 2:03}" for n in range(len(ill))]
    frame["label"] = np.where(ill, "malignant", "benign")
    alone = frame.iloc[:1].assign(file="alone.png", group="alone")
    decider = Decider({"rule": HarmRule(0.6, 0.2, 0.05, 0.9).to_dict()}, TASK)
    found = patients_study(pd.concat([frame, alone], ignore_index=True), TASK, 1.0, decider)
    assert (found["patients"], found["scans"]) == (150, 300)
    assert found["auc"]["scan"]["value"] == pytest.approx(roc_auc_score(ill, evidence))
    assert found["auc"]["patient"]["value"] == pytest.approx(
        roc_auc_score(ill[::2], evidence.reshape(-1, 2).mean(1)), abs=2e-3
    )
    gain = found["auc"]["gain"]
    assert 0 < gain["low"] < gain["value"] < gain["high"]
    assert found["patient"]["log_loss"]["value"] < found["scan"]["log_loss"]["value"]
