"""Train what a recipe describes; resumable after a kill to bitwise the same weights.

`fit` trains one network; `fit_network` also several whose weights are averaged, or the members of an ensemble.
"""

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, gather_object, send_to_device, set_seed
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import DataLoader

from bcx.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, TrainingError
from bcx.evaluate.metrics import epoch_metrics
from bcx.files import write_rows
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.networks.device import computes_bf16
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork
from bcx.tasks import get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.config import Recipe
from bcx.train.heads import Side, source_turns, training_side
from bcx.train.processes import (
    average_norms,
    depthwise_in_float32,
    folded_norms,
    keep_memory,
    own_share,
    processes,
)
from bcx.train.provenance import hash_of, read_json
from bcx.train.runs import NETWORK, NOTE, OnEpoch, Tick, is_finished, noted
from bcx.train.state import STATE_FILE, load_state, save_state
from bcx.trust.calibration import apply_temperature

_GENTLER = "Lower lr and head_lr, or train with precision: fp32."


@dataclass(frozen=True)
class Fitted:
    """A network in evaluation mode, float32, on the CPU (the best epoch's where the recipe stops early); its input.

    `history` has one dict per epoch, flat: epoch, lr, seconds, train_*, inner_* (with an inner part).
    """

    network: nn.Module  # the best epoch's where the recipe stops early
    preprocess: Preprocess
    history: list[dict[str, Any]]  # epoch, lr, seconds, train_*, inner_* (with an inner part)


def freeze_parts(backbone: nn.Module, recipe: Recipe) -> list[nn.Module]:
    """Stop gradients of what the recipe does not train; return those modules, to be kept in evaluation mode.

    The backbone itself is not among them: with the linear head, its own mode decides on the dropout before the head.
    """
    frozen: list[nn.Module] = []
    if recipe.freeze_stages:  # the stem is the first
        groups = timm.models.group_modules(backbone, backbone.group_matcher(coarse=True))
        if recipe.freeze_stages > (last := max(groups)):
            raise ConfigError(
                f"freeze_stages is {recipe.freeze_stages}, but this network has {last} stages before its head.",
                expected=f"0 to {last}",
                remedy="Freeze fewer stages.",
            )
        names = {name for number in range(recipe.freeze_stages) for name in groups[number]}
        frozen = [module.requires_grad_(False) for name, module in backbone.named_modules() if name in names]
    if recipe.freeze_base:
        for parameter in _base(backbone):
            parameter.requires_grad_(False)
        head = {backbone, *backbone.get_classifier().modules()}
        frozen += [module for module in backbone.modules() if module not in head]
    return frozen


def _base(backbone: nn.Module) -> set[nn.Parameter]:
    """What learns at the lower rate: the backbone without a classifier of its own."""
    return set(backbone.parameters()) - set(backbone.get_classifier().parameters())


def _optimizer(
    recipe: Recipe, side: Side, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    base, learning = _base(side.backbone), [p for p in side.network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p in base], "lr": recipe.lr},
        {"params": [p for p in learning if p not in base], "lr": recipe.head_lr},
    ]
    # In one pass over memory: a dense head of 33 million weights is as much work for the optimiser as for the rest.
    adam = partial(torch.optim.Adam, fused=True) if recipe.optimizer == "adam" else torch.optim.AdamW
    optimizer = adam([group for group in groups if group["params"]], weight_decay=recipe.weight_decay)
    if recipe.schedule == "constant":
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    peaks = [group["lr"] for group in optimizer.param_groups]
    rise = recipe.warmup if recipe.warmup * steps != 1 else 1.5 / steps  # else torch divides by zero
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total_steps=steps, pct_start=rise)


def run_fingerprint(recipe: Recipe, train: Sequence[Record], inner: Sequence[Record]) -> str:
    """Return a hash of what determines the result, so that a snapshot of another run is never continued."""
    return hash_of([recipe.identity(), Path(recipe.init).name, [r.key for r in train], [r.key for r in inner]])


def fit(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: OnEpoch = lambda *_: None,
    on_batch: Tick = lambda: None,
) -> Fitted:
    """Train one network by a recipe.

    Optimiser: AdamW (Loshchilov and Hutter 2019) under torch's OneCycleLR (Smith and Topin 2019); or Adam, or one
    learning rate throughout, as published systems have it. Loss: see `bcx.train.heads`. Started by `accelerate launch`
    in several processes, each learns its share of every batch, so that the steps, and the schedule, are those of one
    process; batch norms see the images of their own process, and their statistics are averaged after every epoch.

    Args:
        inner: records to watch (and to stop early by); no group may stand in both.
        out: folder of the snapshot, from which a killed run goes on; it also receives history.csv.
        on_epoch: called with the epoch's history row and the number of epochs, in every process.
        on_batch: called after every step; at once for those that a snapshot has behind it.

    Raises:
        SplitError, TrainingError: a group in both parts; a snapshot of another run, a loss that is not finite.
        ConfigError, CheckpointError: settings or starting weights that do not fit.
    """
    check_split(train, inner)
    task = get_task(recipe.task)
    AcceleratorState._reset_state()  # else a process keeps to the precision of its first run
    state = processes()
    mixed = recipe.precision == "bf16" and computes_bf16(state.device.type)
    accelerator = Accelerator(
        cpu=state.device.type == "cpu",
        mixed_precision="bf16" if mixed else "no",
        # Copying the first process's batch norms to the others at every step would change what the step before needs.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    keep_memory()
    set_seed(recipe.seed)
    side = training_side(recipe, train, task)
    frozen = freeze_parts(side.backbone, recipe)
    network = side.network.to(memory_format=torch.channels_last)
    quicker = depthwise_in_float32 if mixed and accelerator.device.type == "cpu" else nullcontext
    inner_labels = np.array([task.classes.index(record.label) for record in inner], dtype=int)
    steps = len(side.batches(0))
    optimizer, schedule = _optimizer(recipe, side, steps * recipe.epochs)
    model, optimizer = accelerator.prepare(nn.Sequential(network), optimizer)  # a layer around what answers without it

    fingerprint = run_fingerprint(recipe, train, inner)
    history: list[dict[str, Any]] = []
    best: dict[str, torch.Tensor] = {}
    out.mkdir(parents=True, exist_ok=True)
    if (out / STATE_FILE).is_file():
        parts, history = load_state(out / STATE_FILE, {"optimizer": optimizer}, fingerprint=fingerprint)
        network.load_state_dict(parts["network"])
        best = parts.get("best", {})
        schedule.last_epoch = schedule._step_count = len(history) * steps
        for _ in range(schedule.last_epoch):
            on_batch()
    while_training = ExitStack()
    while_training.enter_context(folded_norms(network, frozen, side.preprocess.size))  # of the weights just loaded

    while len(history) < recipe.epochs:
        if recipe.patience is not None and history and _waited(history, recipe.watch) >= recipe.patience:
            break
        epoch, started = len(history), time.perf_counter()
        # One seed per epoch makes dropout's draws independent of where the run was interrupted.
        set_seed(recipe.seed * 100_003 + epoch + 1)
        batches = side.batches(epoch)
        shares = [own_share(batch, state) for batch in batches]
        loader = DataLoader(side.dataset, batch_sampler=shares, num_workers=recipe.workers)
        model.train()
        for module in frozen:
            module.eval()  # what is frozen keeps its batch-norm statistics too
        learnt: list[tuple[float, np.ndarray, np.ndarray]] = []
        for batch, share, whole in zip(loader, shares, batches, strict=True):
            with quicker(network):
                # Under Accelerate's autocast.
                loss, probabilities = side.learn(model, send_to_device(batch, accelerator.device))
            accelerator.backward(loss)
            if recipe.clip is not None:
                accelerator.clip_grad_norm_(model.parameters(), recipe.clip)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            new = len(share) if state.is_main_process or len(share) < len(whole) else 0  # counted once, learnt by all
            learnt.append((float(loss.detach()), probabilities[:new].cpu().numpy(), batch.label[:new].numpy()))
            on_batch()
        losses, answers, truths = zip(*gather_object(learnt), strict=True)
        average_norms(network, accelerator)
        mean_loss = float(np.mean(losses))
        if not np.isfinite(mean_loss):
            found = f"The loss of epoch {epoch + 1} is {mean_loss}."
            raise TrainingError(found, expected="a finite loss", remedy=_GENTLER)
        row: dict[str, Any] = {"epoch": epoch + 1, "lr": optimizer.param_groups[0]["lr"]}
        figures = epoch_metrics(np.concatenate(truths), np.concatenate(answers), mean_loss)
        row |= {f"train_{name}": value for name, value in figures.items()}
        if inner:
            with accelerator.split_between_processes(list(inner)) as own:
                answered = stacked_logits(answer_records(network, side.preprocess, own), len(task.classes))
            logits = np.concatenate(gather_object([answered]))
            if not np.isfinite(logits).all():  # the last step alone may break what the loss before it does not show
                found = f"After epoch {epoch + 1} some answers are no numbers."
                raise TrainingError(found, expected="finite logits", remedy=_GENTLER)
            # The plain cross-entropy, whatever the head is trained by.
            plain = nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(inner_labels))
            figures = epoch_metrics(inner_labels, apply_temperature(logits), float(plain))
            row |= {f"inner_{name}": value for name, value in figures.items()}
        row["seconds"] = round(time.perf_counter() - started, 2)
        history.append(row)
        if recipe.patience is not None and _waited(history, recipe.watch) == 0:
            best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        if accelerator.is_main_process:
            parts, optimizers = {"network": network.state_dict(), "best": best}, {"optimizer": optimizer}
            save_state(out / STATE_FILE, parts, optimizers, fingerprint=fingerprint, history=history)
            write_history(out / "history.csv", history)
        accelerator.wait_for_everyone()
        on_epoch(row, recipe.epochs)

    while_training.close()
    if best:
        network.load_state_dict(best)
    network = network.cpu().eval().requires_grad_(False)
    if recipe.lesion is not None and not recipe.lesion.context:
        without_lesion = [record for record in train if record.label == task.absent]
        network.fix_context(mean_context(network, side.preprocess, without_lesion or train))
    return Fitted(network, side.preprocess, history)


@torch.inference_mode()
def mean_context(network: LesionNetwork, preprocess: Preprocess, records: Sequence[Record]) -> float:
    """Return the mean context of whole scans, by a network in evaluation mode.

    The context can take up what tells hospitals with normal scans from those without. Replaced by a mean, that is left
    out of answers (Clark et al. 2019, https://arxiv.org/abs/1909.03683); over scans without a lesion the mean was
    highest, which leaves a doubtful scan on the side of a lesion.
    """
    planes = (torch.from_numpy(preprocess.plane(Scan.open(record.file).pixels)) for record in records)
    contexts = [network.read(preprocess.normalise(plane[None])).context.mean() for plane in planes]
    return float(torch.stack(contexts).mean())


def _waited(history: list[dict[str, Any]], watch: str) -> int:
    """Return how many epochs ago the inner ROC-AUC was highest, or the inner loss lowest; the earliest of equals."""
    figures, sign = [row[f"inner_{watch}"] for row in history], -1 if watch == "loss" else 1
    return len(history) - 1 - int(np.argmax([-1.0 if figure is None else sign * figure for figure in figures]))


def write_history(file: Path, history: list[dict[str, Any]]) -> None:
    """Write one CSV row per epoch; members may be of different kinds, and only some have trainings."""
    write_rows(file, dict.fromkeys(name for row in history for name in row), history)


def fit_network(
    recipe: Recipe,
    train: Sequence[Record],
    inner: Sequence[Record] = (),
    *,
    out: Path,
    on_epoch: OnEpoch = lambda *_: None,
    on_batch: Tick = lambda: None,
) -> Fitted:
    """Train by a recipe, as `fit`; members, and trainings to be averaged, each in a folder of its own.

    A part that is finished (`member-K/run.json` belongs to its recipe and these scans) is not trained again; its
    weights are its checkpoint's, rounded. The history's rows have `member` or `training`.
    """
    parts, kind = recipe.member_recipes() or recipe.averaged_recipes(), "member" if recipe.members else "training"
    if not parts:
        return fit(recipe, train, inner, out=out, on_epoch=on_epoch, on_batch=on_batch)
    task = get_task(recipe.task)
    epochs = sum(training.epochs for training in recipe.trainings())
    networks, history = [], []
    for number, part in enumerate(parts):
        folder = out / f"{kind}-{number}"
        fingerprint = run_fingerprint(part, train, inner)
        if not is_finished(folder, fingerprint, f"{NETWORK}/config.json"):

            def report(row: dict[str, Any], _: int, number: int = number) -> None:
                on_epoch({kind: number, **row}, epochs)

            with noted(folder, fingerprint, n_train=len(train), n_inner=len(inner)) as note:
                fitted = fit_network(part, train, inner, out=folder, on_epoch=report, on_batch=on_batch)
                if processes().is_main_process:
                    save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
                note["history"] = fitted.history
        else:
            for _ in range(training_steps(part, [*train, *inner])):  # taken earlier
                on_batch()
        kept = load_checkpoint(folder / NETWORK)
        networks.append(kept.network)
        history += [{kind: number, **row} for row in read_json(folder / NOTE).get("history", [])]
    whole = LesionEnsemble(networks) if recipe.members else average(parts[0], networks, train, on_batch=on_batch)
    return Fitted(whole, kept.preprocess, history)


def average(
    recipe: Recipe, networks: Sequence[nn.Module], train: Sequence[Record], *, on_batch: Tick = lambda: None
) -> nn.Module:
    """Return the mean of networks: in evaluation mode, float32, on the CPU.

    Where trainings share start and order and differ in how images are varied, that answers about as well as the mean of
    their answers (Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482). What the batch norms expect is
    estimated anew (Izmailov et al. 2018, https://arxiv.org/abs/1803.05407), on the images of `recipe`, one of theirs.
    """
    side, states = training_side(recipe, train, get_task(recipe.task)), [network.state_dict() for network in networks]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0) if value.is_floating_point() else value
        for name, value in states[0].items()  # whole numbers, such as a norm's count of batches, are the first's
    }
    side.network.load_state_dict(mean)
    estimate_norms(side, freeze_parts(side.backbone, recipe), on_batch=on_batch)
    return side.network.eval().requires_grad_(False)


@torch.no_grad()
def estimate_norms(side: Side, frozen: Sequence[nn.Module], *, on_batch: Tick = lambda: None) -> None:
    """Set the batch norms' statistics to their mean over an epoch of training images; frozen ones keep theirs."""
    kept = {module for part in frozen for module in part.modules()}
    norms = [module for module in side.network.modules() if isinstance(module, _BatchNorm) and module not in kept]
    side.network.eval()  # no dropout
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for a plain mean over batches
        norm.train()
    for batch in DataLoader(side.dataset, batch_sampler=side.batches(0)):
        side.learn(side.network, batch)
        on_batch()
    side.network.eval()


def training_steps(recipe: Recipe, train: Sequence[Record]) -> int:
    """Return how many steps a recipe takes, with an epoch for the batch norms of each mean of several.

    Nearly, where some groups are kept aside to watch; `train` has those too.
    """
    means = [part.averaged_recipes()[0] for part in recipe.member_recipes() or [recipe] if part.averaged]
    steps = sum(part.epochs * _steps_of_an_epoch(part, train) for part in recipe.trainings())
    return steps + sum(_steps_of_an_epoch(part, train) for part in means)


def _steps_of_an_epoch(recipe: Recipe, train: Sequence[Record]) -> int:
    shown = len(train)
    if (recipe.lesion or recipe).balance:
        sources = np.unique([record.source for record in train], return_inverse=True)[1]
        shown = source_turns(sources)[sources].sum()
    elif recipe.oversample:
        of_class = Counter(record.label for record in train)
        shown = len(of_class) * max(of_class.values())
    return -(-round(shown * (1 - recipe.inner_fraction)) // recipe.batch_size)
