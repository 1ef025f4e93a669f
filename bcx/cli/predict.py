"""`bcx predict`: results for files, folders and globs, as a table or as JSON lines; on this machine or on many."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

import bcx
from bcx import DEFAULT_MODEL
from bcx.app.gpu import ON_A_SPACE
from bcx.cli import options
from bcx.cli.outputs import PLACE, Outputs, drawn, patients_of, places_of, write_patients
from bcx.cli.progress import counted, name_left_out
from bcx.cli.slides import part_slides, read_slides
from bcx.errors import ConfigError, check_name, writing
from bcx.imaging.style import MapStyle
from bcx.inference.input_files import Found, find
from bcx.inference.journal import Journal
from bcx.inference.patient import STUDY
from bcx.inference.table import columns, csv_lines, row, write_lines
from bcx.networks.device import pick_device

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier

    Todo = tuple[int, Found, dict[str, Path], Any]  # number, where its files go, a stamp that changes when it does


def predict(
    context: typer.Context,
    paths: Annotated[
        list[str], Argument(metavar="PATH", help="Files, ZIP archives, folders (with all below) or globs.")
    ],
    model: str = Option(
        DEFAULT_MODEL, "--model", "--checkpoint", "-m", help="A model's name, its folder, or a Hub id."
    ),
    out: Path | None = Option(
        None, "--out", "-o", help="Write the table here, not to standard output; for slides a folder."
    ),
    overlays: Path | None = Option(None, help="Write pictures per scan that show where the network looked."),
    dicom_out: Path | None = Option(
        None,
        metavar="DIR",
        help="For DICOM scans: write overlay, lesion and report here as DICOM, in the study of the scan.",
    ),
    report: Path | None = Option(
        None, metavar="DIR", help="Write the page's one-page report (PDF) for each scan, and one for the batch."
    ),
    mask_text: bool = Option(
        ON_A_SPACE,
        help="Cover text that is burnt into scans, such as names, in overlays, DICOM and reports; on on a Space.",
    ),
    colours: options.ColoursOption = "signed",
    contour: options.ContourOption = False,
    as_json: bool = Option(False, "--json", help="One JSON object per line instead of CSV."),
    views: options.ViewsOption = 1,
    prevalence: str = Option(
        "",
        metavar="CLASS=SHARE,...",
        help="How often classes occur among these scans, such as malignant=0.01; the others share the rest. "
        "Probabilities follow by Bayes' rule; default: as in training.",
    ),
    operating_point: str = Option(
        "default",
        metavar="default|screening|rule-in",
        help="screening: 95 % of cancers are called, with more false alarms; rule-in: 95 % of the others are not.",
    ),
    patients: str | None = Option(
        None,
        metavar="folder|study|FILE.csv",
        help="Also write one combined answer per patient, beside --out: scans of one folder, of one DICOM study, "
        "or as a table with the columns file and patient says.",
    ),
    frames: int | None = Option(
        None, min=1, help="Clips: frames read at most, evenly spread (16), but for blank ones."
    ),
    stride: int | None = Option(None, min=1, help="Slides: pixels from tile to tile; by default tiles touch."),
    scale: float | None = Option(None, help="Slides: pixels of the model's training images per pixel of the slide."),
    engine: str = Option(
        "local",
        metavar="local|ray",
        help="ray: on many machines. PATH may then be URLs (s3://, gs://, hf://) and tables (CSV, Parquet) with a "
        "column file; --out is a folder of shards.",
    ),
    address: options.AddressOption = None,
    shards: str = Option("parquet", metavar="parquet|csv", help="With --engine ray: the form."),
    resume: options.ResumeOption = True,
    verbose: options.VerboseOption = False,
    every_tile: bool = Option(False, "--every-tile", help="Slides: also read tiles of bare glass."),
    device: options.DeviceOption = "auto",
) -> None:
    """Classify scans. Exit status 1 when some file failed, 2 for wrong usage.

    In a folder or glob, pictures are told by their first bytes; masks beside their scan and files that are no
    pictures are skipped and counted. A file that is called a picture and is none gets a row with its reason, and so
    does whatever is named outright.

    Stopped at any moment, the same command goes on where it was: what was answered is kept beside --out.

    A model of small patches reads a picture that is much larger than one as a slide: tile by tile, into a map. Then
    --out is a folder, and each slide gets a table of its tiles, a picture of its map and a summary there.
    """
    asked: dict[str, Any] = {"views": views, "frames": frames, "operating_point": operating_point}
    asked["prevalence"] = _shares(prevalence)
    tiles = {"stride": stride, "scale": scale, "every_tile": every_tile}
    if cluster := options.cluster_of(engine, address):
        beside = {"--json": as_json, "--dicom-out": dicom_out, "--report": report}
        of_slides = {f"--{name.replace('_', '-')}": value for name, value in tiles.items()}
        options.refuse({**beside, "--patients": patients, **of_slides}, "with --engine ray", "a table, and overlays")
        pictures = None if overlays is None else (overlays, mask_text, MapStyle(colours, contour))
        _predict_on_ray(paths, model, out, {**asked, "device": device}, shards, cluster, resume, pictures)
        return
    folders = {"overlays": overlays, "dicom": dicom_out, "report": report}
    outputs = Outputs(folders, mask_text, MapStyle(colours, contour))
    listing = find(paths, leave_out=list(outputs.folders.values()))
    if out is not None and out.is_file() and any(_same(found.path, out) for found in listing.pictures):
        raise ConfigError(
            f"'{out}' is one of the scans.", expected="another file after --out", remedy="Choose another name."
        )
    outputs.prepare(listing)
    if verbose:
        name_left_out(listing.left_out)

    classifier = bcx.load(model, **asked)
    slides, listing = part_slides(listing, classifier.task.tile, out)
    scans, places, grouped, combined = listing.pictures, {}, {}, None
    if patients is not None:
        if out is None or slides:
            options.refuse({"--patients": True}, "without a table of scans", "--out FILE, and scans rather than slides")
        assert out is not None
        combined = out.with_name(f"{out.stem}.patients.csv")
        if _same(Path(patients), out) or _same(Path(patients), combined):
            found = f"'{patients}' would be written over by the results."
            raise ConfigError(found, expected="another file after --out", remedy="Choose another name.")
        places = places_of(scans) if patients == STUDY else {}
        grouped = patients_of(scans, patients, places)
    _check_folder(slides, out)
    table = out / f"predictions.{'jsonl' if as_json else 'csv'}" if out is not None and slides else out
    begun, kept, tally = time.perf_counter(), 0, Counter[str]()
    settings = _settings(context, classifier, outputs)
    with nullcontext() if table is None else Journal(table, settings, resume=resume) as journal:
        if journal is not None and journal.started_over:
            typer.echo(f"bcx: started over: an unfinished run differs in {', '.join(journal.started_over)}.", err=True)
        failed_slides = read_slides(classifier, slides, tiles, out, as_json, journal)
        if scans:
            kept, tally = _answer(classifier, scans, outputs, journal, table, as_json, places)
            if journal is not None and combined is not None:
                rows = (journal.read(found.file)["row"] for found in scans)
                typer.echo(write_patients(classifier, rows, grouped, combined), err=True)
            outputs.finish(classifier)
        if journal is not None:
            journal.finish()
    if scans:
        more = [*outputs.said(), listing.skipped, f"written to {os.fspath(table)}" if table else ""]
        what = f"{len(scans)} file{'' if len(scans) == 1 else 's'}"
        _tell(what, len(scans), kept, begun, tally, more)
    if tally["failed"] or failed_slides or outputs.refused:
        raise typer.Exit(1)


def _tell(what: str, count: int, kept: int, begun: float, tally: Mapping[str, int], more: list[str]) -> None:
    """Say on standard error what was done, at what pace, and what came of it."""
    seconds = time.perf_counter() - begun
    parts = [f"{what} in {seconds:.1f} s ({(count - kept) / seconds:.1f}/s)"]
    parts += [f"{kept} of them answered before"] if kept else []
    parts += [", ".join(f"{count} {name}" for name, count in sorted(tally.items()) if count and name != "failed")]
    parts += [f"{tally['failed']} could not be read" if tally["failed"] else "", *more]
    typer.echo(f"{'; '.join(filter(None, parts))}.\nFor research and teaching, never for diagnosis.", err=True)


def _predict_on_ray(
    paths: Sequence[str],
    model: str,
    out: Path | None,
    asked: dict[str, Any],
    form: str,
    address: str,
    resume: bool,
    pictures: tuple[Path, bool, MapStyle] | None,
) -> None:
    """Answer scans on a Ray cluster, in shards; `asked`: options of `bcx.load`; `pictures`: overlays, where and how."""
    from bcx.inference.cluster import FORMS, Job, run
    from bcx.inference.shards import is_url, plan_shards

    def place(path: Path) -> str:  # workers have other current folders; and a path makes one slash of the two in s3://
        url = re.sub(r"^([a-z0-9]{2,}):/+", r"\1://", str(path))
        return url if is_url(url) else os.path.abspath(url)

    if out is None or out.suffix or out.is_file():
        remedy = "Add for example --out results."
        raise ConfigError("--engine ray writes shards.", expected="a folder or URL after --out", remedy=remedy)
    check_name(form, FORMS, "form of shards")
    beside, draw = None, None
    if pictures is not None:
        folder, mask_text, style = pictures
        beside = {"folder": place(folder), "mask_text": mask_text, **asdict(style)}
        draw = partial(drawn, mask_text=mask_text, style=style)
    shards = plan_shards(paths, beside["folder"] if beside else "")
    classifier = bcx.load(model, **asked)  # on this machine, so that what does not fit is told at once
    named = os.path.abspath(model) if os.path.isdir(model) else model
    job = Job(named, classifier.weights_sha256, place(out), form, asked, beside)
    begun, tally, kept = time.perf_counter(), Counter[str](), 0
    total = sum(shard.count for shard in shards)
    with counted(total) as on_scan:
        for done in run(job, shards, address=address, resume=resume, draw=draw):
            for _ in range(done["scans"]):
                on_scan()
            kept += done["scans"] if done.get("kept") else 0
            tally.update(done["decisions"], failed=done["failed"])
    _tell(f"{total} scans in {len(shards)} shards", total, kept, begun, tally, [f"written to {out}"])
    if tally["failed"]:
        raise typer.Exit(1)


def _shares(text: str) -> dict[str, float]:
    """Read "malignant=0.01,normal=0.9"."""
    try:
        pairs = [part.split("=") for part in text.split(",") if part.strip()]
        return {name.strip(): float(share) for name, share in pairs}
    except ValueError as error:
        expected = "classes with their shares, such as malignant=0.01,normal=0.9"
        raise ConfigError(f"The prevalence is '{text}'.", expected=expected, remedy="Write it like this.") from error


def _settings(context: typer.Context, classifier: Classifier, outputs: Outputs) -> dict[str, Any]:
    """Return everything that the answers depend on but the scans: every option but those that cannot change one."""
    from bcx.checkpoints.checkpoint import sha256_of

    aside = {"paths", "model", "out", "overlays", "dicom_out", "report", "resume", "verbose", "patients", "device"}
    aside |= {"engine", "address", "shards"}
    beside = [classifier.folder / "config.json", classifier.folder / "gate.safetensors"]
    return {
        "bcx": bcx.__version__,
        "model": classifier.name,
        "weights": classifier.weights_sha256,
        "checkpoint": sha256_of(*(file for file in beside if file.is_file())),
        "backend": classifier.backend,
        "device": pick_device(),
        "current folder": None if all(map(os.path.isabs, context.params["paths"])) else os.getcwd(),
        "overlays": [os.fspath(folder.resolve()) for folder in outputs.folders.values()],
        **{name: value for name, value in context.params.items() if name not in aside},
    }


def _check_folder(slides: list[Found], out: Path | None) -> None:
    """Make the folder for slides; without slides, refuse one that stands where the table should."""
    if out is None:
        return
    if not slides and out.is_dir():
        raise ConfigError(f"'{out}' is a folder.", expected="a file name after --out", remedy="Add a file name.")
    if slides and (out.is_file() or out.suffix in (".csv", ".json", ".jsonl")):
        found = f"'{out}' is a file's name, and '{slides[0].file}' is a slide."
        expected = "a folder after --out, for each slide's table, map and summary"
        raise ConfigError(found, expected=expected, remedy="Name a folder.")
    with writing(out):
        (out if slides else out.parent).mkdir(parents=True, exist_ok=True)


def _same(path: Path, other: Path) -> bool:
    return path.exists() and other.exists() and path.samefile(other)


def _answer(
    classifier: Classifier,
    scans: Sequence[Found],
    outputs: Outputs,
    journal: Journal | None,
    table: Path | None,
    as_json: bool,
    places: Mapping[str, Mapping[str, str]],
) -> tuple[int, Counter[str]]:
    """Answer what the journal does not hold, and write all rows; how many it held, and the decisions.

    Without a journal the rows go to standard output as they come.
    """
    left = [
        (number, found, target, stamp)
        for number, (found, target) in enumerate(zip(scans, outputs.targets(scans), strict=True), 1)
        for stamp in [found.stamp]
        if journal is None or not (journal.holds(found.file, stamp) and outputs.are_there(target))
    ]
    kept, tally = len(scans) - len(left), Counter[str]()
    answers = _answers(classifier, left, kept, outputs, as_json)
    if journal is not None:
        for file, stamp, answer in answers:
            journal.add(file, stamp, answer)

    def rows() -> Iterator[dict[str, Any]]:
        said = (answer for *_, answer in answers) if journal is None else (journal.read(each.file) for each in scans)
        for answer in said:
            row, decision = answer["row"], answer["decision"]
            tally[decision] += 1
            outputs.count(row["file"], decision, row)
            yield {**row, **places.get(row["file"], {})}

    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    if as_json:
        # Escaped to ASCII, so that a file name that is no valid Unicode is written and read back as it is.
        lines: Iterator[str] = (f"{json.dumps(each)}\n" for each in rows())
    else:
        lines = csv_lines(rows(), [*columns(classifier.task), *(PLACE if places else ())])
    with nullcontext() if table is None else writing(table):
        write_lines(lines, table or sys.stdout)
    sys.stdout.flush()  # a reader that has gone (`bcx predict ... | head`) is met here, where Typer ends quietly
    return kept, tally


def _answers(
    classifier: Classifier, todo: Sequence[Todo], kept: int, outputs: Outputs, as_json: bool
) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Answer scans and write their files, with a bar on standard error: file, stamp, and decision and row."""
    from bcx.inference.prediction import Failure

    with counted(kept + len(todo), kept) as on_scan:
        answers = classifier.stream(found.source for _, found, *_ in todo)
        for (number, found, target, stamp), answer in zip(todo, answers, strict=True):
            outputs.write(answer, found, target, number, classifier.task)
            on_scan()
            cells = {"file": found.file, **answer.to_dict()} if as_json else row(answer, found.file, classifier.task)
            failed = isinstance(answer, Failure)  # may have passed by the next time, so that it is tried again
            decision = "failed" if isinstance(answer, Failure) else answer.decision
            yield found.file, None if failed else stamp, {"decision": decision, "row": cells}
