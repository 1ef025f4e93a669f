"""The dense head: flatten or average the backbone's last map, then dense layers; its class maps add up to the logits.

The head is linear in pieces: around any one image, logit_c = sum over places and channels of g_c * a + b_c, where a is
the last feature map, g_c the logit's gradient there and b_c what the biases of the units that are on add up to. So

    map_c[place] = places * sum over channels of g_c[channel, place] * a[channel, place]
    mean(map_c) + b_c = logit_c

without a remainder. b_c depends on the image and belongs to no place. The map is "gradient times input" at the last map
(Shrikumar et al. 2016), or the HiResCAM of Draelos and Carin (2020); of one linear layer after pooling, Grad-CAM's.

The gradient is followed through the layers by hand: without autograd, in an exported graph, for all classes at once.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from bcx.errors import ConfigError

Pool = Literal["flatten", "average"]


def account_dense(head: nn.Sequential, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Run dense layers, in evaluation mode; return float32 logits `[B, C]` and maps `[B, C, h, w]`.

    `features` is the last feature map, float32 `[B, K, h, w]`; the last layer is linear, and `_slope` knows all.
    """
    values = features
    slopes: list[torch.Tensor | None] = []  # of every layer: a factor per unit, or a matrix; None: it changes nothing
    for layer in head:
        before, values = values, layer(values)
        slopes.append(_slope(layer, before))
    gradient = torch.eye(values.shape[1], dtype=values.dtype, device=values.device).expand(values.shape[0], -1, -1)
    for slope, layer in zip(reversed(slopes), reversed(head), strict=True):
        if slope is not None:
            gradient = gradient @ slope if isinstance(layer, nn.Linear) else gradient * slope
    places = features.shape[2] * features.shape[3]
    if isinstance(head[0], nn.AdaptiveAvgPool2d):  # every place has the same share in its channel's mean
        maps = torch.einsum("bck,bkhw->bchw", gradient, features)
    else:
        maps = places * (gradient.unflatten(2, features.shape[1:]) * features[:, None]).sum(2)
    return values, maps


def _slope(layer: nn.Module, before: torch.Tensor) -> torch.Tensor | None:
    """How the layer's output follows its input: `[out, in]`, `[units]` or `[B, 1, units]`."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    if isinstance(layer, nn.ReLU):
        return (before > 0).to(before.dtype)[:, None]
    if isinstance(layer, nn.BatchNorm1d):
        return layer.weight / torch.sqrt(layer.running_var + layer.eps)
    return None  # pooling, flattening, dropout


class DenseNetwork(nn.Module):
    """A timm backbone with dense layers on top."""

    def __init__(
        self, backbone: nn.Module, classes: int, *, size: int, pool: Pool, widths: Sequence[int], drops: Sequence[float]
    ) -> None:
        """Put the head on a backbone from timm, which has no classifier.

        Args:
            size: side of the input, pixels, which "flatten" fixes.
            pool: "flatten" keeps every place of the last map, "average" their mean.
            widths, drops: units of the dense layers, each with ReLU; dropout before each of them and the output.
        """
        super().__init__()
        self.backbone = backbone
        self.size = size
        self.settings = {"pool": pool, "widths": list(widths), "drops": list(drops)}
        channels, height, width = _shape(backbone, size)
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)] if pool == "average" else []
        layers.append(nn.Flatten())
        counts = [channels if pool == "average" else channels * height * width, *widths, classes]
        for drop, (inputs, outputs) in zip(drops, pairwise(counts), strict=True):
            layers += [nn.Dropout(drop), nn.Linear(inputs, outputs), nn.ReLU()]
        self.head = nn.Sequential(*layers[:-1])

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(self.backbone.forward_features(batch))


@torch.no_grad()
def _shape(backbone: nn.Module, size: int) -> tuple[int, int, int]:
    """Channels, height and width of the backbone's last map."""
    was_training = backbone.training
    first = next(backbone.parameters())
    last = backbone.eval().forward_features(first.new_zeros(1, 3, size, size))
    backbone.train(was_training)
    if last.ndim != 4 or not hasattr(backbone, "forward_intermediates"):
        raise ConfigError(
            "This backbone yields no maps of channels by height by width.",
            expected="a convolutional network, such as mobilenetv2_100, resnet50 or vgg16",
            remedy="Choose such an architecture.",
        )
    return last.shape[1], last.shape[2], last.shape[3]
