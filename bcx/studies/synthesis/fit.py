"""Train one generator per class; resumable after a kill to bitwise the same weights.

With a hundred images a discriminator learns them by heart; shown changed ones only, it cannot, and since generated
images are changed in the same ways, the changes do not leak into what the generator makes. Ranges are those of S. Zhao,
Z. Liu, J. Lin, J.-Y. Zhu and S. Han, "Differentiable Augmentation for Data-Efficient GAN Training", NeurIPS 2020;
saturation has no meaning without colour, and the mirror image is added.
"""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.nn.functional import binary_cross_entropy_with_logits as _entropy
from torch.nn.functional import pad, relu

from bcx.data.records import Record
from bcx.errors import DataError, TrainingError
from bcx.evaluate.canvas import CYCLE, paper, publish, styled
from bcx.imaging.preprocess import Preprocess, resize
from bcx.imaging.scan import Scan
from bcx.networks.device import computes_bf16, pick_device
from bcx.studies.synthesis.generator import Generator, build_networks, load_generator, to_images, to_planes, write_png
from bcx.studies.synthesis.recipes import GeneratorJob, SynthRecipe
from bcx.train.fit import write_history
from bcx.train.heads import cut_batches, mix_seed
from bcx.train.provenance import current_commit, hash_of, write_json
from bcx.train.runs import NOTE, OnEpoch, is_finished
from bcx.train.state import STATE_FILE, load_state, save_state

WEIGHTS = "generator.safetensors"
#: Images from the same noise, shown over the epochs, and at how many epochs.
FIXED, GRIDS = 8, 8
_CELL = 96  # pixels: side of an image on a sheet
_FIXED_NOISE, _EPOCH = 1, 2  # what a seed is for: the noise of the grids, an epoch's draws
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
    return hash_of([recipe.identity(), [record.key for record in records]])


def train_generator(
    recipe: SynthRecipe, job: GeneratorJob, out: Path, on_epoch: OnEpoch = lambda *_: None
) -> Generator:
    """Train the generator of one class, or return the finished one; a killed run goes on.

    The job's folder below `out` receives `generator.safetensors`, `history.csv`, `losses.png`, `epochs.png` (the same
    noise over the epochs) and `run.json`. `on_epoch` is called with the history's row and the number of epochs. A loss
    that is no longer finite, and the snapshot of another run, are a `TrainingError`.
    """
    label, folder = job.label, out / job.folder
    own, chosen = recipe.for_class(label), class_records(job.records, label)
    mark, started, commit = gan_fingerprint(own, chosen), time.perf_counter(), current_commit()
    if is_finished(folder, mark, WEIGHTS):
        return load_generator(folder / WEIGHTS)
    (folder / "grids").mkdir(parents=True, exist_ok=True)
    images, pair = to_images(read_planes(chosen, own.size)), _Pair(own)
    history = pair.restore(folder / STATE_FILE, mark) if (folder / STATE_FILE).is_file() else []
    noise = torch.randn(FIXED, own.noise, generator=torch.Generator().manual_seed(mix_seed(own.seed, _FIXED_NOISE)))
    shown, saved = grid_epochs(own.epochs), time.perf_counter()
    for epoch in range(len(history), own.epochs):
        history.append(pair.epoch(images, epoch))
        if epoch + 1 in shown:
            grid = np.hstack(pair.show(noise))
            write_png(grid, folder / f"grids/epoch-{epoch + 1:06d}.png", f"generated '{label}', epoch {epoch + 1}")
        if epoch + 1 == own.epochs or time.perf_counter() - saved >= _SNAPSHOT_SECONDS:
            pair.save(folder / STATE_FILE, mark, history)
            write_history(folder / "history.csv", history)
            saved = time.perf_counter()
        on_epoch(history[-1], own.epochs)
    about = {"fold": job.fold, "n_train": len(chosen), "epochs": own.epochs, "fingerprint": mark}
    generator = Generator(pair.kept.cpu().eval().requires_grad_(False), own, label, about)
    generator.save(folder / WEIGHTS)
    write_losses(history, folder / "losses.png", f"{label}, {own.size} px, {len(chosen)} scans")
    rows = {
        f"epoch {int(file.stem.removeprefix('epoch-'))}": np.split(np.asarray(Image.open(file)), FIXED, axis=1)
        for file in sorted((folder / "grids").glob("epoch-*.png"))
    }
    write_sheet(rows, folder / "epochs.png", "The same noise at different epochs (generated)")
    seconds = {"seconds": round(sum(row["seconds"] for row in history), 1)}
    seconds["seconds_last_call"] = round(time.perf_counter() - started, 1)
    write_json(folder / NOTE, {**about, "label": label, "commit": commit, **seconds})
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
        adam = partial(torch.optim.Adam, betas=(recipe.beta1, recipe.beta2))
        self._optimizers = {
            "by_generator": adam(self._generator.parameters(), lr=recipe.lr_generator),
            "by_discriminator": adam(self._discriminator.parameters(), lr=recipe.lr_discriminator),
        }
        self._networks = {"generator": self._generator, "discriminator": self._discriminator}
        self._networks |= {"kept": self.kept} if recipe.ema else {}

    def epoch(self, images: torch.Tensor, epoch: int) -> dict[str, Any]:
        """Learn from every image once, and return the epoch's row of the history."""
        started, seed = time.perf_counter(), self._recipe.seed
        # One seed per epoch: what is drawn does not depend on where the run was interrupted.
        draws = torch.Generator().manual_seed(mix_seed(seed, _EPOCH, epoch))
        order = np.random.default_rng([seed, epoch]).permutation(len(images)).tolist()
        steps = [self._step(images[batch], draws) for batch in cut_batches(order, self._recipe.batch_size)]
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
            return self._generator(torch.randn(len(real), recipe.noise, generator=draws).to(self._device))

        def verdict(images: torch.Tensor) -> torch.Tensor:
            return self._discriminator(augment(images.float(), recipe.augment, draws)).float()

        self._discriminator.requires_grad_(True)
        with self._autocast():
            with torch.no_grad():
                generated = made()
            on_real, on_made = verdict(real), verdict(generated)
        d_loss = _judge(on_real, on_made, recipe.loss)
        self._descend("by_discriminator", d_loss)
        self._discriminator.requires_grad_(False)
        with self._autocast():
            on_new = verdict(made())
        g_loss = _convince(on_new, recipe.loss)
        self._descend("by_generator", g_loss)
        if recipe.ema:
            self._average()
        told = {"d_loss": d_loss, "g_loss": g_loss, "d_real": on_real.mean(), "d_generated": on_made.mean()}
        return {name: float(value.detach()) for name, value in told.items()}

    def _descend(self, by: str, loss: torch.Tensor) -> None:
        self._optimizers[by].zero_grad()
        loss.backward()
        self._optimizers[by].step()

    @torch.no_grad()
    def _average(self) -> None:
        for kept, now in zip(self.kept.parameters(), self._generator.parameters(), strict=True):
            kept.lerp_(now, 1 - self._recipe.ema)
        for kept, now in zip(self.kept.buffers(), self._generator.buffers(), strict=True):
            kept.copy_(now)  # batch norm's statistics are moving averages already

    @torch.no_grad()
    def show(self, noise: torch.Tensor) -> np.ndarray:
        """Return what the kept generator makes of noise, uint8 `[N, S, S]`."""
        return to_planes(self.kept.eval()(noise.to(self._device)))

    def _autocast(self) -> torch.autocast:
        mixed = self._recipe.precision == "bf16" and computes_bf16(self._device.type)
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=mixed)

    def save(self, file: Path, mark: str, history: list[dict[str, Any]]) -> None:
        """Write all that the next epoch depends on."""
        parts = {name: network.state_dict() for name, network in self._networks.items()}
        save_state(file, parts, self._optimizers, fingerprint=mark, history=history)

    def restore(self, file: Path, mark: str) -> list[dict[str, Any]]:
        """Put back what `save` wrote, and return the history."""
        parts, history = load_state(file, self._optimizers, fingerprint=mark)
        for name, network in self._networks.items():
            network.load_state_dict(parts[name])
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


def augment(images: torch.Tensor, names: Sequence[str], draws: torch.Generator) -> torch.Tensor:
    """Change each image of a batch, float32 `[B, 1, S, S]` in -1..1, differently; some changes may leave the range.

    `names` are done in their order; `draws` is on the CPU, so that what is drawn does not depend on the device.
    """
    for name in names:
        if name in ("translation", "cutout"):
            images = (_translation if name == "translation" else _cutout)(images, draws)
            continue
        drawn = torch.rand(len(images), 1, 1, 1, generator=draws).to(images)
        if name == "flip":
            images = torch.where(drawn < 0.5, images.flip(3), images)
        elif name == "brightness":
            images = images + (drawn - 0.5)
        else:
            mean = images.mean((1, 2, 3), keepdim=True)
            images = (images - mean) * (drawn + 0.5) + mean
    return images


def _translation(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Move by up to an eighth of the side; what comes in is 0, middle grey, as in the authors' code."""
    count, side = len(images), images.shape[3]
    reach = int(side / 8 + 0.5)
    moves = torch.randint(0, 2 * reach + 1, (count, 2), generator=draws).to(images.device)
    padded = pad(images, (reach, reach, reach, reach))
    places = torch.arange(side, device=images.device)
    rows, columns = (moves[:, axis, None] + places for axis in (0, 1))
    which = torch.arange(count, device=images.device)[:, None, None]
    return padded[which, 0, rows[:, :, None], columns[:, None, :]][:, None]


def _cutout(images: torch.Tensor, draws: torch.Generator) -> torch.Tensor:
    """Grey out a square of half the side, anywhere, also partly outside."""
    side = images.shape[3]
    half = int(side / 2 + 0.5) // 2
    centre = torch.randint(0, side + 1, (len(images), 2), generator=draws).to(images.device)
    places = torch.arange(side, device=images.device)
    inside = [(places >= centre[:, axis, None] - half) & (places < centre[:, axis, None] + half) for axis in (0, 1)]
    return images * ~(inside[0][:, None, :, None] & inside[1][:, None, None, :])


@styled
def write_losses(history: Sequence[Mapping[str, Any]], file: Path, title: str) -> None:
    """Draw both losses and the discriminator's mean verdicts over the epochs."""
    figure, panels = paper(7, 4.2, 2, 1, sharex=True)
    table, labels = pd.DataFrame(history), ("discriminator", "generator", "on real", "on generated")
    for place, (label, name) in enumerate(zip(labels, ("d_loss", "g_loss", "d_real", "d_generated"), strict=True)):
        panels[place // 2].plot(table["epoch"], table[name], color=CYCLE[place], label=label, linewidth=1)
    for axes, words in zip(panels, ("loss", "mean logit"), strict=True):
        axes.set_ylabel(words)
        axes.legend()
    panels[0].set_title(title)
    panels[1].set_xlabel("epoch")
    publish(figure, file)


@styled
def write_sheet(rows: Mapping[str, Sequence[np.ndarray] | np.ndarray], file: Path, title: str) -> None:
    """Show rows of images, uint8 `[S, S]` each, by what stands beside them."""
    across = max(map(len, rows.values()))
    figure, grid = paper(0.85 + across * 0.95, 0.4 + 0.95 * len(rows), len(rows), across)
    for line, (words, cells) in zip(grid.reshape(len(rows), across), rows.items(), strict=True):
        for axes in line:
            axes.set(xticks=[], yticks=[], frame_on=False)
            axes.grid(False)
        line[0].set_ylabel(words, fontsize=7)
        for axes, cell in zip(line, cells, strict=False):
            axes.imshow(resize(cell, _CELL, _CELL), cmap="gray", vmin=0, vmax=255)
    figure.suptitle(title, fontsize=8)
    publish(figure, file, colours=None)
