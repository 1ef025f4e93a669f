"""Several architectures by one recipe, over the same grouped folds, on one leaderboard."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from timeit import timeit
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.checkpoints.weights import HEAD_FILE
from bcx.data.records import Record
from bcx.errors import ConfigError, DataError
from bcx.evaluate.figures import roc_of_all
from bcx.evaluate.intervals import compare_answers, delong, report_with_intervals
from bcx.evaluate.oof import label_positions, logits_of, read_oof
from bcx.evaluate.words import interval, markdown_table, units
from bcx.files import whole, write_rows
from bcx.networks.build import fold_norms
from bcx.networks.run import run_network
from bcx.tasks import Task, get_task
from bcx.train.config import Recipe, load_recipe, require_one_training
from bcx.train.crossval import Fold, crossval, plan_folds, run_fold
from bcx.train.heads import recipe_network
from bcx.train.provenance import describe_command, describe_data, describe_run, write_json
from bcx.train.runs import ANSWERS, NETWORK, carry_out
from bcx.trust.calibration import apply_temperature, fit_temperature

#: What an architecture needs otherwise than the recipe has it: `tiny_cnn` as it was published.
OWN: Mapping[str, dict[str, Any]] = {"tiny_cnn": {"size": 50, "drop": 0.3, "dense": None, "lesion": None}}
#: Architectures of which no trained weights were published.
UNTRAINED = ("tiny_cnn",)
SCRATCH = "none: from scratch"
#: The figure that decides who is best, named before anything is measured: it needs no threshold and no temperature.
DECIDES = "macro_auc"
LEVEL = 0.05
_USUAL = "mobilenetv2_100"  # whose time is the measure, where it takes part
_ROUNDS = 15  # how often each network is timed
# Of leaderboard.csv: of all classes, and of the positive one.
_FIGURES = ("macro_auc", "accuracy", "balanced_accuracy", "macro_f1", "mcc", "log_loss", "brier", "ece")
_OF_POSITIVE = ("auc", "sensitivity", "specificity", "pr_auc")


@dataclass(frozen=True)
class Entrant:
    """One architecture that takes part: its recipe, weights, multiply-accumulates per image."""

    recipe: Recipe
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
    """Return who takes part; each network is built without memory, so that a wrong request is a `ConfigError` here.

    Args:
        recipe: the settings that all share; its own `init` counts for its own architecture.
        archs: timm's names, and tiny_cnn, which starts from scratch; at least two.
        inits: starting weights by architecture: a file, "timm" or "scratch"; `others`: of the rest.
        changes: further settings by architecture, such as {"vgg16": {"epochs": 3}}.
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
    entrants = []
    for arch in archs:
        init = recipe.init if arch == recipe.arch else "scratch" if arch in UNTRAINED else others
        settings = recipe.model_dump(exclude={"published"})
        settings |= {"name": f"{recipe.name}-{arch}", "arch": arch, "init": inits.get(arch, init)}
        own = load_recipe(None, settings | OWN.get(arch, {}) | dict(changes.get(arch, {})))
        with torch.device("meta"):
            network, _ = recipe_network(own.model_copy(update={"init": "scratch"}), get_task(own.task))
            macs = count_macs(network, own.size)
        entrants.append(Entrant(own, sum(weights.numel() for weights in network.parameters()), macs))
    return entrants


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
    on_epoch: Callable[[Entrant, int, dict[str, Any], int], Any] = lambda *_: None,
    on_done: Callable[[Entrant], object] = lambda _: None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Run the same folds for each architecture, and return what results.json holds; errors as `crossval`.

    Each has a folder of its own in `out`, written by `bcx.train.crossval.crossval`: what is finished is not run again.
    `out` receives `leaderboard.csv`, `leaderboard.md`, `roc.png` and `results.json`. `on_epoch` is called with entrant,
    fold, history row, number of epochs; `on_done` when a fold is there. `cluster`: address of a Ray cluster, for folds
    side by side (see `bcx.train.runs.carry_out`).
    """
    task, frames = get_task(entrants[0].recipe.task), {}
    plans = [(entrant, plan_folds(entrant.recipe, records, out / entrant.recipe.arch)) for entrant in entrants]
    asked = [(entrant, fold) for entrant, plan in plans for fold in plan if fold.number in folds]
    done, told = (lambda run: run[1].is_finished()), {"on_epoch": on_epoch}
    for entrant, _ in carry_out(asked, _train, told, out=out, most=len(asked), is_done=done, cluster=cluster):
        on_done(entrant)
    for entrant in entrants:
        arch = entrant.recipe.arch
        crossval(entrant.recipe, records, out=out / arch, command=command, only=folds)  # all but its table is there
        tables = [read_oof(out / arch / f"fold-{fold}" / ANSWERS, task) for fold in folds]
        frames[arch] = pd.concat(tables, ignore_index=True).sort_values("file", ignore_index=True)
    ranked, probabilities = rank_models(frames, task)
    times = _times({arch: out / arch / f"fold-{folds[0]}" / NETWORK for arch in frames})
    base = _USUAL if _USUAL in frames else entrants[0].recipe.arch
    facts = {e.recipe.arch: _about(e, out, folds, times[e.recipe.arch], times[base]) for e in entrants}
    rows = [{"rank": place, **row, **facts[row["arch"]]} for place, row in enumerate(ranked, 1)]
    answered = frames[base]
    labels, groups = label_positions(answered, task), answered["group"].to_numpy(str)
    results = {
        "what": "architectures compared over the same grouped folds, out-of-fold predictions",
        **describe_command(command),
        "data": describe_data(records),
        "folds": list(folds),
        "n": len(labels),
        "groups": len(np.unique(groups)),
        "classes": {name: int((labels == c).sum()) for c, name in enumerate(task.classes)},
        "positive": task.positive,
        "decides": DECIDES,
        "time": {"base": base, "threads": torch.get_num_threads(), "batch": 1, "rounds": _ROUNDS},
        "notes": _notes(rows),
        "leaderboard": rows,
        "recipes": {e.recipe.arch: describe_run(e.recipe, [], command)["recipe"] for e in entrants},
    }
    roc_of_all(probabilities, labels, groups, task, out / "roc.png")
    write_leaderboard(out / "leaderboard.csv", results)
    with whole(out / "leaderboard.md") as file:
        file.write_text(leaderboard_markdown(results), encoding="utf-8")
    write_json(out / "results.json", results)
    return results


def _train(run: tuple[Entrant, Fold], on_epoch: Callable[[Entrant, int, dict[str, Any], int], Any]) -> None:
    entrant, fold = run
    run_fold(fold, on_epoch=partial(on_epoch, entrant))


def rank_models(frames: Mapping[str, pd.DataFrame], task: Task) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Order models by `DECIDES` and compare each with the best.

    Each model's probabilities are taken at the temperature that fits its own logits best, so that log-loss, Brier score
    and calibration error compare the networks. The out-of-fold tables are sorted by file; of different scans they are a
    `DataError`.

    Returns:
        Rows, best first, ready for JSON: `arch`, `figures` (see `report_with_intervals`), `temperature`,
        `best_minus_this` (the best model's figures less this one's), `delong` (the same for the area under the ROC
        curve of the positive class against the rest, scans taken as independent), `p_holm` (of the deciding figure,
        adjusted for the number of comparisons) and `significantly_worse`; None for the best, and where a comparison
        cannot be made. Then probabilities, float64 [N, C], by model, best first.
    """
    first_name, first = next(iter(frames.items()))
    for name, frame in frames.items():
        if not frame[["file", "label", "group"]].equals(first[["file", "label", "group"]]):
            raise DataError(
                f"'{name}' and '{first_name}' did not answer the same scans.",
                expected="the same files, labels and groups in every table",
                remedy="Run both over the same folds of the same data.",
            )
    labels, groups = label_positions(first, task), first["group"].to_numpy(str)
    rows: list[dict[str, Any]] = []
    probabilities = {}
    for name, frame in frames.items():
        logits = logits_of(frame, task)
        temperature = fit_temperature(logits, labels)
        probabilities[name] = apply_temperature(logits, temperature)
        figures = report_with_intervals(labels, probabilities[name], groups, task.classes)
        compared = dict.fromkeys(("best_minus_this", "delong", "p_holm", "significantly_worse"))
        rows.append({"arch": name, "figures": figures, "temperature": temperature, **compared})
    rows.sort(key=lambda row: (-round(row["figures"][DECIDES]["value"], 9), row["arch"]))
    best, *others = rows
    column = task.classes.index(task.positive)
    positive = labels == column
    names = (DECIDES, "accuracy", "balanced_accuracy", f"auc_{task.positive}")
    for row in others:
        pair = probabilities[best["arch"]], probabilities[row["arch"]]
        row["best_minus_this"] = compare_answers(labels, *pair, groups, task.classes, names)
        if min(positive.sum(), (~positive).sum()) >= 2:
            row["delong"] = delong(pair[0][:, column], pair[1][:, column], positive)
    p_values = holm([row["best_minus_this"][DECIDES]["p_value"] for row in others])
    for row, p_value in zip(others, p_values, strict=True):
        if not np.isnan(p_value):
            row["p_holm"], row["significantly_worse"] = p_value, p_value < LEVEL
    return rows, {row["arch"]: probabilities[row["arch"]] for row in rows}


def holm(p_values: Sequence[float | None]) -> list[float]:
    """Return p-values adjusted so that all of them together err with at most the stated chance (Holm 1979).

    A comparison without a p-value (None) gets nan, and counts as one all the same.
    """
    ranked = pd.Series(p_values, dtype=float).sort_values()  # nan comes last
    return (ranked * np.arange(len(ranked), 0, -1)).cummax().clip(upper=1).sort_index().tolist()


def _about(entrant: Entrant, out: Path, folds: Sequence[int], times: np.ndarray, base: np.ndarray) -> dict[str, Any]:
    runs = [out / entrant.recipe.arch / f"fold-{fold}" for fold in folds]
    files = [runs[0] / NETWORK / name for name in ("model.safetensors", HEAD_FILE)]
    return {
        "starting_weights": starting_weights(entrant.recipe),
        "input": entrant.recipe.size,
        "epochs": [len(pd.read_csv(run / "history.csv")) for run in runs],  # fewer, where training stopped early
        "parameters": entrant.parameters,
        "macs": entrant.macs,
        "milliseconds": round(1000 * float(np.median(times)), 2),
        "times_base": round(float(np.median(times / base)), 3),
        "bytes": sum(file.stat().st_size for file in files if file.is_file()),
    }


def _times(networks: Mapping[str, Path]) -> dict[str, np.ndarray]:
    """Seconds of one answer with all its maps, one image at a time, as the engine runs the network."""
    calls = {}
    for arch, folder in networks.items():
        checkpoint = load_checkpoint(folder)
        preprocess = checkpoint.preprocess
        shape = (1, preprocess.size, preprocess.size) + (() if preprocess.grey else (3,))
        planes = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        calls[arch] = partial(run_network, fold_norms(checkpoint.network), preprocess, planes)
    return time_in_turn(calls, _ROUNDS)


@torch.no_grad()
def count_macs(network: nn.Module, size: int) -> int:
    """Return the multiply-accumulates of convolutions and matrix products for one image of `size` x `size` pixels.

    torch counts a multiplication and an addition as two operations; published tables mostly mean one of both, as here.
    Additions of biases, norms, activations and pooling are not counted, nor are they in most tables.
    """
    was_training = network.training
    image = next(network.parameters()).new_zeros(1, 3, size, size)
    with FlopCounterMode(display=False) as counter:
        network.eval()(image)
    network.train(was_training)
    return counter.get_total_flops() // 2  # torch counts a multiplication and an addition as two


def time_in_turn(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Return the seconds of several calls, name -> float64 [rounds], one after another, round by round.

    Whatever else the machine does meets all of them alike, so ratios within a round are worth more than the times.
    Each is called twice before the first round.
    """
    for call in calls.values():
        timeit(call, number=2)
    taken = np.array([[timeit(call, number=1) for call in calls.values()] for _ in range(rounds)])
    return dict(zip(calls, taken.T, strict=True))


def _notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    notes, scratch = [], [row["arch"] for row in rows if row["starting_weights"] == SCRATCH]
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


def write_leaderboard(file: Path, results: Mapping[str, Any]) -> None:
    """Write a row per architecture from the results of `bcx.studies.compare.compare`, intervals as _low and _high."""
    figures = [*_FIGURES, *(f"{figure}_{results['positive']}" for figure in _OF_POSITIVE)]
    rows = []
    for row in results["leaderboard"]:
        difference = (row["best_minus_this"] or {}).get(results["decides"]) or {}
        flat = {key: row[key] for key in ("rank", "arch", "starting_weights", "input")}
        flat["epochs"] = "/".join(map(str, row["epochs"]))
        flat |= {"folds": "/".join(map(str, results["folds"])), "n": results["n"], "groups": results["groups"]}
        for name in figures:
            figure = row["figures"][name]
            flat |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        flat |= {f"best_minus_this_{key}": difference.get(key) for key in ("value", "low", "high", "p_value")}
        flat |= {"p_holm": row["p_holm"], "significantly_worse": row["significantly_worse"]}
        flat["delong_p"] = (row["delong"] or {}).get("p_value")
        flat |= {key: row[key] for key in ("parameters", "macs", "milliseconds", "times_base", "bytes")}
        rows.append(flat)
    write_rows(file, rows[0], rows)


def leaderboard_markdown(results: Mapping[str, Any]) -> str:
    """Return the table with what must be known to read it, in Markdown; from `bcx.studies.compare.compare`."""
    positive, base = results["positive"], results["time"]["base"]
    heads = (
        *("network", "starting weights", "input", "epochs", "ROC-AUC, macro", "accuracy", f"sensitivity, {positive}"),
        *("worse than the best?", "parameters", "MACs", f"ms per scan (x {base})", "MB"),
    )
    rows = [
        [
            row["arch"],
            row["starting_weights"],
            f"{row['input']} px",
            "/".join(map(str, row["epochs"])),
            *(interval(row["figures"][name]) for name in ("macro_auc", "accuracy", f"sensitivity_{positive}")),
            _verdict(row, results["decides"]),
            f"{row['parameters'] / 1e6:.1f} M",
            f"{row['macs'] / 1e9:.2f} G",
            f"{row['milliseconds']:.0f} ({row['times_base']:.2f})",
            f"{row['bytes'] / 1e6:.1f}",
        ]
        for row in results["leaderboard"]
    ]
    folds, threads = results["folds"], results["time"]["threads"]
    notes = [
        f"{results['n']} scans in {results['groups']} groups, fold{'s' if len(folds) != 1 else ''} "
        f"{', '.join(map(str, folds))}, each answered by a network that never saw its "
        "group. In brackets: 95 % intervals over groups. Worse than the best: difference in macro ROC-AUC, paired "
        "bootstrap over groups, p adjusted for the number of comparisons (Holm). Milliseconds: median, one scan at a "
        f"time with all maps, {threads} thread{'s' if threads != 1 else ''}; in brackets the median ratio within a "
        "round.",
        *results["notes"],
    ]
    return "\n".join([*markdown_table(heads, rows), "", *notes]) + "\n"


def _verdict(row: Mapping[str, Any], decides: str) -> str:
    if row["best_minus_this"] is None:
        return "the best"
    if row["significantly_worse"] is None:
        return "cannot be said"
    by = units(row["best_minus_this"][decides]["value"])
    return f"{'yes' if row['significantly_worse'] else 'not shown'}, by {by} (p {row['p_holm']:.3f})"
