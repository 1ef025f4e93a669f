"""The viewer: scan and overlay under one slider, with layer and opacity that never run the network again."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.answers import legend_html
from bcx.app.frames import clip_html
from bcx.app.incoming import choice, number
from bcx.app.stages import evidence_words, lesion_key_html, stages_html
from bcx.errors import RequestError
from bcx.report.pictures import as_image, encoded, layer_picture
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from PIL import Image

    from bcx.app.privacy import Session
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

OPACITY = 50
#: Where the line between the pictures stands, and how far it keeps from what it should not cut: per cent of the width.
LINE, MARGIN = 50.0, 2.0
#: The picker's value for the lesion layer; every other value is a class. With a space, as no class's name has.
LESION = "lesion map"
#: Shows or hides the overlay, in the browser alone.
SWITCH = "(on) => { document.getElementById('VIEWER').classList.toggle('bcx-bare', !on); }"
#: Gradio gives the slider's pictures an empty alternative text; people who cannot see them need a true one.
NAME_PICTURES = """
const viewer = element.closest('.bcx-viewer');
const name = () => viewer.querySelectorAll('[data-testid="imageslider-image"]').forEach((picture, place) => {
  const laid = viewer.querySelector('[data-laid-over]')?.dataset.laidOver ?? '';
  const text = place ? `The scan, showing ${laid}` : 'The scan as it was read';
  if (picture.alt !== text) picture.alt = text;
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
    controls: gr.Row
    stages: gr.HTML
    frame: gr.Slider
    clip: gr.HTML

    @property
    def outputs(self) -> list[Any]:
        """What `show` and `hide` return values for."""
        return [self.box, self.slider, self.picker, self.legend, self.controls, self.stages, self.frame, self.clip]


def build_viewer(task: Task, name: str) -> Viewer:
    """Lay out a viewer, hidden until there is something to see. `name` prefixes the elements' ids."""
    with gr.Column(visible=False, elem_id=f"{name}-viewer", elem_classes="bcx-viewer") as box:
        slider = gr.ImageSlider(
            show_label=False,
            format="png",
            type="filepath",
            interactive=False,
            buttons=["fullscreen"],
            slider_position=LINE,
            max_height=560,
            elem_id=f"{name}-slider",
        )
        frame = gr.Slider(1, 2, value=1, step=1, label="Frame", visible=False, elem_id=f"{name}-frame")
        clip = gr.HTML(visible=False, elem_id=f"{name}-clip")
        legend = gr.HTML(js_on_load=NAME_PICTURES, elem_id=f"{name}-legend")
        with gr.Row(elem_classes="bcx-controls") as controls:
            picker = gr.Radio(**_layers(task), label="Map", elem_id=f"{name}-class", min_width=240, scale=6)
            opacity = gr.Slider(
                0,
                100,
                value=OPACITY,
                step=5,
                label="Strength (%)",
                elem_id=f"{name}-opacity",
                min_width=180,
                scale=3,
            )
            on = gr.Checkbox(True, label="Overlay", elem_id=f"{name}-on", min_width=100, scale=1)
        stages = gr.HTML(visible=False, elem_id=f"{name}-stages")
    on.input(None, on, None, js=SWITCH.replace("VIEWER", f"{name}-viewer"), api_visibility="private")
    return Viewer(box, slider, picker, opacity, legend, controls, stages, frame, clip)


def _layers(task: Task, lesion: bool = False) -> dict[str, Any]:
    """Return the choices of the picker: the lesion map, where there is one, then the classes."""
    classes = [(label.capitalize(), label) for label in task.classes]
    choices = [("Lesion", LESION), *classes] if lesion else classes
    return {"choices": choices, "value": choices[0][1]}


def show(session: Session, name: str, prediction: Prediction, task: Task, opacity: float) -> list[Any]:
    """Return the values of `Viewer.outputs` for a new prediction: the lesion layer first, where the model has one."""
    _save_scan(session, name, prediction)
    lesion = prediction.reading.lesion is not None
    layer = LESION if lesion else prediction.label
    pair, legend = repaint(session, name, prediction, task, layer, opacity)
    slider = gr.update(value=pair, slider_position=_line(prediction))
    return [
        gr.update(visible=True),
        slider,
        gr.update(**{**_layers(task, lesion), "value": layer}),
        legend,
        gr.update(visible=prediction.decision != NOT_A_SCAN),
        stages_update(prediction, task),
        *_clip(prediction, task),
    ]


def stages_update(prediction: Prediction, task: Task) -> Any:
    """Return the value of the second stage's card, hidden where there is none."""
    html = stages_html(prediction, task)
    return gr.update(value=html, visible=bool(html))


def _save_scan(session: Session, name: str, prediction: Prediction) -> None:
    picture = as_image(prediction.screen.shown).convert("RGB")
    session.shown[name] = _save(session, f"{name}-scan", picture)


def _save(session: Session, role: str, picture: Image.Image) -> str:
    content, suffix = encoded(picture)
    path = session.picture(role, suffix)
    path.write_bytes(content)
    return str(path)


def _clip(prediction: Prediction, task: Task) -> list[Any]:
    """Return the values of the frame slider, on the decisive frame, and of the chart; hidden for a single picture."""
    clip = prediction.clip
    if clip is None or len(clip.read) < 2:
        return [gr.update(visible=False), gr.update(value="", visible=False)]
    place = clip.read.index(clip.frame)
    label = f"Frame: one of the {len(clip.read)} that were read"
    slider = gr.update(visible=bool(clip.answers), minimum=1, maximum=len(clip.read), value=place + 1, label=label)
    return [slider, gr.update(value=clip_html(clip, task, place), visible=True)]


def show_frame(session: Session, name: str, prediction: Prediction, task: Task, layer: Any, opacity: Any) -> list[Any]:
    """Return the values of slider, legend, stages and chart for another frame of a clip; the network does not run.

    Raises:
        RequestError: as `repaint`.
    """
    before = session.shown[name]
    _save_scan(session, name, prediction)
    try:
        pair, legend = repaint(session, name, prediction, task, layer, opacity)
    except RequestError:
        session.shown[name] = before
        raise
    return [pair, legend, stages_update(prediction, task), _clip(prediction, task)[1]]


def _line(prediction: Prediction) -> float:
    """Return where the line between the pictures stands at first, in per cent of their width.

    Not across the second stage: its outline should be seen whole.
    """
    if prediction.second_stage is None:
        return LINE
    return min(LINE, max(MARGIN, 100 * prediction.second_stage[0] / prediction.scan.width - MARGIN))


def hide() -> list[Any]:
    """Return the values of `Viewer.outputs` when there is nothing to see."""
    hidden = gr.update(value="", visible=False)
    return [gr.update(visible=False), None, gr.skip(), "", gr.skip(), hidden, gr.update(visible=False), hidden]


def checked(task: Task, layer: Any, opacity: Any) -> tuple[str, float]:
    """Return what a page sent as layer and strength of the overlay, the latter in per cent.

    Raises:
        RequestError: no such layer, or a strength that is not within 0 to 100.
    """
    opacity = number(opacity, "The strength of the overlay", 0, 100)
    return choice(layer, [LESION, *task.classes], "The layer"), opacity


def repaint(
    session: Session, name: str, prediction: Prediction, task: Task, layer: Any, opacity: Any
) -> tuple[tuple[str, str], str]:
    """Return the pair of pictures and the legend for another layer or opacity; the network does not run.

    Raises:
        RequestError: as `checked`.
    """
    layer, opacity = checked(task, layer, opacity)
    picture = layer_picture(prediction.screen, None if layer == LESION else layer, opacity / 100)
    overlay = _save(session, f"{name}-overlay", picture)
    return (session.shown[name], overlay), _legend(prediction, task, layer)


def _legend(prediction: Prediction, task: Task, layer: str) -> str:
    """Return the caption of the pictures, the key to the colours, and what they mean."""
    if prediction.decision == NOT_A_SCAN:
        return '<p class="bcx-caption" data-laid-over="no overlay">The picture as it was read.</p>'
    if layer == LESION:
        laid, key, means = "the lesion map", lesion_key_html(), ""
    else:
        laid, key = f"what speaks for and against {layer}", legend_html(layer)
        means = f'<p class="bcx-caption">{escape(evidence_words(prediction.screen, task, layer))}</p>'
    return (
        f'<p class="bcx-caption" data-laid-over="{escape(laid)}">Left of the line: the picture. Right: {escape(laid)}.'
        f"</p>{key}{means}"
    )
