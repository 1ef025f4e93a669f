"""What the engine answers: a `Prediction`, or a `Failure` that says why there is none.

prediction = bcx.load().predict("scan.png")
prediction.label, prediction.confidence
prediction.overlay("malignant", opacity=0.6).save("where.png")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from bcx.errors import BcxError, ConfigError
from bcx.explain.overlay import lay_over, scale_limit
from bcx.images import Scan
from bcx.preprocess import Preprocess

#: `decision` of a picture that the gate stopped.
NOT_A_SCAN = "not a scan"


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        name: of the source (a file's name, or as given).
        label: the class at the stored operating point; the most probable one while none is stored.
        confidence: probability of `label`, 0..1.
        probabilities: class -> probability, in the task's order, summing to 1.
        decision: the label, "refer", or "not a scan".
        reason: why the decision is not simply the label, in words; "" when it is.
        flags: what was noticed about the picture without stopping it, in words.
        model: the checkpoint's name.
        weights_sha256: of the stored weights.
        seconds: time from source to answer, the source's share of its batch.
        backend: what ran the network ("torch").
        scan: the decoded picture.
        grid_maps: float32 `[C, h, w]` on the network's grid, logit units; with one view, mean + bias = logit.
        preprocess: how the scan became the network's input.
    """

    name: str
    label: str
    confidence: float
    probabilities: dict[str, float]
    decision: str
    reason: str
    flags: list[str]
    model: str
    weights_sha256: str
    seconds: float
    backend: str
    scan: Scan = field(repr=False, compare=False)
    grid_maps: np.ndarray = field(repr=False, compare=False)
    preprocess: Preprocess = field(repr=False, compare=False)

    @cached_property
    def maps(self) -> np.ndarray:
        """float32 `[C, H, W]` at the scan's own size, logit units, in the order of `probabilities`."""
        return self.preprocess.enlarge(self.grid_maps, (self.scan.height, self.scan.width))

    @property
    def lesion(self) -> np.ndarray | None:
        """float32 `[H, W]` in 0..1 where the model has a lesion map; None for models without one."""
        return None

    @property
    def map_limit(self) -> float:
        """End of the signed colour scale shared by all of this answer's maps, in logit units."""
        return scale_limit(self.grid_maps)

    def overlay(self, class_: str | None = None, opacity: float = 0.5) -> Image.Image:
        """Return the scan with one class's evidence laid over it, RGB, at the scan's own size.

        Args:
            class_: which class's map; default: `label`'s.
            opacity: 0 (the scan alone) to 1.

        Raises:
            ConfigError: no such class.
        """
        wanted = self.label if class_ is None else class_
        if wanted not in self.probabilities:
            raise ConfigError(
                f"There is no class called '{wanted}'.",
                expected=f"one of {', '.join(self.probabilities)}",
                remedy="Use one of these names.",
            )
        number = list(self.probabilities).index(wanted)
        # Enlarging one map is enough here; `maps` would keep all of them in memory.
        plane = self.preprocess.enlarge(self.grid_maps[number : number + 1], (self.scan.height, self.scan.width))[0]
        return lay_over(self.scan.pixels, plane, self.map_limit, opacity)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON, the same from every door."""
        return {
            "name": self.name,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": dict(self.probabilities),
            "decision": self.decision,
            "reason": self.reason,
            "flags": list(self.flags),
            "width": self.scan.width,
            "height": self.scan.height,
            "notes": list(self.scan.notes),
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "backend": self.backend,
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class Failure:
    """A source that could not be answered, in its place of the stream.

    Attributes:
        name: of the source.
        error: what was found, expected, and what to do.
    """

    name: str
    error: BcxError

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON."""
        error = self.error
        return {
            "name": self.name,
            "error": {
                "kind": type(error).__name__,
                "found": error.found,
                "expected": error.expected,
                "remedy": error.remedy,
            },
        }
