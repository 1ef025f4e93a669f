"""The Batch tab: many files or a folder, a row per file as it is done, and the table and overlays to take away."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import answers, incoming, rows, takeaway, viewer, worklist
from bcx.app.classify import NETWORK, SCROLL
from bcx.app.incoming import PRIVATE, Folder, Upload, file_name, handler
from bcx.app.models import Models, Part
from bcx.errors import BcxError, RequestError
from bcx.inference import table
from bcx.inference.input_files import Found, choose, reached
from bcx.report.pictures import lesion_picture, save_png

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: How often the page hears of new rows: often enough to feel live, seldom enough to leave the cores to the network.
TELL_SECONDS = 0.4
VIEW = "batch"
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


def take_in(session: Session, uploads: list[Any], folder: bool) -> rows.Batch:
    """Return the batch that a person chose.

    Args:
        session: its folder keeps the files as long as the page is open.
        uploads: what the client sent in each file's place.
        folder: True where a whole folder was chosen: then masks beside their scan and files that are no pictures
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
    kept.sort(key=lambda found: worklist.natural_key(found.file))
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


def write_overlays(session: Session, batch: rows.Batch) -> Iterator[tuple[int, Path]]:
    """Write a ZIP with the overlays of every readable file, named after it: its label's evidence, and its lesion map.

    Yields how many files are done, and the ZIP's path.
    """
    target = session.picture("bcx-overlays", ".zip")
    readable = [row for row in batch.rows if row.slim is not None]
    # PNG is compressed already, so the archive only stores.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for done, row in enumerate(readable, start=1):
            if session.ended.is_set():
                return
            prediction = row.prediction()
            if prediction is None:
                continue
            name = PurePosixPath(row.cells["file"])
            layers = {prediction.label: prediction.overlay(), "lesion": lesion_picture(prediction)}
            for layer, picture in layers.items():
                if picture is not None:
                    scratch = save_png(picture, session.folder / "one-overlay.png")
                    archive.write(scratch, f"{name.with_suffix('')}_{layer}.png")
            yield done, target


def build_batch(models: Models, picker: gr.Dropdown, sessions: Sessions, stream: Callable[..., Any]) -> Part:
    """Lay out the tab and wire it.

    Args:
        models: what can answer; `picker` holds the name of the one that does.
        picker: the page's choice of model.
        sessions: the open pages.
        stream: from a model's name and sources to its answers, one after the other.
    """
    with gr.Row(elem_classes="bcx-split"):
        with gr.Column(scale=6, min_width=300):
            files = Upload(
                label=_upload_label(models.default.task),
                file_count="multiple",
                height=150,
                elem_id="batch-upload",
            )
            with gr.Row():
                folder = Folder(
                    "Choose folder", file_count="directory", size="sm", elem_id="batch-folder", min_width=120
                )
                stop = gr.Button("Stop", size="sm", interactive=False, elem_id="batch-stop", min_width=80)
            progress = gr.HTML(elem_id="batch-progress")
            with gr.Column(elem_id="batch-tools"):
                counts = gr.HTML(js_on_load=SHOW, elem_id="batch-counts")
                with gr.Row(elem_classes="bcx-controls"):
                    order = gr.Radio(
                        [(words, name) for name, words in worklist.ORDERS.items()],
                        value="name",
                        label="Sort by",
                        elem_id="batch-order",
                        min_width=260,
                    )
                    search = gr.Textbox(label="Search", max_lines=1, elem_id="batch-search", min_width=160)
                score = gr.HTML(elem_id="batch-score")
            listing = gr.HTML(js_on_load=LIST, elem_id="batch-rows")
        with gr.Column(scale=5, min_width=300, elem_id="batch-result"):
            with gr.Row():
                csv = gr.DownloadButton(
                    "Table (CSV)", interactive=False, size="sm", elem_id="batch-csv", variant="primary", min_width=120
                )
                make_zip = gr.Button("Make overlays (ZIP)", interactive=False, size="sm", elem_id="batch-make-zip")
                download_zip = gr.DownloadButton(
                    "Overlays (ZIP)", visible=False, size="sm", elem_id="batch-zip", variant="primary"
                )
            with gr.Row(elem_id="batch-step"):
                back = gr.Button("Previous", size="sm", min_width=80, elem_id="batch-back")
                place = gr.HTML(elem_id="batch-place", min_width=60)
                on = gr.Button("Next", size="sm", min_width=80, elem_id="batch-on")
            answer = gr.HTML(_hint(), elem_id="batch-answer")
            take = takeaway.build_take("batch", models, picker, sessions, _on_show)
            view = viewer.build_viewer(models.default.task, VIEW)

    off = gr.update(interactive=False)

    def listed(batch: rows.Batch, task: Task) -> dict[Any, Any]:
        return {
            progress: rows.progress_html(batch),
            counts: worklist.counts_html(batch, task),
            listing: rows.rows_html(batch, task),
        }

    def written(session: Session, batch: rows.Batch, task: Task) -> dict[Any, Any]:
        """The table, and what the person's own labels make of it."""
        path = session.picture("bcx-results", ".csv")
        table.write_csv(batch.table(), path, task, more=[worklist.OWN_LABEL])
        return {csv: gr.update(value=str(path), interactive=True), score: worklist.score_html(batch, task)}

    def shut() -> dict[Any, Any]:
        """No row is open."""
        return {place: "", answer: _hint(), take: "", **dict(zip(view.outputs, viewer.hide(), strict=True))}

    def classify_files(
        sent: Any, folder_chosen: bool, seen: worklist.View, model: Any, session: Session
    ) -> Iterator[dict[Any, Any]]:
        uploads = incoming.files(sent)
        if not uploads:
            yield {files: gr.skip()}
            return
        task = models.get(model).task
        batch = take_in(session, uploads, folder_chosen)
        batch.task, batch.view = task.name, seen
        batch.own = worklist.own_labels([name for _, name in batch.files], task)
        session.batch = batch
        yield from read(session, batch, model)

    def read(session: Session, batch: rows.Batch, model: Any) -> Iterator[dict[Any, Any]]:
        session.again.discard("batch")
        classifier = models.get(model)
        task = classifier.task
        running = {
            **{files: None, stop: gr.update(interactive=True), score: "", csv: off, make_zip: off},
            download_zip: gr.update(visible=False, value=None),
        }
        cleared = shut()
        for _ in run(session, batch, classifier, partial(stream, model)):
            if session.batch is not batch:  # the page shows another batch, or another model
                return
            yield {**listed(batch, task), **running, **cleared}
            cleared = {}
        if session.ended.is_set() or session.batch is not batch:
            return
        yield {
            **{stop: off, make_zip: gr.update(interactive=True)},
            **listed(batch, task),
            **written(session, batch, task),
        }

    @handler
    def from_files(uploads: Any, order: Any, search: Any, model: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        with sessions.at_work(request.session_hash) as session:
            yield from classify_files(uploads, False, _view(order, search), model, session)

    @handler
    def from_folder(uploads: Any, order: Any, search: Any, model: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        with sessions.at_work(request.session_hash) as session:
            yield from classify_files(uploads, True, _view(order, search), model, session)

    @handler
    def read_again(model: Any, request: gr.Request) -> Iterator[dict[Any, Any]]:
        with sessions.at_work(request.session_hash) as session:
            batch = session.batch
            if batch is None or "batch" not in session.again or batch.task != models.get(model).task.name:
                yield {files: gr.skip()}
                return
            batch.started = time.monotonic()
            yield from read(session, batch, model)

    @handler
    def ask_to_stop(request: gr.Request) -> Any:
        session = sessions.find(request.session_hash)
        if session is not None and session.batch is not None:
            session.batch.stop.set()
        return gr.update(interactive=False)

    @handler
    def arrange(order: Any, search: Any, model: Any, request: gr.Request) -> dict[Any, Any]:
        session = sessions.find(request.session_hash)
        if session is None or session.batch is None:
            return {listing: gr.skip()}
        batch = session.batch
        batch.view, batch.page = _view(order, search, batch.view.decision), 0
        return {listing: rows.rows_html(batch, models.get(model).task)}

    @handler
    def show_only(model: Any, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None:
            return {listing: gr.skip()}
        batch, wanted = session.batch, incoming.event_value(event, "show")
        batch.view.decision = incoming.choice(wanted, ["", *worklist.filters(task)], "The decision")
        batch.page = 0
        return {listing: rows.rows_html(batch, task), counts: worklist.counts_html(batch, task)}

    @handler
    def turn_page(model: Any, event: gr.EventData, request: gr.Request) -> Any:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None:
            return gr.skip()
        batch = session.batch
        count = rows.pages(len(batch.view.places(batch.rows, task)))
        batch.page = incoming.index(incoming.event_value(event, "page"), count, "The page")
        return rows.rows_html(batch, task)

    @handler
    def label_row(model: Any, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None:
            return {answer: answers.gone_html()}
        batch = session.batch
        row = incoming.index(incoming.event_value(event, "row"), len(batch.rows), "The row")
        label = incoming.choice(incoming.event_value(event, "label"), ["", *task.classes], "The label")
        batch.own[row] = label
        if not label:
            del batch.own[row]
        return {score: gr.skip()} if batch.ended is None else written(session, batch, task)

    @handler
    def open_row(opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> dict[Any, Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None:
            return {**shut(), answer: answers.gone_html()}
        batch = session.batch
        chosen = incoming.index(incoming.event_value(event, "pick"), len(batch.rows), "The row")
        row = batch.rows[chosen]
        try:
            prediction = row.prediction()
        except BcxError as error:
            return {**shut(), answer: answers.failure_html(error, str(row.cells["file"]))}
        if prediction is None:
            return {answer: gr.skip()}
        batch.opened, batch.current = prediction, chosen
        shown = batch.view.places(batch.rows, task)
        where = f"{shown.index(chosen) + 1:,} of {len(shown):,}" if chosen in shown else ""
        painted = viewer.show(session, VIEW, prediction, task, opacity)
        return {
            place: f'<p class="bcx-caption">{where}</p>',
            answer: answers.answer_html(prediction, task),
            take: takeaway.buttons_html(prediction, task, row.at),
            **dict(zip(view.outputs, painted, strict=True)),
        }

    @handler
    def repaint(layer: Any, opacity: Any, model: Any, request: gr.Request) -> list[Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None or session.batch.opened is None:
            return [gr.skip(), gr.skip(), answers.gone_html()]
        return [*viewer.repaint(session, VIEW, session.batch.opened, task, layer, opacity), gr.skip()]

    @handler
    def zip_overlays(request: gr.Request) -> Iterator[list[Any]]:
        session = sessions.find(request.session_hash)
        if session is None or session.batch is None:
            yield [gr.skip(), gr.skip()]
            return
        batch = session.batch
        total, told, ready = len(batch.rows) - batch.failed, 0.0, gr.skip()
        for done, path in write_overlays(session, batch):
            ready = gr.update(value=str(path), visible=True)
            if time.monotonic() - told >= TELL_SECONDS:
                yield [gr.update(value=f"Making overlays: {done} of {total}", interactive=False), gr.skip()]
                told = time.monotonic()
        yield [gr.update(value="Make overlays (ZIP)", interactive=True), ready]

    def values(classifier: Classifier) -> list[Any]:
        cleared = {
            files: gr.update(value=None, label=_upload_label(classifier.task)),
            **{stop: off, progress: "", counts: "", score: "", listing: "", csv: off},
            make_zip: gr.update(value="Make overlays (ZIP)", interactive=False),
            download_zip: gr.update(visible=False, value=None),
            **shut(),
        }
        return [cleared[output] for output in results]

    results = [files, stop, progress, counts, score, listing, csv, make_zip, download_zip]
    results += [place, answer, take, *view.outputs]
    for source, classify in ((files, from_files), (folder, from_folder)):
        source.upload(
            classify,
            [source, order, search, picker],
            results,
            show_progress="hidden",
            trigger_mode="once",
            **NETWORK,
            **PRIVATE,
        )
    quick: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None, **PRIVATE}
    gr.on([order.input, search.change], arrange, [order, search, picker], listing, trigger_mode="always_last", **quick)
    counts.click(show_only, picker, [listing, counts], trigger_mode="always_last", **quick)
    listing.select(turn_page, picker, listing, trigger_mode="always_last", **quick)
    listing.input(label_row, picker, [score, csv, answer], trigger_mode="multiple", **quick)
    for button, by in ((back, "-1"), (on, "1")):
        button.click(None, js=STEP.replace("BY", by))
    stop.click(ask_to_stop, None, stop, **quick)
    listing.click(
        open_row,
        [view.opacity, picker],
        [place, answer, take, *view.outputs],
        trigger_mode="always_last",
        **quick,
    ).then(None, js=SCROLL.replace("ANCHOR", "batch-step"))
    gr.on(
        [view.picker.input, view.opacity.input, view.opacity.release],
        repaint,
        [view.picker, view.opacity, picker],
        [view.slider, view.legend, answer],
        trigger_mode="always_last",
        **quick,
    )
    make_zip.click(zip_overlays, None, [make_zip, download_zip], show_progress="hidden", concurrency_limit=2, **PRIVATE)

    def again(event: Any) -> Any:
        return event.then(read_again, picker, results, show_progress="hidden", **NETWORK, **PRIVATE)

    return Part(results, values, again)


def _on_show(session: Session) -> tuple[Prediction, datetime] | None:
    batch = session.batch
    if batch is None or batch.opened is None or batch.current is None:
        return None
    return batch.opened, batch.rows[batch.current].at


def _view(order: Any, search: Any, decision: str = "") -> worklist.View:
    """Return what a person chose to see, checked."""
    return worklist.View(
        incoming.choice(order, worklist.ORDERS, "The order"),
        decision,
        incoming.text(search or "", "The search", worklist.LONGEST_SEARCH),
    )


def _upload_label(task: Task) -> str:
    return f"Many {task.image_noun}s"


def _hint() -> str:
    return (
        '<section class="bcx-answer bcx-empty"><p class="bcx-kicker">No row open</p>'
        '<h2 class="bcx-headline">Open a row to see its result</h2>'
        "<ol><li>Choose files, a ZIP archive or a folder. Every file gets a row.</li>"
        "<li>Open rows while the others are still running.</li>"
        "<li>Save the table and the overlays. They are deleted here when this page closes.</li></ol></section>"
    )
