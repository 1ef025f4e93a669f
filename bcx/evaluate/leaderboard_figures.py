"""Pictures of a comparison and of a search: the ROC curves of all models on one figure, importances of settings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from bcx.evaluate.canvas import CYCLE, DASHES, DIM, INK, paper, publish, styled
from bcx.evaluate.curves import curve_band
from bcx.evaluate.metrics import pair_score
from bcx.evaluate.words import interval, units
from bcx.tasks import Task


@styled
def roc_of_all(
    models: Mapping[str, np.ndarray],
    labels: np.ndarray,
    groups: Sequence | np.ndarray,
    task: Task,
    path: str | os.PathLike,
) -> Figure:
    """Draw every model's ROC curve of the positive class: against the rest and, where there are three, the second.

    Bands of several models would hide each other, so the intervals of the areas stand in the legend.

    Args:
        models: float [N, C] by name, in the order of the legend.
        labels: int [N].
        groups: [N].

    Raises:
        DataError: no scans of the positive class, or of no other.
    """
    groups = np.asarray(groups)
    positive = task.classes.index(task.positive)
    others = [c for c in range(len(task.classes)) if c != positive and (labels == c).any()]
    panels: list[tuple[str, int | None]] = [(f"{task.positive} against the rest", None)]
    if len(others) == 2:
        panels += [(f"{task.positive} against {task.classes[c]}", c) for c in others if task.classes[c] != task.absent]
    figure, grid = paper(3.9 * len(panels) + 0.4, 4.9 + 0.22 * len(models), 1, len(panels), sharex=True, sharey=True)
    for axes, (title, other) in zip(grid, panels, strict=True):
        rows = np.ones(len(labels), bool) if other is None else np.isin(labels, (other, positive))
        axes.plot([0, 1], [0, 1], color=DIM, linewidth=0.8, linestyle=DASHES[3])
        for number, (name, probabilities) in enumerate(models.items()):
            score = probabilities[:, positive] if other is None else pair_score(probabilities, other, positive)
            band = curve_band("roc", score[rows], labels[rows] == positive, groups[rows])
            area = interval({"value": band.area, "low": band.area_low, "high": band.area_high})
            colour, dash = CYCLE[number % len(CYCLE)], DASHES[number % len(DASHES)]
            axes.plot(band.line_x, band.line_y, color=colour, linestyle=dash, label=f"{name}: {area}")
        axes.set_title(f"{title}\n{int((labels[rows] == positive).sum())} of {int(rows.sum())} scans")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1, anchor="N")
        axes.set_xlabel("share of the others called so (1 - specificity)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), title="AUC, 95 % interval", title_fontsize=8.5)
    grid[0].set_ylabel("sensitivity")
    return publish(figure, path)


@styled
def importance_figure(importances: Mapping[str, float], path: str | os.PathLike) -> Figure:
    """Draw how much of the differences between trials each setting explains.

    Args:
        importances: share by name, 0..1.
    """
    names = sorted(importances, key=importances.__getitem__)
    figure, (axes,) = paper(5, 1.0 + 0.3 * len(names))
    bars = axes.barh(names, [importances[name] for name in names], color=CYCLE[0], height=0.65)
    axes.bar_label(bars, [units(importances[name]) for name in names], padding=3, color=INK, fontsize=8.5)
    axes.set(xlim=(0, 1), xlabel="share of the differences between trials that it explains (fANOVA)")
    axes.grid(axis="y", visible=False)
    return publish(figure, path)
