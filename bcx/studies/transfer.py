"""How far what was learnt carries: to another hospital, another machine, another way of taking and saving scans.

Each training is a run with a folder of its own: killed at any moment it goes on where it was, and finished it is not
trained again. So the parts can be asked for one after the other, or by processes side by side.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from bcx.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bcx.data.records import Record
from bcx.errors import BcxError, TrainingError
from bcx.evaluate.canvas import CYCLE, DIM, FAINT, INK, dots, paper, publish, styled
from bcx.evaluate.corruptions import suite_fingerprint
from bcx.evaluate.intervals import figures_with_intervals, means_with_intervals
from bcx.evaluate.metrics import ranked_auc
from bcx.evaluate.oof import DISTANCE, label_positions, read_oof, view_probabilities, write_oof
from bcx.studies.corruptions import (
    corruption_frame,
    lesion_score,
    read_corruption_frame,
    summarise_corruptions,
    write_corruption_frame,
)
from bcx.studies.transfer_plan import PARTS, Run, plan_every_run, plan_runs
from bcx.tasks import Task, get_task
from bcx.train.answer import answer_records, answer_scans, answer_table
from bcx.train.config import Recipe
from bcx.train.fit import Fitted, fit_network
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import ANSWERS, NETWORK, NOTE, Tick, carry_out, is_finished, noted
from bcx.train.state import STATE_FILE
from bcx.trust.calibration import apply_temperature
from bcx.trust.input_check import fit_input_check

FIGURE = "transfer.png"
CORRUPTED, CORRUPTED_NOTE = "corrupted.csv", "corrupted.json"
_MARKS = {
    "hospital": (CYCLE[0], "o", "another hospital"),
    "left-out": (CYCLE[2], "^", "a hospital left out"),
    "machine": (CYCLE[1], "s", "another machine"),
    "folds": (DIM, "D", "all sources, another fold"),
}


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
    on_epoch: Callable[[str, dict[str, Any], int], Any] = lambda *_: None,
    on_batch: Tick = lambda: None,
    on_answer: Tick = lambda: None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Train without one hospital, without one machine, without one fold; score what was left out; write it all down.

    Args:
        records: all sources together; those without a fold take no part.
        out: receives `results.json`, `transfer.png`, and a folder per run with predictions, history and network.
        parts: what to run now. "hospital" trains on each source alone and scores the others; "left-out" (of three or
            more) trains on all others and scores the one; "machine" leaves out one machine at a time; "corruption"
            answers the held-out folds of the sources that show every class under every change of the suite too.
        devices: the machine of each scan by the record's key; scans that are not in it are always trained on.
        machines: leave out only these; None: each that has scans of both kinds of lesion.
        crossval: folder of a finished cross-validation with this recipe and data (else: `TrainingError`), whose answers
            and networks the corruption part uses; without one, the folds are trained in `out/crossval`.
        on_epoch: called with the run's name, the history row, the number of epochs.
        cluster: address of a Ray cluster, for runs side by side (see `bcx.train.runs.carry_out`).

    Returns what results.json holds, of every run of this recipe and data that is finished in `out`, now or earlier.
    `ConfigError`, `DataError`, `SplitError`: a part or machine that is unknown, or not to be had from these scans.
    """
    runs = plan_runs(recipe, records, parts, devices, machines)
    lent = {run.name: crossval / run.slug for run in runs if crossval is not None and run.part == "corruption"}
    for run in runs:
        if run.name in lent and not is_finished(lent[run.name], run.fingerprint):
            raise TrainingError(
                f"'{lent[run.name].parent.name}/{run.slug}' holds no finished run of this recipe on these scans.",
                expected="the results of `bcx crossval` with the same recipe and data",
                remedy="Run it first, or name no cross-validation: the folds are then trained here.",
            )
    complete, done = partial(_complete, out=out, command=command, lent=lent), partial(is_done, out=out)
    told: dict[str, Callable[..., object]] = {"on_epoch": on_epoch, "on_batch": on_batch, "on_answer": on_answer}
    for _ in carry_out(runs, complete, told, out=out, most=len(runs), is_done=done, cluster=cluster):
        pass
    every = plan_every_run(recipe, records, devices)
    while True:
        finished = list(filter(done, every))
        results = _summarise(recipe, records, finished, every, out, command)
        # Another process may have finished a run, and summarised without this one's, meanwhile.
        if len(finished) == sum(map(done, every)):
            return results


def is_done(run: Run, out: Path) -> bool:
    """Whether a run is trained and has answered all that it is to answer."""
    return _is_answered(run, out) and (not run.corrupted or _is_corrupted(run, out))


def _is_answered(run: Run, out: Path) -> bool:
    folder = out / run.folder
    with suppress(BcxError):
        if is_finished(folder, run.fingerprint):
            answers = read_oof(folder / ANSWERS, get_task(run.recipe.task))
            return list(answers["file"]) == [record.key for record in run.held]
    return False


def _is_corrupted(run: Run, out: Path) -> bool:
    note = out / run.folder / CORRUPTED_NOTE
    with suppress(BcxError):
        if note.is_file() and read_json(note) == {"fingerprint": run.fingerprint, "suite": suite_fingerprint()}:
            answers = read_corruption_frame(out / run.folder / CORRUPTED, get_task(run.recipe.task))
            return set(answers["file"]) == {record.key for record in run.corrupted}
    return False


def _complete(
    run: Run,
    out: Path,
    command: str,
    lent: Mapping[str, Path],
    on_epoch: Callable[[str, dict[str, Any], int], Any],
    on_batch: Tick,
    on_answer: Tick,
) -> None:
    """Train the run and write its predictions, where they are not there yet; `lent`: folds of a cross-validation."""
    folder, task, fold = out / run.folder, get_task(run.recipe.task), lent.get(run.name)
    if fold is not None and not is_finished(folder, run.fingerprint):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fold / ANSWERS, folder / ANSWERS)
        write_json(folder / NOTE, read_json(fold / NOTE))

    def kept() -> Checkpoint | None:
        """The network of this run, where it was kept; its weights may be rounded."""
        for place in (folder, fold):
            if place is not None and is_finished(place, run.fingerprint, f"{NETWORK}/config.json"):
                return load_checkpoint(place / NETWORK)
        return None

    def train() -> Fitted:
        report = partial(on_epoch, run.name)
        fitted = fit_network(run.recipe, run.train, run.inner, out=folder, on_epoch=report, on_batch=on_batch)
        save_checkpoint(folder / NETWORK, fitted.network, task=task, preprocess=fitted.preprocess)
        return fitted

    if not _is_answered(run, out):
        classes = sorted({record.label for record in run.train})  # no network knows a class that it never saw
        counts = {"n_train": len(run.train), "n_inner": len(run.inner), "n_held": len(run.held)}
        with noted(folder, run.fingerprint, **counts, classes=classes, command=command):
            used = kept() or train()
            table, stages = answer_table(used.network, used.preprocess, run.held, run.number, task, on_answer)
            if run.part == "left-out":  # how far each scan lies from those learned from
                learned = np.stack([r.stages for r in answer_records(used.network, used.preprocess, run.train)])
                input_check = fit_input_check(learned, np.array([record.fold for record in run.train]))
                table[DISTANCE] = input_check.distances(stages)
            write_oof(folder / ANSWERS, table, task)
    if run.corrupted and not _is_corrupted(run, out):
        if kept() is None:  # answered by a cross-validation that did not keep its networks
            train()
        network = kept()
        assert network is not None

        def answer(images: Iterable[np.ndarray]) -> np.ndarray:
            logits = []
            for reading in answer_scans(network.network, network.preprocess, images):
                logits.append(reading.logits)
                on_answer()
            return apply_temperature(np.stack(logits))

        write_corruption_frame(folder / CORRUPTED, corruption_frame(answer, run.corrupted, task, run.number))
        write_json(folder / CORRUPTED_NOTE, {"fingerprint": run.fingerprint, "suite": suite_fingerprint()})
    (folder / STATE_FILE).unlink(missing_ok=True)


def _summarise(
    recipe: Recipe, records: Sequence[Record], runs: Sequence[Run], every: Sequence[Run], out: Path, command: str
) -> dict[str, Any]:
    task = get_task(recipe.task)
    folds = [run for run in runs if run.part == "corruption"]
    if len(folds) < sum(run.part == "corruption" for run in every):  # pooled figures need every fold
        runs, folds = [run for run in runs if run.part != "corruption"], []
    notes = [read_json(out / run.folder / NOTE) for run in runs]
    results: dict[str, Any] = {
        "what": "transfer: scored on hospitals, machines and kinds of picture that were not trained on",
        **describe_run(recipe, records, command),
        "seconds": round(sum(note["seconds"] for note in notes), 1),
        "runs": [{"name": run.name, **note} for run, note in zip(runs, notes, strict=True)],
        "note": "One view; the answer is the most probable class. auc: the positive class against the other lesions, "
        "scans without a lesion left out; sensitivity: positive scans called positive; specificity: other lesions not "
        "called positive.",
        "table": _table([(run, read_oof(out / run.folder / ANSWERS, task)) for run in runs], task),
    }
    if folds:
        frames = [read_corruption_frame(out / run.folder / CORRUPTED, task) for run in folds if run.corrupted]
        results["corruption"] = summarise_corruptions(pd.concat(frames, ignore_index=True), task)
    out.mkdir(parents=True, exist_ok=True)
    write_transfer_figure(results, out / FIGURE)
    results["figure"] = FIGURE
    write_json(out / "results.json", results)
    return results


def _table(answers: Sequence[tuple[Run, pd.DataFrame]], task: Task) -> list[dict[str, Any]]:
    """One row per pair of training and scoring set; machines and folds are pooled as well."""
    rows: list[tuple[str, str, Any, int | None, pd.DataFrame]] = []
    for run, frame in answers:
        if run.part != "corruption":
            scored = frame.groupby("source") if run.part == "hospital" else [(run.score_on, frame)]
            rows += [(run.part, run.train_on, name, len(run.train), part) for name, part in scored]
    machines, folds = ([frame for run, frame in answers if run.part == part] for part in ("machine", "corruption"))
    if len(machines) > 1:
        rows.append(("machine", "every other machine", "the machines above, pooled", None, pd.concat(machines)))
    for source, part in pd.concat(folds).groupby("source") if len(folds) > 1 else ():
        rows.append(("folds", "the other folds of every source", source, None, part))
    keys = ("part", "train_on", "score_on", "n_train")
    return [dict(zip(keys, about, strict=True)) | lesion_row(frame, task) for *about, frame in rows]


def lesion_row(frame: pd.DataFrame, task: Task) -> dict[str, Any]:
    """Return the figures of one table of answers by one view, with intervals.

    `auc` is of the positive class against the other lesions, whatever the absent class got, `specificity` the share of
    other lesions not called positive.
    """
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    probabilities = view_probabilities(frame, task)[0]
    is_positive, is_absent = (np.array(task.classes) == name for name in (task.positive, task.absent))
    positive, lesion, called = is_positive[labels], ~is_absent[labels], probabilities.argmax(axis=1)
    area, count = ranked_auc(lesion_score(probabilities, task), positive), int(lesion.sum())
    shares = {
        "sensitivity": np.where(positive, is_positive[called], np.nan),
        "specificity": np.where(lesion & ~positive, ~is_positive[called], np.nan),
        "lesions_called_absent": np.where(lesion, is_absent[called], np.nan),
        "absent_called_absent": np.where(lesion, np.nan, is_absent[called]),
    }
    return {
        "n": len(labels),
        "lesions": count,
        "groups": len(np.unique(groups)),
        **figures_with_intervals(lambda weights: np.array([area(weights * lesion)]), {"auc": count}, groups),
        **means_with_intervals(shares, groups),
    }


@styled
def write_transfer_figure(results: Mapping[str, Any], path: Path) -> None:
    """Draw the table of `transfer_study`'s results, and the drops under corruption where there are any, into a PNG."""
    table, corruption = results["table"], results.get("corruption")
    drops = {}
    if corruption:
        drops = {"mean over the suite": corruption["mean_drop"]} | {k["kind"]: k["drop"] for k in corruption["kinds"]}
    rows = [count for count in (len(table), len(drops)) if count]
    height = 0.27 * sum(rows) + 1.3 * len(rows)
    figure, panels = paper(7.5, height, len(rows), height_ratios=[count + 2 for count in rows])
    if table:
        for part, style in _MARKS.items():
            if found := {-place: row["auc"] for place, row in enumerate(table) if row["part"] == part}:
                dots(panels[0], list(found), list(found.values()), *style)
        starts = (f"{row['train_on']} → " if row["part"] == "hospital" else "" for row in table)
        names = [f"{start}{row['score_on']} ({row['lesions']})" for start, row in zip(starts, table, strict=True)]
        panels[0].set_xlabel("ROC-AUC, malignant against benign, with 95 % interval (lesions scored)")
        _rows(panels[0], names, "What was not trained on")
    if corruption:
        axes, places = panels[-1], -np.arange(len(drops), dtype=float)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.axhline(-0.5, color=FAINT, linewidth=0.8)
        macro, lesion = ([drop[name] for drop in drops.values()] for name in ("macro_auc", "lesion_auc"))
        dots(axes, places + 0.15, macro, CYCLE[0], "o", "macro, one against the rest")
        dots(axes, places - 0.15, lesion, CYCLE[1], "s", "malignant against benign")
        axes.set_xlabel("drop in ROC-AUC against the unchanged scans, with 95 % interval")
        _rows(axes, list(drops), f"What each change of the image costs ({corruption['n']} scans)")
    publish(figure, path)


def _rows(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(-np.arange(len(names)), names)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.set_title(title, pad=20)
    axes.grid(False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, borderaxespad=0.1, handletextpad=0.2)
