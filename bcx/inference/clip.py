"""Clips: which frames of a file are read, and which of their answers is the clip's.

Of the frames that are scans and undamaged, ordered by the probability of the positive class, the clip's answer is that
of the highest of up to ten frames, the second highest of up to twenty and so on, and it is "refer" where a frame still
more suspicious, or any that confidently shows a lesion, says another class. So a cancer that shows in three of sixteen
frames is not outvoted, and one odd frame among many is read by a person.

>>> order(np.array([[0.9, 0.1, 0.0], [0.2, 0.2, 0.6], [0.8, 0.1, 0.1]]), [True, True, False], positive=2)
[1, 0]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bcx.errors import BcxError
from bcx.imaging.scan import Scan
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

if TYPE_CHECKING:
    from bcx.inference.prediction import Prediction

Frame = TypeVar("Frame")
#: Frames of a clip that are read unless told otherwise.
CLIP_FRAMES = 16
#: The answer's frame is the most suspicious one of so many, the second of twice as many, and so on.
FRAMES_PER_RANK = 10
#: Of the frames of a clip, at most so many times the limit are decoded in search of frames that are not blank.
_LOOKED_AT = 4
#: A blank frame's pixels lie within so many grey levels of its median, but for a share: a text overlay covers some 2 %.
_BLANK_LEVELS, _BLANK_SHARE = 12, 0.03
#: Frames in memory at once.
_AT_ONCE = 4


@dataclass(frozen=True)
class Clip:
    """What was read of a clip; frames are numbered from 0.

    Attributes:
        count: how many frames the file holds.
        read, blank, failed: the frames that were answered, that show nothing, that could not be read; ascending.
        frame: the decisive frame, whose answer the clip's is.
        probabilities: float32 `[len(read), C]`, 0..1, in the task's order.
        answers: the answer of each frame in `read`, without its pixels; empty where they were let go.
    """

    count: int
    read: tuple[int, ...]
    blank: tuple[int, ...]
    failed: tuple[int, ...]
    frame: int
    probabilities: np.ndarray = field(repr=False, compare=False)
    answers: tuple[Any, ...] = field(default=(), repr=False, compare=False)

    def note(self) -> str:
        """Say how many frames were read."""
        said = f"clip: {len(self.read):,} of {self.count:,} frames read"
        if self.blank:
            said += f", {len(self.blank):,} blank {'one' if len(self.blank) == 1 else 'ones'} left out"
        return said + (f", {len(self.failed):,} could not be read" if self.failed else "")

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Return the documented JSON; frames are numbered from 1, as people do."""
        columns = zip(classes, self.probabilities.T, strict=True)
        numbered = {key: [frame + 1 for frame in getattr(self, key)] for key in ("read", "blank", "failed")}
        probabilities = {name: [round(float(p), 6) for p in column] for name, column in columns}
        return {"count": self.count, **numbered, "probabilities": probabilities}


def answer_clip(
    data: bytes, name: str, count: int, limit: int, task: Task, answer: Callable[[list[Scan]], list[Prediction]]
) -> Prediction:
    """Answer a clip of `count` frames, `limit` of them at most; they are opened, answered and let go a few at a time.

    The answer is the decisive frame's, with `clip`; "refer" where frames disagree. A clip of nothing but blank frames
    is answered by the first of them; where no frame can be read, the first one's error is raised.
    """
    blank: list[int] = []
    failed: dict[int, BcxError] = {}
    answered: dict[int, tuple[Prediction, bool]] = {}  # and whether it is a scan and undamaged

    def open_frame(frame: int) -> Scan | None:
        try:
            scan = Scan.open(data, name, frame=frame)
        except BcxError as error:
            failed[frame] = error
            return None
        if is_blank(scan.pixels):
            blank.append(frame)
            return None
        return scan

    def answer_frames(scans: list[Scan]) -> None:
        for each in answer(scans):
            usable = each.decision != NOT_A_SCAN and not each.scan.damage
            answered[each.scan.frame] = each.without_pixels(), usable

    opened = look_through(range(count), limit, open_frame)
    while some := list(islice(opened, _AT_ONCE)):
        answer_frames(some)
        del some
    if not answered:
        if not blank:
            raise next(iter(failed.values()))
        blank.sort()
        answer_frames([Scan.open(data, name, frame=blank.pop(0))])
    read = sorted(answered)
    answers, usable = zip(*(answered[frame] for frame in read), strict=True)
    probabilities = np.array([list(each.probabilities.values()) for each in answers], np.float32)
    places = order(probabilities, usable, task.classes.index(task.positive))
    place = places[_rank(places)]
    left_out = tuple(sorted(blank)), tuple(sorted(failed))
    clip = Clip(count, tuple(read), *left_out, frame=read[place], probabilities=probabilities, answers=answers)
    decisive = replace(answers[place], clip=clip).with_pixels(data)
    shows = [each.decision in task.classes and each.decision != task.absent for each in answers]
    disagreed = disagreement([each.label for each in answers], shows, places)
    if disagreed and decisive.decision in task.classes:
        return replace(decisive, decision=REFER, reason=disagreed, outlines=True)
    return decisive


def is_blank(pixels: np.ndarray) -> bool:
    """Tell whether an image, uint8 `[H, W]` or `[H, W, 3]`, shows nothing, or no more than some text on one tone."""
    grey = pixels if pixels.ndim == 2 else pixels.max(2)
    away = np.abs(grey.astype(np.int16) - int(np.median(grey))) > _BLANK_LEVELS
    return bool(away.mean() < _BLANK_SHARE)


def look_through(frames: Sequence[int], limit: int, opened: Callable[[int], Frame | None]) -> Iterator[Frame]:
    """Yield up to `limit` opened frames, evenly spread; in place of those that `opened` returns None for, others.

    It is called once for each. Limit 1 takes the first.
    """
    left, wanted, looks = list(frames), limit, _LOOKED_AT * max(limit, CLIP_FRAMES)
    while left and wanted > 0 and looks > 0:
        many = min(wanted, len(left), looks)
        places = {int(place) for place in np.linspace(0, len(left) - 1, many).round()} if limit > 1 else {0}
        looks -= len(places)
        for place in sorted(places):
            if (frame := opened(left[place])) is not None:
                wanted -= 1
                yield frame
        left = [frame for place, frame in enumerate(left) if place not in places]


def order(probabilities: np.ndarray, usable: Sequence[bool], positive: int) -> list[int]:
    """Return the places of the usable frames, where none is those of all, the most suspicious first.

    The probability of the class `positive`, in float `[N, C]`, is the suspicion.
    """
    places = [place for place, fits in enumerate(usable) if fits] or list(range(len(usable)))
    return sorted(places, key=lambda place: (-probabilities[place, positive], *probabilities[place]))


def _rank(places: Sequence[int]) -> int:
    return (len(places) - 1) // FRAMES_PER_RANK


def disagreement(labels: Sequence[str], found: Sequence[bool], places: Sequence[int]) -> str:
    """Say that frames disagree in their labels, "" where they do not; `places` as of `order`.

    `found`: which are confidently answered with another class than the one that shows nothing.
    """
    speak = [place for at, place in enumerate(places) if at <= _rank(places) or found[place]]
    counts = Counter(labels[place] for place in speak)
    if len(counts) < 2:
        return ""
    return f"The frames disagree: {', '.join(f'{label} in {count}' for label, count in counts.items())}."
