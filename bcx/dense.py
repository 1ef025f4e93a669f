"""The dense head: flatten or average the backbone's last map, then dense layers with dropout between them.

Published systems put it on frozen ImageNet networks. Dense layers with ReLU are linear as long as the same units stay
on, so each logit is a sum over places and channels, plus what the biases bring in:

    logit = sum(gradient x activation) + rest,    rest = sum over layers of (gradient with respect to its sum x bias)

A class's map holds the first sum place by place (summed over channels, times the number of places), so that
**mean(map) + rest = logit** exactly, with the gradient at this very picture (Shrikumar et al. 2017 call the product
"gradient times input"). Unlike the linear head's bias, `rest` differs from picture to picture.

>>> import timm
>>> backbone = timm.create_model("mobilenetv2_035", num_classes=0)
>>> network = DenseNetwork(backbone, 3, size=64, pool="flatten", widths=(8,), drops=(0.0, 0.5)).eval()
>>> out = network.read(torch.ones(2, 3, 64, 64))
>>> bool(torch.allclose(out.maps.mean((2, 3)) + out.rest, out.logits, atol=1e-5))
True
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from bcx.errors import ConfigError

Pool = Literal["flatten", "average"]
_STAGES = 4  # the backbone's last stages, which the gate reads


class DenseOut(NamedTuple):
    """What the head reads from one batch.

    Attributes:
        logits: float32 `[B, C]`, before temperature.
        maps: float32 `[B, C, h, w]` on the backbone's grid, in logit units.
        rest: float32 `[B, C]`, the biases' part of each logit: logits - mean(maps).
        stages: float32 `[B, K]`, channel means of the backbone's last four stages, which the gate reads.
    """

    logits: torch.Tensor
    maps: torch.Tensor
    rest: torch.Tensor
    stages: torch.Tensor


class DenseNetwork(nn.Module):
    """A timm backbone with dense layers on top."""

    def __init__(
        self,
        backbone: nn.Module,
        classes: int,
        *,
        size: int,
        pool: Pool,
        widths: Sequence[int],
        drops: Sequence[float],
    ) -> None:
        """Put the head on a backbone.

        Args:
            backbone: from timm, without a classifier.
            classes: number of outputs.
            size: side of the input, pixels; "flatten" fixes it.
            pool: "flatten" keeps every place of the last map, "average" their mean.
            widths: units of the dense layers before the output, each with ReLU.
            drops: dropout before each of them and before the output, while training: one more than `widths`.

        Raises:
            ConfigError: as many drops as widths are not given, or the backbone yields no maps.
        """
        super().__init__()
        if len(drops) != len(widths) + 1:
            raise ConfigError(
                f"The dense head has {len(widths)} widths and {len(drops)} drops.",
                expected="one drop before each dense layer and one before the output",
                remedy="Give 0 where nothing is dropped.",
            )
        self.backbone = backbone
        self.size, self.pool = size, pool
        self.widths, self.drops = tuple(widths), tuple(drops)
        shape = _shape(backbone, size)
        inputs = shape[0] * (shape[1] * shape[2] if pool == "flatten" else 1)
        counts = [inputs, *widths, classes]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(counts))

    def settings(self) -> dict[str, Any]:
        """Return what builds the same head again, ready for JSON."""
        return {"pool": self.pool, "widths": list(self.widths), "drops": list(self.drops)}

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, C]` of a batch `[B, 3, S, S]`, normalised; what training calls."""
        values = self._pooled(self.backbone.forward_features(batch))
        for layer, drop in zip(self.layers[:-1], self.drops[:-1], strict=True):
            values = functional.relu(layer(functional.dropout(values, drop, self.training)))
        return self.layers[-1](functional.dropout(values, self.drops[-1], self.training))

    def read(self, batch: torch.Tensor) -> DenseOut:
        """Run backbone and head once, without dropout, and account for every logit.

        Args:
            batch: float32 `[B, 3, S, S]`, normalised.
        """
        last, stages = self.backbone.forward_intermediates(batch, indices=_STAGES)
        values, on = self._pooled(last), []
        for layer in self.layers[:-1]:
            values = functional.relu(layer(values))
            on.append((values > 0).to(values.dtype))
        logits = self.layers[-1](values)
        # Backwards by hand: answers are given where autograd is off. `slope` is the gradient of every logit. The sum
        # gives it one row per picture, also in a traced graph, where a size would become a constant.
        slope = torch.zeros_like(logits)[:, :, None] + self.layers[-1].weight
        rest = torch.zeros_like(logits) + self.layers[-1].bias
        for layer, mask in zip(reversed(self.layers[:-1]), reversed(on), strict=True):
            slope = slope * mask[:, None]
            rest = rest + slope @ layer.bias
            slope = slope @ layer.weight
        if self.pool == "flatten":
            places = last.shape[2] * last.shape[3]
            maps = places * (slope.unflatten(2, last.shape[1:]) * last[:, None]).sum(2)
        else:
            maps = torch.einsum("bcd,bdhw->bchw", slope, last)
        return DenseOut(logits, maps, rest, torch.cat([stage.mean((2, 3)) for stage in stages], 1))

    def _pooled(self, last: torch.Tensor) -> torch.Tensor:
        return last.flatten(1) if self.pool == "flatten" else last.mean((2, 3))


@torch.no_grad()
def _shape(backbone: nn.Module, size: int) -> tuple[int, int, int]:
    """Return channels, height and width of the backbone's last map, found by running it once."""
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
