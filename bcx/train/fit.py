"""Fit one network on given records; resumable after a kill to bitwise the same weights.

result = fit(recipe, training_records, inner_records, out=Path("runs/first"), on_epoch=print)
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, TrainingError
from bcx.evaluate.metrics import epoch_metrics
from bcx.model import ForwardOut, build_network, forward_maps
from bcx.preprocess import Preprocess
from bcx.tasks import Task, get_task
from bcx.train.config import Recipe
from bcx.train.dataset import ScanDataset, collate, epoch_order, read_planes
from bcx.train.state import group_numbers, load_state, optimizer_tensors, restore_optimizer, save_state

STATE_FILE = "state.safetensors"


@dataclass(frozen=True)
class Fitted:
    """What training yields.

    Attributes:
        network: in evaluation mode, float32, on the CPU: the last epoch's weights, or the best epoch's where the recipe
            stops early.
        preprocess: what its input must go through.
        history: one dict per epoch, flat: epoch, lr, seconds, train_*, inner_* (None without an inner part).
    """

    network: nn.Module
    preprocess: Preprocess
    history: list[dict[str, Any]]


class _Step(nn.Module):
    """The network as Accelerate wraps it: one forward call that yields logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.network(batch)


def make_preprocess(recipe: Recipe, network: nn.Module, task: Task) -> Preprocess:
    """Return the input that suits the starting weights: a file's TF-slim range, else what timm records."""
    cfg = network.pretrained_cfg
    slim = recipe.init not in ("timm", "scratch")
    mean = recipe.mean or ((0.5, 0.5, 0.5) if slim else tuple(cfg["mean"]))
    std = recipe.std or ((0.5, 0.5, 0.5) if slim else tuple(cfg["std"]))
    return Preprocess(size=recipe.size, mean=mean, std=std, grey=task.grey)


def class_weights(labels: Sequence[int], classes: int, cap: float) -> torch.Tensor:
    """Return float32 `[C]`: n / (C n_c), at most `cap`; 1 for a class without scans (it never enters the loss)."""
    counts = np.bincount(labels, minlength=classes)
    weights = [min(cap, len(labels) / (classes * count)) if count else 1.0 for count in counts]
    return torch.tensor(weights, dtype=torch.float32)


def freeze_first_stages(network: nn.Module, stages: int) -> list[nn.Module]:
    """Stop gradients of the first `stages` stages (the stem is the first); return their modules.

    Raises:
        ConfigError: the network has no more stages than that.
    """
    if stages == 0:
        return []
    groups = timm.models.group_modules(network, network.group_matcher(coarse=True))
    last = max(groups)
    if stages > last:
        raise ConfigError(
            f"freeze_stages is {stages}, but this network has {last} stages before its head.",
            expected=f"0 to {last}",
            remedy="Freeze fewer stages.",
        )
    names = {name for number in range(stages) for name in groups[number]}
    frozen = [module for name, module in network.named_modules() if name in names]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def run_fingerprint(recipe: Recipe, train: Sequence[Record], inner: Sequence[Record]) -> str:
    """Return a hash of what determines the result, so that a snapshot of another run is never continued."""
    settings = recipe.model_dump(exclude={"data", "init", "workers"})
    content = [settings, Path(recipe.init).name, [r.key for r in train], [r.key for r in inner]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@torch.no_grad()
def run_planes(
    network: nn.Module, preprocess: Preprocess, planes: Sequence[np.ndarray], *, mirror: bool = False
) -> ForwardOut:
    """Run squashed pictures through a network in evaluation mode, float32, in batches of 32.

    Args:
        network: from `build_network`.
        preprocess: its input.
        planes: from `Preprocess.plane`.
        mirror: flip every picture left to right first.

    Returns:
        Logits, maps and stage means of all pictures, on the CPU; maps are of the flipped picture where mirrored.
    """
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    outs = []
    for start in range(0, len(planes), 32):
        stack = np.stack([plane[:, ::-1] if mirror else plane for plane in planes[start : start + 32]])
        outs.append(forward_maps(network, preprocess.normalise(torch.from_numpy(stack).to(device))))
    network.train(was_training)
    return ForwardOut(*(torch.cat(parts).float().cpu() for parts in zip(*outs, strict=True)))


def fit(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: Callable[[dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> Fitted:
    """Train by a recipe.

    Optimiser: AdamW (Loshchilov and Hutter 2019) under a one-cycle schedule: linear-cosine warm-up, then cosine
    to nearly zero (Smith and Topin 2019; torch's OneCycleLR). Loss: cross-entropy with class weights and label
    smoothing. Devices and precision: Accelerate.

    Args:
        recipe: every setting.
        train: records to train on.
        inner: records to watch (and to stop early by); no group may stand in both.
        out: folder of the snapshot, from which a killed run goes on; it also receives history.csv.
        on_epoch: called with the epoch's history row and the number of epochs.
        on_batch: called after every step, for progress bars.

    Returns:
        The fitted network, its preprocessing and its history.

    Raises:
        SplitError: a group in both parts.
        TrainingError: the snapshot belongs to another run, or the loss is no longer finite.
        ConfigError, CheckpointError: settings or starting weights that do not fit.
    """
    check_split(train, inner)
    task = get_task(recipe.task)
    accelerator = Accelerator(mixed_precision="bf16" if recipe.precision == "bf16" else "no")
    set_seed(recipe.seed)
    network = build_network(recipe.arch, len(task.classes), drop=recipe.drop, init=recipe.init)
    preprocess = make_preprocess(recipe, network, task)
    frozen = freeze_first_stages(network, recipe.freeze_stages)
    network = network.to(memory_format=torch.channels_last)
    dataset = ScanDataset(train, task, preprocess, augment=recipe.augment, seed=recipe.seed)
    inner_planes = read_planes(inner, preprocess)
    inner_labels = np.array([task.classes.index(record.label) for record in inner], dtype=int)
    steps = len(epoch_order(len(dataset), recipe.batch_size, recipe.seed, 0))

    head = network.get_classifier()
    heads = {id(parameter) for parameter in head.parameters()}
    rest = [p for p in network.parameters() if id(p) not in heads and p.requires_grad]
    groups = [{"params": rest, "lr": recipe.lr}, {"params": list(head.parameters()), "lr": recipe.head_lr}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=steps * recipe.epochs,
        pct_start=recipe.warmup,
    )
    weights = class_weights(dataset.labels, len(task.classes), recipe.class_weight_cap).to(accelerator.device)
    model, optimizer = accelerator.prepare(_Step(network), optimizer)

    fingerprint = run_fingerprint(recipe, train, inner)
    history: list[dict[str, Any]] = []
    best: dict[str, torch.Tensor] = {}
    out.mkdir(parents=True, exist_ok=True)
    state_file = out / STATE_FILE
    if state_file.is_file():
        parts, numbers = load_state(state_file)
        if numbers["fingerprint"] != fingerprint:
            raise TrainingError(
                f"The folder '{out.name}' holds the snapshot of a run with another recipe or other data.",
                expected="the same recipe and data, to go on with that run",
                remedy=f"Choose another folder, or delete '{STATE_FILE}' there to start afresh.",
            )
        network.load_state_dict(parts["network"])
        best = parts.get("best", {})
        restore_optimizer(optimizer, parts["optimizer"], numbers["groups"])
        history = numbers["history"]
        schedule.last_epoch = schedule._step_count = len(history) * steps

    while len(history) < recipe.epochs and not _should_stop(history, recipe.patience):
        epoch = len(history)
        started = time.perf_counter()
        # One seed per epoch makes dropout's draws independent of where the run was interrupted.
        set_seed(recipe.seed * 100_003 + epoch + 1)
        dataset.epoch = epoch
        loader = DataLoader(
            dataset,
            batch_sampler=epoch_order(len(dataset), recipe.batch_size, recipe.seed, epoch),
            num_workers=recipe.workers,
            collate_fn=collate,
        )
        model.train()
        for module in frozen:
            module.eval()  # frozen stages keep their batch-norm statistics too
        losses, answers, truths = [], [], []
        for pictures, labels in accelerator.prepare(loader):
            batch = preprocess.normalise(pictures)
            logits = model(batch)  # Accelerate runs it under autocast
            loss = nn.functional.cross_entropy(
                logits.float(), labels, weight=weights, label_smoothing=recipe.label_smoothing
            )
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            losses.append(float(accelerator.reduce(loss.detach(), "mean")))
            gathered = accelerator.gather_for_metrics((logits.detach().float().softmax(1), labels))
            answers.append(gathered[0].cpu().numpy())
            truths.append(gathered[1].cpu().numpy())
            if on_batch:
                on_batch()
        mean_loss = float(np.mean(losses))
        if not np.isfinite(mean_loss):
            raise TrainingError(
                f"The loss of epoch {epoch + 1} is {mean_loss}.",
                expected="a finite loss",
                remedy="Lower lr and head_lr, or train with precision: fp32.",
            )
        row: dict[str, Any] = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
        row |= _prefixed("train", epoch_metrics(np.concatenate(truths), np.concatenate(answers), mean_loss))
        if inner_planes:
            row |= _prefixed("inner", _watch(network, preprocess, inner_planes, inner_labels, weights, recipe))
        row["seconds"] = round(time.perf_counter() - started, 2)
        history.append(row)
        if recipe.patience is not None and _best_epoch(history) == len(history) - 1:
            best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        if accelerator.is_main_process:
            parts = {"network": network.state_dict(), "optimizer": optimizer_tensors(optimizer), "best": best}
            numbers = {"fingerprint": fingerprint, "groups": group_numbers(optimizer), "history": history}
            save_state(state_file, parts, numbers)
            write_history(out / "history.csv", history)
        accelerator.wait_for_everyone()
        if on_epoch:
            on_epoch(row, recipe.epochs)

    if best:
        network.load_state_dict(best)
    return Fitted(network.cpu().eval().requires_grad_(False), preprocess, history)


def _watch(
    network: nn.Module,
    preprocess: Preprocess,
    planes: list[np.ndarray],
    labels: np.ndarray,
    weights: torch.Tensor,
    recipe: Recipe,
) -> dict[str, Any]:
    logits = run_planes(network, preprocess, planes).logits
    loss = nn.functional.cross_entropy(
        logits, torch.from_numpy(labels), weight=weights.cpu(), label_smoothing=recipe.label_smoothing
    )
    return epoch_metrics(labels, logits.softmax(1).numpy(), float(loss))


def _prefixed(prefix: str, figures: dict[str, Any]) -> dict[str, Any]:
    return {f"{prefix}_{name}": value for name, value in figures.items()}


def _best_epoch(history: list[dict[str, Any]]) -> int:
    """Return the position of the epoch with the highest inner ROC-AUC, the earliest of equals."""
    scores = [row["inner_roc_auc"] if row["inner_roc_auc"] is not None else -1.0 for row in history]
    return int(np.argmax(scores))


def _should_stop(history: list[dict[str, Any]], patience: int | None) -> bool:
    return patience is not None and bool(history) and len(history) - 1 - _best_epoch(history) >= patience


def write_history(file: Path, history: list[dict[str, Any]]) -> None:
    """Write one CSV row per epoch, at once or not at all."""
    scratch = file.with_suffix(".csv.writing")
    with scratch.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(history[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)
    os.replace(scratch, file)
