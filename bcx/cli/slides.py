"""What `bcx predict` does with slides: a line of progress, a summary in words or JSON, and files per slide.

>>> stems(["a/x.tif", "b/x.tif", "c/y.svs"])
['x', 'x_2', 'y']
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bcx.cli.progress import stages
from bcx.errors import BcxError, ConfigError, writing
from bcx.inference.input_files import Found, Listing
from bcx.inference.journal import Journal

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.slides import SlideReading


def part_slides(listing: Listing, tile: int | None, out: Path | None) -> tuple[list[Found], Listing]:
    """Take the slides out of a listing: images much larger than the task's patches of side `tile`, if it has any.

    What an earlier run wrote to `out` is left out; what cannot be opened is among the others, where its row says why.
    """
    from bcx.slides.slide import size_of
    from bcx.tasks import is_slide

    if tile is None:
        return [], listing
    slides: list[Found] = []
    others: list[Found] = []
    for found in listing.pictures:
        if found.outright or out is None or out.resolve() not in found.path.resolve().parents:
            size = None if found.member else size_of(found.path)
            (slides if size is not None and is_slide(*size, tile) else others).append(found)
    return slides, replace(listing, pictures=others)


def stems(files: Sequence[str]) -> list[str]:
    """Return what each slide's files are called: its name without suffix, numbered where one repeats."""
    names: dict[str, str] = {}
    for stem in (Path(file).stem for file in files):
        numbered = chain([stem], (f"{stem}_{number}" for number in count(2)))
        # case is ignored by the file systems of macOS and Windows
        name = next(each for each in numbered if each.casefold() not in names)
        names[name.casefold()] = name
    return list(names.values())


def read_slides(
    classifier: Classifier,
    slides: Sequence[Found],
    options: Mapping[str, Any],
    out: Path | None,
    as_json: bool,
    journal: Journal | None,
) -> int:
    """Read slides that the journal does not hold, and print each one's summary; how many could not be read."""
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
                typer.echo(f"Written: {', '.join(map(str, write_reading(reading, out, stem).values()))}", err=True)
        if journal is not None:
            journal.add(found.file, seen, line)
    return failed


def _read(classifier: Classifier, found: Found, options: Mapping[str, Any]) -> SlideReading:
    from rich.markup import escape

    from bcx.slides import stream_slide

    name = escape(found.path.name)
    with stages() as tell:
        for step in stream_slide(classifier, found.path, **options):
            tell(f"{name}: overview, %", round(100 * step.prepared), 100)
            if step.prepared == 1:
                tell(f"{name}: tiles", step.done, step.total)
    return step.reading()


def in_words(reading: SlideReading) -> str:
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
