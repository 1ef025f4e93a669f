"""tiny_cnn, and networks whose own head gives way to a linear one: what is built, exact maps, and checkpoints."""

import json

import numpy as np
import pytest
import timm
import torch
from torch import nn

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.errors import CheckpointError, ConfigError
from bcx.imaging.preprocess import Preprocess
from bcx.inference.classifier import Classifier
from bcx.networks.build import build_dense_network, build_network, fold_norms, forward_maps, gets_plain_head
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
SIDE = 40
ARCHS = ("tiny_cnn", "mobilenetv3_small_050")


@pytest.fixture(scope="module", params=ARCHS)
def network(request):
    """Random weights, and batch norms that do something, as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        built = build_network(request.param, 3, size=SIDE).eval()
        for module in built.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                nn.init.normal_(module.running_mean, 0, 0.1)
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.normal_(module.bias, 0, 0.1)
        nn.init.normal_(built.get_classifier().bias)
    return built


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(5))


def test_layers_are_those_of_the_published_network():
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.Dropout, nn.Linear, nn.BatchNorm1d, nn.Flatten)
    found = []
    for module in build_network("tiny_cnn", 2).modules():
        if isinstance(module, kinds):
            width = getattr(module, "out_channels", getattr(module, "out_features", ""))
            found.append(f"{type(module).__name__}{width}")
    published = "Conv2d32 BatchNorm2d Conv2d32 MaxPool2d BatchNorm2d Dropout Conv2d64 BatchNorm2d Conv2d64 BatchNorm2d "
    published += "MaxPool2d Dropout Conv2d128 Flatten Linear128 BatchNorm1d Linear64 BatchNorm1d Linear64 Dropout "
    published += "Linear24 Linear2"
    assert found == published.split()


def test_weights_start_as_he_et_al_have_them():
    network = build_network("tiny_cnn", 2)
    first_dense = network.dense[1].weight
    assert first_dense.shape == (128, 128 * 12 * 12)
    assert float(first_dense.detach().std()) == pytest.approx((2 / (128 * 12 * 12)) ** 0.5, rel=0.01)
    assert float(network.stages[4][3].weight.detach().std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("size", "places"), [(32, 64), (51, 144), (64, 256)])
def test_it_reads_any_size_from_32_pixels(size, places):
    network = build_network("tiny_cnn", 3, size=size).eval()
    with torch.inference_mode():
        out = forward_maps(network, torch.zeros(1, 3, size, size))
    assert out.logits.shape == (1, 3)
    assert out.maps.shape[2] * out.maps.shape[3] == places


def test_less_than_32_pixels_are_refused():
    with pytest.raises(ConfigError, match="31 x 31"):
        build_network("tiny_cnn", 3, size=31)


def test_maps_are_gradient_times_activation_of_the_last_map(network, pictures):
    """Against autograd, through timm's own forward: a hook on the module that yields the last map."""
    kept = []
    last = network.stages[-1] if hasattr(network, "stages") else network.blocks[-1]
    hook = last.register_forward_hook(lambda module, inputs, output: kept.append(output))
    logits = network(pictures)
    hook.remove()
    (features,) = kept
    with torch.inference_mode():
        out = forward_maps(network, pictures)
    scale = float(logits.abs().max())
    torch.testing.assert_close(out.logits, logits.detach(), rtol=0, atol=1e-5 * scale)
    places = features.shape[2] * features.shape[3]
    for number in range(3):
        (gradient,) = torch.autograd.grad(logits[:, number].sum(), features, retain_graph=True)
        expected = places * (gradient * features).sum(1).detach()
        torch.testing.assert_close(out.maps[:, number], expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def test_stages_are_the_channel_means_of_the_last_four(network, pictures):
    if hasattr(network, "stages"):
        ends = list(network.stages)[1:]
    else:
        ends = [network.blocks[info["stage"] - 1] for info in network.feature_info[-4:]]
    seen = []
    hooks = [end.register_forward_hook(lambda module, inputs, output: seen.append(output)) for end in ends]
    with torch.inference_mode():
        network(pictures)
        expected = torch.cat([output.flatten(2).mean(2) for output in seen], 1)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(forward_maps(network, pictures).stages, expected, rtol=1e-5, atol=1e-5)


def test_folding_changes_no_answer(network, pictures):
    with torch.inference_mode():
        for found, right in zip(
            forward_maps(fold_norms(network), pictures), forward_maps(network, pictures), strict=True
        ):
            if right is not None:
                torch.testing.assert_close(found, right, rtol=0, atol=1e-5 * float(right.abs().max()))


def test_a_checkpoint_gives_back_the_same_network(network, pictures, tmp_path):
    folder = save_checkpoint(tmp_path / "it", network, task=TASK, preprocess=Preprocess(size=SIDE))
    loaded = load_checkpoint(folder)
    with torch.inference_mode():
        found, right = forward_maps(loaded.network, pictures), forward_maps(network, pictures)
    assert (found.logits.softmax(1) - right.logits.softmax(1)).abs().max() < 1e-3  # large tensors are float16 on disk
    answer = Classifier(loaded).predict(np.full((60, 80), 99, np.uint8))
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.maps.shape == (3, 60, 80)


def test_timm_loads_what_the_module_says_it_loads(network, pictures, tmp_path):
    folder = save_checkpoint(tmp_path / "it", network, task=TASK, preprocess=Preprocess(size=SIDE))
    plain = gets_plain_head(network.pretrained_cfg["architecture"])
    loaded = timm.create_model(f"local-dir:{folder}", pretrained=True, features_only=plain).eval()
    stored = load_checkpoint(folder).network
    with torch.inference_mode():
        found = loaded(pictures)[-1] if plain else loaded(pictures)
        right = stored.forward_intermediates(pictures, indices=1)[0] if plain else stored(pictures)
    torch.testing.assert_close(found, right)
    head = json.loads((folder / "config.json").read_text())["bcx"]["head"]
    assert head == ("average pooling, linear, in place of the network's own" if plain else "dense layers of its own")


def test_there_are_no_trained_weights_to_fetch():
    with pytest.raises(CheckpointError, match="no trained weights of 'tiny_cnn'"):
        build_network("tiny_cnn", 3, init="timm")


def test_its_dense_layers_are_not_replaced_by_others():
    with pytest.raises(ConfigError, match="dense layers of its own"):
        build_dense_network("tiny_cnn", 3, size=50, pool="flatten", widths=(8,), drops=(0, 0))


def test_a_dense_head_leaves_the_networks_own_head_out_too(tmp_path):
    network = build_dense_network(
        "mobilenetv3_small_050", 3, size=SIDE, pool="average", widths=(8,), drops=(0, 0)
    ).eval()
    assert not any(name.startswith("backbone.conv_head") for name in network.state_dict())
    loaded = load_checkpoint(save_checkpoint(tmp_path / "it", network, task=TASK, preprocess=Preprocess(size=SIDE)))
    batch = torch.ones(1, 3, SIDE, SIDE)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.network(batch), network(batch), rtol=0, atol=1e-2)


def test_families_are_told_by_name():
    archs = ("vgg16", "vgg11_bn", "mobilenetv3_large_100", "tf_mobilenetv3_small_100")
    assert all(map(gets_plain_head, archs))
    assert not any(map(gets_plain_head, ("repvgg_a0", "mobilenetv2_100", "resnet50", "tiny_cnn")))


@pytest.mark.slow
def test_vgg_keeps_its_convolutions_alone():
    network = build_network("vgg11", 3, drop=0.4).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_220_480 + 3 * 512 + 3
    assert network.head.drop.p == 0.4
    batch = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    with torch.inference_mode():
        out, logits = forward_maps(network, batch), network(batch)
    torch.testing.assert_close(out.maps.mean((2, 3)) + network.get_classifier().bias, logits, rtol=0, atol=1e-5)
