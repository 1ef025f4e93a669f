"""Training scans in memory, decoded once, varied afresh at every epoch: whole, or also enlarged around the lesion."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
from torch.utils.data import Dataset

from bcx.data.records import Record, load_mask
from bcx.imaging.crop import CONTEXT, box_around, cut
from bcx.imaging.preprocess import Preprocess, resize, to_grey
from bcx.imaging.scan import Scan
from bcx.tasks import Task
from bcx.train.augment import Augmentation, oversize

T = TypeVar("T")
_ENOUGH = 0.05  # share of a source's scans from which a class counts as shown there
#: Scans with views are kept at most this long (pixels): finer detail than the network sees at any zoom used here.
_LONGEST = 640
# Enlarged views: the box is as much larger (log scale) and as far off centre as the first stage's boxes are wrong.
_BOX_SMALLER, _BOX_LARGER, _BOX_SHIFT = -0.2, 0.35, 0.15
# Enlarged views of scans without a lesion: a square anywhere, this large in units of the scan's shorter side.
_FREE_SIDE = (0.35, 0.8)
_STEP = 8  # pixels of the input per place of the lesion map


class Shown(NamedTuple):
    """One image, uint8 `[S, S]` or `[S, S, 3]`; position of its class; position of its source; or a batch of them."""

    plane: Any
    label: Any
    source: Any


class ScanDataset(Dataset[Any]):
    """Scans and masks in memory; the same seed, epoch and index give the same pixels in any process.

    Args:
        augment: strength; 0 shows the images as serving would.
        augmentation: a key of `bcx.train.augment.RECIPES` in place of the task's.
    """

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
        name = augmentation or task.augmentation
        self.epoch, self._seed, self._preprocess = 0, seed, preprocess
        self._augment = Augmentation(name, preprocess.size, augment) if augment else None
        self._side = round(preprocess.size * oversize(name)) if augment else preprocess.size
        self.absent = -1 if task.absent is None else task.classes.index(task.absent)
        self.labels = [task.classes.index(record.label) for record in records]
        self.sources = np.unique([record.source for record in records], return_inverse=True)[1]
        # A hospital with hardly any normal scans cannot teach what "nothing there" looks like: its own look would pass
        # for "a lesion".
        absent = np.asarray(self.labels) == self.absent
        self.with_absent = [bool(absent[self.sources == n].mean() >= _ENOUGH) for n in np.unique(self.sources)]
        self._planes: list[np.ndarray] = []
        self._masks: list[np.ndarray | None] = []
        for record, label in zip(records, self.labels, strict=True):
            pixels = Scan.open(record.file).pixels
            mask = load_mask(record, pixels.shape)
            plane, kept = self._prepared(to_grey(pixels) if preprocess.grey else pixels, mask, label)
            self._planes.append(plane)
            self._masks.append(kept)

    def __len__(self) -> int:
        return len(self.labels)

    def _prepared(self, pixels: np.ndarray, mask: np.ndarray | None, label: int) -> tuple[np.ndarray, Any]:
        """A scan and its mask as they are kept; small ones as they are: 9,000 patches of 50 x 50 in 70 MB, not 250."""
        side = self._side
        if mask is not None:
            return self._preprocess.plane(pixels, side), _nearest(mask.astype(np.uint8), side)
        small = pixels.shape[0] * pixels.shape[1] < side * side
        return pixels if small else self._preprocess.plane(pixels, side), None

    def __getitem__(self, index: Any) -> Any:
        """Return an image as `Shown`; `index + N` is the same scan once more, varied in another way."""
        number = index % len(self)
        plane = self._preprocess.plane(self._planes[number], self._side)
        if self._augment is not None:
            plane, _ = self._augment(plane, self._masks[number], mix_seed(self._seed, self.epoch, index))
        return Shown(plane, self.labels[number], self.sources[number])


class ViewOf(NamedTuple):
    """Which image to make: the number of the record, and whether to enlarge a part of it."""

    record: int
    enlarged: bool
    repeat: int = 0


class View(NamedTuple):
    """One image, uint8 `[S, S]` or `[S, S, 3]`, or a batch of them.

    `mask` is float32 `[S / 8, S / 8]`, the share of each place that is lesion, and zeros where it is unknown;
    `with_absent` tells whether the scan's source has scans without a lesion.
    """

    plane: Any
    mask: Any
    label: Any
    has_mask: Any
    with_absent: Any


class LesionDataset(ScanDataset):
    """Whole scans and crops around the lesion, as `View`.

    Scans without a mask, or with an empty one although they show a lesion, are only shown whole.
    """

    def _prepared(self, pixels: np.ndarray, mask: np.ndarray | None, label: int) -> tuple[np.ndarray, Any]:
        factor = min(1.0, _LONGEST / max(pixels.shape[:2]))
        height, width = (max(1, round(factor * n)) for n in pixels.shape[:2])
        outline = None if mask is None else resize(mask.astype(np.uint8) * 255, width, height) > 127
        # A lesion that nobody outlined is somewhere: an empty mask would teach that it is nowhere.
        outlined = outline is not None and (outline.any() or label == self.absent)
        return resize(pixels, width, height), outline if outlined else None

    def __getitem__(self, which: Any) -> View:
        seed = mix_seed(self._seed, self.epoch, *map(int, which))
        pixels, mask, label = self._planes[which.record], self._masks[which.record], self.labels[which.record]
        known = mask is not None or label == self.absent
        if which.enlarged and known:
            pixels, mask = self._part(pixels, mask, np.random.default_rng(seed))
        size, side = self._preprocess.size, self._side
        plane = resize(pixels, side, side)
        whole = np.zeros((side, side), np.uint8) if mask is None else _nearest(mask.astype(np.uint8), side)
        if self._augment:
            plane, whole = self._augment(plane, whole, seed)
        grid = cv2.resize(whole.astype(np.float32), (size // _STEP, size // _STEP), interpolation=cv2.INTER_AREA)
        return View(plane, grid, label, known, self.with_absent[self.sources[which.record]])

    def _part(
        self, pixels: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Cut out the lesion with its surroundings; any square of a scan that shows none."""
        shape = (pixels.shape[0], pixels.shape[1])
        if mask is None or not mask.any():
            side = rng.uniform(*_FREE_SIDE) * min(shape)
            x, y = (rng.uniform(side / 2, length - side / 2) for length in (shape[1], shape[0]))
            return cut(pixels, box_around(x, y, side, shape, context=1.0)), None
        rows, columns = np.nonzero(mask)
        longer = int(max(np.ptp(columns), np.ptp(rows))) + 1
        context = CONTEXT * np.exp(rng.uniform(_BOX_SMALLER, _BOX_LARGER))
        x, y = (
            (edge.min() + edge.max() + 1) / 2 + rng.uniform(-_BOX_SHIFT, _BOX_SHIFT) * longer * context
            for edge in (columns, rows)
        )
        box = box_around(x, y, longer, shape, context)
        return cut(pixels, box), cut(mask, box)

    def order(self, epoch: int, *, balance: bool, enlarge: bool) -> list[ViewOf]:
        """Return the views of one epoch, shuffled; the same for the same seed and epoch.

        Args:
            balance: show the scans of smaller sources several times, so that each source weighs about the same.
            enlarge: show every second view enlarged: the other half at each scan's next turn.
        """
        turns = source_turns(self.sources) if balance else np.ones(max(self.sources) + 1, int)
        views = [
            ViewOf(number, enlarge and (epoch + repeat + number * (turns[source] == 1)) % 2 == 1, repeat)
            for number, source in enumerate(self.sources)
            for repeat in range(turns[source])
        ]
        order = np.random.default_rng([self._seed, epoch]).permutation(len(views))
        return [views[number] for number in order]


def mix_seed(*parts: int) -> int:
    """Mix whole numbers into one 31-bit seed; neighbouring inputs give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big") >> 1


def epoch_order(n: int, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch: a permutation of 0..n-1, the same for the same seed and epoch."""
    return cut_batches(np.random.default_rng([seed, epoch]).permutation(n).tolist(), batch_size)


def oversampled_order(labels: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch in which every class is as frequent as the largest one.

    Every scan comes once; of a rarer class, scans are drawn again at random (with replacement, anew at every epoch).
    A scan that comes again has its index plus N, 2 N ..., as `ScanDataset` takes it.
    """
    n, counts = len(labels), np.bincount(labels)
    rng = np.random.default_rng([seed, epoch, 1])
    turns, order = [0] * n, list(range(n))
    for label in np.unique(labels):
        for index in rng.choice(np.flatnonzero(np.asarray(labels) == label), counts.max() - counts[label]).tolist():
            turns[index] += 1
            order.append(index + n * turns[index])
    return cut_batches([order[i] for i in rng.permutation(len(order))], batch_size)


def balanced_order(sources: Sequence[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch in which smaller sources' scans come several times, as in `oversampled_order`."""
    turns = source_turns(sources)[np.asarray(sources)]
    order = [index + len(sources) * turn for index, count in enumerate(turns) for turn in range(count)]
    return cut_batches(np.random.default_rng([seed, epoch, 2]).permutation(order).tolist(), batch_size)


def source_turns(sources: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return int64 `[S]`: how often each source's scans come in an epoch, so that all sources weigh about the same."""
    sizes = np.bincount(sources)
    return np.maximum(1, np.rint(sizes.max() / sizes)).astype(int)


def cut_batches(order: list[T], batch_size: int) -> list[list[T]]:
    """Cut an epoch's indices into batches; a last batch of one, on which no batch norm can train, joins the others."""
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [batches[-2] + batches[-1]]
    return batches


def _nearest(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
