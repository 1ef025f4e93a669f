"""The dense head: its maps account for its logits, as autograd and Captum say; it is stored, exported and folded."""

import json

import pytest
import timm
import torch
from captum.attr import InputXGradient
from torch import nn

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.checkpoints.onnx_export import export_onnx
from bcx.errors import CheckpointError, ConfigError
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_dense_network, fold_norms, forward_maps
from bcx.networks.dense import DenseNetwork, account_dense
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
HEADS = {
    "flatten": {"pool": "flatten", "widths": (24,), "drops": (0.0, 0.5)},
    "deep": {"pool": "average", "widths": (16, 8), "drops": (0.4, 0.3, 0.2)},
}


def dense_layers(network):
    return [layer for layer in network.head if isinstance(layer, nn.Linear)]


@pytest.fixture(scope="module", params=sorted(HEADS))
def network(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        network = build_dense_network("mobilenetv2_035", 3, size=70, **HEADS[request.param])
        for layer in dense_layers(network):
            nn.init.normal_(layer.bias, 0, 0.1)  # so that the biases' part is not small
    return network.eval()


@pytest.fixture(scope="module")
def batch():
    return torch.randn(2, 3, 70, 70, generator=torch.Generator().manual_seed(0))


class Head(nn.Module):
    """The dense layers alone, written once more with torch's own modules."""

    def __init__(self, network: DenseNetwork) -> None:
        super().__init__()
        pool = [nn.Flatten()] if network.settings["pool"] == "flatten" else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        parts = [part for layer in dense_layers(network) for part in (layer, nn.ReLU())]
        self.parts = nn.Sequential(*pool, *parts[:-1])

    def forward(self, last: torch.Tensor) -> torch.Tensor:
        return self.parts(last)


def test_maps_are_captums_gradient_times_activation_summed_over_channels(network, batch):
    last = network.backbone.forward_features(batch).detach()
    head = Head(network)
    out = forward_maps(network, batch)
    places = last.shape[2] * last.shape[3]
    assert out.maps.shape == (2, 3, *last.shape[2:])
    assert out.maps.abs().max() > 1e-3
    for c in range(3):
        expected = InputXGradient(head).attribute(last.clone().requires_grad_(), target=c).sum(1) * places
        torch.testing.assert_close(out.maps[:, c], expected.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(out.logits, head(last), rtol=1e-4, atol=1e-5)


def test_what_the_maps_leave_of_a_logit_is_the_biases_part(network, batch):
    """By autograd: sum over layers of bias times the logit's gradient with respect to that bias."""
    with torch.no_grad():
        logits, maps = account_dense(network.head, network.backbone.forward_features(batch))
    for c in range(3):
        for b in range(2):
            logit = network(batch[b : b + 1])[0, c]
            biases = [layer.bias for layer in dense_layers(network)]
            slopes = torch.autograd.grad(logit, biases)
            part = sum(float((slope * bias).sum().detach()) for slope, bias in zip(slopes, biases, strict=True))
            assert float(logits[b, c] - maps[b, c].mean()) == pytest.approx(part, abs=1e-4)
            assert logit.item() == pytest.approx(float(maps[b, c].mean()) + part, abs=1e-4)


def test_training_and_answering_see_the_same_logits_and_maps_need_no_autograd(network, batch):
    with torch.inference_mode():
        found = forward_maps(network, batch)
        assert not found.logits.requires_grad
        torch.testing.assert_close(found.logits, network(batch), rtol=1e-4, atol=1e-5)
    torch.manual_seed(0)
    network.train()
    network.backbone.eval()  # only dropout differs
    varied = torch.stack([network(batch) for _ in range(8)])
    network.eval()
    assert varied.std(0).min() > 0
    assert found.lesion is None


def test_norms_fold_at_the_size_that_the_head_was_built_for(network, batch):
    folded = fold_norms(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    torch.testing.assert_close(
        forward_maps(folded, batch).logits, forward_maps(network, batch).logits, atol=1e-4, rtol=0
    )


def test_a_stored_network_answers_the_same(network, batch, tmp_path):
    folder = save_checkpoint(tmp_path / "dense", network, task=TASK, preprocess=Preprocess(size=70))
    stored = load_checkpoint(folder)
    assert stored.network.settings == network.settings
    found, right = (forward_maps(n, batch) for n in (stored.network, network))
    torch.testing.assert_close(found.logits, right.logits, atol=1e-2, rtol=0)  # large tensors are float16 there
    torch.testing.assert_close(found.maps, right.maps, atol=2e-2, rtol=0)
    backbone = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    features = backbone.forward_features(batch)
    torch.testing.assert_close(features, stored.network.backbone.forward_features(batch), atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_its_graph_answers_as_torch_does(network, tmp_path):
    folder = save_checkpoint(tmp_path / "dense", network, task=TASK, preprocess=Preprocess(size=70))
    assert export_onnx(load_checkpoint(folder)).is_file()  # compared with torch before it is kept


def test_a_head_of_other_weights_is_told(network, tmp_path):
    folder = save_checkpoint(tmp_path / "dense", network, task=TASK, preprocess=Preprocess(size=70))
    config = json.loads((folder / "config.json").read_text())
    assert config["bcx"]["head"] == "dense"
    config["bcx"]["dense"]["widths"][0] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="in the network"):
        load_checkpoint(folder)


@pytest.mark.parametrize("arch", ["vgg11", "mobilenetv3_small_050", "resnet10t"])
def test_other_backbones(arch):
    network = build_dense_network(arch, 2, size=40, pool="flatten", widths=(4,), drops=(0.0, 0.0)).eval()
    batch = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    logits, _ = account_dense(network.head, network.backbone.forward_features(batch))
    torch.testing.assert_close(logits, network(batch), atol=1e-5, rtol=1e-4)


def test_what_cannot_carry_the_head_is_told():
    with pytest.raises(ConfigError, match="no maps"):
        build_dense_network("vit_tiny_patch16_224", 3, size=224, pool="average", widths=(4,), drops=(0.5, 0.0))
