"""One answer, or a batch, as a sheet of paper (PNG or PDF) or as text: what page and `bcx predict --report` hand out.

The sheet holds what the page holds: scan, overlay, probabilities, decision, doubts, model, hashes, date, disclaimer.
"""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

import bcx
from bcx.inference.prediction import Prediction
from bcx.report.pictures import as_image, lesion_picture, page_overlay, save_png
from bcx.report.words import NOTICE, lesion_words, percent, words
from bcx.tasks import Task
from bcx.trust.claims import NOT_A_SCAN, REFER

# A4 at 150 dots per inch; a sheet with more words is longer.
_DPI, _WIDTH, _HEIGHT, _EDGE = 150, 1240, 1754, 70
_PICTURE = 640  # pixels at most, upwards
#: Files that the page about a batch lists for each reason, at most; the table has them all.
_LISTED = 20
FAILED = "failed"
_INK, _SOFT, _AMBER = "#111822", "#556072", "#8a5a00"
MOMENT = "{:%Y-%m-%d %H:%M %Z}"


def text(prediction: Prediction, task: Task, at: datetime) -> str:
    """Return an answer, with its pixels, as plain text, one line per fact. `at`: when it was given."""
    said = words(prediction, task)
    lines = [f"{said.headline} ({said.number})" if said.number else said.headline]
    lines += [f"{name}: {value}" for name, value in _facts(prediction, task, at)]
    return "\n".join([*lines, f"bcx {bcx.__version__}. {NOTICE}"])


def _facts(prediction: Prediction, task: Task, at: datetime) -> list[tuple[str, str]]:
    clip, shown = prediction.clip, prediction.decision != NOT_A_SCAN
    each = ", ".join(f"{name} {percent(p)}" for name, p in prediction.probabilities.items())
    facts = [
        ("Probabilities", each if shown else "not shown: they mean nothing here"),
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
        ("Date", MOMENT.format(at)),
    ]
    return [(name, value) for name, value in facts if value]


def sheet(prediction: Prediction, task: Task, at: datetime) -> Image.Image:
    """Return the answer on one page, RGB, 1,240 pixels wide; the arguments are `text`'s."""
    said = words(prediction, task)
    page = _Page(task, f"{said.headline}  {said.number}")
    page.images(prediction)
    page.write(said.means, 24, _INK)
    if prediction.decision != NOT_A_SCAN:
        page.write(said.means_not, 22, _SOFT, after=18)
        page.bars(prediction, task)
    for name, value in _facts(prediction, task, at):
        if name != "Probabilities" and value != said.means:
            page.fact(name, value, _AMBER if name == "Doubt" else _INK)
    return page.done()


class _Page:
    """A white page, written from top to bottom, with the task, a headline and the disclaimer on top."""

    def __init__(self, task: Task, headline: str) -> None:
        self._image, self._y = Image.new("RGB", (_WIDTH, 3 * _HEIGHT), "white"), _EDGE
        self._pen = ImageDraw.Draw(self._image)
        self.write(f"{task.title[:1].upper()}{task.title[1:]}", 24, _SOFT)
        self.write(headline, 46, _INK, after=4)
        self.write(NOTICE, 26, _AMBER, after=18)

    def done(self) -> Image.Image:
        self.write(f"bcx {bcx.__version__}. {NOTICE}", 20, _SOFT, before=16)
        return self._image.crop((0, 0, _WIDTH, min(self._image.height, self._y + _EDGE)))

    def write(
        self, said: str, size: int, colour: str, *, before: int = 0, after: int = 10, left: int = _EDGE, wide: int = 0
    ) -> None:
        font = ImageFont.load_default(size)
        self._y += before
        for line in _wrapped(said, font, wide or _WIDTH - _EDGE - left):
            self._pen.text((left, self._y), line, fill=colour, font=font)
            self._y += round(1.3 * size)
        self._y += after

    def fact(self, name: str, value: str, colour: str) -> None:
        self._pen.text((_EDGE, self._y), name, fill=_SOFT, font=ImageFont.load_default(21))
        self.write(value, 21, colour, left=_EDGE + 210, after=4)

    def images(self, prediction: Prediction) -> None:
        for_it, against = prediction.style.ends
        seen = f"{for_it} speaks for {prediction.label}, {against} against it"
        pair = {"Picture as read": as_image(prediction.screen.shown).convert("RGB")}
        if prediction.decision != NOT_A_SCAN:
            overlay = "lesion map" if prediction.reading.lesion is not None else seen
            pair[f"Overlay: {overlay}"] = page_overlay(prediction)
        gap = 30
        wide = (_WIDTH - 2 * _EDGE - gap) // 2
        top, ends = self._y, []
        for place, (caption, picture) in enumerate(pair.items()):
            left = _EDGE + place * (wide + gap)
            scale = min(wide / picture.width, _PICTURE / picture.height)
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            self._image.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, top))
            self._y = top + size[1] + 8
            self.write(caption, 20, _SOFT, after=18, left=left, wide=wide)
            ends.append(self._y)
        self._y = max(ends)

    def bars(self, prediction: Prediction, task: Task) -> None:
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
    """Write an "overlay" or a sheet, "png" or "pdf"; a PDF carries the answer as text among its properties."""
    if kind == "overlay":
        save_png(lesion_picture(prediction) or prediction.overlay(), path)
    elif kind == "png":
        save_png(sheet(prediction, task, at), path)
    else:
        title = f"{prediction.name}: {words(prediction, task).headline}"
        _save_pdf(sheet(prediction, task, at), path, title, prediction.model, text(prediction, task, at))


def _save_pdf(drawn: Image.Image, path: Path, title: str, model: str, subject: str) -> None:
    about = {"title": title, "author": f"bcx {bcx.__version__}, {model}", "subject": subject, "keywords": NOTICE}
    page = Image.new("RGB", (_WIDTH, max(_HEIGHT, drawn.height)), "white")
    page.paste(drawn)
    page.save(path, format="PDF", resolution=_DPI, quality=92, **about)


class Batch:
    """The page about a batch: how many of each decision, and the first referred and failed files with reasons.

    It is gathered answer by answer; a long batch takes no more memory than a short one.
    """

    def __init__(self) -> None:
        self.decisions: Counter[str] = Counter()
        self._listed: dict[str, list[tuple[str, str]]] = {REFER: [], FAILED: []}

    def add(self, file: str, decision: str, reason: str) -> None:
        self.decisions[decision] += 1
        if decision in self._listed and len(self._listed[decision]) < _LISTED:
            self._listed[decision].append((file, reason[:300]))

    def write(self, path: Path, task: Task, model: str, at: datetime) -> None:
        """Write the page as PDF: counts, the scans that are referred, and those that could not be read."""
        total = self.decisions.total()
        title = f"{total:,} file{'' if total == 1 else 's'}"
        page = _Page(task, title)
        for name in (*task.classes, REFER, NOT_A_SCAN, FAILED):
            if count := self.decisions[name]:
                page.fact(name, f"{count:,} ({percent(count / total)})" if count < total else f"{count:,}", _INK)
        for name, heading in ((REFER, "Referred: a person should read these"), (FAILED, "Could not be read")):
            if listed := self._listed[name]:
                page.write(heading, 28, _INK, before=22)
            for file, reason in listed:
                page.write(file, 21, _INK, after=0)
                page.write(reason, 18, _SOFT, left=_EDGE + 30, after=6)
            if more := self.decisions[name] - len(listed):
                page.write(f"and {more:,} more: see the table.", 21, _SOFT)
        page.fact("Model", model, _INK)
        page.fact("Date", MOMENT.format(at), _INK)
        subject = "\n".join(f"{name}: {count}" for name, count in sorted(self.decisions.items()))
        _save_pdf(page.done(), path, title, model, subject)
