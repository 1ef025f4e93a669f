"""Which trainings a transfer study needs, and what each of them is to answer.

runs = plan_runs(recipe, records, ("hospital", "machine"), devices)
[(run.name, len(run.train), len(run.held)) for run in runs]
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, DataError
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner, split_fold

PARTS = ("hospital", "left-out", "machine", "corruption")


@dataclass(frozen=True)
class Run:
    """One training and what it answers.

    Attributes:
        name: as shown while it runs.
        folder: below the study's folder, or for the folds below that of the cross-validation.
        part: one of `PARTS`.
        train_on: what it is trained on, in words.
        score_on: what it answers, in words.
        number: its `fold` in the table of predictions.
        train, inner: what it is trained on, and what it watches.
        held: what it answers, out of no group of `train`.
        corrupted: those of `held` that it answers under every corruption too.
    """

    name: str
    folder: str
    part: str
    train_on: str
    score_on: str
    number: int
    train: list[Record]
    inner: list[Record]
    held: list[Record]
    corrupted: list[Record]


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
    runs: list[Run] = []
    if "hospital" in parts:
        runs += _hospitals(recipe, used)
    # Of two hospitals, training on each alone is leaving the other one out.
    if "left-out" in parts and ("hospital" not in parts or len({record.source for record in used}) > 2):
        runs += _left_out(recipe, used)
    if "machine" in parts:
        runs += _machines(recipe, used, devices or {}, machines)
    if "corruption" in parts:
        runs += _folds(recipe, used)
    return runs


def plan_every_run(recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str] | None = None) -> list[Run]:
    """Return the trainings of every part that these scans allow."""
    runs: list[Run] = []
    for part in PARTS:
        with suppress(DataError):
            runs += plan_runs(recipe, records, [part], devices)
    return runs


def _run(recipe: Recipe, train: list[Record], held: list[Record], corrupted: list[Record], **words: Any) -> Run:
    check_split(train, held)
    train, inner = cut_inner(recipe, train)
    return Run(**words, train=train, inner=inner, held=held, corrupted=corrupted)


def _sources(records: Sequence[Record], least: int, part: str) -> list[str]:
    sources = sorted({record.source for record in records})
    if len(sources) < least:
        raise DataError(
            f"The scans come from {len(sources)} source{'s' if len(sources) != 1 else ''}.",
            expected=f"{'two' if least == 2 else 'three'} hospitals or more, each a source of its own",
            remedy=f"Name another source with --data, or leave the part '{part}' out.",
        )
    return sources


def _hospitals(recipe: Recipe, records: Sequence[Record]) -> list[Run]:
    """One run per hospital, trained on it alone."""
    sources = _sources(records, 2, "hospital")
    return [
        _run(
            recipe,
            [record for record in records if record.source == source],
            [record for record in records if record.source != source],
            [],
            name=f"hospital {source}",
            folder=f"hospital-{_slug(source)}",
            part="hospital",
            train_on=source,
            score_on=", ".join(other for other in sources if other != source),
            number=number,
        )
        for number, source in enumerate(sources)
    ]


def _left_out(recipe: Recipe, records: Sequence[Record]) -> list[Run]:
    """One run per hospital, trained on all others."""
    sources = _sources(records, 3, "left-out")
    return [
        _run(
            recipe,
            [record for record in records if record.source != source],
            [record for record in records if record.source == source],
            [],
            name=f"without {source}",
            folder=f"without-{_slug(source)}",
            part="left-out",
            train_on=", ".join(other for other in sources if other != source),
            score_on=source,
            number=number,
        )
        for number, source in enumerate(sources)
    ]


def _machines(
    recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str], only: Sequence[str] | None
) -> list[Run]:
    """One run per machine that has scans of both kinds of lesion; all other scans, of every source, are trained on."""
    task = get_task(recipe.task)
    runs = []
    for number, device in enumerate(sorted({devices[record.key] for record in records if record.key in devices})):
        held = [record for record in records if devices.get(record.key) == device]
        kinds = {record.label for record in held} - {task.absent}
        if not (task.positive in kinds and len(kinds) > 1):
            continue
        groups = {record.group for record in held}
        train = [record for record in records if record.group not in groups]
        words = {"name": f"machine {device}", "folder": f"machine-{_slug(device)}", "part": "machine"}
        words |= {"train_on": "every other machine", "score_on": device}
        runs.append(_run(recipe, train, held, [], **words, number=number))
    if not runs:
        raise DataError(
            "No machine is known that has scans of both kinds of lesion.",
            expected="the machine of each scan, such as the column Device of BUS-BRA gives it",
            remedy="Name BUS-BRA as a source, or leave the part 'machine' out.",
        )
    if only is None:
        return runs
    known = {run.score_on: len(run.held) for run in runs}
    if unknown := [name for name in only if name not in known]:
        raise ConfigError(
            f"There is no machine '{unknown[0]}' with scans of both kinds of lesion.",
            expected="one or more of " + ", ".join(f"'{name}' ({count} scans)" for name, count in known.items()),
            remedy="Correct the name.",
        )
    return [run for run in runs if run.score_on in only]


def _folds(recipe: Recipe, records: Sequence[Record]) -> list[Run]:
    """The runs of a cross-validation; corrupted are the sources that show every class, or all where none does."""
    task = get_task(recipe.task)
    sources = {record.source for record in records}
    whole = {
        source for source in sources if {r.label for r in records if r.source == source} >= set(task.classes)
    } or sources
    runs = []
    for fold in sorted({record.fold for record in records if record.fold is not None}):
        train, held = split_fold(records, fold)
        words = {"name": f"fold {fold}", "folder": f"fold-{fold}", "part": "corruption"}
        words |= {"train_on": "the other folds of every source", "score_on": f"fold {fold}"}
        runs.append(_run(recipe, train, held, [r for r in held if r.source in whole], **words, number=fold))
    return runs


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-")
