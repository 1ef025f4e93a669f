"""Several processes that `accelerate launch` starts, depthwise convolutions in float32, and the log."""

import csv
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import timm
import torch

from bcx.errors import ConfigError, MissingExtra
from bcx.networks.device import GLIBC
from bcx.train import state
from bcx.train.fit import freeze_parts
from bcx.train.processes import depthwise_in_float32, folded_norms, own_share
from bcx.train.state import epoch_log
from tests.conftest import ROOT, free_port
from tests.layouts import write_busi_folder


def test_the_shares_of_a_batch_are_the_batch():
    states = [SimpleNamespace(num_processes=3, process_index=index) for index in range(3)]
    shares = [own_share(list(range(8)), state) for state in states]
    assert sorted(number for share in shares for number in share) == list(range(8))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_batch_too_small_to_share_is_learnt_by_all():
    states = [SimpleNamespace(num_processes=3, process_index=index) for index in range(3)]
    assert [own_share([4, 5, 6, 7, 8], state) for state in states] == [[4, 5, 6, 7, 8]] * 3


def test_other_commands_refuse_to_run_several_times_at_once(monkeypatch, run):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("info")
    assert (done.status, "bcx info was started in 2 processes" in done.err) == (2, True)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(tmp_path, monkeypatch, run):
    """The base is frozen: norms see the pictures of their own process, so that with them figures only nearly agree."""
    monkeypatch.chdir(tmp_path)
    write_busi_folder(tmp_path / "busi", per_class=8)
    settings = {"size": 48, "batch_size": 8, "precision": "fp32", "inner_fraction": 0.25, "freeze_base": "true"}
    settings |= {"class_weight_cap": "null", "drop": 0, "lr": 0.0003, "head_lr": 0.0003}
    words = ["train", "--data=mine=busi", "--arch=mobilenetv2_035", "--init=scratch", "--epochs=2"]
    words += [f"--set={key}={value}" for key, value in settings.items()]
    assert run(*words, "--out=one").status == 0
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes=2", "--num_machines=1"]
    launch += ["--mixed_precision=no", "--dynamo_backend=no", f"--main_process_port={free_port()}", "-m", "bcx"]
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


def answer(network, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return network(batch).float()


def test_answers_agree_and_the_network_is_as_before():
    torch.manual_seed(0)
    network = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    batch = torch.randn(2, 3, 64, 64)
    before = answer(network, batch)
    with depthwise_in_float32(network) as convolutions:
        assert {5, 3} == {convolution.kernel_size[0] for convolution in convolutions}
        asked = []
        hook = convolutions[0].register_forward_hook(lambda module, given, out: asked.append(out.dtype))
        within = answer(network, batch)
        hook.remove()
    assert asked == [torch.bfloat16]  # what follows goes on in bfloat16
    exact = network(batch)
    scale = exact.abs().max()
    assert (within - exact).abs().max() < 0.05 * scale
    torch.testing.assert_close(answer(network, batch), before, rtol=0, atol=0)


def test_gradients_reach_the_weights():
    network = timm.create_model("mobilenetv2_035", num_classes=3)
    with depthwise_in_float32(network) as convolutions:
        answer(network, torch.randn(2, 3, 64, 64)).sum().backward()
    assert convolutions
    assert all(convolution.weight.grad.abs().sum() > 0 for convolution in convolutions)


def test_what_is_frozen_is_left_alone():
    network = timm.create_model("mobilenetv2_035", num_classes=3)
    with depthwise_in_float32(network) as before:
        pass
    network.blocks[1].requires_grad_(False)
    with depthwise_in_float32(network) as convolutions:
        assert len(convolutions) == len(before) - 1


def frozen_part(network):
    frozen = freeze_parts(network, SimpleNamespace(freeze_stages=0, freeze_base=True))
    for module in network.modules():  # norms as of a trained network
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -1, 1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.uniform_(module.bias, -1, 1)
    return network.eval(), frozen


@pytest.mark.parametrize(
    "arch", ["mobilenetv2_035", "tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18", "vgg11_bn"]
)
def test_frozen_norms_are_folded_and_the_features_stay(arch):
    network, frozen = frozen_part(timm.create_model(arch, num_classes=3))
    norms = {module for module in frozen if isinstance(module, torch.nn.BatchNorm2d)}
    batch = torch.randn(2, 3, 64, 64)
    before = network.forward_features(batch)
    with folded_norms(network, frozen, 64) as pairs:
        assert set(pairs) == norms
        torch.testing.assert_close(network.forward_features(batch), before, rtol=1e-3, atol=1e-3 * float(before.std()))
    torch.testing.assert_close(network.forward_features(batch), before, rtol=0, atol=0)


def test_a_norm_after_an_activation_in_place_is_not_folded():
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(inplace=True), torch.nn.BatchNorm2d(4)]
    with folded_norms(torch.nn.Sequential(*layers).requires_grad_(False), layers, 8) as pairs:
        assert pairs == {}


@pytest.mark.slow
@pytest.mark.skipif(GLIBC is None, reason="another allocator")
def test_memory_that_a_step_frees_serves_the_next():
    """In a process of its own, counted by the pages that the system had to fill."""
    program = """
import resource, torch
from bcx.train.processes import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
keep_memory()
faults()
print(faults())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    new, kept = map(int, said.split())
    assert kept < new / 10


def test_tensorboard_reads_the_epochs_back(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with epoch_log("tensorboard", tmp_path) as log:
        for epoch in (1, 2):
            log({"epoch": epoch, "train_loss": 1 / epoch, "inner_roc_auc": None})
        log({"member": 1, "epoch": 1, "train_loss": 0.25})
    for run, losses in {"training": [1.0, 0.5], "member-1": [0.25]}.items():
        read = events.EventAccumulator(str(tmp_path / run))
        read.Reload()
        assert [each.value for each in read.Scalars("train_loss")] == losses
        assert "inner_roc_auc" not in read.Tags()["scalars"]


def test_without_tensorboard_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install \"bcx\[logs\]\""), epoch_log("tensorboard", tmp_path):
        pass


def test_another_log_is_refused_and_none_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="'wandb'"), epoch_log("wandb", tmp_path):
        pass
    with epoch_log(None, tmp_path) as log:
        log({"epoch": 1})
    assert not list(tmp_path.iterdir())
