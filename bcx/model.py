"""Networks: build one from timm, and run it so that every class's map comes with the logits.

Only networks whose head is average pooling and one linear layer are accepted: for those the
Grad-CAM weights are the head's own weights (Selvaraju et al. 2017, section 3; Zhou et al. 2016),
so all maps cost one small product inside the same forward pass, and each is an exact account
of its logit: mean(map) + bias = logit.

>>> import torch
>>> network = build_network("mobilenetv2_035", classes=3)
>>> out = forward_maps(network.eval(), torch.zeros(1, 3, 64, 64))
>>> tuple(out.logits.shape), tuple(out.maps.shape)
((1, 3), (1, 3, 2, 2))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from bcx.errors import CheckpointError, ConfigError


class ForwardOut(NamedTuple):
    """What one forward pass yields.

    Attributes:
        logits: float32 `[B, C]`, before temperature.
        maps: float32 `[B, C, h, w]` on the network's grid, in logit units: mean over the grid + bias = logit.
        features: float32 `[B, D]`, the pooled features that the head reads (the gate reads them too).
    """

    logits: torch.Tensor
    maps: torch.Tensor
    features: torch.Tensor


def build_network(arch: str, classes: int, *, drop: float = 0.0, init: str = "scratch") -> nn.Module:
    """Build a timm network with a linear head over average-pooled features.

    Args:
        arch: timm's name ("mobilenetv2_100", "resnet50").
        classes: number of outputs.
        drop: dropout on the pooled features while training, which equals dropping whole channels of the last map.
        init: "scratch" (random), "timm" (timm's pretrained weights, fetched from the Hub), or the path of a
            `.safetensors` file in timm's names; its classifier, if any, is left out.

    Returns:
        The network, its head's weights and bias zero unless `init` is "scratch": every class starts equally likely.

    Raises:
        ConfigError: unknown architecture, or one whose head is not pooling and one linear layer.
        CheckpointError: the weights cannot be had or do not fit.
    """
    if arch not in timm.list_models():
        near = ", ".join(timm.list_models(f"*{arch.split('_')[0]}*")[:5]) or "none similar"
        raise ConfigError(
            f"timm knows no architecture called '{arch}'.",
            expected=f"a name from timm.list_models() (similar: {near})",
            remedy="Use 'mobilenetv2_100' or 'resnet50' if in doubt.",
        )
    from_file = init not in ("scratch", "timm")
    options: dict[str, Any] = {"num_classes": classes, "drop_rate": drop}
    if from_file and arch.startswith("mobilenetv2"):
        options["pad_type"] = "same"  # the TF-slim weights were trained with TensorFlow's padding
    try:
        network = timm.create_model(arch, pretrained=init == "timm", **options)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(
            f"timm's weights for '{arch}' could not be fetched ({type(error).__name__}).",
            expected="a connection to the Hugging Face Hub, or a file already in its cache",
            remedy="Connect, or start from a file with --init FILE, or from random weights with --init scratch.",
        ) from error
    _require_linear_head(network, arch)
    if from_file:
        load_backbone(network, Path(init))
    if init != "scratch":
        head = network.get_classifier()
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
    return network


def _require_linear_head(network: nn.Module, arch: str) -> None:
    head = network.get_classifier()
    pool = getattr(network, "global_pool", None)
    linear = isinstance(head, nn.Linear) and head.in_features == network.num_features
    if not linear or getattr(pool, "pool_type", None) != "avg":
        raise ConfigError(
            f"The head of '{arch}' is not average pooling followed by one linear layer.",
            expected="an architecture whose class maps are exact, such as mobilenetv2_100, resnet50 or efficientnet_b0",
            remedy="Choose one of these.",
        )


def load_backbone(network: nn.Module, file: Path) -> None:
    """Load everything but the classifier from a `.safetensors` file in timm's names, strictly.

    Raises:
        CheckpointError: the file is missing, no safetensors, or names other layers.
    """
    try:
        tensors = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"The starting weights '{file.name}' could not be read ({error}).",
            expected="a .safetensors file in timm's names",
            remedy="Check the path given with --init.",
        ) from error
    head = network.pretrained_cfg["classifier"]
    tensors = {name: value.float() for name, value in tensors.items() if not name.startswith(f"{head}.")}
    own = {name for name in network.state_dict() if not name.startswith(f"{head}.")}
    missing, extra = own - set(tensors), set(tensors) - own
    if missing or extra:
        raise CheckpointError(
            f"'{file.name}' lacks {len(missing)} tensors of the network and holds {len(extra)} others "
            f"(first: {sorted(missing | extra)[0]}).",
            expected="weights of the same architecture",
            remedy="Name the architecture that belongs to the file with --arch.",
        )
    network.load_state_dict(tensors, strict=False)


def forward_maps(network: nn.Module, batch: torch.Tensor) -> ForwardOut:
    """Run the network once; return logits, all class maps and pooled features.

    Args:
        network: from `build_network`.
        batch: float32 `[B, 3, S, S]`, normalised by `Preprocess`.
    """
    last = network.forward_features(batch)
    head = network.get_classifier()
    maps = nn.functional.conv2d(last, head.weight[:, :, None, None])
    return ForwardOut(maps.mean((2, 3)) + head.bias, maps, last.mean((2, 3)))
