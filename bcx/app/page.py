"""The whole page: header, choice of model, tabs, endpoints, and the rule that a session's files end with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from bcx.app.api import build_api
from bcx.app.batch import BatchTab
from bcx.app.classify import ClassifyTab
from bcx.app.examples import Example, list_examples
from bcx.app.gpu import ON_A_SPACE, on_gpu
from bcx.app.incoming import PRIVATE, choice, flag, in_words
from bcx.app.markup import html
from bcx.app.model_tab import model_html
from bcx.app.models import Models, Part, build_picker
from bcx.app.privacy import SESSIONS, Session, Sessions
from bcx.app.slide_tab import build_slides
from bcx.app.wiring import NETWORK, QUICK, Changes, Page
from bcx.errors import BcxError
from bcx.explain.checks import check
from bcx.explain.methods import explain
from bcx.imaging.style import PALETTES
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.slides import stream_slide
from bcx.tasks import Task

QUEUE = 64
#: The browser's own title follows the header.
TITLE = "() => { document.title = document.querySelector('.bcx-header').dataset.title; }"


def build_app(classifier: Classifier, examples: str | os.PathLike[str] | None = None) -> gr.Blocks:
    """Return the page, ready for `launch`.

    Args:
        classifier: the model that answers at first, and always through the endpoints (`bcx.load()`); the page offers
            the other checkpoints at hand beside it.
        examples: folder with `examples.csv`, and maybe a folder like it for each other task, under the task's name;
            without it the page has no examples.
    """
    models = Models(classifier)
    task = classifier.task
    # Beside Gradio's own uploads: an image in there may be shown, and a hard link costs no space.
    sessions = Sessions(Path(get_upload_folder()) / SESSIONS)
    engine = _engine(models)
    with gr.Blocks(title=f"bcx: {task.title}", analytics_enabled=False) as app:
        header = gr.HTML(html.header(task))
        page = Page(models, build_picker(models), sessions, **engine)
        refusal = gr.HTML(visible=False, elem_id="model-refusal")
        parts = [Part([header], lambda chosen: [html.header(chosen.task)])]
        with gr.Tabs(elem_id="bcx-tabs"):
            with gr.Tab("Classify", id="classify"):
                shown: Callable[[Task], list[Example]] = partial(list_examples, examples) if examples else lambda _: []
                classify = ClassifyTab(page, shown)
                parts.append(classify.wire())
            with gr.Tab("Batch", id="batch"):
                batch = BatchTab(page)
                parts.append(batch.wire())
            with gr.Tab("Large image", id="slide", visible=task.tile is not None) as slides:
                parts.append(Part([slides], lambda chosen: [gr.update(visible=chosen.task.tile is not None)]))
                parts.append(build_slides(page))
            with gr.Tab("Model", id="model"):
                card = gr.HTML(model_html(classifier), elem_id="model-card")
                parts.append(Part([card], lambda chosen: [model_html(chosen)]))
        footer = gr.HTML(html.footer(classifier))
        parts.append(Part([footer], lambda chosen: [html.footer(chosen)]))
        wire_style(page, classify, batch)
        build_api(page)

        @in_words("switch")
        def switch(name: Any, request: gr.Request) -> list[Any]:
            name = choice(name, models.names(), "The model")
            with sessions.at_work(request.session_hash) as session:
                if name == (session.model or classifier.name):  # Gradio tells of the same model when focus leaves
                    return [gr.skip()] * len(outputs)
                try:
                    chosen = models.get(name)
                except BcxError as error:
                    said = gr.update(value=html.refusal(name, error), visible=True)
                    return [session.model or classifier.name, said, *[gr.skip()] * (len(outputs) - 2)]
                session.start_over(name)
            values = [value for part in parts for value in part.values(chosen)]
            words = _changed(chosen, session)
            return [name, gr.update(value=html.changed(words) if words else "", visible=bool(words)), *values]

        picker = page.picker
        outputs = [picker, refusal, *(output for part in parts for output in part.outputs)]
        switched = picker.input(
            switch, picker, outputs, show_progress_on=picker, trigger_mode="always_last", **NETWORK, **PRIVATE
        ).then(None, js=TITLE)
        for part in parts:
            switched = part.again(switched) if part.again else switched

        def end_session(request: gr.Request) -> None:
            # A browser holds its connection open only where something waits for its end. `Guard` has noticed by now.
            if not sessions.is_open(request.session_hash):
                sessions.close(request.session_hash)

        app.unload(end_session)
    app.queue(max_size=QUEUE)
    app.bcx_slides = models.any_tiles()  # `launch` then lets larger files in
    app.bcx_sessions = sessions
    return app


def wire_style(page: Page, *tabs: ClassifyTab | BatchTab) -> None:
    """Have each tab's choice of how maps are drawn hold for all of them, and for what is saved."""

    # Each part by itself: a list tells of its choice again when focus leaves it, with what stood elsewhere before.
    def set_colours(session: Session, classifier: Classifier, colours: Any) -> Changes:
        return redrawn(session, classifier, colours=choice(colours, PALETTES, "The colours"))

    def set_contour(session: Session, classifier: Classifier, contour: Any) -> Changes:
        return redrawn(session, classifier, contour=flag(contour, "Whether to draw contours"))

    def redrawn(session: Session, classifier: Classifier, **chosen: Any) -> Changes:
        before, session.style = session.style, replace(session.style, **chosen)
        if session.style == before:
            return {}
        changes: Changes = {}
        for tab in tabs:
            changes |= {tab.view.colours: session.style.colours, tab.view.contour: session.style.contour}
            changes |= tab.redraw(session, classifier)
        return changes

    outputs = [part for tab in tabs for part in tab.drawn]
    last = {"trigger_mode": "always_last", **QUICK}
    for view in (tab.view for tab in tabs):
        page.listen(view.colours.input, set_colours, [view.colours], outputs, **last)
        page.listen(view.contour.input, set_contour, [view.contour], outputs, **last)


def _engine(models: Models) -> dict[str, Callable[..., Any]]:
    """Return the calls of `Page`. Each takes a model's name, since what ZeroGPU runs gets its arguments pickled."""

    def predict(model: str, source: Any, name: str, box: Any = None) -> Any:
        return replace(models.get(model).predict(source, name, box=box), mask_text=ON_A_SPACE)

    def stream(model: str, sources: Any) -> Iterator[Any]:
        for answer in models.get(model).stream(sources):
            yield replace(answer, mask_text=ON_A_SPACE) if isinstance(answer, Prediction) else answer

    def slide(model: str, *source: Any, **options: Any) -> Iterator[Any]:
        yield from stream_slide(models.get(model), *source, **options)

    def explained(model: str, *asked: Any) -> Any:
        return explain(models.get(model), *asked)

    def checked(model: str, explanation: Any) -> Any:
        return check(models.get(model), explanation)

    calls: dict[str, Callable[..., Any]] = {
        "predict": predict,
        "stream": stream,
        "slide": slide,
        "explain": explained,
        "check": checked,
    }
    return {name: on_gpu(call) for name, call in calls.items()}


def _changed(chosen: Classifier, session: Session) -> str:
    """Say what happens to what was read before; "" where nothing was."""
    tasks = [("the scan", session.chosen.task)] if session.chosen is not None else []
    tasks += [("the batch", session.batch.task)] if session.batch is not None else []
    same = [what for what, task in tasks if task == chosen.task.name]
    kept = [what for what, task in tasks if task != chosen.task.name]
    said = [f"{chosen.name} reads {' and '.join(same)} again."] if same else []
    said += [f"Kept for the previous model: {' and '.join(kept)}."] if kept else []
    return " ".join(said)
