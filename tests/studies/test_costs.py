"""Costs: against closed form and published tables; times are taken in turn."""

import time

import pytest
import torch
from torchvision.models import get_weight

from bcx.networks.build import _timm_network, build_network
from bcx.studies.compare import count_macs, time_in_turn


def test_macs_of_tiny_cnn_are_those_of_its_layers():
    """Output places x output channels x 9 input channels for a convolution, inputs x outputs for a dense layer."""
    network = build_network("tiny_cnn", 3)
    convolutions = 50 * 50 * 9 * (3 * 32 + 32 * 32) + 25 * 25 * 9 * (32 * 64 + 64 * 64) + 12 * 12 * 9 * 64 * 128
    dense = 12 * 12 * 128 * 128 + 128 * 64 + 64 * 64 + 64 * 24 + 24 * 3
    assert count_macs(network, 50) == convolutions + dense
    assert network.training


@pytest.mark.parametrize(
    ("arch", "weights"),
    [("mobilenetv2_100", "MobileNet_V2_Weights.IMAGENET1K_V1"), ("resnet50", "ResNet50_Weights.IMAGENET1K_V1")],
)
def test_counts_are_those_that_torchvision_publishes(arch, weights):
    """torchvision lists parameters, and operations in billions, of networks that it builds by itself."""
    published = get_weight(weights).meta
    with torch.device("meta"):
        network = _timm_network(arch, 1000, 0.0, "scratch")
    assert sum(weights.numel() for weights in network.parameters()) == published["num_params"]
    assert count_macs(network, 224) / 1e9 == pytest.approx(published["_ops"], abs=0.0006)


def test_vgg_without_its_own_head_costs_what_its_convolutions_cost():
    with torch.device("meta"):
        network = build_network("vgg16", 3)
    # 15.47 G in torchvision's table, of which the three dense layers take 0.124 G
    dense = (7 * 7 * 512 * 4096 + 4096 * 4096 + 4096 * 1000) / 1e9
    assert count_macs(network, 224) / 1e9 == pytest.approx(
        get_weight("VGG16_Weights.IMAGENET1K_V1").meta["_ops"] - dense, abs=0.001
    )


def test_calls_are_timed_in_turn():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b") or time.sleep(0.02)}
    times = time_in_turn(calls, rounds=3)
    assert "".join(order) == "aabb" + "ababab"
    assert times["a"].shape == times["b"].shape == (3,)
    assert times["a"].max() < 0.02 <= times["b"].min()
