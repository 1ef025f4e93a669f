"""What was read of a slide: the map of probabilities on the grid of tiles, its summary, images and files."""

from __future__ import annotations

import csv
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from bcx.errors import check_name
from bcx.files import whole
from bcx.imaging.overlay import colourise
from bcx.slides.grid import Grid
from bcx.tasks import Task

PLACES = 5  # hottest places that the summary lists


class Place(NamedTuple):
    """A place's middle, in pixels of the slide, and the mean probability of the positive class over 3 x 3 tiles."""

    x: int
    y: int
    probability: float


@dataclass(frozen=True, eq=False)
class SlideReading:
    """One slide, read; `width`, `height`, `microns` and `notes` as of `Slide`."""

    name: str
    task: Task
    width: int
    height: int
    microns: float | None
    notes: tuple[str, ...]
    grid: Grid
    probabilities: np.ndarray = field(repr=False)  # float32 `[rows, columns, classes]`; NaN: nothing was read
    called: np.ndarray = field(repr=False)  # int16 `[rows, columns]`: class by the stored rule, -1: not read
    tissue: np.ndarray = field(repr=False)  # bool `[rows, columns]`: the tiles that are read; others show bare glass
    overview: np.ndarray = field(repr=False)  # uint8 `[h, w]` or `[h, w, 3]`: the slide, small
    model: str
    weights_sha256: str
    backend: str
    seconds: float  # from the beginning to now

    def snapshot(self, seconds: float) -> SlideReading:
        return replace(self, probabilities=self.probabilities.copy(), called=self.called.copy(), seconds=seconds)

    @property
    def read(self) -> np.ndarray:
        """bool `[rows, columns]`: the tiles that were read so far."""
        return self.called >= 0

    @property
    def summary(self) -> dict[str, Any]:
        """The slide in a few numbers; shares and the mean are of the tiles read, and None where there are none."""
        read, number = self.read, self.task.classes.index(self.task.positive)
        count = int(read.sum())
        return {
            "tiles": int(read.size),
            "tiles_with_tissue": int(self.tissue.sum()),
            "tiles_read": count,
            "tissue_share": float(self.tissue.mean()),
            "positive": self.task.positive,
            "positive_share": float((self.called[read] == number).mean()) if count else None,
            "mean_probability": float(self.probabilities[read][:, number].mean(dtype=np.float64)) if count else None,
            "hottest": [place._asdict() for place in self.hottest(PLACES)],
        }

    def hottest(self, count: int) -> list[Place]:
        """Return up to `count` places where the positive class is most probable over 3 x 3 tiles, two tiles apart."""
        read = self.read
        values = np.where(read, self.probabilities[..., self.task.classes.index(self.task.positive)], 0)
        sums, near = (
            cv2.boxFilter(each.astype(np.float64), -1, (3, 3), normalize=False, borderType=cv2.BORDER_CONSTANT)
            for each in (values, read)
        )
        means = np.where(read, sums / np.maximum(near, 1), -1)
        places = []
        for _ in range(count):
            row, column = np.unravel_index(int(means.argmax()), means.shape)
            if means[row, column] < 0:
                break
            x, y, side = self.grid.on_slide(int(row), int(column))
            places.append(Place(x + side // 2, y + side // 2, float(means[row, column])))
            means[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3] = -1
        return places

    def to_dict(self) -> dict[str, Any]:
        """Return the summary and how it came about, without the map, as JSON."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "microns_per_pixel": self.microns,
            "notes": list(self.notes),
            "task": self.task.name,
            **{key: getattr(self.grid, key) for key in ("tile", "stride", "scale")},
            "rows": self.grid.shape[0],
            "columns": self.grid.shape[1],
            **self.summary,
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "backend": self.backend,
            "seconds": round(self.seconds, 3),
        }

    def layer(self, class_: str | None = None, side: int | None = None) -> np.ndarray:
        """Return the positive or another class's map: uint8 `[h, w, 4]`, transparent where no tile was read.

        Green stands for a probability of 0, purple for 1, white for one half. `side` is the longer side of the result;
        default: the overview's. `ConfigError`: no such class.
        """
        wanted = self.task.positive if class_ is None else class_
        check_name(wanted, self.task.classes, "class")
        height, width = self._size(side)
        plane = self.probabilities[..., self.task.classes.index(wanted)]
        # Every pixel shows the tile whose middle is nearest, so that the last row and column, which overlap, fit too.
        rows, columns = (
            _nearest(starts, self.grid.tile, length)
            for starts, length in ((self.grid.ys, height), (self.grid.xs, width))
        )
        values = plane[rows][:, columns]
        shown = np.isfinite(values)
        colours = colourise(np.where(shown, 2 * values - 1, 0), 1.0)
        return np.dstack([colours, np.where(shown, 255, 0).astype(np.uint8)])

    def picture(self, side: int | None = None) -> Image.Image:
        """Return the slide, small, RGB; `side` as of `layer`."""
        image = Image.fromarray(np.ascontiguousarray(self.overview)).convert("RGB")
        height, width = self._size(side)
        return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BOX)

    def overlay(self, class_: str | None = None, opacity: float = 0.5) -> Image.Image:
        """Return `picture` with `layer` over it; `opacity` is 0 (the slide alone) to 1 (the map alone)."""
        picture, layer = self.picture(), Image.fromarray(self.layer(class_))
        layer.putalpha(layer.getchannel("A").point(lambda value: round(value * float(np.clip(opacity, 0, 1)))))
        picture.paste(layer, mask=layer)
        return picture

    def _size(self, side: int | None) -> tuple[int, int]:
        height, width = self.overview.shape[:2]
        share = min(1.0, side / max(height, width)) if side else 1.0
        return max(1, round(height * share)), max(1, round(width * share))


def _nearest(starts: tuple[int, ...], tile: int, length: int) -> np.ndarray:
    """For each of `length` pixels along a side, which tile's middle is nearest."""
    middles = np.asarray(starts) + tile / 2
    pixels = (np.arange(length) + 0.5) * (starts[-1] + tile) / length
    return np.searchsorted((middles[1:] + middles[:-1]) / 2, pixels)


def write_reading(reading: SlideReading, folder: str | os.PathLike[str], stem: str) -> dict[str, Path]:
    """Write a reading's three files into an existing folder, all or none; return them by what follows the stem."""
    targets = {suffix: Path(folder) / f"{stem}{suffix}" for suffix in ("_tiles.csv", "_map.png", "_slide.json")}
    with ExitStack() as together:
        tiles, picture, facts = (together.enter_context(whole(target)) for target in targets.values())
        write_tiles(reading, tiles)
        reading.overlay().save(picture, format="PNG")
        text = json.dumps(reading.to_dict(), indent=2, allow_nan=False)
        facts.write_text(text + "\n", encoding="utf-8")
    return targets


def write_tiles(reading: SlideReading, file: Path) -> None:
    """Write the table of tiles."""
    classes = reading.task.classes
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["row", "column", "x", "y", "side", "label", *(f"p_{name}" for name in classes)])
        for row, column in zip(*np.nonzero(reading.read), strict=True):
            shares = [f"{value:.6f}" for value in reading.probabilities[row, column]]
            place = reading.grid.on_slide(int(row), int(column))
            writer.writerow([row, column, *place, classes[reading.called[row, column]], *shares])
