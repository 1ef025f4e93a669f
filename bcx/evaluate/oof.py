"""The out-of-fold table: one row per scan, answered by the network that never saw its group.

Everything that a cross-validation reports can be derived again from this file.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.data.tables import decimal, read_columns, read_table
from bcx.errors import DataError
from bcx.files import AnyPath, whole
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature

#: Optional last column: how far a scan lies from those learned from, by the input check of the network that answered.
DISTANCE = "distance"
TEXT_COLUMNS = ("file", "source", "group", "label")


def oof_columns(task: Task) -> list[str]:
    """Return the columns of `oof.csv`, in order."""
    return ["file", "source", "group", "fold", "label", *_logit_columns(task)]


def _logit_columns(task: Task) -> list[str]:
    return [f"{view}_{name}" for view in ("logit", "mirror_logit") for name in task.classes]


def oof_frame(
    records: Sequence[Record], fold: int, logits: np.ndarray, mirror_logits: np.ndarray, task: Task
) -> pd.DataFrame:
    """Return the rows of one fold; errors as `read_oof`.

    The logits, float [N, C], are before temperature, of the scans and of the same scans flipped left to right.
    """
    frame = pd.DataFrame(record_columns(records)).assign(fold=fold)
    frame[_logit_columns(task)] = np.hstack([logits, mirror_logits])
    return checked(frame, task, f"fold {fold}")


def write_oof(path: AnyPath, frame: pd.DataFrame, task: Task) -> None:
    """Write `frame` as CSV; nine significant digits give every float32 back exactly. Errors as `read_oof`."""
    with whole(path) as partial:
        checked(frame, task, str(path)).to_csv(partial, index=False, float_format="%.9g", lineterminator="\n")


def read_oof(path: AnyPath, task: Task) -> pd.DataFrame:
    """Return the table with the columns of `oof_columns`: text, int64 fold and float32 logits.

    Raises:
        DataError: no such file, a column that is missing, a label that is not of the task, a file that comes twice,
            a group in two folds, logits that are missing or not finite.
    """
    kinds = {"fold": np.int64, **dict.fromkeys(TEXT_COLUMNS, str)}
    columns = {name: kinds.get(name, decimal) for name in oof_columns(task)}
    layout = f"a CSV file with the columns {', '.join(columns)}"
    return checked(pd.DataFrame(read_columns(Path(path), columns, layout=layout)), task, str(path))


def read_answers(path: AnyPath, task: Task) -> pd.DataFrame:
    """Return the table as `read_oof`, with `distance` (float, NaN where it is not known)."""
    frame, layout = read_oof(path, task), "a CSV file with numbers in the column distance"
    known = DISTANCE in read_table(Path(path), ["file"], [DISTANCE], layout=layout).columns
    column = read_columns(Path(path), {DISTANCE: decimal}, layout=layout)[DISTANCE] if known else np.nan
    return frame.assign(**{DISTANCE: column})


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


def view_probabilities(frame: pd.DataFrame, task: Task, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities of one view, and the mean of those of both views, each float64 [N, C]."""
    views = logits_of(frame, task), logits_of(frame, task, "mirror_logit")
    straight, mirrored = (apply_temperature(logits, temperature) for logits in views)
    return straight, (straight + mirrored) / 2


def checked(frame: pd.DataFrame, task: Task, where: str) -> pd.DataFrame:
    """Return the columns of `oof_columns` in order, with float32 logits, or raise a `DataError`, as `read_oof`."""
    if problem := _problem(frame, task):
        raise DataError(
            f"The out-of-fold table ({where}) {problem}.",
            expected=f"one row per scan, each group in one fold, labels out of {', '.join(task.classes)}, "
            f"finite logits, and the columns {', '.join(oof_columns(task))}",
            remedy="Run the cross-validation again, or pass the oof.csv that it wrote.",
        )
    columns = oof_columns(task) + [DISTANCE] * (DISTANCE in frame)
    return frame[columns].astype(dict.fromkeys(_logit_columns(task), np.float32)).reset_index(drop=True)


def _problem(frame: pd.DataFrame, task: Task) -> str:
    """What is wrong with the table, in words; "" where nothing is."""
    if missing := [name for name in oof_columns(task) if name not in frame.columns]:
        return f"has no column {', '.join(missing)}"
    folds = frame.groupby("group")["fold"].nunique()
    torn = f"has the group '{folds[folds > 1].index[0]}' in more than one fold" if (folds > 1).any() else ""
    return answers_problem(frame, task, ["file"]) or torn


def answers_problem(frame: pd.DataFrame, task: Task, key: list[str]) -> str:
    """Return what is wrong with a table of answers, a row for each `key` of columns, in words; "" for nothing."""
    if frame.empty:
        return "has no rows"
    if strange := sorted(set(frame["label"]) - set(task.classes)):
        return f"holds the label '{strange[0]}'"
    if (twice := frame.duplicated(key)).any():
        return f"holds '{frame['file'][twice].iloc[0]}' twice"
    logits = frame.filter(like="logit_").to_numpy(np.float64)
    return "" if np.isfinite(logits).all() else "holds logits that are infinite or not a number"
