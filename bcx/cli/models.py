"""`bcx card`, `figures`, `reproduce`, `export`, `space` and `push`: what is said of a model, and where it goes."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from bcx import DEFAULT_MODEL
from bcx.cli import options
from bcx.cli.progress import counted
from bcx.cli.sources import named_folders, read_sources
from bcx.errors import ConfigError


def card(
    names: Annotated[
        list[str] | None, Argument(metavar="[NAME ...]", help="Checkpoints; default: all in ./checkpoints.")
    ] = None,
) -> None:
    """Write the model card, README.md, of checkpoints from their results."""
    from bcx.checkpoints.checkpoint import find_checkpoint
    from bcx.report.card import write_card

    folders = [find_checkpoint(name) for name in names or []]
    folders = folders or sorted(config.parent for config in Path("checkpoints").glob("*/config.json"))
    if not folders:
        remedy = "Run it where the folder 'checkpoints' lies, or name them."
        expected = "a folder with checkpoints, or their names"
        raise ConfigError("There is no checkpoint in ./checkpoints.", expected=expected, remedy=remedy)
    for folder in folders:
        typer.echo(f"Written: {write_card(folder)}")


def figures(
    name: options.NameArgument,
    out: Path | None = Option(None, "--out", "-o", help="Folder of the PNGs; default results/NAME/figures."),
    data: options.LabelledOption = None,
    pictures: Path | None = Option(
        None,
        metavar="DIR",
        help="Also draw pictures that show the scans: augmentation, the surest mistakes with maps, right and wrong "
        "answers. Never into a git checkout.",
    ),
    device: options.DeviceOption = "auto",
) -> None:
    """Draw a model's figures: curves, confusion, reliability, referral, net benefit, training; scans with --data."""
    if not data:
        options.refuse({"--pictures": pictures}, "without --data", "both")
    from bcx.checkpoints.checkpoint import find_checkpoint
    from bcx.evaluate.figures import draw_all
    from bcx.evaluate.oof import read_oof
    from bcx.report.facts import FIGURES, gather, telling_of
    from bcx.report.scans import draw_intensity, draw_pictures, refuse_repository

    facts = gather(find_checkpoint(name))
    if pictures is not None:
        refuse_repository(pictures)  # told before the work
    folder = out or (facts.measured and facts.measured / FIGURES)
    if folder is None:
        met = f"There is no folder results/{facts.name} to draw into."
        raise ConfigError(met, expected="--out DIR", remedy="Name a folder.")
    records = read_sources(named_folders(data), facts.task)
    with telling_of(facts.folder):
        frame = read_oof(facts.tables()[0], facts.task)
        written = draw_all(frame, facts.task, facts.results, folder, facts.histories())
    if records:
        with counted(len(records)) as on_scan:
            written.append(folder / "intensity.png")
            draw_intensity(records, facts.task, written[-1], on_scan)
    if pictures is not None:
        written += draw_pictures(facts, records, pictures)
    for path in written:
        typer.echo(f"Written: {path}")


def reproduce(
    name: options.NameArgument,
    data: options.LabelledOption = None,
    split: str = Option("dev", metavar="dev|test|all", help="Which scans of --data."),
    write: bool = Option(False, "--write", help="Write the figures that came out again into results.json."),
    device: options.DeviceOption = "auto",
) -> None:
    """Derive a card's figures again from the out-of-fold answers, and say which agree. Status 1 when one does not."""
    from bcx.checkpoints.checkpoint import find_checkpoint
    from bcx.report.facts import gather
    from bcx.report.reproduce import check_checkpoint, check_figures, check_scans, derive_again, store

    facts = gather(find_checkpoint(name))
    records = read_sources(named_folders(data), facts.task, split)
    again = derive_again(facts)
    checks = check_checkpoint(facts, again)
    if write:
        for path in store(facts, again):
            typer.echo(f"Written: {path}")
    else:
        checks = check_figures(facts.results, again) + checks
    if records:
        from bcx.evaluate.evaluation import evaluate
        from bcx.inference.classifier import Classifier
        from bcx.train.provenance import describe_data

        with counted(len(records)) as on_scan:
            evaluation = evaluate(Classifier(facts.folder), records, on_scan=on_scan)
        checks += check_scans(facts, describe_data(records), evaluation)

    from rich.console import Console
    from rich.table import Column, Table

    heads = ("figure", "stored", "again", "agrees")
    table = Table(*(Column(head, overflow="fold") for head in heads), box=None, pad_edge=False)
    for *texts, agrees in checks:
        table.add_row(*texts, {True: "yes", False: "NO", None: "-"}[agrees])
    Console(soft_wrap=False).print(table)
    held = [check.agrees for check in checks if check.agrees is not None]
    typer.echo(f"{sum(held)} of {len(held)} figures agree.")
    if not all(held):
        raise typer.Exit(1)


def export(
    checkpoint: Annotated[str, Argument(metavar="CHECKPOINT", help="A checkpoint: its name or folder.")],
) -> None:
    """Write model.onnx beside a checkpoint's weights, so that ONNX Runtime answers sooner.

    The file takes its place once its answers agree with torch's. Export again after the weights have changed.
    """
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.checkpoints.onnx_export import export_onnx

    file = export_onnx(load_checkpoint(checkpoint))
    typer.echo(f"{file.name} ({file.stat().st_size / 1e6:.1f} MB) is beside the weights in {file.parent}.")


def space(
    repo: options.RepoArgument,
    model: str = Option(
        DEFAULT_MODEL, "--model", "-m", help="The model that the page opens with: name, folder or Hub id."
    ),
    private: options.PrivateOption = False,
    hardware: str | None = Option(
        None, help="The Space's hardware, such as cpu-basic or zero-a10g; default: as it is."
    ),
    dry_run: Path | None = Option(None, "--dry-run", metavar="DIR", help="Write the Space there; upload nothing."),
    check: bool = Option(True, help="First install it into a fresh environment and answer an example: some minutes."),
) -> None:
    """Put the page on a Hugging Face Space: gather what it needs, check that it answers, upload it.

    Who is logged in decides where: `hf auth login`, or the variable HF_TOKEN.
    """
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.report.space import gather_space, try_space, upload

    with tempfile.TemporaryDirectory(prefix="bcx-space-") as place:
        cpu = hardware is None or hardware.startswith("cpu")
        folder = gather_space(dry_run or Path(place, "space"), load_checkpoint(model), cpu=cpu)
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        typer.echo(f"Gathered: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB.", err=True)
        if check:
            typer.echo("Installing it into a fresh environment (some minutes) ...", err=True)
            typer.echo(f"It answers: an example is '{try_space(folder)}'.", err=True)
        if dry_run is not None:
            typer.echo(f"Written: {dry_run}")
            return
        typer.echo(upload(folder, repo, kind="space", private=private, hardware=hardware))


def push(
    checkpoint: options.CheckpointArgument, repo: options.RepoArgument, private: options.PrivateOption = False
) -> None:
    """Put a checkpoint on the Hugging Face Hub, for `bcx.load("OWNER/NAME")`: weights, settings and card."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.report.space import ANSWERING, upload

    typer.echo(upload(load_checkpoint(checkpoint).folder, repo, kind="model", private=private, only=ANSWERING))
