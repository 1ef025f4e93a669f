"""`bcx input-check`: fit a checkpoint's input check again, and count what it stops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcx.cli.options import CheckpointArgument, DeviceOption
from bcx.cli.sources import command_line, named_folders, read_sources
from bcx.networks.device import pick_device

if TYPE_CHECKING:
    from bcx.checkpoints.checkpoint import Checkpoint
    from bcx.data.records import Record

app = typer.Typer(name="input-check", no_args_is_help=True, help="The check that tells scans from other pictures.")

DataOption = Annotated[
    list[str], typer.Option("--data", metavar="NAME=DIR", help="The scans it was trained on, as in bcx train.")
]


@app.command()
def fit(model: CheckpointArgument, data: DataOption, device: DeviceOption = "auto") -> None:
    """Fit the input check of a trained checkpoint again; its weights stay as they are."""
    import numpy as np

    from bcx.checkpoints.checkpoint import load_checkpoint, update_config
    from bcx.train.answer import answer_records
    from bcx.trust.input_check import fit_input_check

    checkpoint = load_checkpoint(model)
    checkpoint.network.to(pick_device())
    records = _records(checkpoint, data)
    readings = answer_records(checkpoint.network, checkpoint.preprocess, records)
    stages = np.stack([reading.stages for reading in readings])
    input_check = fit_input_check(stages, np.array([record.fold for record in records]))
    update_config(checkpoint.folder, gate=input_check.save(checkpoint.folder))
    typer.echo(f"The input check of {checkpoint.name} is fitted on {len(records)} scans.")


@app.command()
def study(
    model: CheckpointArgument,
    data: DataOption,
    scans: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Other scans, which should pass; as --data.")
    ] = None,
    microscope: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Microscope pictures, which should be stopped.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many microscope pictures of each folder.")] = 300,
    out: Annotated[Path, typer.Option(help="Where to write the report.")] = Path(
        "results/studies/input-check/input-check.json"
    ),
    device: DeviceOption = "auto",
) -> None:
    """Count what the input check stops (photographs, documents, noise, microscope pictures) and the scans that pass."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.evaluate import drawn, non_scans
    from bcx.studies.input_check import study as run
    from bcx.train.provenance import describe_command, describe_data, write_json

    checkpoint = load_checkpoint(model)
    checkpoint.network.to(pick_device())
    records = _records(checkpoint, data)
    others = {name: read_sources({name: folder}, checkpoint.task) for name, folder in named_folders(scans).items()}
    sets = {name: [record.file for record in part] for name, part in others.items()}
    sets["simulated examples"] = sorted(Path("examples").glob("*.png"))
    slides = named_folders(microscope)
    parts = [non_scans.packaged(), drawn.documents(), drawn.noise(), non_scans.packaged_late(), drawn.fresh()]
    parts += [non_scans.histology(folder, limit, name=name) for name, folder in slides.items()]
    report = run(
        checkpoint,
        pictures=[picture for part in parts for picture in part],
        scans={name: files for name, files in sets.items() if files},
        training=records,
    )
    command = command_line(
        "input-check study",
        checkpoint.name,
        data=named_folders(data),
        scans=[f"{name}=DIR" for name in others],
        microscope=[f"{name}=DIR" for name in slides],
        limit=limit,
    )
    about = {"model": checkpoint.name, "weights_sha256": checkpoint.weights_sha256, **describe_command(command)}
    everything = [record for part in (records, *others.values()) for record in part]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        out, {"what": "pictures that the input check stops", **about, "data": describe_data(everything), **report}
    )
    overall = report["non_scans"]["all"]
    typer.echo(f"Stopped {overall['stopped']} of {overall['n']} pictures that are no scans.")
    for name, part in report["scans"].items():
        typer.echo(f"Passed {100 * part['passed']:.1f} % of {part['n']} scans: {name}.")
    typer.echo(f"Written: {out}")


def _records(checkpoint: Checkpoint, data: list[str]) -> list[Record]:
    from bcx.data.splits import assign_folds

    records = assign_folds(read_sources(named_folders(data), checkpoint.task))
    return [record for record in records if record.fold is not None]
