"""The Batch tab: many files or a folder, a row per file as it is done, and the table and overlays to take away."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import gradio as gr

from bcx.app import incoming, rows, takeaway
from bcx.app.incoming import Folder, Upload, event_value, file_name
from bcx.app.markup import html
from bcx.app.models import Part
from bcx.app.patients import Patients, checked
from bcx.app.privacy import Session
from bcx.app.row_box import RowBox
from bcx.app.viewer import Viewer
from bcx.app.wiring import NETWORK, QUICK, Changes, Page, in_order, scroll_to
from bcx.errors import BcxError, RequestError
from bcx.inference import table
from bcx.inference.archives import content
from bcx.inference.classifier import Classifier
from bcx.inference.input_files import Found, choose, reached
from bcx.inference.patient import patient_lines
from bcx.inference.prediction import Prediction
from bcx.report.pictures import lesion_picture, save_png
from bcx.tasks import Task

#: How often the page hears of new rows: often enough to feel live, seldom enough to leave the cores to the network.
TELL_SECONDS = 0.4
#: Within the list of rows.
LIST = Path(__file__).with_name("worklist.js").read_text("utf-8")
#: Within the counts: a click on one shows the rows that it counts.
SHOW = """
element.addEventListener('click', (event) => {
  const target = event.target.closest('[data-show]');
  if (target) trigger('click', {show: target.dataset.show});
});
"""
#: To the row before or after the open one.
STEP = "() => { document.dispatchEvent(new CustomEvent('bcx-step', {detail: BY})); }"
STEPS = (
    "Choose files, a ZIP archive or a folder. Every file gets a row.",
    "Open rows while the others are still running.",
    "Save the table and the overlays. They are deleted here when this page closes.",
)


def take_in(session: Session, uploads: list[Any], folder: bool) -> rows.Batch:
    """Return the batch that a person chose.

    Args:
        session: its folder keeps the files as long as the page is open.
        uploads: what the client sent in each file's place.
        folder: True where a whole folder was chosen: then masks beside their scan and files that are no images
            are left out and named. A file that was chosen by itself always gets a row; in a ZIP archive, files are
            chosen as in a folder.
    """
    paths = [session.take(upload) for upload in uploads]
    names = rows.unique_names([file_name(upload, path.name) for path, upload in zip(paths, uploads, strict=True)])
    if folder:
        met = [Found(path, name, Path(name)) for path, name in zip(paths, names, strict=True)]
    else:
        met = [found for path, name in zip(paths, names, strict=True) for found in reached(path, name, outright=True)]
    kept, left_out = choose(met)
    kept.sort(key=lambda found: rows.natural_key(found.file))
    if len(kept) > incoming.MOST_FILES:
        raise RequestError(
            f"These are {len(kept):,} files.",
            expected=f"at most {incoming.MOST_FILES:,}",
            remedy="Choose fewer at a time.",
        )
    for path in set(paths) - {found.path for found in kept}:
        session.drop(path)
    return rows.Batch([(found.source, found.file) for found in kept], left_out)


def run(session: Session, batch: rows.Batch, classifier: Classifier, stream: Callable[..., Any]) -> Iterator[None]:
    """Classify the batch, row by row; yields when the page should be told.

    Ends early when the person asks to stop, starts another batch, or closes the page.
    """
    told = 0.0
    yield
    answered = stream([source for source, _ in batch.files])
    for (source, name), answer in zip(batch.files, answered, strict=True):
        batch.rows.append(rows.make_row(answer, source, name, classifier.task))
        if batch.stop.is_set() or session.ended.is_set() or session.batch is not batch:
            break
        if time.monotonic() - told >= TELL_SECONDS:
            yield
            told = time.monotonic()
    batch.ended = time.monotonic()
    yield


def write_overlays(session: Session, batch: rows.Batch, classes: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Write a ZIP with the overlays of every readable file, named after it: its label's evidence, and its lesion map.

    The same of a person's box, where one was read. The table of patients, where there is one, lies beside them.

    Yields how many files are done, and the ZIP's path.
    """
    target = session.picture("bcx-overlays", ".zip")
    readable = [(place, row) for place, row in enumerate(batch.rows) if row.slim is not None]
    # PNG is compressed already, so the archive only stores.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for done, (place, row) in enumerate(readable, start=1):
            if session.ended.is_set():
                return
            prediction = row.prediction()
            if prediction is None:
                continue
            prediction = session.drawn(prediction)
            name, boxed = PurePosixPath(row.cells["file"]), batch.boxed.get(place)
            layers = {prediction.label: prediction.overlay(), "lesion": lesion_picture(prediction)}
            if boxed is not None:
                boxed = session.drawn(boxed.with_pixels(content(row.source)))
                layers |= {f"box_{boxed.label}": boxed.overlay(), "box_lesion": lesion_picture(boxed)}
            for layer, picture in layers.items():
                if picture is not None:
                    scratch = save_png(picture, session.folder / "one-overlay.png")
                    archive.write(scratch, f"{name.with_suffix('')}_{layer}.png")
            yield done, target
        if batch.patients:
            archive.writestr("results.patients.csv", "".join(patient_lines(batch.patients, classes)))


class BatchTab:
    """The tab's components, what they show of a batch, and what a person can do with them."""

    def __init__(self, page: Page) -> None:
        """Lay out the tab."""
        self.page, task = page, page.models.default.task
        with gr.Row(elem_classes="bcx-split"):
            with gr.Column(scale=6, min_width=300):
                label = _upload_label(task)
                self.files = Upload(label=label, file_count="multiple", height=150, elem_id="batch-upload")
                with gr.Row():
                    self.folder = Folder(
                        "Choose folder", file_count="directory", size="sm", elem_id="batch-folder", min_width=120
                    )
                    self.stop = gr.Button("Stop", size="sm", interactive=False, elem_id="batch-stop", min_width=80)
                self.progress = gr.HTML(elem_id="batch-progress")
                with gr.Column(elem_id="batch-tools"):
                    self.counts = gr.HTML(js_on_load=SHOW, elem_id="batch-counts")
                    with gr.Row(elem_classes="bcx-controls"):
                        orders = [(words, name) for name, words in rows.ORDERS.items()]
                        self.order = gr.Radio(
                            orders, value="name", label="Sort by", elem_id="batch-order", min_width=260
                        )
                        self.search = gr.Textbox(label="Search", max_lines=1, elem_id="batch-search", min_width=160)
                    self.score = gr.HTML(elem_id="batch-score")
                    self.patients = Patients()
                self.listing = gr.HTML(js_on_load=LIST, elem_id="batch-rows")
            with gr.Column(scale=5, min_width=300, elem_id="batch-result"):
                with gr.Row():
                    more: dict[str, Any] = {"size": "sm", "variant": "primary"}
                    self.csv = gr.DownloadButton(
                        "Table (CSV)", interactive=False, elem_id="batch-csv", min_width=120, **more
                    )
                    self.make_zip = gr.Button(
                        "Make overlays (ZIP)", interactive=False, size="sm", elem_id="batch-make-zip"
                    )
                    self.zip = gr.DownloadButton("Overlays (ZIP)", visible=False, elem_id="batch-zip", **more)
                with gr.Row(elem_id="batch-step"):
                    self.back = gr.Button("Previous", size="sm", min_width=80, elem_id="batch-back")
                    self.place = gr.HTML(elem_id="batch-place", min_width=60)
                    self.on = gr.Button("Next", size="sm", min_width=80, elem_id="batch-on")
                self.card = gr.HTML(hint_html(), elem_id="batch-answer")
                self.take = takeaway.build_take("batch", page, _on_show)
                self.view = Viewer(task, "batch")
                self.box = RowBox()
        self.drawn = [*self.view.drawn, self.zip, self.box.compared]

    def wire(self) -> Part:
        """Wire the components to what a person can do, and return what follows the chosen model."""
        listen, view = self.page.listen, self.view
        results = [self.files, self.stop, self.progress, self.counts, self.score, self.listing, self.csv]
        results += [self.make_zip, self.zip, self.place, self.card, self.take, *view.outputs]
        results += [*self.box.outputs, *self.patients.outputs]
        once = {"show_progress": "hidden", "trigger_mode": "once", **NETWORK}
        arranged = [self.order, self.search]
        asked = [*arranged, self.patients.by]
        listen(self.files.upload, self.from_files, [self.files, *asked], results, **once)
        listen(self.folder.upload, self.from_folder, [self.folder, *asked], results, **once)

        last = {"trigger_mode": "always_last", **QUICK}
        listen([self.order.input, self.search.change], self.arrange, arranged, [self.listing], **last)
        self.patients.wire(self.page, self.listing, self.card)
        listen(self.counts.click, self.show_only, [], [self.listing, self.counts], **last)
        listen(self.listing.select, self.turn_page, [], [self.listing], **last)
        scored = [self.score, self.csv, self.card]
        listen(self.listing.input, self.label_row, [], scored, trigger_mode="multiple", **QUICK)
        for button, by in ((self.back, "-1"), (self.on, "1")):
            button.click(None, js=STEP.replace("BY", by))
        listen(self.stop.click, self.ask_to_stop, [], [self.stop], **QUICK)
        opened = [self.place, self.card, self.take, *view.outputs, *self.box.outputs]
        listen(self.listing.click, self.open_row, [view.opacity], opened, **last).then(None, js=scroll_to("batch-step"))
        painted = [view.slider, view.legend, self.box.compared, self.card]
        listen(view.changes, self.repaint, [view.layer, view.opacity], painted, **last)
        self.box.wire(self.page, view, [self.csv, self.zip], self.listing, self.card, self.boxed)
        making = {"show_progress": "hidden", "concurrency_limit": 2}
        listen(self.make_zip.click, self.zip_overlays, [], [self.make_zip, self.zip], **making)

        def again(event: Any) -> Any:
            how = {"show_progress": "hidden", "trigger_mode": "always_last", **NETWORK}
            return listen(event.then, self.read_again, [], results, **how)

        return Part(results, lambda chosen: in_order(self.cleared(chosen.task), results), again)

    # What is shown, by component

    def listed(self, batch: rows.Batch, task: Task) -> Changes:
        return {
            self.progress: rows.progress_html(batch),
            self.counts: rows.counts_html(batch, task),
            self.listing: rows.rows_html(batch, task),
        }

    def written(self, session: Session, batch: rows.Batch, task: Task) -> Changes:
        """The table, and what the person's own labels make of it."""
        path = session.picture("bcx-results", ".csv")
        table.write_csv(batch.table(), path, task, more=batch.more_columns())
        table_ready = gr.update(value=str(path), interactive=True)
        return {self.csv: table_ready, self.score: rows.score_html(batch, task)}

    def shut(self) -> Changes:
        """No row is open."""
        empty = {self.place: "", self.card: hint_html(), self.take: ""}
        return {**empty, **self.view.hide(), **self.box.hide()}

    def boxed(self, session: Session, batch: rows.Batch, task: Task) -> Changes:
        """The table with what a person's box was answered; overlays are made again."""
        stale = {self.zip: gr.update(visible=False, value=None)}
        return stale if batch.ended is None else {**self.written(session, batch, task), **stale}

    def nothing_ready(self) -> Changes:
        off = gr.update(interactive=False)
        zipped = {self.make_zip: off, self.zip: gr.update(visible=False, value=None)}
        return {self.score: "", self.csv: off, **zipped, **self.patients.hide()}

    def cleared(self, task: Task) -> Changes:
        """No batch."""
        return {
            **{**self.shut(), **self.nothing_ready(), self.progress: "", self.counts: "", self.listing: ""},
            self.files: gr.update(value=None, label=_upload_label(task)),
            self.stop: gr.update(interactive=False),
            self.make_zip: gr.update(value="Make overlays (ZIP)", interactive=False),
        }

    # What a person does

    def from_files(
        self, session: Session, classifier: Classifier, sent: Any, *asked: Any, folder: bool = False
    ) -> Iterator[Changes]:
        order, search, by = asked
        view, by = _view(order, search), checked(by)
        uploads = incoming.files(sent)
        if not uploads:
            yield {}
            return
        batch = take_in(session, uploads, folder)
        batch.task, batch.view, batch.by = classifier.task.name, view, by
        batch.own = rows.own_labels([name for _, name in batch.files], classifier.task)
        session.batch = batch
        yield from self.read(session, batch, classifier)

    def from_folder(self, session: Session, classifier: Classifier, sent: Any, *asked: Any) -> Iterator[Changes]:
        yield from self.from_files(session, classifier, sent, *asked, folder=True)

    def read_again(self, session: Session, classifier: Classifier) -> Iterator[Changes]:
        batch = session.batch
        if not session.is_left("batch", classifier.name) or batch is None or batch.task != classifier.task.name:
            yield {}
            return
        batch.started = time.monotonic()
        yield from self.read(session, batch, classifier)

    def read(self, session: Session, batch: rows.Batch, classifier: Classifier) -> Iterator[Changes]:
        session.again.discard("batch")
        task = classifier.task
        running = {**self.nothing_ready(), self.files: None, self.stop: gr.update(interactive=True)}
        cleared = self.shut()
        for _ in run(session, batch, classifier, partial(self.page.stream, classifier.name)):
            if session.batch is not batch:  # the page shows another batch, or another model
                return
            yield {**self.listed(batch, task), **running, **cleared}
            cleared = {}
        if session.ended.is_set() or session.batch is not batch:
            return
        ended = {self.stop: gr.update(interactive=False), self.make_zip: gr.update(interactive=True)}
        combined = self.patients.show(session, batch, classifier)
        yield {**self.listed(batch, task), **self.written(session, batch, task), **combined, **ended}

    def ask_to_stop(self, session: Session, _: Classifier) -> Changes:
        if session.batch is not None:
            session.batch.stop.set()
        return {self.stop: gr.update(interactive=False)}

    def arrange(self, session: Session, classifier: Classifier, order: Any, search: Any) -> Changes:
        batch = session.batch
        if batch is None:
            return {}
        batch.view, batch.page = _view(order, search, batch.view.decision), 0
        return {self.listing: rows.rows_html(batch, classifier.task)}

    def show_only(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None:
            return {}
        wanted = incoming.choice(event_value(event, "show"), ["", *rows.filters(task)], "The decision")
        batch.view.decision, batch.page = wanted, 0
        return {self.listing: rows.rows_html(batch, task), self.counts: rows.counts_html(batch, task)}

    def turn_page(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None:
            return {}
        count = rows.pages(len(batch.view.places(batch.rows, task)))
        batch.page = incoming.index(event_value(event, "page"), count, "The page")
        return {self.listing: rows.rows_html(batch, task)}

    def label_row(self, session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None:
            return {self.card: html.gone()}
        row = incoming.index(event_value(event, "row"), len(batch.rows), "The row")
        batch.own[row] = incoming.choice(event_value(event, "label"), ["", *task.classes], "The label")
        if not batch.own[row]:
            del batch.own[row]
        return {} if batch.ended is None else self.written(session, batch, task)

    def open_row(self, session: Session, classifier: Classifier, opacity: Any, event: gr.EventData) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None:
            return {**self.shut(), self.card: html.gone()}
        chosen = incoming.index(event_value(event, "pick"), len(batch.rows), "The row")
        row = batch.rows[chosen]
        try:
            prediction = row.prediction()
        except BcxError as error:
            return {**self.shut(), self.card: html.failure(error, row.cells["file"])}
        if prediction is None:
            return {}
        batch.opened, batch.current = prediction, chosen
        shown = batch.view.places(batch.rows, task)
        where = f"{shown.index(chosen) + 1:,} of {len(shown):,}" if chosen in shown else ""
        return {
            **self.view.show(session, prediction, task, opacity),
            **self.box.open(session, task, opacity),
            self.place: html.caption(where),
            self.card: html.answer(prediction, task),
            self.take: takeaway.buttons_html(prediction, task, row.at),
        }

    def repaint(self, session: Session, classifier: Classifier, layer: Any, opacity: Any) -> Changes:
        batch, task = session.batch, classifier.task
        if batch is None or batch.opened is None:
            return {self.card: html.gone()}
        painted = self.view.repaint(session, batch.opened, task, layer, opacity)
        return {**painted, **self.box.show(session, task, layer, opacity)}

    def redraw(self, session: Session, classifier: Classifier) -> Changes:
        """Draw the maps on show in another style; the network does not run. Overlays are made again."""
        batch, again = session.batch, {self.zip: gr.update(visible=False, value=None)}
        if batch is None or batch.opened is None:
            return again
        task = classifier.task
        beside = self.box.show(session, task, *self.view.seen(session))
        return {**self.view.redraw(session, batch.opened, task), **beside, **again}

    def zip_overlays(self, session: Session, classifier: Classifier) -> Iterator[Changes]:
        batch = session.batch
        if batch is None:
            yield {}
            return
        total, told, ready = len(batch.rows) - batch.failed, 0.0, gr.skip()
        for done, path in write_overlays(session, batch, classifier.classes):
            ready = gr.update(value=str(path), visible=True)
            if time.monotonic() - told >= TELL_SECONDS:
                yield {self.make_zip: gr.update(value=f"Making overlays: {done} of {total}", interactive=False)}
                told = time.monotonic()
        yield {self.make_zip: gr.update(value="Make overlays (ZIP)", interactive=True), self.zip: ready}


def _on_show(session: Session) -> tuple[Prediction, datetime] | None:
    batch = session.batch
    if batch is None or batch.opened is None or batch.current is None:
        return None
    return batch.opened, batch.rows[batch.current].at


def _view(order: Any, search: Any, decision: str = "") -> rows.View:
    """Return what a person chose to see, checked."""
    order = incoming.choice(order, rows.ORDERS, "The order")
    return rows.View(order, decision, incoming.text(search or "", "The search", rows.LONGEST_SEARCH))


def _upload_label(task: Task) -> str:
    return f"Many {task.image_noun}s"


def hint_html() -> str:
    """Return the card shown while no row is open."""
    return html.empty("No row open", "Open a row to see its result", STEPS)
