"""`bcx evaluate`: what a model is worth on labelled scans, and with --transfer a recipe on scans that it never saw."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from typer import Option

from bcx import DEFAULT_MODEL
from bcx.cli.options import AddressOption, DeviceOption, EngineOption, ViewsOption, cluster_of, refuse
from bcx.cli.progress import bars, counted, tell_epoch
from bcx.cli.sources import command_line, in_words, named_folders, read_recipe, read_records, read_sources, recipe_words
from bcx.errors import ConfigError, DataError
from bcx.files import whole

if TYPE_CHECKING:
    from bcx.data.records import Record
    from bcx.inference.classifier import Classifier
    from bcx.tasks import Task
    from bcx.train.config import Recipe

_ONE = "options of one kind of measurement"


def evaluate(
    data: list[str] = Option(
        ..., metavar="NAME=DIR", help="A source of labelled scans, as in bcx train; may be given several times."
    ),
    out: Path = Option(
        ...,
        "--out",
        "-o",
        help="Where to write the figures (JSON); a table per scan goes beside it. With --transfer a folder.",
    ),
    checkpoint: str = Option(DEFAULT_MODEL, help="A model's name, its folder, or a Hub id."),
    crossval: Path | None = Option(
        None,
        metavar="DIR",
        help="Instead of a checkpoint: results of `bcx crossval`, whose networks are still there; each answers the "
        "fold that it never saw. With --transfer: where the part 'corruption' finds its networks.",
    ),
    split: str = Option(
        "dev",
        metavar="dev|test|all|FOLD",
        help="Which scans: BUSI's split, a manifest's, or one fold's. Sources without splits count as dev.",
    ),
    localisation: bool = Option(False, "--localisation", help="Also hold the maps against the lesion masks."),
    contact_sheet: Path | None = Option(
        None, metavar="DIR", help="Write pictures of the best and worst scans there; with --localisation."
    ),
    views: ViewsOption = 1,
    transfer: Path | None = Option(
        None,
        metavar="CONFIG.yaml",
        help="Instead of a checkpoint: train this recipe without one hospital, machine or fold, and score "
        "what was left out. Stopped at any moment, the same command goes on where it was.",
    ),
    parts: list[str] | None = Option(
        None,
        metavar="hospital|left-out|machine|corruption",
        help="With --transfer: only this part; may be given several times. What is finished in --out is kept.",
    ),
    machine: list[str] | None = Option(
        None, help="With --transfer: leave out only this machine; may be given several times."
    ),
    init: str | None = Option(None, metavar="FILE|timm|scratch", help="With --transfer: starting weights."),
    settings: list[str] | None = Option(
        None, "--set", metavar="KEY=VALUE", help="With --transfer: any other setting of the recipe."
    ),
    engine: EngineOption = "local",
    address: AddressOption = None,
    device: DeviceOption = "auto",
) -> None:
    """Measure a model on labelled scans: its answers, and where it looks. Exit status 1 when some file failed."""
    if transfer is not None:
        others = {"--checkpoint": checkpoint != DEFAULT_MODEL, "--split": split != "dev", "--views": views > 1}
        refuse({"--localisation": localisation, "--contact-sheet": contact_sheet, **others}, "with --transfer", _ONE)
        recipe = read_recipe(transfer, data, settings, init=init)
        given: dict[str, Any] = {"init": recipe.init, "set": settings, "parts": parts}
        given["machine"] = [f'"{each}"' for each in machine or ()]
        given["crossval"] = None if crossval is None else f"results/{crossval.resolve().name}"
        command = command_line("evaluate", f"--transfer {recipe_words(transfer)[0]}", data=recipe.data, **given)
        _transfer(recipe, out, command, cluster_of(engine, address), parts, machine, crossval)
        return
    on_ray = {"--engine": engine != "local", "--address": address}
    training = {"--parts": parts, "--machine": machine, "--init": init, "--set": settings, **on_ray}
    refuse(training, "without --transfer", _ONE)
    if not localisation:
        refuse({"--contact-sheet": contact_sheet}, "without --localisation", "both, for the best and the worst places")
    if out.suffix.lower() != ".json" or out.is_dir():
        expected = "the name of a file that ends in .json"
        remedy = "Use for example --out results.json."
        raise ConfigError(f"The figures cannot be written to '{out}'.", expected=expected, remedy=remedy)
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.evaluate import evaluation
    from bcx.evaluate.figures_data import ContactSheet
    from bcx.inference.classifier import Classifier
    from bcx.train.provenance import describe_command, describe_data, write_json

    trained_on, what = {}, "a checkpoint's answers to labelled scans"
    if crossval is None:
        loaded = load_checkpoint(checkpoint)
        asked = [(Classifier(loaded, views=views), _records(data, split, loaded.task))]
        trained_on = {name: part["sha256"] for name, part in loaded.training.get("data", {}).items()}
        name, model = loaded.name, f"--checkpoint {loaded.name}"
    else:
        asked, name = _fold_parts(crossval, data, views), crossval.resolve().name
        model = f"--crossval results/{name}"
        what = "answers of a cross-validation's networks, each to the fold that it never saw"
    records = [record for _, part in asked for record in part]
    if split != "test" and (known := sorted({record.source for record in records} & set(trained_on))):
        seen = "on scans that it has seen, the figures say how well it knows them by heart."
        typer.echo(f"{name} was trained on {', '.join(known)}: {seen}", err=True)
    given = {"split": None if crossval else split, "localisation": localisation, "views": views if views > 1 else None}
    about = describe_command(command_line("evaluate", model, data=named_folders(data), **given))
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet = None if contact_sheet is None else ContactSheet()
    begun, found = time.perf_counter(), evaluation.Evaluation(asked[0][0].task, places=[] if localisation else None)
    with counted(len(records)) as on_scan:
        for one, part in asked:
            evaluation.evaluate(one, part, localisation=localisation, sheet=sheet, on_scan=on_scan, before=found)
    seconds = round(time.perf_counter() - begun, 1)
    table = out.with_suffix(".scans.csv")
    with whole(table) as partial:
        found.table().to_csv(partial, index=False, float_format="%.6g", lineterminator="\n")
    hashes = [one.weights_sha256 for one, _ in asked]
    of = {"name": name, "weights_sha256": hashes if crossval else hashes[0], "views": views}
    results = {
        "what": what,
        "model": {**of, "backend": found.backend, "trained_on": trained_on},
        **about,
        "split": split,
        "data": describe_data(records),
        "seconds": seconds,
        "table": {"file": table.name, "rows": len(records)},
        **found.summary(),
    }
    write_json(out, results)
    _tell(results, asked[0][0].task)
    for path in sheet.write(contact_sheet, name) if sheet and contact_sheet else ():
        typer.echo(f"Written: {path}")
    typer.echo(f"Written: {out} and {table.name}")
    if results["failed"]:
        raise typer.Exit(1)


def _records(data: Iterable[str], split: str, task: Task) -> list[Record]:
    from bcx.data.splits import assign_folds

    if not (split.isascii() and split.isdigit()):
        return read_sources(named_folders(data), task, split, verify=True)
    records = assign_folds(read_sources(named_folders(data), task, verify=True))
    if chosen := [record for record in records if record.fold == int(split)]:
        return chosen
    expected = f"one of the folds {', '.join(map(str, sorted({r.fold for r in records if r.fold is not None})))}"
    raise DataError(f"There is no scan in fold {int(split)}.", expected=expected, remedy="Change --split.")


def _fold_parts(folder: Path, data: Sequence[str], views: int) -> list[tuple[Classifier, list[Record]]]:
    from bcx.evaluate.oof import read_oof
    from bcx.inference.classifier import Classifier

    networks = sorted(folder.glob("fold-*/network/config.json"))
    if not networks:
        expected = "folders such as fold-0/network, which `bcx crossval` leaves there"
        remedy = "Run `bcx crossval` with the same --out first."
        raise DataError(f"'{folder.name}' holds no networks of a cross-validation.", expected=expected, remedy=remedy)
    parts, known = [], None
    for config in networks:
        classifier = Classifier(config.parent, views=views)
        known = known or {record.key: record for record in _records(data, "dev", classifier.task)}
        # What the network never saw is what it answered then; folds assigned anew might differ.
        unseen = read_oof(config.parents[1] / "oof.csv", classifier.task)["file"]
        if part := [known[key] for key in unseen if key in known]:
            parts.append((classifier, part))
    if not parts:
        found = f"None of the scans that the networks of '{folder.name}' answered is in the folders named."
        remedy = "Name them with --data as `bcx crossval` was given them."
        raise DataError(found, expected="the sources of that cross-validation, under the same names", remedy=remedy)
    return parts


def _tell(results: dict[str, Any], task: Task) -> None:
    figures, place = results["figures"], results.get("localisation")
    wanted = ["accuracy", "macro_auc", f"auc_{task.positive}", f"sensitivity_{task.positive}"]
    wanted += [f"specificity_{task.positive}", f"sensitivity_{task.absent}", f"lesions_called_{task.absent}"]
    lines = [(name, figures[name]) for name in wanted if name in figures]
    if place is not None:
        lines += [(name, place["all"][name]) for name in ("lesion_share", "heat_inside", "pointing", "iou")]
        lines += [(name, results["deletion"][name]) for name in ("drop_here", "drop_elsewhere")]
    for name, figure in lines:
        if figure["value"] is not None:
            typer.echo(f"{name}: {in_words(figure)}, {figure['n']} scans")
    if results["failed"]:
        typer.echo(f"{len(results['failed'])} of {results['n']} files could not be read.", err=True)


def _transfer(
    recipe: Recipe,
    out: Path,
    command: str,
    cluster: str | None,
    parts: Sequence[str] | None,
    machines: Sequence[str] | None,
    crossval: Path | None,
) -> None:
    records = read_records(recipe)
    from bcx.data.readers import busbra_devices, detect_kind
    from bcx.evaluate.corruptions import CORRUPTIONS
    from bcx.studies.transfer import is_done, transfer_study
    from bcx.studies.transfer_plan import PARTS, plan_runs
    from bcx.train.fit import training_steps

    devices: dict[str, str] = {}
    for name, folder in recipe.data.items():
        if detect_kind(name, Path(folder)) == "busbra":
            try:
                devices |= busbra_devices(Path(folder), name)
            except DataError as error:
                typer.echo(f"{error.found} No machine can be left out there.", err=True)
    wanted = parts or PARTS
    left = [run for run in plan_runs(recipe, records, wanted, devices, machines) if not is_done(run, out)]
    trained = [run for run in left if crossval is None or run.part != "corruption"]
    images = sum(len(run.corrupted) * (1 + len(CORRUPTIONS)) for run in left)
    images += sum(2 * len(run.held) for run in trained)
    with bars(lasting=True) as progress:
        training = progress.add_task("training", total=sum(training_steps(recipe, run.train) for run in trained))
        answering = progress.add_task("answering", total=images)
        asked: dict[str, Any] = {"parts": wanted, "devices": devices, "machines": machines, "crossval": crossval}
        results = transfer_study(
            recipe,
            records,
            out=out,
            command=command,
            **asked,
            on_epoch=lambda name, row, count: tell_epoch(progress, [name], row, count),
            on_batch=lambda: progress.advance(training),
            on_answer=lambda: progress.advance(answering),
            cluster=cluster,
        )
    for row in results["table"]:
        if row["auc"]["value"] is not None:
            typer.echo(f"{row['train_on']} -> {row['score_on']} ({row['lesions']} lesions): AUC {in_words(row['auc'])}")
    if "corruption" in results:
        drops = results["corruption"]["mean_drop"]
        typer.echo(f"Changed pictures: macro AUC falls by {in_words(drops['macro_auc'])}")
    typer.echo(f"Written: {out / 'results.json'} and {results['figure']}")
