"""What a leak is worth: the answers under both protocols as a table, figures from it, and those as Markdown.

A row of the table is one answer: of the network of one protocol, seed and fold, about one scan that was held out.
Intervals come from drawing groups and seeds anew at once, and the difference from drawing the same ones for both
protocols; three seeds say little about how much another seed would change.
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
from bcx.evaluate.words import interval, markdown_table, units
from bcx.files import whole
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature

if TYPE_CHECKING:
    from bcx.data.records import Record

_FRONT: dict[str, Callable[[str], Any]] = {
    **{"protocol": str, "seed": np.int64, "fold": np.int64, "file": str, "source": str, "group": str, "label": str},
    **{"copies": np.int64, "copies_in_training": np.int64},
}


def leak_columns(task: Task) -> list[str]:
    """Return the columns of the table, in order."""
    return [*_FRONT, *(f"logit_{name}" for name in task.classes)]


def leak_frame(held: Sequence[Record], logits: np.ndarray, task: Task, **about: Any) -> pd.DataFrame:
    """Return the rows of one run.

    Args:
        held: N scans that were held out.
        logits: float [N, C], before temperature, of one view.
        about: protocol, seed and fold; `copies` [N], other scans of the same group among all scans of the study;
            `copies_in_training` [N], those of them that the run was trained on.
    """
    frame = pd.DataFrame(record_columns(held)).assign(**about)
    frame[[f"logit_{name}" for name in task.classes]] = np.asarray(logits, np.float32)
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
    kinds = {name: _FRONT.get(name, decimal) for name in leak_columns(task)}
    columns = read_columns(path, kinds, layout=f"a CSV file with the columns {', '.join(kinds)}")
    return _checked(pd.DataFrame(columns), task, path.name)


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
    elif not np.isfinite(frame[columns[len(_FRONT) :]].to_numpy(np.float64)).all():
        problem = "holds logits that are infinite or not a number"
    if problem:
        raise DataError(
            f"The table of answers ({where}) {problem}.",
            expected=f"a row per protocol, seed and scan, finite logits, and the columns {', '.join(columns)}",
            remedy="Run bcx leak again.",
        )
    return frame[columns].reset_index(drop=True)


def summarise_leak(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return all figures of a study of the leak, ready for JSON.

    Returns:
        `protocols`: for "random" and "grouped" `n` (answers), `scans`, `groups`, `figures` (by the names of
        `bcx.evaluate.metrics.figure_names`, each {value, low, high}), `seeds` (accuracy and macro_auc of each) and
        `copies`: `in_training`, the share of answers about a scan of whose group another scan was trained on,
        `accuracy_with` and `accuracy_without` such a scan, and `accuracy_copied` and `accuracy_single`, that of scans
        which do and do not share a group at all, wherever the others are. `leak`: figures of random minus those of
        grouped, each {value, low, high}; `leak_copied` and `leak_single`: the same for the accuracy of these scans.

    Raises:
        DataError: answers under one protocol only.
    """
    parts = {protocol: frame[frame["protocol"] == protocol] for protocol in ("random", "grouped")}
    if any(part.empty for part in parts.values()):
        raise DataError(
            "The table holds one protocol only.", expected="answers under both", remedy="Run bcx leak to its end."
        )
    statistics = {protocol: _statistics(part, task) for protocol, part in parts.items()}
    where = {protocol: (frame["protocol"] == protocol).to_numpy() for protocol in parts}

    def all_figures(weights: np.ndarray) -> np.ndarray:
        random, grouped = (statistics[protocol](weights[where[protocol]]) for protocol in parts)
        return np.stack([random, grouped, random - grouped])

    rng = np.random.default_rng(0)
    groups, group_of = np.unique(frame["group"].to_numpy(str), return_inverse=True)
    seeds, seed_of = np.unique(frame["seed"].to_numpy(), return_inverse=True)
    share, seed_share = np.full(len(groups), 1 / len(groups)), np.full(len(seeds), 1 / len(seeds))
    drawn = []
    for _ in range(RESAMPLES):
        weights = rng.multinomial(len(groups), share)[group_of] * rng.multinomial(len(seeds), seed_share)[seed_of]
        drawn.append(all_figures(weights * 1.0))
    values = all_figures(np.ones(len(frame)))
    low, high = (bound.reshape(values.shape) for bound in percentiles(np.stack(drawn).reshape(RESAMPLES, -1)))
    names = [*figure_names(task.classes), "copied", "single"]
    tables = [
        {
            name: {"value": or_none(value), "low": or_none(a), "high": or_none(b)}
            for name, value, a, b in zip(names, *rows, strict=True)
        }
        for rows in zip(values, low, high, strict=True)
    ]
    # The last two are of single kinds of scans, and stand apart.
    own = [{name: table.pop(name) for name in ("copied", "single")} for table in tables]
    protocols = {}
    for (protocol, part), figures, copied in zip(parts.items(), tables, own, strict=False):
        protocols[protocol] = {
            "n": len(part),
            "scans": int(part["file"].nunique()),
            "groups": int(part["group"].nunique()),
            "figures": figures,
            "seeds": _by_seed(part, task),
            "copies": _copies(part, task) | {f"accuracy_{name}": figure for name, figure in copied.items()},
        }
    return {"protocols": protocols, "leak": tables[2], **{f"leak_{name}": figure for name, figure in own[2].items()}}


def _answers(part: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    return label_positions(part, task), apply_temperature(logits_of(part, task))


def _statistics(part: pd.DataFrame, task: Task) -> Callable[[np.ndarray], np.ndarray]:
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


def _by_seed(part: pd.DataFrame, task: Task) -> dict[str, dict[str, float | None]]:
    names = figure_names(task.classes)
    found = {}
    for seed, rows in part.groupby("seed"):
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


def leak_lines(results: dict[str, Any]) -> list[str]:
    """Return what a published system reports beside what the same recipe reaches, with and without the leak."""
    recipe, seeds = results["recipe"], ", ".join(map(str, results["seeds"]))
    published = recipe["published"] or {"system": recipe["name"], "figures": {}, "differs": []}
    random, grouped = (results["protocols"][name] for name in ("random", "grouped"))
    reported = published["figures"]
    sizes = " or ".join(sorted({str(run["n_train"]) for run in results["runs"]}))
    rows = []
    for name in dict.fromkeys([*reported, "accuracy", "macro_auc"]):
        theirs = units(reported[name]) if name in reported else "-"
        ours = [interval(part["figures"][name]) for part in (random, grouped)]
        rows.append([words_of(name), theirs, *ours, interval(results["leak"][name], sign=True)])
    head = ["figure", "theirs", "ours, random split as theirs", "ours, grouped", "random minus grouped"]
    lines = [
        f"### {published['system']}",
        "",
        f"{recipe['arch']}, {recipe['size']} pixels, {recipe['epochs']} epochs, seeds {seeds}; trained on {sizes} "
        f"scans at a time, {random['n']} answers under each split.",
        "",
        *markdown_table(head, rows),
        "",
        _copies_line(results),
    ]
    if published["differs"]:
        lines += ["", "What differs from the published system:", "", *(f"- {text}" for text in published["differs"])]
    return [*lines, ""]


def _copies_line(results: dict[str, Any]) -> str:
    """Say what the answers about scans are worth of which something was trained on."""
    known = results["protocols"]["random"]["copies"]
    share = known["in_training"]
    start = (
        f"Under the random split {100 * share['value']:.0f} % ({100 * share['low']:.0f} to {100 * share['high']:.0f}) "
        "of the answers were about a "
    )
    if known["accuracy_without"]["value"] is None:  # where patients are groups, hardly one stands on one side alone
        return (
            f"{start}group (of patches: a patient) of which others had been trained on, so that there is nothing to "
            "compare them with."
        )
    copied, single = (interval(results[f"leak_{kind}"], sign=True) for kind in ("copied", "single"))
    return (
        f"{start}scan of which a near-duplicate, or the same lesion in another frame, had been trained on: accuracy "
        f"{interval(known['accuracy_with'])} on these and {interval(known['accuracy_without'])} on the others. "
        f"Random minus grouped is {copied} in the accuracy on scans that have such a copy anywhere in the set, and "
        f"{single} on those that have none."
    )


_WORDS = {
    "macro_auc": "ROC-AUC, macro",
    "macro_pr_auc": "PR-AUC, macro",
    "macro_precision": "precision, macro",
    "balanced_accuracy": "recall, macro (balanced accuracy)",
    "mcc": "Matthews correlation",
}
_KINDS = {"sensitivity": "sensitivity", "specificity": "specificity", "precision": "precision"}
_KINDS |= {"pr_auc": "PR-AUC", "auc": "ROC-AUC", "f1": "F1"}


def words_of(name: str) -> str:
    """Return a figure's name in words."""
    if name in _WORDS:
        return _WORDS[name]
    for start, words in _KINDS.items():
        if name.startswith(f"{start}_") and "_vs_" not in name:
            return f"{words}, {name.removeprefix(f'{start}_')}"
    return name.replace("_", " ")
