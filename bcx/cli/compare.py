"""`bcx compare`: several architectures over the same grouped folds, and one leaderboard.

```
bcx compare configs/mobilenetv2-busi.yaml --archs mobilenetv2_100,resnet50,tiny_cnn --data busi=DIR --init FILE \
    --init-others scratch --folds 0 --epochs 3 --out results/compare/busi
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcx.cli.train import (
    ConfigArgument,
    DataOption,
    EpochsOption,
    InitOption,
    SeedOption,
    SetOption,
    needs_train_extra,
    read_recipe,
    read_records,
    recipe_words,
)
from bcx.errors import ConfigError

if TYPE_CHECKING:
    from bcx.data.records import Record
    from bcx.studies.compare import Entrant


def compare(
    out: Annotated[Path, typer.Option(help="Folder of the results; one folder per architecture inside.")],
    archs: Annotated[str, typer.Option(metavar="A,B,...", help="Architectures: timm's names, and tiny_cnn.")],
    config: ConfigArgument = None,
    data: DataOption = None,
    init: InitOption = None,
    init_for: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARCH=FILE|timm|scratch", help="Starting weights of one architecture; --init is the recipe's own."
        ),
    ] = None,
    init_others: Annotated[
        str,
        typer.Option(
            metavar="timm|scratch",
            help="Starting weights of the others. timm fetches ImageNet weights; scratch needs no connection, and "
            "every table says so.",
        ),
    ] = "timm",
    folds: Annotated[str | None, typer.Option(metavar="0,1,...", help="Folds to run; default all.")] = None,
    epochs: EpochsOption = None,
    seed: SeedOption = None,
    settings: SetOption = None,
    set_for: Annotated[
        list[str] | None,
        typer.Option(metavar="ARCH:KEY=VALUE", help="A setting of one architecture, such as vgg16:epochs=2."),
    ] = None,
) -> None:
    """Train several architectures on the same grouped folds, and write one leaderboard.

    Killed at any moment, the same command goes on where it was; what is finished is not run again.
    """
    recipe = read_recipe(config, data, None, init, epochs, seed, settings)
    with needs_train_extra():
        from bcx.studies.compare import compare as run
        from bcx.studies.compare import plan_comparison
        from bcx.studies.compare_table import leaderboard_markdown
    if init_others not in ("timm", "scratch"):
        raise ConfigError(
            f"--init-others is '{init_others}'.",
            expected="timm or scratch",
            remedy="Give files by architecture: --init-for ARCH=FILE.",
        )
    entrants = plan_comparison(
        recipe,
        [arch.strip() for arch in archs.split(",")],
        inits=dict(_pair(text, "--init-for ARCH=FILE") for text in init_for or []),
        others=init_others,
        changes=_changes(set_for or []),
    )
    records = read_records(recipe)
    at_hand = sorted({record.fold for record in records if record.fold is not None})
    chosen = at_hand if folds is None else _numbers(folds, at_hand)
    with _bars(entrants, records, chosen) as calls:
        results = run(
            entrants,
            records,
            out=out,
            folds=chosen,
            command=_command(config, archs, list(recipe.data), entrants, chosen),
            **calls,
        )
    typer.echo(leaderboard_markdown(results))
    typer.echo(f"Written: {out / 'results.json'}")


def _pair(text: str, form: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise ConfigError(f"'{text}' has no value.", expected=form, remedy="Add '=' and the value.")
    return key, value


def _changes(texts: Sequence[str]) -> dict[str, dict[str, Any]]:
    from bcx.data.settings import parse_value

    changes: dict[str, dict[str, Any]] = {}
    for text in texts:
        where, value = _pair(text, "--set-for ARCH:KEY=VALUE")
        arch, colon, key = where.partition(":")
        if not (colon and key):
            raise ConfigError(f"'{text}' names no setting.", expected="--set-for ARCH:KEY=VALUE", remedy="Add the key.")
        changes.setdefault(arch, {})[key] = parse_value(value)
    return changes


def _numbers(text: str, at_hand: Sequence[int]) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) in at_hand for part in parts):
        raise ConfigError(
            f"--folds is '{text}'.",
            expected=f"numbers out of {', '.join(map(str, at_hand))}, with commas between them",
            remedy="Correct the list.",
        )
    return sorted({int(part) for part in parts})


def _command(
    config: Path | None, archs: str, sources: Sequence[str], entrants: Sequence[Entrant], folds: Sequence[int]
) -> str:
    """Return the command with folders left out: results are published, paths of a machine are not."""
    parts = ["bcx compare", *recipe_words(config), f"--archs {archs}"]
    parts += [f"--data {source}=DIR" for source in sources]
    parts += [f"--init-for {entrant.recipe.arch}={Path(entrant.recipe.init).name}" for entrant in entrants]
    parts += [f"--folds {','.join(map(str, folds))}"]
    each = {entrant.recipe.epochs for entrant in entrants}
    if len(each) == 1:
        parts.append(f"--epochs {each.pop()}")
    else:
        parts += [f"--set-for {entrant.recipe.arch}:epochs={entrant.recipe.epochs}" for entrant in entrants]
    return " ".join([*parts, f"--seed {entrants[0].recipe.seed}"])


@contextmanager
def _bars(entrants: Sequence[Entrant], records: Sequence[Record], folds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Show one progress bar with the time left, in which a network's step counts by its multiply-accumulates."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    from bcx.train.crossval import split_fold

    def whole(entrant: Entrant) -> float:
        recipe = entrant.recipe
        sizes = [len(split_fold(records, fold)[0]) * (1 - recipe.inner_fraction) for fold in folds]
        return entrant.macs * recipe.epochs * sum(-(-int(size) // recipe.batch_size) for size in sizes)

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    done = 0.0
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        bar = progress.add_task("comparing", total=sum(map(whole, entrants)))

        def on_epoch(entrant: Entrant, fold: int, row: dict[str, Any], epochs: int) -> None:
            console.print(
                f"{entrant.recipe.arch}, fold {fold}, epoch {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
                f"accuracy {row['train_accuracy']:.3f}, {row['seconds']:.0f} s",
                highlight=False,
            )

        def on_done(entrant: Entrant) -> None:
            nonlocal done
            done += whole(entrant)  # also where it was finished before
            progress.update(bar, completed=done)

        yield {
            "on_epoch": on_epoch,
            "on_batch": lambda entrant: progress.advance(bar, entrant.macs),
            "on_done": on_done,
        }
