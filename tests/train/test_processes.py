"""Two processes that `accelerate launch` starts learn what one does, and one of them writes."""

from __future__ import annotations

import csv
import os
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from bcx.cli.main import main
from bcx.simulate import write_busi_folder
from bcx.train.processes import own_share
from tests.conftest import ROOT


def test_the_shares_of_a_batch_are_the_batch():
    states = [SimpleNamespace(num_processes=3, process_index=index) for index in range(3)]
    shares = [own_share(list(range(8)), state) for state in states]
    assert sorted(number for share in shares for number in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_too_small_to_share_is_learnt_by_all():
    states = [SimpleNamespace(num_processes=3, process_index=index) for index in range(3)]
    assert [own_share([4, 5, 6, 7, 8], state) for state in states] == [[4, 5, 6, 7, 8]] * 3


def test_other_commands_refuse_to_run_several_times_at_once(monkeypatch, capfd):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as caught:
        main(["info"])
    assert caught.value.code == 2
    assert "bcx info was started in 2 processes" in capfd.readouterr().err


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch):
    """Norms are frozen: they see the pictures of their own process, so that with them figures only nearly agree."""
    monkeypatch.chdir(tmp_path)
    write_busi_folder(tmp_path / "busi", per_class=8)
    settings = {"size": 48, "batch_size": 8, "precision": "fp32", "inner_fraction": 0.25, "freeze_norms": "true"}
    settings |= {"class_weight_cap": "null", "drop": 0, "lr": 0.0003, "head_lr": 0.0003}
    words = ["train", "--data=mine=busi", "--arch=mobilenetv2_035", "--init=scratch", "--epochs=2"]
    words += [f"--set={key}={value}" for key, value in settings.items()]
    with pytest.raises(SystemExit):
        main([*words, "--out=one"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={port}", "-m", "bcx"]
    done = subprocess.run(
        [sys.executable, "-m", *launch, *words, "--out=two"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Written: two") == 1
    one, two = (list(csv.DictReader((tmp_path / name / "history.csv").open())) for name in ("one", "two"))
    assert [row["lr"] for row in one] == [row["lr"] for row in two]  # the schedule counts steps of all processes
    for each, other in zip(one, two, strict=True):
        for name in ("train_accuracy", "train_loss", "inner_loss", "inner_roc_auc"):
            assert float(other[name]) == pytest.approx(float(each[name]), rel=2e-3), name
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}
