"""Reading a clip: frames are opened, answered and let go a few at a time, and their answers become one.

`bcx.inference.clip` has the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bcx.errors import BcxError
from bcx.imaging.scan import Scan
from bcx.inference import clip
from bcx.inference.prediction import Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

#: Frames in memory at once.
_AT_ONCE = 4


class _Frames:
    """The frames of a clip as they are looked at."""

    def __init__(self, data: bytes, name: str, answer: Callable[[list[Scan]], list[Prediction]]) -> None:
        self.data, self.name, self.answer_scans = data, name, answer
        self.blank: list[int] = []
        self.failed: dict[int, BcxError] = {}
        self.opened: dict[int, Scan] = {}
        self.answers: dict[int, Prediction] = {}
        self.usable: dict[int, bool] = {}

    def open(self, frame: int) -> Scan:
        return Scan.open(self.data, self.name, frame=frame)

    def shows_nothing(self, frame: int) -> bool | None:
        try:
            scan = self.open(frame)
        except BcxError as error:
            self.failed[frame] = error
            return None
        if clip.is_blank(scan.pixels):
            self.blank.append(frame)
            return True
        self.opened[frame] = scan
        return False

    def answer(self) -> None:
        """Answer what is open, and let its pixels go."""
        for frame, found in zip(self.opened, self.answer_scans(list(self.opened.values())), strict=True):
            self.usable[frame] = found.decision != NOT_A_SCAN and not found.scan.damage
            self.answers[frame] = found.without_pixels()
        self.opened.clear()


def answer_clip(
    data: bytes, name: str, count: int, limit: int, task: Task, answer: Callable[[list[Scan]], list[Prediction]]
) -> Prediction:
    """Answer a clip.

    Args:
        data: the whole file.
        name: what the answer and error messages call it.
        count: how many frames it has.
        limit: how many of them are read at most.
        task: whose positive class is the suspicion.
        answer: from scans to their answers.

    Returns:
        The decisive frame's answer, with `clip`; "refer" where frames disagree. A clip of nothing but blank frames is
        answered by the first of them.

    Raises:
        BcxError: no frame can be read; the first one's error.
    """
    frames = _Frames(data, name, answer)
    for _ in clip.look_through(range(count), limit, frames.shows_nothing):
        if len(frames.opened) == _AT_ONCE:
            frames.answer()
    if not frames.opened and not frames.answers:
        if not frames.blank:
            raise next(iter(frames.failed.values()))
        first = min(frames.blank)
        frames.blank.remove(first)
        frames.opened[first] = frames.open(first)
    if frames.opened:
        frames.answer()
    read = sorted(frames.answers)
    answers = [frames.answers[frame] for frame in read]
    found = clip.Clip(
        count=count,
        read=tuple(read),
        blank=tuple(sorted(frames.blank)),
        failed=tuple(sorted(frames.failed)),
        frame=read[0],
        probabilities=np.array([list(each.probabilities.values()) for each in answers], np.float32),
        answers=tuple(answers),
    )
    place, disagreement = _decide(found, [frames.usable[frame] for frame in read], task)
    decisive = replace(answers[place], clip=replace(found, frame=read[place])).with_pixels(data)
    if disagreement and decisive.decision in task.classes:
        return replace(decisive, decision=REFER, reason=disagreement, outlines=True)
    return decisive


def _decide(found: clip.Clip, usable: Sequence[bool], task: Task) -> tuple[int, str]:
    """Return the place of the decisive frame among those read, and what is said where frames disagree."""
    positive = task.classes.index(task.positive)
    labels = [each.label for each in found.answers]
    shows = [each.decision in task.classes and each.decision != task.absent for each in found.answers]
    places = clip.order(found.read, found.probabilities, usable, positive)
    return clip.choose(found.read, found.probabilities, usable, positive), clip.disagreement(labels, shows, places)
