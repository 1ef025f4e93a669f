"""Read another place: further lesions by one click each, and a square that a person puts where the network should look.

The square lives in the browser (`place.js`), in pixels of the scan; what is sent of it is checked like any box.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from bcx.app.incoming import PICK, box, event_value, flag, index
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.wiring import Changes
from bcx.explain import hiding
from bcx.imaging.crop import checked_box, find_box, square_of
from bcx.inference.prediction import Prediction
from bcx.report.pictures import as_image
from bcx.report.words import percent, place
from bcx.trust.claims import NOT_A_SCAN

#: What a card calls a scan of which a part is hidden.
HIDDEN = "this scan, part hidden"
SHOW_BESIDE = "() => document.querySelector('#NAME-compare section')?.scrollIntoView({behavior: 'smooth'})"
_SCRIPT = Path(__file__).with_name("place.js").read_text("utf-8")


class OtherPlaces:
    """The components; each method returns new values by component."""

    def __init__(self, name: str) -> None:
        """Lay them out, hidden until there is an answer of two stages. `name` prefixes the elements' ids."""
        self.lesions = gr.HTML(visible=False, js_on_load=PICK, elem_id=f"{name}-lesions")
        title = "Read another place"
        with gr.Accordion(title, open=False, visible=False, elem_id=f"{name}-place-box") as self.folded:
            self.square = gr.HTML(js_on_load=_SCRIPT, elem_id=f"{name}-place")
        self.outputs = [self.lesions, self.folded, self.square]

    def show(self, prediction: Prediction) -> Changes:
        """Show what can be read again; nothing where no other place can be."""
        if prediction.second_stage is None or prediction.decision == NOT_A_SCAN or prediction.clip is not None:
            return self.hide()
        lesions = lesions_html(prediction)
        return {
            self.lesions: gr.update(value=lesions, visible=bool(lesions)),
            self.folded: gr.update(visible=True),
            self.square: square_html(prediction),
        }

    def hide(self) -> Changes:
        """Show nothing."""
        return {
            self.lesions: gr.update(value="", visible=False),
            self.folded: gr.update(visible=False),
            self.square: "",
        }


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


def logged(session: Session) -> dict[str, Any]:
    """Return the JSON of the answer on show, with that of a person's box or hidden part where it stands beside it."""
    found, beside = session.on_show, session.compared and session.compared[0]
    assert found is not None
    answer = found.to_dict()
    if beside and (beside.scan.sha256, beside.model) == (found.scan.sha256, found.model):
        key = "your_box" if beside.box else "part_hidden" if beside.name == HIDDEN else None
        return {**answer, key: beside.to_dict()} if key else answer
    return answer


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
