"""The progress bar of commands that take long: what is done of how much, the time so far and the time left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress


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
