"""The dense head: flatten or average the backbone's last map, then dense layers with dropout between them.

Published systems put it on frozen ImageNet networks. Each class's map is gradient times activation, summed over
channels (`class_maps.py`), so that mean(map) + what the biases add = logit exactly. Unlike the linear head's bias,
that rest differs from image to image, as other units are on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import nn

from bcx.errors import ConfigError

Pool = Literal["flatten", "average"]


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
        """Put the head on a backbone from timm, which has no classifier.

        Args:
            size: side of the input, pixels; "flatten" fixes it.
            pool: "flatten" keeps every place of the last map, "average" their mean.
            widths: units of the dense layers before the output, each with ReLU.
            drops: dropout before each of them and before the output, while training: one more than `widths`.
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

    @property
    def after_maps(self) -> nn.Sequential:
        """The layers from the last maps to the logits, for `account_dense`."""
        return self.head


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
