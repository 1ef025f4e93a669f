"""What an answer costs: multiply-accumulates, time per scan."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@torch.no_grad()
def count_macs(network: nn.Module, size: int) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one image of `size` x `size` pixels.

    torch counts a multiplication and an addition as two operations; published tables mostly mean one of both, as here.
    Additions of biases, norms, activations and pooling are not counted, nor are they in most tables.
    """
    was_training = network.training
    image = next(network.parameters()).new_zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        network.eval()(image)
    network.train(was_training)
    return counter.get_total_flops() // 2


def time_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of several calls, name -> float64 [rounds], one after another, round by round.

    Whatever else the machine does meets all of them alike, so ratios within a round are worth more than the times.
    Each is called twice before the first round.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in taken.items()}
