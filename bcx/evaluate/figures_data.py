"""Figures of scans: classes, intensities, augmentation, and answers with their images.

Those that show patients' scans belong where the scans may lie, and nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bcx.errors import DataError
from bcx.evaluate.canvas import DASHES, DIM, INK, paper, publish, styled
from bcx.evaluate.words import percent
from bcx.imaging.overlay import lay_over
from bcx.imaging.preprocess import resize, to_grey
from bcx.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, WRONG = "#007A57", "#C0390B"
"""Green and red that differ in lightness, near Okabe and Ito's; a tick or cross and the frame's dashes say the same."""
TILE = 420
"""Pixels: longer side of an image as it is drawn."""
OPACITY = 0.6

_BINS = 64


@dataclass(frozen=True)
class Answer:
    """One scan, uint8 [H, W] or [H, W, 3], with its answer, for a gallery.

    Attributes:
        confidence: probability of the predicted class, 0..1.
        values: float32 [H, W], the predicted class's map in logit units at the scan's size, or None.
        limit: end of the map's colour scale, in logit units.
    """

    pixels: np.ndarray
    true: str
    predicted: str
    confidence: float
    values: np.ndarray | None = None
    limit: float = 4.0


class IntensityTally:
    """How bright the scans of each class are, gathered scan by scan: memory stays flat.

    Attributes:
        means: class -> mean intensity of each scan, 0..1, in the order they came.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.means: dict[str, list[float]] = {name: [] for name in classes}
        self._shares = {name: np.zeros(_BINS) for name in classes}

    def add(self, label: str, pixels: np.ndarray) -> None:
        """Count a scan, uint8 [H, W] or [H, W, 3]; every scan weighs the same, whatever its size."""
        grey = to_grey(pixels)
        self.means[label].append(float(grey.mean() / 255))
        counts = np.bincount(grey.ravel() // (256 // _BINS), minlength=_BINS)
        self._shares[label] += counts / grey.size

    def shares(self, label: str) -> np.ndarray:
        """Return float64 [64], the mean share of a scan's pixels at each intensity, from black to white."""
        return self._shares[label] / max(1, len(self.means[label]))

    def boxes(self) -> dict[str, dict[str, Any]]:
        """Return matplotlib's statistics of a box plot of the means, for each class that has scans."""
        return {name: boxplot_stats(means)[0] for name, means in self.means.items() if means}


@styled
def class_figure(counts: Mapping[str, Mapping[str, int]], task: Task, path: str | os.PathLike) -> Figure:
    """Draw source -> {class: n}, one group of bars per source (or per part of a split)."""
    figure, (axes,) = paper(max(4.2, 1.4 + 2.0 * len(counts)), 3.2)
    wide = 0.8 / len(task.classes)
    top = max(max(found.values(), default=0) for found in counts.values())
    for c, name in enumerate(task.classes):
        places = np.arange(len(counts)) + (c - (len(task.classes) - 1) / 2) * wide
        heights = [found.get(name, 0) for found in counts.values()]
        axes.bar(places, heights, 0.92 * wide, color=task.colours[c], label=name)
        for place, height, found in zip(places, heights, counts.values(), strict=True):
            share = percent(height / max(1, sum(found.values())))
            axes.text(place, height + 0.015 * top, f"{height:,}\n{share}", ha="center", va="bottom", fontsize=8)
    names = [f"{source}\n(n = {sum(found.values()):,})" for source, found in counts.items()]
    axes.set_xticks(range(len(counts)), names)
    axes.set(ylabel="scans", ylim=(0, 1.2 * max(top, 1)), title="Classes")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper right", ncols=len(task.classes))
    return publish(figure, path)


@styled
def intensity_figure(tally: IntensityTally, task: Task, path: str | os.PathLike) -> Figure:
    """Draw, per class, how bright pixels are, and a box plot of the scans' mean intensities with their quartiles.

    Raises:
        DataError: no scan was counted.
    """
    found = tally.boxes()
    held = [name for name in task.classes if name in found]
    if not held:
        raise DataError("No scan was counted.", expected="at least one scan", remedy="Add scans to the tally first.")
    figure, (left, right) = paper(7.2, 3.3, 1, 2, width_ratios=(1, 1.15))
    edges = np.linspace(0, 1, _BINS + 1)
    for k, name in enumerate(held):
        colour = task.colours[task.classes.index(name)]
        # a share per bin times the number of bins is a density: its area is 1
        left.stairs(_BINS * tally.shares(name), edges, color=colour, linestyle=DASHES[k % 4], label=name, linewidth=1.5)
        drawn = right.bxp([found[name]], positions=[k], widths=0.45, patch_artist=True, flierprops={"markersize": 3})
        drawn["boxes"][0].set(facecolor=colour, alpha=0.35, edgecolor=colour)
        drawn["medians"][0].set(color=INK, linewidth=2)
    low, high = right.get_ylim()
    for k, name in enumerate(held):
        told = [found[name][key] for key in ("q1", "med", "q3")]
        # labels of a narrow box would cover each other
        apart = 0.055 * (high - low)
        places = [min(told[0], told[1] - apart), told[1], max(told[2], told[1] + apart)]
        for value, place in zip(told, places, strict=True):
            right.text(k + 0.27, place, f"{value:.2f}".removeprefix("0"), va="center", fontsize=8)
    # the darkest bin (frame and shadow) would flatten everything else
    height = max((_BINS * tally.shares(name))[2:].max() for name in held)
    left.set(xlabel="intensity of pixels (0 black, 1 white)", ylabel="density", title="Pixels", xlim=(0, 1))
    left.set_ylim(0, 1.6 * max(float(height), 0.1))
    left.legend(loc="upper right")
    right.set_xticks(range(len(held)), [f"{name}\n(n = {len(tally.means[name]):,})" for name in held])
    right.set(ylabel="mean intensity of a scan", title="Scans: median and quartiles", xlim=(-0.5, len(held) - 0.3))
    right.grid(False, axis="x")
    return publish(figure, path)


@styled
def augmentation_figure(
    original: np.ndarray, samples: Mapping[str, np.ndarray], path: str | os.PathLike, across: int = 4
) -> Figure:
    """Show an image as it is and after augmentation, what stands above each -> uint8 [H, W] or [H, W, 3]."""
    shown = [("as it is", original), *samples.items()]
    figure, grid = _grid([pixels for _, pixels in shown], across, 1.8, 0.3)
    for axes, (name, pixels) in zip(grid, shown, strict=False):
        _show(axes, pixels)
        axes.set_title(name, fontsize=8.5)
    return publish(figure, path, colours=None)


@styled
def mistakes_figure(answers: Sequence[Answer], path: str | os.PathLike, whose: str = "") -> Figure:
    """Show the mistakes (one or more) among answers, the surest first: scan and map; `whose` maps, in words."""
    wrong = sorted((a for a in answers if a.true != a.predicted), key=lambda a: -a.confidence)
    figure, grid = _grid([a.pixels for a in wrong for _ in range(2)], 4, 1.85, 0.3)
    for k, answer in enumerate(wrong):
        scan, beside = grid[2 * k], grid[2 * k + 1]
        _show(scan, answer.pixels)
        scan.set_title(f"true: {answer.true}", fontsize=8.5)
        if answer.values is None:
            beside.text(0.5, 0.5, "no map", ha="center", va="center", color=DIM, transform=beside.transAxes)
        else:
            _show(beside, np.asarray(lay_over(answer.pixels, answer.values, answer.limit, OPACITY)))
        beside.set_title(f"answer: {answer.predicted}, {percent(answer.confidence)}", fontsize=8.5, color=WRONG)
    if any(answer.values is not None for answer in wrong):
        told = "purple: evidence for the answer, green: against it"
        figure.supxlabel(f"{told}; {whose}" if whose else told, fontsize=8.5)
    return publish(figure, path, colours=None)


@styled
def answers_figure(answers: Sequence[Answer], path: str | os.PathLike, across: int = 5) -> Figure:
    """Show scans with their answers: green tick and full frame when right, red cross and dashed frame when wrong."""
    figure, grid = _grid([answer.pixels for answer in answers], across, 1.6, 0.5)
    for axes, answer in zip(grid, answers, strict=False):
        right = answer.true == answer.predicted
        colour, mark = (RIGHT, "✓") if right else (WRONG, "✗")
        _show(axes, answer.pixels)
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False)
        frame.set(edgecolor=colour, linewidth=3, linestyle=DASHES[0] if right else DASHES[1])
        axes.add_patch(frame)
        told = f"{mark} {answer.predicted}, {percent(answer.confidence)}"
        axes.set_title(told if right else f"{told}\n    true: {answer.true}", fontsize=8.5, color=colour)
    return publish(figure, path, colours=None)


def _grid(images: Sequence[np.ndarray], across: int, width: float, words: float) -> tuple[Figure, np.ndarray]:
    """A place of `width` inches for each image, each row as high as its highest, and `words` inches above it."""
    across = min(across, len(images))
    shapes = [min(1.6, image.shape[0] / image.shape[1]) for image in images]
    heights = [width * max(shapes[k : k + across]) + words for k in range(0, len(shapes), across)]
    figure, grid = paper(width * across, sum(heights), len(heights), across, height_ratios=heights)
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("N")
    return figure, grid


def _show(axes: Axes, pixels: np.ndarray) -> None:
    tall, wide = pixels.shape[:2]
    shrink = min(1.0, TILE / max(tall, wide))
    small = resize(pixels, max(1, round(wide * shrink)), max(1, round(tall * shrink)))
    axes.imshow(small, cmap="gray", vmin=0, vmax=255, aspect="equal", interpolation="antialiased")
