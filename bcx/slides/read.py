"""A slide, tile by tile through the engine: the map grows as it goes, memory is bounded however large it is."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from bcx.errors import ConfigError
from bcx.imaging.scan import Scan
from bcx.inference.classifier import Classifier
from bcx.slides.grid import Grid, tiles_with_tissue, tissue_of
from bcx.slides.result import SlideReading
from bcx.slides.slide import Slide
from bcx.tasks import Task
from bcx.trust.plain import is_stained

SlideSource = str | os.PathLike[str] | np.ndarray | Scan | Slide

#: Longer side of the overview, in pixels: tissue is told from glass on it, and the map is laid over it.
OVERVIEW = 1536


@dataclass
class SlideProgress:
    """How far a slide is read. One object that changes from step to step; `reading()` is a copy."""

    name: str
    started: float = field(default_factory=time.perf_counter, repr=False)
    prepared: float = 0.0  # share of the overview that is made, 0..1; tiles are read once it is 1
    done: int = 0  # tiles that are read
    total: int = 0  # tiles to read
    seconds: float = 0.0  # since the beginning
    _tiles_from: float = field(default=0.0, repr=False)
    _made: SlideReading | None = field(default=None, repr=False)

    @property
    def finished(self) -> bool:
        """Whether every tile is read."""
        return self.prepared == 1 and self.done == self.total

    @property
    def seconds_left(self) -> float | None:
        """Until every tile is read, judged by the tiles so far; None before the first."""
        if self.finished:
            return 0.0
        if not self.done:
            return None
        return (self.seconds - self._tiles_from) / self.done * (self.total - self.done)

    def reading(self) -> SlideReading:
        """Return what is known so far, as a value that no longer changes; `ConfigError` before `prepared` is 1."""
        if self._made is None:
            expected, remedy = "a slide whose overview is made", "Ask again once `prepared` is 1."
            raise ConfigError("No tile has been read yet.", expected=expected, remedy=remedy)
        return self._made.snapshot(self.seconds)


def _wanted(overview: np.ndarray, grid: Grid, task: Task) -> np.ndarray:
    """The tiles with tissue, bool `[rows, columns]`; none where what is not glass has not the colours of one."""
    tissue = tissue_of(overview)
    if task.augmentation == "histology" and tissue.any() and not is_stained(overview[tissue][None]):
        tissue[:] = False
    return tiles_with_tissue(tissue, grid)


def read_slide(classifier: Classifier, source: SlideSource, **options: Any) -> SlideReading:
    """Read a slide to its end; the arguments are those of `stream_slide`."""
    *_, last = stream_slide(classifier, source, **options)
    return last.reading()


def stream_slide(
    classifier: Classifier,
    source: SlideSource,
    *,
    stride: int | None = None,
    scale: float | None = None,
    every_tile: bool = False,
    name: str | None = None,
) -> Iterator[SlideProgress]:
    """Read a slide tile by tile, from top to bottom; ending early closes the file and leaves nothing running.

    Each tile's probabilities are those that `classifier.predict` gives for the same pixels, to 1e-5.

    Args:
        source: path of an image, pixels in memory, or an open `Slide` (which stays open).
        stride: from one tile to the next, in pixels of the scale that the network learned; default: tiles touch.
        scale: pixels of the model's training images per pixel of the slide. Default: by the sizes that the file and
            the task state in micrometres where both do, else 1.
        every_tile: also read tiles that show bare glass.

    Yields:
        The same `SlideProgress`, first while the overview is made, then after each block of tiles. `ConfigError`: the
        task is not read in tiles, or a setting is out of range; another `BcxError`: the source cannot be read.
    """
    task = classifier.task
    if task.tile is None:
        raise ConfigError(
            f"'{task.name}' is a task of whole pictures.",
            expected="a model of a task whose patches are cut from slides",
            remedy="Use another model, or give the picture to `predict`.",
        )
    with nullcontext(source) if isinstance(source, Slide) else Slide.open(source, name) as slide:
        progress = SlideProgress(slide.name)
        scale = _scale_for(slide, task) if scale is None else scale
        grid = Grid.over(slide, task.tile, stride, scale)
        for progress.prepared, overview in slide.overview(OVERVIEW, min(os.cpu_count() or 1, 4)):  # noqa: B007
            progress.seconds = time.perf_counter() - progress.started
            if progress.prepared < 1:
                yield progress
        wanted = np.ones(grid.shape, bool) if every_tile else _wanted(overview, grid, task)
        made = SlideReading(
            name=slide.name,
            task=task,
            width=slide.width,
            height=slide.height,
            microns=slide.microns,
            notes=slide.notes,
            grid=grid,
            probabilities=np.full((*grid.shape, len(task.classes)), np.nan, np.float32),
            called=np.full(grid.shape, -1, np.int16),
            tissue=wanted,
            overview=overview,
            model=classifier.name,
            weights_sha256=classifier.weights_sha256,
            backend=classifier.backend,
            seconds=0.0,
        )
        progress._made, progress.total = made, int(wanted.sum())
        progress._tiles_from = progress.seconds
        yield progress
        waiting: list[tuple[np.ndarray, np.ndarray]] = []

        def groups() -> Iterator[Callable[[], list[np.ndarray]]]:
            for block in grid.blocks(slide, wanted):
                waiting.append(block)
                yield partial(grid.read, slide, *block)

        answers = classifier.stream_probabilities(groups())
        try:
            for probabilities in answers:
                tiles = waiting.pop(0)
                made.probabilities[tiles] = probabilities
                made.called[tiles] = classifier.choose(probabilities)
                progress.done += len(probabilities)
                progress.seconds = time.perf_counter() - progress.started
                yield progress
        finally:
            answers.close()  # type: ignore[attr-defined]


def _scale_for(slide: Slide, task: Task) -> float:
    """The scale that brings a slide to the task's size of pixels, 1 where either does not say its own."""
    if slide.microns is None or task.microns is None:
        return 1.0
    scale = slide.microns / task.microns
    return 1.0 if 0.95 <= scale <= 1.05 else scale  # what a scanner rounds is no reason to blur
