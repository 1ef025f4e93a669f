"""An answer on show, in Classify and Batch alike: what can be saved, scan and overlay under one slider, other places.

Layer, strength, colours and frame never run the network again.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
from PIL import Image

from bcx.app.incoming import box, choice, event_value, flag, index, number
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.wiring import PICK, PLACE, QUICK, Changes, Page, gone
from bcx.errors import RequestError
from bcx.explain import hiding
from bcx.explain.descriptors import describe_lesion
from bcx.imaging.crop import checked_box, find_box, square_of
from bcx.imaging.style import PALETTES, STYLE
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.report.pictures import as_image, encoded, enlarged_picture, layer_picture
from bcx.report.sheet import text, write_file
from bcx.report.words import lesion_words
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN

OPACITY = 50
#: Where the line between the images stands, and how far it keeps from what it should not cut: per cent of the width.
LINE, MARGIN = 50.0, 2.0
#: The picker's value for the lesion layer; every other value is a class. With a space, as no class's name has.
LESION = "lesion map"
#: Colours of maps, as a person reads them.
COLOURS = {name: name for name in PALETTES} | {STYLE.colours: " / ".join(STYLE.ends)}
#: What a card calls a scan of which a part is hidden.
HIDDEN = "this scan, part hidden"
#: What can be saved as a file, and the words on its button.
FILES = {"png": "Report (PNG)", "pdf": "Report (PDF)", "overlay": "Overlay, full size (PNG)"}


class Shown(NamedTuple):
    """An answer with its pixels and when it was given; what stands beside it; what shipped examples were to show."""

    answer: Prediction
    at: datetime
    made: str | None = None
    beside: tuple[Prediction, str | None] | None = None


class Viewer:
    """The components, and what they show; most methods return new values by component."""

    def __init__(self, page: Page, name: str, on_show: Callable[[Session], Shown | None], card: gr.HTML) -> None:
        """Lay out and wire them, hidden until there is something to see; `name` prefixes the elements' ids.

        `on_show`: the answer that the session has in this viewer; None without one. `card`: where a lost page is said.
        """
        self.name, self.on_show = name, on_show
        self.take = gr.HTML(js_on_load=PICK, elem_id=f"{name}-take")
        file = gr.DownloadButton(visible="hidden", elem_id=f"{name}-file")
        with gr.Column(visible=False, elem_id=f"{name}-viewer", elem_classes="bcx-viewer") as self.box:
            plain: dict[str, Any] = {"show_label": False, "interactive": False, "buttons": ["fullscreen"]}
            plain |= {"format": "png", "type": "filepath", "slider_position": LINE, "max_height": 560}
            self.slider = gr.ImageSlider(**plain, elem_id=f"{name}-slider")
            self.frame = gr.Slider(1, 2, value=1, step=1, label="Frame", visible=False, elem_id=f"{name}-frame")
            self.clip = gr.HTML(visible=False, elem_id=f"{name}-clip")
            self.legend = gr.HTML(elem_id=f"{name}-legend")
            with gr.Row(elem_classes="bcx-controls") as self.controls:
                kinds = layers(page.models.default.task)
                self.layer = gr.Radio(**kinds, label="Map", elem_id=f"{name}-class", min_width=240, scale=5)
                narrow: dict[str, Any] = {"min_width": 180, "scale": 3}
                strength: dict[str, Any] = {"value": OPACITY, "step": 5, "label": "Strength (%)"}
                self.opacity = gr.Slider(0, 100, **strength, elem_id=f"{name}-opacity", **narrow)
                choices = [(words.capitalize(), key) for key, words in COLOURS.items()]
                chosen: dict[str, Any] = {"value": STYLE.colours, "label": "Colours", "filterable": False}
                self.colours = gr.Dropdown(choices, **chosen, elem_id=f"{name}-colours", **narrow)
                with gr.Column(min_width=120, scale=2):
                    on = gr.Checkbox(True, label="Overlay", elem_id=f"{name}-on")
                    self.contour = gr.Checkbox(label="Contours", elem_id=f"{name}-contour")
            self.stages = gr.HTML(visible=False, elem_id=f"{name}-stages")
        self.lesions = gr.HTML(visible=False, js_on_load=PICK, elem_id=f"{name}-lesions")
        folded: dict[str, Any] = {"open": False, "visible": False, "elem_id": f"{name}-place-box"}
        with gr.Accordion("Read another place", **folded) as self.folded:
            self.square = gr.HTML(js_on_load=PLACE, elem_id=f"{name}-place")
        self.compared = gr.HTML(js_on_load=PICK, elem_id=f"{name}-compare")

        self.pictures = [self.slider, self.legend, self.compared]
        self.drawn = [*self.pictures, self.colours, self.contour, self.stages]
        self.outputs = [*self.pictures, self.stages, self.box, self.layer, self.opacity, self.controls, self.frame]
        self.outputs += [self.clip, self.take, self.lesions, self.folded, self.square]
        self.show_beside = f"() => {{ bcx.showBeside('{name}'); }}"
        on.input(None, on, None, js=f"(on) => {{ bcx.overlay('{name}', on); }}", api_visibility="private")
        changed = [self.layer.input, self.opacity.input, self.opacity.release]
        how = {"trigger_mode": "always_last", "lost": card, **QUICK}
        page.listen(changed, self.repaint, [self.layer, self.opacity], [*self.pictures, card], **how)

        def take_away(session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
            kind = choice(event_value(event, "pick"), FILES, "The file")
            shown = on_show(session)
            if shown is None:
                raise RequestError("No result is open.", expected="an open result", remedy="Read a picture first.")
            path = session.picture("bcx-answer", ".pdf" if kind == "pdf" else ".png")
            write_file(kind, session.drawn(shown.answer), classifier.task, shown.at, path)
            return {file: str(path)}

        how = {"show_progress": "hidden", "trigger_mode": "multiple", "concurrency_limit": 2}
        written = page.listen(self.take.click, take_away, [], [file], **how)
        written.success(None, file, js="(file) => { bcx.save(file); }")

    def show(self, session: Session, task: Task) -> Changes:
        shown = self.on_show(session) or gone()
        prediction = session.drawn(shown.answer)
        self._save_scan(session, prediction)
        lesion, scan = prediction.reading.lesion is not None, prediction.decision != NOT_A_SCAN
        layer, opacity = LESION if lesion else prediction.label, self._seen(session)[1]
        session.seen[self.name] = layer, opacity
        painted = self._paint(session, prediction, task)
        another = prediction.second_stage is not None and scan and prediction.clip is None
        return {
            **painted,
            **self.beside(session, task),
            self.take: html.take(FILES, text(shown.answer, task, shown.at)),
            self.box: gr.update(visible=True),
            self.slider: gr.update(value=painted[self.slider], slider_position=_line(prediction)),
            self.layer: gr.update(**{**layers(task, lesion), "value": layer}),
            self.opacity: opacity,
            self.controls: gr.update(visible=scan),
            self.stages: filled(stages_html(prediction, task)),
            **self._clip(prediction, task),
            self.lesions: filled(html.lesions(prediction) if another else ""),
            self.folded: gr.update(visible=another),
            self.square: square_html(prediction) if another else "",
        }

    def hide(self) -> Changes:
        return {
            **dict.fromkeys((self.box, self.frame, self.folded), gr.update(visible=False)),
            **dict.fromkeys((self.stages, self.clip, self.lesions), filled("")),
            **dict.fromkeys((self.legend, self.take, self.square, self.compared), ""),
            self.slider: None,
        }

    def repaint(self, session: Session, classifier: Classifier, layer: Any, opacity: Any) -> Changes:
        opacity = number(opacity, "The strength of the overlay", 0, 100)
        session.seen[self.name] = choice(layer, [LESION, *classifier.classes], "The layer"), opacity
        return self.painted(session, classifier.task)

    def painted(self, session: Session, task: Task) -> Changes:
        shown = self.on_show(session) or gone()
        return {**self._paint(session, session.drawn(shown.answer), task), **self.beside(session, task)}

    def redraw(self, session: Session, classifier: Classifier) -> Changes:
        shown, task = self.on_show(session), classifier.task
        if shown is None:
            return {}
        return {**self.painted(session, task), self.stages: filled(stages_html(session.drawn(shown.answer), task))}

    def show_frame(self, session: Session, prediction: Prediction, task: Task) -> Changes:
        prediction = session.drawn(prediction)
        self._save_scan(session, prediction)
        told = {self.clip: self._clip(prediction, task)[self.clip], self.stages: filled(stages_html(prediction, task))}
        return {**self._paint(session, prediction, task), **told}

    def beside(self, session: Session, task: Task) -> Changes:
        shown, (layer, opacity) = self.on_show(session), self._seen(session)
        if shown is None or shown.beside is None:
            return {self.compared: ""}
        pair = [(session.drawn(found), made) for found, made in ((shown.answer, shown.made), shown.beside)]
        class_ = None if layer == LESION else layer
        if class_ is None and any(found.reading.lesion is None for found, _ in pair):
            class_ = task.positive
        columns = [(found, made, layer_picture(found.screen, class_, opacity / 100)) for found, made in pair]
        return {self.compared: html.compare(columns, task, class_)}

    def _seen(self, session: Session) -> tuple[str, float]:
        return session.seen.get(self.name, (LESION, OPACITY))

    def _paint(self, session: Session, prediction: Prediction, task: Task) -> Changes:
        layer, opacity = self._seen(session)
        class_ = None if layer == LESION else layer
        overlay = _save(session, f"{self.name}-overlay", layer_picture(prediction.screen, class_, opacity / 100))
        pair = session.shown[self.name], overlay
        if prediction.decision == NOT_A_SCAN:
            return {self.slider: pair, self.legend: html.bare()}
        means = "" if class_ is None else evidence_words(prediction.screen, task, layer)
        return {self.slider: pair, self.legend: html.laid_over(class_, means, prediction.style)}

    def _clip(self, prediction: Prediction, task: Task) -> Changes:
        """The frame slider, on the decisive frame, and the chart; hidden for a single image."""
        clip = prediction.clip
        if clip is None or len(clip.read) < 2:
            return {self.frame: gr.update(visible=False), self.clip: filled("")}
        place, count = clip.read.index(clip.frame), len(clip.read)
        label = f"Frame: one of the {count} that were read"
        slider = gr.update(visible=bool(clip.answers), minimum=1, maximum=count, value=place + 1, label=label)
        return {self.frame: slider, self.clip: filled(html.clip(clip, task, place))}

    def _save_scan(self, session: Session, prediction: Prediction) -> None:
        picture = as_image(prediction.screen.shown).convert("RGB")
        session.shown[self.name] = _save(session, f"{self.name}-scan", picture)


def filled(content: str) -> Any:
    """Return the update that shows a component with its content, and hides it where there is none."""
    return gr.update(value=content, visible=bool(content))


def frame_answer(prediction: Prediction, place: int, file: Path) -> Prediction:
    """Return a clip's answer for one of the frames that were read, from 0, with its pixels from the clip's file."""
    clip = prediction.clip
    assert clip is not None
    frame = replace(clip.answers[place], clip=replace(clip, frame=clip.read[place]), mask_text=prediction.mask_text)
    return frame.with_pixels(file)


def layers(task: Task, lesion: bool = False) -> dict[str, Any]:
    choices = [("Lesion", LESION)] * lesion + [(label.capitalize(), label) for label in task.classes]
    return {"choices": choices, "value": choices[0][1]}


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


def details_html(prediction: Prediction, task: Task) -> str:
    lesion = None if prediction.decision == NOT_A_SCAN else describe_lesion(prediction)
    return html.details(prediction, task, lesion)


def stages_html(prediction: Prediction, task: Task) -> str:
    """Return the card with the second stage and the words; "" for models with one stage, and for what is no scan."""
    enlarged = None if prediction.decision == NOT_A_SCAN else enlarged_picture(prediction)
    return "" if enlarged is None else html.stages(enlarged, lesion_words(prediction.screen, task), prediction)


def evidence_words(prediction: Prediction, task: Task, label: str) -> str:
    """Say what a class's map means, and where what speaks for it lies; `prediction` as large as it is shown."""
    speaks, against = prediction.style.ends
    said = f"{speaks.capitalize()} speaks for {label}, {against} against it. "
    if prediction.reading.lesion is not None and label == task.absent:
        said += f"Whatever looks like a lesion speaks against {label}. "
    elif prediction.reading.lesion is not None:
        kinds = " and for ".join(name for name in task.classes if name != task.absent)
        said += f"A lesion speaks for {kinds} alike, so both maps can be {speaks} there; what kind it looks like makes "
        said += "the difference between them. "
    speaks_for = np.maximum(prediction.class_map(label), 0.0)[::3, ::3]  # close enough, and quick
    total = float(speaks_for.sum())
    if total <= 0:
        return f"{said}Nothing in this picture speaks for {label}."
    if prediction.lesion is not None and (inside := prediction.lesion[::3, ::3] >= prediction.outline_level).any():
        share = round(100 * float(speaks_for[inside].sum()) / total)
        return f"{said}{share}\u00a0% of what speaks for {label} lies inside the outlined lesion."
    reached = np.cumsum(np.sort(speaks_for, axis=None)[::-1], dtype=np.float64)
    share = max(1, round(100 * (int(np.searchsorted(reached, total / 2)) + 1) / reached.size))
    return f"{said}Half of what speaks for {label} lies in {share}\u00a0% of the picture."


def asked(event: gr.EventData, prediction: Prediction) -> dict[str, Any]:
    """Return what a click on the page asks for, checked.

    `box`, which the second stage should read: a listed lesion's or the square's; or `hidden`, the scan, as large as a
    screen at most, with the square's circle hidden.
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


def square_html(prediction: Prediction) -> str:
    scan, lesion = prediction.scan, prediction.reading.lesion
    assert lesion is not None
    shape = scan.height, scan.width
    own, least = find_box(lesion, shape), square_of((0, 0, 1, 1), shape).side
    return html.square(prediction, as_image(prediction.screen.shown), own, least)
