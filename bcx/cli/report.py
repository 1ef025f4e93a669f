"""`bcx card`, `bcx figures` and `bcx reproduce`: what is said about a model, drawn, written and had again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcx.cli.options import DeviceOption, LabelledOption
from bcx.cli.progress import counted
from bcx.cli.sources import named_folders, needs_train_extra, read_sources
from bcx.errors import ConfigError, DataError

if TYPE_CHECKING:
    from bcx.report.facts import Facts
    from bcx.report.reproduce import Check

ModelArgument = Annotated[str, typer.Argument(metavar="NAME", help="A checkpoint: its name or folder.")]


def card(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME ...]", help="Checkpoints; default: all in ./checkpoints.")
    ] = None,
) -> None:
    """Write the model card, README.md, of checkpoints from their results."""
    from bcx.checkpoints.checkpoint import find_checkpoint
    from bcx.report.card import write_card

    folders = [find_checkpoint(name) for name in names or []]
    folders = folders or sorted(config.parent for config in Path("checkpoints").glob("*/config.json"))
    if not folders:
        raise ConfigError(
            "There is no checkpoint in ./checkpoints.",
            expected="a folder with checkpoints, or their names",
            remedy="Run it where the folder 'checkpoints' lies, or name them.",
        )
    for folder in folders:
        typer.echo(f"Written: {write_card(folder)}")


def figures(
    name: ModelArgument,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the PNGs; default results/NAME/figures.")
    ] = None,
    data: LabelledOption = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also draw pictures that show the scans: augmentation, the surest mistakes with maps, right and wrong "
            "answers. Never into a git checkout.",
        ),
    ] = None,
    device: DeviceOption = "auto",
) -> None:
    """Draw a model's figures: curves, confusion, reliability, referral, net benefit, training; scans with --data."""
    if pictures is not None and not data:
        raise ConfigError("--pictures was given without --data.", expected="both", remedy="Add --data NAME=DIR.")
    with needs_train_extra():
        from bcx.evaluate.figures import draw_all
        from bcx.evaluate.oof import read_oof
        from bcx.report.reproduce import oof_file
        from bcx.report.scans import draw_intensity, draw_pictures, refuse_repository
    from bcx.report.facts import FIGURES, telling_of

    facts = _facts(name)
    if pictures is not None:
        refuse_repository(pictures)  # told before the work
    if "risk_coverage" not in facts.results:
        raise DataError(
            f"The results of '{facts.name}' hold no curves.",
            expected="results.json as bcx crossval writes it now",
            remedy=f"Run bcx reproduce {facts.name} --write first.",
        )
    if out is None and facts.measured is None:
        raise ConfigError(
            f"There is no folder results/{facts.name} to draw into.", expected="--out DIR", remedy="Name a folder."
        )
    folder = out or facts.measured / FIGURES  # type: ignore[operator]
    records = read_sources(named_folders(data), facts.task)
    with telling_of(facts.folder):
        written = draw_all(read_oof(oof_file(facts), facts.task), facts.task, facts.results, folder, _histories(facts))
    if records:
        with counted(len(records)) as on_scan:
            written.append(folder / "intensity.png")
            draw_intensity(records, facts.task, written[-1], on_scan)
    if pictures is not None:
        written += draw_pictures(facts, records, pictures)
    for path in written:
        typer.echo(f"Written: {path}")


def reproduce(
    name: ModelArgument,
    data: LabelledOption = None,
    split: Annotated[str, typer.Option(metavar="dev|test|all", help="Which scans of --data.")] = "dev",
    write: Annotated[
        bool, typer.Option("--write", help="Write the figures that came out again into results.json.")
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Derive a card's figures again from the out-of-fold answers, and say which agree. Status 1 when one does not."""
    with needs_train_extra():
        from bcx.report.reproduce import check_checkpoint, check_figures, check_scans, derive_again, store

    facts = _facts(name)
    records = read_sources(named_folders(data), facts.task, split)
    again = derive_again(facts)
    checks = check_checkpoint(facts, again)
    if write:
        for path in store(facts, again):
            typer.echo(f"Written: {path}")
    else:
        checks = check_figures(facts.results, again) + checks
    if records:
        from bcx.checkpoints.checkpoint import load_checkpoint
        from bcx.evaluate.evaluation import evaluate
        from bcx.inference.classifier import Classifier
        from bcx.train.provenance import describe_data

        with counted(len(records)) as on_scan:
            evaluation = evaluate(Classifier(load_checkpoint(facts.folder)), records, on_scan=on_scan)
        checks += check_scans(facts, describe_data(records), evaluation)
    _tell(checks)
    if any(check.agrees is False for check in checks):
        raise typer.Exit(1)


def _facts(name: str) -> Facts:
    from bcx.checkpoints.checkpoint import find_checkpoint
    from bcx.report.facts import gather

    return gather(find_checkpoint(name))


def _histories(facts: Facts) -> dict[str, list[dict[str, str]]]:
    """Return the rows of each fold's history.csv, or of the shipped network's where there are none."""
    from bcx.data.tables import read_table

    files = {} if facts.measured is None else {f.parent.name: f for f in facts.measured.glob("fold-*/history.csv")}
    if not files and (facts.folder / "history.csv").is_file():
        files = {"the shipped model": facts.folder / "history.csv"}
    runs = {}
    for run, file in sorted(files.items()):
        rows = read_table(file, ("epoch",), layout="a row for each epoch of a training").rows
        runs[run.replace("-", " ")] = [row for _, row in rows]
    return runs


def _tell(checks: list[Check]) -> None:
    """Print the table, and how many agree."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in ("figure", "stored", "again", "agrees"):
        table.add_column(head, overflow="fold")
    for check in checks:
        table.add_row(check.what, check.stored, check.again, {True: "yes", False: "NO", None: "-"}[check.agrees])
    Console(soft_wrap=False).print(table)
    held = [check for check in checks if check.agrees is not None]
    typer.echo(f"{sum(bool(check.agrees) for check in held)} of {len(held)} figures agree.")
