"""The viewer: scan and overlay under one slider, with layer and opacity that never run the network again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from bcx.app.answers import evidence_words, stages_html
from bcx.app.charts import clip_html
from bcx.app.incoming import choice, number
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.wiring import Changes
from bcx.errors import RequestError
from bcx.imaging.style import PALETTES, STYLE
from bcx.inference.prediction import Prediction
from bcx.report.pictures import as_image, encoded, layer_picture
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

OPACITY = 50
#: Where the line between the images stands, and how far it keeps from what it should not cut: per cent of the width.
LINE, MARGIN = 50.0, 2.0
#: The picker's value for the lesion layer; every other value is a class. With a space, as no class's name has.
LESION = "lesion map"
#: Colours of maps, as a person reads them.
COLOURS = {name: name for name in PALETTES} | {STYLE.colours: " / ".join(STYLE.ends)}
#: Shows or hides the overlay, in the browser alone.
SWITCH = "(on) => { document.getElementById('VIEWER').classList.toggle('bcx-bare', !on); }"
#: Gradio gives the slider's images an empty alternative text; people who cannot see them need a true one.
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


class Viewer:
    """The viewer's components, and what they show; each method returns new values by component."""

    def __init__(self, task: Task, name: str) -> None:
        """Lay it out, hidden until there is something to see. `name` prefixes the elements' ids."""
        self.name = name
        with gr.Column(visible=False, elem_id=f"{name}-viewer", elem_classes="bcx-viewer") as self.box:
            self.slider = gr.ImageSlider(
                show_label=False,
                format="png",
                type="filepath",
                interactive=False,
                buttons=["fullscreen"],
                slider_position=LINE,
                max_height=560,
                elem_id=f"{name}-slider",
            )
            self.frame = gr.Slider(1, 2, value=1, step=1, label="Frame", visible=False, elem_id=f"{name}-frame")
            self.clip = gr.HTML(visible=False, elem_id=f"{name}-clip")
            self.legend = gr.HTML(js_on_load=NAME_PICTURES, elem_id=f"{name}-legend")
            with gr.Row(elem_classes="bcx-controls") as self.controls:
                self.layer = gr.Radio(**_layers(task), label="Map", elem_id=f"{name}-class", min_width=240, scale=5)
                self.opacity = gr.Slider(
                    0,
                    100,
                    value=OPACITY,
                    step=5,
                    label="Strength (%)",
                    elem_id=f"{name}-opacity",
                    min_width=180,
                    scale=3,
                )
                self.colours = gr.Dropdown(
                    [(words.capitalize(), key) for key, words in COLOURS.items()],
                    value=STYLE.colours,
                    label="Colours",
                    filterable=False,
                    elem_id=f"{name}-colours",
                    min_width=180,
                    scale=3,
                )
                with gr.Column(min_width=120, scale=2):
                    on = gr.Checkbox(True, label="Overlay", elem_id=f"{name}-on")
                    self.contour = gr.Checkbox(label="Contours", elem_id=f"{name}-contour")
            self.stages = gr.HTML(visible=False, elem_id=f"{name}-stages")
        on.input(None, on, None, js=SWITCH.replace("VIEWER", f"{name}-viewer"), api_visibility="private")
        self.changes = [self.layer.input, self.opacity.input, self.opacity.release]
        self.outputs = [self.box, self.slider, self.layer, self.legend, self.controls, self.stages, self.frame]
        self.outputs.append(self.clip)
        self.drawn = [self.colours, self.contour, self.slider, self.legend, self.stages]

    def show(self, session: Session, prediction: Prediction, task: Task, opacity: Any) -> Changes:
        """Show a new prediction: the lesion layer first, where the model has one."""
        prediction = session.drawn(prediction)
        self._save_scan(session, prediction)
        lesion = prediction.reading.lesion is not None
        layer = LESION if lesion else prediction.label
        painted = self.repaint(session, prediction, task, layer, opacity)
        return {
            **painted,
            self.box: gr.update(visible=True),
            self.slider: gr.update(value=painted[self.slider], slider_position=_line(prediction)),
            self.layer: gr.update(**{**_layers(task, lesion), "value": layer}),
            self.controls: gr.update(visible=prediction.decision != NOT_A_SCAN),
            self.stages: stages_update(prediction, task),
            **self._clip(prediction, task),
        }

    def hide(self) -> Changes:
        """Show nothing."""
        hidden, empty = gr.update(visible=False), gr.update(value="", visible=False)
        boxes = {self.box: hidden, self.slider: None, self.legend: "", self.frame: hidden}
        return {**boxes, self.stages: empty, self.clip: empty}

    def repaint(self, session: Session, prediction: Prediction, task: Task, layer: Any, opacity: Any) -> Changes:
        """Show another layer or opacity; the network does not run.

        Raises:
            RequestError: as `checked`.
        """
        layer, opacity = session.seen[self.name] = checked(task, layer, opacity)
        prediction = session.drawn(prediction)
        class_ = None if layer == LESION else layer
        overlay = _save(session, f"{self.name}-overlay", layer_picture(prediction.screen, class_, opacity / 100))
        pair = session.shown[self.name], overlay
        if prediction.decision == NOT_A_SCAN:
            return {self.slider: pair, self.legend: html.bare()}
        means = "" if class_ is None else evidence_words(prediction.screen, task, layer)
        return {self.slider: pair, self.legend: html.laid_over(class_, means, prediction.style)}

    def seen(self, session: Session) -> tuple[str, float]:
        """Return the layer on show and its strength; the first ones where none was shown yet."""
        return session.seen.get(self.name, (LESION, OPACITY))

    def redraw(self, session: Session, prediction: Prediction, task: Task) -> Changes:
        """Show the same layer in another style; the network does not run."""
        painted = self.repaint(session, prediction, task, *self.seen(session))
        return {**painted, self.stages: stages_update(session.drawn(prediction), task)}

    def show_frame(self, session: Session, prediction: Prediction, task: Task, layer: Any, opacity: Any) -> Changes:
        """Show another frame of a clip; the network does not run.

        Raises:
            RequestError: as `checked`.
        """
        before, prediction = session.shown[self.name], session.drawn(prediction)
        self._save_scan(session, prediction)
        try:
            painted = self.repaint(session, prediction, task, layer, opacity)
        except RequestError:
            session.shown[self.name] = before
            raise
        clip = {self.clip: self._clip(prediction, task)[self.clip]}
        return {**painted, **clip, self.stages: stages_update(prediction, task)}

    def _clip(self, prediction: Prediction, task: Task) -> Changes:
        """The frame slider, on the decisive frame, and the chart; hidden for a single image."""
        clip = prediction.clip
        if clip is None or len(clip.read) < 2:
            return {self.frame: gr.update(visible=False), self.clip: gr.update(value="", visible=False)}
        place, count = clip.read.index(clip.frame), len(clip.read)
        label = f"Frame: one of the {count} that were read"
        slider = gr.update(visible=bool(clip.answers), minimum=1, maximum=count, value=place + 1, label=label)
        return {self.frame: slider, self.clip: gr.update(value=clip_html(clip, task, place), visible=True)}

    def _save_scan(self, session: Session, prediction: Prediction) -> None:
        picture = as_image(prediction.screen.shown).convert("RGB")
        session.shown[self.name] = _save(session, f"{self.name}-scan", picture)


def _layers(task: Task, lesion: bool = False) -> dict[str, Any]:
    """The lesion map, where there is one, then the classes."""
    classes = [(label.capitalize(), label) for label in task.classes]
    choices = [("Lesion", LESION), *classes] if lesion else classes
    return {"choices": choices, "value": choices[0][1]}


def stages_update(prediction: Prediction, task: Task) -> Any:
    """Return the value of the second stage's card, hidden where there is none."""
    card = stages_html(prediction, task)
    return gr.update(value=card, visible=bool(card))


def checked(task: Task, layer: Any, opacity: Any) -> tuple[str, float]:
    """Return what a page sent as layer and strength of the overlay, the latter in per cent.

    Raises:
        RequestError: no such layer, or a strength that is not within 0 to 100.
    """
    opacity = number(opacity, "The strength of the overlay", 0, 100)
    return choice(layer, [LESION, *task.classes], "The layer"), opacity


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
    frame = replace(clip.answers[place], clip=replace(clip, frame=clip.read[place]), mask_text=prediction.mask_text)
    return frame.with_pixels(file)


def _line(prediction: Prediction) -> float:
    """Where the line between the images stands at first: not across the second stage, which should be seen whole."""
    if prediction.second_stage is None:
        return LINE
    return min(LINE, max(MARGIN, 100 * prediction.second_stage[0] / prediction.scan.width - MARGIN))


def _save(session: Session, role: str, picture: Image.Image) -> str:
    content, suffix = encoded(picture)
    path = session.picture(role, suffix)
    path.write_bytes(content)
    return str(path)
