"""`bcx train` and `bcx crossval`: recipes and flags in, checkpoints and results out."""

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
    log_with: Annotated[
        str | None, typer.Option(metavar="tensorboard", help="Also log the epochs, into the folder 'logs' in --out.")
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a network and write its checkpoint. Killed at any moment, the same command goes on where it was.

    `accelerate launch -m bcx train ...` trains in several processes, each its share of every batch.
    """
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.report.card import write_card
        from bcx.train.logs import epoch_log
        from bcx.train.processes import processes
        from bcx.train.ship import train_checkpoint
        from bcx.train.steps import training_steps
    used = [record for record in records if record.fold is not None]
    folder = out or Path("checkpoints") / recipe.name
    main = processes().is_main_process
    with bars(lasting=True, quiet=not main) as progress, epoch_log(log_with, folder / "logs") as log:
        bar = progress.add_task("training", total=training_steps(recipe, used))

        def on_epoch(row: dict[str, Any], count: int) -> None:
            tell_epoch(progress, [], row, count)
            if main:
                log(row)

        written = train_checkpoint(
            recipe,
            records,
            folder,
            command=command_line("train", *recipe_words(config), data=recipe.data, init=recipe.init, seed=recipe.seed),
            measured=measured,
            on_epoch=on_epoch,
            on_batch=lambda: progress.advance(bar),
        )
    if main:
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
        from bcx.train.processes import processes
        from bcx.train.steps import training_steps
    folds = sorted({r.fold for r in records if r.fold is not None}) if not fold else sorted(set(fold))
    folder = out or Path("results") / recipe.name
    main = processes().is_main_process
    with bars(lasting=True, quiet=not main) as progress:
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
    if not main:
        return
    if results is None:
        typer.echo(f"Folds {folds} are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        typer.echo(f"{name}: {in_words(results['one_view'][name])}")
    typer.echo(f"Written: {folder / 'results.json'}")
