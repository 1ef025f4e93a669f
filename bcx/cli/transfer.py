"""`bcx evaluate --transfer`: what a recipe is worth in a hospital, on a machine, in pictures that it never saw.

```
bcx evaluate --transfer configs/mobilenetv2-lesion.yaml --data busi=DIR --data busbra=DIR --init FILE \\
    --crossval results/mobilenetv2-lesion --out results/mobilenetv2-lesion/transfer
```
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bcx.cli.progress import counted_progress, part_of
from bcx.cli.train import needs_train_extra, read_recipe, read_records
from bcx.errors import DataError

if TYPE_CHECKING:
    from bcx.studies.transfer_plan import Run
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
    recipe = read_recipe(config, list(data), None, init, None, None, list(settings or []))
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.studies.transfer import is_finished, transfer_study
        from bcx.studies.transfer_plan import PARTS, plan_runs
    wanted = parts or PARTS
    devices = _devices(recipe)
    left = [run for run in plan_runs(recipe, records, wanted, devices, machines) if not is_finished(run, recipe, out)]
    trained = [run for run in left if crossval is None or run.part != "corruption"]
    with _bars(recipe, trained, left) as told:
        results = transfer_study(
            recipe,
            records,
            out=out,
            command=_command(config, recipe, settings, parts, machines, crossval),
            parts=wanted,
            devices=devices,
            machines=machines,
            crossval=crossval,
            **told,
        )
    for row in results["table"]:
        if row["auc"]["value"] is not None:
            typer.echo(f"{row['train_on']} -> {row['score_on']} ({row['lesions']} lesions): AUC {_figure(row['auc'])}")
    if "corruption" in results:
        drops = results["corruption"]["mean_drop"]
        typer.echo(f"Changed pictures: macro AUC falls by {_figure(drops['macro_auc'])}")
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


def _command(
    config: Path,
    recipe: Recipe,
    settings: Sequence[str] | None,
    parts: Sequence[str] | None,
    machines: Sequence[str] | None,
    crossval: Path | None,
) -> str:
    """Return the command with folders left out: results are published, paths of a machine are not."""
    name = f"configs/{config.name}" if config.parent.name == "configs" else config.name
    words = [f"bcx evaluate --transfer {name}", *(f"--data {source}=DIR" for source in recipe.data)]
    words.append(f"--init {Path(recipe.init).name}")
    words += [f"--set {setting}" for setting in settings or ()]
    words += [f"--parts {part}" for part in parts or ()]
    words += [f'--machine "{machine}"' for machine in machines or ()]
    if crossval is not None:
        words.append(f"--crossval results/{crossval.resolve().name}")
    return " ".join(words)


def _figure(figure: dict[str, Any]) -> str:
    if figure["low"] is None:
        return f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"


@contextmanager
def _bars(recipe: Recipe, trained: Sequence[Run], left: Sequence[Run]) -> Iterator[dict[str, Callable[..., None]]]:
    """Show what is left to train and to answer on standard error, and a line per epoch."""
    from bcx.evaluate.corruptions import CORRUPTIONS
    from bcx.train.steps import training_steps

    steps = sum(training_steps(recipe, run.train) for run in trained)
    pictures = sum(len(run.corrupted) * (1 + len(CORRUPTIONS)) for run in left)
    pictures += sum(2 * len(run.held) for run in trained)
    with counted_progress() as progress:
        training = progress.add_task("training", total=steps)
        answering = progress.add_task("answering", total=pictures)

        def on_epoch(name: str, row: dict[str, Any], epochs: int) -> None:
            progress.console.print(
                f"{', '.join([name, *part_of(row), 'epoch'])} {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
                f"accuracy {row['train_accuracy']:.3f}, {row['seconds']:.0f} s",
                highlight=False,
            )

        yield {
            "on_epoch": on_epoch,
            "on_batch": lambda: progress.advance(training),
            "on_picture": lambda: progress.advance(answering),
        }
