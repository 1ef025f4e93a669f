"""The out-of-fold table: one row per scan, answered by the network that never saw its group.

Everything that a cross-validation reports can be derived again from this file.

>>> import numpy as np
>>> from types import SimpleNamespace
>>> from bcx.tasks import get_task
>>> task = get_task("breast-ultrasound")
>>> record = SimpleNamespace(key="busi/a.png", source="busi", group="busi:1", label="benign")
>>> frame = oof_frame([record], 0, np.array([[0.0, 2.0, 1.0]]), np.array([[0.0, 3.0, 1.0]]), task)
>>> print(frame[["file", "fold", "label", "logit_benign", "mirror_logit_benign"]].to_csv(index=False), end="")
file,fold,label,logit_benign,mirror_logit_benign
busi/a.png,0,benign,2.0,3.0
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bcx.data.tables import decimal, read_columns, read_table
from bcx.errors import DataError
from bcx.evaluate.intervals import report_with_intervals
from bcx.evaluate.metrics import classification_report
from bcx.files import whole
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature

if TYPE_CHECKING:
    from bcx.data.records import Record

#: Optional last column: how far a scan lies from those learned from, by the input check of the network that answered.
DISTANCE = "distance"
TEXT_COLUMNS = ("file", "source", "group", "label")
_KINDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(TEXT_COLUMNS, str),
    "fold": np.int64,
}


def oof_columns(task: Task) -> list[str]:
    """Return the columns of `oof.csv`, in order."""
    views = [f"{view}_{name}" for view in ("logit", "mirror_logit") for name in task.classes]
    return ["file", "source", "group", "fold", "label", *views]


def oof_frame(
    records: Sequence[Record], fold: int, logits: np.ndarray, mirror_logits: np.ndarray, task: Task
) -> pd.DataFrame:
    """Return the rows of one fold; join the folds with `pandas.concat(frames, ignore_index=True)`.

    Args:
        records: N scans that were left out of this fold's training.
        fold: the run that answered them.
        logits: float [N, C], before temperature, in the order of `task.classes`.
        mirror_logits: float [N, C], the same scans flipped left to right.

    Raises:
        DataError: shapes that do not fit, a label that is not of the task, logits that are not finite.
    """
    frame = pd.DataFrame(record_columns(records)).assign(fold=fold)
    for prefix, values in (("logit", logits), ("mirror_logit", mirror_logits)):
        values = np.asarray(values, dtype=np.float32)
        if values.shape != (len(records), len(task.classes)):
            raise DataError(
                f"The {prefix}s of fold {fold} have the shape {values.shape}.",
                expected=f"({len(records)}, {len(task.classes)}): one row per scan, one column per class",
                remedy="Pass the network's output for exactly these records.",
            )
        for c, name in enumerate(task.classes):
            frame[f"{prefix}_{name}"] = values[:, c]
    return _checked(frame, task, f"fold {fold}")


def write_oof(path: str | os.PathLike, frame: pd.DataFrame, task: Task) -> None:
    """Write `frame` as CSV; nine significant digits give every float32 back exactly.

    Raises:
        DataError: as `read_oof`.
    """
    with whole(path) as partial:
        _checked(frame, task, str(path)).to_csv(partial, index=False, float_format="%.9g", lineterminator="\n")


def read_oof(path: str | os.PathLike, task: Task) -> pd.DataFrame:
    """Return the table with the columns of `oof_columns`: text, int64 fold and float32 logits.

    Raises:
        DataError: no such file, a column that is missing, a label that is not of the task, a file that comes twice,
            a group in two folds, logits that are missing or not finite.
    """
    kinds = {name: _KINDS.get(name, decimal) for name in oof_columns(task)}
    columns = read_columns(Path(path), kinds, layout=f"a CSV file with the columns {', '.join(kinds)}")
    return _checked(pd.DataFrame(columns), task, str(path))


def read_answers(path: str | os.PathLike, task: Task) -> pd.DataFrame:
    """Return the table as `read_oof`, with `distance` (float, NaN where it is not known).

    Raises:
        DataError: as `read_oof`, or a distance that is no number.
    """
    frame, layout = read_oof(path, task), "a CSV file with numbers in the column distance"
    known = DISTANCE in read_table(Path(path), ["file"], [DISTANCE], layout=layout).columns
    column = read_columns(Path(path), {DISTANCE: decimal}, layout=layout)[DISTANCE] if known else np.nan
    return frame.assign(**{DISTANCE: column})


def summarise_oof(
    oof: str | os.PathLike | pd.DataFrame,
    task: Task,
    temperature: float = 1.0,
    leave_out: Mapping[str, Collection[str]] | None = None,
) -> dict:
    """Return the headline figures of a cross-validation, ready for JSON.

    Args:
        oof: `oof.csv` or the table read from it.
        temperature: divides the logits of both views before their softmax.
        leave_out: name -> values of `file`; the figures are given once more without these scans
            (such as {"axilla": [...]}, scans that do not show the breast).

    Returns:
        `n`, `groups`, `temperature`, `one_view` and `two_views` (figures with intervals, see
        `report_with_intervals`; two views: the mean of the probabilities of scan and mirrored scan), `report`
        (every figure of one view, see `classification_report`), `folds` (a row per fold: fold, n, accuracy and
        macro_auc of one view, two_views_accuracy, two_views_macro_auc); `without`, {name: {left_out, n, groups,
        one_view, two_views}}, if `leave_out` is given; `sources`, {source: {n, groups, one_view, two_views}}, if
        there are several.

    Raises:
        DataError: as `read_oof`, or a name in `leave_out` that takes away all scans.
    """
    frame = _checked(oof, task, "the table") if isinstance(oof, pd.DataFrame) else read_oof(oof, task)
    one, two = view_probabilities(frame, task, temperature)
    labels = label_positions(frame, task)
    summary: dict = {
        "temperature": float(temperature),
        **_both_views(frame, task, temperature),
        "report": classification_report(labels, one, task.classes),
        "folds": [],
    }
    for fold in sorted(set(frame["fold"].tolist())):
        rows = (frame["fold"] == fold).to_numpy()
        single = classification_report(labels[rows], one[rows], task.classes)
        double = classification_report(labels[rows], two[rows], task.classes)
        summary["folds"].append(
            {
                "fold": fold,
                "n": single["n"],
                "accuracy": single["accuracy"],
                "macro_auc": single["macro_auc"],
                "two_views_accuracy": double["accuracy"],
                "two_views_macro_auc": double["macro_auc"],
            }
        )
    if leave_out:
        summary["without"] = {}
        for name, files in leave_out.items():
            rest = frame[~frame["file"].isin(list(files))]
            summary["without"][name] = {"left_out": len(frame) - len(rest), **_both_views(rest, task, temperature)}
    sources = sorted(set(frame["source"].tolist()))
    if len(sources) > 1:
        summary["sources"] = {
            source: _both_views(frame[frame["source"] == source], task, temperature) for source in sources
        }
    return summary


def label_positions(frame: pd.DataFrame, task: Task) -> np.ndarray:
    """Return int64 [N], the position of each label in `task.classes`."""
    return np.array([task.classes.index(label) for label in frame["label"]], dtype=np.int64)


def record_columns(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return what a table of answers says of each scan: file (its key), source, group and label."""
    rows = [(record.key, record.source, record.group, record.label) for record in records]
    return {name: [row[i] for row in rows] for i, name in enumerate(TEXT_COLUMNS)}


def logits_of(frame: pd.DataFrame, task: Task, view: str = "logit") -> np.ndarray:
    """Return the logits of a table of answers, float32 [N, C]; `view`: "logit" or "mirror_logit"."""
    return frame[[f"{view}_{name}" for name in task.classes]].to_numpy(np.float32)


def view_logits(frame: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of the scan and of the mirrored scan, each float32 [N, C]."""
    return logits_of(frame, task), logits_of(frame, task, "mirror_logit")


def view_probabilities(frame: pd.DataFrame, task: Task, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of one view, and the mean of those of both views, each float64 [N, C]."""
    straight, mirrored = (apply_temperature(logits, temperature) for logits in view_logits(frame, task))
    return straight, (straight + mirrored) / 2


def _both_views(frame: pd.DataFrame, task: Task, temperature: float) -> dict:
    if frame.empty:
        raise DataError(
            "No scan is left in the out-of-fold table.",
            expected="at least one scan that is not left out",
            remedy="Check the list of files to leave out.",
        )
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    one, two = view_probabilities(frame, task, temperature)
    return {
        "n": len(frame),
        "groups": len(np.unique(groups)),
        "one_view": report_with_intervals(labels, one, groups, task.classes),
        "two_views": report_with_intervals(labels, two, groups, task.classes),
    }


def _checked(frame: pd.DataFrame, task: Task, where: str) -> pd.DataFrame:
    """The columns of `oof_columns` in order, with float32 logits."""
    columns = oof_columns(task)
    problem = None
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        problem = f"has no column {', '.join(missing)}"
    elif frame.empty:
        problem = "has no rows"
    elif strange := sorted(set(frame["label"]) - set(task.classes)):
        problem = f"holds the label '{strange[0]}'"
    elif frame["file"].duplicated().any():
        problem = f"holds '{frame['file'][frame['file'].duplicated()].iloc[0]}' twice"
    elif (frame.groupby("group")["fold"].nunique() > 1).any():
        straddling = frame.groupby("group")["fold"].nunique()
        problem = f"has the group '{straddling[straddling > 1].index[0]}' in more than one fold"
    elif not np.isfinite(frame[columns[5:]].to_numpy(np.float64)).all():
        problem = "holds logits that are infinite or not a number"
    if problem:
        raise DataError(
            f"The out-of-fold table ({where}) {problem}.",
            expected=f"one row per scan, each group in one fold, labels out of {', '.join(task.classes)}, "
            f"finite logits, and the columns {', '.join(columns)}",
            remedy="Run the cross-validation again, or pass the oof.csv that it wrote.",
        )
    columns += [DISTANCE] * (DISTANCE in frame)
    return frame[columns].astype(dict.fromkeys(oof_columns(task)[5:], np.float32)).reset_index(drop=True)
