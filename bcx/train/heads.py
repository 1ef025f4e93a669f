"""What differs between the heads while training: the pictures shown, their order, and the loss.

side = training_side(recipe, records, task)
side.network, side.preprocess, side.dataset
for batch in side.batches(epoch): ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset

from bcx.data.records import Record
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_dense_network, build_lesion_network, build_network
from bcx.networks.lesion import account
from bcx.tasks import Task
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.dataset import (
    ScanDataset,
    ShownBatch,
    balanced_order,
    collate,
    cut_batches,
    epoch_order,
    oversampled_order,
    sources_with,
)
from bcx.train.losses import lesion_loss
from bcx.train.views import LesionDataset, Views


class Learnt(NamedTuple):
    """One step: what to minimise, and what was answered (float32 `[B, C]`) against the truth (int64 `[B]`)."""

    loss: torch.Tensor
    probabilities: torch.Tensor
    labels: torch.Tensor


class Side(Protocol):
    """What `fit` needs to know of a head."""

    network: nn.Module
    backbone: nn.Module
    preprocess: Preprocess

    @property
    def dataset(self) -> Dataset[Any]:
        """The training pictures."""
        ...

    @property
    def collate(self) -> Any:
        """How pictures become a batch."""
        ...

    def batches(self, epoch: int) -> list[list[Any]]:
        """Indices of the dataset, batch by batch; as many batches in every epoch."""
        ...

    def learn(self, model: nn.Module, batch: Any) -> Learnt:
        """Run the wrapped network on a batch and compare."""
        ...


class LinearSide:
    """Whole scans and class-weighted cross-entropy, for the linear and the dense head."""

    def __init__(self, recipe: Recipe, records: Sequence[Record], task: Task) -> None:
        """Build the network and read the scans; errors as `fit`."""
        self._recipe = recipe
        self.network, self.backbone = recipe_network(recipe, task)
        self.preprocess = make_preprocess(recipe, self.backbone, task)
        self.dataset = ScanDataset(records, task, self.preprocess, **_variation(recipe))
        self.collate = collate
        self._weights = torch.ones(len(task.classes))
        if recipe.class_weight_cap is not None:
            self._weights = class_weights(self.dataset.labels, len(task.classes), recipe.class_weight_cap)
        self._absent = None if task.absent is None else task.classes.index(task.absent)
        having = sources_with(-1 if self._absent is None else self._absent, self.dataset.sources, self.dataset.labels)
        self._elsewhere = ~torch.tensor(having)

    def batches(self, epoch: int) -> list[list[int]]:
        """Every scan once, and scans of rarer classes or smaller sources again where the recipe asks for that."""
        self.dataset.epoch = epoch
        if self._recipe.balance:
            return balanced_order(self.dataset.sources, self._recipe.batch_size, self._recipe.seed, epoch)
        if self._recipe.oversample:
            return oversampled_order(self.dataset.labels, self._recipe.batch_size, self._recipe.seed, epoch)
        return epoch_order(len(self.dataset), self._recipe.batch_size, self._recipe.seed, epoch)

    def learn(self, model: nn.Module, batch: ShownBatch) -> Learnt:
        """Cross-entropy with class weights and label smoothing, focal where the recipe asks for that."""
        labels = batch.labels
        logits = model(self.preprocess.normalise(batch.planes)).float()
        weights = self._weights.to(logits.device)
        settings = self._recipe.focal, weights, self._recipe.label_smoothing
        loss = focal_loss(logits, labels, *settings)
        if self._absent is not None and self._recipe.presence_elsewhere < 1:
            elsewhere = self._elsewhere.to(logits.device)[batch.sources] & (labels != self._absent)
            kinds = leave_out(logits, elsewhere, self._absent)
            given = self._recipe.presence_elsewhere
            loss = given * loss + (1 - given) * focal_loss(kinds, labels, *settings)
        return Learnt(loss, logits.detach().softmax(1), labels)


class LesionSide:
    """Whole and enlarged views, and the three terms of `lesion_loss`."""

    def __init__(self, recipe: Recipe, settings: LesionRecipe, records: Sequence[Record], task: Task) -> None:
        """Build the network and read scans and masks; errors as `fit`."""
        self._recipe, self._settings = recipe, settings
        self.network, self.backbone = recipe_network(recipe, task)
        self.preprocess = make_preprocess(recipe, self.backbone, task)
        self.dataset = LesionDataset(records, task, self.preprocess, **_variation(recipe))
        self.collate = self.dataset.collate

    def batches(self, epoch: int) -> list[list[Any]]:
        """Smaller hospitals several times, every second view enlarged, as the recipe asks."""
        self.dataset.epoch = epoch
        views = self.dataset.order(epoch, balance=self._settings.balance, enlarge=self._settings.enlarge)
        return cut_batches(views, self._recipe.batch_size)

    def learn(self, model: nn.Module, batch: Views) -> Learnt:
        """See `bcx.train.losses`."""
        out = model(self.preprocess.normalise(batch.planes))
        absent, positive = self.network.absent, self.network.positive
        loss = lesion_loss(
            out,
            batch,
            self._settings,
            absent=absent,
            positive=positive,
            smoothing=self._recipe.label_smoothing,
        )
        with torch.no_grad():
            logits, _ = account(out, absent=absent, positive=positive)
        return Learnt(loss.total, logits.softmax(1), batch.labels)


def _variation(recipe: Recipe) -> dict[str, Any]:
    """How pictures are varied, in the words of both datasets."""
    return {"augment": recipe.augment, "seed": recipe.seed, "augmentation": recipe.augmentation}


def recipe_network(recipe: Recipe, task: Task) -> tuple[Any, nn.Module]:
    """Return a recipe's network before training, and its backbone, which may be the network itself.

    Raises:
        ConfigError, CheckpointError: as `bcx.networks.build.build_network` and its like.
    """
    if recipe.lesion is not None:
        lesion = build_lesion_network(recipe.arch, task, drop=recipe.drop, init=recipe.init)
        return lesion, lesion.backbone
    classes = len(task.classes)
    if recipe.dense is None:
        network = build_network(recipe.arch, classes, drop=recipe.drop, init=recipe.init, size=recipe.size)
        return network, network
    dense = build_dense_network(
        recipe.arch,
        classes,
        size=recipe.size,
        pool=recipe.dense.pool,
        widths=recipe.dense.widths,
        drops=recipe.dense.drops,
        init=recipe.init,
    )
    return dense, dense.backbone


def focal_loss(
    logits: torch.Tensor, labels: torch.Tensor, gamma: float, weights: torch.Tensor, smoothing: float
) -> torch.Tensor:
    """Return cross-entropy in which scans that are already answered well count less (Lin et al. 2017).

    Each scan's cross-entropy is multiplied by (1 - p)^gamma, p being the probability of its own class; gamma 0 is plain
    cross-entropy. As in torch's, the mean is over the scans' class weights.

    Args:
        logits: float32 `[B, C]`.
        labels: int64 `[B]`.
        gamma: 0 or more.
        weights: float32 `[C]`.
        smoothing: label smoothing, 0 to 1.
    """
    if gamma == 0:
        return cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing)
    each = cross_entropy(logits, labels, weight=weights, label_smoothing=smoothing, reduction="none")
    own = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return ((1 - own) ** gamma * each).sum() / weights[labels].sum()


def leave_out(logits: torch.Tensor, rows: torch.Tensor, column: int) -> torch.Tensor:
    """Return logits in which, in some rows, one class is out of the question, so that it neither learns nor teaches.

    Its logit there becomes the mean of the others' less 20: a probability of about e^-20, and a loss that does not care
    how high the others stand together. (With label smoothing a much lower one would outweigh everything else.)

    Args:
        logits: float32 `[B, C]`.
        rows: bool `[B]`.
        column: the class.
    """
    others = torch.cat([logits[:, :column], logits[:, column + 1 :]], 1).mean(1)
    changed = logits.clone()
    changed[:, column] = torch.where(rows, others - 20, logits[:, column])
    return changed


def training_side(recipe: Recipe, records: Sequence[Record], task: Task) -> Side:
    """Return what the recipe's head needs."""
    if recipe.lesion is None:
        return LinearSide(recipe, records, task)
    return LesionSide(recipe, recipe.lesion, records, task)


def make_preprocess(recipe: Recipe, backbone: nn.Module, task: Task) -> Preprocess:
    """Return the input that suits the starting weights: a file's TF-slim range, else what timm records."""
    cfg = backbone.pretrained_cfg
    slim = recipe.init not in ("timm", "scratch")
    mean = recipe.mean or ((0.5, 0.5, 0.5) if slim else tuple(cfg["mean"]))
    std = recipe.std or ((0.5, 0.5, 0.5) if slim else tuple(cfg["std"]))
    return Preprocess(size=recipe.size, mean=mean, std=std, grey=task.grey)


def class_weights(labels: Sequence[int], classes: int, cap: float) -> torch.Tensor:
    """Return float32 `[C]`: n / (C n_c), at most `cap`; 1 for a class without scans (it never enters the loss)."""
    counts = np.bincount(labels, minlength=classes)
    weights = [min(cap, len(labels) / (classes * count)) if count else 1.0 for count in counts]
    return torch.tensor(weights, dtype=torch.float32)
