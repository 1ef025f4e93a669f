"""How far what was learnt carries: to another hospital, another machine, another way of taking and saving pictures.

results = transfer_study(recipe, records, out=Path("results/my-model/transfer"), command="bcx ...")
results["table"][0]      # {"train_on": "busbra", "score_on": "busi", "auc": {"value": ..., "low": ...}, ...}

Each training is a run with a folder of its own: killed at any moment it goes on where it was, and finished it is not
trained again. The folders of the corruption part are those of a cross-validation: `bcx crossval --out OUT/crossval`
with the same recipe and data finds its folds done.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.data.records import Record
from bcx.data.splits import check_split
from bcx.errors import BcxError, ConfigError, DataError
from bcx.evaluate.corruption_study import (
    corruption_frame,
    lesion_score,
    read_corruption_frame,
    summarise_corruptions,
    write_corruption_frame,
)
from bcx.evaluate.corruptions import suite_fingerprint
from bcx.evaluate.intervals import bootstrap_interval, ranked_auc
from bcx.evaluate.means import means_with_intervals, or_none
from bcx.evaluate.oof import label_positions, oof_frame, read_oof, view_probabilities, write_oof
from bcx.evaluate.transfer_figure import write_transfer_figure
from bcx.images import Scan
from bcx.tasks import Task, get_task
from bcx.train.answer import answer_scans, stacked_logits
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner, split_fold
from bcx.train.fit import STATE_FILE, Fitted, fit, run_fingerprint
from bcx.train.provenance import current_commit, describe_run, read_json, write_json
from bcx.trust.calibration import apply_temperature

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("hospital", "machine", "corruption")
FIGURE = "transfer.png"
_AT_ONCE = 64  # scans whose answers, maps included, are in memory together


@dataclass(frozen=True)
class Run:
    """One training and what it answers.

    Attributes:
        name: as shown while it runs.
        folder: below the study's folder.
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
    if "machine" in parts:
        runs += _machines(recipe, used, devices or {})
    if "corruption" in parts:
        runs += _folds(recipe, used)
    return runs


def _run(recipe: Recipe, train: list[Record], held: list[Record], corrupted: list[Record], **words: Any) -> Run:
    check_split(train, held)
    train, inner = cut_inner(recipe, train)
    return Run(**words, train=train, inner=inner, held=held, corrupted=corrupted)


def _hospitals(recipe: Recipe, records: Sequence[Record]) -> list[Run]:
    sources = sorted({record.source for record in records})
    if len(sources) < 2:
        raise DataError(
            f"The scans come from {len(sources)} source{'s' if len(sources) != 1 else ''}.",
            expected="two hospitals or more, each a source of its own",
            remedy="Name another source with --data, or leave the part 'hospital' out.",
        )
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


def _machines(recipe: Recipe, records: Sequence[Record], devices: Mapping[str, str]) -> list[Run]:
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
    return runs


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
        words = {"name": f"fold {fold}", "folder": f"crossval/fold-{fold}", "part": "corruption"}
        words |= {"train_on": "the other folds of every source", "score_on": f"fold {fold}"}
        runs.append(_run(recipe, train, held, [r for r in held if r.source in whole], **words, number=fold))
    return runs


def transfer_study(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    parts: Sequence[str] = PARTS,
    devices: Mapping[str, str] | None = None,
    on_epoch: Callable[[str, dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train without one hospital, without one machine, without one fold; score what was left out; write it all down.

    Args:
        recipe: every setting; the same for all runs.
        records: all sources together, with folds; those without one take no part.
        out: folder of the results: `results.json`, `transfer.png`, and a folder per run with its predictions
            (`oof.csv`; in the corruption part also `corrupted.csv`) and history.
        command: the command line, for the record.
        parts: "hospital" trains on each source alone and scores the others; "machine" leaves out one machine at a time;
            "corruption" answers the held-out folds of the sources that show every class once more under every change of
            `bcx.evaluate.corruptions`.
        devices: the machine of each scan by the record's key (see `bcx.data.busbra.busbra_devices`); scans that are not
            in it are always trained on.
        on_epoch: called with the run's name, the history row, the number of epochs.
        on_batch: called after every training step.

    Returns:
        What results.json holds: `table`, a row per pair of training and scoring set (`lesion_row`), and `corruption`
        (see `summarise_corruptions`) where that part was asked for.

    Raises:
        ConfigError: an unknown part.
        DataError: one source only, no machines known, or a scan that cannot be read.
        SplitError: no folds, or a group on both sides.
        TrainingError: as `bcx.train.fit.fit`.
    """
    task = get_task(recipe.task)
    runs = plan_runs(recipe, records, parts, devices)
    for run in runs:

        def report(row: dict[str, Any], epochs: int, name: str = run.name) -> None:
            if on_epoch:
                on_epoch(name, row, epochs)

        _complete(run, recipe, out / run.folder, task, report, on_batch)
    notes = [read_json(out / run.folder / "run.json") for run in runs]
    results: dict[str, Any] = {
        "what": "transfer: scored on hospitals, machines and kinds of picture that were not trained on",
        **describe_run(recipe, records, command),
        "seconds": round(sum(note["seconds"] for note in notes), 1),
        "runs": [{"name": run.name, "folder": run.folder, **note} for run, note in zip(runs, notes, strict=True)],
        "note": "One view; the answer is the most probable class. auc: the positive class against the other lesions, "
        "scans without a lesion left out; sensitivity: positive scans called positive; specificity: other lesions not "
        "called positive.",
        "table": _table(runs, out, task),
    }
    folds = [run for run in runs if run.part == "corruption"]
    if folds:
        import pandas as pd

        frames = [read_corruption_frame(out / run.folder / "corrupted.csv", task) for run in folds if run.corrupted]
        results["corruption"] = summarise_corruptions(pd.concat(frames, ignore_index=True), task)
    write_transfer_figure(results, out / FIGURE)
    results["figure"] = FIGURE
    write_json(out / "results.json", results)
    return results


def _complete(
    run: Run,
    recipe: Recipe,
    folder: Path,
    task: Task,
    report: Callable[[dict[str, Any], int], None],
    on_batch: Callable[[], None] | None,
) -> None:
    """Train the run and write its predictions, where they are not there yet."""
    fingerprint = run_fingerprint(recipe, run.train, run.inner)
    answered = _is_answered(folder, fingerprint, run.held, task)
    corrupted = not run.corrupted or _is_corrupted(folder, fingerprint, run.corrupted, task)
    if answered and corrupted:
        return
    started, commit = time.perf_counter(), current_commit()
    fitted = fit(recipe, run.train, run.inner, out=folder, on_epoch=report, on_batch=on_batch)
    if not corrupted:

        def answer(pictures: Iterable[np.ndarray]) -> np.ndarray:
            return apply_temperature(_logits(fitted, pictures, task))

        write_corruption_frame(folder / "corrupted.csv", corruption_frame(answer, run.corrupted, task, run.number))
        write_json(folder / "corrupted.json", {"fingerprint": fingerprint, "suite": suite_fingerprint()})
    if not answered:
        straight, mirrored = (
            _logits(fitted, (Scan.open(record.file).pixels for record in run.held), task, mirror=mirror)
            for mirror in (False, True)
        )
        write_oof(folder / "oof.csv", oof_frame(run.held, run.number, straight, mirrored, task), task)
        note = {"n_train": len(run.train), "n_inner": len(run.inner), "n_held": len(run.held), "commit": commit}
        seconds = round(time.perf_counter() - started, 1)
        write_json(folder / "run.json", {"fingerprint": fingerprint, **note, "seconds": seconds})
    (folder / STATE_FILE).unlink(missing_ok=True)


def _logits(fitted: Fitted, pictures: Iterable[np.ndarray], task: Task, *, mirror: bool = False) -> np.ndarray:
    """Return float32 `[N, C]`, before temperature, by the same path as serving; memory does not grow with maps."""
    waiting, rows = iter(pictures), []
    while some := list(islice(waiting, _AT_ONCE)):
        readings = answer_scans(fitted.network, fitted.preprocess, some, mirror=mirror)
        rows.append(stacked_logits(readings, len(task.classes)))
    return np.concatenate(rows) if rows else np.zeros((0, len(task.classes)), np.float32)


def _is_answered(folder: Path, fingerprint: str, held: Sequence[Record], task: Task) -> bool:
    note = folder / "run.json"
    if not note.is_file() or read_json(note)["fingerprint"] != fingerprint:
        return False
    try:
        return list(read_oof(folder / "oof.csv", task)["file"]) == [record.key for record in held]
    except BcxError:
        return False


def _is_corrupted(folder: Path, fingerprint: str, corrupted: Sequence[Record], task: Task) -> bool:
    note = folder / "corrupted.json"
    if not note.is_file() or read_json(note) != {"fingerprint": fingerprint, "suite": suite_fingerprint()}:
        return False
    try:
        return set(read_corruption_frame(folder / "corrupted.csv", task)["file"]) == {r.key for r in corrupted}
    except BcxError:
        return False


def _table(runs: Sequence[Run], out: Path, task: Task) -> list[dict[str, Any]]:
    """One row per pair of training and scoring set; machines and folds are pooled as well."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    answers = {run.name: read_oof(out / run.folder / "oof.csv", task) for run in runs}
    for run in runs:
        if run.part == "corruption":
            continue
        frame = answers[run.name]
        by_source = frame.groupby("source", sort=True) if run.part == "hospital" else [(run.score_on, frame)]
        for scored, part in by_source:
            words = {"part": run.part, "train_on": run.train_on, "score_on": scored, "n_train": len(run.train)}
            rows.append(words | lesion_row(part, task))
    for part, source in (("machine", None), ("corruption", "source")):
        of = [answers[run.name] for run in runs if run.part == part]
        if len(of) < 2:
            continue
        pooled = pd.concat(of, ignore_index=True)
        if source is None:
            words = {"part": part, "train_on": "every other machine", "score_on": "each machine, pooled"}
            rows.append(words | {"n_train": None} | lesion_row(pooled, task))
            continue
        for name, frame in pooled.groupby(source, sort=True):
            words = {"part": "folds", "train_on": "the other folds of every source", "score_on": name, "n_train": None}
            rows.append(words | lesion_row(frame, task))
    return rows


def lesion_row(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return the figures of one set of answers by one view; lesions count, scans without one only where it is said.

    Args:
        frame: as `bcx.evaluate.oof.read_oof` returns it.
        task: gives the positive class and the absent one.

    Returns:
        `n`, `lesions`, `groups`, and as {value, low, high, n}: `auc` (positive class against the other lesions,
        whatever the absent class got), `sensitivity`, `specificity` (other lesions not called positive),
        `lesions_called_absent` and `absent_called_absent`.
    """
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    probabilities = view_probabilities(frame, task)[0]
    called = probabilities.argmax(axis=1)
    positive = labels == task.classes.index(task.positive)
    absent = np.array([name == task.absent for name in task.classes])
    lesion = ~absent[labels]
    area = ranked_auc(lesion_score(probabilities, task), positive)

    def auc(weights: np.ndarray) -> float:
        return area(weights * lesion)

    low, high = bootstrap_interval(auc, groups)
    value = auc(np.ones(len(labels)))
    right = called == labels
    shares = {
        "sensitivity": np.where(positive, right, np.nan),
        "specificity": np.where(lesion & ~positive, called != task.classes.index(task.positive), np.nan),
        "lesions_called_absent": np.where(lesion, absent[called], np.nan),
        "absent_called_absent": np.where(lesion, np.nan, absent[called]),
    }
    return {
        "n": len(labels),
        "lesions": int(lesion.sum()),
        "groups": len(np.unique(groups)),
        "auc": {"value": or_none(value), "low": or_none(low), "high": or_none(high), "n": int(lesion.sum())},
        **means_with_intervals(shares, groups),
    }


def _slug(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower()).strip("-")
