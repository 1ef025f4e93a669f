"""The Classify tab: one image, the answer first, where the network looked beside it, details folded below."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from bcx.app.incoming import Upload, choice, event_value, file_name, index, number
from bcx.app.markup import html
from bcx.app.privacy import Chosen, Past, Session, kept
from bcx.app.viewer import FILES, HIDDEN, LESION, Shown, Viewer, asked, details_html, frame_answer
from bcx.app.wiring import NETWORK, PICK, QUICK, Changes, Example, Models, Page, gone
from bcx.errors import BcxError, RequestError
from bcx.explain.checks import Checks
from bcx.explain.methods import Explanation, quick_methods
from bcx.explain.sheet import draw_sheet
from bcx.inference.classifier import Classifier
from bcx.report.sheet import text
from bcx.report.words import words
from bcx.tasks import BREAST_ULTRASOUND, Task
from bcx.trust.claims import NOT_A_SCAN

#: Shares of the positive class that a person can choose, in per cent.
LEAST_COMMON, MOST_COMMON = 0.1, 95
#: What a comparison of explanations says while it runs.
WORKING = "Working"


class ClassifyTab:
    def __init__(self, page: Page, examples: Callable[[Task], list[Example]]) -> None:
        """Lay out and wire the tab. `examples`: from a task to its examples."""
        self.page, self.examples = page, examples
        default, task = page.models.default, page.models.default.task
        with gr.Row(elem_classes="bcx-split"):
            with gr.Column(scale=4, min_width=300):
                label = f"A {task.image_noun}"
                self.upload = Upload(label=label, file_count="single", height=165, elem_id="classify-upload")
                gr.HTML(html.formats())
                self.strip = gr.HTML(html.examples(examples(task)), js_on_load=PICK, elem_id="classify-examples")
                self.past = gr.HTML(js_on_load=PICK, elem_id="classify-past")
            with gr.Column(scale=7, min_width=320, elem_id="classify-result"):
                empty = html.no_picture(task, bool(examples(task)))
                live = "element.setAttribute('aria-live', 'polite');"  # what changes in it is read out
                self.card = gr.HTML(empty, js_on_load=live, elem_id="classify-answer")
                self.view = view = Viewer(page, "classify", _on_show, self.card)
                with gr.Column(visible=False, elem_id="classify-more") as self.more:
                    self.other = gr.Dropdown(**_others(page.models, default.name), elem_id="classify-other")
                    common_label = _common_label(task)
                    with gr.Accordion(common_label, open=False, elem_id="classify-common-box") as self.common_box:
                        gr.HTML(html.prevalence())
                        self.common = gr.Slider(**_common(default), elem_id="classify-common")
                    self.explained, self.sheet = build_explanations(page)
                    with gr.Accordion("Details", open=False, elem_id="classify-details-box"):
                        self.details = gr.HTML(elem_id="classify-details")
                        with gr.Accordion("JSON", open=False):
                            self.as_json = gr.JSON(show_label=False, elem_id="classify-json")
        self.drawn = [*view.drawn, self.details, self.explained, self.sheet]
        self.results = [self.card, *view.outputs, self.more, self.details, self.as_json]
        self.results += [self.explained, self.common_box, self.common, self.past]

        listen, results = page.listen, self.results
        scroll = "() => { bcx.show('classify-result'); }"
        busy = {"show_progress_on": self.card, **NETWORK}
        sent = [self.upload]
        listen(self.upload.upload, self.classify_upload, sent, [*results, *sent], **busy).then(None, js=scroll)
        many = {"trigger_mode": "multiple"}
        listen(self.strip.click, self.classify_example, [], results, **many, **busy).then(None, js=scroll)
        listen(self.past.click, self.open_past, [], results, **many, **QUICK).then(None, js=scroll)

        last = {"trigger_mode": "always_last", "lost": self.card, **QUICK}
        listen(self.past.select, self.compare_past, [], [view.compared], **last).then(None, js=view.show_beside)
        listen(view.compared.click, self.end_comparison, [], [view.compared], **last)
        beside = [view.compared, self.past, self.as_json, self.card]
        for event, where, function, more in (
            (view.square.select, view.square, self.read_place, []),
            (view.lesions.click, view.lesions, self.read_place, []),
            (self.other.select, self.other, self.compare_model, [self.other]),
        ):
            how = {"show_progress_on": where, "lost": self.card, **NETWORK}
            listen(event, function, more, [*more, *beside], **how).then(None, js=view.show_beside)
        common = [self.common.input, self.common.release]  # the latter is told of a reset
        changed = [*view.pictures, view.stages, view.take, self.card, self.details, self.as_json, self.past]
        listen(common, self.set_prevalence, [self.common], changed, **last)
        frame = [view.slider, view.legend, view.stages, view.clip, self.card]
        listen(view.frame.input, self.show_frame, [view.frame], frame, **last)

    # What is shown, by component

    def answer(self, session: Session, classifier: Classifier, chosen: Chosen) -> Changes:
        """Run the network once and show all that follows from it; the scan is kept."""
        session.again.discard("scan")
        session.choose(chosen)
        failed: BcxError | None = None
        try:
            found = self.page.predict(classifier.name, chosen.path, chosen.name)
            found = classifier.at_prevalence(found, session.prevalence)
        except BcxError as error:
            failed = error
        if session.chosen is not chosen:  # another scan was chosen meanwhile, and this answer would take its place
            return {}
        if session.model not in (None, classifier.name):  # another model was: this answer is not its own
            return self.read_again(session, self.page.models.get(session.model))
        if failed:
            session.answer = session.on_show = session.opened = None
            past = past_html(session, classifier.task)
            return {**self.nothing(), self.card: html.failure(failed, chosen.name), self.past: past}
        session.answer = session.on_show = found
        session.remember(found, chosen)
        return self.shown(session, classifier)

    def shown(self, session: Session, classifier: Classifier) -> Changes:
        task, found = classifier.task, session.answer or gone()
        own = found.prevalence
        share = _common(classifier)["value"] if own is None else round(100 * own[task.positive], 1)
        return {
            **self.view.show(session, task),
            **self.told(session, task),
            **{self.more: gr.update(visible=True), self.explained: "", self.common: share},
            self.common_box: gr.update(visible=bool(classifier.prevalence) and found.clip is None),
        }

    def told(self, session: Session, task: Task) -> Changes:
        shown = _on_show(session) or gone()
        return {
            self.card: html.answer(shown.answer, task, shown.made),
            self.details: details_html(session.drawn(shown.answer), task),
            self.as_json: _logged(shown),
            self.past: past_html(session, task),
        }

    def nothing(self) -> Changes:
        hidden = dict.fromkeys((self.more, self.common_box), gr.update(visible=False))
        return {**self.view.hide(), **hidden, self.as_json: {}, self.details: "", self.explained: ""}

    def cleared(self, classifier: Classifier) -> Changes:
        """Show what another model can do, and nothing that an earlier one answered."""
        task, examples = classifier.task, self.examples(classifier.task)
        return {
            **self.nothing(),
            self.upload: gr.update(label=f"A {task.image_noun}"),
            self.strip: html.examples(examples),
            self.common_box: gr.update(label=_common_label(task), visible=False),
            self.other: gr.update(**_others(self.page.models, classifier.name)),
            self.common: gr.update(**_common(classifier)),
            self.card: html.no_picture(task, bool(examples)),
            self.past: "",
        }

    def redraw(self, session: Session, classifier: Classifier) -> Changes:
        if session.on_show is None:
            return {}
        explained = {self.explained: grid_html(session), self.sheet: sheet_update(session)}
        details = details_html(session.drawn(session.on_show), classifier.task)
        return {**self.view.redraw(session, classifier), **explained, self.details: details}

    # What a person does

    def classify_upload(self, session: Session, classifier: Classifier, file: Any) -> Changes:
        if file is None:
            return {}
        path = session.take(file)
        chosen = Chosen(path, file_name(file, path.name), classifier.task.name)
        return {**self.answer(session, classifier, chosen), self.upload: None}

    def classify_example(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        shown, task = self.examples(classifier.task), classifier.task.name
        example = shown[index(event_value(event, "pick"), len(shown), "The example")]
        return self.answer(session, classifier, Chosen(example.path, example.path.name, task, example.label))

    def read_again(self, session: Session, classifier: Classifier) -> Changes:
        chosen = session.chosen
        if "scan" not in session.again or chosen is None or chosen.task != classifier.task.name:
            return {}
        if session.answer is None:
            return self.answer(session, classifier, chosen)
        session.again.discard("scan")  # it came as the page was cleared
        return self.shown(session, classifier)

    def open_past(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        again = _chosen_past(session, event_value(event, "pick"), classifier.task)
        session.answer = session.on_show = again.open()
        session.choose(again.chosen)
        session.opened, session.prevalence = again, again.prediction.prevalence
        return self.shown(session, classifier)

    def compare_past(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        past = _chosen_past(session, event_value(event, "compare"), classifier.task)
        session.compared = past.open(), past.chosen.made
        return self.view.beside(session, classifier.task)

    def compare_model(self, session: Session, classifier: Classifier, name: Any) -> Changes:
        name = choice(name, self.page.models.others(classifier.name), "The other model")
        return {self.other: None, **self.read_beside(session, name)}

    def read_place(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        found = session.on_show or gone()
        return self.read_beside(session, found.model, **asked(event, found))

    def read_beside(self, session: Session, model: str, box: Any = None, hidden: Any = None) -> Changes:
        """Read the scan on show by a model, within a box or with a part hidden, and show that beside the answer."""
        classifier = self.page.models.get(model)
        task = classifier.task
        opened = (session.on_show and session.opened) or gone()
        chosen = opened.chosen
        source = (chosen.path, chosen.name) if hidden is None else (hidden, hidden.name)
        found = classifier.at_prevalence(self.page.predict(model, *source, box), session.prevalence)
        if session.opened is not opened or session.on_show is None:  # another answer came meanwhile
            return {}
        if hidden is None:  # else its pixels are nowhere but here
            session.remember(found, chosen)
        session.opened, session.compared = opened, (found, None if hidden else chosen.made)
        logged = _logged(_on_show(session) or gone())
        return {**self.view.beside(session, task), self.past: past_html(session, task), self.as_json: logged}

    def end_comparison(self, session: Session, _: Classifier) -> Changes:
        session.compared = None
        return {self.view.compared: ""}

    def set_prevalence(self, session: Session, chosen: Classifier, percent: Any) -> Changes:
        percent = number(percent, "The share", LEAST_COMMON, MOST_COMMON)
        task, found, opened = chosen.task, session.answer or gone(), session.opened or gone()
        classifier = self.page.models.get(found.model)
        own = percent == _common(classifier)["value"]
        session.prevalence = None if own else {task.positive: percent / 100}
        session.answer = session.on_show = found = classifier.at_prevalence(found, session.prevalence)
        if session.compared is not None:
            beside, made = session.compared
            session.compared = self.page.models.get(beside.model).at_prevalence(beside, session.prevalence), made
        opened.prediction, opened.thumbnail = kept(found)
        saved = {self.view.take: html.take(FILES, text(found, task, opened.at))}
        return {**self.told(session, task), **self.view.redraw(session, chosen), **saved}

    def show_frame(self, session: Session, classifier: Classifier, frame: Any) -> Changes:
        answer, opened = session.answer or gone(), session.opened or gone()
        clip = answer.clip or gone()
        place = int(number(frame, "The frame", 1, len(clip.read), whole=True)) - 1
        found = session.on_show = frame_answer(answer, place, opened.chosen.path)
        return self.view.show_frame(session, found, classifier.task)


def _on_show(session: Session) -> Shown | None:
    found, opened = session.on_show, session.opened
    return Shown(found, opened.at, opened.chosen.made, session.compared) if found and opened else None


def _logged(shown: Shown) -> dict[str, Any]:
    """Return an answer's JSON, with that of a person's box or hidden part where it stands beside it."""
    found, beside = shown.answer, shown.beside and shown.beside[0]
    if beside and (beside.scan.sha256, beside.model) == (found.scan.sha256, found.model):
        key = "your_box" if beside.box else "part_hidden" if beside.name == HIDDEN else None
        return found.to_dict() | ({key: beside.to_dict()} if key else {})
    return found.to_dict()


def past_html(session: Session, task: Task) -> str:
    """Return the strip of the last answers of a task, each to be opened or put beside the open one; "" without any."""
    opened = session.opened if session.answer is not None else None
    past = [(n, each) for n, each in enumerate(session.past) if tuple(each.prediction.probabilities) == task.classes]
    return html.past([(place, each, words(each.prediction, task), each is opened) for place, each in past])


def _chosen_past(session: Session, value: Any, task: Task) -> Past:
    past = session.past[index(value, len(session.past), "The result")]
    if tuple(past.prediction.probabilities) != task.classes:
        expected = f"a model such as {past.prediction.model}"
        raise RequestError("This result is of another task.", expected=expected, remedy="Choose that model first.")
    return past


def _others(models: Models, name: str) -> dict[str, Any]:
    others = models.others(name)
    return {"choices": others, "value": None, "label": "Compare with another model", "visible": bool(others)}


def _common_label(task: Task) -> str:
    what = "cancer among the people scanned" if task == BREAST_ULTRASOUND else task.positive
    return f"How common is {what} here?"


def _common(classifier: Classifier) -> dict[str, Any]:
    """The slider of the positive class's share, at the model's own."""
    name = classifier.task.positive
    limits = {"minimum": LEAST_COMMON, "maximum": MOST_COMMON, "step": 0.1, "label": f"Share of {name} (%)"}
    return {**limits, "value": round(100 * classifier.prevalence.get(name, 0.5), 1)}


def build_explanations(page: Page) -> tuple[gr.HTML, gr.DownloadButton]:
    """Lay out and wire the folded part below an answer; return the grid, which a new answer empties, and the sheet."""
    with gr.Accordion("Compare explanations", open=False, elem_id="classify-explain-box") as box:
        gr.HTML(html.about_explanations())
        with gr.Row():
            small: dict[str, Any] = {"size": "sm", "min_width": 80}
            start = gr.Button("Compare", elem_id="classify-explain-start", **small)
            stop = gr.Button("Stop", interactive=False, elem_id="classify-explain-stop", **small)
            sheet = gr.DownloadButton("Save as PNG", interactive=False, elem_id="classify-explain-sheet", **small)
        grid = gr.HTML(elem_id="classify-explain")
    off, on = gr.update(interactive=False), gr.update(interactive=True)

    def compare(session: Session, classifier: Classifier) -> Iterator[Changes]:
        found = session.on_show or gone()
        if found.decision == NOT_A_SCAN:
            said = "There is nothing to explain: the picture was taken for no scan."
            raise RequestError(said, expected="a result", remedy="Read a scan first.")
        layer, _ = session.seen.get("classify", (LESION, 0))
        target = found.label if layer == LESION else layer
        session.explaining.set()
        stopped = session.explaining = threading.Event()
        maps: list[Explanation] = []
        checks: dict[str, Checks] = {}
        methods = quick_methods()

        def filled(state: str) -> Changes:
            session.explained = found, maps, checks, state
            return {grid: grid_html(session)}

        yield {**filled(WORKING), stop: on, sheet: off}
        for step in range(2 * len(methods)):
            if stopped.is_set() or session.on_show is not found or session.ended.is_set():
                break
            if step < len(methods):
                maps.append(page.explain(classifier.name, found.screen, target, methods[step]))
            else:
                tested = maps[step - len(methods)]
                checks[tested.method] = page.check(classifier.name, tested)
            yield filled(WORKING)
        if session.on_show is not found or not maps:  # another answer is on show, and its grid is empty
            yield {stop: off, sheet: off}
            return
        state = "Done" if len(checks) == len(methods) else "Stopped"
        yield {**filled(state), stop: off, sheet: sheet_update(session)}

    def ask_to_stop(session: Session, _: Classifier) -> Changes:
        session.explaining.set()
        return {stop: off}

    alone = {"concurrency_id": "explain", "concurrency_limit": 1, "trigger_mode": "always_last", "lost": grid}
    page.listen([box.expand, start.click], compare, [], [grid, stop, sheet], show_progress="hidden", **alone)
    page.listen(stop.click, ask_to_stop, [], [stop], **QUICK)
    return grid, sheet


def _explained(session: Session) -> tuple[list[Explanation], dict[str, Checks], str]:
    """The maps of the answer on show, in the page's style, their checks, and how far it is; none without any."""
    if session.explained is None or session.explained[0] is not session.on_show:
        return [], {}, ""
    _, maps, checks, state = session.explained
    return [replace(each, prediction=session.drawn(each.prediction)) for each in maps], checks, state


def grid_html(session: Session) -> str:
    maps, checks, state = _explained(session)
    return html.explanations(maps, checks, len(quick_methods()), state) if state else ""


def sheet_update(session: Session) -> Any:
    maps, checks, state = _explained(session)
    if state in ("", WORKING):
        return gr.skip()
    path = session.picture("bcx-explanations")
    draw_sheet(maps, checks, path)
    return gr.update(value=str(path), interactive=True)
