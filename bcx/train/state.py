"""What a running training leaves: snapshots, from which it goes on to bitwise the same weights, and a log."""

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

STATE_FILE = "state.safetensors"

Tensors = dict[str, torch.Tensor]


def save_state(
    file: Path,
    parts: dict[str, Tensors],
    optimizers: Mapping[str, torch.optim.Optimizer],
    *,
    fingerprint: str,
    history: list[dict[str, Any]],
) -> None:
    """Write named groups of tensors and optimizers as safetensors, their numbers as JSON in its header."""
    groups = {}
    for name, optimizer in optimizers.items():
        state = optimizer.state_dict()
        groups[name] = state["param_groups"]
        each = {f"{index}/{key}": value for index, entry in state["state"].items() for key, value in entry.items()}
        parts = parts | {name: each}
    # Cloned, since weights that share storage (a kept best copy right after it was taken) must be separate on disk.
    flat = {
        f"{part}/{name}": torch.as_tensor(value).clone(memory_format=torch.contiguous_format)
        for part, tensors in parts.items()
        for name, value in tensors.items()
    }
    numbers = json.dumps({"fingerprint": fingerprint, "history": history, "groups": groups})
    with whole(file) as partial:
        save_file(flat, partial, metadata={"numbers": numbers})


def load_state(
    file: Path, optimizers: Mapping[str, torch.optim.Optimizer], *, fingerprint: str
) -> tuple[dict[str, Tensors], list[dict[str, Any]]]:
    """Put back the optimizers of `save_state`, return its other tensors and its history; `TrainingError` if unfit."""
    parts: dict[str, Tensors] = {}
    try:
        with safe_open(file, framework="pt") as stream:
            numbers = json.loads(stream.metadata()["numbers"])
            for key in stream.keys():  # noqa: SIM118 - safe_open is no dict
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = stream.get_tensor(key)
        found, history, groups = numbers["fingerprint"], numbers["history"], numbers["groups"]
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"The training snapshot '{file.name}' cannot be read ({error}).",
            expected="a snapshot that this version of bcx wrote",
            remedy="Delete the file to start this run afresh.",
        ) from error
    if found != fingerprint:
        raise TrainingError(
            f"The folder '{file.parent.name}' holds the snapshot of a run with another recipe or other data.",
            expected="the same recipe and data, to go on with that run",
            remedy=f"Choose another folder, or delete '{file.name}' there to start afresh.",
        )
    for part, optimizer in optimizers.items():
        state: dict[int, Tensors] = {}
        for key, value in parts.pop(part, {}).items():
            index, name = key.split("/", 1)
            state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({"state": state, "param_groups": groups[part]})
        for parameter, entry in optimizer.state.items():  # a fused step reads both in the weights' order in memory
            same = {name: value for name, value in entry.items() if value.shape == parameter.shape}
            entry.update({name: torch.empty_like(parameter.detach()).copy_(value) for name, value in same.items()})
    return parts, history


@contextmanager
def epoch_log(kind: str | None, folder: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Give what logs a row of a history by "tensorboard", whose files stay on this machine; None logs nothing.

    Each member of an ensemble, and each training of a mean, has a run of its own inside the folder.
    """
    if kind not in (None, "tensorboard"):
        raise ConfigError(f"The log is '{kind}'.", expected="tensorboard", remedy="Use it, or leave out --log-with.")
    if kind is not None and find_spec("tensorboard") is None:
        raise MissingExtra.named("logs", "TensorBoard is not installed.")
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
