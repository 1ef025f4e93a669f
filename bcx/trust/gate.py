"""Is this a scan at all? Plain checks of the picture, then how far its features lie from those of the training scans.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> scans = rng.normal(1.0, 0.1, (60, 8)).astype(np.float32)
>>> gate = fit_gate(scans, threshold=2.0)
>>> far = np.array([[9, 0, 0, 0, 0, 0, 0, 0]], np.float32)
>>> bool(gate.distances(scans[:1])[0] < gate.threshold < gate.distances(far)[0])
True

Distance: mean Euclidean distance to the k nearest training scans, all features scaled to unit length
(Sun et al., "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML 2022), divided by the median of
the same distance among the training scans themselves, each left out in turn. That ratio means the same for
every network, so a threshold found on cross-validation's networks suits one trained on all scans.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from bcx.errors import CheckpointError, DataError
from bcx.images import Scan
from bcx.trust.plain import plain_checks

GATE_FILE = "gate.safetensors"
NEIGHBOURS = 5


@dataclass(frozen=True)
class Verdict:
    """What the gate says of one picture.

    Attributes:
        is_scan: False when a plain check or the distance stops it.
        reason: why it was stopped, in words; "" when it passes.
        flags: what is worth saying about a picture that passes ("colour marks").
        distance: of its features, in units of the usual distance among training scans; 1 is usual.
    """

    is_scan: bool
    reason: str
    flags: tuple[str, ...]
    distance: float


@dataclass(frozen=True, eq=False)
class Gate:
    """The gate of one network. Holds arrays only and changes nothing, so threads may share it.

    Attributes:
        reference: float32 [N, D], pooled features of the training scans, each scaled to unit length.
        scale: the median distance of a training scan to its nearest others.
        threshold: the largest distance that passes, in units of `scale`.
        neighbours: how many nearest scans a distance averages over.
    """

    reference: np.ndarray = field(repr=False)
    scale: float
    threshold: float
    neighbours: int = NEIGHBOURS

    def distances(self, features: np.ndarray) -> np.ndarray:
        """Return float32 [B], in units of the usual distance among training scans.

        Args:
            features: float32 [B, D], pooled features as the network's head reads them.

        Raises:
            DataError: features of another width than the gate was fitted on, or not finite.
        """
        rows = _rows(features)
        if rows.shape[1] != self.reference.shape[1]:
            raise DataError(
                f"The features have {rows.shape[1]} numbers each.",
                expected=f"{self.reference.shape[1]}, as when the gate was fitted",
                remedy="Use the gate with the network that it was fitted for.",
            )
        # One row at a time: a sum over a row is then the same whether it comes alone or in a batch.
        return np.array([self._nearest(row) / self.scale for row in _unit(rows)], np.float32)

    def _nearest(self, row: np.ndarray) -> float:
        return float(_mean_of_smallest(2 - 2 * (self.reference @ row), self.neighbours))

    def judge(self, scan: Scan, features: np.ndarray) -> Verdict:
        """Judge one picture.

        Args:
            scan: the decoded picture.
            features: float32 [D], its pooled features.
        """
        reasons, flags = plain_checks(scan)
        distance = float(self.distances(features[None])[0])
        if distance > self.threshold:
            reasons.append("It does not resemble the breast ultrasound scans that this model learned from.")
        return Verdict(not reasons, reasons[0] if reasons else "", tuple(flags), distance)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `gate.safetensors` whole or not at all; return the JSON block for config.json."""
        scratch = folder / f"{GATE_FILE}.writing"
        save_file({"reference": self.reference.astype(np.float16)}, scratch)
        os.replace(scratch, folder / GATE_FILE)
        return {
            "kind": "nearest neighbours",
            "file": GATE_FILE,
            "neighbours": self.neighbours,
            "scale": self.scale,
            "threshold": self.threshold,
        }

    @classmethod
    def load(cls, folder: Path, block: dict[str, Any]) -> Gate:
        """Read what `save` wrote.

        Raises:
            CheckpointError: the file is missing or damaged, or the block is not one of `save`'s.
        """
        try:
            if block["kind"] != "nearest neighbours":
                raise KeyError(block["kind"])
            reference = load_file(folder / str(block["file"]))["reference"].astype(np.float32)
            return cls(reference, float(block["scale"]), float(block["threshold"]), int(block["neighbours"]))
        except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
            raise CheckpointError(
                f"The gate of the checkpoint '{folder.name}' is missing or damaged ({type(error).__name__}: {error}).",
                expected=f"'{GATE_FILE}' beside config.json, and a 'gate' block that belongs to it",
                remedy="Fetch or train the checkpoint again.",
            ) from error


def fit_gate(train_features: np.ndarray, threshold: float, *, neighbours: int = NEIGHBOURS) -> Gate:
    """Fit the gate of a network on its own training scans.

    Args:
        train_features: float32 [N, D], their pooled features (no augmentation, one view).
        threshold: from `calibrate_gate`.
        neighbours: how many nearest scans a distance averages over.

    Raises:
        DataError: too few rows, or values that are not finite.
    """
    rows = _rows(train_features)
    if len(rows) <= neighbours:
        raise DataError(
            f"The gate was given the features of {len(rows)} scans.",
            expected=f"more than {neighbours}",
            remedy="Train on more scans.",
        )
    # Rounded as it will be stored, so that a gate just fitted and the same one loaded agree.
    reference = _unit(rows).astype(np.float16).astype(np.float32)
    squared = 2 - 2 * (reference @ reference.T)
    np.fill_diagonal(squared, np.inf)
    own = [float(_mean_of_smallest(row, neighbours)) for row in squared]
    return Gate(reference, max(float(np.median(own)), 1e-6), float(threshold), neighbours)


def calibrate_gate(folds: Iterable[tuple[np.ndarray, np.ndarray]], keep: float = 0.97) -> float:
    """Return the threshold that passes the share `keep` of scans that their network has not seen, all folds pooled.

    Args:
        folds: per fold, features of its network's training scans, float32 [N, D], and of its held-out ones [M, D].
        keep: 0..1; the threshold is that quantile of the distances.
    """
    distances = [fit_gate(train, np.inf).distances(held) for train, held in folds]
    return float(np.quantile(np.concatenate(distances), keep))


def _rows(features: np.ndarray) -> np.ndarray:
    rows = np.asarray(features, np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise DataError(
            f"The features have the shape {list(rows.shape)}, or hold numbers that are not finite.",
            expected="finite numbers [scans, features]",
            remedy="Pass the pooled features that the network's head reads.",
        )
    return rows


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _mean_of_smallest(squared: np.ndarray, count: int) -> np.floating:
    return np.sqrt(np.maximum(np.partition(squared, count - 1)[:count], 0)).mean()
