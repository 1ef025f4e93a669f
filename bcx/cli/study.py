"""`bcx study`: questions that are answered once, on scans with outlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bcx.cli.options import DeviceOption
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


@app.command()
def explanations(
    data: DataOption,
    model: Annotated[str, typer.Option("--model", "-m", help="A model that never saw the scans.")],
    scans: Annotated[int, typer.Option(min=2, help="How many, the classes in turn.")] = 60,
    checked: Annotated[int, typer.Option(min=0, help="Of how many stability and sanity are measured as well.")] = 12,
    slow: Annotated[int, typer.Option(min=0, help="Of how many the slow methods are measured as well.")] = 6,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/studies/explanations"),
    device: DeviceOption = "auto",
) -> None:
    """Measure every method of `bcx explain` against outlines and by its checks."""
    import bcx

    with needs_train_extra():
        from bcx.explain.methods import METHODS
        from bcx.studies.explanations import explanation_study, sample, summarise, table, write_explanations_figure
        from bcx.train.provenance import describe_command, describe_data, write_json
    classifier = bcx.load(model, device=device)
    records = sample(read_sources(named_folders(data), classifier.task), scans, classifier.task)
    out.mkdir(parents=True, exist_ok=True)
    total = sum(min(slow, len(records)) if method.slow else len(records) for method in METHODS.values())
    with counted(total + len(records), what="maps") as on_map:
        frame = explanation_study(classifier, records, out / "explanations.csv", checked, slow, on_map)
    counts = {"scans": scans, "checked": checked, "slow": slow}
    command = command_line("study explanations", data=named_folders(data), model=classifier.name, **counts)
    about = {"model": classifier.name, "weights_sha256": classifier.weights_sha256, **describe_command(command)}
    found = summarise(frame)
    write_json(out / "explanations.json", {**about, "data": describe_data(records), **found})
    write_explanations_figure(found, out / "explanations.png")
    typer.echo(table(found))
