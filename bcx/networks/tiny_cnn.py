"""A small network that is trained from scratch, as a published system has it for 50 x 50 patches of histology.

    conv 32, BN, conv 32, pool, BN, dropout, conv 64, BN, conv 64, BN, pool, dropout, conv 128,
    flatten, dense 128, BN, dense 64, BN, dense 64, dropout, dense 24, output

with 3 x 3 kernels, ReLU after every layer but the output, and weights after He et al. (2015). The source does not name
the padding: here a convolution keeps the size ("same"), and pooling halves it. Flattening fixes the input's size.

Importing this module makes it one of timm's networks. Its class maps are those of a dense head (`dense.py`).
"""

from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from bcx.errors import ConfigError

_LEAST = 32  # pixels


class TinyCnn(nn.Module):
    """Five convolutions, then four dense layers and the output."""

    def __init__(
        self, num_classes: int = 2, in_chans: int = 3, img_size: int | tuple[int, int] = 50, drop_rate: float = 0.3
    ) -> None:
        """Build it with random weights, for an input of at least 32 pixels a side; the names are timm's."""
        super().__init__()
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if min(height, width) < _LEAST:
            raise ConfigError(
                f"tiny_cnn was asked to read {width} x {height} pixels.",
                expected=f"at least {_LEAST} x {_LEAST}",
                remedy="Raise size.",
            )
        self.img_size, self.num_classes, self.num_features = (height, width), num_classes, 128
        # Each stage ends with the ReLU of a convolution; the norm after it opens the next.
        self.stages = nn.ModuleList(
            [
                nn.Sequential(_conv(in_chans, 32), nn.ReLU()),
                nn.Sequential(nn.BatchNorm2d(32), _conv(32, 32), nn.ReLU()),
                nn.Sequential(nn.MaxPool2d(2), nn.BatchNorm2d(32), nn.Dropout(drop_rate), _conv(32, 64), nn.ReLU()),
                nn.Sequential(nn.BatchNorm2d(64), _conv(64, 64), nn.ReLU()),
                nn.Sequential(nn.BatchNorm2d(64), nn.MaxPool2d(2), nn.Dropout(drop_rate), _conv(64, 128), nn.ReLU()),
            ]
        )
        self.dense = nn.Sequential(
            nn.Flatten(),
            nn.Linear(128 * (height // 4) * (width // 4), 128),
            nn.ReLU(),
            nn.BatchNorm1d(128),
            nn.Linear(128, 64),
            nn.ReLU(),
            nn.BatchNorm1d(64),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Dropout(drop_rate),
            nn.Linear(64, 24),
            nn.ReLU(),
        )
        self.head = nn.Linear(24, num_classes)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(self.dense(self.forward_features(batch)))

    def forward_features(self, batch: torch.Tensor) -> torch.Tensor:
        for stage in self.stages:
            batch = stage(batch)
        return batch

    def forward_intermediates(self, batch: torch.Tensor, indices: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the last maps, and those at the end of each of the last `indices` stages."""
        ends = []
        for stage in self.stages:
            batch = stage(batch)
            ends.append(batch)
        return batch, ends[-indices:]

    def get_classifier(self) -> nn.Module:
        return self.head

    @torch.jit.ignore
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return {"stem": r"^stages\.0", "blocks": [(r"^stages\.(\d+)", None), (r"^dense", (99,))]}


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


default_cfgs = generate_default_cfgs(
    {
        "tiny_cnn": {
            "num_classes": 2,
            "input_size": (3, 50, 50),
            "fixed_input_size": True,  # hence timm hands img_size on
            "first_conv": "stages.0.0",
            "classifier": "head",
        }
    }
)


@register_model
def tiny_cnn(pretrained: bool = False, **settings: Any) -> TinyCnn:
    return build_model_with_cfg(TinyCnn, "tiny_cnn", pretrained, **settings)


__all__ = ["TinyCnn", "default_cfgs", "tiny_cnn"]
