"""`bcx leak`: what near-duplicates on both sides of a split are worth to a recipe's figures.

```
bcx leak r1-mobilenetv2 --data busi=DIR --init FILE --out results/leak/r1-mobilenetv2
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcx.cli.progress import counted_progress
from bcx.cli.train import DataOption, EpochsOption, InitOption, SetOption, needs_train_extra, read_recipe, read_records
from bcx.errors import ConfigError

if TYPE_CHECKING:
    from bcx.studies.protocols import ProtocolRun
    from bcx.train.config import Recipe


def leak(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A recipe's file, or its name in configs/.")],
    data: DataOption = None,
    init: InitOption = None,
    epochs: EpochsOption = None,
    settings: SetOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; default results/leak/<name>.")] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, with commas between them.")] = "0,1,2",
    train_only: Annotated[
        list[int] | None,
        typer.Option(help="Train only this fold; may be given several times. results.json follows once all are there."),
    ] = None,
) -> None:
    """Train a recipe under a random and under a grouped split, and measure the difference. It can be stopped."""
    recipe = read_recipe(config, data, None, init, epochs, None, settings)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.studies.leak import is_done, leak_study
        from bcx.studies.protocols import plan_protocols
    folder = out or Path("results") / "leak" / recipe.name
    wanted = _seeds(seeds)
    left = [
        run
        for run in plan_protocols(recipe, records, wanted)
        if not is_done(run, folder) and (not train_only or run.fold in train_only)
    ]
    with _bar(left) as told:
        results = leak_study(
            recipe,
            records,
            out=folder,
            command=_command(config, recipe, epochs, settings, wanted),
            seeds=wanted,
            only=train_only,
            **told,
        )
    if results is None:
        typer.echo("The folds asked for are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        found = {protocol: results["protocols"][protocol]["figures"][name] for protocol in ("random", "grouped")}
        texts = [f"{name}, {protocol}: {_figure(figure)}" for protocol, figure in found.items()]
        typer.echo("; ".join([*texts, f"difference: {_figure(results['leak'][name])}"]))
    typer.echo(f"Written: {folder / 'results.json'}")


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--seeds {text} is no list of whole numbers.", expected="such as 0,1,2", remedy="Correct it."
        ) from None


def _figure(figure: dict[str, Any]) -> str:
    """Write a figure with its interval, or a dash where it has no value."""
    if figure["value"] is None or figure["low"] is None:
        return "-" if figure["value"] is None else f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _command(
    config: Path, recipe: Recipe, epochs: int | None, settings: Sequence[str] | None, seeds: Sequence[int]
) -> str:
    """Return the command with folders left out: results are published, paths of a machine are not."""
    parts = ["bcx", "leak", config.name if config.parent.name in ("", "configs") else config.stem]
    parts += [f"--data {source}=DIR" for source in recipe.data]
    parts.append(f"--init {Path(recipe.init).name}")
    parts += [f"--epochs {epochs}"] if epochs is not None else []
    parts += [f"--set {setting}" for setting in settings or []]
    return " ".join([*parts, f"--seeds {','.join(map(str, seeds))}"])


@contextmanager
def _bar(runs: Sequence[ProtocolRun]) -> Iterator[dict[str, Any]]:
    """Show one progress bar with the time left on standard error, and a line per run."""
    from bcx.train.steps import training_steps

    total = sum(training_steps(run.recipe, run.train) for run in runs)
    with counted_progress() as progress:
        bar = progress.add_task("training", total=total)

        def on_epoch(run: ProtocolRun, row: dict[str, Any], epochs: int) -> None:
            words = f"{run.protocol}, seed {run.recipe.seed}, fold {run.fold}, epoch {row['epoch']}/{epochs}"
            accuracy, seconds = row["train_accuracy"], row["seconds"]
            progress.console.print(
                f"{words}: loss {row['train_loss']:.3f}, accuracy {accuracy:.3f}, {seconds:.0f} s", highlight=False
            )

        yield {"on_epoch": on_epoch, "on_batch": lambda: progress.advance(bar)}
