"""`bcx leak`: what near-duplicates on both sides of a split are worth to a recipe's figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcx.cli.options import DataOption, DeviceOption, EpochsOption, InitOption, RecipeArgument, SetOption
from bcx.cli.progress import bars, tell_epoch
from bcx.cli.sources import command_line, in_words, needs_train_extra, read_recipe, read_records
from bcx.errors import ConfigError


def leak(
    config: RecipeArgument,
    data: DataOption = None,
    init: InitOption = None,
    epochs: EpochsOption = None,
    settings: SetOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the results; default results/studies/leak/<name>.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between them.")] = "0,1,2",
    train_only: Annotated[
        list[int] | None,
        typer.Option(help="Train only this fold; may be given several times. results.json follows once all are there."),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Train a recipe under a random and under a grouped split, and measure the difference. It can be stopped."""
    recipe = read_recipe(config, data, settings, init=init, epochs=epochs)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.studies.leak import is_done, leak_study, plan_protocols
        from bcx.train.steps import training_steps
    folder = out or Path("results", "studies", "leak", recipe.name)
    wanted = _seeds(seeds)
    left = [
        run
        for run in plan_protocols(recipe, records, wanted)
        if not is_done(run, folder) and (not train_only or run.fold in train_only)
    ]
    with bars(lasting=True) as progress:
        bar = progress.add_task("training", total=sum(training_steps(run.recipe, run.train) for run in left))
        results = leak_study(
            recipe,
            records,
            out=folder,
            command=command_line(
                "leak",
                config.name if config.parent.name in ("", "configs") else config.stem,
                data=recipe.data,
                init=recipe.init,
                epochs=epochs,
                set=settings,
                seeds=",".join(map(str, wanted)),
            ),
            seeds=wanted,
            only=train_only,
            on_epoch=lambda run, row, count: tell_epoch(
                progress, [run.protocol, f"seed {run.recipe.seed}", f"fold {run.fold}"], row, count
            ),
            on_batch=lambda: progress.advance(bar),
        )
    if results is None:
        typer.echo("The folds asked for are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        found = {protocol: results["protocols"][protocol]["figures"][name] for protocol in ("random", "grouped")}
        texts = [f"{name}, {protocol}: {in_words(figure)}" for protocol, figure in found.items()]
        typer.echo("; ".join([*texts, f"difference: {in_words(results['leak'][name])}"]))
    typer.echo(f"Written: {folder / 'results.json'}")


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--seeds {text} is no list of whole numbers.", expected="such as 0,1,2", remedy="Correct it."
        ) from None
