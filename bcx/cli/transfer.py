"""`bcx evaluate --transfer`: what a recipe is worth in a hospital, on a machine, in pictures that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from bcx.cli.progress import bars, tell_epoch
from bcx.cli.sources import command_line, in_words, needs_train_extra, read_recipe, read_records, recipe_words
from bcx.errors import DataError

if TYPE_CHECKING:
    from bcx.train.config import Recipe


def transfer(
    config: Path,
    data: Sequence[str],
    out: Path,
    *,
    init: str | None,
    settings: Sequence[str] | None,
    parts: Sequence[str] | None,
    machines: Sequence[str] | None,
    crossval: Path | None,
) -> None:
    """Run the study, or the part of it that was asked for, and say what it found; arguments as `bcx evaluate`."""
    recipe = read_recipe(config, data, settings, init=init)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.evaluate.corruptions import CORRUPTIONS
        from bcx.studies.transfer import is_done, transfer_study
        from bcx.studies.transfer_plan import PARTS, plan_runs
        from bcx.train.steps import training_steps
    wanted = parts or PARTS
    devices = _devices(recipe)
    left = [run for run in plan_runs(recipe, records, wanted, devices, machines) if not is_done(run, out)]
    trained = [run for run in left if crossval is None or run.part != "corruption"]
    pictures = sum(len(run.corrupted) * (1 + len(CORRUPTIONS)) for run in left)
    pictures += sum(2 * len(run.held) for run in trained)
    with bars(lasting=True) as progress:
        training = progress.add_task("training", total=sum(training_steps(recipe, run.train) for run in trained))
        answering = progress.add_task("answering", total=pictures)
        results = transfer_study(
            recipe,
            records,
            out=out,
            command=command_line(
                "evaluate",
                f"--transfer {recipe_words(config)[0]}",
                data=recipe.data,
                init=recipe.init,
                set=settings,
                parts=parts,
                machine=[f'"{machine}"' for machine in machines or ()],
                crossval=None if crossval is None else f"results/{crossval.resolve().name}",
            ),
            parts=wanted,
            devices=devices,
            machines=machines,
            crossval=crossval,
            on_epoch=lambda name, row, count: tell_epoch(progress, [name], row, count),
            on_batch=lambda: progress.advance(training),
            on_picture=lambda: progress.advance(answering),
        )
    for row in results["table"]:
        if row["auc"]["value"] is not None:
            typer.echo(f"{row['train_on']} -> {row['score_on']} ({row['lesions']} lesions): AUC {in_words(row['auc'])}")
    if "corruption" in results:
        drops = results["corruption"]["mean_drop"]
        typer.echo(f"Changed pictures: macro AUC falls by {in_words(drops['macro_auc'])}")
    typer.echo(f"Written: {out / 'results.json'} and {results['figure']}")


def _devices(recipe: Recipe) -> dict[str, str]:
    """Return the machine of each scan whose source says it."""
    from bcx.data.busbra import busbra_devices
    from bcx.data.readers import detect_kind

    devices: dict[str, str] = {}
    for name, folder in recipe.data.items():
        if detect_kind(name, Path(folder)) == "busbra":
            try:
                devices |= busbra_devices(Path(folder), name)
            except DataError as error:
                typer.echo(f"{error.found} No machine can be left out there.", err=True)
    return devices
