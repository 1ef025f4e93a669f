"""One network out of several trainings from the same start: the mean of their weights.

Trainings that share their starting weights and their order of scans, and differ in how pictures are varied, end so near
to each other that the mean of their weights answers about as well as the mean of their answers, at the cost of one
network (Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482). What the batch norms expect is estimated
anew for it (Izmailov et al. 2018, Averaging weights leads to wider optima, https://arxiv.org/abs/1803.05407).

network = average(recipe, networks, training_records)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from bcx.data.records import Record
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.fit import freeze_parts
from bcx.train.heads import Side, training_side


def average(
    recipe: Recipe,
    networks: Sequence[nn.Module],
    train: Sequence[Record],
    *,
    on_batch: Callable[[], None] | None = None,
) -> nn.Module:
    """Return the mean of networks: in evaluation mode, float32, on the CPU.

    Args:
        recipe: of one of the trainings; says which pictures the batch norms see, and which of them are frozen.
        networks: what the trainings yielded; all of one kind.
        train: the scans that they were trained on.
        on_batch: called after every batch of the epoch of pictures that the norms see.

    Raises:
        ConfigError, DataError: as `bcx.train.fit.fit`.
    """
    side = training_side(recipe, train, get_task(recipe.task))
    side.network.load_state_dict(mean_state([network.state_dict() for network in networks]))
    estimate_norms(side, freeze_parts(side, recipe), on_batch=on_batch)
    return side.network.eval().requires_grad_(False)


def mean_state(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of each tensor; whole numbers, such as a norm's count of batches, are the first's."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


@torch.no_grad()
def estimate_norms(side: Side, frozen: Sequence[nn.Module], *, on_batch: Callable[[], None] | None = None) -> None:
    """Set the batch norms' statistics to their mean over an epoch of training pictures; frozen ones keep theirs."""
    kept = {id(module) for part in frozen for module in part.modules()}
    norms = [module for module in _norms(side.network) if id(module) not in kept]
    momenta = [norm.momentum for norm in norms]
    side.network.eval()  # no dropout
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over batches
        norm.train()
    for batch in DataLoader(side.dataset, batch_sampler=side.batches(0), collate_fn=side.collate):
        side.learn(side.network, batch)
        if on_batch:
            on_batch()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def _norms(network: nn.Module) -> Iterator[_BatchNorm]:
    return (module for module in network.modules() if isinstance(module, _BatchNorm))
