"""Train what a recipe describes: one network, several whose weights are averaged, or the members of an ensemble.

fitted = fit_network(recipe, training_records, out=Path("runs/both"))
fitted.network         # one network, or a `LesionEnsemble`
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.networks.ensemble import LesionEnsemble, PictureShare
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.dataset import source_turns
from bcx.train.fit import Fitted, fit, freeze_parts, run_fingerprint
from bcx.train.heads import Side, training_side
from bcx.train.processes import processes
from bcx.train.provenance import read_json
from bcx.train.runs import NETWORK, NOTE, is_finished, noted

_MEMBER, _TRAINING = "member", "training"


def fit_network(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: Callable[[dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Fitted:
    """Train by a recipe, as `bcx.train.fit.fit`; what it is made of, members or trainings, each in a folder of its own.

    A part that is finished (`member-K/run.json` belongs to its recipe and these scans) is not trained again, so that
    it may come from an earlier run, and another be added to it. Its weights are those of its checkpoint, whose
    large tensors are rounded (see `bcx.checkpoints.checkpoint`). With members, the history's rows have `member`, where
    trainings are averaged `training`.
    """
    parts, kind = (recipe.member_recipes(), _MEMBER) if recipe.members else (recipe.averaged_recipes(), _TRAINING)
    if not parts:
        return fit(recipe, train, inner, out=out, on_epoch=on_epoch, on_batch=on_batch)
    task = get_task(recipe.task)
    epochs = sum(training.epochs for training in recipe.trainings())
    networks, history = [], []
    for number, part in enumerate(parts):
        folder = out / f"{kind}-{number}"
        fingerprint = run_fingerprint(part, train, inner)
        if not is_finished(folder, fingerprint, f"{NETWORK}/config.json"):

            def report(row: dict[str, Any], _: int, number: int = number) -> None:
                if on_epoch:
                    on_epoch({kind: number, **row}, epochs)

            with noted(folder, fingerprint, n_train=len(train), n_inner=len(inner)) as note:
                fitted = fit_network(part, train, inner, out=folder, on_epoch=report, on_batch=on_batch)
                if processes().is_main_process:
                    save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
                note["history"] = fitted.history
        elif on_batch:
            for _ in range(training_steps(part, [*train, *inner])):  # taken earlier
                on_batch()
        kept = load_checkpoint(folder / NETWORK)
        networks.append(kept.network)
        history += [{kind: number, **row} for row in read_json(folder / NOTE).get("history", [])]
    if recipe.members:
        share = PictureShare(**recipe.picture.model_dump())
        return Fitted(LesionEnsemble(networks, share), kept.preprocess, history)
    return Fitted(average(parts[0], networks, train, on_batch=on_batch), kept.preprocess, history)


def remove_members(out: Path) -> None:
    """Remove the members' and trainings' folders, once what was made of them is stored."""
    for kind in (_MEMBER, _TRAINING):
        for folder in out.glob(f"{kind}-*"):
            shutil.rmtree(folder)


def average(
    recipe: Recipe,
    networks: Sequence[nn.Module],
    train: Sequence[Record],
    *,
    on_batch: Callable[[], None] | None = None,
) -> nn.Module:
    """Return the mean of networks: in evaluation mode, float32, on the CPU.

    Trainings that share their starting weights and their order of scans, and differ in how images are varied, end so
    near to each other that the mean of their weights answers about as well as the mean of their answers, at the cost of
    one network (Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482). What the batch norms expect is
    estimated anew (Izmailov et al. 2018, Averaging weights leads to wider optima, https://arxiv.org/abs/1803.05407).

    `recipe` is of one of the trainings: it says which images the batch norms see, and which norms are frozen.
    """
    side = training_side(recipe, train, get_task(recipe.task))
    side.network.load_state_dict(mean_state([network.state_dict() for network in networks]))
    estimate_norms(side, freeze_parts(side, recipe), on_batch=on_batch)
    return side.network.eval().requires_grad_(False)


def mean_state(states: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the mean of each tensor; whole numbers, such as a norm's count of batches, are the first's."""
    return {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }


@torch.no_grad()
def estimate_norms(side: Side, frozen: Sequence[nn.Module], *, on_batch: Callable[[], None] | None = None) -> None:
    """Set the batch norms' statistics to their mean over an epoch of training images; frozen ones keep theirs."""
    kept = {module for part in frozen for module in part.modules()}
    norms = [module for module in side.network.modules() if isinstance(module, _BatchNorm) and module not in kept]
    momenta = [norm.momentum for norm in norms]
    side.network.eval()  # no dropout
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over batches
        norm.train()
    for batch in DataLoader(side.dataset, batch_sampler=side.batches(0)):
        side.learn(side.network, batch)
        if on_batch:
            on_batch()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def training_steps(recipe: Recipe, train: Sequence[Record]) -> int:
    """Return how many steps a recipe takes: all trainings, and an epoch of images for each mean of several.

    Nearly, where some groups are kept aside to watch; `train` has those too.
    """
    means = [part for part in recipe.member_recipes() or [recipe] if part.averaged]
    once = [part.averaged_recipes()[0] for part in means]  # their batch norms are estimated anew
    steps = sum(part.epochs * _steps_of_an_epoch(part, train) for part in recipe.trainings())
    return steps + sum(_steps_of_an_epoch(part, train) for part in once)


def _steps_of_an_epoch(recipe: Recipe, train: Sequence[Record]) -> int:
    shown = len(train)
    if recipe.balance if recipe.lesion is None else recipe.lesion.balance:
        names = sorted({record.source for record in train})
        sources = [names.index(record.source) for record in train]
        shown = int(source_turns(sources)[sources].sum())
    elif recipe.oversample:
        of_class = Counter(record.label for record in train)
        shown = len(of_class) * max(of_class.values())
    return -(-round(shown * (1 - recipe.inner_fraction)) // recipe.batch_size)
