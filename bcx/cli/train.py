"""`bcx train` and `bcx crossval`: recipes and flags in, checkpoints and results out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
from bcx.cli.sources import command_line, in_words, needs_train_extra, read_recipe, read_records, recipe_words


def train(
    config: ConfigArgument = None,
    data: DataOption = None,
    arch: ArchOption = None,
    init: InitOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the checkpoint; default checkpoints/<name>.")] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Results of `bcx crossval` with this recipe: the temperature and the figures.",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a network and write its checkpoint. Killed at any moment, the same command goes on where it was."""
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.report.card import write_card
        from bcx.train.ship import train_checkpoint
        from bcx.train.steps import training_steps
    used = [record for record in records if record.fold is not None]
    with bars(lasting=True) as progress:
        bar = progress.add_task("training", total=training_steps(recipe, used))
        written = train_checkpoint(
            recipe,
            records,
            out or Path("checkpoints") / recipe.name,
            command=command_line("train", *recipe_words(config), data=recipe.data, init=recipe.init, seed=recipe.seed),
            measured=measured,
            on_epoch=lambda row, count: tell_epoch(progress, [], row, count),
            on_batch=lambda: progress.advance(bar),
        )
    write_card(written)
    typer.echo(f"Written: {written}")


def crossval(
    config: ConfigArgument = None,
    data: DataOption = None,
    arch: ArchOption = None,
    init: InitOption = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default results/<name>.")] = None,
    fold: Annotated[list[int] | None, typer.Option(help="Run only this fold; may be given several times.")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train once per grouped fold, answer the fold left out, and write oof.csv and results.json."""
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.evaluate.derived import noted_scans
        from bcx.train.crossval import crossval as run
        from bcx.train.crossval import split_fold
        from bcx.train.steps import training_steps
    folds = sorted({r.fold for r in records if r.fold is not None}) if not fold else sorted(set(fold))
    folder = out or Path("results") / recipe.name
    with bars(lasting=True) as progress:
        steps = [training_steps(recipe, split_fold(records, number)[0]) for number in folds]
        bar = progress.add_task("training", total=sum(steps))
        results = run(
            recipe,
            records,
            out=folder,
            command=command_line(
                "crossval", *recipe_words(config), data=recipe.data, init=recipe.init, seed=recipe.seed
            ),
            only=folds,
            leave_out=noted_scans(record.key for record in records),
            on_epoch=lambda number, row, count: tell_epoch(progress, [f"fold {number}"], row, count),
            on_batch=lambda: progress.advance(bar),
        )
    if results is None:
        typer.echo(f"Folds {folds} are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        typer.echo(f"{name}: {in_words(results['one_view'][name])}")
    typer.echo(f"Written: {folder / 'results.json'}")
