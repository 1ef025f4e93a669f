"""Several networks that answer together: exactly their mean, stored and loaded whole, and the same through ONNX."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from bcx.checkpoint import HEAD_FILE, load_checkpoint, save_checkpoint
from bcx.ensemble import LesionEnsemble
from bcx.errors import CheckpointError, ConfigError
from bcx.model import build_lesion_network, build_network, fold_norms, forward_maps
from bcx.onnx_export import export_onnx
from bcx.preprocess import Preprocess
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
PREPROCESS = Preprocess(size=64, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), grey=True)


def member(seed: int) -> nn.Module:
    """Random weights, with last convolutions that say something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_lesion_network("mobilenetv2_035", TASK).eval()
        with torch.no_grad():
            for last in (network.fine, network.coarse):
                last.weight.normal_(0, 0.3)
                last.bias.normal_(0, 1)
    return network


@pytest.fixture(scope="module")
def members():
    return [member(seed) for seed in (0, 1, 2)]


@pytest.fixture(scope="module")
def ensemble(members):
    return LesionEnsemble(members).eval()


@pytest.fixture(scope="module")
def batch():
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1


@torch.no_grad()
def test_answers_are_the_mean_of_the_members_answers(members, ensemble, batch):
    alone, together = [forward_maps(one, batch) for one in members], forward_maps(ensemble, batch)
    for name in ("logits", "maps", "lesion"):
        expected = np.mean([getattr(out, name).double().numpy() for out in alone], axis=0)
        np.testing.assert_allclose(getattr(together, name).numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.stages, alone[0].stages)


@torch.no_grad()
def test_every_map_still_accounts_for_its_logit(ensemble, batch):
    out = forward_maps(ensemble, batch)
    torch.testing.assert_close(out.maps.mean((2, 3)), out.logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_folded_norms_answer_the_same(ensemble, batch):
    folded = fold_norms(ensemble)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(
        forward_maps(folded, batch).logits, forward_maps(ensemble, batch).logits, atol=1e-3, rtol=0
    )


@torch.no_grad()
def test_a_checkpoint_holds_every_member_and_timm_the_first_ones_backbone(tmp_path, members, ensemble, batch):
    folder = save_checkpoint(tmp_path / "three", ensemble, task=TASK, preprocess=PREPROCESS)
    loaded = load_checkpoint(folder)
    torch.testing.assert_close(
        forward_maps(loaded.network, batch).logits, forward_maps(ensemble, batch).logits, atol=5e-3, rtol=5e-3
    )
    backbone = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    ours = members[0].backbone.forward_features(batch)
    torch.testing.assert_close(backbone.forward_features(batch), ours, atol=2e-2, rtol=2e-2)


def test_a_checkpoint_that_lacks_a_member_is_refused(tmp_path, ensemble):
    folder = save_checkpoint(tmp_path / "three", ensemble, task=TASK, preprocess=PREPROCESS)
    config = (folder / "config.json").read_text(encoding="utf-8")
    for count in (2, 4):
        changed = config.replace('"members": 3', f'"members": {count}')
        assert changed != config
        (folder / "config.json").write_text(changed, encoding="utf-8")
        with pytest.raises(CheckpointError, match="incomplete or damaged"):
            load_checkpoint(folder)


def test_a_single_networks_file_has_no_prefix(tmp_path, members):
    folder = save_checkpoint(tmp_path / "one", members[0], task=TASK, preprocess=PREPROCESS)
    assert not any(key.startswith("members.") for key in load_file(folder / HEAD_FILE))
    assert '"members"' not in (folder / "config.json").read_text(encoding="utf-8")


def test_onnx_answers_for_all_members(tmp_path, ensemble):
    pytest.importorskip("onnxruntime")
    folder = save_checkpoint(tmp_path / "three", ensemble, task=TASK, preprocess=PREPROCESS)
    assert export_onnx(load_checkpoint(folder)).is_file()  # compares every output with torch's before it is kept


@pytest.mark.parametrize("build", [lambda: [member(0)], lambda: [member(0), build_network("mobilenetv2_035", 3)]])
def test_one_network_or_another_head_is_no_ensemble(build):
    with pytest.raises(ConfigError, match="ensemble"):
        LesionEnsemble(build())
