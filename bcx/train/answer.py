"""How a network that is being trained answers whole scans: through the same path as serving."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
from torch import nn

from bcx.data.records import Record
from bcx.evaluate.oof import oof_frame
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.inference.two_stage import Reading, read_scans
from bcx.networks.run import run_network
from bcx.tasks import Task

_AT_ONCE = 16


def answer_scans(
    network: nn.Module, preprocess: Preprocess, scans: Iterable[np.ndarray], *, mirror: bool = False
) -> Iterator[Reading]:
    """Read scans, uint8 `[H, W]` or `[H, W, 3]`, in evaluation mode; the network's own mode is as before afterwards.

    `mirror` flips every scan left to right first; maps are then of the flipped scan.
    """
    was_training, forward = network.training, partial(run_network, network.eval(), preprocess)
    waiting = (np.ascontiguousarray(pixels[:, ::-1]) if mirror else pixels for pixels in scans)
    try:
        while batch := list(islice(waiting, _AT_ONCE)):
            yield from read_scans(forward, preprocess, batch)
    finally:
        network.train(was_training)


def answer_records(
    network: nn.Module, preprocess: Preprocess, records: Iterable[Record], *, mirror: bool = False
) -> Iterator[Reading]:
    """Read the scans of records, as `answer_scans`."""
    return answer_scans(network, preprocess, (Scan.open(record.file).pixels for record in records), mirror=mirror)


def answer_table(
    network: nn.Module,
    preprocess: Preprocess,
    records: Sequence[Record],
    fold: int,
    task: Task,
    on_scan: Callable[[], object] = lambda: None,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Answer scans and their mirror images: `bcx.evaluate.oof.oof_frame`, and the stages of each, float32 `[N, K]`."""
    views = []
    for mirror in (False, True):
        rows = []
        for reading in answer_records(network, preprocess, records, mirror=mirror):
            rows.append((reading.logits, reading.stages))
            on_scan()
        views.append([np.stack(part) for part in zip(*rows, strict=True)])
    (logits, stages), (mirrored, _) = views
    return oof_frame(records, fold, logits, mirrored, task), stages


def stacked_logits(readings: Iterable[Reading], classes: int) -> np.ndarray:
    """Return float32 `[N, C]`."""
    return np.array([reading.logits for reading in readings], np.float32).reshape(-1, classes)
