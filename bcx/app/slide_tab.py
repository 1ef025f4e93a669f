"""The Large image tab: a slide read tile by tile, its map growing over it, a summary, and files to take away."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from bcx.app import incoming
from bcx.app.answers import either
from bcx.app.incoming import PRIVATE, Upload
from bcx.app.markup import html, share
from bcx.app.models import Part
from bcx.app.privacy import Session
from bcx.app.rows import clock
from bcx.app.wiring import QUICK, Changes, Page, in_order, scroll_to
from bcx.errors import BcxError
from bcx.inference.classifier import Classifier
from bcx.report.pictures import as_image, data_url, png_url
from bcx.report.words import NOTICE
from bcx.slides import SlideProgress, SlideReading
from bcx.slides.grid import SCALES
from bcx.slides.result import write_map, write_tiles
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
#: The strength of the map is the browser's own affair: no image is sent again for it.
SET_OPACITY = """(value) => {
  document.getElementById('slide-map')?.style.setProperty('--map-opacity', value / 100);
  return [];
}"""


@dataclass
class SlideRun:
    """A slide that is being read, or was.

    Attributes:
        name: what the person calls it.
        layer: the class whose map is on show; it may be changed while the map grows.
        progress: how far it is.
        reading: what is known so far; None while the overview is made.
        picture: the slide, small, as a data address.
        stop: set when the person asked to stop.
        ended: whether no more tiles will come.
    """

    name: str
    layer: str
    progress: SlideProgress | None = None
    reading: SlideReading | None = None
    picture: str = ""
    stop: threading.Event = field(default_factory=threading.Event)
    ended: bool = False

    def take(self, progress: SlideProgress) -> None:
        """Note how far the reading is, with a copy of the map."""
        self.progress = progress
        if progress.prepared == 1:
            self.reading = progress.reading()
            self.picture = self.picture or data_url(self.reading.picture(SIDE), SIDE)


def run(session: Session, slide: SlideRun, steps: Iterator[SlideProgress]) -> Iterator[None]:
    """Read the slide; yields when the page should be told.

    Ends early when the person asks to stop, begins another slide, or closes the page; then nothing goes on behind it.
    """
    told = 0.0
    progress = None
    try:
        for progress in steps:
            if slide.stop.is_set() or session.ended.is_set() or session.slide is not slide:
                break
            if time.monotonic() - told >= TELL_SECONDS:
                slide.take(progress)
                yield
                told = time.monotonic()
    finally:
        steps.close()  # type: ignore[attr-defined]
    if progress is not None:
        slide.take(progress)
    slide.ended = True
    yield


def build_slides(page: Page) -> Part:
    """Lay out the tab and wire it."""
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
            answer = gr.HTML(hint_html(task), elem_id="slide-answer")
        with gr.Column(scale=7, min_width=320, visible=False, elem_id="slide-result") as box:
            shown = gr.HTML(elem_id="slide-map")
            with gr.Row(elem_classes="bcx-controls"):
                layer = gr.Radio(**_layers(task), label="Probability of", elem_id="slide-class", min_width=200)
                words = "Strength of the map (%)"
                opacity = gr.Slider(0, 100, value=OPACITY, step=5, label=words, elem_id="slide-opacity", min_width=200)
            with gr.Row():
                csv = gr.DownloadButton(
                    "Table of tiles (CSV)", interactive=False, size="sm", variant="primary", elem_id="slide-csv"
                )
                png = gr.DownloadButton("Map (PNG)", interactive=False, size="sm", elem_id="slide-png")
    off, on = gr.update(interactive=False), gr.update(interactive=True)
    nothing = {box: gr.update(visible=False), shown: "", csv: off, png: off}

    def read(
        session: Session, classifier: Classifier, file: Any, scale: Any, stride: Any, class_: Any
    ) -> Iterator[Changes]:
        if file is None:
            yield {}
            return
        class_ = incoming.choice(class_, classifier.task.classes, "The class")
        scaled = incoming.number(scale, "The scale", *SCALES) if scale else None
        apart = int(incoming.number(stride, "The distance", 1, MOST_APART, whole=True)) if stride else None
        path = session.take(file)
        slide = session.slide = SlideRun(incoming.file_name(file, path.name), class_)
        yield {**nothing, upload: None, stop: on, state: progress_html(slide), answer: ""}
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
            write_map(slide.reading, files[png])
        except FileNotFoundError:
            if session.ended.is_set():  # the page was closed meanwhile, and its folder is gone
                return
            raise
        ready = {button: gr.update(value=str(target), interactive=True) for button, target in files.items()}
        yield {**seen(slide), **ready, stop: off}

    def seen(slide: SlideRun) -> Changes:
        """What is to be seen of a slide so far."""
        told = {state: progress_html(slide)}
        if slide.reading is None:
            return told
        return {**told, answer: summary_html(slide), box: gr.update(visible=True), shown: map_html(slide, SIDE)}

    def repaint(session: Session, classifier: Classifier, class_: Any) -> Changes:
        slide = session.slide
        if slide is None:
            return {}
        slide.layer = incoming.choice(class_, classifier.task.classes, "The class")
        return {} if slide.reading is None else {shown: map_html(slide, SIDE)}

    def ask_to_stop(session: Session, _: Classifier) -> Changes:
        if session.slide is not None:
            session.slide.stop.set()
        return {stop: off}

    def cleared(task: Task) -> Changes:
        """No slide."""
        told = {caption: html.slide_caption(task), layer: gr.update(**_layers(task))}
        return {**nothing, **told, upload: None, stop: off, state: "", answer: hint_html(task)}

    results = [upload, stop, state, answer, box, shown, csv, png]
    outputs = [*results, caption, layer]
    once = {"show_progress": "hidden", "trigger_mode": "once", **QUEUE}
    begun = page.listen(upload.upload, read, [upload, scale, stride, layer], results, **once)
    begun.then(None, js=scroll_to("slide-result"))
    page.listen(stop.click, ask_to_stop, [], [stop], **QUICK)
    page.listen(layer.input, repaint, [layer], [shown], trigger_mode="always_last", **QUICK)
    opacity.input(None, opacity, None, js=SET_OPACITY, **PRIVATE)
    return Part(outputs, lambda chosen: in_order(cleared(chosen.task), outputs))


def _layers(task: Task) -> dict[str, Any]:
    """Which classes' maps there are, the positive one's first on show."""
    return {"choices": [(label.capitalize(), label) for label in task.classes], "value": task.positive}


def hint_html(task: Task) -> str:
    """Return the card shown before the first slide."""
    steps = (
        "It is cut into tiles, and bare glass is left out.",
        f"Each tile gets a probability for {either(task.classes)}; the map grows while you watch.",
        "Save the table of tiles and the map. They are deleted here when this page closes.",
    )
    return html.empty("No slide yet", "Choose a slide", steps)


def progress_html(slide: SlideRun) -> str:
    """Return the progress bar: tiles done, time left."""
    progress, done, total = slide.progress, 0, 0
    if progress is None or progress.prepared < 1:
        shown = 0.0 if progress is None else 100 * progress.prepared
        text = "Stopped before the first tile" if slide.ended else f"Looking for tissue: {shown:.0f} %"
    else:
        done, total, left = progress.done, progress.total, progress.seconds_left
        shown = 100 * done / total if total else 100.0
        if slide.ended:
            stopped = "" if done == total else f" of {total:,}: stopped"
            text = f"{done:,}{stopped} tiles in {clock(progress.seconds)}"
        else:
            text = f"{done:,} of {total:,} tiles" + (f", about {clock(left)} left" if left is not None else "")
    return html.progress(text, done, slide.ended, shown, "Tiles done", 100, f"{shown:.0f}")


def summary_html(slide: SlideRun) -> str:
    """Return the card with the summary in plain words."""
    reading = slide.reading
    assert reading is not None
    said, task, grid = reading.summary, reading.task, reading.grid
    tiles, tissue, positive = said["tiles"], said["tiles_with_tissue"], task.positive
    number = ""
    if not tissue:
        headline, means = "No tissue found", "The whole picture looks like bare glass: it has hardly any colour."
    elif not said["tiles_read"]:
        headline, means = "Reading …", f"{tissue:,} of {tiles:,} tiles show tissue."
    else:
        whose = "the tissue" if said["tiles_read"] == tissue else "the tissue read so far"
        headline, number = f"{share(said['positive_share'])} of {whose}", positive
        means = (
            f"{tissue:,} of {tiles:,} tiles show tissue; the rest is bare glass and was not read. "
            f"Mean probability of {positive}: {said['mean_probability']:.2f}."
        )
    scaled = "as it is" if grid.scale == 1 else f"scaled by {grid.scale:.3g}"
    size = f", {reading.microns:.2g} micrometres per pixel as the file says" if reading.microns else ""
    how = (
        f"{reading.width:,} x {reading.height:,} pixels{size}, read {scaled}. Each tile is read by itself; the share "
        f"of tiles does not measure a tumour. {NOTICE}"
    )
    colour = task.colours[task.classes.index(positive)]
    return html.slide_summary(slide.name, said, headline, number, colour, means, how)


def map_html(slide: SlideRun, side: int) -> str:
    """Return the slide with the map of the chosen class over it, its hottest places, and the scale of colours."""
    reading = slide.reading
    assert reading is not None
    layer = png_url(as_image(reading.layer(slide.layer, side)))
    return html.slide_map(reading, slide.picture, layer, slide.layer, reading.hottest(5) if slide.ended else [])
