"""The Classify tab: one picture, the answer first, where the network looked beside it, details folded below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import answers, takeaway, viewer
from bcx.app.examples import Example, strip_html
from bcx.app.frames import frame_answer
from bcx.app.incoming import Paste, Upload, choice, event_value, file_name, handler, index, number
from bcx.app.models import Models, Part
from bcx.app.privacy import Chosen
from bcx.errors import BcxError, RequestError

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.app.takeaway import Past
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: Every call that runs the network shares this queue, so that pages wait for each other and not for memory.
NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 4}
#: Handlers get what stands in the request, and check it (`bcx.app.incoming`).
PRIVATE: dict[str, Any] = {"api_visibility": "private", "preprocess": False}
#: Inside a component: a click on anything with `data-pick` or `data-page` reaches Python with that value.
PICK = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-pick], [data-page]');
  if (target && !target.disabled) trigger('click', {pick: target.dataset.pick, page: target.dataset.page});
});
"""
#: Inside a component: what changes in it is read out.
LIVE = "element.setAttribute('aria-live', 'polite');"
#: On a narrow page the answer stands below the fold, so bring it into view.
SCROLL = (
    "() => { if (window.innerWidth < 800) document.getElementById('ANCHOR')?.scrollIntoView({behavior: 'smooth'}); }"
)
VIEW = "classify"


@dataclass(frozen=True)
class ClassifyTab:
    """What the handlers of this tab need."""

    models: Models
    predict: Callable[..., Prediction]

    def answer(self, session: Session, model: str, chosen: Chosen, opacity: float) -> list[Any]:
        """Run the network once and return everything on the tab that follows from it; the scan is kept."""
        session.again.discard("scan")
        try:
            task = self.models.get(model).task
            prediction = self.predict(model, chosen.path, chosen.name)
        except BcxError as error:
            session.answer = session.on_show = None
            hidden = gr.update(visible=False)
            return [answers.failure_html(error, chosen.name), *viewer.hide(), hidden, "", {}, "", gr.skip()]
        finally:
            session.settle(chosen)
        session.answer = session.on_show = prediction
        details = (
            f"<h3>Probabilities</h3>{answers.bars_html(prediction, task, exact=True)}"
            f"{answers.maps_html(prediction, task)}"
            f"<h3>Facts</h3>{answers.facts_html(prediction)}"
        )
        card = answers.answer_html(prediction, task, chosen.made)
        session.opened = takeaway.make_past(prediction, card, details)
        session.past.appendleft(session.opened)
        return self.shown(session, session.opened, prediction, task, opacity)

    def shown(self, session: Session, past: Past, prediction: Prediction, task: Task, opacity: Any) -> list[Any]:
        """Return everything on the tab for an answer; `prediction` is `past`'s own, or what that was made from."""
        return [
            past.card,
            *viewer.show(session, VIEW, prediction, task, opacity),
            gr.update(visible=True),
            past.details,
            past.json,
            takeaway.buttons_html(past, prediction, task),
            takeaway.past_html(session.past, task),
        ]


def build_classify(
    models: Models,
    picker: gr.Dropdown,
    sessions: Sessions,
    examples: Callable[[Task], list[Example]],
    predict: Callable[..., Prediction],
) -> Part:
    """Lay out the tab and wire it.

    Args:
        models: what can answer; `picker` holds the name of the one that does.
        picker: the page's choice of model.
        sessions: the open pages.
        examples: from a task to its examples.
        predict: from a model's name, a source and a file's name to its answer.
    """
    tab = ClassifyTab(models, predict)
    task = models.default.task
    with gr.Row(elem_classes="bcx-split"):
        with gr.Column(scale=4, min_width=300):
            upload = Upload(
                label=_upload_label(task),
                file_count="single",
                height=165,
                elem_id="classify-upload",
            )
            gr.HTML(
                '<p class="bcx-caption">PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000 or DICOM, 8 or 16 bit, '
                "up to 100 MB. Several frames are read as a clip.</p>"
            )
            with gr.Accordion("Paste from clipboard", open=False, elem_id="classify-paste-box"):
                paste = Paste(
                    sources=["clipboard"],
                    type="filepath",
                    image_mode=None,
                    show_label=False,
                    height=150,
                    buttons=[],
                    elem_id="classify-paste",
                )
            strip = gr.HTML(strip_html(examples(task)), js_on_load=PICK, elem_id="classify-examples")
            past = gr.HTML(js_on_load=PICK, elem_id="classify-past")
        with gr.Column(scale=7, min_width=320, elem_id="classify-result"):
            answer = gr.HTML(answers.empty_html(task), js_on_load=LIVE, elem_id="classify-answer")
            take = gr.HTML(js_on_load=PICK + takeaway.COPY, elem_id="classify-take")
            file = gr.DownloadButton(visible="hidden", elem_id="classify-file")
            view = viewer.build_viewer(task, VIEW)
            with gr.Accordion("Details", open=False, visible=False, elem_id="classify-details-box") as details_box:
                details = gr.HTML(elem_id="classify-details")
                with gr.Accordion("JSON", open=False):
                    as_json = gr.JSON(show_label=False, elem_id="classify-json")

    @handler
    def classify_upload(file: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        if file is None:
            return [gr.skip()] * (len(results) + 1)
        with sessions.at_work(request.session_hash) as session:
            path = session.take(file)
            chosen = Chosen(path, file_name(file, path.name), models.get(model).task.name)
            return [*tab.answer(session, model, chosen, opacity), None]

    @handler
    def classify_example(opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> list[Any]:
        task = models.get(model).task
        shown = examples(task)
        example = shown[index(event_value(event, "pick"), len(shown), "The example")]
        with sessions.at_work(request.session_hash) as session:
            chosen = Chosen(example.path, example.path.name, task.name, example.label)
            return tab.answer(session, model, chosen, opacity)

    @handler
    def read_again(opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        session = sessions.find(request.session_hash)
        if session is None or session.chosen is None or "scan" not in session.again:
            return [gr.skip()] * len(results)
        if session.chosen.task != models.get(model).task.name:
            return [gr.skip()] * len(results)
        return tab.answer(session, model, session.chosen, opacity)

    @handler
    def open_past(opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> list[Any]:
        with sessions.at_work(request.session_hash) as session:
            kept, task = session.past, models.get(model).task
            again = kept[index(event_value(event, "pick"), len(kept), "The answer")]
            if tuple(again.prediction.probabilities) != tuple(task.classes):
                raise RequestError(
                    "This result is of another task.",
                    expected=f"a model such as {again.prediction.model}",
                    remedy="Choose that model first.",
                )
            session.opened, session.answer, session.on_show = again, again.prediction, again.prediction
            session.settle(None)
            return tab.shown(session, again, again.prediction, task, opacity)

    @handler
    def take_away(model: Any, event: gr.EventData, request: gr.Request) -> Any:
        kind = choice(event_value(event, "pick"), takeaway.FILES, "The file")
        with sessions.at_work(request.session_hash) as session:
            if session.on_show is None or session.opened is None:
                raise RequestError(
                    "There is no result to save.", expected="an open result", remedy="Read a picture first."
                )
            path = session.picture("bcx-answer", ".pdf" if kind == "pdf" else ".png")
            takeaway.write_file(kind, session.opened, session.on_show, models.get(model).task, path)
            return str(path)

    @handler
    def repaint(layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        session = sessions.find(request.session_hash)
        if session is None or session.on_show is None:
            return [gr.skip(), gr.skip(), answers.gone_html()]
        return [*viewer.repaint(session, VIEW, session.on_show, models.get(model).task, layer, opacity), gr.skip()]

    @handler
    def show_frame(frame: Any, layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        with sessions.at_work(request.session_hash) as session:
            answer, chosen = session.answer, session.chosen
            if answer is None or answer.clip is None or chosen is None:
                return [gr.skip(), gr.skip(), gr.skip(), gr.skip(), answers.gone_html()]
            place = int(number(frame, "The frame", 1, len(answer.clip.read), whole=True)) - 1
            found = frame_answer(answer, place, chosen.path)
            shown = viewer.show_frame(session, VIEW, found, models.get(model).task, layer, opacity)
            session.on_show = found
            return [*shown, gr.skip()]

    def values(classifier: Classifier) -> list[Any]:
        chosen = classifier.task
        cleared = [answers.empty_html(chosen), *viewer.hide(), gr.update(visible=False), "", {}, "", gr.skip()]
        return [gr.update(label=_upload_label(chosen)), strip_html(examples(chosen)), *cleared]

    results = [answer, *view.outputs, details_box, details, as_json, take, past]
    scroll = SCROLL.replace("ANCHOR", "classify-result")
    for source in (upload, paste):
        source.upload(
            classify_upload,
            [source, view.opacity, picker],
            [*results, source],
            show_progress_on=answer,
            **NETWORK,
            **PRIVATE,
        ).then(None, js=scroll)
    strip.click(
        classify_example,
        [view.opacity, picker],
        results,
        show_progress_on=answer,
        trigger_mode="multiple",
        **NETWORK,
        **PRIVATE,
    ).then(None, js=scroll)
    past.click(
        open_past,
        [view.opacity, picker],
        results,
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_limit=None,
        **PRIVATE,
    ).then(None, js=scroll)
    take.click(
        take_away, picker, file, show_progress="hidden", trigger_mode="multiple", concurrency_limit=2, **PRIVATE
    ).success(None, file, js=takeaway.SAVE)
    gr.on(
        [view.picker.input, view.opacity.input],
        repaint,
        [view.picker, view.opacity, picker],
        [view.slider, view.legend, answer],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=None,
        **PRIVATE,
    )
    view.frame.input(
        show_frame,
        [view.frame, view.picker, view.opacity, picker],
        [view.slider, view.legend, view.stages, view.clip, answer],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=None,
        **PRIVATE,
    )

    def again(event: Any) -> Any:
        return event.then(read_again, [view.opacity, picker], results, show_progress_on=answer, **NETWORK, **PRIVATE)

    return Part([upload, strip, *results], values, again)


def _upload_label(task: Task) -> str:
    return f"A {task.image_noun}"
