"""Class maps of dense heads: gradient times activation, summed over channels, as an exact account of the logit.

Flatten, dense layers, ReLU, dropout (off when answering) and batch norm (fixed numbers when answering) make a function
that is linear in pieces: around any one picture, logit_c = sum over places and channels of g_c * a + b_c, where a is
the last feature map, g_c the logit's gradient there and b_c what the biases of the units that are on add up to. So

    map_c[place] = places * sum over channels of g_c[channel, place] * a[channel, place]
    mean(map_c) + b_c = logit_c

without a remainder. b_c depends on the picture, since other units may be on, and belongs to no place. With average
pooling and one linear layer g_c is the same everywhere, and the map is Grad-CAM's; with a dense head it differs from
place to place, and the map is "gradient times input" at the last map (Shrikumar et al. 2016), or the HiResCAM of
Draelos and Carin (2020).

The gradient is followed through the layers by hand: it is then had without autograd, inside inference mode and in an
exported graph, for all classes at once.

>>> head = nn.Sequential(nn.Flatten(), nn.Linear(2 * 3 * 3, 5), nn.ReLU(), nn.Linear(5, 3))
>>> out = account_dense(head, torch.rand(1, 2, 3, 3))
>>> tuple(out.maps.shape), bool(torch.allclose(out.maps.mean((2, 3)) + out.rest, out.logits, atol=1e-6))
((1, 3, 3, 3), True)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from bcx.errors import ConfigError


class Account(NamedTuple):
    """Logits, and what they are made of.

    Attributes:
        logits: float32 `[B, C]`.
        maps: float32 `[B, C, h, w]`; mean over the grid + rest = logit.
        rest: float32 `[B, C]`, what the biases add: it belongs to no place.
    """

    logits: torch.Tensor
    maps: torch.Tensor
    rest: torch.Tensor


def account_dense(head: nn.Sequential, features: torch.Tensor) -> Account:
    """Run a dense head, in evaluation mode, and account for its logits.

    Args:
        head: of the layers that `_slope` knows, `ConfigError` for others; it ends with a linear one.
        features: float32 `[B, K, h, w]`, the last feature map.
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
    return Account(values, maps, values - maps.mean((2, 3)))


def _slope(layer: nn.Module, before: torch.Tensor) -> torch.Tensor | None:
    """How the layer's output follows its input: `[out, in]`, `[units]` or `[B, 1, units]`."""
    if isinstance(layer, nn.Linear):
        return layer.weight
    if isinstance(layer, nn.ReLU):
        return (before > 0).to(before.dtype)[:, None]
    if isinstance(layer, nn.BatchNorm1d):
        return layer.weight / torch.sqrt(layer.running_var + layer.eps)
    if isinstance(layer, (nn.AdaptiveAvgPool2d, nn.Flatten, nn.Dropout, nn.Identity)):
        return None
    raise ConfigError(
        f"The dense head holds a layer of the kind '{type(layer).__name__}'.",
        expected="layers that are linear in pieces: Flatten, Linear, ReLU, BatchNorm1d, Dropout",
        remedy="Build the head of these, or account for it in bcx/networks/class_maps.py.",
    )
