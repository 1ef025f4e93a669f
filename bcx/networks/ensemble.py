"""Several networks that answer together.

Members with the lesion head answer with their mean, every second of them of the mirror image. Members with the linear
head read the whole image: they answer in the first stage alone, and have their own share in each of the two questions,
"is there a lesion" and "malignant or benign". What each adds is linear, so every class's map still accounts exactly for
its logit. The input check reads the first member's stages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from bcx.errors import ConfigError
from bcx.networks.dense import DenseNetwork
from bcx.networks.lesion import LesionNetwork
from bcx.networks.tiny_cnn import TinyCnn


@dataclass(frozen=True)
class PictureShare:
    """What the members that read the whole image have of an answer, 0..1; the others have the rest."""

    presence: float = 1 / 3  # in "is there a lesion"
    kind: float = 1 / 3  # in "malignant or benign"


class LesionEnsemble(nn.Module):
    """Networks for the same task and input, run one after the other; `build.forward_maps` joins their answers."""

    def __init__(self, members: Sequence[nn.Module], share: PictureShare | None = None) -> None:
        """Put at least two networks together: a `LesionNetwork`, and others or timm's with the linear head."""
        super().__init__()
        others = [member for member in members if not isinstance(member, LesionNetwork)]
        fits = not any(isinstance(member, DenseNetwork | TinyCnn) for member in others)
        fits &= all(isinstance(getattr(member, "get_classifier", int)(), nn.Linear) for member in others)
        if len(members) < 2 or not isinstance(members[0], LesionNetwork) or not fits:
            raise ConfigError(
                f"An ensemble of {len(members)} networks, of other kinds than it can join.",
                expected="at least two networks, the first with the lesion head, others with that or the linear one",
                remedy="Give the recipe a 'lesion' block and two or more members, or no members.",
            )
        self.members = nn.ModuleList(members)
        self.share = share or PictureShare()

    @property
    def first(self) -> LesionNetwork:
        return cast(LesionNetwork, self.members[0])

    @property
    def lookers(self) -> list[LesionNetwork]:
        """The members with the lesion head, which answer in both stages."""
        return [member for member in self.members if isinstance(member, LesionNetwork)]

    @property
    def readers(self) -> list[nn.Module]:
        """The members that read the whole image, once."""
        return [member for member in self.members if not isinstance(member, LesionNetwork)]

    def weigh(self, values: torch.Tensor, presence: float, kind: float) -> torch.Tensor:
        """Return logits or maps in which the two questions are weighed differently.

        Logits z are taken apart into half the difference of the two kinds of lesion, d, and the rest, in which both
        kinds are alike. The rest is multiplied by `presence`, d by `kind`; `values` are float32 `[B, 3, ...]`.
        """
        absent, positive = self.first.absent, self.first.positive
        negative = 3 - absent - positive
        half = (values[:, positive] - values[:, negative]) / 2
        mean = (values[:, positive] + values[:, negative]) / 2
        parts = [presence * values[:, absent]] * 3
        parts[positive] = presence * mean + kind * half
        parts[negative] = presence * mean - kind * half
        return torch.stack(parts, 1)
