"""The Large image tab: a slide read tile by tile, its map growing over it, a summary, and files to take away."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from bcx.app import incoming
from bcx.app.incoming import PRIVATE, Upload
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.viewer import layers
from bcx.app.wiring import QUICK, Changes, Page, gone
from bcx.errors import BcxError
from bcx.inference.classifier import Classifier
from bcx.report.pictures import as_image, data_url, png_url
from bcx.slides import SlideProgress, SlideReading
from bcx.slides.grid import SCALES
from bcx.slides.result import write_tiles
from bcx.tasks import Task

#: A slide takes minutes: two are read at a time, in a queue of their own, so that single images need not wait.
QUEUE: dict[str, Any] = {"concurrency_id": "slides", "concurrency_limit": 2}
#: How often the page hears of new tiles: the map is drawn anew each time.
TELL_SECONDS = 1.0
#: Longer side of the slide on the page, in pixels.
SIDE = 1100
OPACITY = 55
#: Pixels from tile to tile at most.
MOST_APART = 100_000


@dataclass
class SlideRun:
    name: str  # what the person calls it
    layer: str  # the class whose map is on show; it may be changed while the map grows
    progress: SlideProgress | None = None
    reading: SlideReading | None = None  # what is known so far; None while the overview is made
    picture: str = ""  # the slide, small, as a data address
    stop: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def take(self, progress: SlideProgress) -> None:
        self.progress = progress
        if progress.prepared == 1:
            self.reading = progress.reading()
            self.picture = self.picture or data_url(self.reading.picture(SIDE), SIDE)


def run(session: Session, slide: SlideRun, steps: Any) -> Iterator[None]:
    """Read by the steps of `stream_slide`, until nobody waits for them; yields when the page should be told."""
    told, progress = 0.0, None
    with closing(steps):
        for progress in steps:
            if slide.stop.is_set() or session.ended.is_set() or session.slide is not slide:
                break
            if time.monotonic() - told >= TELL_SECONDS:
                slide.take(progress)
                yield
                told = time.monotonic()
    if progress is not None:
        slide.take(progress)
    slide.ended = True
    yield


def build_slides(page: Page) -> Callable[[Task], Changes]:
    """Lay out the tab and wire it; return what it shows of no slide, by the model's task."""
    task = page.models.default.task
    with gr.Row(elem_classes="bcx-split"):
        with gr.Column(scale=4, min_width=300, elem_id="slide-left"):
            upload = Upload(label="A slide", file_count="single", height=140, elem_id="slide-upload")
            caption = gr.HTML(html.slide_caption(task))
            with gr.Accordion("Scale and spacing of tiles", open=False, elem_id="slide-options"):
                words = "Scale (0: from the file's pixel size)"
                scale = gr.Number(label=words, value=0, minimum=0, maximum=SCALES[1], elem_id="slide-scale")
                words = "Spacing of tiles, in pixels (0: tiles touch)"
                stride = gr.Number(label=words, value=0, precision=0, minimum=0, elem_id="slide-stride")
            stop = gr.Button("Stop", size="sm", interactive=False, elem_id="slide-stop")
            state = gr.HTML(elem_id="slide-progress")
            answer = gr.HTML(html.no_slide(task), elem_id="slide-answer")
        with gr.Column(scale=7, min_width=320, visible=False, elem_id="slide-result") as box:
            shown = gr.HTML(elem_id="slide-map")
            with gr.Row(elem_classes="bcx-controls"):
                chosen = {**layers(task), "value": task.positive}
                layer = gr.Radio(**chosen, label="Probability of", elem_id="slide-class", min_width=200)
                words = "Strength of the map (%)"
                opacity = gr.Slider(0, 100, value=OPACITY, step=5, label=words, elem_id="slide-opacity", min_width=200)
            with gr.Row():
                more: dict[str, Any] = {"interactive": False, "size": "sm"}
                csv = gr.DownloadButton("Table of tiles (CSV)", variant="primary", elem_id="slide-csv", **more)
                png = gr.DownloadButton("Map (PNG)", elem_id="slide-png", **more)
    off, on = gr.update(interactive=False), gr.update(interactive=True)
    nothing = {box: gr.update(visible=False), shown: "", csv: off, png: off}

    def read(session: Session, classifier: Classifier, file: Any, *how: Any) -> Iterator[Changes]:
        scale, stride, class_ = how
        if file is None:
            yield {}
            return
        class_ = incoming.choice(class_, classifier.task.classes, "The class")
        scaled = incoming.number(scale, "The scale", *SCALES) if scale else None
        apart = int(incoming.number(stride, "The distance", 1, MOST_APART, whole=True)) if stride else None
        path = session.take(file)
        slide = session.slide = SlideRun(incoming.file_name(file, path.name), class_)
        yield {**nothing, upload: None, stop: on, state: html.slide_progress(slide), answer: ""}
        try:
            steps = page.slide(classifier.name, path, scale=scaled, stride=apart, name=slide.name)
            for _ in run(session, slide, steps):
                if session.slide is not slide:  # the page shows another slide, or another model
                    return
                yield seen(slide)
        except BcxError as error:
            yield {**nothing, stop: off, state: "", answer: html.failure(error, slide.name)}
            return
        finally:
            session.drop(path)  # it may be large, and nothing more is read from it
        if session.ended.is_set() or session.slide is not slide or slide.reading is None:
            return
        files = {csv: session.picture("bcx-tiles", ".csv"), png: session.picture("bcx-map")}
        try:
            write_tiles(slide.reading, files[csv])
            slide.reading.overlay().save(files[png], format="PNG")
        except FileNotFoundError:
            if session.ended.is_set():  # the page was closed meanwhile, and its folder is gone
                return
            raise
        ready = {button: gr.update(value=str(target), interactive=True) for button, target in files.items()}
        yield {**seen(slide), **ready, stop: off}

    def seen(slide: SlideRun) -> Changes:
        told: Changes = {state: html.slide_progress(slide)}
        if slide.reading is not None:
            told |= {answer: html.slide_summary(slide.name, slide.reading), shown: map_html(slide)}
            told[box] = gr.update(visible=True)
        return told

    def repaint(session: Session, classifier: Classifier, class_: Any) -> Changes:
        slide = session.slide or gone()
        slide.layer = incoming.choice(class_, classifier.task.classes, "The class")
        return {} if slide.reading is None else {shown: map_html(slide)}

    def ask_to_stop(session: Session, _: Classifier) -> Changes:
        if session.slide is not None:
            session.slide.stop.set()
        return {stop: off}

    def cleared(task: Task) -> Changes:
        told = {caption: html.slide_caption(task), layer: gr.update(**layers(task) | {"value": task.positive})}
        return {**nothing, **told, upload: None, stop: off, state: "", answer: html.no_slide(task)}

    results = [upload, stop, state, answer, box, shown, csv, png]
    once = {"show_progress": "hidden", "trigger_mode": "once", **QUEUE}
    begun = page.listen(upload.upload, read, [upload, scale, stride, layer], results, **once)
    begun.then(None, js="() => { bcx.show('slide-result'); }")
    page.listen(stop.click, ask_to_stop, [], [stop], **QUICK)
    page.listen(layer.input, repaint, [layer], [shown], trigger_mode="always_last", **QUICK)
    opacity.input(None, opacity, None, js="(percent) => { bcx.strength(percent); return []; }", **PRIVATE)
    return cleared


def map_html(slide: SlideRun) -> str:
    reading = slide.reading
    assert reading is not None
    layer = png_url(as_image(reading.layer(slide.layer, SIDE)))
    return html.slide_map(reading, slide.picture, layer, slide.layer, reading.hottest(5) if slide.ended else [])
