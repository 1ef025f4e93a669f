"""What many tests share: one thread for torch, a tiny untrained checkpoint, folders of simulated scans."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with a small network and random weights (seed 0): quick, and answers differ."""
    import torch

    from bcx.checkpoints.checkpoint import save_checkpoint
    from bcx.imaging.preprocess import Preprocess
    from bcx.networks.build import build_network
    from bcx.tasks import get_task

    task = get_task("breast-ultrasound")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("mobilenetv2_035", len(task.classes))
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny", network, task=task, preprocess=Preprocess(size=96)
    )


@pytest.fixture(scope="session")
def tiny_lesion_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `tiny_checkpoint`, with the lesion head; it starts undecided, so its last convolutions are made random too."""
    import torch

    from bcx.checkpoints.checkpoint import save_checkpoint
    from bcx.imaging.preprocess import Preprocess
    from bcx.networks.build import build_lesion_network
    from bcx.tasks import get_task

    task = get_task("breast-ultrasound")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_lesion_network("mobilenetv2_035", task)
        for last in (network.fine, network.coarse):
            torch.nn.init.normal_(last.weight, 0, 0.3)
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny-lesion", network, task=task, preprocess=Preprocess(size=96)
    )


@pytest.fixture(scope="session")
def busi_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated scans in BUSI's published layout, masks included. Read only: copy what you change."""
    from tests.layouts import write_busi_folder

    return write_busi_folder(tmp_path_factory.mktemp("simulated") / "busi", per_class=4)


@pytest.fixture(scope="session")
def patch_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the patch task: random weights (seed 0), and a head stretched until its answers differ."""
    import torch

    from bcx.checkpoints.checkpoint import save_checkpoint
    from bcx.imaging.preprocess import Preprocess
    from bcx.networks.build import build_network
    from bcx.simulate.slide import SlideScene
    from bcx.tasks import get_task

    task = get_task("histology-idc")
    preprocess = Preprocess(size=32, grey=False)
    scene = SlideScene(1, 900, 700)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network("mobilenetv2_035", len(task.classes)).eval()
        parts = [scene.part(x, y, 50, 50) for y in range(0, 700, 100) for x in range(0, 900, 100)]
        batch = torch.stack([preprocess.tensor(part) for part in parts])
        head = network.get_classifier()
        head.weight /= network(batch).std(0).clamp_min(1e-6)[:, None]
        head.bias -= network(batch).mean(0)
    return save_checkpoint(
        tmp_path_factory.mktemp("checkpoints") / "tiny-patches", network, task=task, preprocess=preprocess
    )


@pytest.fixture(scope="session")
def patches(patch_checkpoint):
    """The classifier of that checkpoint."""

    return bcx.load(patch_checkpoint)
