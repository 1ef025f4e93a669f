"""What a running training leaves: snapshots, from which it goes on to bitwise the same weights, and a log.

A snapshot is one safetensors file (tensors) with JSON in its header (numbers).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate.tracking import TensorBoardTracker
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bcx.errors import ConfigError, MissingExtra, TrainingError
from bcx.files import whole


def save_state(file: Path, parts: dict[str, dict[str, torch.Tensor]], numbers: dict[str, Any]) -> None:
    """Write named groups of tensors, and numbers that JSON keeps exactly (Python's floats do round-trip)."""
    flat = {f"{part}/{name}": value.contiguous() for part, tensors in parts.items() for name, value in tensors.items()}
    # Weights that share storage (a kept best copy right after it was taken) must be separate on disk.
    flat = {name: value.clone() for name, value in flat.items()}
    with whole(file) as partial:
        save_file(flat, partial, metadata={"numbers": json.dumps(numbers)})


def load_state(file: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read what `save_state` wrote; a `TrainingError` where the file is damaged or of another kind."""
    parts: dict[str, dict[str, torch.Tensor]] = {}
    try:
        with safe_open(file, framework="pt") as stream:
            numbers = json.loads(stream.metadata()["numbers"])
            for key in stream.keys():  # noqa: SIM118 - safe_open is no dict
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = stream.get_tensor(key)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"The training snapshot '{file.name}' cannot be read ({error}).",
            expected="a snapshot that this version of bcx wrote",
            remedy="Delete the file to start this run afresh.",
        ) from error
    return parts, numbers


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return an optimizer's per-parameter state as `{"<index>/<name>": tensor}`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value) for index, entry in state.items() for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor], groups: list[dict]) -> None:
    """Put back what `optimizer_tensors` returned, and the groups' numbers (learning rates, betas)."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    own = optimizer.state_dict()["param_groups"]
    merged = [
        {**group, "betas": tuple(group["betas"]), "params": mine["params"]}  # JSON made a list of them
        for group, mine in zip(groups, own, strict=True)
    ]
    optimizer.load_state_dict({"state": state, "param_groups": merged})


def group_numbers(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return the parameter groups' numbers without the parameters, ready for JSON."""
    groups = optimizer.state_dict()["param_groups"]
    return [{key: value for key, value in group.items() if key != "params"} for group in groups]


@contextmanager
def epoch_log(kind: str | None, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give what logs a row of a training's history: its numbers by their names, the epoch as the step.

    The kind is "tensorboard", whose files stay on this machine; None logs nothing. Each member of an ensemble, and each
    training of a mean, has a run of its own inside the folder.
    """
    if kind not in (None, "tensorboard"):
        raise ConfigError(f"The log is '{kind}'.", expected="tensorboard", remedy="Use it, or leave out --log-with.")
    if kind is not None and find_spec("tensorboard") is None:
        raise MissingExtra(
            "TensorBoard is not installed.",
            expected="the extra 'logs'",
            remedy='Install it with: pip install "bcx[logs]"',
        )
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
