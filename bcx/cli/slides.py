"""What `bcx predict` does with slides: a line of progress, a summary in words or JSON, and files per slide.

>>> stems(["a/x.tif", "b/x.tif", "c/y.svs"])
['x', 'x_2', 'y']
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bcx.cli.progress import bars
from bcx.errors import BcxError, ConfigError, writing
from bcx.inference.input_files import Found, Listing
from bcx.inference.journal import Journal

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.slides import SlideReading


def part_slides(listing: Listing, tile: int | None, out: Path | None) -> tuple[list[Found], Listing]:
    """Take the slides out of a listing.

    Args:
        listing: what was found.
        tile: side of the task's patches; None for tasks of whole pictures, which have no slides.
        out: where this run writes; what an earlier run wrote there is no slide, and is left out.

    Returns:
        The slides, and the listing of the others. What cannot be opened is among those, where its row says why.
    """
    from bcx.slides.reader import size_of
    from bcx.tasks import is_slide

    if tile is None:
        return [], listing
    slides: list[Found] = []
    others: list[Found] = []
    for found in listing.pictures:
        if not found.outright and out is not None and out.resolve() in found.path.resolve().parents:
            continue
        size = None if found.member else size_of(found.path)
        (slides if size is not None and is_slide(*size, tile) else others).append(found)
    return slides, replace(listing, pictures=others)


def stems(files: Sequence[str]) -> list[str]:
    """Return what each slide's files are called: its name without suffix, numbered where one repeats."""
    taken: set[str] = set()
    names = []
    for file in files:
        stem = Path(file).stem
        name, number = stem, 1
        while name.casefold() in taken:  # case is ignored by the file systems of macOS and Windows
            number += 1
            name = f"{stem}_{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def read_slides(
    classifier: Classifier,
    slides: Sequence[Found],
    options: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    journal: Journal | None,
) -> int:
    """Read slides one after the other and print each one's summary; how many could not be read.

    A slide that the journal holds, and whose files are there, is not read again. `options` are those of
    `bcx.slides.stream_slide`.
    """
    failed = 0
    for found, stem in zip(slides, stems([found.file for found in slides]), strict=True):
        seen = [found.stamp, stem]
        if journal and out and journal.holds(found.file, seen) and (out / f"{stem}_slide.json").is_file():
            typer.echo(journal.read(found.file))
            continue
        try:
            reading = _read(classifier, found, options)
        except ConfigError:  # an option that does not fit is a wrong request, and would not fit the next slide either
            raise
        except BcxError as error:
            failed += 1
            typer.echo(f"bcx: {error}", err=True)
            continue
        said = {"file": found.file, **reading.to_dict()}
        line = json.dumps(said) if as_json else f"{found.file}: {in_words(reading)}"
        typer.echo(line)
        if out is not None:
            from bcx.slides import write_reading

            with writing(out):
                files = write_reading(reading, out, stem)
            typer.echo(f"Written: {', '.join(map(str, files.values()))}", err=True)
        if journal is not None:
            journal.add(found.file, seen, line)
    return failed


def _read(classifier: Classifier, found: Found, options: Mapping[str, Any]) -> SlideReading:
    from bcx.slides import stream_slide

    *_, last = _with_progress(found.path.name, stream_slide(classifier, found.path, **options))
    return last.reading()


def _with_progress(name: str, steps: Iterator[Any]) -> Iterator[Any]:
    from rich.markup import escape

    with bars() as progress:
        looking = progress.add_task(f"{escape(name)}: overview, %", total=100)
        reading = None
        for step in steps:
            progress.update(looking, completed=round(100 * step.prepared))
            if step.prepared == 1:
                if reading is None:
                    progress.update(looking, visible=False)
                    reading = progress.add_task(f"{escape(name)}: tiles", total=step.total)
                progress.update(reading, completed=step.done)
            yield step


def in_words(reading: SlideReading) -> str:
    """Say a slide's summary in a sentence or two."""
    said = reading.summary
    if not said["tiles_read"]:
        return "no tissue was found on it; --every-tile reads it all the same."
    places = ", ".join(f"({place['x']}, {place['y']})" for place in said["hottest"][:3])
    return (
        f"{said['tiles_with_tissue']:,} of {said['tiles']:,} tiles show tissue; "
        f"{100 * said['positive_share']:.1f} % of them are called {said['positive']} "
        f"(mean probability {said['mean_probability']:.3f}). Highest around {places}. "
        f"Scale {reading.grid.scale:g}; {reading.seconds:.0f} s."
    )
