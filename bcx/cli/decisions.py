"""`bcx decisions`: fit the rule of decision on hospitals that no network saw, and say what it does there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bcx.cli.options import CheckpointArgument, DataOption, DeviceOption
from bcx.cli.sources import command_line, named_folders, needs_train_extra, read_sources
from bcx.errors import DataError

if TYPE_CHECKING:
    from bcx.checkpoints.checkpoint import Checkpoint
    from bcx.studies.decisions import Elsewhere

ANSWERS = "answers-{}.csv"


def decisions(
    model: CheckpointArgument,
    data: DataOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the study; default results/studies/decisions/NAME.")
    ] = None,
    patients: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SOURCE",
            help="A hospital whose groups are patients with several scans of one lesion (busbra): also measure one "
            "answer per patient.",
        ),
    ] = None,
    store: Annotated[
        bool,
        typer.Option(
            "--store",
            help="Write the temperature and the rule into the checkpoint's config.json; into one that no "
            "cross-validation measured also the figures of the hospitals left out.",
        ),
    ] = False,
    device: DeviceOption = "auto",
) -> None:
    """Fit the rule of decision on hospitals that no network saw, from a stated target of harm.

    The hospitals are those of --data, which the model answers now, those that it answered in an earlier run of this
    study, and those of `bcx evaluate --transfer` on the same recipe. Each is judged by a rule fitted on the others.
    """
    with needs_train_extra():
        from bcx.evaluate.derived import BY_HOSPITAL
        from bcx.evaluate.oof import read_oof, write_oof
        from bcx.studies.decisions import (
            decisions_study,
            flat,
            left_out_results,
            transfer_answers,
            write_decisions_figure,
        )
    from bcx.checkpoints.checkpoint import load_checkpoint, update_config
    from bcx.report.facts import results_folder
    from bcx.train.provenance import describe_command, read_json, write_json

    checkpoint = load_checkpoint(model)
    measured = results_folder(checkpoint.folder)
    out = out or Path("results", "studies", "decisions", checkpoint.name)
    out.mkdir(parents=True, exist_ok=True)
    earlier = _earlier(out, checkpoint)
    described = _answer(checkpoint, data or [], out)
    elsewhere = {} if measured is None else transfer_answers(measured / "transfer", checkpoint.task)
    elsewhere |= _answered(out, checkpoint)
    oof = checkpoint.folder / "oof.csv"
    by_folds = oof.is_file() and read_json(checkpoint.folder / "results.json").get("protocol") != BY_HOSPITAL
    at_home = read_oof(oof, checkpoint.task) if by_folds else None
    left_out = None if by_folds or measured is None else left_out_results(measured / "transfer", checkpoint.task)
    stored = checkpoint.decisions
    before = earlier.get("before")
    if stored and "rule" not in stored:
        before = {"temperature": checkpoint.temperature, "decisions": stored}
    results = decisions_study(checkpoint, elsewhere, at_home, before)
    command = command_line("decisions", checkpoint.name, data=described)
    about = {"model": checkpoint.name, "weights_sha256": checkpoint.weights_sha256, **describe_command(command)}
    fresh = {"data": {**earlier.get("data", {}), **described}}
    write_json(out / "decisions.json", {"what": "decisions in hospitals never seen", **about, **fresh, **results})
    flat(results["table"]).to_csv(out / "decisions.csv", index=False, float_format="%.6g", lineterminator="\n")
    write_decisions_figure(results, out / "decisions.png", checkpoint.task)
    if patients:
        from bcx.studies.patients import patients_table

        table = patients_table(patients, elsewhere, at_home, checkpoint.task, results["temperature"], results["rule"])
        write_json(out / "patients.json", {"what": "one answer per patient, by the rule fitted here", **about, **table})
    typer.echo(results["rule"]["what"])
    for row in results["table"]:
        if row["where"] == "elsewhere" and row["point"] == "default":
            typer.echo(
                f"{row['hospital']}, {row['rule']}: {_share(row['as_absent'])} of the {checkpoint.task.positive} scans "
                f"answered {checkpoint.task.absent}, {_share(row['as_other'])} another lesion; "
                f"{_share(row['referred'])} of all referred"
            )
    if store:
        update_config(checkpoint.folder, temperature=results["temperature"], decisions={"rule": results["rule"]})
        if left_out is not None and measured is not None:
            for folder in (measured, checkpoint.folder):
                write_oof(folder / "oof.csv", left_out[0], checkpoint.task)
                write_json(folder / "results.json", left_out[1])
        typer.echo(f"Stored in {checkpoint.folder / 'config.json'}")
    typer.echo(f"Written: {out / 'decisions.json'}, decisions.csv and decisions.png")


def _earlier(out: Path, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what an earlier run of the study wrote.

    Raises:
        DataError: it was another network's.
    """
    from bcx.train.provenance import read_json

    if not (out / "decisions.json").is_file():
        return {}
    earlier = read_json(out / "decisions.json")
    if earlier["weights_sha256"] != checkpoint.weights_sha256:
        raise DataError(
            f"'{out}' holds the study of other weights.",
            expected=f"that of {checkpoint.weights_sha256[:12]}",
            remedy="Remove the folder, or name another one with --out.",
        )
    return earlier


def _answer(checkpoint: Checkpoint, data: list[str], out: Path) -> dict[str, Any]:
    """Answer the scans of the sources named, write the answers, and describe the scans."""
    from bcx.studies.decisions import fresh_answers
    from bcx.train.provenance import describe_data

    records = read_sources(named_folders(data), checkpoint.task)
    if not records:
        return {}
    for name, frame in fresh_answers(checkpoint, records).items():
        frame.to_csv(out / ANSWERS.format(name), index=False, float_format="%.9g", lineterminator="\n")
    return describe_data(records)


def _answered(out: Path, checkpoint: Checkpoint) -> dict[str, Elsewhere]:
    """Return the answers of this network that lie in the study's folder."""
    from bcx.evaluate.oof import read_answers
    from bcx.studies.decisions import Elsewhere

    found = {}
    for file in sorted(out.glob(ANSWERS.format("*"))):
        frame = read_answers(file, checkpoint.task)
        scans = checkpoint.training.get("scans", "all")
        words = f"the checkpoint itself, trained on {scans} scans from elsewhere"
        found[str(frame["source"].iloc[0])] = Elsewhere(frame, words)
    return found


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{100 * figure['value']:.1f} % ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
