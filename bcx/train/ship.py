"""Train on everything that cross-validation used, and write the checkpoint that people get, all but its card."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bcx.checkpoints.checkpoint import save_checkpoint
from bcx.data.records import Record
from bcx.errors import TrainingError
from bcx.tasks import get_task
from bcx.train.answer import answer_records
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner
from bcx.train.fit import STATE_FILE, write_history
from bcx.train.members import fit_network, remove_members
from bcx.train.processes import processes
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.trust.input_check import fit_input_check

# What may differ between the cross-validation and the training of the shipped network: neither changes the recipe.
_FREE = ("name", "seed", "workers", "folds", "published")


def train_checkpoint(
    recipe: Recipe,
    records: Sequence[Record],
    folder: Path,
    *,
    command: str,
    measured: Path | None = None,
    on_epoch: Callable[[dict[str, Any], int], object] = lambda *_: None,
    on_batch: Callable[[], object] = lambda: None,
) -> Path:
    """Train one network on all records that have a fold, and write its checkpoint.

    Args:
        folder: of the checkpoint; a snapshot inside it lets a killed run go on.
        measured: folder of `crossval` results with the same recipe, which gives the temperature, the operating point
            and the card's figures. Without it the temperature is 1, and the card says that nothing was measured.
    """
    task = get_task(recipe.task)
    figures = {} if measured is None else _figures(measured, recipe)
    used = [record for record in records if record.fold is not None]
    train, inner = cut_inner(recipe, used)
    fitted = fit_network(recipe, train, inner, out=folder, on_epoch=on_epoch, on_batch=on_batch)
    if not processes().is_main_process:
        return folder  # one writes
    described = np.stack([r.stages for r in answer_records(fitted.network, fitted.preprocess, train)])
    input_check = fit_input_check(described, np.array([record.fold for record in train]))
    seconds = round(sum(row["seconds"] for row in fitted.history), 1)  # also those before an interruption
    training = {**describe_run(recipe, used, command), "seconds": seconds, "scans": len(train)}
    save_checkpoint(
        folder,
        fitted.network,
        task=task,
        preprocess=fitted.preprocess,
        temperature=figures.get("temperature", 1.0),
        input_check=input_check.save(folder),
        decisions=figures.get("decisions", {}).get("rules"),
        training=training,
    )
    write_history(folder / "history.csv", fitted.history)
    write_json(folder / "results.json", figures or {"what": "training only; nothing was measured", **training})
    if measured is not None:
        shutil.copyfile(measured / "oof.csv", folder / "oof.csv")
    (folder / STATE_FILE).unlink(missing_ok=True)
    remove_members(folder)
    return folder


def _figures(measured: Path, recipe: Recipe) -> dict[str, Any]:
    file = measured / "results.json"
    if not file.is_file():
        raise TrainingError(
            f"'{measured.name}' holds no results.json.",
            expected="a folder that `bcx crossval` has finished",
            remedy="Run bcx crossval with this recipe first, or leave out --measured.",
        )
    figures = read_json(file)
    # Read as a recipe, so that settings which are younger than the results have the values that were fixed before.
    measured_with = Recipe.model_validate(figures["recipe"] | {"init": recipe.init})
    now, then = (r.model_dump(mode="json", exclude={"data", "init", *_FREE}) for r in (recipe, measured_with))
    if other := sorted(key for key, value in now.items() if then[key] != value):
        raise TrainingError(
            f"The results in '{measured.name}' were made with another {', '.join(other)}.",
            expected="the recipe that is trained now: figures belong to what they were measured on",
            remedy="Run bcx crossval with this recipe, or train with that one.",
        )
    return figures
