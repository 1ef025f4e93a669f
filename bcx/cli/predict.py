"""`bcx predict`: what the network makes of files, folders and globs, as a table or as JSON lines.

>>> from pathlib import Path
>>> overlay_name(Path("ward/a.dcm"), set()).as_posix()
'ward/a_overlay.png'
"""

from __future__ import annotations

import collections
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from bcx import DEFAULT_MODEL
from bcx.cli.progress import VerboseOption, name_left_out
from bcx.cli.slides import SlideOptions, part_slides, read_slides
from bcx.errors import ConfigError
from bcx.inference.input_files import Found, Listing, find

if TYPE_CHECKING:
    from PIL import Image

    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Failure, Prediction

    Answers = Iterator[tuple[Found, Prediction | Failure]]


def predict(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Files, folders (with all below) or globs.")],
    model: Annotated[
        str, typer.Option("--model", "--checkpoint", "-m", help="A model's name, its folder, or a Hub id.")
    ] = DEFAULT_MODEL,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the table here, not to standard output; for slides a folder."),
    ] = None,
    overlays: Annotated[
        Path | None, typer.Option("--overlays", help="Write pictures per scan that show where the network looked.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line instead of CSV.")] = False,
    views: Annotated[
        int, typer.Option("--views", min=1, max=2, help="2 also looks at the mirrored scan and averages.")
    ] = 1,
    stride: Annotated[
        int | None, typer.Option("--stride", min=1, help="Slides: pixels from tile to tile; by default tiles touch.")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="Slides: pixels of the model's training images per pixel of the slide."),
    ] = None,
    verbose: VerboseOption = False,
    every_tile: Annotated[bool, typer.Option("--every-tile", help="Slides: also read tiles of bare glass.")] = False,
) -> None:
    """Classify scans. Exit status 1 when some file failed, 2 for wrong usage.

    In a folder or glob, pictures are told by their first bytes; masks beside their scan and files that are no
    pictures are skipped and counted. A file that is called a picture and is none gets a row with its reason, and so
    does whatever is named outright.

    A model of small patches reads a picture that is much larger than one as a slide: tile by tile, into a map. Then
    --out is a folder, and each slide gets a table of its tiles, a picture of its map and a summary there.
    """
    listing = find(paths, leave_out=overlays)
    _check_outputs(listing, out, overlays)
    if verbose:
        name_left_out(listing.left_out)

    import bcx

    classifier = bcx.load(model, views=views)
    slides, listing = part_slides(listing, classifier.task.tile, out)
    _check_folder(slides, out)
    failed_slides = 0
    if slides:
        failed_slides = read_slides(classifier, slides, SlideOptions(stride, scale, every_tile), out, as_json)
        if not listing.pictures:
            raise typer.Exit(1 if failed_slides else 0)
        out = None if out is None else out / ("predictions.jsonl" if as_json else "predictions.csv")
    tally: collections.Counter[str] = collections.Counter()
    begun = time.perf_counter()
    answers = _with_progress(classifier, listing.pictures)
    if overlays is not None:
        answers = _with_overlays(answers, overlays)
    answers = _counted(answers, tally)
    if as_json:
        _write_json(answers, out)
    else:
        _write_table(answers, out, classifier)
    sys.stdout.flush()  # a reader that has gone (`bcx predict ... | head`) is met here, where Typer ends quietly
    typer.echo(_summary(listing, tally, time.perf_counter() - begun, out), err=True)
    if tally["failed"] or failed_slides:
        raise typer.Exit(1)


def _check_folder(slides: list[Found], out: Path | None) -> None:
    """Make the folder for slides; without slides, refuse one that stands where the table should."""
    if out is None:
        return
    if not slides:
        if out.is_dir():
            raise ConfigError(f"'{out}' is a folder.", expected="a file name after --out", remedy="Add a file name.")
        out.parent.mkdir(parents=True, exist_ok=True)
    elif out.is_file() or out.suffix in (".csv", ".json", ".jsonl"):
        raise ConfigError(
            f"'{out}' is a file's name, and '{slides[0].file}' is a slide.",
            expected="a folder after --out, for each slide's table, map and summary",
            remedy="Name a folder.",
        )
    else:
        out.mkdir(parents=True, exist_ok=True)


def _check_outputs(listing: Listing, out: Path | None, overlays: Path | None) -> None:
    """Refuse, before anything is read, what would be written over a scan or could not be written at the end."""
    if out is not None and out.is_file() and any(_same(found.path, out) for found in listing.pictures):
        raise ConfigError(
            f"'{out}' is one of the scans.", expected="another file after --out", remedy="Choose another name."
        )
    if overlays is not None:
        if overlays.exists() and any(root.samefile(overlays) for root in listing.roots):
            raise ConfigError(
                f"The overlays would be written among the scans in '{overlays}', and read as scans the next time.",
                expected="another folder after --overlays",
                remedy=f"Use for example '{overlays / 'overlays'}'.",
            )
        overlays.mkdir(parents=True, exist_ok=True)


def _same(path: Path, other: Path) -> bool:
    return path.exists() and path.samefile(other)


def _with_progress(classifier: Classifier, pictures: list[Found]) -> Answers:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("scans"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("left"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=len(pictures))
        answers = classifier.stream(found.path for found in pictures)
        for found, answer in zip(pictures, answers, strict=True):
            progress.advance(task)
            yield found, answer


def overlay_name(inside: Path, taken: set[str]) -> Path:
    """Return where a scan's overlay goes below the folder of overlays, and add it to the names taken.

    `a.dcm` gives `a_overlay.png`; a second scan called `a.png` there gives `a.png_overlay.png`.
    """
    choices = [inside.with_name(f"{inside.stem}_overlay.png"), inside.with_name(f"{inside.name}_overlay.png")]
    number = 2
    while choices[0].as_posix().casefold() in taken:  # case is ignored by the file systems of macOS and Windows
        choices = [*choices[1:], inside.with_name(f"{inside.name}_{number}_overlay.png")]
        number += 1
    taken.add(choices[0].as_posix().casefold())
    return choices[0]


def _with_overlays(answers: Answers, folder: Path) -> Answers:
    from bcx.app.pictures import lesion_picture
    from bcx.inference.prediction import Prediction

    taken: set[str] = set()
    for found, answer in answers:
        target = folder / overlay_name(found.inside, taken)
        if isinstance(answer, Prediction):
            target.parent.mkdir(parents=True, exist_ok=True)
            _save(answer.overlay(), target)
            lesion = lesion_picture(answer)
            if lesion is not None:
                _save(lesion, target.with_name(f"{target.name.removesuffix('_overlay.png')}_lesion.png"))
        yield found, answer


def _save(picture: Image.Image, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    picture.save(partial, format="PNG")
    partial.replace(target)


def _counted(answers: Answers, tally: collections.Counter[str]) -> Answers:
    from bcx.inference.prediction import Prediction

    for found, answer in answers:
        tally[answer.decision if isinstance(answer, Prediction) else "failed"] += 1
        yield found, answer


def _write_table(answers: Answers, out: Path | None, classifier: Classifier) -> None:
    from bcx.inference import table

    rows = (table.row(answer, found.file, classifier.task) for found, answer in answers)
    table.write_csv(rows, _stdout() if out is None else out, classifier.task)


def _write_json(answers: Answers, out: Path | None) -> None:
    lines = ({"file": found.file, **answer.to_dict()} for found, answer in answers)
    if out is None:
        _write_lines(lines, _stdout())
        return
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as stream:
            _write_lines(lines, stream)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _write_lines(objects: Iterable[dict[str, Any]], stream: TextIO) -> None:
    # Escaped to ASCII, so that a file name that is no valid Unicode is written and read back as it is.
    stream.writelines(f"{json.dumps(each)}\n" for each in objects)


def _stdout() -> TextIO:
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    return sys.stdout


def _summary(listing: Listing, tally: collections.Counter[str], seconds: float, out: Path | None) -> str:
    count = len(listing.pictures)
    said = [f"{number} {name}" for name, number in sorted(tally.items()) if name != "failed"]
    parts = [f"{count} file{'' if count == 1 else 's'} in {seconds:.1f} s ({count / seconds:.1f}/s)"]
    parts += [", ".join(said)] if said else []
    parts += [f"{tally['failed']} could not be read"] if tally["failed"] else []
    parts += [listing.skipped] if listing.skipped else []
    parts += [f"written to {os.fspath(out)}"] if out is not None else []
    return "; ".join(parts) + ".\nFor research and teaching, never for diagnosis."
