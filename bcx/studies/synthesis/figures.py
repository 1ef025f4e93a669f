"""Figures of generators and of the study, and its results as Markdown, for pages that show them.

Sheets with real scans on them belong where the scans may lie, and nowhere else: the caller names the folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bcx.evaluate.canvas import CYCLE, dots, paper, publish, styled
from bcx.evaluate.words import markdown_table
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


def write_over_epochs(grids: Sequence[tuple[int, Path]], file: Path, side: int) -> None:
    """Stack PNGs of one row of images, `side` pixels wide each, from the same noise: a row per epoch."""
    rows = []
    for epoch, path in grids:
        strip = np.asarray(Image.open(path).convert("L"))
        rows.append((f"epoch {epoch}", np.split(strip, strip.shape[1] // side, axis=1)))
    _sheet(rows, file, "The same noise at different epochs (generated)")


def write_beside(real: np.ndarray, generated: np.ndarray, file: Path, label: str, nearest: np.ndarray) -> None:
    """Show the first eight real scans, generated images, and below each of these the training scan nearest to it.

    Args:
        real, generated, nearest: uint8 `[N, S, S]`.
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


def page_block(folder: Path, link: str) -> str:
    """Return what a page shows of the studies in a folder; `link` is the same folder as seen from the page."""
    parts = []
    for file in sorted(folder.glob("*.json")):
        results = json.loads(file.read_text("utf-8"))
        if "arms" in results:
            parts += [study_block(results), "", f"![{results['sizes']}]({link}/{results['figure']})", ""]
    return "\n".join(parts[:-1]) if parts else "Not measured yet."


def study_block(results: Mapping[str, Any]) -> str:
    """Return sizes, figures per arm, differences and the quality of the generated images."""
    names = list(next(iter(results["arms"].values()))["figures"])
    parts = [
        f"{results['sizes']}. In per cent, with 95 % intervals over groups; each figure is the mean over seeds.",
        "",
        *markdown_table(
            ["", "real", "generated", *(figure_words(name) for name in names)],
            [
                [arm["words"], f"{arm['real']:.0f}", f"{arm['generated']:.0f}"]
                + [share(arm["figures"][name]) for name in names]
                for arm in results["arms"].values()
            ],
        ),
        "",
        "Differences in percentage points, on the same scans; where the interval holds nought, chance explains it:",
        "",
        *_differences(results, "", names),
    ]
    if results["quality"]:
        parts += ["", "The pictures, judged at the generators' size:", "", *quality_table(results["quality"])]
    return "\n".join(parts)


def answer_lines(results: Mapping[str, Any]) -> list[str]:
    """Return the study's differences in accuracy and macro ROC-AUC, for a README."""
    return _differences(results, "percentage points", ("accuracy", "macro_auc"))


def _differences(results: Mapping[str, Any], corner: str, names: Sequence[str]) -> list[str]:
    rows = [
        [f"{row['question']} ({row['a']} less {row['b']})", *(share(row["figures"][name]) for name in names)]
        for row in results["differences"]
    ]
    return markdown_table([corner, *(figure_words(name) for name in names)], rows)


def quality_table(quality: Mapping[str, Any]) -> list[str]:
    """Return a row per generator and describing network; `quality`: generator -> what `judge_generator` returns."""
    rows = []
    for name, found in quality.items():
        for network, by in found["by"].items():
            distances, copies = by["distances"], by["copies"]
            rows.append(
                [f"{name}, {found['size']} px", f"{network}", str(distances["n"])]
                + [f"{distances[kind][of]['mean']:.3g}" for kind in ("kid", "fid") for of in ("generated", "real")]
                + [f"{copies['copies']} of {copies['n']} ({copies['expected']:g})", f"{copies['nearer']:.2f}"]
            )
    head = ["generator", "features", "n", "KID", "KID of real scans", "FID", "FID of real scans"]
    return markdown_table([*head, "copies (at most by chance)", "nearer than real scans (.5: alike)"], rows)


def share(figure: Mapping[str, float | None]) -> str:
    """Return a share in per cent with its interval; a dash where it has no value."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def figure_words(name: str) -> str:
    """Return a figure's name in words: `sensitivity_normal` becomes "sensitivity normal"."""
    figure, _, label = name.partition("_")
    return f"{figure} {label}".replace("_", " ").replace("macro auc", "macro ROC-AUC").strip()
