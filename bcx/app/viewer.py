"""The viewer: scan and overlay under one slider, with class and opacity that never run the network again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.answers import legend_html
from bcx.app.pictures import as_image, save_png

if TYPE_CHECKING:
    from bcx.app.privacy import Session
    from bcx.prediction import Prediction
    from bcx.tasks import Task

OPACITY = 50
#: Gradio gives the slider's pictures an empty alternative text; people who cannot see them need a true one.
NAME_PICTURES = """
const viewer = element.closest('.bcx-viewer');
const names = ['The scan as it was read', 'The scan, coloured by the evidence for and against a class'];
const name = () => viewer.querySelectorAll('[data-testid="imageslider-image"]').forEach((picture, place) => {
  if (picture.alt !== names[place]) picture.alt = names[place];
});
new MutationObserver(name).observe(viewer, {childList: true, subtree: true});
name();
"""


@dataclass(frozen=True)
class Viewer:
    """The viewer's components, in the order in which `show` fills them."""

    box: gr.Column
    slider: gr.ImageSlider
    picker: gr.Radio
    opacity: gr.Slider
    legend: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `show` and `hide` return values for."""
        return [self.box, self.slider, self.picker, self.legend]


def build_viewer(task: Task, name: str) -> Viewer:
    """Lay out a viewer, hidden until there is something to see. `name` prefixes the elements' ids."""
    with gr.Column(visible=False, elem_id=f"{name}-viewer", elem_classes="bcx-viewer") as box:
        slider = gr.ImageSlider(
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            slider_position=50,
            max_height=560,
            elem_id=f"{name}-slider",
        )
        gr.HTML(
            '<p class="bcx-caption">Left: the scan. Right: where the network looked. Drag the line between them.</p>'
        )
        legend = gr.HTML(js_on_load=NAME_PICTURES, elem_id=f"{name}-legend")
        with gr.Row(elem_classes="bcx-controls"):
            picker = gr.Radio(
                [(label.capitalize(), label) for label in task.classes],
                value=task.classes[0],
                label="Evidence for",
                elem_id=f"{name}-class",
                min_width=240,
            )
            opacity = gr.Slider(
                0,
                100,
                value=OPACITY,
                step=5,
                label="Strength of the overlay (%)",
                elem_id=f"{name}-opacity",
                min_width=200,
            )
    return Viewer(box, slider, picker, opacity, legend)


def show(session: Session, name: str, prediction: Prediction, opacity: float) -> list[Any]:
    """Return the values of `Viewer.outputs` for a new prediction."""
    scan = save_png(as_image(prediction.scan.pixels).convert("RGB"), session.picture(f"{name}-scan"))
    session.shown[name] = scan
    pair = (scan, _overlay(session, name, prediction, prediction.label, opacity))
    return [gr.update(visible=True), pair, prediction.label, legend_html(prediction)]


def hide() -> list[Any]:
    """Return the values of `Viewer.outputs` when there is nothing to see."""
    return [gr.update(visible=False), None, gr.skip(), ""]


def repaint(session: Session, name: str, prediction: Prediction, label: str, opacity: float) -> tuple[str, str]:
    """Return the pair of pictures for another class or opacity; the network does not run."""
    return session.shown[name], _overlay(session, name, prediction, label, opacity)


def _overlay(session: Session, name: str, prediction: Prediction, label: str, opacity: float) -> str:
    return save_png(prediction.overlay(label, opacity / 100), session.picture(f"{name}-overlay"))
