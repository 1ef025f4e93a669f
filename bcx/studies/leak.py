"""Measure a leak: the same recipe under a random split, as published, and under a grouped one.

Both cuts have the same number of scans of each class in each part, so that what differs is the leak alone. Intervals
come from drawing groups and seeds anew at once, and the difference from drawing the same ones for both protocols; three
seeds say little about how much another seed would change.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.data.tables import decimal, read_columns
from bcx.errors import ConfigError, DataError, SplitError
from bcx.evaluate.intervals import RESAMPLES, means_with_intervals, named_triples, percentiles
from bcx.evaluate.metrics import classification_report, figure_names, weighted_figures
from bcx.evaluate.oof import answers_problem, label_positions, logits_of, record_columns
from bcx.files import whole
from bcx.tasks import Task, get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner
from bcx.train.fit import fit_network, run_fingerprint
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import NOTE, Tick, carry_out, is_finished, noted
from bcx.trust.calibration import apply_temperature

TABLE = "predictions.csv"
PROTOCOLS = ("random", "grouped")
TOLD = ("accuracy", "macro_auc")  # of each seed
_COLUMNS: dict[str, Callable[[str], Any]] = {
    **{"protocol": str, "seed": np.int64, "fold": np.int64, "file": str, "source": str, "group": str, "label": str},
    **{"copies": np.int64, "copies_in_training": np.int64},
}


@dataclass(frozen=True)
class ProtocolRun:
    """One training: how the scans were cut, the recipe with its seed, which fold is held out (0 of a single split).

    Under "random" a group may stand in both `train` and `held`.
    """

    protocol: str
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


def plan_protocols(recipe: Recipe, records: Sequence[Record], seeds: Sequence[int]) -> list[ProtocolRun]:
    """Return every run of both protocols: one per seed and fold, or per seed where the published split is one.

    The sizes are those of the recipe's `published.split`, or of its `folds`; the records' own folds do not count.
    """
    split = recipe.published.split if recipe.published else None
    runs = []
    for seed in seeds:
        own = recipe.model_copy(update={"seed": seed})
        for protocol in PROTOCOLS:
            parts = cut(records, split or [1.0] * recipe.folds, seed, grouped=protocol == "grouped")
            pairs = [([r for part in parts if part is not held for r in part], held) for held in parts]
            if split is not None:
                pairs = [(parts[0], parts[2])]
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
    part has room for a group, it goes where most is left, and the sizes are kept nearly: these are in any unit, and 0
    leaves a part empty. A class that would be missing from a part is a `SplitError`.
    """
    ordered = sorted(records, key=lambda record: record.key)
    classes = sorted({record.label for record in ordered})
    room = np.stack([_shares(sum(r.label == c for r in ordered), sizes) for c in classes])
    bundles: dict[str, list[Record]] = {}
    for record in ordered:
        bundles.setdefault(record.group if grouped else record.key, []).append(record)
    rng, units = np.random.default_rng(seed), list(bundles.values())
    parts: list[list[Record]] = [[] for _ in sizes]
    for unit in sorted((units[i] for i in rng.permutation(len(units))), key=len, reverse=True):
        need = np.array([sum(record.label == c for record in unit) for c in classes])
        left = room[need > 0].sum(axis=0)
        fits = (room >= need[:, None]).all(axis=0)
        chance = np.where(fits, left, 0)
        chosen = int(rng.choice(len(parts), p=chance / chance.sum()) if fits.any() else left.argmax())
        room[:, chosen] -= need
        parts[chosen] += unit
    for number, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        if size > 0 and (missing := sorted(set(classes) - {record.label for record in part})):
            raise SplitError(
                f"Part {number} of {len(sizes)} would hold no {', '.join(missing)}.",
                expected="every class in each part",
                remedy="Use fewer or larger parts, or add scans of this class from other patients.",
            )
    return [sorted(part, key=lambda record: record.key) for part in parts]


def _shares(count: int, sizes: Sequence[float]) -> np.ndarray:
    """Divide `count` scans in proportion to sizes: whole numbers, the largest remainders rounded up."""
    exact = count * np.asarray(sizes, float) / sum(sizes)
    shares = np.floor(exact).astype(int)
    order = np.argsort(shares - exact, kind="stable")
    shares[order[: count - shares.sum()]] += 1
    return shares


def leak_study(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    seeds: Sequence[int],
    only: Sequence[int] | None = None,
    on_epoch: Callable[[ProtocolRun, dict[str, Any], int], None] = lambda *_: None,
    on_batch: Tick = lambda: None,
    cluster: str | None = None,
) -> dict[str, Any] | None:
    """Train and answer under both protocols, and write `predictions.csv` and `results.json`; a stopped study goes on.

    Each seed, of which the recipe's is none, cuts the scans and trains once per protocol and fold; `only` trains these
    folds. `on_epoch` is called with the run, its history row and the number of epochs. `cluster`: address of a Ray
    cluster, for runs side by side (see `bcx.train.runs.carry_out`). Returns what results.json holds, or None while runs
    are missing.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(
            f"The seeds are {', '.join(map(str, seeds)) or 'none'}.",
            expected="one or more, each once",
            remedy="Correct --seeds.",
        )
    task = get_task(recipe.task)
    runs = plan_protocols(recipe, records, seeds)
    left = [run for run in runs if not is_done(run, out) and (only is None or run.fold in only)]
    do = partial(_train, out, Counter(record.group for record in records))
    told: dict[str, Callable[..., object]] = {"on_epoch": on_epoch, "on_batch": on_batch}
    for _ in carry_out(left, do, told, out=out, most=len(left), cluster=cluster):
        pass
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


def _train(
    out: Path,
    in_group: Counter[str],
    run: ProtocolRun,
    on_epoch: Callable[[ProtocolRun, dict[str, Any], int], None],
    on_batch: Tick,
) -> None:
    """Train a run and write its answers, with what `in_group`, the sizes of all groups, says of copies."""
    folder, task = out / run.folder, get_task(run.recipe.task)
    with noted(folder, run.fingerprint, n_train=len(run.train), n_held=len(run.held)):
        train, inner = cut_inner(run.recipe, run.train)
        told = partial(on_epoch, run)
        fitted = fit_network(run.recipe, train, inner, out=folder, on_epoch=told, on_batch=on_batch)
        frame = pd.DataFrame(record_columns(run.held))
        frame = frame.assign(protocol=run.protocol, seed=run.recipe.seed, fold=run.fold)
        frame["copies"] = [in_group[record.group] - 1 for record in run.held]
        trained = Counter(record.group for record in run.train)
        frame["copies_in_training"] = [trained[record.group] for record in run.held]
        answers = answer_records(fitted.network, fitted.preprocess, run.held)
        frame[[f"logit_{name}" for name in task.classes]] = stacked_logits(answers, len(task.classes))
        write_leak(folder / TABLE, frame, task)


def is_done(run: ProtocolRun, out: Path) -> bool:
    """Whether a run's answers are there, of this recipe on these scans."""
    return is_finished(out / run.folder, run.fingerprint, TABLE)


def leak_columns(task: Task) -> list[str]:
    """Return the columns of the table of answers; copies are other scans of the group: in the study, trained on."""
    return [*_COLUMNS, *(f"logit_{name}" for name in task.classes)]


def write_leak(path: Path, frame: pd.DataFrame, task: Task) -> None:
    """Write the columns of the table as CSV, at once or not at all."""
    with whole(path) as file:
        frame[leak_columns(task)].to_csv(file, index=False, float_format="%.9g", lineterminator="\n")


def read_leak(path: Path, task: Task) -> pd.DataFrame:
    """Return a table that `write_leak` wrote; a `DataError` where something does not fit."""
    columns = leak_columns(task)
    kinds = {name: _COLUMNS.get(name, decimal) for name in columns}
    frame = pd.DataFrame(read_columns(path, kinds, layout=f"a CSV file with the columns {', '.join(columns)}"))
    if problem := answers_problem(frame, task, ["protocol", "seed", "file"]):
        raise DataError(
            f"The table of answers ({path.name}) {problem}.",
            expected=f"a row per protocol, seed and scan, finite logits, and the columns {', '.join(columns)}",
            remedy="Run bcx leak again.",
        )
    return frame


def summarise_leak(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return all figures of a study with answers under both protocols, ready for JSON; each {value, low, high}.

    Returns:
        `protocols`: for each `n` (answers), `scans`, `groups`, `figures` (of `figure_names`), `seeds` (`TOLD` of each)
        and `copies`: `in_training`, the share of answers about a scan of whose group another scan was trained on,
        `accuracy_with` and `accuracy_without` such a scan, and `accuracy_copied` and `accuracy_single`, that of scans
        which do and do not share a group at all. `leak`, `leak_copied`, `leak_single`: the same, random minus grouped.
    """
    names, among = figure_names(task.classes), ("copied", "single")
    where = [(frame["protocol"] == protocol).to_numpy() for protocol in PROTOCOLS]
    statistics = [_statistics(frame[chosen], task) for chosen in where]

    def all_figures(weights: np.ndarray) -> np.ndarray:
        random, grouped = (statistic(weights[chosen]) for statistic, chosen in zip(statistics, where, strict=True))
        return np.stack([random, grouped, random - grouped])

    rng = np.random.default_rng(0)
    groups, group_of = np.unique(frame["group"].to_numpy(str), return_inverse=True)
    seeds, seed_of = np.unique(frame["seed"].to_numpy(), return_inverse=True)

    def draw(count: int, position: np.ndarray) -> np.ndarray:
        return rng.multinomial(count, np.full(count, 1 / count))[position] * 1.0

    drawn = [all_figures(draw(len(groups), group_of) * draw(len(seeds), seed_of)) for _ in range(RESAMPLES)]
    values = all_figures(np.ones(len(frame)))
    bounds = [bound.reshape(values.shape) for bound in percentiles(np.stack(drawn).reshape(RESAMPLES, -1))]
    *tables, leak = (named_triples([*names, *among], rows) for rows in np.stack([values, *bounds], axis=-1))
    protocols = {}
    for protocol, chosen, figures in zip(PROTOCOLS, where, tables, strict=True):
        part = frame[chosen]
        known, right = (part["copies_in_training"] > 0).to_numpy(), _answers(part, task)[2]
        accuracy = {"accuracy_with": np.where(known, right, np.nan), "accuracy_without": np.where(known, np.nan, right)}
        copies = means_with_intervals({"in_training": known, **accuracy}, part["group"].to_list())
        reports = {
            str(seed): classification_report(*_answers(rows, task)[:2], task.classes)
            for seed, rows in part.groupby("seed")
        }
        protocols[protocol] = {
            "n": len(part),
            "scans": int(part["file"].nunique()),
            "groups": int(part["group"].nunique()),
            "figures": {name: figures[name] for name in names},
            "seeds": {seed: {name: report[name] for name in TOLD} for seed, report in reports.items()},
            "copies": copies | {f"accuracy_{kind}": figures[kind] for kind in among},
        }
    apart = {f"leak_{kind}": leak[kind] for kind in among}
    return {"protocols": protocols, "leak": {name: leak[name] for name in names}, **apart}


def _answers(part: pd.DataFrame, task: Task) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities, and which answers are right, 0 or 1."""
    labels, probabilities = label_positions(part, task), apply_temperature(logits_of(part, task))
    return labels, probabilities, (probabilities.argmax(axis=1) == labels) * 1.0


def _statistics(part: pd.DataFrame, task: Task) -> Callable[[np.ndarray], np.ndarray]:
    """A function from weights [N] to all figures, and the accuracy of scans with and without copies at the end."""
    labels, probabilities, right = _answers(part, task)
    figures = weighted_figures(labels, probabilities)
    copied = (part["copies"] > 0).to_numpy(float)

    def statistic(weights: np.ndarray) -> np.ndarray:
        if not weights.any():  # a draw of groups of which this protocol tested none
            return np.full(len(figure_names(task.classes)) + 2, np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [(weights * kind * right).sum() / (weights * kind).sum() for kind in (copied, 1 - copied)]
            return np.concatenate([figures(weights), shares])

    return statistic
