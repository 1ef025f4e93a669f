"""`bcx gate`: fit a checkpoint's gate again, and count what it stops.

```
bcx gate fit mobilenetv2-busi --data busi=DIR
bcx gate study mobilenetv2-busi --data busi=DIR --scans busbra=DIR --microscope idc=DIR
```
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from bcx.checkpoints.checkpoint import Checkpoint
    from bcx.data.records import Record

app = typer.Typer(name="gate", no_args_is_help=True, help="What tells scans from other pictures.")

ModelArgument = Annotated[str, typer.Argument(help="A checkpoint: its name or folder.")]
DataOption = Annotated[
    list[str], typer.Option("--data", metavar="NAME=DIR", help="The scans it was trained on, as in bcx train.")
]


@app.command()
def fit(model: ModelArgument, data: DataOption) -> None:
    """Fit the gate of a trained checkpoint again; its weights stay as they are."""
    import numpy as np

    from bcx.checkpoints.checkpoint import load_checkpoint, update_config
    from bcx.train.answer import answer_records
    from bcx.trust.gate import fit_gate

    checkpoint = load_checkpoint(model)
    records = _records(checkpoint, data)
    readings = answer_records(checkpoint.network, checkpoint.preprocess, records)
    stages = np.stack([reading.stages for reading in readings])
    gate = fit_gate(stages, np.array([record.fold for record in records]))
    update_config(checkpoint.folder, gate=gate.save(checkpoint.folder))
    typer.echo(f"The gate of {checkpoint.name} is fitted on {len(records)} scans.")


@app.command()
def study(
    model: ModelArgument,
    data: DataOption,
    scans: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Other scans, which should pass; as --data.")
    ] = None,
    microscope: Annotated[
        list[str] | None, typer.Option(metavar="NAME=DIR", help="Microscope pictures, which should be stopped.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many microscope pictures of each folder.")] = 300,
    out: Annotated[Path, typer.Option(help="Where to write the report.")] = Path("results/gate/gate.json"),
) -> None:
    """Count what the gate stops (photographs, documents, noise, microscope pictures) and which scans it passes."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.data.pairs import parse_pair
    from bcx.evaluate import drawn, stand_ins
    from bcx.studies.input_check import study as run
    from bcx.train.provenance import describe_command, describe_data, write_json

    checkpoint = load_checkpoint(model)
    records = _records(checkpoint, data)
    others = {name: _read(checkpoint, [f"{name}={folder}"]) for name, folder in map(parse_pair, scans or [])}
    sets = {name: [record.file for record in part] for name, part in others.items()}
    sets["simulated examples"] = sorted(Path("examples").glob("*.png"))
    slides = [parse_pair(text) for text in microscope or []]
    parts = [stand_ins.packaged(), drawn.documents(), drawn.noise(), stand_ins.packaged_late(), drawn.fresh()]
    parts += [stand_ins.histology(folder, limit, name=name) for name, folder in slides]
    report = run(
        checkpoint,
        pictures=[picture for part in parts for picture in part],
        scans={name: files for name, files in sets.items() if files},
        training=records,
    )
    command = f"bcx gate study {checkpoint.name} --data " + " --data ".join(
        f"{n}=DIR" for n, _ in map(parse_pair, data)
    )
    command += "".join(f" --scans {name}=DIR" for name in others)
    command += "".join(f" --microscope {name}=DIR" for name, _ in slides) + f" --limit {limit}"
    about = {"model": checkpoint.name, "weights_sha256": checkpoint.weights_sha256, **describe_command(command)}
    everything = [record for part in (records, *others.values()) for record in part]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"what": "pictures that the gate stops", **about, "data": describe_data(everything), **report})
    overall = report["stand_ins"]["all"]
    typer.echo(f"Stopped {overall['stopped']} of {overall['n']} pictures that are no scans.")
    for name, part in report["scans"].items():
        typer.echo(f"Passed {100 * part['passed']:.1f} % of {part['n']} scans: {name}.")
    typer.echo(f"Written: {out}")


def _records(checkpoint: Checkpoint, data: list[str]) -> list[Record]:
    from bcx.data.splits import assign_folds

    return [record for record in assign_folds(_read(checkpoint, data)) if record.fold is not None]


def _read(checkpoint: Checkpoint, data: list[str]) -> list[Record]:
    from bcx.data.pairs import parse_pair
    from bcx.data.readers import read_source

    return [r for name, root in map(parse_pair, data) for r in read_source(name, root, task=checkpoint.task)]
