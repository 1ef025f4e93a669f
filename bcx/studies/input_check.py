"""What the input check stops and what it lets pass, counted by kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bcx.checkpoints.checkpoint import Checkpoint
from bcx.data.records import Record
from bcx.errors import CheckpointError
from bcx.evaluate.non_scans import NonScan
from bcx.imaging.scan import Scan
from bcx.networks.run import run_network
from bcx.trust.input_check import InputCheck, left_out_distances

BATCH = 16


def study(
    checkpoint: Checkpoint,
    *,
    non_scans: Sequence[NonScan],
    scans: Mapping[str, Sequence[Path]],
    training: Sequence[Record],
) -> dict[str, Any]:
    """Judge images that are no scans, and true scans, with a checkpoint's input check; return counts ready for JSON.

    Args:
        non_scans: what should be stopped.
        scans: scans that the network was not trained on, by name of the set: what should pass.
        training: the scans that the input check was fitted on, with folds; each fold is judged by one fitted on
            the others.

    Raises:
        CheckpointError: the checkpoint has no input check.
    """
    if checkpoint.input_check is None:
        raise CheckpointError(
            f"The checkpoint '{checkpoint.name}' has no input check.",
            expected="a 'gate' block in its config.json",
            remedy="Fit one with: bcx input-check fit",
        )
    input_check = InputCheck.load(checkpoint.folder, checkpoint.input_check)

    def judge(scans: Iterable[Scan]) -> tuple[np.ndarray, np.ndarray]:
        """Return which of them pass as scans, bool [N], and their distances, float [N]."""
        verdicts = [input_check.judge(scan, row, checkpoint.task) for scan, row in _described(checkpoint, scans)]
        return np.array([v.is_scan for v in verdicts]), np.array([v.distance for v in verdicts])

    passed, distances = judge(Scan.open(image.pixels, image.name) for image in non_scans)
    kinds = np.array([image.kind for image in non_scans])
    seen = np.array([image.seen for image in non_scans])
    report: dict[str, Any] = {
        "input_check": checkpoint.input_check,
        "non_scans": {
            "all": _stopped(~passed),
            "kinds in view while the input check was made": _stopped(~passed[seen]),
            "kinds made afterwards": _stopped(~passed[~seen]),
            "distance": _quantiles(distances),
            "by_kind": {
                kind: {**_stopped(~passed[kinds == kind]), "seen": bool(seen[kinds == kind].all())}
                for kind in sorted(set(kinds.tolist()))
            },
        },
        "scans": {},
    }
    stages = np.stack([row for _, row in _described(checkpoint, (Scan.open(r.file) for r in training))])
    left_out = left_out_distances(stages, np.array([record.fold for record in training])) / input_check.unit
    report["scans"]["training scans, left out of the input check by folds"] = _passed(
        left_out <= input_check.allowance, left_out
    )
    for name, files in scans.items():
        report["scans"][name] = _passed(*judge(map(Scan.open, files)))
    return report


def _described(checkpoint: Checkpoint, scans: Iterable[Scan]) -> Iterator[tuple[Scan, np.ndarray]]:
    """Yield scans with their descriptions, float32 [K]; a batch is in memory at a time."""
    waiting = iter(scans)
    while batch := list(islice(waiting, BATCH)):
        planes = np.stack([checkpoint.preprocess.plane(scan.pixels) for scan in batch])
        yield from zip(batch, run_network(checkpoint.network, checkpoint.preprocess, planes).stages, strict=True)


def _passed(passed: np.ndarray, distances: np.ndarray) -> dict[str, Any]:
    return {
        "n": len(passed),
        "usual": round(float((passed & (distances <= 1)).mean()), 4),
        "passed": round(float(passed.mean()), 4),
        "distance": _quantiles(distances),
    }


def _stopped(of: np.ndarray) -> dict[str, Any]:
    return {"n": len(of), "stopped": int(of.sum()), "share": round(float(of.mean()), 4) if len(of) else None}


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{100 * q:g} %": round(float(np.quantile(values, q)), 3) for q in (0.03, 0.05, 0.5, 0.95, 0.97, 0.99)}
