"""Decoding in another process: what crashes, hangs or fills the memory there is a typed error here."""

import ctypes
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from bcx.errors import DamagedScan, ScanTooLarge, UnknownFormat
from bcx.imaging import worker
from bcx.imaging.worker import run_isolated

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="counts on signals and memory limits")


def echo(data, **facts):
    return np.frombuffer(data, np.uint8).reshape(2, -1), facts | {"process": os.getpid()}


def crash(data):
    ctypes.string_at(0)


def crash_unless_first(data):
    """Crash in a process that has worked before."""
    if getattr(worker, "worked", False):
        os.abort()
    worker.worked = True
    return np.zeros(1), {"process": os.getpid()}


def hang(data):
    time.sleep(60)


def fill(data):
    return np.ones(1 << 31, np.uint8), {}


def refuse(data):
    raise UnknownFormat("This is text.", expected="a picture", remedy="Choose another.")


def break_down(data):
    raise KeyError("a table")


def write_a_file(data, path):
    with open(path, "wb") as file:
        file.write(bytes(10))
    return np.zeros(1), {}


@pytest.fixture(autouse=True)
def find_this_module(monkeypatch):
    monkeypatch.syspath_prepend(os.path.dirname(__file__))
    for function in (echo, crash, crash_unless_first, hang, fill, refuse, break_down, write_a_file):
        monkeypatch.setattr(function, "__module__", "test_worker")
    worker._end_idle()
    yield
    worker._end_idle()


def run(function, data=b"abcdef", **options):
    return run_isolated(function, data, name="scan.dcm", options=options)


def test_values_and_facts_come_back_and_a_process_is_kept():
    values, facts = run(echo, note="as asked")
    assert values.tolist() == [[97, 98, 99], [100, 101, 102]]
    assert facts["note"] == "as asked"
    assert facts["process"] != os.getpid()
    assert run(echo)[1]["process"] == facts["process"]


def test_errors_keep_their_kind():
    with pytest.raises(UnknownFormat, match=r"This is text\. Expected: a picture\. Choose another\."):
        run(refuse)
    with pytest.raises(DamagedScan, match="a table"):
        run(break_down)


@pytest.mark.slow
def test_a_crash_costs_one_file():
    run(echo)
    with pytest.raises(DamagedScan, match="makes its decoder crash"):
        run(crash)
    assert run(echo)[0].shape == (2, 3)


def test_what_a_file_before_left_damaged_is_tried_in_a_fresh_process():
    first = run(crash_unless_first)[1]["process"]
    assert run(crash_unless_first)[1]["process"] != first


def test_a_hang_ends(monkeypatch):
    monkeypatch.setattr(worker, "SECONDS", 0.5)
    with pytest.raises(DamagedScan, match=r"'scan\.dcm' takes longer than 0\.5 s"):
        run(hang)


def test_memory_is_limited_and_nothing_is_written(tmp_path):
    with pytest.raises(ScanTooLarge, match="more memory"):
        run(fill)
    with pytest.raises(DamagedScan):
        run(write_a_file, path=str(tmp_path / "left"))
    assert not (tmp_path / "left").exists() or not (tmp_path / "left").stat().st_size


def test_many_at_once():
    with ThreadPoolExecutor(12) as pool:
        contents = [bytes([i] * 4) for i in range(48)]
        for content, (values, _) in zip(contents, pool.map(lambda data: run(echo, data), contents), strict=True):
            assert values.tobytes() == content


def test_secrets_of_the_environment_stay_here(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "secret")
    worker._end_idle()
    process = run(echo)[1]["process"]
    with open(f"/proc/{process}/environ", "rb") as file:
        assert b"secret" not in file.read()
