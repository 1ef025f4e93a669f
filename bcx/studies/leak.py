"""Measure a leak: the same recipe under a random split, as published, and under a grouped one.

Both cuts have the same number of scans of each class in each part, so that what differs is the leak alone.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, SplitError
from bcx.studies.leak_figures import leak_frame, read_leak, summarise_leak, write_leak
from bcx.tasks import get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner
from bcx.train.fit import run_fingerprint
from bcx.train.members import fit_network
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import NOTE, is_finished, noted

TABLE = "predictions.csv"
Protocol = Literal["random", "grouped"]
PROTOCOLS: tuple[Protocol, ...] = ("random", "grouped")


@dataclass(frozen=True)
class ProtocolRun:
    """One training of a study of the leak.

    Attributes:
        protocol: how the scans were cut.
        recipe: with the run's seed.
        fold: position among the folds; 0 where there is one split.
        train, held: what is trained on, and what is answered; under "random" a group may stand in both.
    """

    protocol: Protocol
    recipe: Recipe
    fold: int
    train: list[Record]
    held: list[Record]

    @property
    def folder(self) -> str:
        """Where it lies below the study's folder."""
        return f"runs/{self.protocol}-{self.recipe.seed}-{self.fold}"

    @property
    def fingerprint(self) -> str:
        """A hash of what determines its answers."""
        content = [run_fingerprint(self.recipe, self.train, []), [record.key for record in self.held]]
        return hashlib.sha256(repr(content).encode()).hexdigest()

    def copies_in_training(self) -> list[int]:
        """Return for each scan held out how many scans of its group were trained on."""
        counts = Counter(record.group for record in self.train)
        return [counts[record.group] for record in self.held]


def plan_protocols(recipe: Recipe, records: Sequence[Record], seeds: Sequence[int]) -> list[ProtocolRun]:
    """Return every run of both protocols: one per seed and fold, or per seed where the published split is one.

    Args:
        recipe: with `published.split`, the parts' sizes; without it, `folds` folds. The records' own do not count.

    Raises:
        SplitError: too few scans or groups of a class for every part.
    """
    split = recipe.published.split if recipe.published else None
    runs = []
    for seed in seeds:
        for protocol in PROTOCOLS:
            own = recipe.model_copy(update={"seed": seed})
            parts = cut(records, split or [1.0] * recipe.folds, seed, grouped=protocol == "grouped")
            if split is not None:
                pairs = [(parts[0], parts[2])]
            else:
                pairs = [([r for part in parts if part is not held for r in part], held) for held in parts]
            for fold, (train, held) in enumerate(pairs):
                if protocol == "grouped":
                    check_split(train, held)
                train, held = [replace(r, fold=None) for r in train], [replace(r, fold=fold) for r in held]
                runs.append(ProtocolRun(protocol, own, fold, train, held))
    return runs


def cut(records: Sequence[Record], sizes: Sequence[float], seed: int, *, grouped: bool) -> list[list[Record]]:
    """Cut records into parts with the classes in proportion, at random or by whole groups.

    Every part has room for its share of each class. Larger groups are placed first, each in a part that is drawn among
    those with room for the whole group, in proportion to the room left; scans without a group fill the rest. Where no
    part has room for a group, it goes where most is left, and the sizes are kept nearly.

    Args:
        sizes: of the parts, in any unit; 0 leaves a part empty.
        grouped: keep groups whole; else every scan is drawn for itself.

    Raises:
        SplitError: a class would be missing from a part.
    """
    ordered = sorted(records, key=lambda record: record.key)
    classes = sorted({record.label for record in ordered})
    room = np.stack([_shares(sum(r.label == c for r in ordered), sizes) for c in classes])
    bundles: dict[str, list[Record]] = {}
    for record in ordered:
        bundles.setdefault(record.group if grouped else record.key, []).append(record)
    rng = np.random.default_rng(seed)
    units = list(bundles.values())
    units = sorted((units[i] for i in rng.permutation(len(units))), key=len, reverse=True)
    parts: list[list[Record]] = [[] for _ in sizes]
    for unit in units:
        need = np.array([sum(record.label == c for record in unit) for c in classes])
        left = room[need > 0].sum(axis=0)
        fits = (room >= need[:, None]).all(axis=0)
        chance = np.where(fits, left, 0)
        chosen = int(rng.choice(len(parts), p=chance / chance.sum()) if fits.any() else left.argmax())
        room[:, chosen] -= need
        parts[chosen] += unit
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        missing = sorted(set(classes) - {record.label for record in part})
        if size > 0 and missing:
            raise SplitError(
                f"Part {number} of {len(sizes)} would hold no {', '.join(missing)}.",
                expected="every class in each part",
                remedy="Use fewer or larger parts, or add scans of this class from other patients.",
            )
    return [sorted(part, key=lambda record: record.key) for part in parts]


def _shares(count: int, sizes: Sequence[float]) -> np.ndarray:
    """Divide `count` scans in proportion to sizes: whole numbers, the largest remainders rounded up."""
    exact = count * np.asarray(sizes, float) / sum(sizes)
    whole = np.floor(exact).astype(int)
    order = np.argsort(whole - exact, kind="stable")
    whole[order[: count - whole.sum()]] += 1
    return whole


def leak_study(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    seeds: Sequence[int] = (0, 1, 2),
    only: Sequence[int] | None = None,
    on_epoch: Callable[[ProtocolRun, dict[str, Any], int], None] = lambda *_: None,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, Any] | None:
    """Train and answer under both protocols, and write `predictions.csv` and `results.json`; a stopped study goes on.

    Args:
        recipe: its `published` block says how to split; its own seed is not used.
        seeds: each cuts the scans and trains once per protocol and fold.
        only: train these folds only; the summary is written once every fold is there.
        on_epoch: called with the run, its history row and the number of epochs.

    Returns:
        What results.json holds, or None while runs are missing.

    Raises:
        ConfigError: no seed, or a seed twice.
        SplitError, TrainingError: as `cut` and `bcx.train.fit.fit`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"The seeds are {', '.join(map(str, seeds)) or 'none'}.",
            expected="one or more, each once",
            remedy="Correct --seeds.",
        )
    task = get_task(recipe.task)
    runs = plan_protocols(recipe, records, seeds)
    in_group = Counter(record.group for record in records)
    for run in runs:
        if is_done(run, out) or (only is not None and run.fold not in only):
            continue
        folder = out / run.folder
        with noted(folder, run.fingerprint, n_train=len(run.train), n_held=len(run.held)):
            train, inner = cut_inner(run.recipe, run.train)
            told = partial(on_epoch, run)
            fitted = fit_network(run.recipe, train, inner, out=folder, on_epoch=told, on_batch=on_batch)
            frame = leak_frame(
                run.held,
                stacked_logits(answer_records(fitted.network, fitted.preprocess, run.held), len(task.classes)),
                task,
                protocol=run.protocol,
                seed=run.recipe.seed,
                fold=run.fold,
                copies=[in_group[record.group] - 1 for record in run.held],
                copies_in_training=run.copies_in_training(),
            )
            write_leak(folder / TABLE, frame, task)
    if not all(is_done(run, out) for run in runs):
        return None
    frame = pd.concat([read_leak(out / run.folder / TABLE, task) for run in runs], ignore_index=True)
    write_leak(out / TABLE, frame, task)
    notes = [read_json(out / run.folder / NOTE) for run in runs]
    results = {
        "what": "the leak: one recipe under a random and under a grouped split",
        **describe_run(recipe, records, command),
        "seconds": round(sum(note["seconds"] for note in notes), 1),
        "seeds": list(seeds),
        "runs": [{"folder": run.folder, **note} for run, note in zip(runs, notes, strict=True)],
        "predictions": {"file": TABLE, "rows": len(frame)},
        "note": "One view, the most probable class, no temperature. Intervals: groups and seeds drawn anew, for the "
        "difference the same ones under both protocols.",
        **summarise_leak(frame, task),
    }
    write_json(out / "results.json", results)
    return results


def is_done(run: ProtocolRun, out: Path) -> bool:
    """Whether a run's answers are there, of this recipe on these scans."""
    return is_finished(out / run.folder, run.fingerprint, TABLE)
