"""Which trainings a transfer study needs, and what each of them is to answer."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import ConfigError, DataError, check_name
from bcx.tasks import get_task
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner, split_fold
from bcx.train.fit import run_fingerprint

PARTS = ("hospital", "left-out", "machine", "corruption")
# Name, what is trained on and scored on in words, number, the records of both, those that are corrupted too.
_Cut = tuple[str, str, str, int, list[Record], list[Record], list[Record]]


@dataclass(frozen=True)
class Run:
    """One training and what it answers, a `part` out of `PARTS`; `train_on` and `score_on` in words.

    `number` is its fold in the table of predictions, `inner` what it watches, `held` what it answers, out of no group
    of `train`, `corrupted` what it answers under every corruption too.
    """

    recipe: Recipe
    part: str  # out of `PARTS`
    name: str
    train_on: str  # in words, as `score_on`
    score_on: str
    number: int  # its fold in the table of predictions
    train: list[Record]
    inner: list[Record]  # what it watches
    held: list[Record]  # what it answers, out of no group of `train`
    corrupted: list[Record]  # what it answers under every corruption too

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
    for part in parts:
        check_name(part, PARTS, "part")
    used = [record for record in records if record.fold is not None]
    # Of two hospitals, training on each alone is leaving the other one out.
    covered = "hospital" in parts and len({record.source for record in used}) <= 2
    runs: list[Run] = []
    for part in PARTS:
        if part not in parts or (part == "left-out" and covered):
            continue
        cuts: Iterable[_Cut]
        if part == "machine":
            cuts = _machines(recipe, used, devices or {}, machines)
        else:
            cuts = _folds(recipe, used) if part == "corruption" else _hospitals(used, part)
        for name, train_on, score_on, number, train, held, corrupted in cuts:
            check_split(train, held)
            inner = cut_inner(recipe, train)
            runs.append(Run(recipe, part, name, train_on, score_on, number, *inner, held, corrupted))
    return runs


def plan_every_run(recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str] | None) -> list[Run]:
    """Return the trainings of every part that these scans allow."""
    runs: list[Run] = []
    for part in PARTS:
        with suppress(DataError):
            runs += plan_runs(recipe, records, [part], devices)
    return runs


def _hospitals(records: Sequence[Record], part: str) -> Iterator[_Cut]:
    """One run per hospital: trained on it alone, or with the part "left-out" on all others."""
    sources = sorted({record.source for record in records})
    least, words = (2, "two") if part == "hospital" else (3, "three")
    if len(sources) < least:
        raise DataError(
            f"The scans come from {len(sources)} source{'s' if len(sources) != 1 else ''}.",
            expected=f"{words} hospitals or more, each a source of its own",
            remedy=f"Name another source with --data, or leave the part '{part}' out.",
        )
    for number, source in enumerate(sources):
        own = [record for record in records if record.source == source]
        rest = [record for record in records if record.source != source]
        others = ", ".join(other for other in sources if other != source)
        if part == "hospital":
            yield f"hospital {source}", source, others, number, own, rest, []
        else:
            yield f"without {source}", others, source, number, rest, own, []


def _machines(
    recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str], only: Sequence[str] | None
) -> list[_Cut]:
    """One run per machine that has scans of both kinds of lesion; all other scans, of every source, are trained on."""
    task = get_task(recipe.task)
    cuts: dict[str, _Cut] = {}
    for number, device in enumerate(sorted({devices[record.key] for record in records if record.key in devices})):
        held = [record for record in records if devices.get(record.key) == device]
        kinds = {record.label for record in held} - {task.absent}
        if task.positive in kinds and len(kinds) > 1:
            groups = {record.group for record in held}
            train = [record for record in records if record.group not in groups]
            cuts[device] = (f"machine {device}", "every other machine", device, number, train, held, [])
    if not cuts:
        raise DataError(
            "No machine is known that has scans of both kinds of lesion.",
            expected="the machine of each scan, such as the column Device of BUS-BRA gives it",
            remedy="Name BUS-BRA as a source, or leave the part 'machine' out.",
        )
    if unknown := [name for name in only or () if name not in cuts]:
        raise ConfigError(
            f"There is no machine '{unknown[0]}' with scans of both kinds of lesion.",
            expected="one or more of " + ", ".join(f"'{name}' ({len(cut[5])} scans)" for name, cut in cuts.items()),
            remedy="Correct the name.",
        )
    return [cut for name, cut in cuts.items() if only is None or name in only]


def _folds(recipe: Recipe, records: Sequence[Record]) -> Iterator[_Cut]:
    """The runs of a cross-validation; corrupted are the sources that show every class, or all where none does."""
    labels: dict[str, set[str]] = {}
    for record in records:
        labels.setdefault(record.source, set()).add(record.label)
    classes = set(get_task(recipe.task).classes)
    corrupted = {source for source, seen in labels.items() if seen >= classes} or set(labels)
    for fold in sorted({record.fold for record in records if record.fold is not None}):
        train, held = split_fold(records, fold)
        chosen = [record for record in held if record.source in corrupted]
        yield f"fold {fold}", "the other folds of every source", f"fold {fold}", fold, train, held, chosen
