"""`bcx train` and `bcx crossval`: recipes and flags in, checkpoints and results out.

```
bcx train configs/mobilenetv2-busi.yaml --data busi=DIR --init FILE --out checkpoints/mobilenetv2-busi
bcx crossval configs/mobilenetv2-busi.yaml --data busi=DIR --init FILE --out results/mobilenetv2-busi
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcx.cli.progress import counted_progress, part_of
from bcx.errors import ConfigError, MissingExtra

if TYPE_CHECKING:
    from bcx.data.records import Record
    from bcx.train.config import Recipe

ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="A recipe, such as those in configs/.")
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=DIR",
        help="A source of scans; may be given several times. busi, busbra, breast, idc, breakhis and "
        "breakhis-40x (-100x, -200x, -400x) are known layouts; with any other name the layout is told from what is "
        "there.",
    ),
]
ArchOption = Annotated[str | None, typer.Option(help="timm's name of the network.")]
InitOption = Annotated[str | None, typer.Option(metavar="FILE|timm|scratch", help="Starting weights.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the run.")]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the recipe.")
]


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
) -> None:
    """Train a network and write its checkpoint. Killed at any moment, the same command goes on where it was."""
    recipe = read_recipe(config, data, arch, init, epochs, seed, settings)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.report.card import write_card
        from bcx.train.ship import train_checkpoint
    folder = out or Path("checkpoints") / recipe.name
    used = [record for record in records if record.fold is not None]
    with _bars(recipe, [used]) as (on_epoch, on_batch):
        written = train_checkpoint(
            recipe,
            records,
            folder,
            command=_command("train", config, recipe),
            measured=measured,
            on_epoch=lambda row, n: on_epoch(None, row, n),
            on_batch=on_batch,
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
) -> None:
    """Train once per grouped fold, answer the fold left out, and write oof.csv and results.json."""
    recipe = read_recipe(config, data, arch, init, epochs, seed, settings)
    records = read_records(recipe)
    with needs_train_extra():
        from bcx.train.crossval import crossval as run
        from bcx.train.crossval import split_fold
    folds = sorted({r.fold for r in records if r.fold is not None}) if not fold else sorted(set(fold))
    runs = [split_fold(records, number)[0] for number in folds]
    folder = out or Path("results") / recipe.name
    with _bars(recipe, runs) as (on_epoch, on_batch):
        results = run(
            recipe,
            records,
            out=folder,
            command=_command("crossval", config, recipe),
            only=folds,
            leave_out=_axilla(records),
            on_epoch=on_epoch,
            on_batch=on_batch,
        )
    if results is None:
        typer.echo(f"Folds {folds} are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        figure = results["one_view"][name]
        typer.echo(f"{name}: {figure['value']:.3f} (95 % interval {figure['low']:.3f} to {figure['high']:.3f})")
    typer.echo(f"Written: {folder / 'results.json'}")


def read_recipe(
    config: Path | None,
    data: list[str] | None,
    arch: str | None,
    init: str | None,
    epochs: int | None,
    seed: int | None,
    settings: list[str] | None,
) -> Recipe:
    """Lay the command line over a recipe's file; errors as `bcx.train.config.load_recipe`."""
    from bcx.data.pairs import parse_pair
    from bcx.data.settings import parse_value

    with needs_train_extra():
        from bcx.train.config import load_recipe

    values: dict[str, Any] = {"arch": arch, "init": init, "epochs": epochs, "seed": seed}
    values = {key: value for key, value in values.items() if value is not None}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text} has no value.", expected="--set KEY=VALUE", remedy="Add '=value'.")
        values[key] = parse_value(value)
    if data:
        values["data"] = {name: str(folder) for name, folder in map(parse_pair, data)}
    recipe = load_recipe(config, values)
    if not recipe.data:
        raise ConfigError(
            "No scans were named.",
            expected="at least one source",
            remedy="Add --data busi=DIR, or a 'data' block to the recipe.",
        )
    return recipe


def read_records(recipe: Recipe) -> list[Record]:
    """Read every source that the recipe names, with folds."""
    from bcx.data.busi import verify_manifest
    from bcx.data.cleaning import clean
    from bcx.data.readers import detect_kind, read_source
    from bcx.data.splits import assign_folds
    from bcx.tasks import get_task

    task = get_task(recipe.task)
    records: list[Record] = []
    for name, folder in recipe.data.items():
        part = read_source(name, Path(folder), task=task)
        if detect_kind(name, Path(folder)) == "busi":
            verify_manifest(part, Path(folder))  # a renamed file would carry another scan's label and group
        records += part
    cleaned = clean(records, task)
    if words := cleaned.in_words():
        typer.echo(f"Left out of {len(records)} patches: {words} (bcx data check lists them).", err=True)
    return assign_folds(cleaned.kept, recipe.folds, recipe.seed)


def _axilla(records: Sequence[Record]) -> dict[str, list[str]] | None:
    """Return BUSI's scans of the armpit, without which the figures are given once more."""
    from bcx.data.busi import busi_rows

    noted = {f"busi/{row.file}" for row in busi_rows() if row.note == "axilla"}
    keys = [record.key for record in records if record.key in noted]
    return {"axilla": keys} if keys else None


def _command(name: str, config: Path | None, recipe: Recipe) -> str:
    """Return the command with folders left out: results are published, paths of a machine are not."""
    parts = ["bcx", name, *recipe_words(config)]
    parts += [f"--data {source}=DIR" for source in recipe.data]
    parts.append(f"--init {Path(recipe.init).name}")
    return " ".join([*parts, f"--seed {recipe.seed}"])


def recipe_words(config: Path | None) -> list[str]:
    """Return how a command names its recipe in results: without this machine's folders; nothing for no recipe."""
    if config is None:
        return []
    return [f"configs/{config.name}" if config.parent.name == "configs" else config.name]


@contextmanager
def needs_train_extra() -> Iterator[None]:
    """Say which pip line brings a package that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"Training needs the package '{error.name}', which is not installed.",
            expected="the extra 'train'",
            remedy='Install it with: pip install "bcx[train]"',
        ) from error


@contextmanager
def _bars(recipe: Recipe, runs: Sequence[Sequence[Record]]) -> Iterator[tuple[Any, Any]]:
    """Show one progress bar with the time left on standard error, and a line per epoch; `runs`: what each trains on."""
    from bcx.train.steps import training_steps

    total = sum(training_steps(recipe, train) for train in runs)
    with counted_progress() as progress:
        bar = progress.add_task("training", total=total)

        def on_epoch(fold: int | None, row: dict[str, Any], epochs: int) -> None:
            watched = f", inner AUC {row['inner_roc_auc']:.3f}" if row.get("inner_roc_auc") is not None else ""
            where = [*([] if fold is None else [f"fold {fold}"]), *part_of(row)]
            progress.console.print(
                f"{', '.join([*where, 'epoch'])} {row['epoch']}/{epochs}: loss {row['train_loss']:.3f}, "
                f"accuracy {row['train_accuracy']:.3f}{watched}, {row['seconds']:.0f} s",
                highlight=False,
            )

        yield on_epoch, lambda: progress.advance(bar)
