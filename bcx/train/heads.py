"""What differs between the heads while training: the images shown, their order, and the loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from bcx.data.records import Record
from bcx.imaging.preprocess import Preprocess
from bcx.networks.build import build_dense_network, build_lesion_network, build_network
from bcx.networks.lesion import LesionOut, account, pool, presence_odds
from bcx.tasks import Task
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.dataset import (
    LesionDataset,
    ScanDataset,
    Shown,
    View,
    balanced_order,
    cut_batches,
    epoch_order,
    oversampled_order,
)

# Weights of the terms, and of the rarer side in each; the pilots' values, not tuned.
_MASK = 0.7
_POSITIVE, _NEGATIVE = 1.4, 0.8
_LESION_PIXEL = 2.0
# A place counts as lesion for the evidence once the mask covers at least this many places of the grid.
_LEAST_COVER = 0.5


class Side(ABC):
    """What `fit` needs to know of a head; errors as `fit`."""

    kind: type[ScanDataset] | type[LesionDataset]

    def __init__(self, recipe: Recipe, records: Sequence[Record], task: Task) -> None:
        self._recipe = recipe
        self.network, self.backbone = recipe_network(recipe, task)
        self.preprocess = make_preprocess(recipe, self.backbone, task)
        variation: dict[str, Any] = recipe.model_dump(include={"augment", "seed", "augmentation"})
        self.dataset: Any = self.kind(records, task, self.preprocess, **variation)

    @abstractmethod
    def batches(self, epoch: int) -> list[list[Any]]:
        """Return indices of the dataset, batch by batch; as many batches in every epoch."""

    @abstractmethod
    def learn(self, model: nn.Module, batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the network, which may be wrapped, on a batch; return loss and probabilities, float32 `[B, C]`."""


class LinearSide(Side):
    """Whole scans and class-weighted cross-entropy, for the linear and the dense head."""

    kind = ScanDataset

    def __init__(self, recipe: Recipe, records: Sequence[Record], task: Task) -> None:
        super().__init__(recipe, records, task)
        self._weights = torch.ones(len(task.classes))
        if recipe.class_weight_cap is not None:
            self._weights = class_weights(self.dataset.labels, len(task.classes), recipe.class_weight_cap)
        self._elsewhere = ~torch.tensor(self.dataset.with_absent)

    def batches(self, epoch: int) -> list[list[int]]:
        data, recipe = self.dataset, self._recipe
        data.epoch = epoch
        if recipe.balance:
            return balanced_order(data.sources, recipe.batch_size, recipe.seed, epoch)
        if recipe.oversample:
            return oversampled_order(data.labels, recipe.batch_size, recipe.seed, epoch)
        return epoch_order(len(data), recipe.batch_size, recipe.seed, epoch)

    def learn(self, model: nn.Module, batch: Shown) -> tuple[torch.Tensor, torch.Tensor]:
        """Cross-entropy with class weights and label smoothing."""
        labels, absent = batch.label, self.dataset.absent
        logits = model(self.preprocess.normalise(batch.plane)).float()
        settings: Any = {"weight": self._weights.to(logits.device), "label_smoothing": self._recipe.label_smoothing}
        loss, given = cross_entropy(logits, labels, **settings), self._recipe.presence_elsewhere
        if absent >= 0 and given < 1:
            elsewhere = self._elsewhere.to(logits.device)[batch.source] & (labels != absent)
            loss = given * loss + (1 - given) * cross_entropy(leave_out(logits, elsewhere, absent), labels, **settings)
        return loss, logits.detach().softmax(1)


class LesionSide(Side):
    """Whole and enlarged views, and the three terms of `lesion_loss`."""

    kind = LesionDataset

    def batches(self, epoch: int) -> list[list[Any]]:
        self.dataset.epoch = epoch
        settings: Any = self._recipe.lesion
        views = self.dataset.order(epoch, balance=settings.balance, enlarge=settings.enlarge)
        return cut_batches(views, self._recipe.batch_size)

    def learn(self, model: nn.Module, batch: View) -> tuple[torch.Tensor, torch.Tensor]:
        """`lesion_loss`; the answer is the head's own form, as in serving."""
        out = model(self.preprocess.normalise(batch.plane))
        places = {"absent": self.network.absent, "positive": self.network.positive}
        settings: Any = self._recipe.lesion
        loss = lesion_loss(out, batch, settings, smoothing=self._recipe.label_smoothing, **places)
        with torch.no_grad():
            logits, _ = account(out, **places)
        return loss.total, logits.softmax(1)


def training_side(recipe: Recipe, records: Sequence[Record], task: Task) -> Side:
    """Return what the recipe's head needs."""
    return (LinearSide if recipe.lesion is None else LesionSide)(recipe, records, task)


class LesionLoss(NamedTuple):
    """The terms of the loss, each a scalar, and `total`: their weighted sum, which is minimised."""

    kind: torch.Tensor
    presence: torch.Tensor
    mask: torch.Tensor
    total: torch.Tensor


def lesion_loss(
    out: LesionOut, views: View, settings: LesionRecipe, *, absent: int, positive: int, smoothing: float
) -> LesionLoss:
    """Compare the head's maps with labels and masks.

    Terms: *kind*, cross-entropy of malignant against benign, half from the evidence under the predicted lesion, half
    from the evidence under the true mask; *presence*, cross-entropy of "there is a lesion"; *mask*, cross-entropy of
    every place plus 1 - Dice (Milletari et al. 2016). With the weight `presence_elsewhere` of 1, "this hospital" may
    pass for "a lesion"; with 0 presence is learned from hospitals with normal scans alone.
    """
    scores = pool(out)
    lesion = (views.label != absent).float()
    malignant = (views.label == positive).float()

    weight = lesion * torch.where(malignant == 1, _POSITIVE, _NEGATIVE)
    cover = views.mask.sum((1, 2))
    under_mask = (views.mask * out.evidence).sum((1, 2)) / cover.clamp(min=1e-3)
    predicted = _mean(_cross_entropy(2 * scores.malignancy, malignant, smoothing), weight)
    true = _mean(_cross_entropy(2 * under_mask, malignant, smoothing), weight * (cover > _LEAST_COVER))

    weight = torch.where(lesion == 1, 1.0, settings.absent)
    weight = weight * torch.where(views.with_absent, 1.0, settings.presence_elsewhere)
    presence = _mean(_cross_entropy(presence_odds(scores), lesion, smoothing), weight)

    chance = torch.sigmoid(out.lesion)
    places = binary_cross_entropy_with_logits(
        out.lesion, views.mask, pos_weight=out.lesion.new_tensor(_LESION_PIXEL), reduction="none"
    ).mean((1, 2))
    overlap = (2 * (chance * views.mask).sum((1, 2)) + 1) / (chance.sum((1, 2)) + cover + 1)
    mask = _mean(places + 1 - overlap, views.has_mask.float())
    kind = (predicted + true) / 2
    return LesionLoss(kind, presence, mask, kind + settings.presence * presence + _MASK * mask)


def _cross_entropy(odds: torch.Tensor, truth: torch.Tensor, smoothing: float) -> torch.Tensor:
    return binary_cross_entropy_with_logits(odds, truth * (1 - smoothing) + smoothing / 2, reduction="none")


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean; 0 where nothing has weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


def recipe_network(recipe: Recipe, task: Task) -> tuple[Any, nn.Module]:
    """Return a recipe's network before training, and its backbone, which may be the network itself."""
    if recipe.lesion is not None:
        lesion = build_lesion_network(recipe.arch, task, drop=recipe.drop, init=recipe.init)
        return lesion, lesion.backbone
    classes = len(task.classes)
    if recipe.dense is None:
        network = build_network(recipe.arch, classes, drop=recipe.drop, init=recipe.init, size=recipe.size)
        return network, network
    dense = build_dense_network(recipe.arch, classes, size=recipe.size, init=recipe.init, **dict(recipe.dense))
    return dense, dense.backbone


def leave_out(logits: torch.Tensor, rows: torch.Tensor, column: int) -> torch.Tensor:
    """Return logits in which, in some rows, one class is out of the question, so that it neither learns nor teaches.

    Its logit there becomes the mean of the others' less 20 (with label smoothing a much lower one would outweigh
    everything else).
    """
    others = torch.cat([logits[:, :column], logits[:, column + 1 :]], 1).mean(1)
    changed = logits.clone()
    changed[:, column] = torch.where(rows, others - 20, logits[:, column])
    return changed


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
