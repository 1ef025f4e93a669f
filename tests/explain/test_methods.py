"""Methods: each map is what pytorch-grad-cam computes when it is called by hand, laid where its input lies."""

from importlib import metadata
from pathlib import Path

import cv2
import numpy as np
import pytest
import pytorch_grad_cam
import torch
from captum import attr
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import bcx
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.errors import ConfigError, MissingExtra
from bcx.explain.methods import METHODS, Logits, explain, explain_network, one_core, parts, run_captum, run_library
from bcx.imaging.crop import cut
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_dense_network, build_network
from bcx.networks.lesion import LesionNetwork, account
from bcx.simulate import simulate

SHIPPED = ("mobilenetv2-busi", "mobilenetv2-hospitals", "mobilenetv2-lesion", "mobilenetv2-idc")
BY_PIXEL = [name for name, method in METHODS.items() if method.by_pixel]
QUICK = [name for name, method in METHODS.items() if method.kind and not method.slow]


class ByHand(nn.Module):
    """The lesion network's logits, written without bcx's adapter."""

    def __init__(self, network: LesionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch):
        out = self.network.read(batch)
        return account(out, absent=self.network.absent, positive=self.network.positive)[0]


def library(kind: str, network: nn.Module, batch: torch.Tensor, number: int, **settings) -> np.ndarray:
    """Hooked to timm's own last layer, on the network itself and not a copy."""
    if isinstance(network, LesionNetwork):
        model, layers = ByHand(network), [network.backbone.bn2, network.smooth3]
    else:
        model, layers = network, [network.bn2]
    method = getattr(pytorch_grad_cam, kind)(model, layers, **settings)
    found = method(batch.clone().requires_grad_(), [ClassifierOutputTarget(number)])[0]
    method.activations_and_grads.release()
    return found


def by_hand(classifier, prediction, kind: str, number: int, **settings) -> np.ndarray:
    """What the docs say that the map is, member by member."""
    network, preprocess, pixels = classifier.checkpoint.network, prediction.preprocess, prediction.scan.pixels
    height, width = pixels.shape[:2]
    whole = preprocess.tensor(pixels)[None]
    if prediction.reading.second is None:
        return cv2.resize(library(kind, network, whole, number, **settings), (width, height))
    box = prediction.reading.second.box
    crop = preprocess.tensor(cut(pixels, box))[None]
    straight, mirrored = (member for member in network.members if isinstance(member, LesionNetwork))
    reader = next((member for member in network.members if not isinstance(member, LesionNetwork)), None)
    share = 1 if reader is None else 2 / 3  # the second lesion network sees mirror images; the reader the whole scan
    summed = np.zeros((height, width), np.float32)
    for batch, place in ((whole, (0, 0, width, height)), (crop, (box.x, box.y, box.side, box.side))):
        one = library(kind, straight, batch, number, **settings)
        other = library(kind, mirrored, batch.flip(-1), number, **settings)[:, ::-1]
        left, top, wide, high = place
        large = cv2.resize(one, (wide, high)) + cv2.resize(np.ascontiguousarray(other), (wide, high))
        if batch is crop:  # it fades in over a fifth of its side
            edge = np.minimum(np.arange(wide), np.arange(wide)[::-1]) / (0.2 * wide)
            large *= np.outer(edge.clip(0, 1), edge.clip(0, 1))
        summed[top : top + high, left : left + wide] += large * share / 4
    if reader is None:
        return summed
    return summed + cv2.resize(library(kind, reader, whole, number, **settings), (width, height)) / 3


@pytest.fixture(
    scope="module", params=[SHIPPED[0], *(pytest.param(name, marks=pytest.mark.slow) for name in SHIPPED[1:])]
)
def answered(request):
    classifier = bcx.load(request.param)
    return classifier, classifier.predict(simulate("malignant", 3, 150, 190).pixels)


@pytest.mark.slow
@pytest.mark.parametrize("method", QUICK)
def test_a_map_is_what_the_library_computes_by_hand(answered, method):
    classifier, prediction = answered
    every = METHODS[method].by_class and classifier.name == SHIPPED[0]
    for number, target in list(enumerate(classifier.classes))[0 if every else -1 :]:
        found = explain(classifier, prediction, target, method)
        assert found.map.shape == (prediction.scan.height, prediction.scan.width)
        assert (found.map.dtype, found.unit, found.target) == (np.float32, "0 to 1", target)
        expected = by_hand(classifier, prediction, METHODS[method].kind, number)
        assert found.heat.max() > 0.1 or expected.max() < 0.1
        np.testing.assert_allclose(found.map, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ablation-cam", "score-cam"])
def test_so_are_the_slow_ones_of_each_network(method, capfd):
    """Trained ones: Ablation-CAM divides differences by the logit, which must not be rounding alone."""
    batch = Preprocess(size=64).tensor(simulate("malignant", 3, 64, 64).pixels)[None]
    for network in (load_checkpoint("mobilenetv2-busi").network, load_checkpoint("mobilenetv2-lesion").network.first):
        adapter = Logits(network)
        found = run_library(METHODS[method].kind, adapter, adapter.layers, batch, 1)
        assert not capfd.readouterr().err, "progress is the caller's to tell"
        np.testing.assert_allclose(found, library(METHODS[method].kind, network, batch, 1), rtol=0, atol=1e-5)


def captum_by_hand(method: str, model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Called as Captum's documentation does, with the settings that bcx's says."""
    black, mean = float(batch.min()), float(batch.mean())
    if method == "integrated-gradients":
        return attr.IntegratedGradients(model).attribute(batch, baselines=black, target=1)
    if method == "occlusion":
        windows = {"sliding_window_shapes": (3, 9, 9), "strides": (3, 4, 4)}
        # As many at once as bcx asks for: sums over other batches differ in the last digits.
        return attr.Occlusion(model).attribute(batch, **windows, baselines=mean, target=1, perturbations_per_eval=8)
    noise = 0.15 * float(batch.max() - batch.min())
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return tunnel.attribute(batch, nt_type="smoothgrad", nt_samples=20, stdevs=noise, target=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv2-busi", "mobilenetv2-lesion"])
@pytest.mark.parametrize("method", BY_PIXEL)
def test_captums_methods_are_what_captum_computes_by_hand(method, name):
    batch = Preprocess(size=64).tensor(simulate("malignant", 3, 64, 64).pixels)[None]
    network = load_checkpoint(name).network
    network = network.first if name == "mobilenetv2-lesion" else network
    model = ByHand(network) if isinstance(network, LesionNetwork) else network
    with one_core():  # more add up in another order
        expected = captum_by_hand(method, model, batch.clone())[0].sum(0).detach().numpy()
    found = run_captum(METHODS[method].kind, Logits(network), batch, 1)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_captums_maps_have_the_scans_size_and_the_librarys_scale(tiny_lesion_checkpoint):
    classifier = bcx.load(tiny_lesion_checkpoint)
    found = explain(classifier, simulate("malignant", 3, 150, 190).pixels, "malignant", "smoothgrad")
    assert (found.map.shape, found.map.dtype, found.unit) == ((150, 190), np.float32, "0 to 1")
    assert 0 <= found.map.min() < found.map.max() <= 1 + 1e-6
    assert "own pixels" in found.explains


def test_without_captum_its_methods_say_what_to_install(answered, monkeypatch):
    monkeypatch.setattr("bcx.explain.methods.find_spec", lambda name: None)
    classifier, prediction = answered
    with pytest.raises(MissingExtra, match=r"bcx\[captum\]"):
        explain(classifier, prediction, None, "occlusion")
    assert explain(classifier, prediction).method == "exact"


def test_the_exact_map_is_the_answers_own_and_the_default(answered):
    classifier, prediction = answered
    found = explain(classifier, prediction)
    assert (found.method, found.unit, found.target) == ("exact", "logit", prediction.label)
    np.testing.assert_array_equal(found.map, prediction.class_map(prediction.label))


def test_the_logits_of_all_parts_by_their_shares_are_the_answers(answered):
    classifier, prediction = answered
    network, second = classifier.checkpoint.network, prediction.reading.second
    pixels = prediction.scan.pixels
    for number in range(len(classifier.classes)):
        total = 0.0
        for part in parts(network, number):
            batch = prediction.preprocess.tensor(cut(pixels, second.box) if part.second else pixels)[None]
            logits = Logits(part.network)(batch.flip(-1) if part.mirrored else batch)
            total += part.share * float(logits[0, number].detach())
        assert total == pytest.approx(float(prediction.reading.logits[number]), abs=2e-4)


@pytest.mark.parametrize("arch", ["resnet18", "efficientnet_b0", "vgg11", "tiny_cnn", "dense"])
def test_every_kind_of_network_can_be_explained(arch):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if arch == "dense":
            network = build_dense_network("mobilenetv2_035", 3, size=64, pool="flatten", widths=(8,), drops=(0, 0))
        else:
            network = build_network(arch, 3, size=64)
    adapter = Logits(network)
    found = run_library("GradCAM", adapter, adapter.layers, torch.rand(1, 3, 64, 64), 2)
    assert found.shape == (64, 64)
    assert np.isfinite(found).all()
    assert not any(parameter.grad is not None for parameter in network.parameters())


def test_hooks_are_on_a_copy(answered):
    classifier, prediction = answered
    network = classifier.checkpoint.network
    explain_network(network, prediction, classifier.classes[0], "grad-cam")
    assert not any(module._forward_hooks for module in network.modules())


def test_words_say_what_is_explained(answered):
    classifier, prediction = answered
    words = explain(classifier, prediction, None, "layercam").explains
    assert prediction.label in words
    assert ("crop held fixed" in words) == (prediction.reading.second is not None)
    assert "No class" in explain(classifier, prediction, None, "eigen-cam").explains


def test_unknown_names_are_told(answered):
    classifier, prediction = answered
    with pytest.raises(ConfigError, match="no method called 'lime'"):
        explain(classifier, prediction, None, "lime")
    with pytest.raises(ConfigError, match="no class called 'cyst'"):
        explain(classifier, prediction, "cyst")


def test_opencv_needs_no_windows():
    """One `cv2`, the build without windows: no libGL is loaded, though pytorch-grad-cam is imported as well."""
    names = {each.name.lower() for each in metadata.distributions()}
    assert [name for name in names if "opencv" in name] == ["opencv-python-headless"]
    loaded = Path("/proc/self/maps").read_text()
    assert "cv2" in loaded
    assert "libGL" not in loaded
    assert "libQt" not in loaded
