"""Training in several processes, as `accelerate launch` starts them: each learns its share, and one writes.

In one process all of this changes nothing.
"""

from __future__ import annotations

import os
from typing import TypeVar

from accelerate import PartialState

from bcx.networks.device import pick_device, wanted_device

T = TypeVar("T")


def processes() -> PartialState:
    """Return what Accelerate knows of the processes that train together; the first call joins them."""
    # Without GPUs Accelerate takes several processes for one each, unless it is told that CPUs are meant.
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1 and pick_device() == "cpu"
    return PartialState(cpu=together or wanted_device() == "cpu")


def own_share(batch: list[T], state: PartialState) -> list[T]:
    """Return this process's share of a batch, so that all of them together take the steps of one process.

    Where a share would be less than two pictures, on which no batch norm can train, every process takes the whole.
    """
    small = len(batch) < 2 * state.num_processes
    return batch if small else batch[state.process_index :: state.num_processes]
