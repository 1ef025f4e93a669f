"""Networks: what is built, that a map is what pytorch-grad-cam computes, and that folding changes nothing."""

import numpy as np
import pytest
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from safetensors.torch import load_file, save_file
from torch import nn

from bcx.errors import CheckpointError, ConfigError
from bcx.networks.build import build_network, fold_norms, forward_maps

SIDE = 128
LAST_LAYER = {"mobilenetv2_100": lambda network: network.bn2, "resnet50": lambda network: network.layer4[-1]}


@pytest.fixture(scope="module", params=list(LAST_LAYER))
def network(request):
    """Random weights, and batch norms that do something, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        built = build_network(request.param, 3).eval()
    with torch.no_grad():
        for module in built.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.1, generator=generator)
        built.get_classifier().weight.normal_(0, 1, generator=generator)
        built.get_classifier().bias.normal_(0, 1, generator=generator)
    built.arch = request.param
    return built


@pytest.fixture(scope="module")
def pictures():
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("number", range(3))
def test_every_map_is_the_one_that_pytorch_grad_cam_computes(network, pictures, number):
    with GradCAM(network, [LAST_LAYER[network.arch](network)]) as method:
        expected = method(pictures, [ClassifierOutputTarget(number)] * len(pictures))
    with torch.inference_mode():
        maps = forward_maps(network, pictures).maps[:, number].numpy()
    # That library's own stretching: to 0..1 picture by picture, to the input's size, and to 0..1 once more.
    found = scale_cam_image(scale_cam_image(np.maximum(maps, 0), (SIDE, SIDE)))
    assert expected.max() == pytest.approx(1, abs=1e-3)  # there is something to compare
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_mean_of_a_map_plus_bias_is_the_logit_of_the_plain_network(network, pictures):
    with torch.inference_mode():
        out, logits = forward_maps(network, pictures), network(pictures)
        bias = network.get_classifier().bias
    scale = float(logits.abs().max())
    torch.testing.assert_close(out.logits, logits, rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(out.maps.mean((2, 3)) + bias, logits, rtol=0, atol=1e-5 * scale)


def test_stages_are_the_channel_means_at_the_end_of_the_last_four(network, pictures):
    """Seen from outside, by hooks on the modules that end timm's stages (at 1/4, 1/8, 1/16 and 1/32 of the size)."""
    if hasattr(network, "blocks"):
        ends = [network.blocks[number] for number in (1, 2, 4, 6)]
    else:
        ends = [network.layer1, network.layer2, network.layer3, network.layer4]
    seen = []
    hooks = [end.register_forward_hook(lambda module, inputs, output: seen.append(output)) for end in ends]
    with torch.inference_mode():
        network(pictures)
        expected = torch.cat([output.flatten(2).mean(2) for output in seen], 1)
        for hook in hooks:
            hook.remove()
        torch.testing.assert_close(forward_maps(network, pictures).stages, expected, rtol=1e-5, atol=1e-5)


def count(network, kind):
    return sum(isinstance(module, kind) for module in network.modules())


def test_folding_removes_every_batch_norm_and_changes_no_answer(network, pictures):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_norms(network)
    assert count(network, nn.BatchNorm2d) > 50
    assert count(folded, nn.BatchNorm2d) == 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    with torch.inference_mode():
        for name in ("logits", "maps", "stages"):
            found, right = (getattr(forward_maps(which, pictures), name) for which in (folded, network))
            torch.testing.assert_close(found, right, rtol=0, atol=1e-5 * float(right.abs().max()))


class TwoWays(nn.Module):
    """A convolution whose output goes through a batch norm and around it: folding would change the sum."""

    def __init__(self):
        super().__init__()
        self.convolution, self.norm, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 3)
        nn.init.constant_(self.norm.running_mean, 0.5)

    def forward_intermediates(self, batch, indices):
        straight = self.convolution(batch)
        both = straight + self.norm(straight)
        return both, [both]

    def get_classifier(self):
        return self.head


def test_a_network_that_cannot_be_folded_is_left_as_it_is(pictures):
    network = TwoWays().eval()
    folded = fold_norms(network)
    assert count(folded, nn.BatchNorm2d) == 1
    with torch.inference_mode():
        assert torch.equal(forward_maps(folded, pictures).logits, forward_maps(network, pictures).logits)


def test_an_unknown_architecture_is_told_with_names_that_exist():
    with pytest.raises(ConfigError, match="mobilenetv2_100"):
        build_network("mobilenetv2_999", 3)


@pytest.mark.parametrize("arch", ["vit_tiny_patch16_224", "convnext_atto"])
def test_a_head_whose_map_would_not_be_exact_is_refused(arch):
    with pytest.raises(ConfigError, match="not average pooling followed by one linear layer"):
        build_network(arch, 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        donor = build_network("mobilenetv2_035", 10)
    file = tmp_path_factory.mktemp("weights") / "donor.safetensors"
    save_file(donor.state_dict(), file)
    return file, donor


def test_starting_weights_are_taken_without_their_classifier(weights):
    file, donor = weights
    network = build_network("mobilenetv2_035", 3, init=str(file))
    own, given = network.state_dict(), donor.state_dict()
    assert all(torch.equal(own[name], given[name]) for name in own if not name.startswith("classifier."))
    with torch.inference_mode():
        logits = network.eval()(torch.randn(2, 3, 64, 64))
    assert torch.equal(logits, torch.zeros(2, 3))  # every class starts equally likely


def test_weights_of_another_architecture_are_refused(weights):
    with pytest.raises(CheckpointError, match="Name the architecture"):
        build_network("resnet18", 3, init=str(weights[0]))


@pytest.mark.parametrize("change", [lambda value: value[:1], lambda value: value * float("nan")], ids=["shape", "nan"])
def test_weights_that_do_not_fit_are_refused_by_name(weights, tmp_path, change):
    tensors = load_file(weights[0])
    tensors["conv_head.weight"] = change(tensors["conv_head.weight"]).contiguous()
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(CheckpointError, match=r"1 have another shape or are not finite \(first: conv_head\.weight\)"):
        build_network("mobilenetv2_035", 3, init=str(tmp_path / "bad.safetensors"))


@pytest.mark.parametrize("content", [None, b"", b"no tensors here, but long enough to look at"])
def test_a_file_that_is_no_safetensors_is_refused(tmp_path, content):
    file = tmp_path / "bad.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors"):
        build_network("mobilenetv2_035", 3, init=str(file))
