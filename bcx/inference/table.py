"""The results table: one row per file, the same columns everywhere."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from bcx.data.tables import harmless
from bcx.files import whole

if TYPE_CHECKING:
    from bcx.inference.prediction import Failure, Prediction
    from bcx.tasks import Task


def columns(task: Task) -> list[str]:
    """Return the column names, in order; `p_<class>` follows the task's order of classes."""
    probabilities = [f"p_{name}" for name in task.classes]
    said = ["file", "label", "confidence", "decision", *probabilities, "reason", "seconds", "model", "weights_sha256"]
    return [*said, "lesion_share", "lesion_box", "flags", "notes", "frame"]


def row(answer: Prediction | Failure, file: str, task: Task) -> dict[str, Any]:
    """Return one row, column of `columns(task)` to text or number; of a `Failure`, its reason and empty cells.

    Probabilities and `lesion_share`, of the scan's pixels that the model outlines, are 0..1 with six decimals;
    `lesion_box` is "left top right bottom" in pixels; `frame` is the decisive one of a clip, from 1.
    """
    from bcx.inference.prediction import Failure  # here, since it loads torch, and reading a header should not

    cells: dict[str, Any] = dict.fromkeys(columns(task), "")
    if isinstance(answer, Failure):
        return {**cells, "file": file, "reason": str(answer.error)}
    cells |= {name: getattr(answer, name) for name in ("label", "decision", "reason", "model", "weights_sha256")}
    cells |= {"file": file, "seconds": round(float(answer.seconds), 4)}
    cells |= {"flags": "; ".join(answer.flags), "notes": "; ".join(answer.notes)}
    if answer.clip is not None:
        cells["frame"] = answer.clip.frame + 1
    if (lesion := answer.screen.lesion) is not None:
        cells["lesion_share"] = round(float((lesion >= answer.outline_level).mean()), 6)
        cells["lesion_box"] = " ".join(str(edge) for edge in answer.lesion_box or ())
    shares = {"confidence": answer.confidence, **{f"p_{name}": answer.probabilities[name] for name in task.classes}}
    return cells | {name: round(float(share), 6) for name, share in shares.items()}


def write_lines(lines: Iterable[str], target: str | os.PathLike[str] | TextIO) -> None:
    """Write lines with their ends, one at a time, as UTF-8; a file whole or not at all."""
    if not isinstance(target, (str, os.PathLike)):
        target.writelines(lines)
        return
    # A name that is no valid Unicode (Linux allows it) is spelled out rather than lost.
    with whole(target) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as stream:
        stream.writelines(lines)


def csv_lines(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> Iterator[str]:
    """Yield a header line and a line per row, without what a spreadsheet takes for a formula."""
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    yield text.getvalue()
    for cells in rows:
        text.seek(0)
        text.truncate()
        writer.writerow({name: harmless(cell) for name, cell in cells.items()})
        yield text.getvalue()
