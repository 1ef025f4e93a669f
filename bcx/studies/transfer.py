"""How far what was learnt carries: to another hospital, another machine, another way of taking and saving pictures.

results = transfer_study(recipe, records, out=Path("results/my-model/transfer"), command="bcx ...")
results["table"][0]      # {"train_on": "busbra", "score_on": "busi", "auc": {"value": ..., "low": ...}, ...}

Each training is a run with a folder of its own: killed at any moment it goes on where it was, and finished it is not
trained again. So the parts can be asked for one after the other, or by processes side by side; the results always hold
every run that is finished. The runs of the corruption part are the folds of a cross-validation: those of
`bcx crossval` with the same recipe and data can be used.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.errors import BcxError, TrainingError
from bcx.evaluate.corruptions import suite_fingerprint
from bcx.evaluate.intervals import bootstrap_interval, means_with_intervals
from bcx.evaluate.metrics import or_none, ranked_auc
from bcx.evaluate.oof import DISTANCE, label_positions, oof_frame, read_oof, view_probabilities, write_oof
from bcx.imaging.preprocess import Preprocess
from bcx.imaging.scan import Scan
from bcx.studies.corruptions import (
    corruption_frame,
    lesion_score,
    read_corruption_frame,
    summarise_corruptions,
    write_corruption_frame,
)
from bcx.studies.transfer_figure import write_transfer_figure
from bcx.studies.transfer_plan import PARTS, Run, plan_every_run, plan_runs
from bcx.tasks import Task, get_task
from bcx.train.answer import answer_records, answer_scans, stacked_logits
from bcx.train.config import Recipe
from bcx.train.fit import STATE_FILE, run_fingerprint
from bcx.train.members import NETWORK, fit_network, member_seconds
from bcx.train.provenance import current_commit, describe_run, read_json, write_json
from bcx.trust.calibration import apply_temperature
from bcx.trust.input_check import fit_input_check

if TYPE_CHECKING:
    import pandas as pd
    from torch import nn

FIGURE = "transfer.png"
_AT_ONCE = 64  # scans whose answers, maps included, are in memory together


def transfer_study(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    out: Path,
    command: str,
    parts: Sequence[str] = PARTS,
    devices: Mapping[str, str] | None = None,
    machines: Sequence[str] | None = None,
    crossval: Path | None = None,
    on_epoch: Callable[[str, dict[str, Any], int], None] | None = None,
    on_batch: Callable[[], None] | None = None,
    on_picture: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Train without one hospital, without one machine, without one fold; score what was left out; write it all down.

    Args:
        recipe: every setting; the same for all runs.
        records: all sources together, with folds; those without one take no part.
        out: folder of the results: `results.json`, `transfer.png`, and a folder per run with its predictions
            (`oof.csv`; in the corruption part also `corrupted.csv`), history and network.
        command: the command line, for the record.
        parts: what to run now. "hospital" trains on each source alone and scores the others; "left-out" (of three or
            more) trains on all others and scores the one; "machine" leaves out one
            machine at a time; "corruption" answers the held-out folds of the sources that show every class once more
            under every change of `bcx.evaluate.corruptions`.
        devices: the machine of each scan by the record's key (see `bcx.data.busbra.busbra_devices`); scans that are not
            in it are always trained on.
        machines: leave out only these; None: each that has scans of both kinds of lesion.
        crossval: folder of a finished cross-validation with this recipe and data, whose answers and networks the
            corruption part uses; nothing is written there. Without one, the folds are trained in `out/crossval`.
        on_epoch: called with the run's name, the history row, the number of epochs.
        on_batch: called after every training step.
        on_picture: called after every picture that a network answered.

    Returns:
        What results.json holds, of every run of this recipe and data that is finished in `out`, whether it was asked
        for now or earlier: `table`, a row per pair of training and scoring set (`lesion_row`), and `corruption` (see
        `summarise_corruptions`) once all folds are there. Runs that left out a machine are found where `devices` are
        given.

    Raises:
        ConfigError: an unknown part or machine.
        DataError: one source only, no machines known, or a scan that cannot be read.
        SplitError: no folds, or a group on both sides.
        TrainingError: `crossval` is of another recipe or other data, or as `bcx.train.fit.fit`.
    """
    task = get_task(recipe.task)
    runs = plan_runs(recipe, records, parts, devices, machines)
    if crossval is not None:
        _require_folds(crossval, recipe, [run for run in runs if run.part == "corruption"])
    for run in runs:

        def report(row: dict[str, Any], epochs: int, name: str = run.name) -> None:
            if on_epoch:
                on_epoch(name, row, epochs)

        lent = crossval / run.folder if crossval is not None and run.part == "corruption" else None
        _complete(run, recipe, run_folder(out, run), task, command, report, on_batch, on_picture, lent)
    every = plan_every_run(recipe, records, devices)
    while True:
        finished = [run for run in every if is_finished(run, recipe, out)]
        results = _summarise(recipe, records, finished, every, out, command)
        # Another process may have finished a run, and summarised without this one's, meanwhile.
        if len(finished) == sum(is_finished(run, recipe, out) for run in every):
            return results


def run_folder(out: Path, run: Run) -> Path:
    """Return where a run of the study in `out` lies."""
    return (out / "crossval" if run.part == "corruption" else out) / run.folder


def is_finished(run: Run, recipe: Recipe, out: Path) -> bool:
    """Whether a run is trained and has answered all that it is to answer."""
    task, folder = get_task(recipe.task), run_folder(out, run)
    fingerprint = run_fingerprint(recipe, run.train, run.inner)
    answered = _is_answered(folder, fingerprint, run.held, task)
    return answered and (not run.corrupted or _is_corrupted(folder, fingerprint, run.corrupted, task))


def _summarise(
    recipe: Recipe, records: Sequence[Record], runs: Sequence[Run], every: Sequence[Run], out: Path, command: str
) -> dict[str, Any]:
    """Write what the finished runs say."""
    task = get_task(recipe.task)
    folds = [run for run in runs if run.part == "corruption"]
    if len(folds) < sum(run.part == "corruption" for run in every):  # pooled figures need every fold
        runs, folds = [run for run in runs if run.part != "corruption"], []
    notes = [read_json(run_folder(out, run) / "run.json") for run in runs]
    results: dict[str, Any] = {
        "what": "transfer: scored on hospitals, machines and kinds of picture that were not trained on",
        **describe_run(recipe, records, command),
        "seconds": round(sum(note["seconds"] for note in notes), 1),
        "runs": [{"name": run.name, **note} for run, note in zip(runs, notes, strict=True)],
        "note": "One view; the answer is the most probable class. auc: the positive class against the other lesions, "
        "scans without a lesion left out; sensitivity: positive scans called positive; specificity: other lesions not "
        "called positive.",
        "table": _table(runs, {run.name: read_oof(run_folder(out, run) / "oof.csv", task) for run in runs}, task),
    }
    if folds:
        import pandas as pd

        frames = [read_corruption_frame(run_folder(out, run) / "corrupted.csv", task) for run in folds if run.corrupted]
        results["corruption"] = summarise_corruptions(pd.concat(frames, ignore_index=True), task)
    out.mkdir(parents=True, exist_ok=True)
    write_transfer_figure(results, out / FIGURE)
    results["figure"] = FIGURE
    write_json(out / "results.json", results)
    return results


def _require_folds(crossval: Path, recipe: Recipe, runs: Sequence[Run]) -> None:
    """Make sure that what is lent belongs to this recipe and these scans."""
    for run in runs:
        if not _is_of(crossval / run.folder / "run.json", run_fingerprint(recipe, run.train, run.inner)):
            raise TrainingError(
                f"'{crossval.name}/{run.folder}' holds no finished run of this recipe on these scans.",
                expected="the results of `bcx crossval` with the same recipe and data",
                remedy="Run it first, or name no cross-validation: the folds are then trained here.",
            )


def _complete(
    run: Run,
    recipe: Recipe,
    folder: Path,
    task: Task,
    command: str,
    report: Callable[[dict[str, Any], int], None],
    on_batch: Callable[[], None] | None = None,
    on_picture: Callable[[], None] | None = None,
    lent: Path | None = None,
) -> None:
    """Train the run and write its predictions, where they are not there yet; `lent`: the fold of a cross-validation."""
    fingerprint = run_fingerprint(recipe, run.train, run.inner)
    if lent is not None and not _is_of(folder / "run.json", fingerprint):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(lent / "oof.csv", folder / "oof.csv")
        write_json(folder / "run.json", read_json(lent / "run.json"))

    def kept() -> Checkpoint | None:
        return _kept(folder, fingerprint) or (_kept(lent, fingerprint) if lent is not None else None)

    def train() -> tuple[nn.Module, Preprocess]:
        fitted = fit_network(recipe, run.train, run.inner, out=folder, on_epoch=report, on_batch=on_batch)
        save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
        return fitted.network, fitted.preprocess

    if not _is_answered(folder, fingerprint, run.held, task):
        started, commit = time.perf_counter(), current_commit()
        reader = kept()
        network, preprocess = (reader.network, reader.preprocess) if reader else train()
        straight, mirrored = (
            _logits(network, preprocess, (Scan.open(r.file).pixels for r in run.held), task, on_picture, mirror=mirror)
            for mirror in (False, True)
        )
        frame = oof_frame(run.held, run.number, straight, mirrored, task)
        if run.part == "left-out":
            frame[DISTANCE] = distances(network, preprocess, run.train, run.held)
        write_oof(folder / "oof.csv", frame, task)
        note: dict[str, Any] = {
            "n_train": len(run.train),
            "n_inner": len(run.inner),
            "n_held": len(run.held),
            "commit": commit,
        }
        note["classes"] = sorted({record.label for record in run.train})  # no network knows a class that it never saw
        seconds = round(max(time.perf_counter() - started, member_seconds(folder)), 1)  # members may be older
        write_json(folder / "run.json", {"fingerprint": fingerprint, **note, "command": command, "seconds": seconds})
    if run.corrupted and not _is_corrupted(folder, fingerprint, run.corrupted, task):
        if kept() is None:  # answered by a cross-validation that did not keep its networks
            train()
        reader = kept()
        assert reader is not None

        def answer(pictures: Iterable[np.ndarray]) -> np.ndarray:
            return apply_temperature(_logits(reader.network, reader.preprocess, pictures, task, on_picture))

        write_corruption_frame(folder / "corrupted.csv", corruption_frame(answer, run.corrupted, task, run.number))
        write_json(folder / "corrupted.json", {"fingerprint": fingerprint, "suite": suite_fingerprint()})
    (folder / STATE_FILE).unlink(missing_ok=True)


def distances(
    network: nn.Module, preprocess: Preprocess, train: Sequence[Record], held: Sequence[Record]
) -> np.ndarray:
    """Return float32 `[N]`: how far scans lie from those that a network learned from, by an input check fitted on them.

    Args:
        train: what it learned from, with folds.
        held: N scans that it never saw.
    """
    learned, others = (
        np.concatenate(
            [
                np.stack([reading.stages for reading in answer_records(network, preprocess, part[i : i + _AT_ONCE])])
                for i in range(0, len(part), _AT_ONCE)
            ]
        )
        for part in (train, held)
    )
    return fit_input_check(learned, np.array([record.fold for record in train])).distances(others)


def _logits(
    network: nn.Module,
    preprocess: Preprocess,
    pictures: Iterable[np.ndarray],
    task: Task,
    on_picture: Callable[[], None] | None = None,
    *,
    mirror: bool = False,
) -> np.ndarray:
    """Return float32 `[N, C]`, before temperature, by the same path as serving; maps are not kept."""
    waiting, rows = iter(pictures), []
    while some := list(islice(waiting, _AT_ONCE)):
        readings = answer_scans(network, preprocess, some, mirror=mirror)
        rows.append(stacked_logits(readings, len(task.classes)))
        for _ in some:
            if on_picture:
                on_picture()
    return np.concatenate(rows) if rows else np.zeros((0, len(task.classes)), np.float32)


def _kept(folder: Path, fingerprint: str) -> Checkpoint | None:
    """Return the network of a finished run, if that is this run and it was kept (its weights may be rounded)."""
    if not _is_of(folder / "run.json", fingerprint) or not (folder / NETWORK / "config.json").is_file():
        return None
    return load_checkpoint(folder / NETWORK)


def _is_of(note: Path, fingerprint: str) -> bool:
    return note.is_file() and read_json(note)["fingerprint"] == fingerprint


def _is_answered(folder: Path, fingerprint: str, held: Sequence[Record], task: Task) -> bool:
    if not _is_of(folder / "run.json", fingerprint):
        return False
    try:
        return list(read_oof(folder / "oof.csv", task)["file"]) == [record.key for record in held]
    except BcxError:
        return False


def _is_corrupted(folder: Path, fingerprint: str, corrupted: Sequence[Record], task: Task) -> bool:
    note = folder / "corrupted.json"
    if not _is_of(note, fingerprint) or read_json(note)["suite"] != suite_fingerprint():
        return False
    try:
        return set(read_corruption_frame(folder / "corrupted.csv", task)["file"]) == {r.key for r in corrupted}
    except BcxError:
        return False


def _table(runs: Sequence[Run], answers: Mapping[str, pd.DataFrame], task: Task) -> list[dict[str, Any]]:
    """One row per pair of training and scoring set; machines and folds are pooled as well."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
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
            words = {"part": part, "train_on": "every other machine", "score_on": "the machines above, pooled"}
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
