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
from bcx.app.incoming import PRIVATE, choice, flag, in_words
from bcx.app.markup import html
from bcx.app.model_tab import model_html
from bcx.app.privacy import Session, Sessions
from bcx.app.slide_tab import build_slides
from bcx.app.viewer import Viewer, filled
from bcx.app.wiring import NETWORK, QUICK, Changes, Example, Models, Page, build_picker, list_examples
from bcx.errors import BcxError
from bcx.imaging.style import PALETTES
from bcx.inference.classifier import Classifier
from bcx.tasks import Task


def build_app(classifier: Classifier, examples: str | os.PathLike[str] | None = None) -> gr.Blocks:
    """Return the page, ready for `launch`.

    `classifier` answers at first, and always through the endpoints; the page offers the other checkpoints at hand too.
    `examples`: as `list_examples` takes it; without it the page has none.
    """
    models, task = Models(classifier), classifier.task
    # Beside Gradio's own uploads: an image in there may be shown, and a hard link costs no space.
    sessions = Sessions(Path(get_upload_folder()) / "sessions")
    with gr.Blocks(title=f"bcx: {task.title}", analytics_enabled=False) as app:
        header = gr.HTML(html.header(task))
        page = Page(models, build_picker(models), sessions)
        refusal = gr.HTML(visible=False, elem_id="model-refusal")
        with gr.Tabs(elem_id="bcx-tabs"):
            with gr.Tab("Classify", id="classify"):
                shown: Callable[[Task], list[Example]] = partial(list_examples, examples) if examples else lambda _: []
                classify = ClassifyTab(page, shown)
            with gr.Tab("Batch", id="batch"):
                batch = BatchTab(page)
            with gr.Tab("Large image", id="slide", visible=task.tile is not None) as slides:
                slides_cleared = build_slides(page)
            with gr.Tab("Model", id="model"):
                card = gr.HTML(model_html(classifier), elem_id="model-card")
        footer = gr.HTML(html.footer(classifier))
        wire_style(page, classify, batch)
        build_api(page)

        def follow(chosen: Classifier) -> Changes:
            """What another model brings: nothing of what an earlier one said stays on show."""
            return {
                header: html.header(chosen.task),
                **classify.cleared(chosen),
                **batch.cleared(chosen.task),
                slides: gr.update(visible=chosen.task.tile is not None),
                **slides_cleared(chosen.task),
                card: model_html(chosen),
                footer: html.footer(chosen),
            }

        def switch(name: Any, request: gr.Request) -> Iterator[Changes]:
            with in_words("switch"), sessions.at_work(request.session_hash) as session:
                name = choice(name, models.names, "The model")
                before = session.model or classifier.name
                if name == before:  # Gradio tells of the same model when focus leaves
                    yield gr.skip()
                    return
                try:
                    chosen = models.get(name)
                except BcxError as error:
                    yield {picker: before, refusal: filled(html.refusal(name, error))}
                    return
                shown = {refusal: filled(_changed(chosen, session)), **follow(chosen)}
                session.start_over(name)
                yield shown
                # Only now: Gradio goes on once it has sent what clears the page, so what is read anew comes after it.
                session.again = {"scan", "batch"}

        picker = page.picker
        outputs = [picker, refusal, *follow(classifier)]
        how = {"show_progress_on": picker, "trigger_mode": "always_last", **NETWORK}
        switched = picker.input(switch, picker, outputs, **how, **PRIVATE).then(None, js="() => { bcx.title(); }")
        # The chosen model reads what an earlier one has read, or is still reading.
        how["show_progress_on"] = classify.card
        switched = page.listen(switched.then, classify.read_again, [], classify.results, **how)
        page.listen(switched.then, batch.read_again, [], batch.results, **how | {"show_progress": "hidden"})

        def end_session(request: gr.Request) -> None:
            # A browser holds its connection open only where something waits for its end. `Guard` has noticed by now.
            if not sessions.is_open(request.session_hash):
                sessions.close(request.session_hash)

        app.unload(end_session)
    app.queue(max_size=64)
    app.bcx_slides = any(task.tile is not None for task in models.tasks.values())  # `launch` lets larger files in
    app.bcx_sessions = sessions
    return app


def wire_style(page: Page, *tabs: ClassifyTab | BatchTab) -> None:
    """Have each tab's choice of how maps are drawn hold for all of them, and for what is saved."""
    outputs = [part for tab in tabs for part in tab.drawn]

    # Each part by itself: a list tells of its choice again when focus leaves it, with what stood elsewhere before.
    def wire(view: Viewer, part: str, check: Callable[[Any], Any]) -> None:
        def set_style(session: Session, classifier: Classifier, value: Any) -> Changes:
            before, session.style = session.style, replace(session.style, **{part: check(value)})
            if session.style == before:
                return {}
            # Not the control itself, where a person may have chosen again meanwhile.
            changes: Changes = {getattr(tab.view, part): value for tab in tabs if tab.view is not view}
            for tab in tabs:
                changes |= tab.redraw(session, classifier)
            return changes

        control = getattr(view, part)
        page.listen(control.input, set_style, [control], outputs, trigger_mode="always_last", **QUICK)

    for tab in tabs:
        wire(tab.view, "colours", lambda value: choice(value, PALETTES, "The colours"))
        wire(tab.view, "contour", lambda value: flag(value, "Whether to draw contours"))


def _changed(chosen: Classifier, session: Session) -> str:
    read = {"the scan": session.chosen, "the batch": session.batch}
    same, kept = (
        " and ".join(what for what, each in read.items() if each and (each.task == chosen.task.name) == fits)
        for fits in (True, False)
    )
    return html.changed(chosen.name, same, kept) if same or kept else ""
