"""`bcx tune`: search for settings within the training part of one fold, which is never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bcx.cli.options import (
    ArchOption,
    ConfigArgument,
    DataOption,
    DeviceOption,
    EpochsOption,
    InitOption,
    SeedOption,
    SetOption,
)
from bcx.cli.progress import bars, tell_epoch
from bcx.cli.sources import command_line, needs_train_extra, read_recipe, read_records, recipe_words


def tune(
    out: Annotated[Path, typer.Option(help="Folder of the search.")],
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; those of earlier calls count.")],
    fold: Annotated[int, typer.Option(min=0, help="The outer fold, which takes no part: measure on it afterwards.")],
    config: ConfigArgument = None,
    data: DataOption = None,
    arch: ArchOption = None,
    init: InitOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    settings: SetOption = None,
    inner_folds: Annotated[
        int, typer.Option(min=2, max=20, help="Grouped folds that the training part is cut into.")
    ] = 3,
    run_folds: Annotated[
        int | None, typer.Option(min=1, help="How many of these each trial trains on; default all.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Search for learning rates, dropout, weight decay, augmentation, head and freezing; write best.yaml.

    Killed at any moment, the same command goes on where it was.
    """
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.train.tune import BEST_FILE, inner_folds_of
        from bcx.train.tune import tune as run
    run_on = inner_folds if run_folds is None else min(run_folds, inner_folds)
    sizes = [len(part) for part in inner_folds_of(records, fold, inner_folds, recipe.seed)]
    command = command_line(
        "tune",
        *recipe_words(config),
        data=recipe.data,
        arch=recipe.arch,
        init=recipe.init,
        epochs=recipe.epochs,
        seed=recipe.seed,
        fold=fold,
        inner_folds=inner_folds,
        run_folds=run_on,
        trials=trials,
    )
    steps = sum(-(-(sum(sizes) - size) // recipe.batch_size) for size in sizes[:run_on]) * recipe.epochs
    with bars(lasting=True) as progress:
        bar = progress.add_task("tuning, steps", total=steps * trials)

        def on_trial(trial: Any, ended: int) -> None:
            progress.update(bar, completed=steps * ended)  # a trial that was stopped early counts as whole
            value = "" if trial.value is None else f", {trial.value:.3f}"
            progress.console.print(f"trial {trial.number}: {trial.state.name.lower()}{value}", highlight=False)

        results = run(
            recipe,
            records,
            fold=fold,
            trials=trials,
            out=out,
            command=command,
            inner_folds=inner_folds,
            run_folds=run_on,
            on_epoch=lambda trial, inner, row, count: tell_epoch(
                progress, [f"trial {trial}", f"inner fold {inner}"], row, count
            ),
            on_batch=lambda: progress.advance(bar),
            on_trial=on_trial,
        )
    best, own = results["best"], results["recipe_as_it_stood"]
    beside = "" if own is None else f" (the recipe as it stood: {own['value']:.3f})"
    typer.echo(f"Best inner ROC-AUC: {best['value']:.3f} in trial {best['trial']}{beside}")
    for name, value in best["values"].items():
        typer.echo(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    typer.echo(f"Written: {out / BEST_FILE}")
