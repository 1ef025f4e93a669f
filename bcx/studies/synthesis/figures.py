"""Figures of generators and of the study.

Sheets with real scans on them belong where the scans may lie, and nowhere else: the caller names the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bcx.evaluate.canvas import CYCLE, dots, paper, publish, styled
from bcx.imaging.preprocess import resize

_CELL = 96  # pixels: side of an image on a sheet


@styled
def write_losses(history: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """Draw both losses and the discriminator's mean verdicts over the epochs."""
    figure, panels = paper(7, 4.2, 2, 1, sharex=True)
    lines = (
        ("loss", {"discriminator": "d_loss", "generator": "g_loss"}),
        ("mean logit", {"on real": "d_real", "on generated": "d_generated"}),
    )
    epochs, colours = [row["epoch"] for row in history], iter(CYCLE)
    for axes, (words, names) in zip(panels, lines, strict=True):
        for label, name in names.items():
            axes.plot(epochs, [row[name] for row in history], color=next(colours), label=label, linewidth=1)
        axes.set_ylabel(words)
        axes.legend()
    panels[0].set_title(title)
    panels[1].set_xlabel("epoch")
    publish(figure, file)


@styled
def write_study_figure(results: Mapping[str, Any], file: Path) -> None:
    """Draw accuracy, macro ROC-AUC, sensitivities and specificities of every arm with their intervals."""
    arms = results["arms"]
    names = [name for name in next(iter(arms.values()))["figures"] if name != "balanced_accuracy"]
    down = -(-len(names) // 4)
    figure, grid = paper(11, 0.9 + down * (0.5 + 0.24 * len(arms)), down, 4, sharey=True)
    for axes in grid[len(names) :]:
        axes.axis("off")
    places = range(0, -len(arms), -1)
    for axes, name in zip(grid, names, strict=False):
        for place, arm, colour in zip(places, arms.values(), CYCLE, strict=False):
            found = arm["figures"][name]
            dots(axes, [place], [found], colour)
            seeds = np.array(found["seeds"], float)  # None becomes nan, which is not drawn
            axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, markersize=7)
        axes.set_title(figure_words(name))
        axes.set_yticks(places, list(arms))
        axes.grid(False, axis="y")
    figure.suptitle(
        f"{results['sizes']}. Dots: mean over seeds; bars: seeds; lines: 95 % interval over groups.", fontsize=8
    )
    publish(figure, file)


@styled
def write_sheet(rows: Mapping[str, Sequence[np.ndarray]], file: Path, title: str) -> None:
    """Show rows of images, uint8 `[S, S]` each, by what stands beside them."""
    across = max(map(len, rows.values()))
    figure, grid = paper(0.85 + across * 0.95, 0.4 + 0.95 * len(rows), len(rows), across)
    for line, (words, cells) in zip(grid.reshape(len(rows), across), rows.items(), strict=True):
        for axes in line:
            axes.set(xticks=[], yticks=[], frame_on=False)
            axes.grid(False)
        line[0].set_ylabel(words, fontsize=7)
        for axes, cell in zip(line, cells, strict=False):
            axes.imshow(resize(cell, _CELL, _CELL), cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=8)
    publish(figure, file, colours=None)


def figure_words(name: str) -> str:
    """Return a figure's name in words: `sensitivity_normal` becomes "sensitivity normal"."""
    return name.replace("_", " ").replace("auc", "ROC-AUC")
