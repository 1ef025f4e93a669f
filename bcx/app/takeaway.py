"""One answer to take away: a sheet as PNG or PDF, the same as text, and the last answers of a session.

The sheet holds what the page holds: scan, overlay, probabilities, decision, doubts, model, hashes, date, disclaimer.

>>> from datetime import datetime, timezone
>>> moment(datetime(2030, 1, 2, 3, 4, tzinfo=timezone.utc))
'2030-01-02 03:04 UTC'
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL import Image, ImageDraw, ImageFont

import bcx
from bcx.app.answers import NOTICE, percent, words
from bcx.app.incoming import PICK, PRIVATE, choice, event_value, handler
from bcx.app.pictures import as_image, data_url, lesion_picture, page_overlay, save_png
from bcx.app.stages import lesion_words
from bcx.errors import RequestError
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.app.models import Models
    from bcx.app.privacy import Chosen, Session, Sessions
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: What can be saved as a file, and the words on its button.
FILES = {"png": "Report (PNG)", "pdf": "Report (PDF)", "overlay": "Overlay, full size (PNG)"}
# A4 at 150 dots per inch; a sheet with more words is longer.
_DPI, _WIDTH, _HEIGHT, _EDGE = 150, 1240, 1754, 70
_PICTURE = 640  # pixels at most, upwards
_INK, _SOFT, _RULE, _AMBER = "#111822", "#556072", "#d5dbe4", "#8a5a00"
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


def moment(when: datetime) -> str:
    """Return date and time with their zone."""
    return f"{when:%Y-%m-%d %H:%M %Z}"


def text(prediction: Prediction, task: Task, at: datetime) -> str:
    """Return an answer, with its pixels, as plain text, one line per fact. `at`: when it was given."""
    said = words(prediction, task)
    lines = [f"{said.headline} ({said.number})" if said.number else said.headline]
    lines += [f"{name}: {value}" for name, value in _facts(prediction, task, at)]
    return "\n".join([*lines, f"bcx {bcx.__version__}. {NOTICE}"])


def _facts(prediction: Prediction, task: Task, at: datetime) -> list[tuple[str, str]]:
    clip = prediction.clip
    shown = prediction.decision != NOT_A_SCAN
    facts = [
        ("Probabilities", ", ".join(f"{name} {percent(p)}" for name, p in prediction.probabilities.items()))
        if shown
        else ("Probabilities", "not shown: they mean nothing here"),
        ("Decision", prediction.decision),
        ("Reason", prediction.reason),
        *(("Doubt", flag) for flag in prediction.flags),
        *(("Read as", note) for note in prediction.notes),
        ("Lesion", lesion_words(prediction.screen, task) if prediction.reading.lesion is not None and shown else ""),
        ("File", f"{prediction.name}, {prediction.scan.width} x {prediction.scan.height} pixels"),
        ("Frame", "" if clip is None else f"{clip.frame + 1:,} of {clip.count:,}"),
        ("File's SHA-256", prediction.scan.sha256),
        ("Model", f"{prediction.model} ({prediction.backend})"),
        ("Weights' SHA-256", prediction.weights_sha256),
        ("Date", moment(at)),
    ]
    return [(name, value) for name, value in facts if value]


def sheet(prediction: Prediction, task: Task, at: datetime) -> Image.Image:
    """Return the answer on one page, RGB, 1,240 pixels wide (A4 at 150 dots per inch); the arguments are `text`'s."""
    page = _Page()
    said = words(prediction, task)
    page.write(f"{task.title[:1].upper()}{task.title[1:]}", 24, _SOFT)
    page.write(said.headline + (f"  {said.number}" if said.number else ""), 46, _INK, after=4)
    page.write(NOTICE, 26, _AMBER, after=18)
    page.pictures(prediction)
    page.write(said.means, 24, _INK)
    if prediction.decision != NOT_A_SCAN:
        page.write(said.means_not, 22, _SOFT, after=18)
        page.bars(prediction, task)
    for name, value in _facts(prediction, task, at):
        if name != "Probabilities" and value != said.means:
            page.fact(name, value, _AMBER if name == "Doubt" else _INK)
    page.write(f"bcx {bcx.__version__}. {NOTICE}", 20, _SOFT, before=16)
    return page.done()


class _Page:
    """A white page, written from top to bottom."""

    def __init__(self) -> None:
        self._image = Image.new("RGB", (_WIDTH, 3 * _HEIGHT), "white")
        self._pen = ImageDraw.Draw(self._image)
        self._y = _EDGE

    def done(self) -> Image.Image:
        return self._image.crop((0, 0, _WIDTH, min(self._image.height, self._y + _EDGE)))

    def write(self, said: str, size: int, colour: str, *, before: int = 0, after: int = 10, left: int = _EDGE) -> None:
        font = ImageFont.load_default(size)
        self._y += before
        for line in _wrapped(said, font, _WIDTH - _EDGE - left):
            self._pen.text((left, self._y), line, fill=colour, font=font)
            self._y += round(1.3 * size)
        self._y += after

    def fact(self, name: str, value: str, colour: str) -> None:
        self._pen.text((_EDGE, self._y), name, fill=_SOFT, font=ImageFont.load_default(21))
        self.write(value, 21, colour, left=_EDGE + 210, after=4)

    def pictures(self, prediction: Prediction) -> None:
        """Put the scan and its overlay side by side, each with a caption."""
        lesion = prediction.reading.lesion is not None
        seen = "lesion map" if lesion else f"purple speaks for {prediction.label}, green against it"
        pair = {"Picture as read": as_image(prediction.screen.shown).convert("RGB")}
        if prediction.decision != NOT_A_SCAN:
            pair[f"Overlay: {seen}"] = page_overlay(prediction)
        gap = 30
        wide = (_WIDTH - 2 * _EDGE - gap) // 2
        font, top, tallest = ImageFont.load_default(20), self._y, 0
        for place, (caption, picture) in enumerate(pair.items()):
            left = _EDGE + place * (wide + gap)
            scale = min(wide / picture.width, _PICTURE / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            self._image.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
            self._y = top + size[1] + 8
            for line in _wrapped(caption, font, wide):
                self._pen.text((left, self._y), line, fill=_SOFT, font=font)
                self._y += 26
            tallest = max(tallest, self._y)
        self._y = tallest + 18

    def bars(self, prediction: Prediction, task: Task) -> None:
        """Draw one bar per class, in its colour, with name and per cent."""
        font, left, right = ImageFont.load_default(24), _EDGE + 210, _WIDTH - _EDGE - 140
        for name, colour in zip(task.classes, task.colours, strict=True):
            p = float(prediction.probabilities[name])
            self._pen.text((_EDGE, self._y), name, fill=_INK, font=font)
            self._pen.rounded_rectangle((left, self._y + 4, right, self._y + 26), 11, fill="#e8ecf2")
            if p > 0.005:
                end = left + max(22, round(p * (right - left)))
                self._pen.rounded_rectangle((left, self._y + 4, end, self._y + 26), 11, fill=colour)
            self._pen.text((right + 20, self._y), percent(p), fill=_INK, font=font)
            self._y += 40
        self._y += 14


def _wrapped(said: str, font: Any, wide: int) -> list[str]:
    """Break text into lines of at most `wide` pixels; a word that is wider alone is broken as well."""
    lines, line = [], ""
    for word in said.split():
        while font.getlength(word) > wide:
            fits = next(count for count in range(len(word), 0, -1) if font.getlength(word[:count]) <= wide)
            lines += [line, word[:fits]] if line else [word[:fits]]
            line, word = "", word[fits:]
        if line and font.getlength(f"{line} {word}") > wide:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines


def write_file(kind: str, prediction: Prediction, task: Task, at: datetime, path: Path) -> None:
    """Write one of `FILES`; a PDF carries the answer as text among its properties. See `text` for the others."""
    if kind == "overlay":
        picture = lesion_picture(prediction) or prediction.overlay()
        save_png(picture, path)
    elif kind == "png":
        save_png(sheet(prediction, task, at), path)
    else:
        drawn = sheet(prediction, task, at)
        page = Image.new("RGB", (_WIDTH, max(_HEIGHT, drawn.height)), "white")
        page.paste(drawn)
        page.save(
            path,
            format="PDF",
            resolution=_DPI,
            quality=92,
            title=f"{prediction.name}: {words(prediction, task).headline}",
            author=f"bcx {bcx.__version__}, {prediction.model}",
            subject=text(prediction, task, at),
            keywords=NOTICE,
        )


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
