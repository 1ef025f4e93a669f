"""What a leak is worth: the same recipe under a random and under a grouped split.

A row of the table is one answer: of the network of one protocol, seed and fold, about one scan that was held out.
Answers of all seeds are pooled. Intervals come from drawing groups and seeds anew at once, and the difference from
drawing the same ones for both protocols; three seeds say little about how much another seed would change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bcx.data.tables import decimal, read_columns
from bcx.errors import DataError
from bcx.evaluate.intervals import RESAMPLES, means_with_intervals, percentiles
from bcx.evaluate.metrics import figure_names, or_none, weighted_figures
from bcx.evaluate.oof import label_positions, logits_of, record_columns
from bcx.files import whole
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature

if TYPE_CHECKING:
    from bcx.data.records import Record

TEXT_COLUMNS = ("protocol", "file", "source", "group", "label")
COUNTS = ("seed", "fold", "copies", "copies_in_training")


def leak_columns(task: Task) -> list[str]:
    """Return the columns of the table, in order."""
    front = ["protocol", "seed", "fold", "file", "source", "group", "label", "copies", "copies_in_training"]
    return [*front, *(f"logit_{name}" for name in task.classes)]


def leak_frame(
    held: Sequence[Record],
    logits: np.ndarray,
    task: Task,
    *,
    protocol: str,
    seed: int,
    fold: int,
    copies: Sequence[int],
    copies_in_training: Sequence[int],
) -> pd.DataFrame:
    """Return the rows of one run.

    Args:
        held: N scans that were held out.
        logits: float [N, C], before temperature, of one view.
        protocol, seed, fold: of the run.
        copies: [N], other scans of the same group among all scans of the study.
        copies_in_training: [N], those of them that the run was trained on.
    """
    frame = pd.DataFrame(record_columns(held)).assign(
        protocol=protocol, seed=seed, fold=fold, copies=list(copies), copies_in_training=list(copies_in_training)
    )
    for c, name in enumerate(task.classes):
        frame[f"logit_{name}"] = np.asarray(logits, np.float32)[:, c]
    return _checked(frame, task, "the run's answers")


def write_leak(path: Path, frame: pd.DataFrame, task: Task) -> None:
    """Write the table as CSV, at once or not at all; errors as `read_leak`."""
    with whole(path) as partial:
        _checked(frame, task, path.name).to_csv(partial, index=False, float_format="%.9g", lineterminator="\n")


def read_leak(path: Path, task: Task) -> pd.DataFrame:
    """Return a table that `write_leak` wrote.

    Raises:
        DataError: no such file, a column or label that does not fit, or logits that are not finite.
    """
    known: dict[str, Callable[[str], Any]] = dict.fromkeys(TEXT_COLUMNS, str) | dict.fromkeys(COUNTS, np.int64)
    kinds = {name: known.get(name, decimal) for name in leak_columns(task)}
    columns = read_columns(path, kinds, layout=f"a CSV file with the columns {', '.join(kinds)}")
    return _checked(pd.DataFrame(columns), task, path.name)


def summarise_leak(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return all figures of a study of the leak, ready for JSON.

    Returns:
        `protocols`: for "random" and "grouped" `n` (answers), `scans`, `groups`, `figures` (by the names of
        `bcx.evaluate.metrics.figure_names`, each {value, low, high}), `seeds` (accuracy and macro_auc of each) and
        `copies`: `in_training`, the share of answers about a scan of whose group another scan was trained on,
        `accuracy_with` and `accuracy_without` such a scan, and `accuracy_copied` and `accuracy_single`, that of scans
        which do and do not share a group at all, wherever the others are. `leak`: figures of random minus those of
        grouped, each {value, low, high}; `leak_copied` and `leak_single`: the same for the accuracy of these scans.
    """
    parts = {protocol: frame[frame["protocol"] == protocol] for protocol in ("random", "grouped")}
    if any(part.empty for part in parts.values()):
        raise DataError(
            "The table holds one protocol only.", expected="answers under both", remedy="Run bcx leak to its end."
        )
    names = [*figure_names(task.classes), "copied", "single"]
    statistics = {protocol: _statistics(part, task) for protocol, part in parts.items()}
    groups, group_of = np.unique(frame["group"].to_numpy(str), return_inverse=True)
    seeds, seed_of = np.unique(frame["seed"].to_numpy(), return_inverse=True)
    where = {protocol: (frame["protocol"] == protocol).to_numpy() for protocol in parts}

    def all_figures(weights: np.ndarray) -> np.ndarray:
        random, grouped = (statistics[protocol](weights[where[protocol]]) for protocol in ("random", "grouped"))
        return np.stack([random, grouped, random - grouped])

    rng = np.random.default_rng(0)
    share, seed_share = np.full(len(groups), 1 / len(groups)), np.full(len(seeds), 1 / len(seeds))
    drawn = np.stack(
        [
            all_figures(
                rng.multinomial(len(groups), share)[group_of] * rng.multinomial(len(seeds), seed_share)[seed_of] * 1.0
            )
            for _ in range(RESAMPLES)
        ]
    )
    tables = _with_intervals(names, all_figures(np.ones(len(frame))), drawn)
    own = {"copied", "single"}
    summary: dict[str, Any] = {"protocols": {}}
    for table, (protocol, part) in zip(tables, parts.items(), strict=False):
        summary["protocols"][protocol] = {
            "n": len(part),
            "scans": int(part["file"].nunique()),
            "groups": int(part["group"].nunique()),
            "figures": {name: figure for name, figure in table.items() if name not in own},
            "seeds": _by_seed(part, task),
            "copies": _copies(part, task) | {f"accuracy_{name}": table[name] for name in sorted(own)},
        }
    summary["leak"] = {name: figure for name, figure in tables[2].items() if name not in own}
    return summary | {f"leak_{name}": tables[2][name] for name in sorted(own)}


def _statistics(part: pd.DataFrame, task: Task) -> Any:
    """A function from weights [N] to all figures, and the accuracy of scans with and without copies at the end."""
    labels, probabilities = _answers(part, task)
    figures = weighted_figures(labels, probabilities)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    copied = (part["copies"] > 0).to_numpy(float)

    def statistic(weights: np.ndarray) -> np.ndarray:
        if not weights.any():  # a draw of groups of which this protocol tested none
            return np.full(len(figure_names(task.classes)) + 2, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [(weights * kind * right).sum() / (weights * kind).sum() for kind in (copied, 1 - copied)]
            return np.concatenate([figures(weights), shares])

    return statistic


def _with_intervals(names: Sequence[str], values: np.ndarray, drawn: np.ndarray) -> list[dict[str, Any]]:
    """One table per row of `values` [3, K], from `drawn` [R, 3, K]."""
    low, high = (bound.reshape(values.shape) for bound in percentiles(drawn.reshape(len(drawn), -1)))
    return [
        {
            name: {"value": or_none(value), "low": or_none(a), "high": or_none(b)}
            for name, value, a, b in zip(names, *rows, strict=True)
        }
        for rows in zip(values, low, high, strict=True)
    ]


def _by_seed(part: pd.DataFrame, task: Task) -> dict[str, dict[str, float | None]]:
    names = figure_names(task.classes)
    found = {}
    for seed, rows in part.groupby("seed", sort=True):
        values = weighted_figures(*_answers(rows, task))(np.ones(len(rows)))
        found[str(seed)] = {name: or_none(values[names.index(name)]) for name in ("accuracy", "macro_auc")}
    return found


def _copies(part: pd.DataFrame, task: Task) -> dict[str, Any]:
    labels, probabilities = _answers(part, task)
    right = (probabilities.argmax(axis=1) == labels).astype(float)
    known = (part["copies_in_training"] > 0).to_numpy()
    columns = {
        "in_training": known.astype(float),
        "accuracy_with": np.where(known, right, np.nan),
        "accuracy_without": np.where(known, np.nan, right),
    }
    return means_with_intervals(columns, part["group"].to_list())


def _answers(part: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    return label_positions(part, task), apply_temperature(logits_of(part, task))


def _checked(frame: pd.DataFrame, task: Task, where: str) -> pd.DataFrame:
    columns = leak_columns(task)
    problem = None
    if missing := [name for name in columns if name not in frame.columns]:
        problem = f"has no column {', '.join(missing)}"
    elif frame.empty:
        problem = "has no rows"
    elif strange := sorted(set(frame["label"]) - set(task.classes)):
        problem = f"holds the label '{strange[0]}'"
    elif frame.duplicated(["protocol", "seed", "file"]).any():
        problem = "answers a scan twice under one protocol and seed"
    elif not np.isfinite(frame[columns[9:]].to_numpy(np.float64)).all():
        problem = "holds logits that are infinite or not a number"
    if problem:
        raise DataError(
            f"The table of answers ({where}) {problem}.",
            expected=f"a row per protocol, seed and scan, finite logits, and the columns {', '.join(columns)}",
            remedy="Run bcx leak again.",
        )
    return frame[columns].reset_index(drop=True)
