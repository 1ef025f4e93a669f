"""Mixed precision on the CPU, without the kernels that it makes slower."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn


@contextmanager
def depthwise_in_float32(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Run depthwise convolutions of more than 3x3, or with a stride, in float32 under the CPU's bfloat16 autocast.

    The backward pass of these is 2 to 12 times slower in bfloat16 than in float32 (oneDNN in torch 2.11): float32 takes
    a quarter off an EfficientNet-Lite0's training step and a tenth off a MobileNetV2's.

    Args:
        network: changed inside the context only.

    Yields:
        The convolutions concerned.
    """
    convolutions = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and 1 < module.groups == module.in_channels
        and (max(module.kernel_size) > 3 or max(module.stride) > 1)
    ]
    for convolution in convolutions:
        convolution.forward = partial(_in_float32, convolution.forward)
    try:
        yield convolutions
    finally:
        for convolution in convolutions:
            del convolution.forward


def _in_float32(forward: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return forward(batch.float()).to(batch.dtype)
