"""What the input check stops and what it lets pass, counted by kind."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from bcx.checkpoints.backends import choose_backend
from bcx.checkpoints.checkpoint import Checkpoint
from bcx.data.records import Record
from bcx.errors import CheckpointError
from bcx.evaluate.non_scans import NonScan
from bcx.evaluate.oof import DISTANCE
from bcx.imaging.scan import Scan
from bcx.trust.input_check import ALLOWANCE, InputCheck, check_pixels, left_out_distances

BATCH = 16


def study(
    checkpoint: Checkpoint,
    *,
    non_scans: Sequence[NonScan],
    scans: Mapping[str, Sequence[Path]],
    training: Sequence[Record],
    left_out: Mapping[str, pd.DataFrame],
) -> dict[str, Any]:
    """Judge images that are no scans, and true scans, with a checkpoint's input check; return counts ready for JSON.

    Args:
        scans: scans that the network was not trained on, by name of the set: what should pass.
        training: the scans that the input check was fitted on; each fold is judged by one fitted on the others.
        left_out: by hospital, what a network that never saw it answered, with distances; files are in `training`.
    """
    if checkpoint.input_check is None:
        raise CheckpointError(
            f"The checkpoint '{checkpoint.name}' has no input check.",
            expected="a 'gate' block in its config.json",
            remedy="Fit one with: bcx input-check fit",
        )
    task, backend = checkpoint.task, choose_backend(checkpoint)
    input_check = InputCheck.load(checkpoint.folder, checkpoint.input_check)

    def described(scans: Iterable[Scan]) -> Iterator[tuple[Scan, np.ndarray]]:
        """Yield scans with their descriptions, float32 [K]; a batch is in memory at a time."""
        waiting = iter(scans)
        while batch := list(islice(waiting, BATCH)):
            planes = np.stack([checkpoint.preprocess.plane(scan.pixels) for scan in batch])
            yield from zip(batch, backend.forward(planes).stages, strict=True)

    def judge(scans: Iterable[Scan]) -> tuple[np.ndarray, np.ndarray]:
        """Return which of them pass as scans, bool [N], and their distances, float [N]."""
        verdicts = [input_check.judge(scan, row, task) for scan, row in described(scans)]
        return np.array([v.is_scan for v in verdicts]), np.array([v.distance for v in verdicts])

    passed, distances = judge(Scan.open(image.pixels, image.name) for image in non_scans)
    table = pd.DataFrame([(image.kind, image.seen) for image in non_scans], columns=["kind", "seen"])
    table = table.assign(stopped=~passed, far=distances > input_check.allowance)
    stages = np.stack([row for _, row in described(Scan.open(record.file) for record in training)])
    by_folds = left_out_distances(stages, np.array([record.fold for record in training])) / input_check.unit
    own = _passed(by_folds <= input_check.allowance, by_folds)
    report: dict[str, Any] = {
        "input_check": checkpoint.input_check,
        "non_scans": {
            "all": _stopped(table["stopped"]),
            "kinds in view while the input check was made": _stopped(table["stopped"][table["seen"]]),
            "kinds made afterwards": _stopped(table["stopped"][~table["seen"]]),
            "distance": _quantiles(distances),
            "by_kind": {
                kind: {
                    **_stopped(part["stopped"]),
                    "by the distance alone": int(part["far"].sum()),
                    "seen": bool(part["seen"].all()),
                }
                for kind, part in table.groupby("kind")
            },
        },
        "scans": {
            "training scans, left out of the input check by folds": own,
            **{name: _passed(*judge(map(Scan.open, files))) for name, files in scans.items()},
        },
    }
    files, by_hospital = {record.key: record.file for record in training}, {}
    for name, answers in left_out.items():  # by the distance from scans of the others, by plain checks, by either
        far = answers[DISTANCE].to_numpy() > ALLOWANCE
        plain = np.array([bool(check_pixels(Scan.open(files[key]), task)[0]) for key in answers["file"]])
        counts = {"by the distance": int(far.sum()), "by plain checks": int(plain.sum())}
        by_hospital[name] = {**_stopped(far | plain), **counts}
    return report | ({"hospitals left out": by_hospital} if left_out else {})


def _passed(passed: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(passed),
        "usual": round(float((passed & (distances <= 1)).mean()), 4),
        "passed": round(float(passed.mean()), 4),
        "distance": _quantiles(distances),
    }


def _stopped(of: np.ndarray | pd.Series) -> dict[str, Any]:
    if not len(of):
        return {"n": 0, "stopped": 0, "share": None}
    low, high = binomtest(int(of.sum()), len(of)).proportion_ci(0.95, method="wilson")
    share, low, high = (round(float(value), 4) for value in (of.mean(), low, high))
    return {"n": len(of), "stopped": int(of.sum()), "share": share, "low": low, "high": high}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{100 * q:g} %": round(float(np.quantile(values, q)), 3) for q in (0.03, 0.05, 0.5, 0.95, 0.97, 0.99)}
