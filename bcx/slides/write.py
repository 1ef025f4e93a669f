"""A slide's reading as files: a table of its tiles, a picture of its map, and the summary.

`NAME_tiles.csv` has one row per tile that was read: row, column, x, y, side (its left upper corner and its side, in
pixels of the slide), label, and one column p_CLASS per class. `NAME_map.png` is the slide, small, with the positive
class's map over it. `NAME_slide.json` is `SlideReading.to_dict`.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from bcx.files import whole
from bcx.slides.reading import SlideReading

SUFFIXES = ("_tiles.csv", "_map.png", "_slide.json")


def write_reading(reading: SlideReading, folder: str | os.PathLike[str], stem: str) -> dict[str, Path]:
    """Write a reading's three files into an existing folder, each under its name once it is complete.

    Returns:
        Suffix -> file, in the order of `SUFFIXES`.
    """
    writers: tuple[Callable[[SlideReading, Path], None], ...] = (write_tiles, write_map, _write_json)
    targets = {suffix: Path(folder) / f"{stem}{suffix}" for suffix in SUFFIXES}
    with ExitStack() as together:
        for target, write in zip(targets.values(), writers, strict=True):
            write(reading, together.enter_context(whole(target)))
    return targets


def write_tiles(reading: SlideReading, file: Path) -> None:
    """Write the table of tiles."""
    classes = reading.task.classes
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row", "column", "x", "y", "side", "label", *(f"p_{name}" for name in classes)])
        for row, column in zip(*np.nonzero(reading.read), strict=True):
            shares = [f"{value:.6f}" for value in reading.probabilities[row, column]]
            place = reading.grid.on_slide(int(row), int(column))
            writer.writerow([row, column, *place, classes[reading.called[row, column]], *shares])


def write_map(reading: SlideReading, file: Path) -> None:
    """Write the picture of the map."""
    reading.overlay().save(file, format="PNG")


def _write_json(reading: SlideReading, file: Path) -> None:
    file.write_text(json.dumps(reading.to_dict(), indent=2, allow_nan=False) + "\n", encoding="utf-8")
