"""Is this a scan at all? Plain checks of the image, then how far its texture lies from that of training scans.

What is compared: the mean activation of every channel at the end of each of the network's stages, by the distance of
Mahalanobis (Lee et al., NeurIPS 2018), with the covariance shrunk as Ledoit and Wolf (J. Multivariate Analysis 2004).
The unit is the distance within which 97 of 100 scans lie that the input check was not fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from bcx.checkpoints.config import INPUT_CHECK_FILE, InputCheckBlock
from bcx.errors import DataError, loading
from bcx.files import whole
from bcx.imaging.scan import Scan
from bcx.tasks import BREAST_ULTRASOUND, Task
from bcx.trust.plain import look_reasons, plain_checks

KEEP = 0.97  # share of unseen scans of the training hospitals whose distance is at most 1
ALLOWANCE = 2.5
"""Distance up to which an image passes: other scanners lie further off than the training hospitals' own. Fitted
on BUSI alone, 97 of 100 scans of BUS-BRA lie within 1.8, and 95 of 100 images that are no scans beyond 3.2;
results/studies/input-check/ has the figures."""


@dataclass(frozen=True)
class Verdict:
    """What the input check says of one image."""

    is_scan: bool
    reason: str  # why it was stopped, a sentence; "" when it passes
    flags: tuple[str, ...]  # what is worth saying about it without stopping it, as sentences
    distance: float  # from the training scans; up to 1 is usual, above `ALLOWANCE` is stopped


@dataclass(frozen=True, eq=False)
class InputCheck:
    """The input check of one network. Holds arrays only and changes nothing, so threads may share it.

    Attributes:
        mean, spread: float32 [K], of the training scans' descriptions.
        precision: float32 [K, K], inverse covariance of the standardised descriptions.
        unit: Mahalanobis distance that counts as 1.
        allowance: distance up to which an image passes.
    """

    mean: np.ndarray = field(repr=False)
    spread: np.ndarray = field(repr=False)
    precision: np.ndarray = field(repr=False)
    unit: float
    allowance: float = ALLOWANCE

    def distances(self, stages: np.ndarray) -> np.ndarray:
        """Return float32 [B], 1 being the far end of the usual, of `stages`, [B, K], of `forward_maps`.

        `DataError`: another width than the input check was fitted on, or not finite.
        """
        rows = _described(stages)
        if rows.shape[1] != len(self.mean):
            raise DataError(
                f"The descriptions have {rows.shape[1]} numbers each.",
                expected=f"{len(self.mean)}, as when the input check was fitted",
                remedy="Use the input check with the network that it was fitted for.",
            )
        scaled = (rows - self.mean) / self.spread
        # One row at a time: its sums are then the same whether it comes alone or in a batch.
        return np.array(
            [np.sqrt(max(float(row @ self.precision @ row), 0.0)) / self.unit for row in scaled], np.float32
        )

    def judge(self, scan: Scan, stages: np.ndarray, task: Task = BREAST_ULTRASOUND) -> Verdict:
        """Judge one image by its pixels and its description, float32 [K]; the task says what images are expected."""
        reasons, flags = check_pixels(scan, task)
        distance = float(self.distances(np.asarray(stages)[None])[0])
        if not distance <= self.allowance:  # also where it is not a number
            reasons.append(
                f"This picture does not look like the {task.image_noun}s of the training data. "
                "It may be a photograph, a drawing or another kind of medical picture."
            )
        elif distance > 1:
            noun = "scan" if task.grey else task.image_noun
            flags.append(f"This {noun} differs from the training data. Its result is less reliable.")
        return Verdict(not reasons, reasons[0] if reasons else "", tuple(flags), distance)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write `gate.safetensors` into an existing folder, whole or not at all; return the block for config.json."""
        with whole(folder / INPUT_CHECK_FILE) as partial:  # not by `save_file`, whose files only the owner may read
            partial.write_bytes(save({"mean": self.mean, "spread": self.spread, "precision": self.precision}))
        kind = "mahalanobis of stage means"
        return {"kind": kind, "file": INPUT_CHECK_FILE, "unit": self.unit, "allowance": self.allowance}

    @classmethod
    def load(cls, folder: Path, block: dict[str, Any]) -> InputCheck:
        """Read what `save` wrote, or raise a `CheckpointError`: the file or the block is missing or damaged."""
        expected = f"'{INPUT_CHECK_FILE}' beside config.json, and a 'gate' block that belongs to it"
        with loading(f"The input check of the checkpoint '{folder.name}' is missing or damaged", expected):
            checked = InputCheckBlock.model_validate(block)
            arrays = load_file(folder / INPUT_CHECK_FILE)
            mean, spread, precision = parts = [arrays[name] for name in ("mean", "spread", "precision")]
            if mean.ndim != 1 or spread.shape != mean.shape or precision.shape != 2 * mean.shape:
                raise ValueError(f"shapes {mean.shape}, {spread.shape}, {precision.shape}")
            if any(part.dtype != np.float32 or not np.isfinite(part).all() for part in parts) or (spread <= 0).any():
                raise ValueError("numbers that are not finite float32, or a spread that is not above 0")
            return cls(mean, spread, precision, checked.unit, checked.allowance)


def check_pixels(scan: Scan, task: Task) -> tuple[list[str], list[str]]:
    """Check an image without a network, for every model alike; returns as `plain_checks`."""
    reasons, flags = plain_checks(scan, task)
    return reasons or (look_reasons(scan.pixels) if task.grey else []), flags


def fit_input_check(stages: np.ndarray, folds: np.ndarray) -> InputCheck:
    """Fit the input check on the training scans' descriptions, float32 [N, K] (no augmentation, one view).

    Scans of one fold are judged by an input check fitted on the others, which gives the unit. `DataError`: fewer than
    two folds or too few scans, or values that are not finite.
    """
    return _fitted(stages, float(np.quantile(left_out_distances(stages, folds), KEEP)))


def left_out_distances(stages: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return float32 [N]: each scan's Mahalanobis distance, fitted on the other folds; as `fit_input_check`."""
    stages, folds = np.asarray(stages), np.asarray(folds)
    parts = np.unique(folds)
    if len(parts) < 2 or len(stages) < 4 or folds.shape != (len(stages),):
        raise DataError(
            f"The input check was given {len(stages)} scans in {len(parts)} folds.",
            expected="a few dozen scans in at least two folds",
            remedy="Train on more scans.",
        )
    distances = np.zeros(len(stages), np.float32)
    for part in parts:
        inside = folds == part
        distances[inside] = _fitted(stages[~inside], 1.0).distances(stages[inside])
    return distances


def _fitted(stages: np.ndarray, unit: float) -> InputCheck:
    from sklearn.covariance import LedoitWolf

    rows = _described(stages)
    mean, spread = rows.mean(0), rows.std(0) + 1e-6
    covariance = LedoitWolf().fit((rows - mean) / spread)
    return InputCheck(mean, spread, covariance.precision_.astype(np.float32), unit)


def _described(stages: np.ndarray) -> np.ndarray:
    """The rows, large activations damped, so that one loud channel does not decide: sign(x) log(1 + 5 |x|)."""
    rows = np.asarray(stages, np.float32)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise DataError(
            f"The descriptions have the shape {list(rows.shape)}, or hold numbers that are not finite.",
            expected="finite numbers [scans, channels]",
            remedy="Pass the stages that bcx.networks.build.forward_maps returns.",
        )
    return np.sign(rows) * np.log1p(5 * np.abs(rows))
