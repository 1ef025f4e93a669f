"""Harm against referral, a panel per hospital: the curve of each rule, and where it stands.

write_decisions_figure(results, Path("decisions.png"), task)      # from `bcx.studies.decisions.decisions_study`
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bcx.evaluate.canvas import CYCLE, DIM, in_percent, paper, publish, styled
from bcx.tasks import Task

_RULES = {"before": ("rule before", CYCLE[1], "s"), "harm first": ("harm first", CYCLE[0], "o")}
_MARKED = {
    "before": ("before", "as stored before", True),
    "by the other hospitals": ("harm first", "fitted on the other hospitals", True),
    "as stored": ("harm first", "as stored, fitted on all", False),
}


@styled
def write_decisions_figure(results: Mapping[str, Any], path: str | os.PathLike, task: Task) -> None:
    """Draw, for each hospital, the positive scans missed against the scans referred, with 95 % intervals of each rule.

    Args:
        results: as `bcx.studies.decisions.decisions_study`.
        path: of the PNG.
        task: of the results.
    """
    names, table = list(results["curves"]), results["table"]
    sheet, axes = paper(3.1 * len(names), 3.9, 1, len(names), sharex=True, sharey=True)
    target = sum(results["targets"].values())
    for name, panel in zip(names, axes, strict=True):
        about = results["hospitals"][name]
        panel.axhline(target, color=DIM, linewidth=1, linestyle=(0, (4, 3)))
        for rule, curve in results["curves"][name].items():
            words, colour, _ = _RULES[rule]
            panel.plot(curve["referred"], curve["missed"], color=colour, label=f"{words}, from mild to strict")
        for row in table:
            if (row["hospital"], row["where"], row["point"]) == (name, "elsewhere", "default"):
                rule, words, filled = _MARKED[row["rule"]]
                _, colour, shape = _RULES[rule]
                x, y = row["referred"], row["missed"]
                panel.errorbar(
                    x["value"],
                    y["value"],
                    xerr=[[x["value"] - x["low"]], [x["high"] - x["value"]]],
                    yerr=[[y["value"] - y["low"]], [y["high"] - y["value"]]],
                    fmt=shape,
                    color=colour,
                    markerfacecolor=colour if filled else "white",
                    markersize=6,
                    elinewidth=1,
                    label=words,
                )
        panel.set_title(f"{name}: {about['counts'].get(task.positive, 0)} {task.positive} of {about['n']} scans")
        panel.set_xlabel("scans referred")
        in_percent(panel.xaxis)
    axes[0].set_ylabel(f"{task.positive} scans answered with another class")
    highest = max(row["missed"]["high"] for row in table if (row["where"], row["point"]) == ("elsewhere", "default"))
    axes[0].set_ylim(-0.01, highest + 0.02)
    axes[0].set_xlim(0, 0.95)
    in_percent(axes[0].yaxis)
    axes[-1].annotate("target", (0.94, target), ha="right", va="bottom", fontsize=8, color=DIM)
    handles, labels = axes[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=3)
    publish(sheet, path)
