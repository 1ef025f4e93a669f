"""How a network that is being trained answers whole scans: through the same path as serving.

readings = answer_records(network, preprocess, records)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from torch import nn

from bcx.data.records import Record
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.inference.two_stage import Reading, read_scans
from bcx.networks.run import run_network

_AT_ONCE = 16


def answer_scans(
    network: nn.Module, preprocess: Preprocess, scans: Iterable[np.ndarray], *, mirror: bool = False
) -> list[Reading]:
    """Read scans with a network, in evaluation mode; its own mode is as before afterwards.

    Args:
        network: from `build_network` or `build_lesion_network`.
        preprocess: its input.
        scans: uint8 `[H, W]` or `[H, W, 3]` each.
        mirror: flip every scan left to right first; maps are then of the flipped scan.
    """
    was_training = network.training
    network.eval()
    forward = partial(run_network, network, preprocess)
    readings: list[Reading] = []
    batch: list[np.ndarray] = []
    for pixels in scans:
        batch.append(np.ascontiguousarray(pixels[:, ::-1]) if mirror else pixels)
        if len(batch) == _AT_ONCE:
            readings += read_scans(forward, preprocess, batch)
            batch = []
    if batch:
        readings += read_scans(forward, preprocess, batch)
    network.train(was_training)
    return readings


def answer_records(
    network: nn.Module, preprocess: Preprocess, records: Sequence[Record], *, mirror: bool = False
) -> list[Reading]:
    """Read the scans of records; as `answer_scans`, one scan in memory at a time."""
    return answer_scans(network, preprocess, (Scan.open(record.file).pixels for record in records), mirror=mirror)


def stacked_logits(readings: Sequence[Reading], classes: int) -> np.ndarray:
    """Return float32 `[N, C]`."""
    return np.stack([reading.logits for reading in readings]) if readings else np.zeros((0, classes), np.float32)
