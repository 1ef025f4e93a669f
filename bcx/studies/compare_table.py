"""The leaderboard as CSV and as a table for a README."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcx.evaluate.words import interval, markdown_table, units
from bcx.files import write_rows

_FIGURES = ("macro_auc", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece")
_OF_POSITIVE = ("auc", "sensitivity", "specificity", "pr_auc")


def write_leaderboard(file: Path, results: Mapping[str, Any]) -> None:
    """Write a row per architecture, best first: figures with intervals, costs, start, difference to the best.

    Columns that end in `_low` and `_high` are 95 % intervals over groups.
    """
    names = [*_FIGURES, *(f"{figure}_{results['positive']}" for figure in _OF_POSITIVE)]
    rows = []
    for row in results["leaderboard"]:
        difference = (row["best_minus_this"] or {}).get(results["decides"]) or {}
        flat = {key: row[key] for key in ("rank", "arch", "starting_weights", "input")}
        flat["epochs"] = "/".join(map(str, row["epochs"]))
        flat |= {"folds": "/".join(map(str, results["folds"])), "n": results["n"], "groups": results["groups"]}
        for name in names:
            figure = row["figures"][name]
            flat |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        flat |= {f"best_minus_this_{key}": difference.get(key) for key in ("value", "low", "high", "p_value")}
        flat |= {"p_holm": row["p_holm"], "significantly_worse": row["significantly_worse"]}
        flat["delong_p"] = (row["delong"] or {}).get("p_value")
        flat |= {key: row[key] for key in ("parameters", "macs", "milliseconds", "times_base", "bytes")}
        rows.append(flat)
    write_rows(file, rows[0], rows)


def leaderboard_markdown(results: Mapping[str, Any]) -> str:
    """Return the table with what must be known to read it, in Markdown."""
    positive, base = results["positive"], results["time"]["base"]
    heads = (
        *("network", "starting weights", "input", "epochs", "ROC-AUC, macro", "accuracy", f"sensitivity, {positive}"),
        *("worse than the best?", "parameters", "MACs", f"ms per scan (x {base})", "MB"),
    )
    rows = []
    for row in results["leaderboard"]:
        figures = row["figures"]
        cells = [
            row["arch"],
            row["starting_weights"],
            f"{row['input']} px",
            "/".join(map(str, row["epochs"])),
            interval(figures["macro_auc"]),
            interval(figures["accuracy"]),
            interval(figures[f"sensitivity_{positive}"]),
            _verdict(row, results["decides"]),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['macs'] / 1e9:.2f} G",
            f"{row['milliseconds']:.0f} ({row['times_base']:.2f})",
            f"{row['bytes'] / 1e6:.1f}",
        ]
        rows.append(cells)
    folds = results["folds"]
    where = f"fold {folds[0]}" if len(folds) == 1 else f"folds {', '.join(map(str, folds))}"
    notes = [
        f"{results['n']} scans in {results['groups']} groups, {where}, each answered by a network that never saw its "
        "group. In brackets: 95 % intervals over groups. Worse than the best: difference in macro ROC-AUC, paired "
        "bootstrap over groups, p adjusted for the number of comparisons (Holm). Milliseconds: median, one scan at a "
        f"time with all maps, {results['time']['threads']} thread{'s' if results['time']['threads'] != 1 else ''}; in "
        "brackets the median ratio within a round.",
        *results["notes"],
    ]
    return "\n".join([*markdown_table(heads, rows), "", *notes]) + "\n"


def _verdict(row: Mapping[str, Any], decides: str) -> str:
    if row["best_minus_this"] is None:
        return "the best"
    if row["significantly_worse"] is None:
        return "cannot be said"
    by = units(row["best_minus_this"][decides]["value"])
    return f"{'yes' if row['significantly_worse'] else 'not shown'}, by {by} (p {row['p_holm']:.3f})"
