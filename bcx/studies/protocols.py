"""Two ways to cut the same scans: at random, as many published systems do, or by groups.

Both cuts have the same number of scans of each class in each part, so that what differs is the leak alone.

>>> from pathlib import Path
>>> records = [Record(Path(f"{i}.png"), f"mine/{i}.png", "benign", f"mine:{i // 2}", "mine") for i in range(20)]
>>> parts = cut(records, (3, 1, 1), seed=0, grouped=True)
>>> [len(part) for part in parts], len({r.group for r in parts[0]} & {r.group for r in parts[2]})
([12, 4, 4], 0)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import SplitError
from bcx.train.config import Recipe

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

    def copies_in_training(self) -> list[int]:
        """Return for each scan held out how many scans of its group were trained on."""
        counts = Counter(record.group for record in self.train)
        return [counts[record.group] for record in self.held]


def plan_protocols(recipe: Recipe, records: Sequence[Record], seeds: Sequence[int]) -> list[ProtocolRun]:
    """Return every run of both protocols: one per seed and fold, or per seed where the published split is one.

    Args:
        recipe: with `published.split`, the parts' sizes; without it, `folds` folds.
        records: the scans; published folds are not looked at.

    Raises:
        SplitError: too few scans or groups of a class for every part.
    """
    split = recipe.published.split if recipe.published else None
    runs = []
    for seed in seeds:
        for protocol in PROTOCOLS:
            own = recipe.model_copy(update={"seed": seed})
            if split is not None:
                train, _, held = cut(records, split, seed, grouped=protocol == "grouped")
                pairs = [(train, held)]
            else:
                parts = cut(records, [1.0] * recipe.folds, seed, grouped=protocol == "grouped")
                pairs = [([r for part in parts if part is not held for r in part], held) for held in parts]
            for fold, (train, held) in enumerate(pairs):
                if protocol == "grouped":
                    check_split(train, held)
                runs.append(ProtocolRun(protocol, own, fold, _folded(train, None), _folded(held, fold)))
    return runs


def cut(records: Sequence[Record], sizes: Sequence[float], seed: int, *, grouped: bool) -> list[list[Record]]:
    """Cut records into parts with the classes in proportion, at random or by whole groups.

    Every part has room for its share of each class. Larger groups are placed first, each in a part that is drawn among
    those with room for the whole group, in proportion to the room left; scans without a group fill the rest. Where no
    part has room for a group, it goes where most is left, and the sizes are kept nearly.

    Args:
        sizes: of the parts, in any unit; 0 leaves a part empty.
        grouped: keep groups whole; else every scan is drawn for itself.

    Returns:
        One list per size, each sorted by key.

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
    units = [units[i] for i in rng.permutation(len(units))]
    units.sort(key=len, reverse=True)
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


def _folded(records: Sequence[Record], fold: int | None) -> list[Record]:
    return [replace(record, fold=fold) for record in records]
