"""Grouped cross-validation: run k trains without fold k of every source, then answers that fold; and what ships."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.checkpoints.checkpoint import save_checkpoint
from bcx.data.records import Record
from bcx.data.splits import check_split, inner_split
from bcx.errors import SplitError, TrainingError
from bcx.evaluate.derived import derive
from bcx.evaluate.oof import read_oof, write_oof
from bcx.tasks import get_task
from bcx.train.answer import answer_records, answer_table
from bcx.train.config import Recipe
from bcx.train.fit import fit_network, run_fingerprint, training_steps, write_history
from bcx.train.processes import processes
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import ANSWERS, NETWORK, NOTE, OnEpoch, Tick, carry_out, is_finished, noted
from bcx.train.state import STATE_FILE
from bcx.trust.input_check import fit_input_check


def split_fold(records: Sequence[Record], fold: int) -> tuple[list[Record], list[Record]]:
    """Return (training, held out) of run `fold`; records without a fold take no part.

    Nothing to hold out, or a group in two folds, is a `SplitError`.
    """
    held = [record for record in records if record.fold == fold]
    train = [record for record in records if record.fold is not None and record.fold != fold]
    if not held or not train:
        raise SplitError(
            f"Fold {fold} holds {len(held)} scans and the others {len(train)}.",
            expected="scans on both sides",
            remedy="Check the 'fold' column of the manifest, or the number of folds.",
        )
    check_split(train, held)
    return train, held


def cut_inner(recipe: Recipe, train: Sequence[Record]) -> tuple[list[Record], list[Record]]:
    """Cut the recipe's inner validation part out of training records, by whole groups; none where it asks for none."""
    return inner_split(train, recipe.inner_fraction, recipe.seed) if recipe.inner_fraction else (list(train), [])


@dataclass(frozen=True)
class Fold:
    """One run of a cross-validation."""

    recipe: Recipe
    number: int
    folder: Path
    train: list[Record]
    inner: list[Record]
    held: list[Record]

    @property
    def fingerprint(self) -> str:
        """A hash of what determines its answers."""
        return run_fingerprint(self.recipe, self.train, self.inner)

    def is_finished(self) -> bool:
        """Whether its answers are there, of this recipe on these scans."""
        return is_finished(self.folder, self.fingerprint, ANSWERS)


def plan_folds(recipe: Recipe, records: Sequence[Record], out: Path) -> list[Fold]:
    """Return the runs of a cross-validation, whose folders lie in `out`."""
    folds = []
    for number in sorted({record.fold for record in records if record.fold is not None}):
        train, held = split_fold(records, number)
        folds.append(Fold(recipe, number, out / f"fold-{number}", *cut_inner(recipe, train), held))
    return folds


def run_fold(fold: Fold, on_epoch: Callable[[int, dict[str, Any], int], object], on_batch: Tick = lambda: None) -> None:
    """Train without a fold and answer it, unless that was done; then its steps are told at once."""
    recipe, task = fold.recipe, get_task(fold.recipe.task)
    if fold.is_finished():
        for _ in range(training_steps(recipe, [*fold.train, *fold.inner])):
            on_batch()
        return
    counts = {"n_train": len(fold.train), "n_inner": len(fold.inner), "n_held": len(fold.held)}
    with noted(fold.folder, fold.fingerprint, **counts):
        told = partial(on_epoch, fold.number)
        fitted = fit_network(recipe, fold.train, fold.inner, out=fold.folder, on_epoch=told, on_batch=on_batch)
        if processes().is_main_process:  # one writes
            # Kept beside the results, so that maps can be asked of it later without training again.
            save_checkpoint(fold.folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
            table, _ = answer_table(fitted.network, fitted.preprocess, fold.held, fold.number, task)
            write_oof(fold.folder / ANSWERS, table, task)


def crossval(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    only: Sequence[int] | None = None,
    leave_out: dict[str, list[str]] | None = None,
    on_epoch: Callable[[int, dict[str, Any], int], object] = lambda *_: None,
    on_batch: Tick = lambda: None,
    cluster: str | None = None,
) -> dict[str, Any] | None:
    """Run the grouped folds, each resumable, and write `oof.csv` and `results.json`.

    A fold that is finished (its `fold-K/oof.csv` belongs to this recipe and data) is not run again.

    Args:
        out: folder of the results; `fold-K/` inside holds each run's history, predictions, network and snapshot.
        only: run these folds only; the summary is written once every fold is there.
        leave_out: names of figures given once more without the files listed (see `bcx.evaluate.derived.derive`).
        on_epoch: called with fold, history row, number of epochs; `on_batch` as by `bcx.train.fit.fit`.
        cluster: address of a Ray cluster, for folds side by side (see `bcx.train.runs.carry_out`).

    Returns:
        What results.json holds; None while folds are missing, and in all processes but the first.
    """
    task, folds = get_task(recipe.task), plan_folds(recipe, records, out)
    asked = [fold for fold in folds if only is None or fold.number in only]
    told: dict[str, Callable[..., object]] = {"on_epoch": on_epoch, "on_batch": on_batch}
    for _ in carry_out(asked, run_fold, told, out=out, most=len(asked), is_done=Fold.is_finished, cluster=cluster):
        pass
    if not processes().is_main_process or not all(fold.is_finished() for fold in folds):
        return None
    frame = pd.concat([read_oof(fold.folder / ANSWERS, task) for fold in folds], ignore_index=True)
    write_oof(out / ANSWERS, frame, task)
    runs = [read_json(fold.folder / NOTE) for fold in folds]
    results = {
        "what": "grouped cross-validation, pooled out-of-fold predictions",
        **describe_run(recipe, records, command),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "runs": [{"fold": fold.number, **run} for fold, run in zip(folds, runs, strict=True)],
        "oof": {"file": ANSWERS, "rows": len(frame)},
        "note": "Probabilities are softmax(logits / temperature); the temperature was fitted on these logits, "
        "so log_loss, brier and ece are slightly optimistic; uncalibrated holds them without it.",
        **derive(frame, task, leave_out),
    }
    write_json(out / "results.json", results)
    return results


# What may differ between the cross-validation and the training of the shipped network: neither changes the recipe.
_FREE = ("name", "seed", "workers", "folds", "published")


def train_checkpoint(
    recipe: Recipe,
    records: Sequence[Record],
    folder: Path,
    *,
    command: str,
    measured: Path | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_batch: Tick = lambda: None,
) -> Path:
    """Train one network on all records that have a fold, and write its checkpoint.

    A snapshot in its folder lets a killed run go on. `measured` is the folder of `crossval` results with the same
    recipe, which gives the temperature, the operating point and the card's figures. Without it the temperature is 1,
    and the card says that nothing was measured.
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
    for part in [*folder.glob("member-*"), *folder.glob("training-*")]:
        shutil.rmtree(part)
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
