"""The shipped examples: pictures that the project made itself, with what they were made to show.

>>> list_examples("no-such-folder")
[]
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from html import escape
from pathlib import Path

from bcx.app.pictures import data_url


@dataclass(frozen=True)
class Example:
    """One example: its file, the class it was made to show, and its thumbnail as a data address."""

    path: Path
    label: str
    thumbnail: str


def list_examples(folder: str | os.PathLike[str]) -> list[Example]:
    """Return the examples that `examples.csv` in `folder` names (columns `file`, `label`); none without that table."""
    table = Path(folder) / "examples.csv"
    if not table.is_file():
        return []
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [_read(Path(folder) / row["file"], row["label"]) for row in rows]


def _read(path: Path, label: str) -> Example:
    from bcx.images import Scan

    return Example(path.resolve(), label, data_url(Scan.open(path).pixels, side=168))


def strip_html(examples: list[Example]) -> str:
    """Return the row of example buttons; each says that it is simulated."""
    buttons = "".join(
        f'<button type="button" class="bcx-example" data-pick="{place}" '
        f'aria-label="Example {place + 1}: simulated scan, made to look {escape(example.label)}">'
        f'<img src="{example.thumbnail}" alt=""><span>{escape(example.label)}</span></button>'
        for place, example in enumerate(examples)
    )
    return (
        '<p class="bcx-strip-title">Or try an example <span class="bcx-chip">simulated</span></p>'
        f'<div class="bcx-strip" role="group" aria-label="Simulated examples">{buttons}</div>'
    )
