"""Which trainings a transfer study needs, and what each of them is to answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, DataError
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner, split_fold
from bcx.train.fit import run_fingerprint

PARTS = ("hospital", "left-out", "machine", "corruption")


@dataclass(frozen=True)
class Run:
    """One training and what it answers.

    Attributes:
        part: one of `PARTS`.
        name: as shown while it runs.
        train_on, score_on: in words.
        number: its `fold` in the table of predictions.
        train, inner: what it is trained on, and what it watches.
        held: what it answers, out of no group of `train`.
        corrupted: those of `held` that it answers under every corruption too.
    """

    recipe: Recipe
    part: str
    name: str
    train_on: str
    score_on: str
    number: int
    train: list[Record]
    inner: list[Record]
    held: list[Record]
    corrupted: list[Record]

    @property
    def slug(self) -> str:
        """The name of its folder."""
        return re.sub(r"\W+", "-", self.name.lower()).strip("-")

    @property
    def folder(self) -> str:
        """Its folder below that of the study."""
        return f"crossval/{self.slug}" if self.part == "corruption" else self.slug

    @property
    def fingerprint(self) -> str:
        """A hash of what determines its network."""
        return run_fingerprint(self.recipe, self.train, self.inner)


def plan_runs(
    recipe: Recipe,
    records: Sequence[Record],
    parts: Sequence[str] = PARTS,
    devices: Mapping[str, str] | None = None,
    machines: Sequence[str] | None = None,
) -> list[Run]:
    """Return the trainings that a study needs; arguments and errors as `transfer_study`."""
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ConfigError(
            f"There is no part called '{unknown[0]}'.",
            expected=f"one or more of {', '.join(PARTS)}",
            remedy="Correct the name.",
        )
    used = [record for record in records if record.fold is not None]
    # Of two hospitals, training on each alone is leaving the other one out.
    covered = "hospital" in parts and len({record.source for record in used}) <= 2
    runs: list[Run] = []
    for part in PARTS:
        if part not in parts or (part == "left-out" and covered):
            continue
        if part == "machine":
            runs += _machines(recipe, used, devices or {}, machines)
        else:
            runs += _folds(recipe, used) if part == "corruption" else _hospitals(recipe, used, part)
    return runs


def plan_every_run(recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str] | None = None) -> list[Run]:
    """Return the trainings of every part that these scans allow."""
    runs: list[Run] = []
    for part in PARTS:
        with suppress(DataError):
            runs += plan_runs(recipe, records, [part], devices)
    return runs


def _run(
    recipe: Recipe,
    part: str,
    name: str,
    words: tuple[str, str],
    number: int,
    train: list[Record],
    held: list[Record],
    corrupted: Sequence[Record] = (),
) -> Run:
    check_split(train, held)
    return Run(recipe, part, name, *words, number, *cut_inner(recipe, train), held, list(corrupted))


def _hospitals(recipe: Recipe, records: Sequence[Record], part: str) -> list[Run]:
    """One run per hospital: trained on it alone, or with the part "left-out" on all others."""
    sources = sorted({record.source for record in records})
    least, words = (2, "two") if part == "hospital" else (3, "three")
    if len(sources) < least:
        raise DataError(
            f"The scans come from {len(sources)} source{'s' if len(sources) != 1 else ''}.",
            expected=f"{words} hospitals or more, each a source of its own",
            remedy=f"Name another source with --data, or leave the part '{part}' out.",
        )
    runs = []
    for number, source in enumerate(sources):
        own = [record for record in records if record.source == source]
        rest = [record for record in records if record.source != source]
        others = ", ".join(other for other in sources if other != source)
        if part == "hospital":
            runs.append(_run(recipe, part, f"hospital {source}", (source, others), number, own, rest))
        else:
            runs.append(_run(recipe, part, f"without {source}", (others, source), number, rest, own))
    return runs


def _machines(
    recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str], only: Sequence[str] | None
) -> list[Run]:
    """One run per machine that has scans of both kinds of lesion; all other scans, of every source, are trained on."""
    task = get_task(recipe.task)
    runs: dict[str, Run] = {}
    for number, device in enumerate(sorted({devices[record.key] for record in records if record.key in devices})):
        held = [record for record in records if devices.get(record.key) == device]
        kinds = {record.label for record in held} - {task.absent}
        if task.positive in kinds and len(kinds) > 1:
            groups = {record.group for record in held}
            train = [record for record in records if record.group not in groups]
            words = ("every other machine", device)
            runs[device] = _run(recipe, "machine", f"machine {device}", words, number, train, held)
    if not runs:
        raise DataError(
            "No machine is known that has scans of both kinds of lesion.",
            expected="the machine of each scan, such as the column Device of BUS-BRA gives it",
            remedy="Name BUS-BRA as a source, or leave the part 'machine' out.",
        )
    if unknown := [name for name in only or () if name not in runs]:
        raise ConfigError(
            f"There is no machine '{unknown[0]}' with scans of both kinds of lesion.",
            expected="one or more of " + ", ".join(f"'{name}' ({len(run.held)} scans)" for name, run in runs.items()),
            remedy="Correct the name.",
        )
    return [run for name, run in runs.items() if only is None or name in only]


def _folds(recipe: Recipe, records: Sequence[Record]) -> list[Run]:
    """The runs of a cross-validation; corrupted are the sources that show every class, or all where none does."""
    labels: dict[str, set[str]] = {}
    for record in records:
        labels.setdefault(record.source, set()).add(record.label)
    classes = set(get_task(recipe.task).classes)
    corrupted = {source for source, seen in labels.items() if seen >= classes} or set(labels)
    runs = []
    for fold in sorted({record.fold for record in records if record.fold is not None}):
        train, held = split_fold(records, fold)
        words = ("the other folds of every source", f"fold {fold}")
        chosen = [record for record in held if record.source in corrupted]
        runs.append(_run(recipe, "corruption", f"fold {fold}", words, fold, train, held, chosen))
    return runs
