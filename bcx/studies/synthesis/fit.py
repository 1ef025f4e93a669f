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
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits as _entropy
from torch.nn.functional import relu

from bcx.data.records import Record
from bcx.errors import DataError, TrainingError
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.networks.device import pick_device
from bcx.studies.synthesis.diffaugment import augment
from bcx.studies.synthesis.figures import write_losses, write_sheet
from bcx.studies.synthesis.networks import build_networks
from bcx.studies.synthesis.recipes import GeneratorJob, SynthRecipe
from bcx.studies.synthesis.sample import Generator, load_generator, save_generator, to_images, to_planes, write_png
from bcx.train.fit import write_history
from bcx.train.heads import epoch_order, mix_seed
from bcx.train.provenance import current_commit, write_json
from bcx.train.runs import NOTE, is_finished
from bcx.train.state import STATE_FILE, load_state, save_state

WEIGHTS = "generator.safetensors"
#: Images from the same noise, shown over the epochs, and at how many epochs.
FIXED, GRIDS = 8, 8
# What a seed is for: the noise of the grids, an epoch's draws.
_FIXED_NOISE, _EPOCH = 1, 2
# Snapshots are at least so many seconds apart: epochs over a hundred small images take less than writing one.
_SNAPSHOT_SECONDS = 20.0


def class_records(records: Sequence[Record], label: str) -> list[Record]:
    """Return the records of a class; fewer than two, on which batch normalisation cannot train, are a `DataError`."""
    chosen = [record for record in records if record.label == label]
    if len(chosen) < 2:
        raise DataError(
            f"There are {len(chosen)} scans of the class '{label}' to learn from.",
            expected="at least 2, and a hundred or more to be of use",
            remedy="Check the data's folders, the fold and the class.",
        )
    return chosen


def read_planes(records: Sequence[Record], size: int) -> np.ndarray:
    """Read scans, at least one, squashed and grey, as generators see them: uint8 `[N, S, S]`."""
    step = Preprocess(size=size)
    return np.stack([step.plane(Scan.open(record.file).pixels) for record in records])


def gan_fingerprint(recipe: SynthRecipe, records: Sequence[Record]) -> str:
    """Return a hash of what determines the weights; `recipe` is that of one class, `records` its training scans."""
    content = [recipe.identity(), [record.key for record in records]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def train_generator(
    recipe: SynthRecipe,
    job: GeneratorJob,
    out: Path,
    on_epoch: Callable[[dict[str, Any], int], object] = lambda *_: None,
) -> Generator:
    """Train the generator of one class, or return the finished one; a killed run goes on.

    The job's folder below `out` receives `generator.safetensors`, `history.csv`, `losses.png`, `epochs.png` (the same
    noise over the epochs) and `run.json`. `on_epoch` is called with the history's row and the number of epochs.

    Raises:
        DataError: too few scans of this class.
        TrainingError: the folder holds the snapshot of another run, or a loss is no longer finite.
    """
    label, folder = job.label, out / job.folder
    own, chosen = recipe.for_class(label), class_records(job.records, label)
    mark, started, commit = gan_fingerprint(own, chosen), time.perf_counter(), current_commit()
    if is_finished(folder, mark, WEIGHTS):
        return load_generator(folder / WEIGHTS)
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    images, pair = to_images(read_planes(chosen, own.size)), _Pair(own)
    history = pair.restore(folder, mark)
    noise = torch.randn(FIXED, own.noise, generator=torch.Generator().manual_seed(mix_seed(own.seed, _FIXED_NOISE)))
    shown, saved = grid_epochs(own.epochs), time.perf_counter()
    for epoch in range(len(history), own.epochs):
        history.append(pair.epoch(images, epoch))
        if epoch + 1 in shown:
            grid = np.concatenate(list(to_planes(pair.show(noise))), axis=1)
            write_png(grid, folder / f"grids/epoch-{epoch + 1:06d}.png", f"generated '{label}', epoch {epoch + 1}")
        if epoch + 1 == own.epochs or time.perf_counter() - saved >= _SNAPSHOT_SECONDS:
            pair.save(folder / STATE_FILE, mark, history)
            write_history(folder / "history.csv", history)
            saved = time.perf_counter()
        on_epoch(history[-1], own.epochs)
    about = {"fold": job.fold, "n_train": len(chosen), "epochs": own.epochs, "fingerprint": mark}
    generator = Generator(pair.kept.cpu().eval().requires_grad_(False), own, label, about)
    save_generator(folder / WEIGHTS, generator)
    write_losses(history, folder / "losses.png", f"{label}, {own.size} px, {len(chosen)} scans")
    grids = {int(file.stem.removeprefix("epoch-")): file for file in sorted((folder / "grids").glob("epoch-*.png"))}
    rows = {f"epoch {n}": np.split(np.asarray(Image.open(file)), FIXED, axis=1) for n, file in grids.items()}
    write_sheet(rows, folder / "epochs.png", "The same noise at different epochs (generated)")
    seconds = round(sum(row["seconds"] for row in history), 1)
    here = round(time.perf_counter() - started, 1)
    write_json(
        folder / NOTE, {**about, "label": label, "commit": commit, "seconds": seconds, "seconds_last_call": here}
    )
    (folder / STATE_FILE).unlink()
    return generator


class _Pair:
    """Generator and discriminator with their optimisers, and the generator that is kept."""

    def __init__(self, recipe: SynthRecipe) -> None:
        self._recipe = recipe
        self._device = torch.device(pick_device())
        self._generator, self._discriminator = (network.to(self._device) for network in build_networks(recipe))
        # The moving average makes better images than any single step (Yazici et al. 2019).
        self.kept = deepcopy(self._generator).requires_grad_(False) if recipe.ema else self._generator
        self._by_generator, self._by_discriminator = (
            torch.optim.Adam(network.parameters(), lr=lr, betas=(recipe.beta1, recipe.beta2))
            for network, lr in (
                (self._generator, recipe.lr_generator),
                (self._discriminator, recipe.lr_discriminator),
            )
        )
        self._optimizers = {"by_generator": self._by_generator, "by_discriminator": self._by_discriminator}

    def epoch(self, images: torch.Tensor, epoch: int) -> dict[str, Any]:
        """Learn from every image once, and return the epoch's row of the history."""
        started, seed = time.perf_counter(), self._recipe.seed
        # One seed per epoch: what is drawn does not depend on where the run was interrupted.
        draws = torch.Generator().manual_seed(mix_seed(seed, _EPOCH, epoch))
        steps = [
            self._step(images[batch], draws) for batch in epoch_order(len(images), self._recipe.batch_size, seed, epoch)
        ]
        means = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        if not np.isfinite(list(means.values())).all():
            raise TrainingError(
                f"The losses of epoch {epoch + 1} are no longer finite.",
                expected="finite losses",
                remedy="Lower the learning rates, or train with precision: fp32.",
            )
        return {"epoch": epoch + 1, **means, "seconds": round(time.perf_counter() - started, 3)}

    def _step(self, real: torch.Tensor, draws: torch.Generator) -> dict[str, float]:
        """One step of the discriminator, then one of the generator; returns both losses and the mean verdicts."""
        recipe = self._recipe
        real = real.to(self._device).contiguous(memory_format=torch.channels_last)
        self._generator.train()
        self._discriminator.train()

        def made() -> torch.Tensor:
            noise = torch.randn(len(real), recipe.noise, generator=draws).to(self._device)
            return self._generator(noise)

        def verdict(images: torch.Tensor) -> torch.Tensor:
            return self._discriminator(augment(images.float(), recipe.augment, draws)).float()

        self._discriminator.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                generated = made()
            on_real, on_made = verdict(real), verdict(generated)
        loss_discriminator = _judge(on_real, on_made, recipe.loss)
        self._by_discriminator.zero_grad()
        loss_discriminator.backward()
        self._by_discriminator.step()

        self._discriminator.requires_grad_(False)
        with self._autocast():
            on_new = verdict(made())
        loss_generator = _convince(on_new, recipe.loss)
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
        for kept, now in zip(self.kept.parameters(), self._generator.parameters(), strict=True):
            kept.lerp_(now, 1 - self._recipe.ema)
        for kept, now in zip(self.kept.buffers(), self._generator.buffers(), strict=True):
            kept.copy_(now)  # batch norm's statistics are moving averages already

    @torch.no_grad()
    def show(self, noise: torch.Tensor) -> torch.Tensor:
        """Return what the kept generator makes of noise."""
        return self.kept.eval()(noise.to(self._device))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._recipe.precision == "bf16")

    def save(self, file: Path, mark: str, history: list[dict[str, Any]]) -> None:
        """Write all that the next epoch depends on."""
        parts = {"generator": self._generator.state_dict(), "discriminator": self._discriminator.state_dict()}
        parts |= {"kept": self.kept.state_dict()} if self._recipe.ema else {}
        save_state(file, parts, self._optimizers, fingerprint=mark, history=history)

    def restore(self, folder: Path, mark: str) -> list[dict[str, Any]]:
        """Put back what `save` wrote, where there is something, and return the history."""
        if not (folder / STATE_FILE).is_file():
            return []
        parts, history = load_state(folder / STATE_FILE, self._optimizers, fingerprint=mark)
        self._generator.load_state_dict(parts["generator"])
        self._discriminator.load_state_dict(parts["discriminator"])
        if self._recipe.ema:
            self.kept.load_state_dict(parts["kept"])
        return history


def _judge(on_real: torch.Tensor, on_made: torch.Tensor, loss: str) -> torch.Tensor:
    """The discriminator's loss: hinge (Lim and Ye 2017), or the cross-entropy of its sigmoid."""
    if loss == "hinge":
        return relu(1 - on_real).mean() + relu(1 + on_made).mean()
    return _entropy(on_real, torch.ones_like(on_real)) + _entropy(on_made, torch.zeros_like(on_made))


def _convince(verdict: torch.Tensor, loss: str) -> torch.Tensor:
    """The generator's loss; with cross-entropy the form that does not saturate (Goodfellow et al. 2014)."""
    return -verdict.mean() if loss == "hinge" else _entropy(verdict, torch.ones_like(verdict))


def grid_epochs(epochs: int) -> list[int]:
    """Return the epochs at which the same noise is shown: from the first to the last, closer at the start.

    >>> grid_epochs(300)
    [1, 2, 5, 12, 26, 59, 133, 300]
    """
    return sorted({round(epochs ** (step / (GRIDS - 1))) for step in range(GRIDS)})
