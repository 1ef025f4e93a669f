"""What commands tell on standard error: what is done of how much, the time left, and which files were left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.progress import Progress

ResumeOption = Annotated[
    bool, typer.Option(help="Go on with what an unfinished run of the same settings has kept, or begin anew.")
]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Name every file that was left out, and why.")]


def name_left_out(left_out: Iterable[tuple[str, str]]) -> None:
    """Say which files were left out, one a line."""
    for file, why in left_out:
        typer.echo(f"left out: {file}: {why}".encode("utf-8", "backslashreplace").decode(), err=True)


def part_of(row: Mapping[str, Any]) -> list[str]:
    """Return whose epoch a row of a training's history is, in words: nothing where one network is trained once."""
    return [f"{part} {row[part]}" for part in ("member", "training") if part in row]


def counted_progress() -> Progress:
    """Return bars on standard error that count; `progress.console` prints lines above them."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=Console(stderr=True))
