"""Pictures of generators: losses, the same noise over the epochs, generated beside real.

Sheets with real scans on them belong where the scans may lie, and nowhere else: the caller names the folder.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bcx.imaging.preprocess import resize
from bcx.studies.synthesis.tables import figure_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008).
_BLUE, _ORANGE, _GREEN, _PURPLE, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555"
_CELL = 96  # pixels: side of a picture on a sheet


def write_losses(history: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """Draw both losses and the discriminator's mean verdicts over the epochs."""
    figure = _figure(7, 4.2)
    top, below = figure.subplots(2, 1, sharex=True)
    epochs = [row["epoch"] for row in history]
    for name, words, colour in (("d_loss", "discriminator", _BLUE), ("g_loss", "generator", _ORANGE)):
        top.plot(epochs, [row[name] for row in history], color=colour, label=words, linewidth=1)
    for name, words, colour in (("d_real", "on real", _GREEN), ("d_generated", "on generated", _PURPLE)):
        below.plot(epochs, [row[name] for row in history], color=colour, label=words, linewidth=1)
    top.set_ylabel("loss")
    below.set_ylabel("mean logit")
    below.set_xlabel("epoch")
    top.set_title(title, loc="left", fontsize=10)
    for axes in (top, below):
        axes.legend(fontsize=8, frameon=False)
        axes.grid(color="#dddddd", linewidth=0.6)
    _save(figure, file)


def write_over_epochs(grids: Sequence[tuple[int, Path]], file: Path, side: int) -> None:
    """Stack grids of the same noise, a row per epoch.

    Args:
        grids: epoch and a PNG of one row of pictures.
        side: of one picture in it, pixels.
    """
    rows = [(f"epoch {epoch}", _cells(np.asarray(Image.open(path).convert("L")), side)) for epoch, path in grids]
    _sheet(rows, file, "The same noise at different epochs (generated)")


def write_beside(real: np.ndarray, generated: np.ndarray, file: Path, label: str, nearest: np.ndarray) -> None:
    """Show real scans, generated pictures, and below each of these the training scan that is nearest to it.

    Args:
        real, generated: uint8 `[N, S, S]`; the first eight of each are shown.
        nearest: uint8 `[N, S, S]`, the nearest training scan of each generated picture.
        file: a PNG outside of any folder that is published: it shows scans of patients.
        label: the class, for the title.
    """
    rows = [("real", list(real[:8])), ("generated", list(generated[:8])), ("nearest real", list(nearest[:8]))]
    _sheet(rows, file, f"{label}: real, generated, and the training scan nearest to each generated one")


def write_study_figure(results: Mapping[str, Any], file: Path) -> None:
    """Draw accuracy, macro ROC-AUC, sensitivities and specificities of every arm with their intervals.

    Args:
        results: as `bcx.studies.synthesis.study.synth_study` returns them.
    """
    arms = results["arms"]
    names = [name for name in next(iter(arms.values()))["figures"] if name != "balanced_accuracy"]
    across = 4
    down = -(-len(names) // across)
    figure = _figure(11, 0.9 + down * (0.5 + 0.24 * len(arms)))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes in grid.ravel()[len(names) :]:
        axes.axis("off")
    places = -np.arange(len(arms))
    colours = [_GREY, _BLUE, _GREEN, _ORANGE, _PURPLE, "#56B4E9", "#E69F00"]
    for axes, name in zip(grid.ravel(), names, strict=False):
        for place, arm, colour in zip(places, arms.values(), colours, strict=False):
            found = arm["figures"][name]
            if found["low"] is not None:
                axes.hlines(place, found["low"], found["high"], color=colour, linewidth=1.6)
            # None, where a figure has no value, becomes nan, which is not drawn.
            values, seeds = np.array([found["value"]], float), np.array(found["seeds"], float)
            axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, markersize=7)
            axes.plot(values, [place], "o", color=colour, markersize=5)
        axes.set_title(figure_words(name), fontsize=9, loc="left")
        axes.set_yticks(places, list(arms))
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
    figure.suptitle(
        f"{results['sizes']}. Dots: mean over seeds; bars: seeds; lines: 95 % interval over groups.", fontsize=8
    )
    _save(figure, file)


def _sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], file: Path, title: str) -> None:
    across = max(len(cells) for _, cells in rows)
    figure = _figure(0.85 + across * 0.95, 0.4 + 0.95 * len(rows))
    grid = figure.subplots(len(rows), across, squeeze=False)
    for line, (words, cells) in zip(grid, rows, strict=True):
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_frame_on(False)
        line[0].set_ylabel(words, fontsize=7)
        for axes, cell in zip(line, cells, strict=False):
            axes.imshow(resize(cell, _CELL, _CELL), cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=8)
    _save(figure, file)


def _cells(row: np.ndarray, side: int) -> list[np.ndarray]:
    return [row[:, start : start + side] for start in range(0, row.shape[1], side)]


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, file: Path) -> None:
    scratch = file.with_suffix(".writing")
    figure.savefig(scratch, format="png", dpi=120, facecolor="white")
    os.replace(scratch, file)
