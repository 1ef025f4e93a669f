"""`bcx study`, `bcx decisions` and `bcx input-check`: questions that are answered once, and rules fitted afterwards."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

import bcx
from bcx.cli.options import CheckpointArgument, DataOption, DeviceOption, MaskedOption, TrainedOption
from bcx.cli.progress import counted
from bcx.cli.sources import command_line, in_words, named_folders, read_sources
from bcx.errors import DataError

if TYPE_CHECKING:
    from bcx.checkpoints.checkpoint import Checkpoint
    from bcx.data.records import Record

study = typer.Typer(name="study", no_args_is_help=True, help="Studies on scans with outlines.")
input_check = typer.Typer(
    name="input-check", no_args_is_help=True, help="The check that tells scans from other pictures."
)
_ANSWERS = "answers-{}.csv"


@study.command()
def descriptors(
    data: MaskedOption, out: Path = Option(Path("results/studies/descriptors"), help="Folder of the results.")
) -> None:
    """Measure what orientation, shape, margin, echoes and posterior features tell of malignancy."""
    from bcx.studies.descriptors import descriptor_rows, summarise
    from bcx.tasks import get_task
    from bcx.train.provenance import describe_command, describe_data, write_json

    task, named = get_task("breast-ultrasound"), named_folders(data)
    records = read_sources(named, task)
    with counted(len(records)) as on_scan:
        frame = descriptor_rows(records, on_scan)
    found = summarise(frame, task)
    out.mkdir(parents=True, exist_ok=True)
    frame.to_csv(out / "descriptors.csv", index=False, lineterminator="\n")
    about = describe_command(command_line("study descriptors", data=named))
    write_json(out / "descriptors.json", {**about, "data": describe_data(records), "sources": found})
    for source, worth in found.items():
        for name, area in worth["auc"].items():
            typer.echo(f"{source}, {name}: {in_words(area)}")


@study.command()
def explanations(
    data: MaskedOption,
    model: str = Option(
        ...,
        "--model",
        "-m",
        help="A model that never saw the scans, or the folder of `bcx evaluate --transfer`, whose networks each answer "
        "the hospital left out.",
    ),
    scans: int = Option(60, min=2, help="How many of each folder, the classes in turn."),
    checked: int = Option(12, min=0, help="Of how many stability and sanity are measured as well."),
    slow: int = Option(6, min=0, help="Of how many the slow methods are measured as well."),
    out: Path = Option(Path("results/studies/explanations"), help="Folder of the results."),
    device: DeviceOption = "auto",
) -> None:
    """Measure every method of `bcx explain` against outlines and by its checks."""
    from bcx.studies import explanations as module
    from bcx.train.provenance import describe_command, describe_data, write_json

    named, classifiers = named_folders(data), {}
    for name in named:
        network = Path(model) / f"without-{name}" / "network"
        classifiers[name] = bcx.load(str(network) if network.is_dir() else model, device=device)
    records = {
        name: module.sample(read_sources({name: folder}, classifiers[name].task), scans, classifiers[name].task)
        for name, folder in named.items()
    }
    out.mkdir(parents=True, exist_ok=True)
    places = [(name, place) for name, part in records.items() for place in range(len(part))]
    total = sum(len(module.maps_of(classifiers[name], place, slow)) for name, place in places)
    with counted(total, what="maps") as on_map:
        frames = {
            name: module.explanation_study(classifiers[name], part, out / f"{name}.csv", checked, slow, on_map)
            for name, part in records.items()
        }
    counts = {"scans": scans, "checked": checked, "slow": slow}
    about = describe_command(command_line("study explanations", data=named, model=Path(model).name, **counts))
    weights = {name: classifier.weights_sha256 for name, classifier in classifiers.items()}
    about |= {"model": Path(model).name, "weights_sha256": weights}
    found = module.summarise(frames)
    described = describe_data([record for part in records.values() for record in part])
    write_json(out / "explanations.json", {**about, "data": described, **found})
    module.write_explanations_figure(found, out / "explanations.png")
    typer.echo(module.table(found))


@input_check.command("fit")
def fit(model: CheckpointArgument, data: TrainedOption, device: DeviceOption = "auto") -> None:
    """Fit the input check of a trained checkpoint again; its weights stay as they are."""
    import numpy as np

    from bcx.checkpoints.checkpoint import update_config
    from bcx.train.answer import answer_records
    from bcx.trust.input_check import fit_input_check

    checkpoint, records = _trained(model, data)
    answers = answer_records(checkpoint.network, checkpoint.preprocess, records)
    stages = np.stack([answer.stages for answer in answers])
    fitted = fit_input_check(stages, np.array([record.fold for record in records]))
    update_config(checkpoint.folder, gate=fitted.save(checkpoint.folder))
    typer.echo(f"The input check of {checkpoint.name} is fitted on {len(records)} scans.")


@input_check.command("study")
def study_input_check(
    model: CheckpointArgument,
    data: TrainedOption,
    scans: Annotated[
        list[str] | None, Option(metavar="NAME=DIR", help="Other scans, which should pass; as --data.")
    ] = None,
    microscope: Annotated[
        list[str] | None, Option(metavar="NAME=DIR", help="Microscope pictures, which should be stopped.")
    ] = None,
    limit: int = Option(300, min=1, help="At most so many microscope pictures of each folder."),
    each: int = Option(20, min=1, help="How many pictures of each kind from the neighbourhood of breast ultrasound."),
    out: Path = Option(Path("results/studies/input-check/input-check.json"), help="Where to write the report."),
    device: DeviceOption = "auto",
) -> None:
    """Count what the input check stops, by kind, and the scans that pass.

    Photographs, documents, noise, microscope pictures, other ultrasound, colour over a scan, split screens, reports and
    photographed screens; and scans of hospitals that were left out, where `bcx evaluate --transfer` answered them.
    """
    from bcx.evaluate import non_scans, others
    from bcx.report.facts import results_folder
    from bcx.studies.decisions import transfer_answers
    from bcx.studies.input_check import study as run
    from bcx.train.provenance import describe_command, describe_data, write_json

    checkpoint, records = _trained(model, data)
    task, slides = checkpoint.task, named_folders(microscope)
    apart = {name: read_sources({name: folder}, task) for name, folder in named_folders(scans).items()}
    sets = {name: [record.file for record in part] for name, part in apart.items()}
    sets["simulated examples"] = sorted(Path("examples").glob("*.png"))
    parts = [non_scans.packaged(), non_scans.documents(), non_scans.noise()]
    parts += [non_scans.packaged_late(), non_scans.fresh()]
    parts += [non_scans.histology(folder, limit, name=name) for name, folder in slides.items()]
    if task.grey:
        parts += [non_scans.packaged_ultrasound(), others.others(records, each)]
    measured = results_folder(checkpoint.folder)
    elsewhere = {} if measured is None else transfer_answers(measured / "transfer", task)
    non_scan_images, left_out = list(chain.from_iterable(parts)), {name: a.frame for name, a in elsewhere.items()}
    passing = {name: files for name, files in sets.items() if files}
    report = run(checkpoint, non_scans=non_scan_images, scans=passing, training=records, left_out=left_out)
    folders = {"scans": [f"{name}=DIR" for name in apart], "microscope": [f"{name}=DIR" for name in slides]}
    named = named_folders(data)
    command = command_line("input-check study", checkpoint.name, data=named, **folders, limit=limit, each=each)
    about = {"model": checkpoint.name, "weights_sha256": checkpoint.weights_sha256, **describe_command(command)}
    everything = describe_data([record for part in (records, *apart.values()) for record in part])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"what": "pictures that the input check stops", **about, "data": everything, **report})
    overall = report["non_scans"]["all"]
    typer.echo(f"Stopped {overall['stopped']} of {overall['n']} pictures that are no scans.")
    for name, part in report["scans"].items():
        typer.echo(f"Passed {100 * part['passed']:.1f} % of {part['n']} scans: {name}.")
    for name, part in report.get("hospitals left out", {}).items():
        typer.echo(f"Stopped {100 * part['share']:.1f} % of {part['n']} scans of {name}, left out.")
    typer.echo(f"Written: {out}")


def _trained(model: str, data: list[str]) -> tuple[Checkpoint, list[Record]]:
    """Return a checkpoint, where it will run, and the scans it was trained on."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.data.splits import assign_folds
    from bcx.networks.device import pick_device

    checkpoint = load_checkpoint(model)
    checkpoint.network.to(pick_device())
    records = assign_folds(read_sources(named_folders(data), checkpoint.task))
    return checkpoint, [record for record in records if record.fold is not None]


def decisions(
    model: CheckpointArgument,
    data: DataOption = None,
    out: Path | None = Option(None, "--out", "-o", help="Folder of the study; default results/studies/decisions/NAME."),
    patients: list[str] | None = Option(
        None,
        metavar="SOURCE",
        help="A hospital whose groups are patients with several scans of one lesion (busbra): also measure one "
        "answer per patient.",
    ),
    store: bool = Option(
        False,
        "--store",
        help="Write the temperature and the rule into the checkpoint's config.json; into one that no "
        "cross-validation measured also the figures of the hospitals left out.",
    ),
    device: DeviceOption = "auto",
) -> None:
    """Fit the rule of decision on hospitals that no network saw, from a stated target of harm.

    The hospitals are those of --data, which the model answers now, those that it answered in an earlier run of this
    study, and those of `bcx evaluate --transfer` on the same recipe. Each is judged by a rule fitted on the others.
    """
    from bcx.checkpoints.checkpoint import load_checkpoint, update_config
    from bcx.evaluate.derived import BY_HOSPITAL, STORED
    from bcx.evaluate.oof import read_answers, read_oof, write_oof
    from bcx.report.facts import gather, results_folder
    from bcx.report.reproduce import derive_again
    from bcx.report.reproduce import store as store_figures
    from bcx.studies import decisions as rules
    from bcx.train.provenance import describe_command, describe_data, read_json, write_json

    checkpoint = load_checkpoint(model)
    task, measured = checkpoint.task, results_folder(checkpoint.folder)
    out = out or Path("results", "studies", "decisions", checkpoint.name)
    out.mkdir(parents=True, exist_ok=True)
    earlier = read_json(out / "decisions.json") if (out / "decisions.json").is_file() else {}
    if earlier and earlier["weights_sha256"] != checkpoint.weights_sha256:
        expected = f"that of {checkpoint.weights_sha256[:12]}"
        remedy = "Remove the folder, or name another one with --out."
        raise DataError(f"'{out}' holds the study of other weights.", expected=expected, remedy=remedy)
    records = read_sources(named_folders(data), task)
    for name, frame in rules.fresh_answers(checkpoint, records).items() if records else ():
        frame.to_csv(out / _ANSWERS.format(name), index=False, float_format="%.9g", lineterminator="\n")
    elsewhere = {} if measured is None else rules.transfer_answers(measured / "transfer", task)
    words = f"the checkpoint itself, trained on {checkpoint.training.get('scans', 'all')} scans from elsewhere"
    for file in sorted(out.glob(_ANSWERS.format("*"))):
        frame = read_answers(file, task)
        elsewhere[str(frame["source"].iloc[0])] = rules.Elsewhere(frame, words)
    oof = checkpoint.folder / "oof.csv"
    by_folds = oof.is_file() and read_json(checkpoint.folder / "results.json").get("protocol") != BY_HOSPITAL
    at_home = read_oof(oof, task) if by_folds else None
    left_out = None if by_folds or measured is None else rules.left_out_results(measured / "transfer", task)
    stored, before = checkpoint.decisions, earlier.get("before")
    if stored and "rule" not in stored:
        before = {"temperature": checkpoint.temperature, "decisions": stored}
    results = rules.decisions_study(checkpoint, elsewhere, at_home, before)
    described = describe_data(records)
    command = command_line("decisions", checkpoint.name, data=described)
    about = {"model": checkpoint.name, "weights_sha256": checkpoint.weights_sha256, **describe_command(command)}
    about["data"] = {**earlier.get("data", {}), **described}
    write_json(out / "decisions.json", {"what": "decisions in hospitals never seen", **about, **results})
    rules.flat(results["table"]).to_csv(out / "decisions.csv", index=False, float_format="%.6g", lineterminator="\n")
    rules.write_decisions_figure(results, out / "decisions.png", task)
    if patients:
        table = rules.patients_table(patients, elsewhere, at_home, task, results["temperature"], results["rule"])
        write_json(out / "patients.json", {"what": "one answer per patient, by the rule fitted here", **about, **table})
    typer.echo(results["rule"]["what"])
    for row in results["table"]:
        if row["where"] == "elsewhere" and row["point"] == "default":
            typer.echo(
                f"{row['hospital']}, {row['rule']}: {_share(row['as_absent'])} of the {task.positive} scans "
                f"answered {task.absent}, {_share(row['as_other'])} another lesion; "
                f"{_share(row['referred'])} of all referred"
            )
    if store:
        update_config(checkpoint.folder, temperature=results["temperature"], decisions={"rule": results["rule"]})
        if left_out is not None and measured is not None:
            for folder in (measured, checkpoint.folder):
                write_oof(folder / "oof.csv", left_out[0], task)
                write_json(folder / "results.json", left_out[1])
        elif by_folds:
            facts = gather(checkpoint.folder)
            facts.results["decisions"] = {"by": STORED}
            store_figures(facts, derive_again(facts))
        typer.echo(f"Stored in {checkpoint.folder / 'config.json'}")
    typer.echo(f"Written: {out / 'decisions.json'}, decisions.csv and decisions.png")


def _share(figure: dict[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    return f"{100 * figure['value']:.1f} % ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"
