"""The Classify tab: one image, the answer first, where the network looked beside it, details folded below."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import gradio as gr

from bcx.app import answers, place, takeaway, viewer
from bcx.app.examples import Example
from bcx.app.explanations import build_explanations, grid_html, sheet_update
from bcx.app.incoming import PICK, Upload, choice, event_value, file_name, index, number
from bcx.app.markup import html
from bcx.app.models import Models, Part
from bcx.app.privacy import Chosen, Session
from bcx.app.wiring import NETWORK, QUICK, Changes, Page, in_order, scroll_to
from bcx.errors import BcxError, RequestError
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.tasks import BREAST_ULTRASOUND, Task

#: Inside a component: what changes in it is read out.
LIVE = "element.setAttribute('aria-live', 'polite');"
SHOW_COMPARED = place.SHOW_BESIDE.replace("NAME", "classify")
#: Shares of the positive class that a person can choose, in per cent.
LEAST_COMMON, MOST_COMMON = 0.1, 95
FORMATS = (
    "PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000 or DICOM, 8 or 16 bit, up to 100 MB; several frames are read as "
    "a clip. Or paste a picture: Ctrl+V anywhere on this page."
)
PREVALENCE = (
    "The model was made for the share shown at first. For another one the probabilities follow by Bayes' rule; the "
    "thresholds stay. It holds for this tab until the page closes or the model changes."
)


class ClassifyTab:
    """The tab's components, what they show of an answer, and what a person can do with them."""

    def __init__(self, page: Page, examples: Callable[[Task], list[Example]]) -> None:
        """Lay out the tab. `examples`: from a task to its examples."""
        self.page, self.examples = page, examples
        default, task = page.models.default, page.models.default.task
        with gr.Row(elem_classes="bcx-split"):
            with gr.Column(scale=4, min_width=300):
                self.upload = Upload(
                    label=_upload_label(task), file_count="single", height=165, elem_id="classify-upload"
                )
                gr.HTML(html.caption(FORMATS))
                self.strip = gr.HTML(html.examples(examples(task)), js_on_load=PICK, elem_id="classify-examples")
                self.past = gr.HTML(js_on_load=PICK, elem_id="classify-past")
            with gr.Column(scale=7, min_width=320, elem_id="classify-result"):
                empty = answers.empty_html(task, bool(examples(task)))
                self.card = gr.HTML(empty, js_on_load=LIVE, elem_id="classify-answer")
                self.take = takeaway.build_take("classify", page, _on_show)
                self.view = viewer.Viewer(task, "classify")
                self.places = place.OtherPlaces("classify")
                self.compared = gr.HTML(js_on_load=PICK, elem_id="classify-compare")
                with gr.Column(visible=False, elem_id="classify-more") as self.more:
                    self.other = gr.Dropdown(**_others(page.models, default.name), elem_id="classify-other")
                    common_label = _common_label(task)
                    with gr.Accordion(common_label, open=False, elem_id="classify-common-box") as self.common_box:
                        gr.HTML(html.caption(PREVALENCE))
                        self.common = gr.Slider(**_common(default), elem_id="classify-common")
                    self.explained, self.sheet = build_explanations(page, self.view.layer)
                    with gr.Accordion("Details", open=False, elem_id="classify-details-box"):
                        self.details = gr.HTML(elem_id="classify-details")
                        with gr.Accordion("JSON", open=False):
                            self.as_json = gr.JSON(show_label=False, elem_id="classify-json")
        self.drawn = [*self.view.drawn, self.compared, self.details, self.explained, self.sheet]

    def wire(self) -> Part:
        """Wire the components to what a person can do, and return what follows the chosen model."""
        view, listen = self.view, self.page.listen
        results = [self.card, *view.outputs, *self.places.outputs, self.more, self.details, self.as_json, self.take]
        results += [self.compared, self.explained, self.common_box, self.common, self.past]
        scroll = scroll_to("classify-result")
        busy = {"show_progress_on": self.card, **NETWORK}
        listen(
            self.upload.upload, self.classify_upload, [self.upload, view.opacity], [*results, self.upload], **busy
        ).then(None, js=scroll)
        many = {"trigger_mode": "multiple"}
        listen(self.strip.click, self.classify_example, [view.opacity], results, **many, **busy).then(None, js=scroll)
        listen(self.past.click, self.open_past, [view.opacity], results, **many, **QUICK).then(None, js=scroll)

        last = {"trigger_mode": "always_last", **QUICK}
        seen = [view.layer, view.opacity]
        listen(self.past.select, self.compare_past, seen, [self.compared], **last).then(None, js=SHOW_COMPARED)
        listen(self.compared.click, self.end_comparison, [], [self.compared], **last)
        beside = [self.compared, self.past, self.as_json, self.card]
        for asked, where, function, more in (
            (self.places.square.select, self.places.square, self.read_place, []),
            (self.places.lesions.click, self.places.lesions, self.read_place, []),
            (self.other.select, self.other, self.compare_model, [self.other]),
        ):
            busy = {"show_progress_on": where, **NETWORK}
            listen(asked, function, [*more, *seen], [*more, *beside], **busy).then(None, js=SHOW_COMPARED)
        common = [self.common.input, self.common.release]  # the latter is told of a reset
        told = [self.card, self.details, self.as_json, self.take]
        changed = [*told, view.slider, view.legend, view.stages, self.compared, self.past]
        listen(common, self.set_prevalence, [self.common, *seen], changed, **last)
        listen(view.changes, self.repaint, seen, [view.slider, view.legend, self.compared, self.card], **last)
        frame = [view.slider, view.legend, view.stages, view.clip, self.card]
        listen(view.frame.input, self.show_frame, [view.frame, *seen], frame, **last)

        def again(event: Any) -> Any:
            how = {"show_progress_on": self.card, "trigger_mode": "always_last", **NETWORK}
            return listen(event.then, self.read_again, [view.opacity], results, **how)

        outputs = [self.upload, self.strip, self.common_box, self.other, self.common, *results]
        return Part(outputs, lambda chosen: in_order(self.cleared(chosen), outputs), again)

    # What is shown, by component

    def answer(self, session: Session, classifier: Classifier, chosen: Chosen, opacity: Any) -> Changes:
        """Run the network once and show all that follows from it; the scan is kept."""
        session.again.discard("scan")
        session.compared, model = None, session.model
        try:
            found = self.page.predict(classifier.name, chosen.path, chosen.name)
            found = classifier.at_prevalence(found, session.prevalence)
        except BcxError as error:
            session.answer = session.on_show = session.opened = None
            past = takeaway.past_html(session, classifier.task)
            return {**self.nothing(), self.card: html.failure(error, chosen.name), self.past: past}
        finally:
            session.settle(chosen)
        if session.model not in (model, classifier.name):  # chosen meanwhile: this answer is not its own
            return self.read_again(session, self.page.models.get(session.model), opacity)
        session.answer = session.on_show = found
        session.remember(takeaway.make_past(found, chosen))
        return self.shown(session, classifier, opacity)

    def shown(self, session: Session, classifier: Classifier, opacity: Any) -> Changes:
        """Show the answer that was just given or opened again."""
        assert session.answer is not None
        task, found = classifier.task, session.answer
        asked = found.prevalence
        share = _common(classifier)["value"] if asked is None else round(100 * asked[task.positive], 1)
        return {
            **self.view.show(session, found, task, opacity),
            **self.places.show(found),
            **self.told(session, task),
            **{self.more: gr.update(visible=True), self.compared: "", self.explained: "", self.common: share},
            self.common_box: gr.update(visible=bool(classifier.prevalence) and found.clip is None),
            self.past: takeaway.past_html(session, task),
        }

    def told(self, session: Session, task: Task) -> Changes:
        """Show the card, the details, the JSON and the buttons of the answer on show."""
        assert session.on_show is not None
        assert session.opened is not None
        found, past = session.on_show, session.opened
        return {
            self.card: html.answer(found, task, past.chosen.made),
            self.details: answers.details_html(session.drawn(found), task),
            self.as_json: place.logged(session),
            self.take: takeaway.buttons_html(found, task, past.at),
        }

    def nothing(self) -> Changes:
        """Show no answer."""
        hidden = gr.update(visible=False)
        return {
            **{**self.view.hide(), **self.places.hide(), self.more: hidden, self.common_box: hidden, self.as_json: {}},
            **{self.details: "", self.take: "", self.compared: "", self.explained: ""},
        }

    def beside(self, session: Session, task: Task, layer: Any, opacity: Any) -> Changes:
        """Show what stands beside the answer on show, if anything."""
        layer, opacity = viewer.checked(task, layer, opacity)
        if session.compared is None or session.on_show is None or session.opened is None:
            return {self.compared: ""}
        pair = [(session.on_show, session.opened.chosen.made), session.compared]
        pair = [(session.drawn(found), made) for found, made in pair]
        layer = None if layer == viewer.LESION else layer
        return {self.compared: answers.compare_html(pair, task, layer, opacity / 100)}

    def cleared(self, classifier: Classifier) -> Changes:
        """Show what another model can do, and nothing that an earlier one answered."""
        task, examples = classifier.task, self.examples(classifier.task)
        return {
            **self.nothing(),
            self.upload: gr.update(label=_upload_label(task)),
            self.strip: html.examples(examples),
            self.common_box: gr.update(label=_common_label(task), visible=False),
            self.other: gr.update(**_others(self.page.models, classifier.name)),
            self.common: gr.update(**_common(classifier)),
            self.card: answers.empty_html(task, bool(examples)),
            self.past: "",
        }

    # What a person does

    def classify_upload(self, session: Session, classifier: Classifier, file: Any, opacity: Any) -> Changes:
        if file is None:
            return {}
        path = session.take(file)
        chosen = Chosen(path, file_name(file, path.name), classifier.task.name)
        return {**self.answer(session, classifier, chosen, opacity), self.upload: None}

    def classify_example(self, session: Session, classifier: Classifier, opacity: Any, event: gr.EventData) -> Changes:
        shown = self.examples(classifier.task)
        example = shown[index(event_value(event, "pick"), len(shown), "The example")]
        chosen = Chosen(example.path, example.path.name, classifier.task.name, example.label)
        return self.answer(session, classifier, chosen, opacity)

    def read_again(self, session: Session, classifier: Classifier, opacity: Any) -> Changes:
        chosen = session.chosen
        if not session.is_left("scan", classifier.name) or chosen is None or chosen.task != classifier.task.name:
            return {}
        return self.answer(session, classifier, chosen, opacity)

    def open_past(self, session: Session, classifier: Classifier, opacity: Any, event: gr.EventData) -> Changes:
        again = _chosen_past(session, event_value(event, "pick"), classifier.task)
        session.answer = session.on_show = again.open()
        session.opened, session.compared, session.prevalence = again, None, again.prediction.prevalence
        session.settle(again.chosen)
        return self.shown(session, classifier, opacity)

    def compare_past(
        self, session: Session, classifier: Classifier, layer: Any, opacity: Any, event: gr.EventData
    ) -> Changes:
        past = _chosen_past(session, event_value(event, "compare"), classifier.task)
        session.compared = past.open(), past.chosen.made
        return self.beside(session, classifier.task, layer, opacity)

    def compare_model(self, session: Session, classifier: Classifier, name: Any, layer: Any, opacity: Any) -> Changes:
        name = choice(name, self.page.models.others(classifier.name), "The other model")
        return {self.other: None, **self.read_beside(session, name, layer, opacity)}

    def read_place(
        self, session: Session, classifier: Classifier, layer: Any, opacity: Any, event: gr.EventData
    ) -> Changes:
        found = session.on_show
        asked = {} if found is None else place.asked(event, found)
        return self.read_beside(session, found.model if found else classifier.name, layer, opacity, **asked)

    def read_beside(
        self, session: Session, model: str, layer: Any, opacity: Any, box: Any = None, hidden: Any = None
    ) -> Changes:
        """Read the scan on show by a model, within a box or with a part hidden, and show that beside the answer."""
        classifier, chosen, opened = self.page.models.get(model), session.chosen, session.opened
        viewer.checked(classifier.task, layer, opacity)
        if session.on_show is None or chosen is None or opened is None:
            return {self.card: html.gone()}
        source = (chosen.path, chosen.name) if hidden is None else (hidden, hidden.name)
        found = classifier.at_prevalence(self.page.predict(model, *source, box), session.prevalence)
        if hidden is None:  # else its pixels are nowhere but here
            session.remember(takeaway.make_past(found, chosen))
        session.opened, session.compared = opened, (found, None if hidden else chosen.made)
        past = takeaway.past_html(session, classifier.task)
        beside = self.beside(session, classifier.task, layer, opacity)
        return {**beside, self.past: past, self.as_json: place.logged(session)}

    def end_comparison(self, session: Session, _: Classifier) -> Changes:
        session.compared = None
        return {self.compared: ""}

    def set_prevalence(self, session: Session, chosen: Classifier, percent: Any, layer: Any, opacity: Any) -> Changes:
        percent = number(percent, "The share", LEAST_COMMON, MOST_COMMON)
        task, found, opened = chosen.task, session.answer, session.opened
        if found is None or opened is None:
            return {self.card: html.gone()}
        classifier = self.page.models.get(found.model)
        own = percent == _common(classifier)["value"]
        session.prevalence = None if own else {task.positive: percent / 100}
        session.answer = session.on_show = classifier.at_prevalence(found, session.prevalence)
        if session.compared is not None:
            beside, made = session.compared
            session.compared = self.page.models.get(beside.model).at_prevalence(beside, session.prevalence), made
        session.change_opened(takeaway.make_past(session.answer, opened.chosen, opened.at))
        return {
            **self.told(session, task),
            **self.view.repaint(session, session.answer, task, layer, opacity),
            **self.beside(session, task, layer, opacity),
            self.view.stages: viewer.stages_update(session.drawn(session.answer), task),
            self.past: takeaway.past_html(session, task),
        }

    def repaint(self, session: Session, classifier: Classifier, layer: Any, opacity: Any) -> Changes:
        if session.on_show is None:
            return {self.card: html.gone()}
        seen = self.view.repaint(session, session.on_show, classifier.task, layer, opacity)
        return {**seen, **self.beside(session, classifier.task, layer, opacity)}

    def redraw(self, session: Session, classifier: Classifier) -> Changes:
        """Draw all maps on show in another style; the network does not run."""
        task, found = classifier.task, session.on_show
        if found is None:
            return {}
        return {
            **self.view.redraw(session, found, task),
            **self.beside(session, task, *self.view.seen(session)),
            self.details: answers.details_html(session.drawn(found), task),
            self.explained: grid_html(session),
            self.sheet: sheet_update(session),
        }

    def show_frame(self, session: Session, classifier: Classifier, frame: Any, layer: Any, opacity: Any) -> Changes:
        answer, chosen = session.answer, session.chosen
        if answer is None or answer.clip is None or chosen is None:
            return {self.card: html.gone()}
        at = int(number(frame, "The frame", 1, len(answer.clip.read), whole=True)) - 1
        found = viewer.frame_answer(answer, at, chosen.path)
        shown = self.view.show_frame(session, found, classifier.task, layer, opacity)
        session.on_show = found
        return shown


def _on_show(session: Session) -> tuple[Prediction, datetime] | None:
    return None if session.on_show is None or session.opened is None else (session.on_show, session.opened.at)


def _chosen_past(session: Session, value: Any, task: Task) -> takeaway.Past:
    past = session.past[index(value, len(session.past), "The result")]
    if tuple(past.prediction.probabilities) != task.classes:
        raise RequestError(
            "This result is of another task.",
            expected=f"a model such as {past.prediction.model}",
            remedy="Choose that model first.",
        )
    return past


def _others(models: Models, name: str) -> dict[str, Any]:
    """The choice of a second model for the same scan; hidden where there is none of the task."""
    others = models.others(name)
    return {"choices": others, "value": None, "label": "Compare with another model", "visible": bool(others)}


def _common_label(task: Task) -> str:
    if task == BREAST_ULTRASOUND:
        return "How common is cancer among the people scanned here?"
    return f"How common is {task.positive} here?"


def _common(classifier: Classifier) -> dict[str, Any]:
    """The slider of the positive class's share, at the model's own."""
    share, name = classifier.prevalence.get(classifier.task.positive, 0.5), classifier.task.positive
    limits = {"minimum": LEAST_COMMON, "maximum": MOST_COMMON, "step": 0.1}
    return {**limits, "value": round(100 * share, 1), "label": f"Share of {name} (%)"}


def _upload_label(task: Task) -> str:
    return f"A {task.image_noun}"
