"""Pictures of generators: losses, the same noise over the epochs, generated beside real.

Sheets with real scans on them belong where the scans may lie, and nowhere else: the caller names the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bcx.evaluate.canvas import CYCLE, paper, publish, styled
from bcx.imaging.preprocess import resize
from bcx.studies.synthesis.tables import figure_words

_CELL = 96  # pixels: side of a picture on a sheet


@styled
def write_losses(history: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """Draw both losses and the discriminator's mean verdicts over the epochs."""
    figure, panels = paper(7, 4.2, 2, 1, sharex=True)
    lines = (
        ("loss", {"d_loss": "discriminator", "g_loss": "generator"}),
        ("mean logit", {"d_real": "on real", "d_generated": "on generated"}),
    )
    colours = iter(CYCLE)
    for axes, (words, names) in zip(panels, lines, strict=True):
        for name, label in names.items():
            epochs = [row["epoch"] for row in history]
            axes.plot(epochs, [row[name] for row in history], color=next(colours), label=label, linewidth=1)
        axes.set_ylabel(words)
        axes.legend()
    panels[0].set_title(title)
    panels[1].set_xlabel("epoch")
    publish(figure, file)


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
    """
    rows = [("real", list(real[:8])), ("generated", list(generated[:8])), ("nearest real", list(nearest[:8]))]
    _sheet(rows, file, f"{label}: real, generated, and the training scan nearest to each generated one")


@styled
def write_study_figure(results: Mapping[str, Any], file: Path) -> None:
    """Draw accuracy, macro ROC-AUC, sensitivities and specificities of every arm with their intervals."""
    arms = results["arms"]
    names = [name for name in next(iter(arms.values()))["figures"] if name != "balanced_accuracy"]
    down = -(-len(names) // 4)
    figure, grid = paper(11, 0.9 + down * (0.5 + 0.24 * len(arms)), down, 4, sharey=True)
    for axes in grid[len(names) :]:
        axes.axis("off")
    places = -np.arange(len(arms))
    for axes, name in zip(grid, names, strict=False):
        for place, arm, colour in zip(places, arms.values(), CYCLE, strict=False):
            found = arm["figures"][name]
            if found["low"] is not None:
                axes.hlines(place, found["low"], found["high"], color=colour, linewidth=1.6)
            # None, where a figure has no value, becomes nan, which is not drawn.
            values, seeds = np.array([found["value"]], float), np.array(found["seeds"], float)
            axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, markersize=7)
            axes.plot(values, [place], "o", color=colour, markersize=5)
        axes.set_title(figure_words(name))
        axes.set_yticks(places, list(arms))
        axes.grid(False, axis="y")
    figure.suptitle(
        f"{results['sizes']}. Dots: mean over seeds; bars: seeds; lines: 95 % interval over groups.", fontsize=8
    )
    publish(figure, file)


@styled
def _sheet(rows: Sequence[tuple[str, Sequence[np.ndarray]]], file: Path, title: str) -> None:
    across = max(len(cells) for _, cells in rows)
    figure, grid = paper(0.85 + across * 0.95, 0.4 + 0.95 * len(rows), len(rows), across)
    for line, (words, cells) in zip(grid.reshape(len(rows), across), rows, strict=True):
        for axes in line:
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_frame_on(False)
            axes.grid(False)
        line[0].set_ylabel(words, fontsize=7)
        for axes, cell in zip(line, cells, strict=False):
            axes.imshow(resize(cell, _CELL, _CELL), cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=8)
    publish(figure, file, colours=None)


def _cells(row: np.ndarray, side: int) -> list[np.ndarray]:
    return [row[:, start : start + side] for start in range(0, row.shape[1], side)]
