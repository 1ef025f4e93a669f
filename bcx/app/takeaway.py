"""One answer to take away from the page, as `bcx.report.sheet` draws it, and the last answers of a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import gradio as gr

from bcx.app.incoming import PICK, choice, event_value
from bcx.app.markup import html
from bcx.app.privacy import Chosen, Session
from bcx.app.wiring import Changes, Page
from bcx.errors import RequestError
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.report.pictures import data_url, page_overlay
from bcx.report.sheet import text, write_file
from bcx.report.words import words
from bcx.tasks import Task

#: What can be saved as a file, and the words on its button.
FILES = {"png": "Report (PNG)", "pdf": "Report (PDF)", "overlay": "Overlay, full size (PNG)"}
#: Inside the component with the buttons: a click on `data-copy` copies the text that stands in it.
COPY = Path(__file__).with_name("copy.js").read_text("utf-8")
#: After the file is written: save it as the browser does with any download.
SAVE = """
(file) => {
  if (!file) return;
  const link = Object.assign(document.createElement('a'), {href: file.url, download: file.orig_name ?? ''});
  document.body.append(link);
  link.click();
  link.remove();
}
"""


@dataclass(frozen=True)
class Past:
    """An answer as `slim` keeps it, with its scan, a small image as a data address, and when it was given."""

    prediction: Prediction
    chosen: Chosen
    thumbnail: str
    at: datetime

    def open(self) -> Prediction:
        """Return the prediction with its pixels, read again from the file."""
        return self.prediction.with_pixels(self.chosen.path)


def slim(prediction: Prediction) -> Prediction:
    """Return what is kept of an answer, some kilobytes: no pixels, and no other frames of a clip."""
    clip = None if prediction.clip is None else dataclasses.replace(prediction.clip, answers=())
    return dataclasses.replace(prediction.without_pixels(), clip=clip)


def make_past(prediction: Prediction, chosen: Chosen, at: datetime | None = None) -> Past:
    """Return what is kept of an answer. `at`: when it was given; None: now."""
    thumbnail = data_url(page_overlay(prediction), side=120)
    return Past(slim(prediction), chosen, thumbnail, at or datetime.now().astimezone())


def build_take(name: str, page: Page, on_show: Callable[[Session], tuple[Prediction, datetime] | None]) -> gr.HTML:
    """Lay out and wire the place of `buttons_html`; `name` prefixes the elements' ids.

    `on_show`: from a session to the answer on show, with its pixels, and when it was given; None without one.
    """
    take = gr.HTML(js_on_load=PICK + COPY, elem_id=f"{name}-take")
    file = gr.DownloadButton(visible="hidden", elem_id=f"{name}-file")

    def take_away(session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
        kind = choice(event_value(event, "pick"), FILES, "The file")
        shown = on_show(session)
        if shown is None:
            raise RequestError("No result is open.", expected="an open result", remedy="Read a picture first.")
        prediction, at = shown
        path = session.picture("bcx-answer", ".pdf" if kind == "pdf" else ".png")
        write_file(kind, session.drawn(prediction), classifier.task, at, path)
        return {file: str(path)}

    how = {"show_progress": "hidden", "trigger_mode": "multiple", "concurrency_limit": 2}
    page.listen(take.click, take_away, [], [file], **how).success(None, file, js=SAVE)
    return take


def buttons_html(prediction: Prediction, task: Task, at: datetime) -> str:
    """Return the buttons under an answer; see `text`."""
    return html.take(FILES, text(prediction, task, at))


def past_html(session: Session, task: Task) -> str:
    """Return the strip of the last answers of a task, each to be opened or put beside the open one; "" without any."""
    return html.past(
        [
            (place, each, words(each.prediction, task), each is session.opened and session.answer is not None)
            for place, each in enumerate(session.past)
            if tuple(each.prediction.probabilities) == task.classes
        ]
    )
