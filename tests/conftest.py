"""What many tests share: one thread for torch, a tiny untrained checkpoint, folders of simulated scans."""

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import bcx  # switches off what libraries would report, before any test imports one

# Before anything imports torch: several test processes run side by side, and more threads than cores slow all of them.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


def few_resamples() -> Iterator[None]:
    """Draw intervals from 40 resamples, where tests are about something else; tests/evaluate has the intervals."""
    from bcx.evaluate import intervals

    draw = intervals.resample_weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intervals, "resample_weights", lambda groups, count: draw(groups, min(count, 40)))
        yield


@pytest.fixture
def run(capfd):
    """Run `bcx` with arguments; returns status, out, err."""

    from bcx.cli import main as cli

    def run(*arguments: object) -> SimpleNamespace:
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return SimpleNamespace(status=caught.value.code or 0, out=out, err=err)

    return run


def never(*_, **__):
    """In place of a training that is done already."""
    raise AssertionError("trained again")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=10).status_code == 200
    except httpx.HTTPError:
        return False


def saved_untrained(folder: Path, build: Callable, task_name: str, **preprocess) -> Path:
    """A checkpoint with random weights (seed 0) of the network that `build` gives for a task."""
    import torch

    from bcx.checkpoints.checkpoint import save_checkpoint
    from bcx.imaging.preprocess import Preprocess
    from bcx.tasks import get_task

    task = get_task(task_name)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build(task)
    return save_checkpoint(folder, network, task=task, preprocess=Preprocess(**preprocess))


def linear(task):
    from bcx.networks.build import build_network

    return build_network("mobilenetv2_035", len(task.classes))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a small network: quick, and answers differ."""
    return saved_untrained(tmp_path_factory.mktemp("checkpoints") / "tiny", linear, "breast-ultrasound", size=96)


@pytest.fixture(scope="session")
def tiny_lesion_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_checkpoint`, with the lesion head; it starts undecided, so its last convolutions are made random too."""
    from torch.nn.init import normal_

    from bcx.networks.build import build_lesion_network

    def build(task):
        network = build_lesion_network("mobilenetv2_035", task)
        for last in (network.fine, network.coarse):
            normal_(last.weight, 0, 0.3)
        return network

    return saved_untrained(tmp_path_factory.mktemp("checkpoints") / "tiny-lesion", build, "breast-ultrasound", size=96)


@pytest.fixture(scope="session")
def busi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated scans in BUSI's published layout, masks included. Read only: copy what you change."""
    from tests.layouts import write_busi_folder

    return write_busi_folder(tmp_path_factory.mktemp("simulated") / "busi", per_class=4)


@pytest.fixture(scope="session")
def patch_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the patch task: random weights (seed 0), and a head stretched until its answers differ."""
    import torch

    from bcx.imaging.preprocess import Preprocess
    from bcx.simulate.slide import SlideScene

    look, scene = {"size": 32, "grey": False}, SlideScene(1, 900, 700)

    def build(task):
        network = linear(task).eval()
        parts = [scene.part(x, y, 50, 50) for y in range(0, 700, 100) for x in range(0, 900, 100)]
        batch = torch.stack([Preprocess(**look).tensor(part) for part in parts])
        head = network.get_classifier()
        head.weight /= network(batch).std(0).clamp_min(1e-6)[:, None]
        head.bias -= network(batch).mean(0)
        return network

    return saved_untrained(tmp_path_factory.mktemp("checkpoints") / "tiny-patches", build, "histology-idc", **look)


@pytest.fixture(scope="session")
def patches(patch_checkpoint):
    """The classifier of that checkpoint."""

    return bcx.load(patch_checkpoint)
