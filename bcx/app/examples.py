"""The shipped examples: images that the project made itself, with what they were made to show."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bcx.imaging.scan import Scan
from bcx.report.pictures import data_url
from bcx.tasks import Task


@dataclass(frozen=True)
class Example:
    """One example: its file, the class it was made to show, and its thumbnail as a data address."""

    path: Path
    label: str
    thumbnail: str


def list_examples(folder: str | os.PathLike[str], task: Task) -> list[Example]:
    """Return the examples of a task: those that `examples.csv` names (columns `file`, `label`); none without one.

    It lies in the folder, or in a folder there with the task's name; labels of other tasks are left out.
    """
    for place in (Path(folder) / task.name, Path(folder)):
        table = place / "examples.csv"
        if table.is_file():
            with table.open(encoding="utf-8", newline="") as stream:
                rows = [row for row in csv.DictReader(stream) if row["label"] in task.classes]
            return [_read(place / row["file"], row["label"]) for row in rows]
    return []


@lru_cache(maxsize=256)
def _read(path: Path, label: str) -> Example:
    return Example(path.resolve(), label, data_url(Scan.open(path).pixels, side=168))
