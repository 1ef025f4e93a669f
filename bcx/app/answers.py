"""What the page says about an answer beside its headline: facts, the lesion, both stages, the class maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bcx.app.markup import html
from bcx.explain.descriptors import describe_lesion
from bcx.inference.prediction import Prediction
from bcx.report.pictures import enlarged_picture, layer_picture
from bcx.report.words import lesion_words
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

#: Below this, a part is hardly larger than it was when the whole scan was read.
_ENLARGED_FROM = 1.2


def either(names: Sequence[str]) -> str:
    """Return the names as words.

    >>> either(["normal", "benign", "malignant"])
    'normal, benign or malignant'
    """
    return ", ".join(names[:-1]) + " or " + names[-1]


def empty_html(task: Task, examples: bool) -> str:
    """Return the card shown before the first image. `examples`: whether there are any to try."""
    steps = (
        f"Choose one {task.image_noun}{', or try an example' if examples else ''}.",
        f"Get a probability for {either(task.classes)}, or the advice that a person should read it.",
        "See on the picture what speaks for and against each class.",
    )
    return html.empty("No picture yet", "The result appears here", steps)


def details_html(prediction: Prediction, task: Task) -> str:
    """Return exact probabilities, maps, what is measured of an outlined lesion, and a table of facts."""
    return html.details(prediction, task, facts(prediction), lesion_facts(prediction))


def facts(prediction: Prediction) -> list[tuple[str, str]]:
    """Return file, decision, reason, flags, notes, stages, model, weights and time, by what they are called."""
    scan, box = prediction.scan, prediction.lesion_box
    stages = []
    if prediction.second_stage is not None:
        x, y, side = prediction.second_stage
        where = "none outlined" if box is None else f"x {box[0]} to {box[2]}, y {box[1]} to {box[3]} (pixels)"
        stages = [("Lesion", where), ("Second stage", f"{side} x {side} pixels from x {x}, y {y}")]
    return [
        ("File", prediction.name),
        ("Size", f"{scan.width} x {scan.height} pixels"),
        ("Read as", "; ".join(prediction.notes) or "as it is"),
        ("Decision", prediction.decision),
        ("Reason", prediction.reason or "none needed"),
        ("Doubts", "; ".join(prediction.flags) or "none"),
        *stages,
        ("Model", prediction.model),
        ("Weights (SHA-256)", prediction.weights_sha256),
        ("Time", f"{1000 * prediction.seconds:.0f} ms ({prediction.backend})"),
    ]


def lesion_facts(prediction: Prediction) -> list[tuple[str, str]]:
    """Return size, orientation, shape, margin and echoes of the outlined lesion; empty where none is outlined."""
    found = None if prediction.decision == NOT_A_SCAN else describe_lesion(prediction)
    if found is None:
        return []
    edge = "no edge" if found.margin_width is None else f"edge {found.margin_width:.0%} of the diameter wide"
    return [
        ("Size", f"{found.long_axis:.0f} {found.unit} long; {found.width:.0f} wide, {found.depth:.0f} deep"),
        ("Orientation", f"{found.orientation}; long axis {found.angle:.0f}° from the skin"),
        ("Shape", f"{found.shape}; circularity {found.circularity:.2f}, lobulation {found.lobulation:.2f}"),
        ("Margin", f"{found.margin}; {edge}, {found.corners} corner{'' if found.corners == 1 else 's'}"),
        ("Echo", f"{found.echo}{_levels(found.echo_difference, 'than fat')}"),
        ("Behind it", f"{found.posterior}{_levels(found.posterior_difference, 'than beside it')}"),
    ]


def _levels(difference: float | None, against: str) -> str:
    if difference is None:
        return ""
    return f"; {abs(difference):.0f} grey levels {'brighter' if difference > 0 else 'darker'} {against}"


def compare_html(
    answers: Sequence[tuple[Prediction, str | None]], task: Task, class_: str | None, opacity: float
) -> str:
    """Return two answers in columns on the same map, one below the other where the page is narrow.

    Args:
        answers: each with its pixels, and what a shipped example was made to show.
        task: of both.
        class_: whose map is shown; None: the lesion's, or the positive class's where not both have one.
        opacity: 0..1.
    """
    if class_ is None and any(found.reading.lesion is None for found, _ in answers):
        class_ = task.positive
    columns = [(found, made, layer_picture(found.screen, class_, opacity)) for found, made in answers]
    return html.compare(columns, task, class_)


def stages_html(prediction: Prediction, task: Task) -> str:
    """Return the card with the second stage and the words; "" for models with one stage, and for what is no scan."""
    enlarged = None if prediction.decision == NOT_A_SCAN else enlarged_picture(prediction)
    if enlarged is None:
        return ""
    return html.stages(enlarged, lesion_words(prediction.screen, task), second_stage_words(prediction))


def second_stage_words(prediction: Prediction) -> str:
    """Say what the second stage was, for a model that has one."""
    assert prediction.second_stage is not None
    factor = (prediction.scan.width * prediction.scan.height) ** 0.5 / prediction.second_stage[2]
    larger = f", enlarged {factor:.1f} times" if factor >= _ENLARGED_FROM else ""
    return (
        f"The network reads the whole picture, then the dashed square{larger}. The result is the mean of both stages. "
        "A lesion outside the square is not outlined."
    )


def evidence_words(prediction: Prediction, task: Task, label: str) -> str:
    """Say what a class's map means, and where what speaks for it lies; `prediction` as large as it is shown."""
    speaks, against = prediction.style.ends
    said = f"{speaks.capitalize()} speaks for {label}, {against} against it."
    if prediction.reading.lesion is not None:
        if label == task.absent:
            said += f" Whatever looks like a lesion speaks against {label}."
        else:
            kinds = [name for name in task.classes if name != task.absent]
            said += (
                f" A lesion speaks for {' and for '.join(kinds)} alike, so both maps can be {speaks} there; what kind "
                "it looks like makes the difference between them."
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
