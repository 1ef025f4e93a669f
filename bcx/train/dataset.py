"""Training scans in memory: decoded and squashed once, varied afresh at every epoch.

dataset = ScanDataset(records, task, preprocess, augment=1.0, seed=0)
dataset.epoch = 3
plane, label, source = dataset[0]        # uint8 [S, S], int, int
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from bcx.data.records import Record, load_mask
from bcx.imaging.preprocess import Preprocess, to_grey
from bcx.imaging.scan import Scan
from bcx.tasks import Task
from bcx.train.augment import prepared

T = TypeVar("T")
_ENOUGH = 0.05  # share of a source's scans from which a class counts as shown there


class Shown(NamedTuple):
    """One picture, uint8 `[S, S]` or `[S, S, 3]`; position of its class; position of its source."""

    plane: np.ndarray
    label: int
    source: int


class ShownBatch(NamedTuple):
    """A batch: uint8 `[B, S, S(, 3)]`, int64 `[B]`, int64 `[B]`."""

    planes: torch.Tensor
    labels: torch.Tensor
    sources: torch.Tensor


class ScanDataset(Dataset[Shown]):
    """Augmented training pictures; the same seed, epoch and index give the same pixels in any process."""

    def __init__(
        self,
        records: Sequence[Record],
        task: Task,
        preprocess: Preprocess,
        *,
        augment: float,
        seed: int,
        augmentation: str | None = None,
    ) -> None:
        """Read every scan and mask into memory, squashed to the augmentation's `oversize` times the network's side.

        Pictures with fewer pixels than that stay as they are until they are shown: nine thousand patches of 50 x 50
        take 70 MB, not 250.

        Args:
            records: what to train on, in the order of indices.
            task: gives classes and the augmentation's name.
            preprocess: the same object that the checkpoint will store.
            augment: strength; 0 shows the pictures as serving would.
            seed: of the whole run.
            augmentation: a name from `bcx.train.augment.RECIPES` in place of the task's.
        """
        self._augment, side = prepared(augmentation or task.augmentation, preprocess.size, augment)
        self._side = side
        self.labels = [task.classes.index(record.label) for record in records]
        names = sorted({record.source for record in records})
        self.sources = [names.index(record.source) for record in records]
        self.epoch = 0
        self._seed, self._preprocess = seed, preprocess
        self._planes: list[np.ndarray] = []
        self._masks: list[np.ndarray | None] = []
        for record in records:
            pixels = Scan.open(record.file).pixels
            mask = load_mask(record, pixels.shape)
            small = mask is None and pixels.shape[0] * pixels.shape[1] < side * side
            seen = to_grey(pixels) if preprocess.grey else pixels
            self._planes.append(seen if small else preprocess.plane(pixels, side))
            self._masks.append(
                None
                if mask is None
                else cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Shown:
        """Return a picture; `index + N` is the same scan once more, varied in another way."""
        number = index % len(self)
        plane = self._preprocess.plane(self._planes[number], self._side)
        if self._augment is not None:
            plane = self._augment(plane, self._masks[number], mix_seed(self._seed, self.epoch, index))
        return Shown(plane, self.labels[number], self.sources[number])


def mix_seed(*parts: int) -> int:
    """Mix whole numbers into one 31-bit seed; neighbouring inputs give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big") >> 1


def epoch_order(n: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch: a permutation of 0..n-1, the same for the same seed and epoch.

    A last batch of a single scan is joined to the one before it, since batch norm cannot train on one.
    """
    return cut_batches(np.random.default_rng([seed, epoch]).permutation(n).tolist(), batch_size)


def oversampled_order(labels: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch in which every class is as frequent as the largest one.

    Every scan comes once; of a rarer class, scans are drawn again at random (with replacement, anew at every epoch).
    A scan that comes again has its index plus N, 2 N ..., as `ScanDataset` takes it.
    """
    n, counts = len(labels), np.bincount(labels)
    rng = np.random.default_rng([seed, epoch, 1])
    turns = np.zeros(n, int)
    order = list(range(n))
    for label, count in enumerate(counts):
        if count:
            for index in rng.choice(np.flatnonzero(np.asarray(labels) == label), counts.max() - count):
                turns[index] += 1
                order.append(int(index + n * turns[index]))
    return cut_batches([order[i] for i in rng.permutation(len(order))], batch_size)


def balanced_order(sources: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch in which the scans of smaller sources come several times (`source_turns`).

    A scan that comes again has its index plus N, 2 N ..., as `ScanDataset` takes it.
    """
    turns = source_turns(sources)[np.asarray(sources)]
    order = [index + len(sources) * turn for index, count in enumerate(turns) for turn in range(count)]
    return cut_batches(np.random.default_rng([seed, epoch, 2]).permutation(order).tolist(), batch_size)


def source_turns(sources: Sequence[int]) -> np.ndarray:
    """Return int64 `[S]`: how often each source's scans come in an epoch, so that all sources weigh about the same.

    Args:
        sources: of every scan, positions 0 to S - 1.
    """
    sizes = np.bincount(sources)
    return np.maximum(1, np.rint(sizes.max() / sizes)).astype(int)


def sources_with(label: int, sources: Sequence[int], labels: Sequence[int]) -> list[bool]:
    """Return for every source whether at least one scan in twenty is of this class.

    A hospital with hardly any normal scans cannot teach what "nothing there" looks like: its own look would pass for
    "a lesion".
    """
    numbers = range(max(sources, default=-1) + 1)
    own = [[label == given for given, source in zip(labels, sources, strict=True) if source == n] for n in numbers]
    return [bool(of_class) and sum(of_class) >= _ENOUGH * len(of_class) for of_class in own]


def cut_batches(order: list[T], batch_size: int) -> list[list[T]]:
    """Cut an epoch's indices into batches; a last batch of a single picture is joined to the one before it."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        last = batches.pop()
        batches[-1] += last
    return batches


def collate(items: list[Shown]) -> ShownBatch:
    """Stack pictures."""
    return ShownBatch(
        torch.from_numpy(np.stack([item.plane for item in items])),
        torch.tensor([item.label for item in items]),
        torch.tensor([item.source for item in items]),
    )
