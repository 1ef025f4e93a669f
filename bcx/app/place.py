"""Read another place: further lesions by one click each, and a square that a person puts where the network should look.

The square lives in the browser (`place.js`), in pixels of the scan; what is sent of it is checked like any box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
import numpy as np

from bcx.app.incoming import PICK, box, event_value, flag, index
from bcx.explain import hiding
from bcx.imaging.crop import find_box
from bcx.inference.places import checked_box, inside, square_of
from bcx.report.pictures import as_image, data_url
from bcx.report.words import percent, place
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.app.privacy import Session
    from bcx.imaging.scan import Scan
    from bcx.inference.prediction import Prediction

#: Longer side of the picture, in pixels.
SIDE = 720
#: What a card calls a scan of which a part is hidden.
HIDDEN = "this scan, part hidden"
_SCRIPT = Path(__file__).with_name("place.js").read_text("utf-8")


@dataclass(frozen=True)
class OtherPlaces:
    """The components, in the order in which `show` fills them."""

    lesions: gr.HTML
    folded: gr.Accordion
    square: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `show` and `hide` return values for."""
        return [self.lesions, self.folded, self.square]


def build_other_places() -> OtherPlaces:
    """Lay them out, hidden until there is an answer of two stages."""
    lesions = gr.HTML(visible=False, js_on_load=PICK, elem_id="classify-lesions")
    with gr.Accordion("Read another place", open=False, visible=False, elem_id="classify-place-box") as folded:
        square = gr.HTML(js_on_load=_SCRIPT, elem_id="classify-place")
    return OtherPlaces(lesions, folded, square)


def show(prediction: Prediction) -> list[Any]:
    """Return the values of `OtherPlaces.outputs` for an answer; those of `hide` where no other place can be read."""
    if prediction.second_stage is None or prediction.decision == NOT_A_SCAN or prediction.clip is not None:
        return hide()
    html = lesions_html(prediction)
    return [gr.update(value=html, visible=bool(html)), gr.update(visible=True), square_html(prediction)]


def hide() -> list[Any]:
    """Return the values of `OtherPlaces.outputs` without an answer of two stages."""
    return [gr.update(value="", visible=False), gr.update(visible=False), ""]


@dataclass(frozen=True)
class Asked:
    """How a scan should be read again.

    Attributes:
        box: what the second stage should read; None: it chooses.
        hidden: the scan, as large as a screen at most, with a part of it hidden; None: nothing is.
    """

    box: tuple[float, ...] | None = None
    hidden: Scan | None = None


def asked(event: gr.EventData, prediction: Prediction | None) -> Asked | None:
    """Return what a click asks for: a listed lesion, the square's box, or the square's circle hidden.

    Args:
        event: of the page, unchecked.
        prediction: on show; None where there is none, and then nothing is asked for.

    Raises:
        RequestError: none of the three.
        ConfigError: the circle lies outside the scan.
    """
    if prediction is None:
        return None
    pick = event_value(event, "pick")
    if pick is not None:
        return Asked(prediction.lesions[index(pick, len(prediction.lesions), "The lesion")].crop)
    sent, hidden = box(event_value(event, "box")), event_value(event, "hide")
    if hidden is None or not flag(hidden, "Whether to hide it"):
        return Asked(sent)
    shape, scan = (prediction.scan.height, prediction.scan.width), prediction.screen.scan
    edges = inside(square_of(checked_box(sent, shape[1], shape[0]), shape), shape)
    left, right = (round(edge * scan.width / shape[1]) for edge in edges[::2])
    top, bottom = (round(edge * scan.height / shape[0]) for edge in edges[1::2])
    y, x = np.linspace(-1, 1, bottom - top)[:, None], np.linspace(-1, 1, right - left)
    circle = np.zeros((scan.height, scan.width), bool)
    circle[top:bottom, left:right] = np.hypot(x, y) < 1
    notes = (*scan.notes, f"a circle was hidden by a person: {edges}")
    return Asked(hidden=replace(scan, pixels=hiding.hide(scan.pixels, circle), name=HIDDEN, notes=notes))


def logged(session: Session) -> dict[str, Any]:
    """Return the JSON of the answer on show, with that of a person's box or hidden part where it stands beside it."""
    found, beside = session.on_show, session.compared and session.compared[0]
    assert found is not None
    if beside and (beside.scan.sha256, beside.model) == (found.scan.sha256, found.model):
        key = "your_box" if beside.box else "part_hidden" if beside.name == HIDDEN else None
        return {**found.to_dict(), key: beside.to_dict()} if key else found.to_dict()
    return found.to_dict()


def lesions_html(prediction: Prediction) -> str:
    """Return the list of what looks like a lesion and was not read a second time; "" where there is none."""
    scan, buttons = prediction.scan, []
    for number, each in enumerate(prediction.lesions):
        if not each.read:
            left, top, right, bottom = each.box
            where = place((left + right) / 2 / scan.width, (top + bottom) / 2 / scan.height)
            said = f"Read {where} ({percent(each.peak)})"
            buttons.append(f'<button type="button" data-pick="{number}">{escape(said)}</button>')
    if not buttons:
        return ""
    more = "One more place looks" if len(buttons) == 1 else f"{len(buttons)} more places look"
    return (
        f'<section class="bcx-lesions" aria-label="Further lesions"><p>{more} like a lesion to the first stage; the '
        "second has not read it. Of all results the most suspicious one counts.</p>"
        f'<div class="bcx-take">{"".join(buttons)}</div></section>'
    )


def square_html(prediction: Prediction) -> str:
    """Return the picture with the square, which starts where the model itself looked."""
    scan, reading = prediction.scan, prediction.reading
    assert reading.lesion is not None
    shape = scan.height, scan.width
    own, least = find_box(reading.lesion, shape), square_of((0, 0, 1, 1), shape).side
    key = escape(f"{scan.sha256[:16]} {prediction.model}")
    corners = "".join(f'<i data-corner="{corner}"></i>' for corner in ("nw", "ne", "sw", "se"))
    return (
        f'<section class="bcx-place" aria-label="Read another place" data-key="{key}" '
        f'data-width="{scan.width}" data-height="{scan.height}" data-least="{least}" '
        f'data-square="{own.x} {own.y} {own.side}">'
        '<p class="bcx-caption">Did the network look at the wrong place? Move the square, pull its corners, or draw a '
        "new one, with some room around the lesion. Arrow keys move it, with Shift they resize it. "
        "Or hide the circle in it, and see how the result moves.</p>"
        f'<div class="bcx-place-stage" style="--shape: {scan.width} / {scan.height}">'
        f'<img src="{data_url(as_image(prediction.screen.shown), SIDE)}" alt="The scan" draggable="false">'
        '<div class="bcx-place-frame" tabindex="0" role="application" aria-roledescription="movable square" '
        'aria-label="Square that the second stage reads: arrow keys move it, Shift and arrow keys resize it, Enter '
        f'reads it">{corners}</div></div>'
        '<div class="bcx-take"><button type="button" data-place="read">Read this box</button>'
        '<button type="button" data-place="hide">Hide this circle</button>'
        '<button type="button" data-place="own">Back to the model\'s square</button><span role="status"></span></div>'
        "</section>"
    )
