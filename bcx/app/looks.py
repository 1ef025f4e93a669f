"""The lesion map and the two looks in words, and the card that shows the second look.

>>> place(0.1, 0.2), place(0.5, 0.9), place(0.5, 0.5), place(0.9, 0.5)
('in the upper left', 'in the lower middle', 'in the middle', 'half way down on the right')
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bcx.app.pictures import ONE_LOOK, data_url, enlarged_picture
from bcx.imaging.outline import COLOUR, regions
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: What became of the likeliest place where none is outlined, by whether the first and the second look alone see one.
_CLOSEST = {
    (False, False): "and found nothing there",
    (False, True): "which looks like one only when it is enlarged",
    (True, False): "which no longer looks like one when it is enlarged",
    (True, True): "but the two looks do not agree on where it is",
}
#: Below this, a part is hardly larger than it was when the whole scan was read.
_ENLARGED_FROM = 1.2


def place(x: float, y: float) -> str:
    """Return where a point is, in words; x and y in shares of the picture's width and height."""
    column = ("left", "middle", "right")[min(int(3 * x), 2)]
    row = ("upper", "", "lower")[min(int(3 * y), 2)]
    if row:
        return f"in the {row} {column}"
    return "in the middle" if column == "middle" else f"half way down on the {column}"


def lesion_words(prediction: Prediction, task: Task) -> str:
    """Say where the network sees a lesion, or that it sees none, and whether that agrees with its answer.

    Args:
        prediction: of a model with a lesion map.
        task: says which class means "nothing there".
    """
    if prediction.decision == NOT_A_SCAN:
        return f"An outline in a picture that is probably no {task.image_noun} means nothing."
    assert prediction.lesion is not None
    found = regions(prediction.lesion, prediction.outline_level)
    nothing_there = prediction.label == task.absent
    if not found:
        none = (
            "It sees no place that stands out as a lump. The second look went to the place that came closest, "
            f"{_CLOSEST[_look_alone(prediction)]}."
        )
        return none if nothing_there else f"{none} The answer still leans to {prediction.label}: trust it less."
    largest, scan = found[0], prediction.scan
    where = place(
        (largest.left + largest.width / 2) / scan.width,
        (largest.top + largest.height / 2) / scan.height,
    )
    wide, high = (max(1, round(100 * part)) for part in (largest.width / scan.width, largest.height / scan.height))
    size = f"about {wide}\u00a0% as wide as the picture and {high}\u00a0% as high"
    if len(found) == 1:
        said = f"It sees one place that looks like a lump: {where} of the picture, {size}."
    else:
        many = "two" if len(found) == 2 else "several"
        said = (
            f"It sees {many} places that look like a lump, close together. The largest: {where} of the picture, {size}."
        )
    if nothing_there:
        return f"{said} The scan as a whole is read as {prediction.label}: look at that place yourself."
    return said


def _look_alone(prediction: Prediction) -> tuple[bool, bool]:
    """Whether each look alone takes some place for a lesion."""
    first, second = prediction.reading.lesion, prediction.reading.second
    assert first is not None
    assert second is not None
    return bool(first.max() >= ONE_LOOK), bool(second.lesion.max() >= ONE_LOOK)


def second_look_words(prediction: Prediction) -> str:
    """Say what the second look was, for a model that looks twice."""
    assert prediction.second_look is not None
    scan = prediction.scan
    factor = (scan.width * scan.height) ** 0.5 / prediction.second_look[2]
    larger = f", {factor:.1f} times enlarged" if factor >= _ENLARGED_FROM else ""
    return (
        f"The network looks twice: at the whole picture, then at the dashed square{larger}. Its answer rests on both "
        "looks. Only the most striking place is read again; a second lump elsewhere would not be outlined."
    )


def looks_html(prediction: Prediction, task: Task) -> str:
    """Return the card with the second look and the words; "" for models that look once."""
    enlarged = enlarged_picture(prediction)
    if enlarged is None:
        return ""
    return (
        f'<section class="bcx-looks"><figure><img src="{data_url(enlarged, side=448)}" alt="The dashed square as the '
        'network read it, with an outline around what this look alone takes for a lesion">'
        "<figcaption>The second look, as read</figcaption></figure>"
        f'<div><p class="bcx-means">{escape(lesion_words(prediction.screen, task))}</p>'
        f'<p class="bcx-means-not">{escape(second_look_words(prediction))}</p></div></section>'
    )


def lesion_key_html() -> str:
    """Return the key to the lesion layer: outline, fill and frame."""
    colour = "rgb({}, {}, {})".format(*COLOUR)
    return (
        f'<ul class="bcx-key" style="--lesion: {colour}">'
        '<li><span class="bcx-key-line"></span>outline: both looks see a lesion</li>'
        '<li><span class="bcx-key-fill"></span>fill: the stronger, the surer</li>'
        '<li><span class="bcx-key-frame"></span>read again, enlarged</li></ul>'
    )


def evidence_words(task: Task, label: str) -> str:
    """Say what the colours of one class's map mean for a model that first asks "is there a lesion?", then "which?"."""
    if label == task.absent:
        return (
            "Orange: looks as if nothing were there. Blue: looks like a lesion. "
            f"The evidence for {label} is that for a lesion, turned around."
        )
    other = next(name for name in task.classes if name not in (label, task.absent))
    return (
        f"Orange: a lesion that looks {label}. Blue: no lesion, or one that looks {other}. "
        "What speaks for the one kind speaks against the other."
    )
