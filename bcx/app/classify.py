"""The Classify tab: one picture, the answer first, where the network looked beside it, details folded below."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import answers, place, takeaway, viewer
from bcx.app.compare import compare_html
from bcx.app.examples import Example, strip_html
from bcx.app.explanations import build_explanations
from bcx.app.frames import frame_answer
from bcx.app.incoming import PICK, PRIVATE, Upload, choice, event_value, file_name, handler, index, number
from bcx.app.models import Models, Part
from bcx.app.privacy import Chosen
from bcx.errors import BcxError, RequestError
from bcx.tasks import BREAST_ULTRASOUND

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.explain.checks import Checks
    from bcx.explain.methods import Explanation
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: Every call that runs the network shares this queue, so that pages wait for each other and not for memory.
NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 4}
#: Inside a component: what changes in it is read out.
LIVE = "element.setAttribute('aria-live', 'polite');"
#: On a narrow page the answer stands below the fold, so bring it into view.
SCROLL = (
    "() => { if (window.innerWidth < 800) document.getElementById('ANCHOR')?.scrollIntoView({behavior: 'smooth'}); }"
)
SHOW_COMPARED = "() => document.querySelector('#classify-compare section')?.scrollIntoView({behavior: 'smooth'})"
VIEW = "classify"
#: Shares of the positive class that a person can choose, in per cent.
LEAST_COMMON, MOST_COMMON = 0.1, 95


@dataclass(frozen=True)
class ClassifyTab:
    """What the handlers of this tab need."""

    models: Models
    predict: Callable[..., Prediction]

    def answer(self, session: Session, model: str, chosen: Chosen, opacity: float) -> list[Any]:
        """Run the network once and return everything on the tab that follows from it; the scan is kept."""
        session.again.discard("scan")
        session.compared = None
        classifier = self.models.get(model)
        try:
            found = classifier.at_prevalence(self.predict(model, chosen.path, chosen.name), session.prevalence)
        except BcxError as error:
            session.answer = session.on_show = session.opened = None
            return [
                answers.failure_html(error, chosen.name),
                *self.nothing(),
                takeaway.past_html(session, classifier.task),
            ]
        finally:
            session.settle(chosen)
        session.answer = session.on_show = found
        session.remember(takeaway.make_past(found, chosen))
        return self.shown(session, classifier, opacity)

    def shown(self, session: Session, classifier: Classifier, opacity: Any) -> list[Any]:
        """Return everything on the tab for the answer that was just given or opened again."""
        assert session.answer is not None
        task, found = classifier.task, session.answer
        common = bool(classifier.prevalence) and found.clip is None
        view, strip = viewer.show(session, VIEW, found, task, opacity), takeaway.past_html(session, task)
        card, *more = self.told(session, task)
        return [
            card,
            *view,
            *place.show(found),
            gr.update(visible=True),
            *more,
            "",
            "",
            gr.update(visible=common),
            _share(found, classifier),
            strip,
        ]

    def told(self, session: Session, task: Task) -> list[Any]:
        """Return the card, the details, the JSON and the buttons of the answer on show."""
        assert session.on_show is not None
        assert session.opened is not None
        found, past = session.on_show, session.opened
        details = (
            f"<h3>Probabilities</h3>{answers.bars_html(found, task, exact=True)}{answers.maps_html(found, task)}"
            f"{answers.descriptors_html(found)}<h3>Facts</h3>{answers.facts_html(found)}"
        )
        card = answers.answer_html(found, task, past.chosen.made)
        return [card, details, place.logged(session), takeaway.buttons_html(found, task, past.at)]

    @staticmethod
    def nothing() -> list[Any]:
        """Return everything on the tab between the card and the strip of the last answers, without an answer."""
        hidden = gr.update(visible=False)
        return [*viewer.hide(), *place.hide(), hidden, "", {}, "", "", "", hidden, gr.skip()]

    def read_beside(
        self, session: Session, model: str, layer: Any, opacity: Any, asked: place.Asked | None = None
    ) -> list[Any]:
        """Read the scan on show again, by a model or as asked; return the comparison, the strip, the JSON, the card."""
        task, chosen, opened = self.models.get(model).task, session.chosen, session.opened
        layer, opacity = viewer.checked(task, layer, opacity)
        if session.on_show is None or chosen is None or opened is None:
            return [gr.skip(), gr.skip(), gr.skip(), answers.gone_html()]
        hidden = None if asked is None else asked.hidden
        source = (chosen.path, chosen.name) if hidden is None else (hidden, hidden.name)
        found = self.predict(model, *source, None if asked is None else asked.box)
        found = self.models.get(model).at_prevalence(found, session.prevalence)
        if hidden is None:  # else its pixels are nowhere but here
            session.remember(takeaway.make_past(found, chosen))
        session.opened, session.compared = opened, (found, None if hidden else chosen.made)
        past = takeaway.past_html(session, task)
        return [self.beside(session, task, layer, opacity), past, place.logged(session), gr.skip()]

    def beside(self, session: Session, task: Task, layer: Any, opacity: Any) -> str:
        """Return the comparison on show; "" without one."""
        if session.compared is None or session.on_show is None or session.opened is None:
            return ""
        pair = [(session.on_show, session.opened.chosen.made), session.compared]
        return compare_html(pair, task, None if layer == viewer.LESION else layer, opacity / 100)


def build_classify(
    models: Models,
    picker: gr.Dropdown,
    sessions: Sessions,
    examples: Callable[[Task], list[Example]],
    predict: Callable[..., Prediction],
    explain: Callable[..., Explanation],
    check: Callable[..., Checks],
) -> Part:
    """Lay out the tab and wire it.

    Args:
        models: what can answer; `picker` holds the name of the one that does.
        picker: the page's choice of model.
        sessions: the open pages.
        examples: from a task to its examples.
        predict: from a model's name, a source and a file's name to its answer.
        explain, check: from a model's name, and what `bcx.explain` takes after the classifier.
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
                "up to 100 MB; several frames are read as a clip. Or paste a picture: Ctrl+V anywhere on this page.</p>"
            )
            strip = gr.HTML(strip_html(examples(task)), js_on_load=PICK, elem_id="classify-examples")
            past = gr.HTML(js_on_load=PICK, elem_id="classify-past")
        with gr.Column(scale=7, min_width=320, elem_id="classify-result"):
            answer = gr.HTML(answers.empty_html(task, bool(examples(task))), js_on_load=LIVE, elem_id="classify-answer")
            take = takeaway.build_take("classify", models, picker, sessions, _on_show)
            view = viewer.build_viewer(task, VIEW)
            places = place.build_other_places()
            compared = gr.HTML(js_on_load=PICK, elem_id="classify-compare")
            with gr.Column(visible=False, elem_id="classify-more") as more:
                other = gr.Dropdown(**_others(models, models.default.name), elem_id="classify-other")
                common_box = gr.Accordion(_common_label(task), open=False, elem_id="classify-common-box")
                with common_box:
                    gr.HTML(
                        '<p class="bcx-caption">The model was made for the share shown at first. For another one the '
                        "probabilities follow by Bayes' rule; the thresholds stay. It holds for this tab until the "
                        "page closes or the model changes.</p>"
                    )
                    common = gr.Slider(**_common(models.default), elem_id="classify-common")
                explained = build_explanations(models, picker, view.picker, sessions, explain, check)
                with gr.Accordion("Details", open=False, elem_id="classify-details-box"):
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

    def chosen_past(session: Session, value: Any, task: Task) -> takeaway.Past:
        kept = session.past
        again = kept[index(value, len(kept), "The result")]
        if tuple(again.prediction.probabilities) != tuple(task.classes):
            raise RequestError(
                "This result is of another task.",
                expected=f"a model such as {again.prediction.model}",
                remedy="Choose that model first.",
            )
        return again

    @handler
    def open_past(opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> list[Any]:
        with sessions.at_work(request.session_hash) as session:
            classifier = models.get(model)
            again = chosen_past(session, event_value(event, "pick"), classifier.task)
            session.answer = session.on_show = again.open()
            session.opened, session.compared, session.prevalence = again, None, again.prediction.prevalence
            session.settle(again.chosen)
            return tab.shown(session, classifier, opacity)

    @handler
    def compare_past(layer: Any, opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> Any:
        with sessions.at_work(request.session_hash) as session:
            task = models.get(model).task
            past = chosen_past(session, event_value(event, "compare"), task)
            session.compared = past.open(), past.chosen.made
            return tab.beside(session, task, *viewer.checked(task, layer, opacity))

    @handler
    def compare_model(name: Any, layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        name = choice(name, models.others(models.get(model).name), "The other model")
        with sessions.at_work(request.session_hash) as session:
            return [None, *tab.read_beside(session, name, layer, opacity)]

    @handler
    def read_place(layer: Any, opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> list[Any]:
        with sessions.at_work(request.session_hash) as session:
            found = session.on_show
            name = models.get(model).name if found is None else found.model
            return tab.read_beside(session, name, layer, opacity, place.asked(event, found))

    @handler
    def end_comparison(request: gr.Request) -> str:
        session = sessions.find(request.session_hash)
        if session is not None:
            session.compared = None
        return ""

    @handler
    def set_prevalence(percent: Any, layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        percent = number(percent, "The share", LEAST_COMMON, MOST_COMMON)
        with sessions.at_work(request.session_hash) as session:
            task, found, opened = models.get(model).task, session.answer, session.opened
            if found is None or opened is None:
                return [answers.gone_html(), *[gr.skip()] * 8]
            classifier = models.get(found.model)
            own = percent == _common(classifier)["value"]
            session.prevalence = None if own else {task.positive: percent / 100}
            session.answer = session.on_show = classifier.at_prevalence(found, session.prevalence)
            if session.compared is not None:
                beside, made = session.compared
                session.compared = models.get(beside.model).at_prevalence(beside, session.prevalence), made
            session.change_opened(takeaway.make_past(session.answer, opened.chosen, opened.at))
            seen = viewer.repaint(session, VIEW, session.answer, task, layer, opacity)
            compared = tab.beside(session, task, *viewer.checked(task, layer, opacity))
            stages = viewer.stages_update(session.answer, task)
            return [*tab.told(session, task), *seen, stages, compared, takeaway.past_html(session, task)]

    @handler
    def repaint(layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.on_show is None:
            return [gr.skip(), gr.skip(), gr.skip(), answers.gone_html()]
        seen = viewer.repaint(session, VIEW, session.on_show, task, layer, opacity)
        return [*seen, tab.beside(session, task, *viewer.checked(task, layer, opacity)), gr.skip()]

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
        return [
            gr.update(label=_upload_label(chosen)),
            strip_html(examples(chosen)),
            gr.update(label=_common_label(chosen)),
            gr.update(**_others(models, classifier.name)),
            gr.update(**_common(classifier)),
            answers.empty_html(chosen, bool(examples(chosen))),
            *tab.nothing(),
            "",
        ]

    results = [
        answer,
        *view.outputs,
        *places.outputs,
        more,
        details,
        as_json,
        take,
        compared,
        explained,
        common_box,
        common,
        past,
    ]
    scroll = SCROLL.replace("ANCHOR", "classify-result")
    upload.upload(
        classify_upload,
        [upload, view.opacity, picker],
        [*results, upload],
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
    quick: dict[str, Any] = {
        "show_progress": "hidden",
        "trigger_mode": "always_last",
        "concurrency_limit": None,
        **PRIVATE,
    }
    seen = [view.picker, view.opacity, picker]
    past.select(compare_past, seen, compared, **quick).then(None, js=SHOW_COMPARED)
    compared.click(end_comparison, None, compared, **quick)
    beside = [compared, past, as_json, answer]
    for asked, busy in ((places.square.select, places.square), (places.lesions.click, places.lesions)):
        asked(read_place, seen, beside, show_progress_on=busy, **NETWORK, **PRIVATE).then(None, js=SHOW_COMPARED)
    other.select(compare_model, [other, *seen], [other, *beside], show_progress_on=other, **NETWORK, **PRIVATE).then(
        None, js=SHOW_COMPARED
    )
    gr.on(
        [common.input, common.release],  # the latter is told of a reset
        set_prevalence,
        [common, *seen],
        [answer, details, as_json, take, view.slider, view.legend, view.stages, compared, past],
        **quick,
    )
    gr.on(
        [view.picker.input, view.opacity.input, view.opacity.release],
        repaint,
        seen,
        [view.slider, view.legend, compared, answer],
        **quick,
    )
    view.frame.input(
        show_frame,
        [view.frame, view.picker, view.opacity, picker],
        [view.slider, view.legend, view.stages, view.clip, answer],
        **quick,
    )

    def again(event: Any) -> Any:
        return event.then(read_again, [view.opacity, picker], results, show_progress_on=answer, **NETWORK, **PRIVATE)

    return Part([upload, strip, common_box, other, common, *results], values, again)


def _on_show(session: Session) -> tuple[Prediction, datetime] | None:
    return None if session.on_show is None or session.opened is None else (session.on_show, session.opened.at)


def _others(models: Models, name: str) -> dict[str, Any]:
    """Return the choice of a second model for the same scan; hidden where there is none of the task."""
    others = models.others(name)
    return {"choices": others, "value": None, "label": "Compare with another model", "visible": bool(others)}


def _common_label(task: Task) -> str:
    if task == BREAST_ULTRASOUND:
        return "How common is cancer among the people scanned here?"
    return f"How common is {task.positive} here?"


def _common(classifier: Classifier) -> dict[str, Any]:
    """Return the slider of the positive class's share, at the model's own."""
    share = classifier.prevalence.get(classifier.task.positive, 0.5)
    return {
        "minimum": LEAST_COMMON,
        "maximum": MOST_COMMON,
        "value": round(100 * share, 1),
        "step": 0.1,
        "label": f"Share of {classifier.task.positive} (%)",
    }


def _share(prediction: Prediction, classifier: Classifier) -> float:
    """Return where the slider stands for an answer."""
    asked = prediction.prevalence
    return _common(classifier)["value"] if asked is None else round(100 * asked[classifier.task.positive], 1)


def _upload_label(task: Task) -> str:
    return f"A {task.image_noun}"
