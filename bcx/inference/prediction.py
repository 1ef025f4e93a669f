"""What the engine answers: a `Prediction`, or a `Failure` that says why there is none.

prediction = bcx.load().predict("scan.png")
prediction.label, prediction.confidence
prediction.overlay("malignant", opacity=0.6).save("where.png")
"""

from __future__ import annotations

import math
import os
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from bcx.errors import BcxError, check_name
from bcx.imaging.crop import Edges, Lesion, lesions_of, merge_lesion, paste
from bcx.imaging.overlay import lay_over, scale_limit
from bcx.imaging.preprocess import Preprocess, resize
from bcx.imaging.scan import MIN_SIDE, Scan
from bcx.imaging.style import STYLE, MapStyle
from bcx.imaging.text import mask_text
from bcx.inference.clip import Clip
from bcx.inference.two_stage import Reading
from bcx.trust.claims import NOT_A_SCAN
from bcx.trust.plain import LONGEST, shape_reason

#: From this value of `lesion` on, a pixel is taken to belong to one: two stages that are each 55 % sure.
LESION_LEVEL = 0.3
#: From here on one stage alone takes a place for a lesion: `LESION_LEVEL` is what two such stages give together.
ONE_STAGE_LEVEL = LESION_LEVEL**0.5
#: Longer side of `Prediction.screen`, in pixels: what a page shows of a scan.
SCREEN = 1400
#: Share of the second stage's box over which an overlay fades into the rest: its edge is no finding.
FADE = 0.2
#: Standard deviation by which the lesion head's class maps are smoothed, in places of its grid. Its deepest features
#: stand on a grid four times coarser, so a peak of one place says more than the network knows; and around such peaks
#: the map is all but flat, so that the order in which ROAD removes its places is chance.
SMOOTHING = 2.0
_NO_PIXELS = Scan(np.zeros((MIN_SIDE, MIN_SIDE), np.uint8), "", "")


@dataclass(frozen=True)
class Prediction:
    """One answer.

    Attributes:
        name: of the source (a file's name, or as given).
        label: the class that is answered; where the decision is "refer", the most probable one.
        confidence: probability of `label`, 0..1.
        probabilities: class -> probability, in the task's order, summing to 1.
        decision: the label, "refer", or "not a scan".
        reason: why the decision is not simply the label, in words; "" when it is.
        flags: what was noticed about the scan without stopping it, in words.
        model, weights_sha256: of the checkpoint.
        seconds: time from source to answer, the source's share of its batch.
        backend: what ran the network: "torch" or "onnxruntime".
        scan: the decoded scan.
        reading: the network's raw output.
        preprocess: how the scan became the network's input.
        outlines: whether a lesion may be outlined, see `bcx.trust.claims.may_outline`.
        prevalence: share of each class that the probabilities stand for, where it is not the checkpoint's own; or None.
        distance: from the training data (`bcx.trust.input_check.Verdict.distance`); None without an input check.
        box: (left, top, right, bottom) in scan pixels where a person chose what the second stage reads; None: it chose.
        clip: where the source is a clip, what was read of it; all else is the decisive frame's.
        mask_text: whether images are drawn without burnt-in text. The network has read the scan as it is.
        style: how its maps are drawn.
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
    reading: Reading = field(repr=False, compare=False)
    preprocess: Preprocess = field(repr=False, compare=False)
    clip: Clip | None = None
    outlines: bool = True
    prevalence: dict[str, float] | None = None
    distance: float | None = field(default=None, repr=False)
    mask_text: bool = field(default=False, repr=False, compare=False)
    style: MapStyle = field(default=STYLE, repr=False, compare=False)
    box: Edges | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """How the source was read, in words."""
        notes = [] if self.clip is None else [self.clip.note()]
        notes += self.scan.notes
        if self.box is not None:
            notes.append(f"the second stage read a box given by a person: {self.box}")
        if self.prevalence:
            shares = ", ".join(f"{name} {100 * share:.2g} %" for name, share in self.prevalence.items())
            notes.append(f"probabilities for a prevalence of {shares}")
        return tuple(notes)

    def without_pixels(self) -> Prediction:
        """Return a copy of a few kilobytes; `with_pixels` makes it whole again."""
        return replace(self, scan=_NO_PIXELS)

    def with_pixels(self, source: str | os.PathLike[str] | bytes) -> Prediction:
        """Return the answer with its pixels, read again from its source; errors as `Scan.open`."""
        frame = 0 if self.clip is None else self.clip.frame
        return replace(self, scan=shortened(Scan.open(source, self.name, frame=frame)))

    @property
    def _shape(self) -> tuple[int, int]:
        return self.scan.height, self.scan.width

    @cached_property
    def shown(self) -> np.ndarray:
        """The scan's pixels as they are drawn: without burnt-in text where `mask_text` says so."""
        return mask_text(self.scan.pixels) if self.mask_text else self.scan.pixels

    @property
    def screen(self) -> Prediction:
        """This answer with its scan, and boxes in it, at most `SCREEN` pixels a side; itself where it is no larger."""
        return self._small or self

    @cached_property
    def _small(self) -> Prediction | None:  # never itself: what keeps itself is not let go at once
        scale = SCREEN / max(self.scan.width, self.scan.height)
        if scale >= 1:
            return None
        width, height = (max(1, round(side * scale)) for side in (self.scan.width, self.scan.height))
        reading, side = self.reading, self.scan.mm_per_pixel
        if reading.second is not None:
            reading = replace(reading, second=replace(reading.second, box=reading.second.box.scaled(scale)))
        scan = replace(self.scan, pixels=resize(self.scan.pixels, width, height), mm_per_pixel=side and side / scale)
        left, top, right, bottom = (round(edge * scale) for edge in self.box or (0, 0, 0, 0))
        return replace(self, scan=scan, reading=reading, box=self.box and (left, top, right, bottom))

    @property
    def grid_maps(self) -> np.ndarray:
        """float32 `[C, h, w]`: the first stage's maps on the network's own grid, logit units."""
        return self.reading.maps

    @cached_property
    def maps(self) -> np.ndarray:
        """float32 `[C, H, W]` at the scan's own size, logit units, in the order of `probabilities`.

        With one view, the mean over the network's grid is the logit (plus the head's bias, where the head is linear).
        Of two stages each counts half, the second per pixel as much more as its box is smaller; both are smoothed by
        `SMOOTHING`, which keeps their means.
        """
        return self._at_size(slice(None))

    def _at_size(self, classes: slice, fade: float = 0.0, smoothing: float = SMOOTHING) -> np.ndarray:
        maps, second = self.reading.maps[classes], self.reading.second
        if second is None:
            return self.preprocess.enlarge(maps, self._shape)
        # Mirrored at the edges, a symmetric kernel keeps the sum.
        whole, part = (
            gaussian_filter(m, (0, smoothing, smoothing), mode="reflect") for m in (maps, second.maps[classes])
        )
        denser = self.scan.height * self.scan.width / second.box.side**2
        return (self.preprocess.enlarge(whole, self._shape) + denser * paste(part, second.box, self._shape, fade)) / 2

    @cached_property
    def lesion(self) -> np.ndarray | None:
        """float32 `[H, W]`, 0..1: how surely each pixel is lesion (`merge_lesion`); None without such a map."""
        first, second = self.reading.lesion, self.reading.second
        return None if first is None or second is None else merge_lesion(first, second.lesion, second.box, self._shape)

    @property
    def outline_level(self) -> float:
        """Where `lesion` is outlined: `LESION_LEVEL`, or infinity where nothing may be."""
        return LESION_LEVEL if self.outlines else math.inf

    @property
    def lesion_box(self) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom) in scan pixels around what is outlined; None where nothing is.

        Of a scan larger than `SCREEN` to one pixel of `screen`, which is finer than the network's grid by far.
        """
        lesion, small = self.screen.lesion, self.screen.scan
        if lesion is None or not (inside := lesion >= self.outline_level).any():
            return None
        x, y, width, height = cv2.boundingRect(inside.astype(np.uint8))
        wider, higher = self.scan.width / small.width, self.scan.height / small.height
        return round(x * wider), round(y * higher), round((x + width) * wider), round((y + height) * higher)

    @cached_property
    def lesions(self) -> tuple[Lesion, ...]:
        """Places that the first stage takes for a lesion, the heaviest first, 8 at most; the second stage reads one."""
        reading = self.reading
        if reading.lesion is None or reading.second is None or self.decision == NOT_A_SCAN:
            return ()
        return lesions_of(reading.lesion, ONE_STAGE_LEVEL, reading.second.box, self._shape)

    @property
    def second_stage(self) -> tuple[int, int, int] | None:
        """(x, y, side) of the second stage's crop, in scan pixels; None for models of one stage."""
        second = self.reading.second
        return None if second is None else (second.box.x, second.box.y, second.box.side)

    @cached_property
    def map_limit(self) -> float:
        """End of the signed colour scale shared by all of this answer's maps, in logit units."""
        if self.reading.second is None:
            return scale_limit(self.reading.maps)
        return self.screen.map_limit if self.screen is not self else scale_limit(self._at_size(slice(None)))

    def class_map(self, class_: str, fade: float = 0.0, smoothing: float = SMOOTHING) -> np.ndarray:
        """Return one class's map as in `maps`, float32 `[H, W]`; `ConfigError` for no class.

        `fade` as in `bcx.imaging.crop.paste`; `smoothing` of a lesion head's map, as `SMOOTHING`, 0 for none.
        """
        check_name(class_, self.probabilities, "class")
        number = list(self.probabilities).index(class_)
        return self._at_size(slice(number, number + 1), fade, smoothing)[0]

    def overlay(self, class_: str | None = None, opacity: float = 0.5) -> Image.Image:
        """Return the scan with one class's map (default: `label`'s) laid over it, RGB; `ConfigError` for no class.

        `opacity` is 0 (the scan alone) to 1.
        """
        plane = self.class_map(self.label if class_ is None else class_, FADE)
        return lay_over(self.shown, plane, self.map_limit, opacity, self.style)

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON, the same everywhere."""
        said = ("name", "label", "confidence", "probabilities", "decision", "reason", "flags")
        return {
            **{key: copy(getattr(self, key)) for key in said},
            "width": self.scan.width,
            "height": self.scan.height,
            "region": self.scan.region and list(self.scan.region),
            "lesion_box": self.lesion_box and list(self.lesion_box),
            "second_look": self.second_stage and list(self.second_stage),
            "box": self.box and list(self.box),
            "lesions": [each.to_dict() for each in self.lesions],
            "notes": list(self.notes),
            "model": self.model,
            "weights_sha256": self.weights_sha256,
            "backend": self.backend,
            "seconds": round(self.seconds, 4),
            "frame": None if self.clip is None else self.clip.frame + 1,
            "frames": None if self.clip is None else self.clip.to_dict(list(self.probabilities)),
        }


def shortened(scan: Scan) -> Scan:
    """Squash the longer side of an image that is no scan by its shape: the second stage's square would be as long."""
    if not shape_reason(scan.width, scan.height):
        return scan
    height, width = (min(side, int(LONGEST * min(scan.height, scan.width))) for side in (scan.height, scan.width))
    pixels = cv2.resize(scan.pixels, (width, height), interpolation=cv2.INTER_AREA)
    notes = (*scan.notes, f"squashed from {scan.width:,} x {scan.height:,} pixels")
    return replace(scan, pixels=pixels, notes=notes, mm_per_pixel=None)


@dataclass(frozen=True)
class Failure:
    """A source that could not be answered, in its place of the stream: its name, and what is wrong with it."""

    name: str
    error: BcxError

    def to_dict(self) -> dict[str, Any]:
        """Return the documented JSON."""
        told = {key: getattr(self.error, key) for key in ("found", "expected", "remedy")}
        return {"name": self.name, "error": {"kind": type(self.error).__name__, **told}}
