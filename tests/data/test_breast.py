"""The BrEaST layout: labels, cases and lesion masks from its table."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bcx.data.readers import read_source
from bcx.data.records import load_mask
from bcx.errors import DataError
from bcx.simulate import simulate
from bcx.tasks import BREAST_ULTRASOUND
from tests.layouts import write_breast_folder

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "breast"


def test_labels_cases_and_masks_come_from_the_table(tmp_path):
    folder = write_breast_folder(tmp_path / "breast", cases=6, seed=2, size=(96, 80))
    records = read_source("breast", folder, task=BREAST_ULTRASOUND)
    assert Counter(record.label for record in records) == {"normal": 2, "benign": 2, "malignant": 2}
    assert [record.group for record in records] == [f"breast:case{n:03d}" for n in range(1, 7)]
    assert records[1].key == "breast/Images/case002.png"
    drawn = simulate("benign", 2 * 100_003 + 2, 96, 80)
    assert np.array_equal(load_mask(records[1], (96, 80)), drawn.mask)
    assert load_mask(records[0], (96, 80)) is None


def test_a_folder_without_the_table_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no 'manifest\.csv'"):
        read_source("breast", tmp_path, task=BREAST_ULTRASOUND)


@pytest.mark.skipif(not REAL.is_dir(), reason="BrEaST is not at hand")
def test_the_real_set_has_a_case_per_scan():
    records = read_source("breast", REAL, task=BREAST_ULTRASOUND)
    assert Counter(record.label for record in records) == {"benign": 154, "malignant": 98, "normal": 4}
    assert len({record.group for record in records}) == 256
    assert all(bool(record.masks) == (record.label != "normal") for record in records)
