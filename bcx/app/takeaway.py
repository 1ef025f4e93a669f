"""One answer to take away from the page, as `bcx.report.sheet` draws it, and the last answers of a session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.incoming import PICK, PRIVATE, choice, event_value, handler
from bcx.errors import RequestError
from bcx.report.pictures import data_url, page_overlay
from bcx.report.sheet import text, write_file
from bcx.report.words import words

if TYPE_CHECKING:
    from bcx.app.models import Models
    from bcx.app.privacy import Chosen, Session, Sessions
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: What can be saved as a file, and the words on its button.
FILES = {"png": "Report (PNG)", "pdf": "Report (PDF)", "overlay": "Overlay, full size (PNG)"}
#: Inside a component: besides what `PICK` does, a click on `data-copy` copies the text that stands in the component.
COPY = """
element.addEventListener('click', async (event) => {
  if (!event.target.closest('[data-copy]')) return;
  const text = element.querySelector('[data-text]').textContent;
  const said = element.querySelector('[role=status]');
  try {
    if (navigator.clipboard) await navigator.clipboard.writeText(text);
    else {  // pages that came over plain http have no clipboard
      const area = Object.assign(document.createElement('textarea'), {value: text});
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    said.textContent = 'Copied.';
  } catch {
    said.textContent = 'The browser does not allow copying.';
  }
});
"""
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
    """An answer that can be opened again without the network.

    Attributes:
        prediction: without its pixels, and without the other frames of a clip.
        chosen: its scan, whose file is kept as long as this.
        thumbnail: the scan with its map, small, as a data address.
        at: when it was given.
    """

    prediction: Prediction
    chosen: Chosen
    thumbnail: str
    at: datetime

    def open(self) -> Prediction:
        """Return the prediction with its pixels, read again from the file."""
        return self.prediction.with_pixels(self.chosen.path)


def make_past(prediction: Prediction, chosen: Chosen, at: datetime | None = None) -> Past:
    """Return what is kept of an answer, some kilobytes. `at`: when it was given; None: now."""
    slim = prediction.without_pixels()
    if slim.clip is not None:
        slim = dataclasses.replace(slim, clip=dataclasses.replace(slim.clip, answers=()))
    return Past(slim, chosen, data_url(page_overlay(prediction), side=120), at or datetime.now().astimezone())


def build_take(
    name: str,
    models: Models,
    picker: gr.Dropdown,
    sessions: Sessions,
    on_show: Callable[[Session], tuple[Prediction, datetime] | None],
) -> gr.HTML:
    """Lay out and wire the place of `buttons_html`.

    Args:
        name: prefixes the elements' ids.
        models: as everywhere; `picker` holds the name of the one that answers.
        picker: the page's choice of model.
        sessions: the open pages.
        on_show: from a page to the answer on show, with its pixels, and when it was given; None without one.
    """
    take = gr.HTML(js_on_load=PICK + COPY, elem_id=f"{name}-take")
    file = gr.DownloadButton(visible="hidden", elem_id=f"{name}-file")

    @handler
    def take_away(model: Any, event: gr.EventData, request: gr.Request) -> Any:
        kind = choice(event_value(event, "pick"), FILES, "The file")
        with sessions.at_work(request.session_hash) as session:
            shown = on_show(session)
            if shown is None:
                raise RequestError("No result is open.", expected="an open result", remedy="Read a picture first.")
            prediction, at = shown
            path = session.picture("bcx-answer", ".pdf" if kind == "pdf" else ".png")
            write_file(kind, prediction, models.get(model).task, at, path)
            return str(path)

    event = take.click(
        take_away, picker, file, show_progress="hidden", trigger_mode="multiple", concurrency_limit=2, **PRIVATE
    )
    event.success(None, file, js=SAVE)
    return take


def buttons_html(prediction: Prediction, task: Task, at: datetime) -> str:
    """Return the buttons under an answer; see `text`."""
    files = "".join(f'<button type="button" data-pick="{kind}">{label}</button>' for kind, label in FILES.items())
    return (
        f'<div class="bcx-take" role="group" aria-label="Save this result">{files}'
        '<button type="button" data-copy>Copy as text</button><span role="status"></span>'
        f"<pre hidden data-text>{escape(text(prediction, task, at))}</pre></div>"
    )


def past_html(session: Session, task: Task) -> str:
    """Return the strip of the last answers of a task, each to be opened or put beside the open one; "" without any."""
    tiles = []
    for place, each in enumerate(session.past):
        found = each.prediction
        if tuple(found.probabilities) != tuple(task.classes):
            continue
        said = words(found, task)
        label = f"{said.headline} {said.number}".strip()
        yours = ", your box" if found.box else ""
        current = each is session.opened and session.answer is not None
        compare = "" if current else f'<button type="button" data-compare="{place}">Compare</button>'
        tiles.append(
            f'<div style="--tone: {said.colour}"><button type="button" data-pick="{place}"'
            f'{" aria-current=true" if current else ""}><img src="{each.thumbnail}" alt="">'
            f"<span>{escape(label)}</span><small>{escape(found.model)}{yours}, {each.at:%H:%M}</small></button>"
            f"{compare}</div>"
        )
    if not tiles:
        return ""
    return (
        '<section class="bcx-past" aria-label="Last results"><h2>Last results</h2>'
        f"<div>{''.join(tiles)}</div></section>"
    )
