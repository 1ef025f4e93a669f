"""How a training uses the machine: processes that `accelerate launch` starts, memory, quicker layers."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch
from accelerate import Accelerator, PartialState
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bcx.networks.device import GLIBC, pick_device, wanted_device

T = TypeVar("T")


def processes() -> PartialState:
    """Return what Accelerate knows of the processes that train together; the first call joins them."""
    # Without GPUs Accelerate takes several processes for one each, unless it is told that CPUs are meant.
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1 and pick_device() == "cpu"
    return PartialState(cpu=together or wanted_device() == "cpu")


def own_share(batch: list[T], state: PartialState) -> list[T]:
    """Return this process's share of a batch, so that all of them together take the steps of one process.

    Where a share would be less than two images, on which no batch norm can train, every process takes the whole.
    """
    small = len(batch) < 2 * state.num_processes
    return batch if small else batch[state.process_index :: state.num_processes]


def average_norms(network: nn.Module, accelerator: Accelerator) -> None:
    """Give every process the mean of what the batch norms of all processes saw."""
    for buffer in network.buffers():
        if accelerator.num_processes > 1 and buffer.is_floating_point():
            buffer.copy_(accelerator.reduce(buffer, "mean"))


def keep_memory() -> None:
    """Have the allocator keep, from now on, what a step frees, for the next step.

    Else every large tensor is new memory, which the system fills with zeros page by page: a tenth to a fifth of a
    MobileNetV2's step.
    """
    if GLIBC is not None:
        GLIBC.mallopt(-4, 0)  # M_MMAP_MAX: nothing outside the heap
        GLIBC.mallopt(-1, -1)  # M_TRIM_THRESHOLD: never


@contextmanager
def depthwise_in_float32(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Run learning depthwise convolutions of more than 3x3, or with a stride, in float32 under bfloat16 autocast.

    Their backward pass is 2 to 12 times slower in bfloat16 (oneDNN in torch 2.11): a tenth of a MobileNetV2's step. The
    network is changed inside the context only, which gives the convolutions concerned.
    """
    convolutions = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
        and module.weight.requires_grad  # what is frozen has no backward pass
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


@contextmanager
def folded_norms(network: nn.Module, frozen: Sequence[nn.Module], size: int) -> Iterator[dict[_BatchNorm, nn.Conv2d]]:
    """Run frozen batch norms as part of the convolutions before them: 5 to 9 % of a MobileNetV2's step.

    Which norm follows which convolution is seen in one pass over an image of `size` pixels a side. The network is
    changed inside the context only, its weights never. Gives the norms concerned, each with its convolution.
    """
    pairs = _convolutions_before(network, frozen, size)
    for norm, convolution in pairs.items():
        convolution.forward = fuse_conv_bn_eval(convolution, norm.eval()).requires_grad_(False).forward
        norm.forward = getattr(norm, "act", nn.Identity()).forward  # timm's norms carry the activation that follows
    try:
        yield pairs
    finally:
        for module in [*pairs, *pairs.values()]:
            del module.forward


@torch.no_grad()
def _convolutions_before(network: nn.Module, frozen: Sequence[nn.Module], size: int) -> dict[_BatchNorm, nn.Conv2d]:
    pairs: dict[_BatchNorm, nn.Conv2d] = {}
    made: list[tuple[nn.Conv2d, torch.Tensor, int]] = []  # what a convolution gave, and its version as it was given

    def note(convolution: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        made.append((convolution, out, out._version))

    def match(norm: _BatchNorm, given: tuple[torch.Tensor, ...]) -> None:
        # A version that counts on has been changed in place, as by a ReLU between the two.
        for convolution, out, version in made:
            if out is given[0] and out._version == version:
                pairs[norm] = convolution

    hooks = [module.register_forward_hook(note) for module in frozen if isinstance(module, nn.Conv2d)]
    norms = [module for module in frozen if isinstance(module, _BatchNorm) and module.track_running_stats]
    hooks += [norm.register_forward_pre_hook(match) for norm in norms]
    if norms:
        network.eval()(torch.zeros(1, 3, size, size, device=next(network.parameters()).device))
    for hook in hooks:
        hook.remove()
    return pairs
