"""`bcx study`: questions that are answered once, on scans with outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcx.cli.progress import counted
from bcx.cli.sources import command_line, in_words, named_folders, needs_train_extra, read_sources

app = typer.Typer(name="study", no_args_is_help=True, help="Studies on scans with outlines.")

DataOption = Annotated[list[str], typer.Option("--data", metavar="NAME=DIR", help="Scans with lesion masks.")]


@app.command()
def descriptors(
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/studies/descriptors"),
) -> None:
    """Measure what orientation, shape, margin, echoes and posterior features tell of malignancy."""
    with needs_train_extra():
        from bcx.studies.descriptors import descriptor_rows, summarise
        from bcx.tasks import get_task
        from bcx.train.provenance import describe_command, describe_data, write_json
    task = get_task("breast-ultrasound")
    records = read_sources(named_folders(data), task)
    with counted(len(records), what="scans") as on_scan:
        frame = descriptor_rows(records, on_scan)
    found = summarise(frame, task)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "descriptors.csv", index=False, lineterminator="\n")
    command = command_line("study descriptors", data=named_folders(data))
    write_json(out / "descriptors.json", {**describe_command(command), "data": describe_data(records), **found})
    for name, area in found["auc"].items():
        typer.echo(f"{name}: {in_words(area)}")
