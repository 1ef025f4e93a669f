"""Epochs as a log that TensorBoard shows, through Accelerate's tracker, beside history.csv.

with epoch_log("tensorboard", Path("checkpoints/first/logs")) as log:
    log({"epoch": 1, "train_loss": 0.7})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bcx.errors import ConfigError, MissingExtra


@contextmanager
def epoch_log(kind: str | None, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give what logs a row of a training's history: its numbers by their names, the epoch as the step.

    Args:
        kind: "tensorboard", whose files stay on this machine; None logs nothing.
        folder: of the logs; each member of an ensemble, and each training of a mean, has a run of its own inside.

    Raises:
        ConfigError: another kind.
        MissingExtra: TensorBoard is not installed.
    """
    if kind not in (None, "tensorboard"):
        raise ConfigError(f"The log is '{kind}'.", expected="tensorboard", remedy="Use it, or leave out --log-with.")
    if kind is not None and find_spec("tensorboard") is None:
        raise MissingExtra(
            "TensorBoard is not installed.",
            expected="the extra 'logs'",
            remedy='Install it with: pip install "bcx[logs]"',
        )
    from accelerate.tracking import TensorBoardTracker

    runs: dict[str, TensorBoardTracker] = {}

    def log(row: Mapping[str, Any]) -> None:
        name = "-".join(f"{part}-{row[part]}" for part in ("member", "training") if part in row) or "training"
        if name not in runs:
            runs[name] = TensorBoardTracker(name, folder)
            runs[name].start()
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        runs[name].log(numbers, step=row["epoch"])

    try:
        yield log if kind else lambda row: None
    finally:
        for run in runs.values():
            run.finish()
