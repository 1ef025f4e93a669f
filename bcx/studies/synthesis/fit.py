"""Train one generator per class; resumable after a kill to bitwise the same weights."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits as _entropy
from torch.nn.functional import relu

from bcx.data.records import Record
from bcx.errors import DataError, TrainingError
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.networks.device import pick_device
from bcx.studies.synthesis.diffaugment import augment
from bcx.studies.synthesis.figures import write_losses, write_over_epochs
from bcx.studies.synthesis.networks import build_networks
from bcx.studies.synthesis.recipes import SynthRecipe
from bcx.studies.synthesis.sample import Generator, load_generator, save_generator, to_images, to_planes, write_png
from bcx.train.dataset import epoch_order, mix_seed
from bcx.train.fit import STATE_FILE, write_history
from bcx.train.provenance import current_commit, write_json
from bcx.train.runs import NOTE, is_finished
from bcx.train.state import group_numbers, load_state, optimizer_tensors, restore_optimizer, save_state

WEIGHTS = "generator.safetensors"
#: Images from the same noise, shown over the epochs, and at how many epochs.
FIXED, GRIDS = 8, 8
# What a seed is for: the noise of the grids, an epoch's draws.
_FIXED_NOISE, _EPOCH = 1, 2
# Snapshots are at least so many seconds apart: epochs over a hundred small images take less than writing one.
_SNAPSHOT_SECONDS = 20.0


def class_records(records: Sequence[Record], label: str) -> list[Record]:
    """Return the records of a class.

    Raises:
        DataError: fewer than two, which batch normalisation cannot train on.
    """
    chosen = [record for record in records if record.label == label]
    if len(chosen) < 2:
        raise DataError(
            f"There are {len(chosen)} scans of the class '{label}' to learn from.",
            expected="at least 2, and a hundred or more to be of use",
            remedy="Check the data's folders, the fold and the class.",
        )
    return chosen


def read_planes(records: Sequence[Record], size: int) -> np.ndarray:
    """Read scans, squashed and grey, as generators see them: uint8 `[N, S, S]`."""
    step = Preprocess(size=size)
    planes = [step.plane(Scan.open(record.file).pixels) for record in records]
    return np.stack(planes) if planes else np.zeros((0, size, size), np.uint8)


def gan_fingerprint(recipe: SynthRecipe, records: Sequence[Record]) -> str:
    """Return a hash of what determines the weights; `recipe` is that of one class, `records` its training scans."""
    content = [recipe.identity(), [record.key for record in records]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def is_trained(recipe: SynthRecipe, label: str, records: Sequence[Record], out: Path) -> bool:
    """Tell whether `out` holds the finished generator of this recipe, class and data."""
    return is_finished(out, gan_fingerprint(recipe.for_class(label), class_records(records, label)), WEIGHTS)


def train_generator(
    recipe: SynthRecipe,
    label: str,
    records: Sequence[Record],
    *,
    out: Path,
    fold: int | None,
    on_epoch: Callable[[dict[str, Any], int], object] = lambda *_: None,
) -> Generator:
    """Train the generator of one class, or return the finished one; a killed run goes on.

    Args:
        records: what may be learnt from; those of other classes are left out.
        out: receives `generator.safetensors`, `history.csv`, `losses.png`, `epochs.png` (the same noise over the
            epochs) and `run.json`.
        fold: that `records` leave out, for the record; None where they are all.

    Raises:
        DataError: too few scans of this class.
        TrainingError: the folder holds the snapshot of another run, or a loss is no longer finite.
    """
    chosen, own = class_records(records, label), recipe.for_class(label)
    mark, started, commit = gan_fingerprint(own, chosen), time.perf_counter(), current_commit()
    if is_finished(out, mark, WEIGHTS):
        return load_generator(out / WEIGHTS)
    out.mkdir(parents=True, exist_ok=True)
    network, history = _fit(own, read_planes(chosen, own.size), out, mark, label, on_epoch)
    about = {"fold": fold, "n_train": len(chosen), "epochs": own.epochs, "fingerprint": mark}
    generator = Generator(network, own, label, about)
    save_generator(out / WEIGHTS, generator)
    write_losses(history, out / "losses.png", f"{label}, {own.size} px, {len(chosen)} scans")
    grids = [(int(file.stem.split("-")[1]), file) for file in sorted((out / "grids").glob("epoch-*.png"))]
    write_over_epochs(grids, out / "epochs.png", own.size)
    seconds = round(sum(row["seconds"] for row in history), 1)
    here = round(time.perf_counter() - started, 1)
    write_json(out / NOTE, {**about, "label": label, "commit": commit, "seconds": seconds, "seconds_last_call": here})
    (out / STATE_FILE).unlink()
    return generator


def _fit(
    recipe: SynthRecipe,
    planes: np.ndarray,
    out: Path,
    mark: str,
    label: str,
    on_epoch: Callable[[dict[str, Any], int], object],
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Return the kept generator and a row per epoch."""
    pair = _Pair(recipe)
    history: list[dict[str, Any]] = []
    if (out / STATE_FILE).is_file():
        history = pair.restore(out / STATE_FILE, mark, out.name)
    fixed = torch.randn(
        FIXED, recipe.noise, generator=torch.Generator().manual_seed(mix_seed(recipe.seed, _FIXED_NOISE))
    )
    images, shown, saved = to_images(planes), grid_epochs(recipe.epochs), time.perf_counter()
    while len(history) < recipe.epochs:
        epoch, started = len(history), time.perf_counter()
        # One seed per epoch: what is drawn does not depend on where the run was interrupted.
        draws = torch.Generator().manual_seed(mix_seed(recipe.seed, _EPOCH, epoch))
        batches = epoch_order(len(images), recipe.batch_size, recipe.seed, epoch)
        steps = [pair.step(images[batch], draws) for batch in batches]
        means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        row = {"epoch": epoch + 1, **means, "seconds": round(time.perf_counter() - started, 3)}
        if not all(np.isfinite(value) for value in means.values()):
            raise TrainingError(
                f"The losses of epoch {epoch + 1} are no longer finite.",
                expected="finite losses",
                remedy="Lower the learning rates, or train with precision: fp32.",
            )
        history.append(row)
        if epoch + 1 in shown:
            _write_grid(pair.kept, fixed.to(pair.device), out, epoch + 1, label)
        if epoch + 1 == recipe.epochs or time.perf_counter() - saved >= _SNAPSHOT_SECONDS:
            pair.save(out / STATE_FILE, mark, history)
            write_history(out / "history.csv", history)
            saved = time.perf_counter()
        on_epoch(row, recipe.epochs)
    return pair.kept.cpu().eval().requires_grad_(False), history


class _Pair:
    """Generator and discriminator with their optimisers, and the generator that is kept."""

    def __init__(self, recipe: SynthRecipe) -> None:
        self._recipe = recipe
        self.device = torch.device(pick_device())
        generator, discriminator = build_networks(recipe, recipe.seed)
        self.generator, self.discriminator = generator.to(self.device), discriminator.to(self.device)
        # The moving average makes better images than any single step (Yazici et al. 2019).
        self.kept = deepcopy(self.generator).requires_grad_(False) if recipe.ema else self.generator
        betas = (recipe.beta1, recipe.beta2)
        self._by_generator = torch.optim.Adam(self.generator.parameters(), lr=recipe.lr_generator, betas=betas)
        self._by_discriminator = torch.optim.Adam(
            self.discriminator.parameters(), lr=recipe.lr_discriminator, betas=betas
        )

    def step(self, real: torch.Tensor, draws: torch.Generator) -> dict[str, float]:
        """One step of the discriminator, then one of the generator; returns both losses and the mean verdicts."""
        recipe = self._recipe
        real = real.to(self.device).contiguous(memory_format=torch.channels_last)
        self.generator.train()
        self.discriminator.train()

        self.discriminator.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                made = self.generator(self._noise(len(real), draws))
            on_real = self.discriminator(augment(real, recipe.augment, draws)).float()
            on_made = self.discriminator(augment(made.float(), recipe.augment, draws)).float()
        loss_discriminator = _judge(on_real, on_made, recipe.loss)
        self._by_discriminator.zero_grad()
        loss_discriminator.backward()
        self._by_discriminator.step()

        self.discriminator.requires_grad_(False)
        with self._autocast():
            made = self.generator(self._noise(len(real), draws))
            verdict = self.discriminator(augment(made.float(), recipe.augment, draws)).float()
        loss_generator = _convince(verdict, recipe.loss)
        self._by_generator.zero_grad()
        loss_generator.backward()
        self._by_generator.step()
        if recipe.ema:
            self._average()
        return {
            "d_loss": float(loss_discriminator.detach()),
            "g_loss": float(loss_generator.detach()),
            "d_real": float(on_real.detach().mean()),
            "d_generated": float(on_made.detach().mean()),
        }

    @torch.no_grad()
    def _average(self) -> None:
        for kept, now in zip(self.kept.parameters(), self.generator.parameters(), strict=True):
            kept.lerp_(now, 1 - self._recipe.ema)
        for kept, now in zip(self.kept.buffers(), self.generator.buffers(), strict=True):
            kept.copy_(now)  # batch norm's statistics are moving averages already

    def _noise(self, count: int, draws: torch.Generator) -> torch.Tensor:
        return torch.randn(count, self._recipe.noise, generator=draws).to(self.device)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._recipe.precision == "bf16")

    def save(self, file: Path, mark: str, history: list[dict[str, Any]]) -> None:
        """Write all that the next epoch depends on."""
        parts = {
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "kept": self.kept.state_dict() if self._recipe.ema else {},
            "by_generator": optimizer_tensors(self._by_generator),
            "by_discriminator": optimizer_tensors(self._by_discriminator),
        }
        groups = [group_numbers(self._by_generator), group_numbers(self._by_discriminator)]
        save_state(file, parts, {"fingerprint": mark, "groups": groups, "history": history})

    def restore(self, file: Path, mark: str, name: str) -> list[dict[str, Any]]:
        """Put back what `save` wrote, and return the history."""
        parts, numbers = load_state(file)
        if numbers["fingerprint"] != mark:
            raise TrainingError(
                f"The folder '{name}' holds the snapshot of a generator with another recipe or other data.",
                expected="the same recipe and data, to go on with that run",
                remedy=f"Choose another folder, or delete '{STATE_FILE}' there to start afresh.",
            )
        self.generator.load_state_dict(parts["generator"])
        self.discriminator.load_state_dict(parts["discriminator"])
        if self._recipe.ema:
            self.kept.load_state_dict(parts["kept"])
        restore_optimizer(self._by_generator, parts["by_generator"], numbers["groups"][0])
        restore_optimizer(self._by_discriminator, parts["by_discriminator"], numbers["groups"][1])
        return numbers["history"]


def _judge(on_real: torch.Tensor, on_made: torch.Tensor, loss: str) -> torch.Tensor:
    """The discriminator's loss: hinge (Lim and Ye 2017), or the cross-entropy of its sigmoid."""
    if loss == "hinge":
        return relu(1 - on_real).mean() + relu(1 + on_made).mean()
    return _entropy(on_real, torch.ones_like(on_real)) + _entropy(on_made, torch.zeros_like(on_made))


def _convince(verdict: torch.Tensor, loss: str) -> torch.Tensor:
    """The generator's loss; with cross-entropy the form that does not saturate (Goodfellow et al. 2014)."""
    if loss == "hinge":
        return -verdict.mean()
    return _entropy(verdict, torch.ones_like(verdict))


def grid_epochs(epochs: int) -> list[int]:
    """Return the epochs at which the same noise is shown: from the first to the last, closer at the start.

    >>> grid_epochs(300)
    [1, 2, 5, 12, 26, 59, 133, 300]
    """
    return sorted({round(epochs ** (step / (GRIDS - 1))) for step in range(GRIDS)})


@torch.no_grad()
def _write_grid(network: nn.Module, noise: torch.Tensor, out: Path, epoch: int, label: str) -> None:
    network.eval()
    row = np.concatenate(list(to_planes(network(noise))), axis=1)
    (out / "grids").mkdir(exist_ok=True)
    write_png(row, out / "grids" / f"epoch-{epoch:06d}.png", f"generated '{label}', epoch {epoch}")
