"""What each explanation is worth: a panel per figure, a row per method, with 95 % intervals."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bcx.evaluate.canvas import CYCLE, DIM, paper, publish, styled
from bcx.explain.methods import METHODS

#: Figures on paper, and the words for them.
SHOWN = {
    "pointing": "hottest pixel in the lesion",
    "heat_inside": "energy in the lesion",
    "iou": "IoU at 30 % of the peak",
    "road": "ROAD",
    "deletion_gain": "deletion, gain over random",
    "insertion_gain": "insertion, gain over random",
    "here_more": "hidden here, more than elsewhere",
    "stability": "stability, least of three",
    "random_network": "like a random network's",
    "seconds": "seconds",
}


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as a table in Markdown, "value (low to high)"; from `bcx.studies.explanations.summarise`."""
    lines = [
        f"| method | lesions | {' | '.join(SHOWN.values())} |",
        "| --- " * (len(SHOWN) + 2) + "|",
    ]
    for name, row in results["methods"].items():
        cells = [_cell(row[key]) for key in SHOWN]
        lines.append(f"| {_title(name)} | {row['scans']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    span = "" if figure["low"] is None else f" ({figure['low']:.2f} to {figure['high']:.2f})"
    return f"{figure['value']:.2f}{span}"


def _title(name: str) -> str:
    return METHODS[name].title if name in METHODS else name.capitalize()


@styled
def write_explanations_figure(results: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Draw the figures but seconds, with intervals; the dotted line is what another scan's map scores.

    Args:
        results: as `bcx.studies.explanations.summarise`.
        path: of the PNG.
    """
    methods, figures = results["methods"], [name for name in SHOWN if name != "seconds"]
    names = list(methods)
    sheet, axes = paper(9.2, 2.1 + 0.55 * len(names), 3, 3, sharey=True)
    for name, panel in zip(figures, axes, strict=True):
        panel.set_title(SHOWN[name])
        for place, method in enumerate(names):
            found = methods[method][name]
            if found["value"] is None:
                continue
            low, high = (found["value"] if found[end] is None else found[end] for end in ("low", "high"))
            colour = CYCLE[1] if place == 0 else CYCLE[0]
            panel.plot([low, high], [place, place], color=colour, linewidth=1.2)
            panel.plot(found["value"], place, "o", color=colour, markersize=4)
        chance = methods[names[0]][name]["value"]
        if chance is not None:
            panel.axvline(chance, color=DIM, linewidth=1, linestyle=(0, (1, 2)))
        panel.set_yticks(range(len(names)), [_title(method) for method in names])
    axes[0].invert_yaxis()
    publish(sheet, path)
