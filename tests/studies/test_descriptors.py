"""The study of descriptors: right areas in the right direction, intervals over patients, and scans without a mask."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from bcx.data.readers import read_source
from bcx.errors import DataError
from bcx.studies.descriptors import NUMBERS, TERMS, descriptor_rows, summarise
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")


def test_simulated_lesions_are_told_apart_by_shape(busi_folder):
    records = read_source("mine", busi_folder, task=TASK)
    frame = descriptor_rows(records)
    assert set(frame["label"]) == {"benign", "malignant"}, "normal scans have no outline"
    found = summarise(frame, TASK)["mine"]
    assert found["scans"] == len(frame) == 8
    assert found["auc"]["lobulation"]["value"] == 1
    assert sum(part["scans"] for part in found["terms"]["orientation"].values()) == 8
    assert found["terms"]["orientation"]["parallel"]["malignant"] <= 1


def test_areas_are_scikit_learns_on_the_scans_that_have_the_number():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({name: rng.normal(size=60) for name in NUMBERS} | dict.fromkeys(TERMS, "a"))
    frame["label"] = np.where(rng.random(60) < 0.4, "malignant", "benign")
    frame["group"] = [f"p{place // 2}" for place in range(60)]
    frame["source"] = "here"
    frame.loc[:9, "margin_width"] = np.nan
    found = summarise(frame, TASK)["here"]
    assert found["patients"] == 30
    part = frame[10:]
    assert found["auc"]["margin_width"]["n"] == 50
    assert found["auc"]["margin_width"]["value"] == pytest.approx(
        roc_auc_score(part["label"] == "malignant", part["margin_width"])
    )
    assert found["auc"]["circularity"]["value"] == pytest.approx(
        roc_auc_score(frame["label"] == "malignant", -frame["circularity"])
    )
    other = frame.assign(source="there", corners=-frame["corners"])
    both = summarise(pd.concat([frame, other]), TASK)
    assert both["here"] == found
    assert both["there"]["auc"]["corners"]["value"] == pytest.approx(1 - found["auc"]["corners"]["value"])
    with pytest.raises(DataError, match=r"of there: .*, of which 0 malignant"):
        summarise(pd.concat([frame, other[other["label"] == "benign"]]), TASK)
    with pytest.raises(DataError, match="0 malignant"):  # two kinds of lesion, and neither of them the positive one
        summarise(frame.assign(label=np.where(frame["label"] == "benign", "benign", "another")), TASK)
    with pytest.raises(DataError, match="of all sources: 0, of which 0 malignant"):
        summarise(frame[:0], TASK)
