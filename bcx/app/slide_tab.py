"""The Large image tab: a slide read tile by tile, its map growing over it, a summary, and files to take away."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import answers, incoming, slide_words
from bcx.app.classify import SCROLL
from bcx.app.incoming import PRIVATE, Upload, handler
from bcx.app.models import Models, Part
from bcx.errors import BcxError
from bcx.report.pictures import data_url
from bcx.slides import SlideProgress, SlideReading
from bcx.slides.grid import SCALES
from bcx.slides.write import write_map, write_tiles

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.inference.classifier import Classifier
    from bcx.tasks import Task

#: A slide takes minutes: two are read at a time, in a queue of their own, so that single pictures need not wait.
QUEUE: dict[str, Any] = {"concurrency_id": "slides", "concurrency_limit": 2}
#: How often the page hears of new tiles: the map is drawn anew each time.
TELL_SECONDS = 1.0
#: Longer side of the slide on the page, in pixels.
SIDE = 1100
OPACITY = 55
#: Pixels from tile to tile at most.
MOST_APART = 100_000
#: The strength of the map is the browser's own affair: no picture is sent again for it.
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


def build_slides(
    models: Models, picker: gr.Dropdown, sessions: Sessions, stream: Callable[..., Iterator[SlideProgress]]
) -> Part:
    """Lay out the tab and wire it.

    Args:
        models: what can answer; `picker` holds the name of the one that does.
        picker: the page's choice of model.
        sessions: the open pages.
        stream: from a model's name, a path and the options of `bcx.slides.stream_slide` to its progress.
    """
    task = models.default.task
    with gr.Row(elem_classes="bcx-split"):
        with gr.Column(scale=4, min_width=300, elem_id="slide-left"):
            upload = Upload(label="A slide", file_count="single", height=140, elem_id="slide-upload")
            caption = gr.HTML(slide_words.caption_html(task))
            with gr.Accordion("Scale and spacing of tiles", open=False, elem_id="slide-options"):
                scale = gr.Number(
                    label="Scale (0: from the file's pixel size)",
                    value=0,
                    minimum=0,
                    maximum=SCALES[1],
                    elem_id="slide-scale",
                )
                stride = gr.Number(
                    label="Spacing of tiles, in pixels (0: tiles touch)",
                    value=0,
                    precision=0,
                    minimum=0,
                    elem_id="slide-stride",
                )
            stop = gr.Button("Stop", size="sm", interactive=False, elem_id="slide-stop")
            state = gr.HTML(elem_id="slide-progress")
            answer = gr.HTML(slide_words.hint_html(task), elem_id="slide-answer")
        with gr.Column(scale=7, min_width=320, visible=False, elem_id="slide-result") as box:
            shown = gr.HTML(elem_id="slide-map")
            with gr.Row(elem_classes="bcx-controls"):
                layer = gr.Radio(
                    **_layers(task),
                    label="Probability of",
                    elem_id="slide-class",
                    min_width=200,
                )
                opacity = gr.Slider(
                    0,
                    100,
                    value=OPACITY,
                    step=5,
                    label="Strength of the map (%)",
                    elem_id="slide-opacity",
                    min_width=200,
                )
            with gr.Row():
                csv = gr.DownloadButton(
                    "Table of tiles (CSV)", interactive=False, size="sm", variant="primary", elem_id="slide-csv"
                )
                png = gr.DownloadButton("Map (PNG)", interactive=False, size="sm", elem_id="slide-png")

    @handler
    def read(file: Any, scale: Any, stride: Any, class_: Any, model: Any, request: gr.Request) -> Iterator[list[Any]]:
        if file is None:
            yield [gr.skip()] * len(results)
            return
        layer_shown = incoming.choice(class_, models.get(model).task.classes, "The class")
        scaled = incoming.number(scale, "The scale", *SCALES) if scale else None
        apart = int(incoming.number(stride, "The distance", 1, MOST_APART, whole=True)) if stride else None
        with sessions.at_work(request.session_hash) as session:
            yield from read_slide(session, file, scaled, apart, layer_shown, model)

    def read_slide(
        session: Session, file: Any, scale: float | None, stride: int | None, class_: str, model: str
    ) -> Iterator[list[Any]]:
        path = session.take(file)
        slide = session.slide = SlideRun(incoming.file_name(file, path.name), class_)
        off, on = gr.update(interactive=False), gr.update(interactive=True)
        box_off = gr.update(visible=False)
        yield [None, on, slide_words.progress_html(slide), "", box_off, "", off, off]
        try:
            steps = stream(model, path, scale=scale, stride=stride, name=slide.name)
            for _ in run(session, slide, steps):
                if session.slide is not slide:  # the page shows another slide, or another model
                    return
                yield [gr.skip(), gr.skip(), slide_words.progress_html(slide), *_seen(slide), off, off]
        except BcxError as error:
            said = answers.failure_html(error, slide.name)
            yield [gr.skip(), off, "", said, box_off, "", off, off]
            return
        finally:
            session.drop(path)  # it may be large, and nothing more is read from it
        if session.ended.is_set() or session.slide is not slide or slide.reading is None:
            return
        files = [session.picture("bcx-tiles", ".csv"), session.picture("bcx-map")]
        try:
            for write, target in zip((write_tiles, write_map), files, strict=True):
                write(slide.reading, target)
        except FileNotFoundError:
            if session.ended.is_set():  # the page was closed meanwhile, and its folder is gone
                return
            raise
        ready = [gr.update(value=str(target), interactive=True) for target in files]
        yield [gr.skip(), off, slide_words.progress_html(slide), *_seen(slide), *ready]

    def _seen(slide: SlideRun) -> list[Any]:
        """What is to be seen of a slide so far: summary, whether the map's column is open, and the map."""
        if slide.reading is None:
            return [gr.skip(), gr.skip(), gr.skip()]
        return [
            slide_words.summary_html(slide),
            gr.update(visible=True),
            slide_words.map_html(slide, SIDE),
        ]

    @handler
    def repaint(class_: Any, model: Any, request: gr.Request) -> Any:
        session = sessions.find(request.session_hash)
        if session is None or session.slide is None:
            return gr.skip()
        slide = session.slide
        slide.layer = incoming.choice(class_, models.get(model).task.classes, "The class")
        return gr.skip() if slide.reading is None else slide_words.map_html(slide, SIDE)

    @handler
    def ask_to_stop(request: gr.Request) -> Any:
        session = sessions.find(request.session_hash)
        if session is not None and session.slide is not None:
            session.slide.stop.set()
        return gr.update(interactive=False)

    def values(classifier: Classifier) -> list[Any]:
        task, off = classifier.task, gr.update(interactive=False)
        cleared = [None, off, "", slide_words.hint_html(task), gr.update(visible=False), "", off, off]
        return [*cleared, slide_words.caption_html(task), gr.update(**_layers(task))]

    results = [upload, stop, state, answer, box, shown, csv, png]
    upload.upload(
        read,
        [upload, scale, stride, layer, picker],
        results,
        show_progress="hidden",
        trigger_mode="once",
        **QUEUE,
        **PRIVATE,
    ).then(None, js=SCROLL.replace("ANCHOR", "slide-result"))
    stop.click(ask_to_stop, None, stop, show_progress="hidden", concurrency_limit=None, **PRIVATE)
    layer.input(
        repaint,
        [layer, picker],
        shown,
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=None,
        **PRIVATE,
    )
    opacity.input(None, opacity, None, js=SET_OPACITY, **PRIVATE)
    return Part([*results, caption, layer], values)


def _layers(task: Task) -> dict[str, Any]:
    """Which classes' maps there are, the positive one's first on show."""
    return {"choices": [(label.capitalize(), label) for label in task.classes], "value": task.positive}
