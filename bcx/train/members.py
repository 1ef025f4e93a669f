"""Train what a recipe describes: one network, several whose weights are averaged, or the members of an ensemble.

fitted = fit_network(recipe, training_records, out=Path("runs/both"))
fitted.network         # one network, or a `LesionEnsemble`
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.networks.ensemble import LesionEnsemble, PictureShare
from bcx.tasks import get_task
from bcx.train.average import average
from bcx.train.config import Recipe
from bcx.train.fit import Fitted, fit, run_fingerprint
from bcx.train.processes import processes
from bcx.train.provenance import read_json
from bcx.train.runs import NETWORK, NOTE, is_finished, noted
from bcx.train.steps import training_steps

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
    large tensors are rounded (see `bcx.checkpoints.checkpoint`).

    Args:
        recipe, train, inner, out, on_epoch, on_batch: as `fit`. With members, the history's rows have `member`, where
            trainings are averaged `training`.

    Raises:
        As `fit`.
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
