"""From scans to the network's raw output: one stage, or two where it sees lesions; shared by training and serving."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bcx.errors import CheckpointError
from bcx.imaging.crop import Box, cut, find_box
from bcx.imaging.preprocess import Preprocess
from bcx.networks.run import Forward, Outputs


@dataclass(frozen=True)
class Enlarged:
    """The second stage: the part of the scan that was read, and on its grid what `Reading` has of the whole."""

    box: Box
    maps: np.ndarray
    lesion: np.ndarray


@dataclass(frozen=True)
class Reading:
    """The raw output for one scan; all but the logits are of the first stage."""

    logits: np.ndarray  # float32 `[C]`, before temperature; the mean of both stages where there are two
    maps: np.ndarray  # float32 `[C, h, w]`
    stages: np.ndarray  # float32 `[K]`
    lesion: np.ndarray | None = None  # float32 `[h, w]`, 0..1; None without a lesion head
    second: Enlarged | None = None  # the second stage; None without a lesion head


def read_scans(
    forward: Forward, preprocess: Preprocess, scans: Sequence[np.ndarray], chosen: Sequence[Box | None] | None = None
) -> list[Reading]:
    """Run the network on scans and, with a lesion head, on each a second time where the first stage saw most.

    The scans, at least one, are uint8 `[H, W]` or `[H, W, 3]`; `chosen` is for each what is read a second time instead,
    or None. `CheckpointError` where the network yields numbers that are not finite.
    """
    # Copies throughout, so that one kept answer does not keep its whole batch in memory.
    first = _finite(forward(np.stack([preprocess.plane(pixels) for pixels in scans])))
    if first.lesion is None:
        rows = zip(first.logits, first.maps, first.stages, strict=True)
        return [Reading(np.array(logits), np.array(maps), np.array(stages)) for logits, maps, stages in rows]
    each = zip(chosen or [None] * len(scans), first.lesion, scans, strict=True)
    boxes = [box or find_box(lesion, (pixels.shape[0], pixels.shape[1])) for box, lesion, pixels in each]
    enlarged = [preprocess.plane(cut(pixels, box)) for pixels, box in zip(scans, boxes, strict=True)]
    second = _finite(forward(np.stack(enlarged), enlarged=True))
    assert second.lesion is not None  # the same network
    return [
        Reading(
            (first.logits[i] + second.logits[i]) / 2,
            np.array(first.maps[i]),
            np.array(first.stages[i]),
            np.array(first.lesion[i]),
            Enlarged(box, np.array(second.maps[i]), np.array(second.lesion[i])),
        )
        for i, box in enumerate(boxes)
    ]


def both_views(straight: Reading, mirrored: Reading) -> Reading:
    """Average the whole-scan maps of both views; the second stage stays the straight view's."""
    lesion = None
    if straight.lesion is not None and mirrored.lesion is not None:
        lesion = (straight.lesion + mirrored.lesion[:, ::-1]) / 2
    return replace(straight, maps=(straight.maps + mirrored.maps[:, :, ::-1]) / 2, lesion=lesion)


def _finite(outputs: Outputs) -> Outputs:
    if any(part is not None and not np.isfinite(part).all() for part in outputs):
        raise CheckpointError(
            "The network yields numbers that are infinite or not a number.",
            expected="finite numbers, as from any picture",
            remedy="Fetch or train the checkpoint again.",
        )
    return outputs
