"""One table of several models that answered the same scans: figures with intervals, and who is really better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.errors import DataError
from bcx.evaluate.comparison import compare_answers, delong
from bcx.evaluate.intervals import report_with_intervals
from bcx.evaluate.metrics import or_none
from bcx.evaluate.oof import label_positions, logits_of
from bcx.evaluate.words import interval, markdown_table, units
from bcx.files import write_rows
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature, fit_temperature

#: The figure that decides who is best, named before anything is measured: it needs no threshold and no temperature.
DECIDES = "macro_auc"
LEVEL = 0.05
# Of leaderboard.csv: of all classes, and of the positive one.
_FIGURES = ("macro_auc", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece")
_OF_POSITIVE = ("auc", "sensitivity", "specificity", "pr_auc")


@dataclass(frozen=True)
class Board:
    """The models, best first, and the scans that all of them answered.

    Attributes:
        rows: ready for JSON, each `arch`, `figures` (see `report_with_intervals`), `temperature` (fitted on these very
            logits), `best_minus_this` (the best model's figures less this one's), `delong` (the same for the area under
            the ROC curve of the positive class against the rest, scans taken as independent), `p_holm` (of the deciding
            figure, adjusted for as many comparisons as there are other models) and `significantly_worse`; None for
            the best, and where a comparison cannot be made.
        probabilities: by model, float64 [N, C].
        labels, groups: int [N] and text [N].
    """

    rows: list[dict[str, Any]]
    probabilities: dict[str, np.ndarray]
    labels: np.ndarray
    groups: np.ndarray


def rank_models(answers: Mapping[str, pd.DataFrame], task: Task) -> Board:
    """Order models by `DECIDES` and compare each with the best.

    Each model's probabilities are taken at the temperature that fits its own logits best, so that log-loss, Brier score
    and calibration error compare the networks and not their temperatures.

    Args:
        answers: out-of-fold tables by model, all of the same scans (see `bcx.evaluate.oof.read_oof`).

    Raises:
        DataError: fewer than two models, or tables of different scans.
    """
    if len(answers) < 2:
        raise DataError("One model alone was given.", expected="at least two", remedy="Name further models.")
    frames = {name: frame.sort_values("file", ignore_index=True) for name, frame in answers.items()}
    first_name, first = next(iter(frames.items()))
    for name, frame in frames.items():
        if not frame[["file", "label", "group"]].equals(first[["file", "label", "group"]]):
            raise DataError(
                f"'{name}' and '{first_name}' did not answer the same scans.",
                expected="the same files, labels and groups in every table",
                remedy="Run both over the same folds of the same data.",
            )
    labels, groups = label_positions(first, task), first["group"].to_numpy(str)
    temperatures, probabilities, figures = {}, {}, {}
    for name, frame in frames.items():
        logits = logits_of(frame, task)
        temperatures[name] = fit_temperature(logits, labels)
        probabilities[name] = apply_temperature(logits, temperatures[name])
        figures[name] = report_with_intervals(labels, probabilities[name], groups, task.classes)
    order = sorted(frames, key=lambda name: (-round(figures[name][DECIDES]["value"], 9), name))
    best, others = order[0], order[1:]
    column = task.classes.index(task.positive)
    positive = labels == column
    compared = (DECIDES, "accuracy", "balanced_accuracy", f"auc_{task.positive}")
    differences, by_delong = {}, {}
    for name in others:
        pair = probabilities[best], probabilities[name]
        differences[name] = compare_answers(labels, *pair, groups, task.classes, compared)
        if min(positive.sum(), (~positive).sum()) >= 2:
            by_delong[name] = delong(pair[0][:, column], pair[1][:, column], positive).to_dict()
    adjusted = dict(zip(others, holm([differences[name][DECIDES].p_value for name in others]), strict=True))
    rows: list[dict[str, Any]] = []
    for name in order:
        p_value = or_none(adjusted.get(name, np.nan))
        rows.append(
            {
                "arch": name,
                "figures": figures[name],
                "temperature": temperatures[name],
                "best_minus_this": {key: each.to_dict() for key, each in differences.get(name, {}).items()} or None,
                "delong": by_delong.get(name),
                "p_holm": p_value,
                "significantly_worse": None if p_value is None else p_value < LEVEL,
            }
        )
    return Board(rows, {name: probabilities[name] for name in order}, labels, groups)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted so that all of them together err with at most the stated chance (Holm 1979).

    A comparison without a p-value (nan) keeps none, and counts as one all the same.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")  # nan comes last
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]))
    return adjusted.tolist()


def write_leaderboard(file: Path, results: Mapping[str, Any]) -> None:
    """Write a row per architecture, best first, from the results of `bcx.studies.compare.compare`.

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
    """Return the table with what must be known to read it, in Markdown; from `bcx.studies.compare.compare`."""
    positive, base = results["positive"], results["time"]["base"]
    heads = (
        *("network", "starting weights", "input", "epochs", "ROC-AUC, macro", "accuracy", f"sensitivity, {positive}"),
        *("worse than the best?", "parameters", "MACs", f"ms per scan (x {base})", "MB"),
    )
    rows = [
        [
            row["arch"],
            row["starting_weights"],
            f"{row['input']} px",
            "/".join(map(str, row["epochs"])),
            *(interval(row["figures"][name]) for name in ("macro_auc", "accuracy", f"sensitivity_{positive}")),
            _verdict(row, results["decides"]),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['macs'] / 1e9:.2f} G",
            f"{row['milliseconds']:.0f} ({row['times_base']:.2f})",
            f"{row['bytes'] / 1e6:.1f}",
        ]
        for row in results["leaderboard"]
    ]
    folds, threads = results["folds"], results["time"]["threads"]
    notes = [
        f"{results['n']} scans in {results['groups']} groups, fold{'s' if len(folds) != 1 else ''} "
        f"{', '.join(map(str, folds))}, each answered by a network that never saw its "
        "group. In brackets: 95 % intervals over groups. Worse than the best: difference in macro ROC-AUC, paired "
        "bootstrap over groups, p adjusted for the number of comparisons (Holm). Milliseconds: median, one scan at a "
        f"time with all maps, {threads} thread{'s' if threads != 1 else ''}; in brackets the median ratio within a "
        "round.",
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
