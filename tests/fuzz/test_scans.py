"""Mutated files of every format: answered, or refused by type, quickly and in bounded memory, with nothing left."""

import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcx.errors import BcxError
from bcx.imaging.scan import Scan, frame_count
from tests.fuzz.attacks import CASES
from tests.fuzz.scans import mutate, seeds

SEEDS = seeds()


def peak() -> float:
    """Megabytes that this process has used at most since the peak was last reset."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return 0.0


@pytest.mark.parametrize("kind", SEEDS)
def test_unharmed_each_is_read(kind):
    assert Scan.open(SEEDS[kind]).pixels.shape[:2] == (60, 80)
    assert frame_count(SEEDS[kind]) == {"gif": 4, "tiff-pages": 3, "dcm-clip": 3}.get(kind, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="measures the peak of memory in /proc")
@settings(max_examples=3 * CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(SEEDS)), number=st.integers(0, 2**32 - 1))
def test_mutated_each_is_answered_or_refused(kind, number, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    data = mutate(SEEDS[kind], np.random.default_rng(number))
    Path("/proc/self/clear_refs").write_text("5")
    before, started = peak(), time.monotonic()
    with contextlib.suppress(BcxError):
        scan = Scan.open(data)
        assert scan.pixels.dtype == np.uint8
        Scan.open(data, frame=frame_count(data) - 1)
    assert time.monotonic() - started < 25  # twice the limit of a decoder, for a busy machine
    assert peak() - before < 1000
    assert os.listdir(tmp_path) == []
