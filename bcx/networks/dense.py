"""The dense head: flatten or average the backbone's last map, then dense layers with dropout between them.

Published systems put it on frozen ImageNet networks. Each class's map is gradient times activation, summed over
channels (`class_maps.py`), so that **mean(map) + what the biases add = logit** exactly. Unlike the linear head's bias,
that rest differs from picture to picture, as other units are on.

>>> import timm
>>> backbone = timm.create_model("mobilenetv2_035", num_classes=0)
>>> network = DenseNetwork(backbone, 3, size=64, pool="flatten", widths=(8,), drops=(0.0, 0.5)).eval()
>>> out = network.read(torch.ones(2, 3, 64, 64))
>>> tuple(out.logits.shape), tuple(out.maps.shape)
((2, 3), (2, 3, 2, 2))
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import torch
from torch import nn

from bcx.errors import ConfigError
from bcx.networks.class_maps import account_dense

Pool = Literal["flatten", "average"]
_STAGES = 4  # the backbone's last stages, which the input check reads


class DenseOut(NamedTuple):
    """What the head reads from one batch.

    Attributes:
        logits: float32 `[B, C]`, before temperature.
        maps: float32 `[B, C, h, w]` on the backbone's grid, in logit units.
        rest: float32 `[B, C]`, what the biases add: logits - mean(maps).
        stages: float32 `[B, K]`, channel means of the backbone's last four stages, which the input check reads.
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
        channels, height, width = _shape(backbone, size)
        layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(1)] if pool == "average" else []
        layers.append(nn.Flatten())
        counts = [channels if pool == "average" else channels * height * width, *widths, classes]
        for drop, (inputs, outputs) in zip(drops, pairwise(counts), strict=True):
            layers += [nn.Dropout(drop), nn.Linear(inputs, outputs), nn.ReLU()]
        self.head = nn.Sequential(*layers[:-1])

    def settings(self) -> dict[str, Any]:
        """Return what builds the same head again, ready for JSON."""
        return {"pool": self.pool, "widths": list(self.widths), "drops": list(self.drops)}

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the logits `[B, C]` of a batch `[B, 3, S, S]`, normalised; what training calls."""
        return self.head(self.backbone.forward_features(batch))

    def read(self, batch: torch.Tensor) -> DenseOut:
        """Run backbone and head once, in evaluation mode, and account for every logit.

        Args:
            batch: float32 `[B, 3, S, S]`, normalised.
        """
        last, stages = self.backbone.forward_intermediates(batch, indices=_STAGES)
        found = account_dense(self.head, last)
        described = torch.cat([stage.mean((2, 3)) for stage in stages], 1)
        return DenseOut(found.logits, found.maps, found.rest, described)


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
