"""The lesion map, both stages and the class maps in words, and the card that shows the second stage."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bcx.imaging.outline import COLOUR
from bcx.report.pictures import data_url, enlarged_picture
from bcx.report.words import lesion_words
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: Below this, a part is hardly larger than it was when the whole scan was read.
_ENLARGED_FROM = 1.2


def second_stage_words(prediction: Prediction) -> str:
    """Say what the second stage was, for a model that has one."""
    assert prediction.second_stage is not None
    scan = prediction.scan
    factor = (scan.width * scan.height) ** 0.5 / prediction.second_stage[2]
    larger = f", enlarged {factor:.1f} times" if factor >= _ENLARGED_FROM else ""
    return (
        f"The network reads the whole picture, then the dashed square{larger}. The result is the mean of both stages. "
        "A lesion outside the square is not outlined."
    )


def stages_html(prediction: Prediction, task: Task) -> str:
    """Return the card with the second stage and the words; "" for models with one stage, and for what is no scan."""
    enlarged = None if prediction.decision == NOT_A_SCAN else enlarged_picture(prediction)
    if enlarged is None:
        return ""
    return (
        f'<section class="bcx-stages"><figure><img src="{data_url(enlarged, side=448)}" alt="The dashed square as the '
        'second stage read it; outlined: what this stage alone takes for a lesion">'
        "<figcaption>Second stage</figcaption></figure>"
        f'<div><p class="bcx-means">{escape(lesion_words(prediction.screen, task))}</p>'
        f'<p class="bcx-means-not">{escape(second_stage_words(prediction))}</p></div></section>'
    )


def lesion_key_html() -> str:
    """Return the key to the lesion map: outline, fill and frame."""
    colour = "rgb({}, {}, {})".format(*COLOUR)
    return (
        f'<ul class="bcx-key" style="--lesion: {colour}">'
        '<li><span class="bcx-key-line"></span>lesion, found in both stages</li>'
        '<li><span class="bcx-key-fill"></span>how sure</li>'
        '<li><span class="bcx-key-frame"></span>second stage</li></ul>'
    )


def evidence_words(prediction: Prediction, task: Task, label: str) -> str:
    """Say what one class's map means, and where what speaks for the class lies.

    Args:
        prediction: at the size at which it is shown.
        task: of the model.
        label: the class.
    """
    said = f"Purple speaks for {label}, green against it."
    if prediction.reading.lesion is not None:
        if label == task.absent:
            said += f" Whatever looks like a lesion speaks against {label}."
        else:
            kinds = [name for name in task.classes if name != task.absent]
            said += (
                f" A lesion speaks for {' and for '.join(kinds)} alike, so both maps can be purple there; what kind it "
                "looks like makes the difference between them."
            )
    return f"{said} {_share_words(prediction, label)}"


def _share_words(prediction: Prediction, label: str) -> str:
    """Say which share of what speaks for a class lies where."""
    speaks_for = np.maximum(prediction.class_map(label), 0.0)[::3, ::3]  # close enough, and quick
    total = float(speaks_for.sum())
    if total <= 0:
        return f"Nothing in this picture speaks for {label}."
    if prediction.lesion is not None and (inside := prediction.lesion[::3, ::3] >= prediction.outline_level).any():
        share = round(100 * float(speaks_for[inside].sum()) / total)
        return f"{share}\u00a0% of what speaks for {label} lies inside the outlined lesion."
    ordered = np.sort(speaks_for, axis=None)[::-1]
    needed = int(np.searchsorted(np.cumsum(ordered, dtype=np.float64), total / 2)) + 1
    return (
        f"Half of what speaks for {label} lies in {max(1, round(100 * needed / ordered.size))}\u00a0% of the picture."
    )
