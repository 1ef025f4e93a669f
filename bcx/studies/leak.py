"""Measure a leak: the same recipe under a random split, as published, and under a grouped one."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from bcx.data.records import Record
from bcx.errors import ConfigError
from bcx.studies.leak_figures import leak_frame, read_leak, summarise_leak, write_leak
from bcx.studies.protocols import ProtocolRun, plan_protocols
from bcx.tasks import get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.config import Recipe
from bcx.train.crossval import cut_inner
from bcx.train.fit import STATE_FILE, run_fingerprint
from bcx.train.members import fit_network
from bcx.train.provenance import current_commit, describe_run, read_json, write_json

TABLE = "predictions.csv"
_NOTE = "run.json"


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
    """Train and answer under both protocols, and write `predictions.csv` and `results.json`.

    Both protocols train on as many scans of each class; under the random one, other scans of a test scan's group may be
    among them. Stopped at any moment, the same call goes on where it was; finished runs are not trained again.

    Args:
        recipe: every setting; its `published` block says how to split. Its own seed is not used.
        out: folder of the results; `runs/PROTOCOL-SEED-FOLD/` inside holds each run's history and answers.
        seeds: each cuts the scans and trains once per protocol and fold.
        only: train these folds only; the summary is written once every fold is there.
        on_epoch: called with the run, its history row and the number of epochs.

    Returns:
        What results.json holds, or None while runs are missing.

    Raises:
        ConfigError: no seed, or a seed twice.
        SplitError: too few scans or groups for every part.
        As `bcx.train.fit.fit`.
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
        started, commit = time.perf_counter(), current_commit()
        train, inner = cut_inner(run.recipe, run.train)
        told = partial(on_epoch, run)
        fitted = fit_network(run.recipe, train, inner, out=folder, on_epoch=told, on_batch=on_batch)
        readings = answer_records(fitted.network, fitted.preprocess, run.held)
        frame = leak_frame(
            run.held,
            stacked_logits(readings, len(task.classes)),
            task,
            protocol=run.protocol,
            seed=run.recipe.seed,
            fold=run.fold,
            copies=[in_group[record.group] - 1 for record in run.held],
            copies_in_training=run.copies_in_training(),
        )
        write_leak(folder / TABLE, frame, task)
        note = {"fingerprint": _fingerprint(run), "n_train": len(run.train), "n_held": len(run.held), "commit": commit}
        write_json(folder / _NOTE, note | {"seconds": round(time.perf_counter() - started, 1)})
        (folder / STATE_FILE).unlink(missing_ok=True)
    if not all(is_done(run, out) for run in runs):
        return None
    frame = pd.concat([read_leak(out / run.folder / TABLE, task) for run in runs], ignore_index=True)
    write_leak(out / TABLE, frame, task)
    notes = [read_json(out / run.folder / _NOTE) for run in runs]
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
    note = out / run.folder / _NOTE
    found = note.is_file() and (out / run.folder / TABLE).is_file()
    return found and read_json(note)["fingerprint"] == _fingerprint(run)


def _fingerprint(run: ProtocolRun) -> str:
    content = [run_fingerprint(run.recipe, run.train, []), [record.key for record in run.held]]
    return hashlib.sha256(repr(content).encode()).hexdigest()
