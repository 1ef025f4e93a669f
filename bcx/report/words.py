"""An answer in plain words, for page and report: what it says, what it means and what it does not mean.

>>> percent(0.834), percent(0.9991), percent(0.001)
('83 %', 'over 99 %', 'under 1 %')
>>> place(0.1, 0.2), place(0.5, 0.9), place(0.5, 0.5), place(0.9, 0.5)
('upper left', 'lower middle', 'centre', 'right')
"""

from typing import NamedTuple

from bcx.imaging.overlay import regions
from bcx.inference.prediction import Prediction
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

NOTICE = "For research and teaching, never for diagnosis."
NEUTRAL = "#6b7280"
#: From this probability on, a class is in question too: the rule answers "benign" only below about as much. Of many
#: classes this many are named.
_IN_QUESTION, _MOST_NAMED = 0.05, 3


class Words(NamedTuple):
    """An answer in words: a headline, a number beside it, what it means and what it does not mean."""

    headline: str
    number: str
    means: str
    means_not: str
    colour: str


def percent(probability: float) -> str:
    """Return a probability as whole percent; never 0 or 100, since a network is never certain."""
    whole = round(100 * probability)
    return "under 1 %" if whole < 1 else "over 99 %" if whole > 99 else f"{whole} %"


def words(prediction: Prediction, task: Task) -> Words:
    if prediction.decision == NOT_A_SCAN:
        means_not = (
            "A network gives probabilities for any picture, a photograph too. Here they mean nothing; they stand under "
            "Details."
        )
        return Words(f"Probably not a {task.image_noun}", "", prediction.reason, means_not, NEUTRAL)
    if prediction.decision == REFER:
        means_not = (
            "A person should read this picture. It does not mean that anything is wrong: the network cannot tell."
        )
        return Words(referral(prediction, task).capitalize(), "", prediction.reason, means_not, NEUTRAL)
    place = task.classes.index(prediction.label)
    means_not = "The network sees one picture and can be wrong. This is not a diagnosis."
    number = percent(prediction.confidence)
    return Words(prediction.label.capitalize(), number, task.meaning[place], means_not, task.colours[place])


def ranked(prediction: Prediction) -> list[str]:
    """Return the classes, the most probable first."""
    return sorted(prediction.probabilities, key=lambda name: -prediction.probabilities[name])


def referral(prediction: Prediction, task: Task) -> str:
    """Say what a scan that is referred may be: "refer: benign or malignant", "refer: benign, normal or malignant".

    The positive class is never left out where it is what could not be ruled out. Where one class alone is in question,
    as for a scan unlike those learned from, it is not named, since that would say too much: "refer to a person".
    """
    first, *others = ranked(prediction)
    named = [first, *(name for name in others if prediction.probabilities[name] >= _IN_QUESTION)][:_MOST_NAMED]
    if task.positive not in named and task.positive in prediction.reason:
        named.append(task.positive)
    return f"refer: {', '.join(named[:-1])} or {named[-1]}" if len(named) > 1 else "refer to a person"


def place(x: float, y: float) -> str:
    """Return where a point is, in words; x and y in shares of the image's width and height."""
    column = ("left", "middle", "right")[min(int(3 * x), 2)]
    row = ("upper", "", "lower")[min(int(3 * y), 2)]
    return f"{row} {column}" if row else column.replace("middle", "centre")


def lesion_words(prediction: Prediction, task: Task) -> str:
    """Say where a model with a lesion map finds a lesion, or that it finds none, and whether its result agrees."""
    assert prediction.lesion is not None
    found = regions(prediction.lesion, prediction.outline_level)
    nothing_there = prediction.label == task.absent
    if not found:
        none = "No lesion found in both stages."
        return none if nothing_there else f"{none} Yet {prediction.label} is more probable: trust the result less."
    (left, top, width, height), scan = found[0], prediction.scan
    where = place((left + width / 2) / scan.width, (top + height / 2) / scan.height)
    wide, high = (max(1, round(100 * part)) for part in (width / scan.width, height / scan.height))
    size = f"{where}, {wide}\u00a0% of the picture's width and {high}\u00a0% of its height"
    said = f"{len(found)} lesions found. Largest: {size}." if len(found) > 1 else f"One lesion found: {size}."
    return f"{said} Yet the picture as a whole looks {prediction.label}: check this place." if nothing_there else said
