"""What the lesion head is trained to do: find the lesion, say whether there is one, and tell the two kinds apart.

Scans without a mask, and hospitals without normal scans, drop out of the terms that need them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from bcx.networks.lesion import LesionOut, pool, presence_odds
from bcx.train.config import LesionRecipe
from bcx.train.views import Views

# Weights of the terms, and of the rarer side in each; the pilots' values, not tuned.
_MASK = 0.7
_POSITIVE, _NEGATIVE = 1.4, 0.8
_LESION_PIXEL = 2.0
# A place counts as lesion for the evidence once the mask covers at least this many places of the grid.
_LEAST_COVER = 0.5


class LesionLoss(NamedTuple):
    """The terms of the loss, each a scalar, and `total`: their weighted sum, which is minimised."""

    kind: torch.Tensor
    presence: torch.Tensor
    mask: torch.Tensor
    total: torch.Tensor


def lesion_loss(
    out: LesionOut, views: Views, settings: LesionRecipe, *, absent: int, positive: int, smoothing: float
) -> LesionLoss:
    """Compare the head's maps with labels and masks.

    Terms: *kind*, cross-entropy of malignant against benign, half from the evidence under the predicted lesion, half
    from the evidence under the true mask; *presence*, cross-entropy of "there is a lesion"; *mask*, cross-entropy of
    every place plus 1 - Dice (Milletari et al. 2016).

    Args:
        out: float32, from `LesionNetwork`.
        views: the batch, on the same device.
        settings: weights of the presence term. `presence_elsewhere` is the one for hospitals that have no scans without
            a lesion: 1 lets "this hospital" pass for "a lesion", 0 learns presence from the other hospitals alone.
        absent, positive: positions of these classes.
        smoothing: targets are moved this far towards one half (label smoothing over two classes).
    """
    scores = pool(out)
    lesion = (views.labels != absent).float()
    malignant = (views.labels == positive).float()

    weight = lesion * torch.where(malignant == 1, _POSITIVE, _NEGATIVE)
    cover = views.masks.sum((1, 2))
    under_mask = (views.masks * out.evidence).sum((1, 2)) / cover.clamp(min=1e-3)
    predicted = _mean(_cross_entropy(2 * scores.malignancy, malignant, smoothing), weight)
    true = _mean(_cross_entropy(2 * under_mask, malignant, smoothing), weight * (cover > _LEAST_COVER))

    weight = torch.where(lesion == 1, 1.0, settings.absent)
    weight = weight * torch.where(views.with_absent, 1.0, settings.presence_elsewhere)
    presence = _mean(_cross_entropy(presence_odds(scores), lesion, smoothing), weight)

    chance = torch.sigmoid(out.lesion)
    places = binary_cross_entropy_with_logits(
        out.lesion, views.masks, pos_weight=out.lesion.new_tensor(_LESION_PIXEL), reduction="none"
    ).mean((1, 2))
    overlap = (2 * (chance * views.masks).sum((1, 2)) + 1) / (chance.sum((1, 2)) + cover + 1)
    mask = _mean(places + 1 - overlap, views.has_mask.float())
    kind = (predicted + true) / 2
    return LesionLoss(kind, presence, mask, kind + settings.presence * presence + _MASK * mask)


def _cross_entropy(odds: torch.Tensor, truth: torch.Tensor, smoothing: float) -> torch.Tensor:
    return binary_cross_entropy_with_logits(odds, truth * (1 - smoothing) + smoothing / 2, reduction="none")


def _mean(values: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted mean; 0 where nothing has weight."""
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)
