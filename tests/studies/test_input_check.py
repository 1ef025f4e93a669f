"""What the input check stops: counted by kind with intervals, and of hospitals that were left out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import bcx
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.data.readers import read_source
from bcx.evaluate.non_scans import NonScan
from bcx.simulate import simulate
from bcx.simulate.organs import CONVEX, simulate_organ
from bcx.studies.input_check import study
from bcx.tasks import get_task
from bcx.trust.input_check import ALLOWANCE
from tests.layouts import write_breast_folder


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_breast_folder(tmp_path_factory.mktemp("breast"), cases=12, size=(200, 240))
    records = read_source("breast", folder, task=get_task("breast-ultrasound"))
    records = [replace(record, fold=number % 2) for number, record in enumerate(records)]
    fans = [NonScan("liver", str(seed), simulate_organ("liver", seed, probe=CONVEX)) for seed in range(3)]
    scans = [NonScan("breast", str(seed), simulate("benign", seed).pixels, seen=True) for seed in range(2)]
    table = pd.DataFrame({"file": [record.key for record in records], "distance": 0.5})
    table.loc[:2, "distance"] = ALLOWANCE + 0.1
    checkpoint = load_checkpoint(bcx.DEFAULT_MODEL)
    return study(checkpoint, non_scans=[*fans, *scans], scans={}, training=records, left_out={"breast": table})


def test_what_is_stopped_is_counted_by_kind(report):
    by_kind = report["non_scans"]["by_kind"]
    assert (by_kind["liver"]["stopped"], by_kind["liver"]["seen"]) == (3, False)
    assert (by_kind["breast"]["stopped"], by_kind["breast"]["by the distance alone"]) == (0, 0)
    assert report["non_scans"]["all"]["n"] == 5
    assert report["non_scans"]["kinds made afterwards"]["share"] == 1


def test_intervals_are_wilsons(report):
    found = report["hospitals left out"]["breast"]
    n, share, z = found["n"], found["share"], 1.959964
    middle, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    assert found["low"] == pytest.approx((middle - half) / (1 + z**2 / n), abs=1e-4)
    assert found["high"] == pytest.approx((middle + half) / (1 + z**2 / n), abs=1e-4)


def test_scans_of_a_hospital_left_out_are_stopped_by_the_distance_or_by_their_look(report):
    found = report["hospitals left out"]["breast"]
    assert (found["stopped"], found["by the distance"], found["by plain checks"], found["n"]) == (3, 3, 0, 12)
