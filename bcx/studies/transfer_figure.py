"""Pictures of the transfer study: dots with intervals for the figures, and a sheet that shows every corruption.

write_transfer_figure(results, Path("transfer.png"))      # from `bcx.studies.transfer.transfer_study`
write_corruption_sheet(simulate("malignant", 8).pixels, Path("corruptions.png"))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from bcx.evaluate.corruptions import CORRUPTIONS
from bcx.imaging.preprocess import resize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008); the marks differ in shape too, for print without colour.
_BLUE, _ORANGE, _GREEN, _GREY, _OUTLINE = "#0072B2", "#D55E00", "#009E73", "#555555", "#E69F00"
_PARTS = {
    "hospital": ("another hospital", _BLUE, "o"),
    "left-out": ("a hospital left out", _GREEN, "^"),
    "machine": ("another machine", _ORANGE, "s"),
    "folds": ("all sources, another fold", _GREY, "D"),
}
_ROW = 0.27  # inches
_TILE = 200  # pixels: longer side of a scan on the sheet


def write_transfer_figure(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draw the table, and the drops under corruption where there are any, into a PNG of 200 dots per inch.

    Args:
        results: with `table` (rows as `bcx.studies.transfer.lesion_row`, with part, train_on, score_on) and maybe
            `corruption` (as `bcx.studies.corruptions.summarise_corruptions`).
        path: where to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    corruption = results.get("corruption")
    heights = [len(results["table"]), len(corruption["kinds"]) + 1 if corruption else 0]
    shown = [height for height in heights if height]
    figure = Figure(figsize=(7.5, _ROW * sum(shown) + 1.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = iter(np.atleast_1d(figure.subplots(len(shown), 1, height_ratios=[height + 2 for height in shown])))
    if heights[0]:
        _draw_table(next(axes), results["table"])
    if corruption:
        _draw_drops(next(axes), corruption)
    _replace(path, lambda part: figure.savefig(part, format="png", dpi=200, facecolor="white"))


def _draw_table(axes: Axes, table: Sequence[Mapping[str, Any]]) -> None:
    for part, (words, colour, shape) in _PARTS.items():
        places = [-place for place, row in enumerate(table) if row["part"] == part]
        rows = [row["auc"] for row in table if row["part"] == part]
        if rows:
            _dots(axes, places, rows, colour, shape, words)
    names = [
        f"{row['train_on']} → {row['score_on']} ({row['lesions']})"
        if row["part"] == "hospital"
        else f"{row['score_on']} ({row['lesions']})"
        for row in table
    ]
    axes.set_yticks([-place for place in range(len(table))], names)
    axes.set_xlabel("ROC-AUC, malignant against benign, with 95 % interval (lesions scored)", fontsize=8)
    _tidy(axes, len(table), "What was not trained on")


def _draw_drops(axes: Axes, corruption: Mapping[str, Any]) -> None:
    rows = [("mean over the suite", corruption["mean_drop"])]
    rows += [(kind["kind"], kind["drop"]) for kind in corruption["kinds"]]
    places = -np.arange(len(rows), dtype=float)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axhline(-0.5, color="#bbbbbb", linewidth=0.8)
    _dots(axes, places + 0.15, [drop["macro_auc"] for _, drop in rows], _BLUE, "o", "macro, one against the rest")
    _dots(axes, places - 0.15, [drop["lesion_auc"] for _, drop in rows], _ORANGE, "s", "malignant against benign")
    axes.set_yticks(places, [name for name, _ in rows])
    axes.set_xlabel("drop in ROC-AUC against the unchanged scans, with 95 % interval", fontsize=8)
    _tidy(axes, len(rows), f"What each change of the picture costs ({corruption['n']} scans)")


def _dots(
    axes: Axes, places: Sequence[float] | np.ndarray, figures: Sequence[Mapping], colour: str, shape: str, words: str
) -> None:
    values, low, high = (
        np.array([np.nan if figure[key] is None else figure[key] for figure in figures], float)
        for key in ("value", "low", "high")
    )
    axes.hlines(places, low, high, color=colour, linewidth=1.6)
    axes.plot(values, places, shape, color=colour, markersize=5, label=words)


def _tidy(axes: Axes, rows: int, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, pad=20)
    axes.set_ylim(-rows + 0.4, 0.6)
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.legend(
        fontsize=8,
        frameon=False,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=3,
        borderaxespad=0.1,
        handletextpad=0.2,
        columnspacing=1.2,
    )


def write_corruption_sheet(
    pixels: np.ndarray, path: str | os.PathLike, mask: np.ndarray | None = None, across: int = 6
) -> None:
    """Show one scan as it is and under every corruption, with the mask's outline, in a PNG.

    A sheet of a patient's scan belongs where that scan may lie, and nowhere else.

    Args:
        pixels: uint8 `[H, W]`.
        path: where to write.
        mask: bool `[H, W]`, or None.
        across: pictures in a row.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    variants = [("as it is", pixels, mask), *((c.name, *c(pixels, mask)) for c in CORRUPTIONS)]
    down = -(-len(variants) // across)
    figure = Figure(figsize=(1.7 * across, 1.6 * down), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("N")
    for axes, (name, picture, lesion) in zip(grid, variants, strict=False):
        shrink = min(1.0, _TILE / max(picture.shape))
        tall, wide = (max(1, round(side * shrink)) for side in picture.shape)
        axes.imshow(resize(picture, wide, tall), cmap="gray", vmin=0, vmax=255, aspect="equal")
        if lesion is not None and lesion.any():
            small = resize(lesion.astype(np.uint8) * 255, wide, tall)
            if min(small.shape) > 1:
                axes.contour(small, levels=[127], colors=_OUTLINE, linewidths=0.8)
        axes.set_title(name, fontsize=8, pad=2)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=115, facecolor="white")
    # Greys and one colour: a palette halves the file.
    _replace(path, lambda part: Image.open(drawn).convert("RGB").quantize(96).save(part, format="PNG", optimize=True))


def _replace(path: str | os.PathLike, write: Callable[[Path], object]) -> None:
    """Write at once or not at all."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    write(part)
    part.replace(path)
