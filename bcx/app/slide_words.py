"""A slide's reading in words and HTML: how far it is, what came out, and the map over the slide.

>>> from bcx.tasks import get_task
>>> "4 micrometres" in caption_html(get_task("histology-idc"))
True
"""

from __future__ import annotations

import base64
import io
from html import escape
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from bcx.app.rows import clock
from bcx.imaging.overlay import colourise
from bcx.report.pictures import data_url
from bcx.report.words import NOTICE

if TYPE_CHECKING:
    from bcx.app.slide_tab import SlideRun
    from bcx.slides import SlideReading
    from bcx.tasks import Task


def caption_html(task: Task) -> str:
    """Say what may be chosen, and that its pixels must have the size that the network knows."""
    size = (
        f"The network expects pixels of {task.microns:g} micrometres; a file that states its pixel size is scaled to "
        "that."
        if task.microns is not None
        else "Its pixels must be as large as in the training data."
    )
    return (
        '<p class="bcx-caption">TIFF in tiles or strips, SVS or OME-TIFF of any size, also PNG and JPEG. '
        f"{size} The network reads tiles of {task.tile} x {task.tile} pixels.</p>"
    )


def hint_html(task: Task) -> str:
    """Return the card shown before the first slide."""
    return (
        '<section class="bcx-answer bcx-empty"><p class="bcx-kicker">No slide yet</p>'
        '<h2 class="bcx-headline">Choose a slide</h2>'
        "<ol><li>It is cut into tiles, and bare glass is left out.</li>"
        f"<li>Each tile gets a probability for {escape(_either(task.classes))}; the map grows while you watch.</li>"
        "<li>Save the table of tiles and the map. They are deleted here when this page closes.</li>"
        "</ol></section>"
    )


def progress_html(slide: SlideRun) -> str:
    """Return the progress bar: tiles done, time left."""
    progress = slide.progress
    done, total, share = 0, 0, 0.0
    if progress is None or progress.prepared < 1:
        share = 0.0 if progress is None else 100 * progress.prepared
        text = "Stopped before the first tile" if slide.ended else f"Looking for tissue: {share:.0f} %"
    else:
        done, total = progress.done, progress.total
        share = 100 * done / total if total else 100.0
        left = progress.seconds_left
        if slide.ended:
            stopped = "" if done == total else f" of {total:,}: stopped"
            text = f"{done:,}{stopped} tiles in {clock(progress.seconds)}"
        else:
            text = f"{done:,} of {total:,} tiles" + (f", about {clock(left)} left" if left is not None else "")
    return (
        f'<div class="bcx-progress" data-done="{done}" data-finished="{str(slide.ended).lower()}">'
        f'<p role="status"><strong>{escape(text)}</strong></p><div class="bcx-bar-track" role="progressbar" '
        f'aria-label="Tiles done" aria-valuemin="0" aria-valuemax="100" aria-valuenow="{share:.0f}">'
        f'<span class="bcx-bar-fill" style="width: {share:.1f}%; background: var(--bcx-ink)"></span></div></div>'
    )


def summary_html(slide: SlideRun) -> str:
    """Return the card with the summary in plain words."""
    reading = slide.reading
    assert reading is not None
    said, task = reading.summary, reading.task
    colour = task.colours[task.classes.index(task.positive)]
    if not said["tiles_with_tissue"]:
        headline, number = "No tissue found", ""
        means = "The whole picture looks like bare glass: it has hardly any colour."
    elif not said["tiles_read"]:
        headline, number = "Reading …", ""
        means = f"{said['tiles_with_tissue']:,} of {said['tiles']:,} tiles show tissue."
    else:
        whose = "the tissue" if said["tiles_read"] == said["tiles_with_tissue"] else "the tissue read so far"
        headline, number = f"{_share(said['positive_share'])} of {whose}", task.positive
        means = (
            f"{said['tiles_with_tissue']:,} of {said['tiles']:,} tiles show tissue; the rest is bare glass and was not "
            f"read. Mean probability of {task.positive}: {said['mean_probability']:.2f}."
        )
    places = "".join(
        f"<li>at ({place['x']:,}, {place['y']:,}): {_share(place['probability'])}</li>" for place in said["hottest"]
    )
    where = "Highest mean probabilities of 3 x 3 tiles, in pixels from the upper left:"
    hottest = f'<p class="bcx-means">{where}</p><ol>{places}</ol>' if places else ""
    return (
        f'<section class="bcx-answer bcx-slide-answer" style="--tone: {colour}" '
        f'data-positive-share="{said["positive_share"]}"><p class="bcx-kicker">{escape(slide.name)}</p>'
        f'<h2 class="bcx-headline">{escape(headline)} <span class="bcx-number">{escape(number)}</span></h2>'
        f'<p class="bcx-means">{escape(means)}</p>{hottest}'
        f'<p class="bcx-means-not">{escape(_how(reading))}</p></section>'
    )


def _how(reading: SlideReading) -> str:
    grid = reading.grid
    scaled = "as it is" if grid.scale == 1 else f"scaled by {grid.scale:.3g}"
    size = f", {reading.microns:.2g} micrometres per pixel as the file says" if reading.microns else ""
    return (
        f"{reading.width:,} x {reading.height:,} pixels{size}, read {scaled}. Each tile is read by itself; the share "
        f"of tiles does not measure a tumour. {NOTICE}"
    )


def map_html(slide: SlideRun, side: int) -> str:
    """Return the slide with the map of the chosen class over it, its hottest places, and the scale of colours."""
    reading, class_ = slide.reading, slide.layer
    assert reading is not None
    pins = "".join(
        f'<span class="bcx-pin" style="left: {100 * place.x / reading.width:.2f}%; '
        f'top: {100 * place.y / reading.height:.2f}%" aria-hidden="true">{number}</span>'
        for number, place in enumerate(reading.hottest(5), start=1)
        if slide.ended
    )
    return (
        f'<div class="bcx-slide" style="--ratio: {reading.width / reading.height:.4f}" data-class="{escape(class_)}">'
        f'<img src="{slide.picture}" alt="The slide, small">'
        f'<img class="bcx-slide-layer" src="{_png_url(reading.layer(class_, side))}" '
        f'alt="Map: how probable {escape(class_)} is, tile by tile">{pins}</div>{_legend(class_)}'
    )


def _legend(class_: str) -> str:
    ramp = np.linspace(-1, 1, 256, dtype=np.float32)[None].repeat(2, axis=0)
    bar = data_url(colourise(ramp, 1.0), side=256)
    return (
        f'<div class="bcx-legend" role="img" aria-label="Colours from green, probability 0, to purple, probability 1">'
        f'<span>not {escape(class_)}</span><span class="bcx-legend-bar" style="background-image: url({bar})"></span>'
        f"<span>{escape(class_)}</span>"
        '<span class="bcx-legend-ticks"><span>0</span><span>0.5</span><span>1</span></span>'
        "<span>probability</span></div>"
    )


def _png_url(layer: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(layer).save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _share(value: float) -> str:
    """Return a share as a percentage; unlike a probability it may be none or all."""
    whole = round(100 * value)
    if value > 0 and whole == 0:
        return "under 1 %"
    return "over 99 %" if value < 1 and whole == 100 else f"{whole} %"


def _either(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]
