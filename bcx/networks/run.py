"""Running a network on stacked images: arrays in, arrays out, whatever runs it."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import ForwardOut, forward_maps

Outputs = ForwardOut[np.ndarray]  # what a network yields for a batch
#: Runs a network as `run_network` does, called with `planes` and, for the second stage, `enlarged=True`.
Forward = Callable[..., Outputs]


@torch.inference_mode()
def run_network(network: nn.Module, preprocess: Preprocess, planes: np.ndarray, *, enlarged: bool = False) -> Outputs:
    """Run a network, which must be in evaluation mode, on stacked images: uint8 `[B, S, S]` or `[B, S, S, 3]`."""
    device = next(network.parameters()).device
    out = forward_maps(network, preprocess.normalise(torch.from_numpy(planes)).to(device), enlarged=enlarged)
    return Outputs(*(None if part is None else part.float().cpu().numpy() for part in out))
