"""What the heads train on: scans in memory, varied afresh at every epoch, their order, and the loss."""

import hashlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from torch.utils.data import Dataset

from bcx.data.records import Record, load_mask
from bcx.imaging.crop import CONTEXT, box_around, cut
from bcx.imaging.preprocess import Preprocess, resize, to_grey, with_side
from bcx.imaging.scan import Scan
from bcx.networks.build import build_dense_network, build_lesion_network, build_network
from bcx.networks.lesion import LesionOut, account, pool, presence_odds
from bcx.tasks import Task
from bcx.train.augment import Augmentation, oversize
from bcx.train.config import LesionRecipe, Recipe

T = TypeVar("T")
#: Scans with views are kept at most this long (pixels): finer detail than the network sees at any zoom used here.
_LONGEST = 640
# Enlarged views: the box is as much larger (log scale) and as far off centre as the first stage's boxes are wrong.
_BOX_SMALLER, _BOX_LARGER, _BOX_SHIFT = -0.2, 0.35, 0.15
_FREE_SIDE = (0.35, 0.8)  # without a lesion, a square anywhere, this large in units of the scan's shorter side
_STEP = 8  # pixels of the input per place of the lesion map


class Shown(NamedTuple):
    """One image, uint8 `[S, S]` or `[S, S, 3]`; position of its class; position of its source; or a batch of them."""

    plane: Any
    label: Any
    source: Any


class ScanDataset(Dataset[Any]):
    """Scans and masks in memory; the same seed, epoch and index give the same pixels in any process.

    `augment` is the strength of `augmentation` (None: the task's); 0 shows the images as serving would.
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
        # With fewer than 5 % normal scans, a hospital's own look would pass for "a lesion".
        absent = np.asarray(self.labels) == self.absent
        self.with_absent = [bool(absent[self.sources == n].mean() >= 0.05) for n in np.unique(self.sources)]
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

    def order(self, *, balance: bool, oversample: bool) -> list[int]:
        """Return the indices of this epoch, shuffled; the same for the same seed and epoch.

        `balance` shows the scans of smaller sources several times. `oversample` draws scans of rarer classes again at
        random, with replacement, until all classes are as frequent.
        """
        n, labels = len(self), np.asarray(self.labels)
        rng = np.random.default_rng([self._seed, self.epoch, *([2] if balance else [1] if oversample else [])])
        order = list(range(n))
        if balance:
            turns = source_turns(self.sources)[self.sources]
            order = [index + n * turn for index, count in enumerate(turns) for turn in range(count)]
        elif oversample:
            counts, seen = np.bincount(labels), Counter[int]()
            for label in np.unique(labels):
                for index in rng.choice(np.flatnonzero(labels == label), counts.max() - counts[label]).tolist():
                    seen[index] += 1
                    order.append(index + n * seen[index])
        return rng.permutation(order).tolist()


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

    plane: Any  # uint8 `[S, S]` or `[S, S, 3]`
    mask: Any  # float32 `[S / 8, S / 8]`, the share of each place that is lesion; zeros where it is unknown
    label: Any
    has_mask: Any
    with_absent: Any  # whether the scan's source has scans without a lesion


class LesionDataset(ScanDataset):
    """Whole scans and crops around the lesion, as `View`.

    Scans without a mask, or with an empty one although they show a lesion, are only shown whole.
    """

    def _prepared(self, pixels: np.ndarray, mask: np.ndarray | None, label: int) -> tuple[np.ndarray, Any]:
        small = with_side(pixels, min(_LONGEST, max(pixels.shape[:2])))
        outline = None if mask is None else resize(mask.astype(np.uint8) * 255, *small.shape[1::-1]) > 127
        # A lesion that nobody outlined is somewhere: an empty mask would teach that it is nowhere.
        outlined = outline is not None and (outline.any() or label == self.absent)
        return small, outline if outlined else None

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
        left, top, width, height = cv2.boundingRect(mask.astype(np.uint8))
        longer = max(width, height)
        context = CONTEXT * np.exp(rng.uniform(_BOX_SMALLER, _BOX_LARGER))
        x, y = (
            middle + rng.uniform(-_BOX_SHIFT, _BOX_SHIFT) * longer * context
            for middle in (left + width / 2, top + height / 2)
        )
        box = box_around(x, y, longer, shape, context)
        return cut(pixels, box), cut(mask, box)

    def order(self, *, balance: bool, enlarge: bool) -> list[ViewOf]:  # type: ignore[override]
        """Return the views of this epoch, shuffled; the same for the same seed and epoch.

        `balance` shows the scans of smaller sources several times. `enlarge` shows every second view enlarged: the
        other half at each scan's next turn.
        """
        turns = source_turns(self.sources) if balance else np.ones(max(self.sources) + 1, int)
        views = [
            ViewOf(number, enlarge and (self.epoch + repeat + number * (turns[source] == 1)) % 2 == 1, repeat)
            for number, source in enumerate(self.sources)
            for repeat in range(turns[source])
        ]
        return [views[n] for n in np.random.default_rng([self._seed, self.epoch]).permutation(len(views))]


def mix_seed(*parts: int) -> int:
    """Mix whole numbers into one 31-bit seed; neighbouring inputs give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "big") >> 1


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


# Weights of the terms, and of the rarer side in each; the pilots' values, not tuned.
_MASK, _POSITIVE, _NEGATIVE, _LESION_PIXEL = 0.7, 1.4, 0.8, 2.0


class Side(ABC):
    """What `fit` needs to know of a head; errors as `fit`."""

    kind: type[ScanDataset] | type[LesionDataset]

    def __init__(self, recipe: Recipe, records: Sequence[Record], task: Task) -> None:
        self._recipe = recipe
        self.network, self.backbone = recipe_network(recipe, task)
        self.preprocess = make_preprocess(recipe, self.backbone, task)
        variation: Any = recipe.model_dump(include={"augment", "seed", "augmentation"})
        self.dataset: Any = self.kind(records, task, self.preprocess, **variation)

    def batches(self, epoch: int) -> list[list[Any]]:
        """Return indices of the dataset, batch by batch; as many batches in every epoch."""
        self.dataset.epoch = epoch
        asked = (self._recipe.lesion or self._recipe).model_dump(include={"balance", "oversample", "enlarge"})
        return cut_batches(self.dataset.order(**asked), self._recipe.batch_size)

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
    true = _mean(_cross_entropy(2 * under_mask, malignant, smoothing), weight * (cover > 0.5))  # places of the grid

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

    It gets the mean of the others' less 20; with label smoothing a much lower one would outweigh everything else.
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
