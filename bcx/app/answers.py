"""What the page says about an answer beside its headline, and what can be read of a scan beside it.

The square of another place lives in the browser (`place.js`), in pixels of the scan; it is checked like any box.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bcx.app.incoming import box, event_value, flag, index
from bcx.app.markup import html
from bcx.explain import hiding
from bcx.explain.descriptors import describe_lesion
from bcx.imaging.crop import checked_box, find_box, square_of
from bcx.inference.prediction import Prediction
from bcx.report.pictures import as_image, enlarged_picture
from bcx.report.words import lesion_words, percent, place
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

#: Below this, a part is hardly larger than it was when the whole scan was read.
_ENLARGED_FROM = 1.2
#: What a card calls a scan of which a part is hidden.
HIDDEN = "this scan, part hidden"
PLACE = Path(__file__).with_name("place.js").read_text("utf-8")


def details_html(prediction: Prediction, task: Task) -> str:
    """Return exact probabilities, maps, what is measured of an outlined lesion, and a table of facts."""
    lesion = None if prediction.decision == NOT_A_SCAN else describe_lesion(prediction)
    return html.details(prediction, task, lesion)


def stages_html(prediction: Prediction, task: Task) -> str:
    """Return the card with the second stage and the words; "" for models with one stage, and for what is no scan."""
    enlarged = None if prediction.decision == NOT_A_SCAN else enlarged_picture(prediction)
    if enlarged is None or prediction.second_stage is None:
        return ""
    factor = (prediction.scan.width * prediction.scan.height) ** 0.5 / prediction.second_stage[2]
    return html.stages(enlarged, lesion_words(prediction.screen, task), factor if factor >= _ENLARGED_FROM else None)


def evidence_words(prediction: Prediction, task: Task, label: str) -> str:
    """Say what a class's map means, and where what speaks for it lies; `prediction` as large as it is shown."""
    speaks, against = prediction.style.ends
    said = f"{speaks.capitalize()} speaks for {label}, {against} against it. "
    if prediction.reading.lesion is not None:
        if label == task.absent:
            said += f"Whatever looks like a lesion speaks against {label}. "
        else:
            kinds = " and for ".join(name for name in task.classes if name != task.absent)
            said += (
                f"A lesion speaks for {kinds} alike, so both maps can be {speaks} there; what kind it looks like makes "
                "the difference between them. "
            )
    speaks_for = np.maximum(prediction.class_map(label), 0.0)[::3, ::3]  # close enough, and quick
    total = float(speaks_for.sum())
    if total <= 0:
        return f"{said}Nothing in this picture speaks for {label}."
    if prediction.lesion is not None and (inside := prediction.lesion[::3, ::3] >= prediction.outline_level).any():
        share = round(100 * float(speaks_for[inside].sum()) / total)
        return f"{said}{share}\u00a0% of what speaks for {label} lies inside the outlined lesion."
    ordered = np.sort(speaks_for, axis=None)[::-1]
    needed = int(np.searchsorted(np.cumsum(ordered, dtype=np.float64), total / 2)) + 1
    share = max(1, round(100 * needed / ordered.size))
    return f"{said}Half of what speaks for {label} lies in {share}\u00a0% of the picture."


def asked(event: gr.EventData, prediction: Prediction) -> dict[str, Any]:
    """Return what a click on the page asks for.

    Returns:
        `box`, which the second stage should read: a listed lesion's or the square's; or `hidden`, the scan, as large as
        a screen at most, with the square's circle hidden.

    Raises:
        RequestError: none of the three.
        ConfigError: the circle lies outside the scan.
    """
    pick = event_value(event, "pick")
    if pick is not None:
        return {"box": prediction.lesions[index(pick, len(prediction.lesions), "The lesion")].crop}
    sent, hidden = box(event_value(event, "box")), event_value(event, "hide")
    if hidden is None or not flag(hidden, "Whether to hide it"):
        return {"box": sent}
    shape, scan = (prediction.scan.height, prediction.scan.width), prediction.screen.scan
    edges = square_of(checked_box(sent, shape[1], shape[0]), shape).inside(shape)
    left, right = (round(edge * scan.width / shape[1]) for edge in edges[::2])
    top, bottom = (round(edge * scan.height / shape[0]) for edge in edges[1::2])
    y, x = np.linspace(-1, 1, bottom - top)[:, None], np.linspace(-1, 1, right - left)
    circle = np.zeros((scan.height, scan.width), bool)
    circle[top:bottom, left:right] = np.hypot(x, y) < 1
    notes = (*scan.notes, f"a circle was hidden by a person: {edges}")
    return {"hidden": replace(scan, pixels=hiding.hide(scan.pixels, circle), name=HIDDEN, notes=notes)}


def lesions_html(prediction: Prediction) -> str:
    """Return the list of what looks like a lesion and was not read a second time; "" where there is none."""
    scan, buttons = prediction.scan, []
    for number, each in enumerate(prediction.lesions):
        if not each.read:
            left, top, right, bottom = each.box
            where = place((left + right) / 2 / scan.width, (top + bottom) / 2 / scan.height)
            buttons.append((number, f"Read {where} ({percent(each.peak)})"))
    return html.lesions(buttons) if buttons else ""


def square_html(prediction: Prediction) -> str:
    """Return the image with the square, which starts where the model itself looked."""
    scan, lesion = prediction.scan, prediction.reading.lesion
    assert lesion is not None
    shape = scan.height, scan.width
    own, least = find_box(lesion, shape), square_of((0, 0, 1, 1), shape).side
    key = f"{scan.sha256[:16]} {prediction.model}"
    return html.square(key, scan, as_image(prediction.screen.shown), own, least)
