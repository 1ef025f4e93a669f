"""An audit that is stopped or killed goes on where it was, to the same findings."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import bcx
from bcx.audit import audit
from bcx.audit import run as module
from bcx.audit.findings import write_tables
from bcx.audit.look import look_at_some


@pytest.fixture
def looked(monkeypatch) -> list[str]:
    """Names of the files that are looked at, four at a time."""
    files: list[str] = []

    def watched(root, store, some):
        files.extend(file for _, file in some)
        return look_at_some(root, store, some)

    monkeypatch.setattr(module, "look_at_some", watched)
    monkeypatch.setattr(module, "_CHUNK", 4)
    return files


def stop_at(stage: str, done: int):
    def tell(now: str, count: int, total: int) -> None:
        if now == stage and count >= done:
            raise KeyboardInterrupt

    return tell


def look(root: Path, work: Path, **more):
    found = audit(root, work=work, workers=1, network=False, **more)
    return replace(found, seconds=0, looks=[replace(look, place=0) for look in found.looks])


@pytest.mark.parametrize(("stage", "done", "again"), [("Looking at files", 8, 8), ("Comparing pairs", 1, 2)])
def test_stopped_it_goes_on_to_the_same_findings(messy, tmp_path, looked, stage, done, again):
    whole = look(messy, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt) as stopped:
        look(messy, tmp_path, on_progress=stop_at(stage, done))
    assert "the same command goes on" in stopped.value.__notes__[0]
    del looked[:]
    assert look(messy, tmp_path) == whole
    assert len(looked) == again  # what could not be read is tried again
    assert not list(tmp_path.iterdir())


def test_what_changed_came_or_went_is_minded(messy, tmp_path, looked):
    root = tmp_path / "scans"
    shutil.copytree(messy, root)
    (tmp_path / "work").mkdir()
    with pytest.raises(KeyboardInterrupt):
        look(root, tmp_path / "work", on_progress=stop_at("Comparing pairs", 1))
    shutil.copy(root / "malignant/m4.png", root / "benign/b1.png")
    (root / "benign/b2.png").unlink()
    shutil.copy(root / "benign/b3.png", root / "a new one.png")
    del looked[:]
    again = look(root, tmp_path / "work")
    assert {"benign/b1.png", "a new one.png"} < set(looked)
    assert len(looked) == 4  # and the two that could not be read
    shutil.rmtree(tmp_path / "work")
    (tmp_path / "work").mkdir()
    assert again == look(root, tmp_path / "work")


def test_it_begins_anew_where_that_was_asked(messy, tmp_path, looked):
    with pytest.raises(KeyboardInterrupt):
        look(messy, tmp_path, on_progress=stop_at("Comparing pairs", 1))
    del looked[:]
    look(messy, tmp_path, resume=False)
    assert len(looked) == 14


def test_what_was_kept_goes_only_when_the_findings_are_written(messy, tmp_path, looked):
    def full(found):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        look(messy, tmp_path, write=full)
    del looked[:]
    look(messy, tmp_path, write=lambda found: write_tables(found, tmp_path))
    assert len(looked) == 2
    assert "groups.csv" in {path.name for path in tmp_path.iterdir()}
    assert not list(tmp_path.glob(".audit*"))


def test_the_command_ends_in_words(messy, tmp_path, monkeypatch, run):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "_pairs", stopped)
    done = run("audit", messy, "--out", tmp_path)
    assert done.status == 130
    assert "bcx: stopped.\nWhat was done is kept (14 files): the same command goes on" in done.err


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_command_loses_nothing_and_leaves_no_process(busi_folder, tmp_path, number, run):
    root, out = tmp_path / "scans", tmp_path / "out"
    for copy in range(6):
        shutil.copytree(busi_folder, root / str(copy))
    environment = os.environ | {"PYTHONPATH": os.fspath(Path(bcx.__file__).parents[1])}
    words = ["audit", os.fspath(root), "--out", os.fspath(out)]
    # a group of their own, as a shell starts them, so that Ctrl-C reaches all of its processes
    command = [sys.executable, "-m", "bcx", *words]
    running = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, process_group=0)
    journal = out / ".audit.unfinished"
    until = time.monotonic() + 120
    while not (journal.is_file() and journal.read_bytes().count(b"\n") > 16):
        assert time.monotonic() < until
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    said = running.communicate(timeout=60)[1]  # ends when all of its processes have ended, which share the pipe
    assert running.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert "Traceback" not in said
    kept = journal.read_bytes().count(b"\n") - 1
    assert kept >= 16
    done = run(*words)
    assert (done.status, "72  pictures" in done.out) == (0, True)
    assert not list(out.glob(".audit*"))


def blocked(chunk: list[int]) -> list[bool]:
    return [signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []) for _ in chunk]


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_does_not_meet_a_process_that_only_starts():
    """Until it ignores SIGINT it holds it back; this process does not."""
    with module._pool(2) as pool:
        assert list(module._each(pool, "Here", blocked, [[0], [1]], lambda *told: None)) == [True, True]
    assert blocked([0]) == [False]
