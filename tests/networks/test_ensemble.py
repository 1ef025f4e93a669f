"""Several networks that answer together: exactly their mean, stored and loaded whole, and the same through ONNX."""

from functools import partial

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from bcx.checkpoints.backends import choose_backend
from bcx.checkpoints.checkpoint import HEAD_FILE, load_checkpoint, save_checkpoint
from bcx.checkpoints.onnx_export import export_onnx
from bcx.errors import CheckpointError, ConfigError
from bcx.imaging.preprocess import Preprocess
from bcx.inference.two_stage import read_scans
from bcx.networks.build import build_lesion_network, build_network, forward_maps
from bcx.networks.ensemble import LesionEnsemble, PictureShare
from bcx.networks.run import run_network
from bcx.simulate import simulate
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
def test_answers_are_the_mean_of_the_members_answers_every_second_from_the_mirror_image(members, ensemble, batch):
    mirrored = torch.from_numpy(batch.numpy()[..., ::-1].copy())
    alone = [forward_maps(one, seen) for one, seen in zip(members, (batch, mirrored, batch), strict=True)]
    together = forward_maps(ensemble, batch)
    for name in ("logits", "maps", "lesion"):
        parts = [getattr(out, name).double().numpy() for out in alone]
        if name != "logits":
            parts[1] = parts[1][..., ::-1]
        np.testing.assert_allclose(getattr(together, name).numpy(), np.mean(parts, axis=0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together.stages, alone[0].stages)


@torch.no_grad()
def test_two_equal_members_answer_a_scan_as_its_mirror_image(members, batch):
    twice = LesionEnsemble([members[0], members[0]]).eval()
    out, mirrored = forward_maps(twice, batch), forward_maps(twice, batch.flip(3))
    torch.testing.assert_close(out.logits, mirrored.logits)
    torch.testing.assert_close(out.maps, mirrored.maps.flip(3), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(out.logits, forward_maps(members[0], batch).logits)


@torch.no_grad()
def test_every_map_still_accounts_for_its_logit(ensemble, batch):
    out = forward_maps(ensemble, batch)
    torch.testing.assert_close(out.maps.mean((2, 3)), out.logits, atol=1e-4, rtol=1e-4)


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


@pytest.fixture(scope="module")
def whole():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        network = build_network("mobilenetv2_035", 3).eval()
        nn.init.normal_(network.classifier.bias)
    return network


@pytest.fixture(scope="module")
def mixed(members, whole):
    return LesionEnsemble([members[0], whole, members[1]], PictureShare(presence=0.6, kind=0.25)).eval()


def in_questions(logits: torch.Tensor) -> np.ndarray:
    """Twice "is there a lesion" and "malignant or benign", as differences of logits."""
    normal, benign, malignant = logits.double().numpy().T
    return np.stack([(benign + malignant) / 2 - normal, malignant - benign], 1)


@torch.no_grad()
def test_the_whole_picture_counts_by_its_share_in_each_question(mixed, members, whole):
    scans = [np.ascontiguousarray(simulate(kind, 3, 120, 150).pixels) for kind in ("normal", "malignant")]

    def read(network):
        readings = read_scans(partial(run_network, network, PREPROCESS), PREPROCESS, scans)
        return torch.from_numpy(np.stack([reading.logits for reading in readings]))

    planes = torch.from_numpy(np.stack([PREPROCESS.plane(pixels) for pixels in scans]))
    picture = in_questions(forward_maps(whole, PREPROCESS.normalise(planes)).logits)
    looks = in_questions(read(LesionEnsemble(members[:2]).eval()))
    expected = looks * [0.4, 0.75] + picture * [0.6, 0.25]
    np.testing.assert_allclose(in_questions(read(mixed)), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("enlarged", [False, True])
@torch.no_grad()
def test_with_the_whole_picture_too_every_map_accounts_for_its_logit(mixed, batch, enlarged):
    out = forward_maps(mixed, batch, enlarged=enlarged)
    torch.testing.assert_close(out.maps.mean((2, 3)), out.logits, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_second_stage_is_not_read_as_a_whole_picture(mixed, members, batch):
    second, alone = forward_maps(mixed, batch, enlarged=True), forward_maps(LesionEnsemble(members[:2]), batch)
    expected = in_questions(alone.logits) * [0.4, 0.75]
    np.testing.assert_allclose(in_questions(second.logits), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second.lesion, alone.lesion)


@pytest.mark.slow
@torch.no_grad()
def test_a_checkpoint_keeps_who_reads_the_whole_picture(tmp_path, mixed, batch):
    pytest.importorskip("onnxruntime")
    folder = save_checkpoint(tmp_path / "mixed", mixed, task=TASK, preprocess=PREPROCESS)
    loaded = load_checkpoint(folder)
    assert loaded.network.share == PictureShare(presence=0.6, kind=0.25)
    for enlarged in (False, True):
        found, right = (forward_maps(network, batch, enlarged=enlarged) for network in (loaded.network, mixed))
        torch.testing.assert_close(found.logits, right.logits, atol=5e-3, rtol=5e-3)
    assert export_onnx(loaded).is_file()  # compares every output of both looks with torch's before it is kept

    assert choose_backend(loaded, "onnxruntime").name == "onnxruntime"
    config = (folder / "config.json").read_text(encoding="utf-8")
    assert config.count('"kind": 0.25') == 1
    (folder / "config.json").write_text(config.replace('"kind": 0.25', '"kind": 0.5'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="other weights"):  # the same weights, another answer
        choose_backend(load_checkpoint(folder), "onnxruntime")


@pytest.mark.parametrize(
    "build",
    [
        lambda: [member(0)],
        lambda: [build_network("mobilenetv2_035", 3), member(0)],
        lambda: [member(0), build_network("tiny_cnn", 3, size=64)],
    ],
    ids=["one", "no lesion head first", "a head whose maps have another account"],
)
def test_one_network_or_another_head_is_no_ensemble(build):
    with pytest.raises(ConfigError, match="ensemble"):
        LesionEnsemble(build())
