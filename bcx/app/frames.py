"""The frames of a clip on the page: the probability of each class over time, and one frame's own answer."""

from __future__ import annotations

from dataclasses import replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bcx.report.words import percent

if TYPE_CHECKING:
    from bcx.inference.clip import Clip
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: Of the plotted field, in SVG units; it is stretched to the width of the page.
_WIDTH, _HEIGHT = 560, 110


def frame_answer(prediction: Prediction, place: int, file: Path) -> Prediction:
    """Return the answer of one of the frames that were read, with its pixels; the network does not run.

    Args:
        prediction: the clip's answer, with the answers of its frames.
        place: among the frames read, from 0.
        file: where the clip is.

    Raises:
        BcxError: the file cannot be read any more.
    """
    clip = prediction.clip
    assert clip is not None
    return replace(
        clip.answers[place], clip=replace(clip, frame=clip.read[place]), mask_text=prediction.mask_text
    ).with_pixels(file)


def clip_html(clip: Clip, task: Task, shown: int) -> str:
    """Return the probability of each class over the frames read, with the frame on show marked.

    Args:
        shown: its place among the frames read, from 0.
    """
    values = ", ".join(f"{name} {percent(p)}" for name, p in zip(task.classes, clip.probabilities[shown], strict=True))
    said = f"Frame {clip.read[shown] + 1:,} of {clip.count:,}: {values}."
    lines = "".join(
        f'<polyline points="{_points(clip, place)}" style="stroke: {colour}"/>'
        for place, colour in enumerate(task.colours)
    )
    half = f'<line x1="0" x2="{_WIDTH}" y1="{_y(0.5):.1f}" y2="{_y(0.5):.1f}" class="bcx-guide"/>'
    at = _x(clip, clip.read[shown])
    key = "".join(
        f'<span><span class="bcx-dot" style="background: {colour}"></span>{escape(name)}</span>'
        for name, colour in zip(task.classes, task.colours, strict=True)
    )
    return (
        '<figure class="bcx-clip"><div class="bcx-clip-chart">'
        '<span class="bcx-clip-levels" aria-hidden="true"><span>100 %</span><span>50 %</span><span>0 %</span></span>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Probability of each class over {len(clip.read)} frames. {escape(said)}">{half}{lines}'
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{_HEIGHT}" class="bcx-shown"/></svg>'
        f'<span class="bcx-clip-ends" aria-hidden="true"><span>frame {clip.read[0] + 1:,}</span>'
        f"<span>{clip.read[-1] + 1:,}</span></span></div>"
        f'<figcaption class="bcx-caption"><span class="bcx-clip-key">{key}</span>{escape(said)} '
        f"{escape(clip.note().capitalize())}.</figcaption></figure>"
    )


def _x(clip: Clip, frame: int) -> float:
    first, last = clip.read[0], clip.read[-1]
    return _WIDTH * (frame - first) / max(1, last - first)


def _y(probability: float) -> float:
    return 4 + (_HEIGHT - 8) * (1 - probability)


def _points(clip: Clip, place: int) -> str:
    pairs = zip(clip.read, clip.probabilities[:, place], strict=True)
    return " ".join(f"{_x(clip, frame):.1f},{_y(float(p)):.1f}" for frame, p in pairs)
