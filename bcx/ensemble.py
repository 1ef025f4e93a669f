"""Several networks with the lesion head that answer together: their mean.

Logits, class maps and the lesion map are averaged, so that each class's map still accounts exactly for its logit: the
mean of a mean. The gate reads the first member's stages.

>>> import torch
>>> from bcx.model import build_lesion_network, forward_maps
>>> from bcx.tasks import get_task
>>> members = [build_lesion_network("mobilenetv2_035", get_task("breast-ultrasound")) for _ in range(2)]
>>> out = forward_maps(LesionEnsemble(members).eval(), torch.rand(1, 3, 64, 64))
>>> bool(torch.allclose(out.maps.mean((2, 3)), out.logits, atol=1e-5))
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import nn

from bcx.errors import ConfigError
from bcx.lesion import LesionNetwork


class LesionEnsemble(nn.Module):
    """Networks for the same task and input, run one after the other; `bcx.model.forward_maps` averages them."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Put networks together.

        Args:
            members: `LesionNetwork`s, at least two; timm loads the backbone of the first.

        Raises:
            ConfigError: fewer, or another kind of network among them.
        """
        super().__init__()
        if len(members) < 2 or not all(isinstance(member, LesionNetwork) for member in members):
            raise ConfigError(
                f"An ensemble of {len(members)} networks, not all with the lesion head.",
                expected="at least two networks with the lesion head",
                remedy="Give the recipe a 'lesion' block and two or more members, or no members.",
            )
        self.members = nn.ModuleList(members)

    @property
    def first(self) -> LesionNetwork:
        """The member whose backbone timm loads."""
        return cast(LesionNetwork, self.members[0])
