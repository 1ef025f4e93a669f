"""Means with intervals against the general bootstrap."""

from __future__ import annotations

import numpy as np
import pytest

from bcx.evaluate.intervals import bootstrap_interval, means_with_intervals


def test_a_column_without_gaps_has_the_interval_of_its_mean():
    values = np.random.default_rng(0).normal(size=50)
    groups = [f"g{i // 2}" for i in range(50)]
    found = means_with_intervals({"x": values, "one": np.ones(50)}, groups)
    expected = bootstrap_interval(lambda w: float((w * values).sum() / w.sum()), groups)
    assert (found["x"]["low"], found["x"]["high"]) == pytest.approx(expected)
    assert found["x"]["value"] == pytest.approx(values.mean())
    assert found["one"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 50}


def test_scans_without_a_figure_are_left_out_of_its_mean_alone():
    nan = float("nan")
    found = means_with_intervals({"x": [1.0, nan, 3.0], "y": [nan] * 3, "z": [0, 1, 2]}, ["a", "b", "c"])
    assert (found["x"]["value"], found["x"]["n"]) == (2.0, 2)
    assert found["y"] == {"value": None, "low": None, "high": None, "n": 0}
    assert (found["z"]["value"], found["z"]["n"]) == (1.0, 3)


def test_no_scans_and_one_group_have_no_interval():
    assert means_with_intervals({"x": []}, [])["x"] == {"value": None, "low": None, "high": None, "n": 0}
    assert means_with_intervals({"x": [1, 0]}, ["a", "a"])["x"] == {"value": 0.5, "low": None, "high": None, "n": 2}
