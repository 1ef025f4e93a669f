"""The Batch tab: many files or a folder, a row per file as it is done, and the table and overlays to take away."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app import answers, incoming, rows, viewer
from bcx.app.classify import NETWORK, PICK, PRIVATE, SCROLL
from bcx.app.incoming import Folder, Upload, file_name, handler
from bcx.app.models import Models, Part
from bcx.app.pictures import lesion_picture, save_png
from bcx.errors import BcxError, RequestError
from bcx.inference import table
from bcx.inference.input_files import Found, choose, reached

if TYPE_CHECKING:
    from bcx.app.privacy import Session, Sessions
    from bcx.inference.classifier import Classifier
    from bcx.tasks import Task

#: How often the page hears of new rows: often enough to feel live, seldom enough to leave the cores to the network.
TELL_SECONDS = 0.4
VIEW = "batch"


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
    if len(kept) > incoming.MOST_FILES:
        raise RequestError(
            f"There are {len(kept):,} scans in it.",
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
                    "Choose a folder", file_count="directory", size="sm", elem_id="batch-folder", min_width=120
                )
                stop = gr.Button("Stop", size="sm", interactive=False, elem_id="batch-stop", min_width=80)
            progress = gr.HTML(elem_id="batch-progress")
            listing = gr.HTML(js_on_load=PICK, elem_id="batch-rows")
        with gr.Column(scale=5, min_width=300, elem_id="batch-result"):
            with gr.Row():
                csv = gr.DownloadButton(
                    "Table (CSV)", interactive=False, size="sm", elem_id="batch-csv", variant="primary", min_width=120
                )
                make_zip = gr.Button("Make overlays (ZIP)", interactive=False, size="sm", elem_id="batch-make-zip")
                download_zip = gr.DownloadButton(
                    "Overlays (ZIP)", visible=False, size="sm", elem_id="batch-zip", variant="primary"
                )
            answer = gr.HTML(_hint(), elem_id="batch-answer")
            view = viewer.build_viewer(models.default.task, VIEW)

    def classify_files(sent: Any, folder_chosen: bool, model: Any, session: Session) -> Iterator[list[Any]]:
        uploads = incoming.files(sent)
        if not uploads:
            yield [gr.skip()] * len(results)
            return
        classifier = models.get(model)
        task = classifier.task
        batch = take_in(session, uploads, folder_chosen)
        session.batch = batch
        off = gr.update(interactive=False)
        cleared = [off, off, gr.update(visible=False, value=None), _hint(), *viewer.hide()]
        stop_on = gr.update(interactive=True)
        for _ in run(session, batch, classifier, partial(stream, model)):
            if session.batch is not batch:  # the page shows another batch, or another model
                return
            yield [None, stop_on, rows.progress_html(batch), rows.rows_html(batch, task), *cleared]
            cleared = [gr.skip()] * len(cleared)
        if session.ended.is_set() or session.batch is not batch:
            return
        path = session.picture("bcx-results", ".csv")
        table.write_csv((row.cells for row in batch.rows), path, task)
        on = gr.update(interactive=True)
        done = [
            gr.update(value=str(path), interactive=True),
            on,
            gr.skip(),
            gr.skip(),
            *[gr.skip()] * len(view.outputs),
        ]
        yield [None, off, rows.progress_html(batch), rows.rows_html(batch, task), *done]

    @handler
    def from_files(uploads: Any, model: Any, request: gr.Request) -> Iterator[list[Any]]:
        with sessions.at_work(request.session_hash) as session:
            yield from classify_files(uploads, False, model, session)

    @handler
    def from_folder(uploads: Any, model: Any, request: gr.Request) -> Iterator[list[Any]]:
        with sessions.at_work(request.session_hash) as session:
            yield from classify_files(uploads, True, model, session)

    @handler
    def ask_to_stop(request: gr.Request) -> Any:
        session = sessions.find(request.session_hash)
        if session is not None and session.batch is not None:
            session.batch.stop.set()
        return gr.update(interactive=False)

    @handler
    def open_row(opacity: Any, model: Any, event: gr.EventData, request: gr.Request) -> list[Any]:
        session, task = sessions.find(request.session_hash), models.get(model).task
        if session is None or session.batch is None:
            return [gr.skip(), answers.gone_html(), *viewer.hide()]
        batch, page = session.batch, incoming.event_value(event, "page")
        if page is not None:
            batch.page = incoming.index(page, batch.pages, "The page")
            return [rows.rows_html(batch, task), gr.skip(), *[gr.skip()] * len(view.outputs)]
        row = batch.rows[incoming.index(incoming.event_value(event, "pick"), len(batch.rows), "The row")]
        try:
            prediction = row.prediction()
        except BcxError as error:
            return [gr.skip(), answers.failure_html(error, str(row.cells["file"])), *viewer.hide()]
        if prediction is None:
            return [gr.skip()] * (2 + len(view.outputs))
        batch.opened = prediction
        said = answers.answer_html(prediction, task)
        return [gr.skip(), said, *viewer.show(session, VIEW, prediction, task, opacity)]

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
        off = gr.update(interactive=False)
        zipped = [gr.update(value="Make overlays (ZIP)", interactive=False), gr.update(visible=False, value=None)]
        cleared = [off, "", "", off, *zipped, _hint(), *viewer.hide()]
        return [gr.update(value=None, label=_upload_label(classifier.task)), *cleared]

    results = [files, stop, progress, listing, csv, make_zip, download_zip, answer, *view.outputs]
    for source, classify in ((files, from_files), (folder, from_folder)):
        source.upload(
            classify,
            [source, picker],
            results,
            show_progress="hidden",
            trigger_mode="once",
            **NETWORK,
            **PRIVATE,
        )
    stop.click(ask_to_stop, None, stop, show_progress="hidden", concurrency_limit=None, **PRIVATE)
    listing.click(
        open_row,
        [view.opacity, picker],
        [listing, answer, *view.outputs],
        show_progress="hidden",
        trigger_mode="multiple",
        concurrency_limit=None,
        **PRIVATE,
    ).then(None, js=SCROLL.replace("ANCHOR", "batch-result"))
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
    make_zip.click(zip_overlays, None, [make_zip, download_zip], show_progress="hidden", concurrency_limit=2, **PRIVATE)
    return Part(results, values)


def _upload_label(task: Task) -> str:
    return f"Many {task.image_noun}s"


def _hint() -> str:
    return (
        '<section class="bcx-answer bcx-empty"><p class="bcx-kicker">One row at a time</p>'
        '<h2 class="bcx-headline">Open a row to see where the network looked</h2>'
        "<ol><li>Choose files, a ZIP archive or a folder. Every file gets a row; if it cannot be read, its reason.</li>"
        "<li>Open any row, also while the others are still running.</li>"
        "<li>Take away the table and the overlays. They are deleted here when you close the page.</li></ol></section>"
    )
