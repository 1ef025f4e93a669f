"""What the lesion head trains on: whole scans, and crops around the lesion for the second stage.

dataset = LesionDataset(records, task, preprocess, augment=1.0, seed=0)
view = dataset[ViewOf(record=0, enlarged=True)]
view.plane, view.mask, view.label      # uint8 [S, S], float32 [S / 8, S / 8], "benign"
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from bcx.data.records import Record, load_mask
from bcx.imaging.crop import CONTEXT, box_around, cut
from bcx.imaging.preprocess import Preprocess, resize, to_grey
from bcx.imaging.scan import Scan
from bcx.tasks import Task
from bcx.train.augment import prepared
from bcx.train.dataset import mix_seed, source_turns, sources_with

#: Scans are kept in memory at most this long (pixels): finer detail than the network sees at any zoom used here.
_LONGEST = 640
# Enlarged views: the box is as much larger (log scale) and as far off centre as the first look's boxes are wrong.
_BOX_SMALLER, _BOX_LARGER, _BOX_SHIFT = -0.2, 0.35, 0.15
# Enlarged views of scans without a lesion: a square anywhere, this large in units of the scan's shorter side.
_FREE_SIDE = (0.35, 0.8)
_STEP = 8  # pixels of the input per place of the lesion map


class ViewOf(NamedTuple):
    """Which picture to make: the number of the record, and whether to show a part of it enlarged."""

    record: int
    enlarged: bool
    repeat: int = 0


@dataclass(frozen=True)
class View:
    """One training picture.

    Attributes:
        plane: uint8 `[S, S]` or `[S, S, 3]`.
        mask: float32 `[S / 8, S / 8]`, share of each place that is lesion; zeros where unknown.
        label: position of the scan's class.
        has_mask: whether `mask` is known.
        source: position of the record's source among those of the dataset.
    """

    plane: np.ndarray
    mask: np.ndarray
    label: int
    has_mask: bool
    source: int


class Views(NamedTuple):
    """A batch of views: uint8 `[B, S, S(, 3)]`, float32 `[B, S/8, S/8]`, int64 `[B]`, bool `[B]`, bool `[B]`."""

    planes: torch.Tensor
    masks: torch.Tensor
    labels: torch.Tensor
    has_mask: torch.Tensor
    with_absent: torch.Tensor


class LesionDataset(Dataset[View]):
    """Augmented views; the same seed, epoch and `ViewOf` give the same pixels in any process."""

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
        """Read every scan and mask into memory.

        Args:
            records: what to train on; those without a mask, or with an empty one although they show a lesion, are only
                shown whole.
            task: gives classes and the augmentation's name.
            preprocess: the same object that the checkpoint will store.
            augment: strength; 0 shows the pictures as serving would.
            seed: of the whole run.
            augmentation: a name from `bcx.train.augment.RECIPES` in place of the task's.
        """
        self.epoch = 0
        self._task, self._preprocess, self._seed = task, preprocess, seed
        self._augment, self._side = prepared(augmentation or task.augmentation, preprocess.size, augment)
        self._absent = -1 if task.absent is None else task.classes.index(task.absent)
        self.labels = [task.classes.index(record.label) for record in records]
        self.sources = sorted({record.source for record in records})
        self._source = [self.sources.index(record.source) for record in records]
        self._with_absent = sources_with(self._absent, self._source, self.labels)
        self._pixels: list[np.ndarray] = []
        self._masks: list[np.ndarray | None] = []
        for record, label in zip(records, self.labels, strict=True):
            pixels = Scan.open(record.file).pixels
            mask = load_mask(record, pixels.shape)
            factor = min(1.0, _LONGEST / max(pixels.shape[:2]))
            height, width = (max(1, round(factor * n)) for n in pixels.shape[:2])
            seen = to_grey(pixels) if preprocess.grey else pixels
            self._pixels.append(np.ascontiguousarray(_sized(seen, width, height)))
            seen_mask = None if mask is None else _sized(mask.astype(np.uint8) * 255, width, height) > 127
            # A lesion that nobody outlined is somewhere: an empty mask would teach that it is nowhere.
            outlined = seen_mask is not None and (seen_mask.any() or label == self._absent)
            self._masks.append(seen_mask if outlined else None)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: ViewOf) -> View:
        seed = mix_seed(self._seed, self.epoch, *map(int, which))
        pixels, mask, label = self._pixels[which.record], self._masks[which.record], self.labels[which.record]
        known = mask is not None or label == self._absent
        if which.enlarged and known:
            pixels, mask = self._part(pixels, mask, np.random.default_rng(seed))
        plane, grid = self._varied(pixels, mask, seed)
        return View(plane, grid, label, known, self._source[which.record])

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
        longer = max(columns.max() - columns.min(), rows.max() - rows.min()) + 1
        context = CONTEXT * np.exp(rng.uniform(_BOX_SMALLER, _BOX_LARGER))
        x, y = (
            (edge.min() + edge.max() + 1) / 2 + rng.uniform(-_BOX_SHIFT, _BOX_SHIFT) * longer * context
            for edge in (columns, rows)
        )
        box = box_around(x, y, longer, shape, context)
        return cut(pixels, box), cut(mask, box)

    def _varied(self, pixels: np.ndarray, mask: np.ndarray | None, seed: int) -> tuple[np.ndarray, np.ndarray]:
        size, side = self._preprocess.size, self._side
        plane = resize(pixels, side, side)
        whole = np.zeros((side, side), np.uint8) if mask is None else _nearest(mask.astype(np.uint8), side)
        if self._augment:
            plane, whole = self._augment.with_mask(plane, whole, seed)
        grid = cv2.resize(whole.astype(np.float32), (size // _STEP, size // _STEP), interpolation=cv2.INTER_AREA)
        return plane, grid

    def order(self, epoch: int, *, balance: bool, enlarge: bool) -> list[ViewOf]:
        """Return the views of one epoch, shuffled; the same for the same seed and epoch.

        Args:
            epoch: counted from 0.
            balance: show the scans of smaller sources several times, so that each source weighs about the same.
            enlarge: show every second view enlarged: the other half at each scan's next turn.
        """
        sizes = np.bincount(self._source)
        turns = source_turns(self._source) if balance else np.ones(len(sizes), int)
        views = [
            ViewOf(number, enlarge and (epoch + repeat + number * (turns[source] == 1)) % 2 == 1, repeat)
            for number, source in enumerate(self._source)
            for repeat in range(turns[source])
        ]
        order = np.random.default_rng([self._seed, epoch]).permutation(len(views))
        return [views[number] for number in order]

    def collate(self, views: list[View]) -> Views:
        """Stack views."""
        return Views(
            torch.from_numpy(np.stack([view.plane for view in views])),
            torch.from_numpy(np.stack([view.mask for view in views])),
            torch.tensor([view.label for view in views]),
            torch.tensor([view.has_mask for view in views]),
            torch.tensor([self._with_absent[view.source] for view in views]),
        )


def _sized(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    return pixels if pixels.shape[:2] == (height, width) else resize(pixels, width, height)


def _nearest(mask: np.ndarray, side: int) -> np.ndarray:
    return cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
