"""The Batch tab: many files or a folder, a row per file as it is done, and the table and overlays to take away."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import gradio as gr

from bcx.app import incoming, rows
from bcx.app.incoming import Folder, Upload, event_value
from bcx.app.markup import html
from bcx.app.privacy import Session, slim
from bcx.app.viewer import Shown, Viewer, asked
from bcx.app.wiring import LIST, NETWORK, PICK, QUICK, Changes, Page, gone
from bcx.errors import BcxError
from bcx.inference import table
from bcx.inference.archives import content
from bcx.inference.classifier import Classifier
from bcx.inference.patient import patient_lines
from bcx.tasks import Task

BY = "What tells whose a scan is"
MAKE_ZIP = "Make overlays (ZIP)"
#: Of a button that saves a file: there is none.
NO_FILE = gr.update(visible=False, value=None)


class BatchTab:
    def __init__(self, page: Page) -> None:
        self.page, task = page, page.models.default.task
        with gr.Row(elem_classes="bcx-split"):
            with gr.Column(scale=6, min_width=300):
                label = f"Many {task.image_noun}s"
                self.files = Upload(label=label, file_count="multiple", height=150, elem_id="batch-upload")
                with gr.Row():
                    small: dict[str, Any] = {"size": "sm", "min_width": 120}
                    self.folder = Folder("Choose folder", file_count="directory", elem_id="batch-folder", **small)
                    self.stop = gr.Button("Stop", size="sm", interactive=False, elem_id="batch-stop", min_width=80)
                self.progress = gr.HTML(elem_id="batch-progress")
                with gr.Column(elem_id="batch-tools"):
                    self.counts = gr.HTML(js_on_load=PICK, elem_id="batch-counts")
                    with gr.Row(elem_classes="bcx-controls"):
                        orders = [(words, name) for name, words in rows.ORDERS.items()]
                        label = "Sort by"
                        order = gr.Radio(orders, value="name", label=label, elem_id="batch-order", min_width=260)
                        search = gr.Textbox(label="Search", max_lines=1, elem_id="batch-search", min_width=160)
                    self.score = gr.HTML(elem_id="batch-score")
                    choices = [(words, name) for name, words in rows.CHOICES.items()]
                    self.by = gr.Radio(choices, value="", label="One answer per patient", elem_id="batch-by")
                    hidden: dict[str, Any] = {"visible": False, "size": "sm"}
                    with gr.Row():
                        self.combine = gr.Button("Combine the picked scans", elem_id="batch-combine", **hidden)
                        self.patients_csv = gr.DownloadButton("Patients (CSV)", elem_id="batch-patients-csv", **hidden)
                    self.patients = gr.HTML(elem_id="batch-patients")
                self.listing = gr.HTML(js_on_load=LIST, elem_id="batch-rows")
            with gr.Column(scale=5, min_width=300, elem_id="batch-result"):
                with gr.Row():
                    more: dict[str, Any] = {"size": "sm", "variant": "primary"}
                    off: dict[str, Any] = {"interactive": False}
                    self.csv = gr.DownloadButton("Table (CSV)", elem_id="batch-csv", min_width=120, **more, **off)
                    self.make_zip = gr.Button(MAKE_ZIP, size="sm", elem_id="batch-make-zip", **off)
                    self.zip = gr.DownloadButton("Overlays (ZIP)", visible=False, elem_id="batch-zip", **more)
                with gr.Row(elem_id="batch-step"):
                    back = gr.Button("Previous", size="sm", min_width=80, elem_id="batch-back")
                    self.place = gr.HTML(elem_id="batch-place", min_width=60)
                    on = gr.Button("Next", size="sm", min_width=80, elem_id="batch-on")
                self.card = gr.HTML(html.no_row(), elem_id="batch-answer")
                self.view = view = Viewer(page, "batch", _on_show, self.card)
        self.drawn = [*view.drawn, self.zip]
        opened = [self.place, self.card, *view.outputs]
        self.results = [self.files, self.stop, self.progress, self.counts, self.score, self.listing, self.csv]
        combined = [self.combine, self.patients_csv, self.patients]
        self.results += [self.make_zip, self.zip, *opened, *combined]

        listen, arranged = page.listen, [order, search]
        once = {"show_progress": "hidden", "trigger_mode": "once", **NETWORK}
        how_listed = [*arranged, self.by]
        listen(self.files.upload, self.from_files, [self.files, *how_listed], self.results, **once)
        listen(self.folder.upload, self.from_folder, [self.folder, *how_listed], self.results, **once)

        last = {"trigger_mode": "always_last", "lost": self.card, **QUICK}
        listen([order.input, search.change], self.arrange, arranged, [self.listing], **last)
        combined += [self.listing, self.card]
        listen(self.by.input, self.group, [self.by], combined, trigger_mode="always_last", **QUICK)
        done = listen(self.combine.click, self.combine_picked, [], combined, lost=self.card, **QUICK)
        done.success(None, js="() => { bcx.unmark(); }")
        many = {**last, "trigger_mode": "multiple"}
        listen(self.listing.edit, self.pick_row, [], [self.card], **many)
        listen(self.counts.click, self.show_only, [], [self.listing, self.counts], **last)
        listen(self.listing.select, self.turn_page, [], [self.listing], **last)
        listen(self.listing.input, self.label_row, [], [self.score, self.csv, self.card], **many)
        for button, by in ((back, -1), (on, 1)):
            button.click(None, js=f"() => {{ bcx.step({by}); }}")
        listen(self.stop.click, self.ask_to_stop, [], [self.stop], **QUICK)
        listen(self.listing.click, self.open_row, [], opened, **last).then(None, js="() => { bcx.show('batch-step'); }")
        beside = [view.compared, self.listing, self.card, self.csv, self.zip]
        for event, where in ((view.square.select, view.square), (view.lesions.click, self.card)):
            how = {"show_progress_on": where, "lost": self.card, **NETWORK}
            listen(event, self.read_place, [], beside, **how).then(None, js=view.show_beside)
        listen(view.compared.click, self.end_comparison, [], [view.compared], **last)
        quiet = {"show_progress": "hidden", "concurrency_limit": 2}
        listen(self.make_zip.click, self.zip_overlays, [], [self.make_zip, self.zip], **quiet)

    # What is shown, by component

    def listed(self, batch: rows.Batch, task: Task) -> Changes:
        shown = {self.counts: rows.counts_html(batch, task), self.listing: rows.rows_html(batch, task)}
        return {self.progress: rows.progress_html(batch), **shown}

    def written(self, session: Session, batch: rows.Batch, task: Task) -> Changes:
        """The table, and what the person's own labels make of it; nothing before the end."""
        if batch.ended is None:
            return {}
        path = session.picture("bcx-results", ".csv")
        table.write_lines(table.csv_lines(batch.table(), [*table.columns(task), *batch.more_columns()]), path)
        return {self.csv: gr.update(value=str(path), interactive=True), self.score: rows.score_html(batch, task)}

    def combined(self, session: Session, batch: rows.Batch, classifier: Classifier) -> Changes:
        batch.patients = rows.combined(batch, classifier)
        asked = batch.by and batch.ended is not None
        shown = {
            self.patients: html.patients(batch, rows.SHOWN, classifier.task) if asked else "",
            self.combine: gr.update(visible=batch.by == rows.PICKED),
            self.patients_csv: NO_FILE,
        }
        if batch.patients:
            path = session.picture("bcx-results.patients", ".csv")
            table.write_lines(patient_lines(batch.patients, classifier.classes), path)
            shown[self.patients_csv] = gr.update(visible=True, value=str(path))
        return shown

    def shut(self) -> Changes:
        return {self.place: "", self.card: html.no_row(), **self.view.hide()}

    def nothing_ready(self) -> Changes:
        off = gr.update(interactive=False)
        return {
            **dict.fromkeys((self.csv, self.make_zip), off),
            **dict.fromkeys((self.zip, self.patients_csv), NO_FILE),
            **dict.fromkeys((self.score, self.patients), ""),
        }

    def cleared(self, task: Task) -> Changes:
        return {
            **self.shut(),
            **self.nothing_ready(),
            **dict.fromkeys((self.progress, self.counts, self.listing), ""),
            self.files: gr.update(value=None, label=f"Many {task.image_noun}s"),
            self.stop: gr.update(interactive=False),
            self.make_zip: gr.update(value=MAKE_ZIP, interactive=False),
        }

    def redraw(self, session: Session, classifier: Classifier) -> Changes:
        return {**self.view.redraw(session, classifier), self.zip: NO_FILE}

    # What a person does

    def from_files(
        self, session: Session, classifier: Classifier, sent: Any, *how_listed: Any, folder: bool = False
    ) -> Iterator[Changes]:
        order, search, by = how_listed
        arranged, by = _arranged(order, search), incoming.choice(by, rows.CHOICES, BY)
        uploads = incoming.files(sent, "The files")
        if not uploads:
            yield {}
            return
        batch = session.batch = rows.take_in(session, uploads, folder)
        (batch.order, batch.text), batch.by, batch.task = arranged, by, classifier.task.name
        batch.own = rows.own_labels([name for _, name in batch.files], classifier.task)
        yield from self.read(session, batch, classifier)

    def from_folder(self, session: Session, classifier: Classifier, *sent: Any) -> Iterator[Changes]:
        yield from self.from_files(session, classifier, *sent, folder=True)

    def read_again(self, session: Session, classifier: Classifier) -> Iterator[Changes]:
        batch = session.batch
        if "batch" not in session.again or batch is None or batch.task != classifier.task.name:
            yield {}
        elif batch.started:  # it came as the page was cleared
            session.again.discard("batch")
            yield self.so_far(session, batch, classifier)
        else:
            yield from self.read(session, batch, classifier)

    def read(self, session: Session, batch: rows.Batch, classifier: Classifier) -> Iterator[Changes]:
        session.again.discard("batch")
        cleared = self.shut()
        for _ in rows.run(session, batch, classifier.task, partial(self.page.stream, classifier.name)):
            if session.batch is not batch:  # the page shows another batch, or another model, or is closed
                return
            yield {**self.so_far(session, batch, classifier), **cleared}
            cleared = {}

    def so_far(self, session: Session, batch: rows.Batch, classifier: Classifier) -> Changes:
        task = classifier.task
        if batch.ended is None:
            running = {**self.nothing_ready(), self.files: None, self.stop: gr.update(interactive=True)}
            return {**self.listed(batch, task), **running}
        ended = {self.stop: gr.update(interactive=False), self.make_zip: gr.update(interactive=True)}
        shown = {**self.listed(batch, task), **self.written(session, batch, task)}
        return {**shown, **self.combined(session, batch, classifier), **ended}

    def ask_to_stop(self, session: Session, _: Classifier) -> Changes:
        if session.batch is not None:
            session.batch.stop.set()
        return {self.stop: gr.update(interactive=False)}

    def arrange(self, session: Session, classifier: Classifier, order: Any, search: Any) -> Changes:
        batch = session.batch or gone()
        (batch.order, batch.text), batch.page = _arranged(order, search), 0
        return {self.listing: rows.rows_html(batch, classifier.task)}

    def show_only(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch or gone(), classifier.task
        batch.decision = incoming.choice(event_value(event, "show"), ["", *rows.filters(task)], "The decision")
        batch.page = 0
        return {self.listing: rows.rows_html(batch, task), self.counts: rows.counts_html(batch, task)}

    def turn_page(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch or gone(), classifier.task
        batch.page = incoming.index(event_value(event, "page"), rows.pages(len(batch.on_show(task))), "The page")
        return {self.listing: rows.rows_html(batch, task)}

    def group(self, session: Session, classifier: Classifier, by: Any) -> Changes:
        by, batch = incoming.choice(by, rows.CHOICES, BY), session.batch or gone()
        batch.by = by
        return {self.listing: rows.rows_html(batch, classifier.task), **self.combined(session, batch, classifier)}

    def pick_row(self, session: Session, _: Classifier, event: gr.EventData) -> Changes:
        batch = session.batch or gone()
        picked = incoming.flag(event_value(event, "picked"), "Whether it is picked")
        row = incoming.index(event_value(event, "row"), len(batch.rows), "The row")
        (batch.picked.add if picked else batch.picked.discard)(row)  # in one step: picks come side by side
        return {}

    def combine_picked(self, session: Session, classifier: Classifier) -> Changes:
        batch = session.batch or gone()
        rows.pick_group(batch)
        return self.group(session, classifier, batch.by)

    def label_row(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch or gone(), classifier.task
        row = incoming.index(event_value(event, "row"), len(batch.rows), "The row")
        label = incoming.choice(event_value(event, "label"), ["", *task.classes], "The label")
        if label:
            batch.own[row] = label
        else:
            batch.own.pop(row, None)
        return self.written(session, batch, task)

    def open_row(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None:
            return {**self.shut(), self.card: html.gone()}
        chosen = incoming.index(event_value(event, "pick"), len(batch.rows), "The row")
        row, boxed = batch.rows[chosen], batch.boxed.get(chosen)
        try:
            prediction = row.prediction()
        except BcxError as error:
            return {**self.shut(), self.card: html.failure(error, row.cells["file"])}
        if prediction is None:
            return {}
        batch.opened, batch.current = prediction, chosen
        batch.beside = boxed and boxed.with_pixels(content(row.source))
        shown = batch.on_show(task)
        where = html.caption(f"{shown.index(chosen) + 1:,} of {len(shown):,}" if chosen in shown else "")
        return {**self.view.show(session, task), self.place: where, self.card: html.answer(prediction, task)}

    def read_place(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        """Read the open row where a person looks, or with a part hidden; the answer stands beside its own."""
        batch, task = session.batch or gone(), classifier.task
        opened, current = batch.opened or gone(), batch.current
        row, place = batch.rows[current], asked(event, opened)
        hidden = place.get("hidden")
        source = (content(row.source), row.cells["file"]) if hidden is None else (hidden, hidden.name)
        found = self.page.predict(opened.model, *source, place.get("box"))
        if session.batch is not batch:  # another batch or model came meanwhile
            return {}
        changes: Changes = {}
        if hidden is None:  # else it is no answer to this scan
            batch.boxed[current] = slim(found)
            listed = {self.listing: rows.rows_html(batch, task), self.zip: NO_FILE}
            changes = {**listed, **self.written(session, batch, task)}
        if batch.current == current:
            batch.beside = found
            changes |= self.view.beside(session, task)
        return changes

    def end_comparison(self, session: Session, _: Classifier) -> Changes:
        if session.batch is not None:
            session.batch.beside = None
        return {self.view.compared: ""}

    def zip_overlays(self, session: Session, classifier: Classifier) -> Iterator[Changes]:
        batch = session.batch or gone()
        total, told, ready = len(batch.rows) - batch.failed, 0.0, gr.skip()
        for done, path in rows.write_overlays(session, batch, classifier.classes):
            ready = gr.update(value=str(path), visible=True)
            if time.monotonic() - told >= rows.TELL_SECONDS:
                yield {self.make_zip: gr.update(value=f"Making overlays: {done} of {total}", interactive=False)}
                told = time.monotonic()
        yield {self.make_zip: gr.update(value=MAKE_ZIP, interactive=True), self.zip: ready}


def _on_show(session: Session) -> Shown | None:
    batch = session.batch
    if batch is None or batch.opened is None:
        return None
    return Shown(batch.opened, batch.rows[batch.current].at, None, (batch.beside, None) if batch.beside else None)


def _arranged(order: Any, search: Any) -> tuple[str, str]:
    order = incoming.choice(order, rows.ORDERS, "The order")
    return order, incoming.text(search or "", "The search", rows.LONGEST_SEARCH)
