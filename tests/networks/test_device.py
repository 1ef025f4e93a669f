"""Where networks run: without a GPU all stays on the CPU, and what is not here is refused in words."""

import pytest
import torch

import bcx
from bcx.checkpoints.backends import choose_backend
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.cli.main import app
from bcx.errors import ConfigError
from bcx.networks import device

#: Commands that run no network.
NO_NETWORK = {"info", "card", "export", "space", "push", "examples", "data", "serve"}
GROUPS = {"input-check", "gate", "study", "synth"}


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    """A machine without GPUs, whatever this one has, and a process that was told nothing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(device, "_of_process", "auto")


def test_auto_is_the_cpu_without_a_gpu_and_cuda_with_one(monkeypatch):
    assert device.pick_device() == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.pick_device() == "cuda"
    device.use_device("cpu")
    assert device.pick_device() == "cpu"
    assert device.pick_device("cuda") == "cuda"


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_a_device_that_is_absent_is_refused_and_says_what_was_found(name, tiny_checkpoint):
    with pytest.raises(ConfigError, match=f"'{name}' is not here. Found: cpu") as caught:
        bcx.load(tiny_checkpoint, device=name)
    assert torch.__version__ in str(caught.value)


def test_another_word_is_refused(tiny_checkpoint):
    with pytest.raises(ConfigError, match="auto, cpu, cuda, mps"):
        bcx.load(tiny_checkpoint, device="tpu")


def test_the_cpu_that_is_asked_for_answers_as_the_default(tiny_checkpoint):
    classifiers = [bcx.load(tiny_checkpoint), bcx.load(tiny_checkpoint, device="cpu")]
    pixels = torch.randint(0, 255, (90, 120), dtype=torch.uint8).numpy()
    first, second = (classifier.predict(pixels).probabilities for classifier in classifiers)
    assert first == second


def test_onnx_runtime_answers_on_no_gpu(tiny_checkpoint, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ConfigError, match="ONNX Runtime was asked for on 'cuda'"):
        choose_backend(load_checkpoint(tiny_checkpoint), "onnxruntime", "cuda")


def test_a_command_refuses_an_absent_device_before_it_reads_anything(run):
    done = run("predict", "no-such-folder", "--device", "cuda")
    assert (done.status, "'cuda' is not here" in done.err) == (2, True)


def test_every_command_that_runs_a_network_takes_a_device():
    from typer.main import get_command

    groups = get_command(app).commands
    commands = {name: command for name, command in groups.items() if name not in NO_NETWORK | GROUPS}
    commands |= {f"input-check {name}": command for name, command in groups["input-check"].commands.items()}
    commands |= {f"synth {name}": command for name, command in groups["synth"].commands.items()}
    commands["study explanations"] = groups["study"].commands["explanations"]
    without = [name for name, each in commands.items() if "device" not in {option.name for option in each.params}]
    assert not without


@pytest.mark.parametrize(
    ("capabilities", "expected"), [({"avx512_f": True, "amx_bf16": False}, False), ({"amx_bf16": True}, True)]
)
def test_bfloat16_is_computed_where_the_processor_says_so(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert device.computes_bf16("cpu") is expected
