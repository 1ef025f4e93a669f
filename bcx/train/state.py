"""Snapshots of a running training: everything needed to go on to bitwise the same weights.

One safetensors file (tensors) with JSON in its header (numbers), written to a temporary name and renamed,
so that a kill at any moment leaves either the old snapshot or the new one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from bcx.errors import TrainingError


def save_state(file: Path, parts: dict[str, dict[str, torch.Tensor]], numbers: dict[str, Any]) -> None:
    """Write named groups of tensors, and numbers that JSON keeps exactly (Python's floats do round-trip)."""
    flat = {f"{part}/{name}": value.contiguous() for part, tensors in parts.items() for name, value in tensors.items()}
    # Weights that share storage (a kept best copy right after it was taken) must be separate on disk.
    flat = {name: value.clone() for name, value in flat.items()}
    scratch = file.with_suffix(".writing")
    save_file(flat, scratch, metadata={"numbers": json.dumps(numbers)})
    os.replace(scratch, file)


def load_state(file: Path) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, Any]]:
    """Read what `save_state` wrote.

    Raises:
        TrainingError: the file is damaged or of another kind.
    """
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
    merged = [{**group, "params": mine["params"]} for group, mine in zip(groups, own, strict=True)]
    for group in merged:
        if "betas" in group:
            group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": state, "param_groups": merged})


def group_numbers(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return the parameter groups' numbers without the parameters, ready for JSON."""
    groups = optimizer.state_dict()["param_groups"]
    return [{key: value for key, value in group.items() if key != "params"} for group in groups]
