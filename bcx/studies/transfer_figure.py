"""Figures of the transfer study: dots with intervals, and a sheet that shows every corruption."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.evaluate.canvas import CYCLE, DIM, FAINT, INK, dots, paper, publish, styled
from bcx.evaluate.corruptions import CORRUPTIONS
from bcx.imaging.preprocess import resize

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# The marks differ in shape too, for print without colour.
_PARTS = {
    "hospital": (CYCLE[0], "o", "another hospital"),
    "left-out": (CYCLE[2], "^", "a hospital left out"),
    "machine": (CYCLE[1], "s", "another machine"),
    "folds": (DIM, "D", "all sources, another fold"),
}
_ROW = 0.27  # inches
_TILE, _ACROSS = 200, 6  # on the sheet: pixels, longer side of a scan; scans in a row


@styled
def write_transfer_figure(results: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Draw the table of `transfer_study`'s results, and the drops under corruption where there are any, into a PNG."""
    table, corruption = results["table"], results.get("corruption")
    rows = [count for count in (len(table), len(corruption["kinds"]) + 1 if corruption else 0) if count]
    height = _ROW * sum(rows) + 1.3 * len(rows)
    figure, panels = paper(7.5, height, len(rows), height_ratios=[count + 2 for count in rows])
    if table:
        _draw_table(panels[0], table)
    if corruption:
        _draw_drops(panels[-1], corruption)
    publish(figure, path)


def _draw_table(axes: Axes, table: Sequence[Mapping[str, Any]]) -> None:
    for part, style in _PARTS.items():
        rows = [(-place, row["auc"]) for place, row in enumerate(table) if row["part"] == part]
        if rows:
            dots(axes, [place for place, _ in rows], [auc for _, auc in rows], *style)
    names = [
        (f"{row['train_on']} → " if row["part"] == "hospital" else "") + f"{row['score_on']} ({row['lesions']})"
        for row in table
    ]
    axes.set_xlabel("ROC-AUC, malignant against benign, with 95 % interval (lesions scored)")
    _rows(axes, names, "What was not trained on")


def _draw_drops(axes: Axes, corruption: Mapping[str, Any]) -> None:
    rows = [("mean over the suite", corruption["mean_drop"])]
    rows += [(kind["kind"], kind["drop"]) for kind in corruption["kinds"]]
    places = -np.arange(len(rows), dtype=float)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axhline(-0.5, color=FAINT, linewidth=0.8)
    macro, lesion = ([drop[figure] for _, drop in rows] for figure in ("macro_auc", "lesion_auc"))
    dots(axes, places + 0.15, macro, CYCLE[0], "o", "macro, one against the rest")
    dots(axes, places - 0.15, lesion, CYCLE[1], "s", "malignant against benign")
    axes.set_xlabel("drop in ROC-AUC against the unchanged scans, with 95 % interval")
    _rows(axes, [name for name, _ in rows], f"What each change of the image costs ({corruption['n']} scans)")


def _rows(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(-np.arange(len(names)), names)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_title(title, pad=20)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.1, handletextpad=0.2)


@styled
def write_corruption_sheet(pixels: np.ndarray, path: str | os.PathLike, mask: np.ndarray | None) -> None:
    """Show one scan, uint8 `[H, W]`, as it is and under every corruption, with the outline of its mask, in a PNG.

    A sheet of a patient's scan belongs where that scan may lie, and nowhere else.
    """
    variants = [("as it is", pixels, mask), *((c.name, *c(pixels, mask)) for c in CORRUPTIONS)]
    down = -(-len(variants) // _ACROSS)
    figure, grid = paper(0.98 * _ACROSS, 0.92 * down, down, _ACROSS)
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("N")
    for axes, (name, image, lesion) in zip(grid, variants, strict=False):
        shrink = min(1.0, _TILE / max(image.shape))
        tall, wide = (max(1, round(side * shrink)) for side in image.shape)
        axes.imshow(resize(image, wide, tall), cmap="gray", vmin=0, vmax=255, aspect="equal")
        if lesion is not None and lesion.any():
            small = resize(lesion.astype(np.uint8) * 255, wide, tall)
            if min(small.shape) > 1:
                axes.contour(small, levels=[127], colors=CYCLE[4], linewidths=0.5)
        axes.set_title(name, fontsize=4.6, pad=1)
    publish(figure, path)
