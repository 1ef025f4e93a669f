"""`bcx compare`: several architectures over the same grouped folds, and one leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcx.cli.options import ConfigArgument, DataOption, DeviceOption, EpochsOption, InitOption, SeedOption, SetOption
from bcx.cli.progress import bars, tell_epoch
from bcx.cli.sources import command_line, needs_train_extra, read_recipe, read_records, recipe_words
from bcx.errors import ConfigError

if TYPE_CHECKING:
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
    device: DeviceOption = "auto",
) -> None:
    """Train several architectures on the same grouped folds, and write one leaderboard.

    Killed at any moment, the same command goes on where it was; what is finished is not run again.
    """
    recipe = read_recipe(config, data, settings, init=init, epochs=epochs, seed=seed)
    with needs_train_extra():
        from bcx.studies.compare import compare as run
        from bcx.studies.compare import plan_comparison
        from bcx.studies.leaderboard import leaderboard_markdown
        from bcx.train.crossval import split_fold
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
    sizes = [len(split_fold(records, fold)[0]) for fold in chosen]

    def whole(entrant: Entrant) -> float:
        """Multiply-accumulates of all steps: what a network's part of the bar is as long as."""
        recipe = entrant.recipe
        steps = sum(-(-int(size * (1 - recipe.inner_fraction)) // recipe.batch_size) for size in sizes)
        return entrant.macs * recipe.epochs * steps

    with bars(lasting=True, counted=False) as progress:
        bar = progress.add_task("comparing", total=sum(map(whole, entrants)))
        done = 0.0

        def on_done(entrant: Entrant) -> None:
            nonlocal done
            done += whole(entrant)  # also where it was finished before
            progress.update(bar, completed=done)

        results = run(
            entrants,
            records,
            out=out,
            folds=chosen,
            command=_command(config, archs, list(recipe.data), entrants, chosen),
            on_epoch=lambda entrant, fold, row, count: tell_epoch(
                progress, [entrant.recipe.arch, f"fold {fold}"], row, count
            ),
            on_batch=lambda entrant: progress.advance(bar, entrant.macs),
            on_done=on_done,
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
    each = {entrant.recipe.epochs for entrant in entrants}
    single = [f"{entrant.recipe.arch}:epochs={entrant.recipe.epochs}" for entrant in entrants] if len(each) > 1 else []
    return command_line(
        "compare",
        *recipe_words(config),
        f"--archs {archs}",
        data=sources,
        init_for=[f"{entrant.recipe.arch}={Path(entrant.recipe.init).name}" for entrant in entrants],
        folds=",".join(map(str, folds)),
        epochs=None if single else each.pop(),
        set_for=single,
        seed=entrants[0].recipe.seed,
    )
