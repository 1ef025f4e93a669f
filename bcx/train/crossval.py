"""Grouped cross-validation: run k trains without fold k of every source, then answers that fold.

summary = crossval(recipe, records, out=Path("results/my-model"))
summary["one_view"]["accuracy"]      # {"value": ..., "low": ..., "high": ..., "n": ...}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bcx.checkpoints.checkpoint import save_checkpoint
from bcx.data.records import Record
from bcx.data.splits import check_split, inner_split
from bcx.errors import SplitError
from bcx.evaluate.derived import derive
from bcx.evaluate.oof import read_oof, write_oof
from bcx.tasks import get_task
from bcx.train.answer import answer_table
from bcx.train.config import Recipe
from bcx.train.fit import run_fingerprint
from bcx.train.members import fit_network, training_steps
from bcx.train.processes import processes
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import ANSWERS, NETWORK, NOTE, is_finished, noted


def split_fold(records: Sequence[Record], fold: int) -> tuple[list[Record], list[Record]]:
    """Return (training, held out) of run `fold`.

    A source with fewer folds than the run's number leaves out nothing in that run; records without a fold take no part.
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
    if recipe.inner_fraction == 0:
        return list(train), []
    return inner_split(train, recipe.inner_fraction, recipe.seed)


def crossval(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    only: Sequence[int] | None = None,
    leave_out: dict[str, list[str]] | None = None,
    on_epoch: Callable[[int, dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, Any] | None:
    """Run the grouped folds, each resumable, and write `oof.csv` and `results.json`.

    Each fold's network is kept as a checkpoint in `fold-K/network/`. A fold that is finished
    (its `fold-K/oof.csv` belongs to this recipe and data) is not run again.

    Args:
        out: folder of the results; `fold-K/` inside holds each run's history, predictions and snapshot.
        command: the command line, for the record.
        only: run these folds only; the summary is written once every fold is there.
        leave_out: names of figures given once more without the files listed (see `summarise_oof`).
        on_epoch: called with fold, history row, number of epochs.
        on_batch: called after every training step; at once for those of a fold that is finished.

    Returns:
        What results.json holds, or None while folds are missing, and in every process but the first that
        `accelerate launch` started.
    """
    task = get_task(recipe.task)
    folds = sorted({record.fold for record in records if record.fold is not None})
    done = []
    for fold in folds:
        folder = out / f"fold-{fold}"
        train, held = split_fold(records, fold)
        train, inner = cut_inner(recipe, train)
        fingerprint = run_fingerprint(recipe, train, inner)
        asked = only is None or fold in only
        if is_finished(folder, fingerprint, ANSWERS):
            done.append(fold)
            if on_batch and asked:
                for _ in range(training_steps(recipe, [*train, *inner])):
                    on_batch()
            continue
        if not asked:
            continue
        report = partial(on_epoch, fold) if on_epoch else None
        with noted(folder, fingerprint, n_train=len(train), n_inner=len(inner), n_held=len(held)):
            fitted = fit_network(recipe, train, inner, out=folder, on_epoch=report, on_batch=on_batch)
            if processes().is_main_process:  # one writes
                # Kept beside the results, so that maps can be asked of it later without training again.
                save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
                table, _ = answer_table(fitted.network, fitted.preprocess, held, fold, task)
                write_oof(folder / ANSWERS, table, task)
        done.append(fold)
    if len(done) < len(folds) or not processes().is_main_process:
        return None
    frame = pd.concat([read_oof(out / f"fold-{fold}" / ANSWERS, task) for fold in folds], ignore_index=True)
    write_oof(out / ANSWERS, frame, task)
    runs = [read_json(out / f"fold-{fold}" / NOTE) for fold in folds]
    results = {
        "what": "grouped cross-validation, pooled out-of-fold predictions",
        **describe_run(recipe, records, command),
        "seconds": round(sum(run["seconds"] for run in runs), 1),
        "runs": [{"fold": fold, **run} for fold, run in zip(folds, runs, strict=True)],
        "oof": {"file": ANSWERS, "rows": len(frame)},
        "note": "Probabilities are softmax(logits / temperature); the temperature was fitted on these logits, "
        "so log_loss, brier and ece are slightly optimistic; uncalibrated holds them without it.",
        **derive(frame, task, leave_out),
    }
    write_json(out / "results.json", results)
    return results
