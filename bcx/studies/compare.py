"""Several architectures by one recipe, over the same grouped folds, on one leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from safetensors import SafetensorError, safe_open

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.checkpoints.weights import HEAD_FILE
from bcx.data.records import Record
from bcx.errors import ConfigError
from bcx.evaluate.costs import count_macs, count_parameters, time_in_turn
from bcx.evaluate.figures import roc_of_all
from bcx.evaluate.oof import read_oof
from bcx.files import whole
from bcx.networks.build import fold_norms
from bcx.networks.run import run_network
from bcx.studies.leaderboard import DECIDES, leaderboard_markdown, rank_models, write_leaderboard
from bcx.tasks import get_task
from bcx.train.config import Recipe, load_recipe, require_one_training
from bcx.train.crossval import crossval
from bcx.train.heads import recipe_network
from bcx.train.provenance import describe_command, describe_data, describe_run, write_json
from bcx.train.runs import ANSWERS, NETWORK

#: What an architecture needs otherwise than the recipe has it: `tiny_cnn` as it was published (at 224 pixels its first
#: dense layer alone would hold 51 million weights).
OWN: Mapping[str, dict[str, Any]] = {"tiny_cnn": {"size": 50, "drop": 0.3, "dense": None, "lesion": None}}
#: Architectures of which no trained weights were published.
UNTRAINED = ("tiny_cnn",)
SCRATCH = "none: from scratch"
_USUAL = "mobilenetv2_100"  # whose time is the measure, where it takes part


@dataclass(frozen=True)
class Entrant:
    """One architecture that takes part: its recipe, starting weights in words, multiply-accumulates per image."""

    recipe: Recipe
    start: str
    parameters: int
    macs: int


def plan_comparison(
    recipe: Recipe,
    archs: Sequence[str],
    *,
    inits: Mapping[str, str] | None = None,
    others: str = "timm",
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Entrant]:
    """Return who takes part, each network built once without memory, so that a wrong request fails before any training.

    Args:
        recipe: the settings that all share; its own `init` counts for its own architecture.
        archs: timm's names, and tiny_cnn, which starts from scratch in any case; at least two.
        inits: starting weights by architecture: a file, "timm" or "scratch"; `others`, one of the latter, of the rest.
        changes: further settings by architecture, such as {"vgg16": {"epochs": 3}}.

    Raises:
        ConfigError: fewer than two architectures, one that is named twice or unknown, settings that do not fit, or
            a recipe of several trainings.
    """
    inits, changes = inits or {}, changes or {}
    strangers = sorted({*inits, *changes} - set(archs))
    if len(set(archs)) < 2 or len(set(archs)) < len(archs) or strangers:
        raise ConfigError(
            f"The comparison was asked for {', '.join(archs)}"
            + (f", with settings for {', '.join(strangers)}." if strangers else "."),
            expected="at least two different architectures, and settings for these alone",
            remedy="Correct --archs.",
        )
    require_one_training(recipe)
    return [_entrant(recipe, arch, inits, others, changes.get(arch, {})) for arch in archs]


def _entrant(recipe: Recipe, arch: str, inits: Mapping[str, str], others: str, changes: Mapping[str, Any]) -> Entrant:
    own = recipe.init if arch == recipe.arch else "scratch" if arch in UNTRAINED else others
    settings = recipe.model_dump(exclude={"published"})
    settings |= {"name": f"{recipe.name}-{arch}", "arch": arch, "init": inits.get(arch, own)}
    changed = load_recipe(None, settings | OWN.get(arch, {}) | dict(changes))
    with torch.device("meta"):
        network, _ = recipe_network(changed.model_copy(update={"init": "scratch"}), get_task(changed.task))
        macs = count_macs(network, changed.size)
    return Entrant(changed, starting_weights(changed), count_parameters(network), macs)


def starting_weights(recipe: Recipe) -> str:
    """Return what a recipe starts from, in words; a file with 1,000 outputs was trained on ImageNet's classes."""
    published = timm.get_pretrained_cfg(recipe.arch)
    if recipe.init == "scratch" or published is None:
        return SCRATCH
    if recipe.init == "timm":
        tag = published.tag or "weights"
        return f"ImageNet (timm's {tag})" if "in1k" in tag or "in22k" in tag else f"timm's {tag}"
    file = Path(recipe.init)
    try:
        with safe_open(file, framework="pt") as stored:
            outputs = stored.get_slice(f"{published.classifier}.weight").get_shape()[0]
    except (OSError, SafetensorError):  # no file is told when training starts, no classifier is no fault
        outputs = 0
    return f"ImageNet ({file.name})" if outputs == 1000 else file.name


def compare(
    entrants: Sequence[Entrant],
    records: Sequence[Record],
    *,
    out: Path,
    folds: Sequence[int],
    command: str,
    rounds: int = 15,
    on_epoch: Callable[[Entrant, int, dict[str, Any], int], Any] = lambda *_: None,
    on_batch: Callable[[Entrant], Any] = lambda _: None,
    on_done: Callable[[Entrant], object] = lambda _: None,
) -> dict[str, Any]:
    """Run the same folds for each architecture, and return what results.json holds.

    Each has a folder of its own in `out`, written by `bcx.train.crossval.crossval`: what is finished is not run again.
    `out` receives `leaderboard.csv`, `leaderboard.md`, `roc.png` and `results.json`.

    Args:
        rounds: how often each network is timed.
        on_epoch: called with entrant, fold, history row, number of epochs.

    Raises:
        CheckpointError: starting weights that cannot be had; or as `crossval`.
    """
    task = get_task(entrants[0].recipe.task)
    by_arch = {entrant.recipe.arch: entrant for entrant in entrants}
    frames = {}
    for arch, entrant in by_arch.items():
        crossval(
            entrant.recipe,
            records,
            out=out / arch,
            command=command,
            only=folds,
            on_epoch=partial(on_epoch, entrant),
            on_batch=partial(on_batch, entrant),
        )
        tables = [read_oof(out / arch / f"fold-{fold}" / ANSWERS, task) for fold in folds]
        frames[arch] = pd.concat(tables, ignore_index=True)
        on_done(entrant)
    board = rank_models(frames, task)
    times = _times({arch: out / arch / f"fold-{folds[0]}" / NETWORK for arch in by_arch}, rounds)
    base = _USUAL if _USUAL in by_arch else entrants[0].recipe.arch
    rows = [
        {"rank": place, **row, **_about(by_arch[row["arch"]], out, folds, times[row["arch"]], times[base])}
        for place, row in enumerate(board.rows, 1)
    ]
    results = {
        "what": "architectures compared over the same grouped folds, out-of-fold predictions",
        **describe_command(command),
        "data": describe_data(records),
        "folds": list(folds),
        "n": len(board.labels),
        "groups": len(np.unique(board.groups)),
        "classes": {name: int((board.labels == c).sum()) for c, name in enumerate(task.classes)},
        "positive": task.positive,
        "decides": DECIDES,
        "time": {"base": base, "threads": torch.get_num_threads(), "batch": 1, "rounds": rounds},
        "notes": _notes(rows),
        "leaderboard": rows,
        "recipes": {arch: describe_run(by_arch[arch].recipe, [], command)["recipe"] for arch in by_arch},
    }
    roc_of_all(board.probabilities, board.labels, board.groups, task, out / "roc.png")
    write_leaderboard(out / "leaderboard.csv", results)
    with whole(out / "leaderboard.md") as file:
        file.write_text(leaderboard_markdown(results), encoding="utf-8")
    write_json(out / "results.json", results)
    return results


def _about(entrant: Entrant, out: Path, folds: Sequence[int], times: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    """What the leaderboard says of a network beside its answers."""
    runs = [out / entrant.recipe.arch / f"fold-{fold}" for fold in folds]
    files = [runs[0] / NETWORK / "model.safetensors", runs[0] / NETWORK / HEAD_FILE]
    return {
        "starting_weights": entrant.start,
        "input": entrant.recipe.size,
        "epochs": [len(pd.read_csv(run / "history.csv")) for run in runs],  # fewer, where training stopped early
        "parameters": entrant.parameters,
        "macs": entrant.macs,
        "milliseconds": round(1000 * float(np.median(times)), 2),
        "times_base": round(float(np.median(times / base)), 3),
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
    }


def _times(networks: Mapping[str, Path], rounds: int) -> dict[str, np.ndarray]:
    """Seconds of one answer with all its maps, one image at a time, as the engine runs the network."""
    calls = {}
    for arch, folder in networks.items():
        checkpoint = load_checkpoint(folder)
        preprocess = checkpoint.preprocess
        shape = (1, preprocess.size, preprocess.size) + (() if preprocess.grey else (3,))
        planes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        calls[arch] = partial(run_network, fold_norms(checkpoint.network), preprocess, planes)
    return time_in_turn(calls, rounds)


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What a reader must know before comparing."""
    notes = []
    scratch = [row["arch"] for row in rows if row["starting_weights"] == SCRATCH]
    if 0 < len(scratch) < len(rows):
        notes.append(
            f"Trained from scratch: {', '.join(scratch)}. The others start from trained weights, so the table compares "
            "starting weights as much as architectures."
        )
    if len({tuple(row["epochs"]) for row in rows}) > 1:
        each = ", ".join(f"{row['arch']} {'/'.join(map(str, row['epochs']))}" for row in rows)
        notes.append(f"Epochs differ: {each}.")
    if len({row["input"] for row in rows}) > 1:
        notes.append("Inputs differ in size: " + ", ".join(f"{row['arch']} {row['input']}" for row in rows) + ".")
    return notes
