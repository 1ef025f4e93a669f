"""Train what a recipe describes: one network, several whose weights are averaged, or the members of an ensemble."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.networks.ensemble import LesionEnsemble
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.dataset import source_turns
from bcx.train.fit import Fitted, fit, freeze_parts, run_fingerprint
from bcx.train.heads import Side, training_side
from bcx.train.processes import processes
from bcx.train.provenance import read_json
from bcx.train.runs import NETWORK, NOTE, is_finished, noted


def fit_network(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: Callable[[dict[str, Any], int], object] = lambda *_: None,
    on_batch: Callable[[], object] = lambda: None,
) -> Fitted:
    """Train by a recipe, as `bcx.train.fit.fit`; members, and trainings to be averaged, each in a folder of its own.

    A part that is finished (`member-K/run.json` belongs to its recipe and these scans) is not trained again, so that
    it may come from an earlier run. Its weights are those of its checkpoint, whose large tensors are rounded (see
    `bcx.checkpoints.checkpoint`). The history's rows have `member` or `training`.
    """
    parts, kind = recipe.member_recipes() or recipe.averaged_recipes(), "member" if recipe.members else "training"
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
                on_epoch({kind: number, **row}, epochs)

            with noted(folder, fingerprint, n_train=len(train), n_inner=len(inner)) as note:
                fitted = fit_network(part, train, inner, out=folder, on_epoch=report, on_batch=on_batch)
                if processes().is_main_process:
                    save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
                note["history"] = fitted.history
        else:
            for _ in range(training_steps(part, [*train, *inner])):  # taken earlier
                on_batch()
        kept = load_checkpoint(folder / NETWORK)
        networks.append(kept.network)
        history += [{kind: number, **row} for row in read_json(folder / NOTE).get("history", [])]
    whole = LesionEnsemble(networks) if recipe.members else average(parts[0], networks, train, on_batch=on_batch)
    return Fitted(whole, kept.preprocess, history)


def remove_members(out: Path) -> None:
    """Remove the members' and trainings' folders, once what was made of them is stored."""
    for folder in [*out.glob("member-*"), *out.glob("training-*")]:
        shutil.rmtree(folder)


def average(
    recipe: Recipe,
    networks: Sequence[nn.Module],
    train: Sequence[Record],
    *,
    on_batch: Callable[[], object] = lambda: None,
) -> nn.Module:
    """Return the mean of networks: in evaluation mode, float32, on the CPU.

    Where trainings share start and order and differ in how images are varied, that answers about as well as the mean of
    their answers (Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482). What the batch norms expect is
    estimated anew (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407), on the images of `recipe`, one of theirs.
    """
    side, states = training_side(recipe, train, get_task(recipe.task)), [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()  # whole numbers, such as a norm's count of batches, are the first's
    }
    side.network.load_state_dict(mean)
    estimate_norms(side, freeze_parts(side.backbone, recipe), on_batch=on_batch)
    return side.network.eval().requires_grad_(False)


@torch.no_grad()
def estimate_norms(side: Side, frozen: Sequence[nn.Module], *, on_batch: Callable[[], object] = lambda: None) -> None:
    """Set the batch norms' statistics to their mean over an epoch of training images; frozen ones keep theirs."""
    kept = {module for part in frozen for module in part.modules()}
    norms = [module for module in side.network.modules() if isinstance(module, _BatchNorm) and module not in kept]
    side.network.eval()  # no dropout
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over batches
        norm.train()
    for batch in DataLoader(side.dataset, batch_sampler=side.batches(0)):
        side.learn(side.network, batch)
        on_batch()
    side.network.eval()


def training_steps(recipe: Recipe, train: Sequence[Record]) -> int:
    """Return how many steps a recipe takes: all trainings, and an epoch for the batch norms of each mean of several.

    Nearly, where some groups are kept aside to watch; `train` has those too.
    """
    means = [part.averaged_recipes()[0] for part in recipe.member_recipes() or [recipe] if part.averaged]
    steps = sum(part.epochs * _steps_of_an_epoch(part, train) for part in recipe.trainings())
    return steps + sum(_steps_of_an_epoch(part, train) for part in means)


def _steps_of_an_epoch(recipe: Recipe, train: Sequence[Record]) -> int:
    shown = len(train)
    if (recipe.lesion or recipe).balance:
        sources = np.unique([record.source for record in train], return_inverse=True)[1]
        shown = source_turns(sources)[sources].sum()
    elif recipe.oversample:
        of_class = Counter(record.label for record in train)
        shown = len(of_class) * max(of_class.values())
    return -(-round(shown * (1 - recipe.inner_fraction)) // recipe.batch_size)
