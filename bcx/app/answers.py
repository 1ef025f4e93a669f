"""Answers as HTML: what the engine said, for somebody who has never met a network."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from bcx.explain.descriptors import MEASURED, describe_lesion
from bcx.imaging.overlay import lay_over
from bcx.report.pictures import data_url, lesion_picture
from bcx.report.words import NEUTRAL, percent, words
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bcx.errors import BcxError
    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task


def doubts_html(prediction: Prediction) -> str:
    """Return what was noticed about the scan, and how it was read, for the card; "" where nothing was."""
    said = [f"<li>{escape(flag)}</li>" for flag in prediction.flags]
    said += [f'<li class="bcx-note">{escape(note[:1].upper() + note[1:])}.</li>' for note in prediction.notes]
    return f'<ul class="bcx-doubts" aria-label="Doubts and notes">{"".join(said)}</ul>' if said else ""


def answer_html(prediction: Prediction, task: Task, simulated_as: str | None = None) -> str:
    """Return the headline card. `simulated_as`: what a shipped example was made to show.

    An example does not say its file's name, which would give that away before the network has spoken.
    """
    said = words(prediction, task)
    number = f'<span class="bcx-number">{escape(said.number)}</span>' if said.number else ""
    bars = "" if prediction.decision == NOT_A_SCAN else bars_html(prediction, task)
    source = (
        f'<p class="bcx-source"><span class="bcx-chip">simulated</span> This picture was computed, not taken from a '
        f"person. It was made to look {escape(simulated_as)}.</p>"
        if simulated_as
        else ""
    )
    kicker = "Result for " + ("this example" if simulated_as else escape(prediction.name))
    if prediction.clip is not None:
        kicker += f", frame {prediction.clip.frame + 1:,} of {prediction.clip.count:,}"
    return (
        f'<section class="bcx-answer" data-label="{escape(prediction.label)}" '
        f'data-decision="{escape(prediction.decision)}" style="--tone: {said.colour}">'
        f'<p class="bcx-kicker">{kicker}</p>'
        f'<h2 class="bcx-headline">{escape(said.headline)} {number}</h2>{bars}{doubts_html(prediction)}'
        f'<p class="bcx-means">{escape(said.means)}</p>'
        f'<p class="bcx-means-not">{escape(said.means_not)}</p>{source}</section>'
    )


def bars_html(prediction: Prediction, task: Task, exact: bool = False) -> str:
    """Return one bar per class in its colour, with its name and per cent (exact: four decimals) beside it."""
    rows = []
    for name, colour in zip(task.classes, task.colours, strict=True):
        p = float(prediction.probabilities[name])
        number = f"{p:.4f}" if exact else percent(p)
        rows.append(
            f'<li data-class="{escape(name)}" data-probability="{p:.6f}"><span class="bcx-bar-name">{escape(name)}'
            f'</span><span class="bcx-bar-track"><span class="bcx-bar-fill" style="width: {100 * p:.2f}%; '
            f'background: {colour}"></span></span><span class="bcx-bar-number">{number}</span></li>'
        )
    return f'<ul class="bcx-bars" aria-label="Probability of each class">{"".join(rows)}</ul>'


def failure_html(error: BcxError, name: str = "") -> str:
    """Return the card for a file that could not be read: what was found, what was expected, what to do."""
    return (
        f'<section class="bcx-answer bcx-failure" style="--tone: {NEUTRAL}" data-decision="failed">'
        f'<p class="bcx-kicker">No result{": " + escape(name) if name else ""}</p>'
        f'<h2 class="bcx-headline">This file could not be read</h2>'
        f'<p class="bcx-means">{escape(error.found)}</p>'
        f'<p class="bcx-means">Expected: {escape(error.expected)}.</p>'
        f'<p class="bcx-means-not">{escape(error.remedy)}</p></section>'
    )


def gone_html() -> str:
    """Return the card for a page whose session has ended on the server."""
    return (
        f'<section class="bcx-answer" style="--tone: {NEUTRAL}" data-decision="gone">'
        '<p class="bcx-kicker">Connection lost</p>'
        '<h2 class="bcx-headline">This picture was deleted</h2>'
        '<p class="bcx-means">The server lost the connection to this page, and deletes pictures when that happens.</p>'
        '<p class="bcx-means-not">Choose the picture again.</p></section>'
    )


def empty_html(task: Task, examples: bool) -> str:
    """Return the card shown before the first picture. `examples`: whether there are any to try."""
    steps = "".join(
        f"<li>{step}</li>"
        for step in (
            f"Choose one {escape(task.image_noun)}{', or try an example' if examples else ''}.",
            f"Get a probability for {escape(_either(task.classes))}, or the advice that a person should read it.",
            "See on the picture what speaks for and against each class.",
        )
    )
    return (
        '<section class="bcx-answer bcx-empty"><p class="bcx-kicker">No picture yet</p>'
        f'<h2 class="bcx-headline">The result appears here</h2><ol>{steps}</ol></section>'
    )


def facts_html(prediction: Prediction) -> str:
    """Return the table of details: file, decision, reason, flags, notes, model, weights, time."""
    scan = prediction.scan
    facts = [
        ("File", prediction.name),
        ("Size", f"{scan.width} x {scan.height} pixels"),
        ("Read as", "; ".join(prediction.notes) or "as it is"),
        ("Decision", prediction.decision),
        ("Reason", prediction.reason or "none needed"),
        ("Doubts", "; ".join(prediction.flags) or "none"),
        *_lesion_facts(prediction),
        ("Model", prediction.model),
        ("Weights (SHA-256)", prediction.weights_sha256),
        ("Time", f"{1000 * prediction.seconds:.0f} ms ({prediction.backend})"),
    ]
    return _table(facts)


def _table(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><th scope='row'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts)
    return f'<table class="bcx-facts"><tbody>{rows}</tbody></table>'


def descriptors_html(prediction: Prediction) -> str:
    """Return size, orientation, shape, margin and echoes of the outlined lesion; "" where none is outlined."""
    found = None if prediction.decision == NOT_A_SCAN else describe_lesion(prediction)
    if found is None:
        return ""
    edge = "no edge" if found.margin_width is None else f"edge {found.margin_width:.0%} of the diameter wide"
    facts = [
        ("Size", f"{found.long_axis:.0f} {found.unit} long; {found.width:.0f} wide, {found.depth:.0f} deep"),
        ("Orientation", f"{found.orientation}; long axis {found.angle:.0f}° from the skin"),
        ("Shape", f"{found.shape}; circularity {found.circularity:.2f}, lobulation {found.lobulation:.2f}"),
        ("Margin", f"{found.margin}; {edge}, {found.corners} corner{'' if found.corners == 1 else 's'}"),
        ("Echo", f"{found.echo}{_levels(found.echo_difference, 'than fat')}"),
        ("Behind it", f"{found.posterior}{_levels(found.posterior_difference, 'than beside it')}"),
    ]
    return f"<h3>Lesion, {MEASURED}</h3>{_table(facts)}"


def _levels(difference: float | None, against: str) -> str:
    if difference is None:
        return ""
    return f"; {abs(difference):.0f} grey levels {'brighter' if difference > 0 else 'darker'} {against}"


def _lesion_facts(prediction: Prediction) -> list[tuple[str, str]]:
    if prediction.second_stage is None:
        return []
    x, y, side = prediction.second_stage
    box = prediction.lesion_box
    where = "none outlined" if box is None else f"x {box[0]} to {box[2]}, y {box[1]} to {box[3]} (pixels)"
    return [("Lesion", where), ("Second stage", f"{side} x {side} pixels from x {x}, y {y}")]


def maps_html(prediction: Prediction, task: Task) -> str:
    """Return the lesion map, where there is one, and one map per class on one scale; "" for what is no scan."""
    if prediction.decision == NOT_A_SCAN:
        return ""
    figures = []
    prediction = prediction.screen
    lesion = lesion_picture(prediction)
    if lesion is not None:
        figures.append(
            f'<figure><img src="{data_url(lesion, side=420)}" alt="Lesion map"><figcaption>Lesion</figcaption></figure>'
        )
    for name, colour in zip(task.classes, task.colours, strict=True):
        picture = data_url(prediction.overlay(name, opacity=0.6), side=420)
        figures.append(
            f'<figure><img src="{picture}" alt="What speaks for and against {escape(name)}">'
            f'<figcaption><span class="bcx-dot" style="background: {colour}"></span>{escape(name)} '
            f"{percent(prediction.probabilities[name])}</figcaption></figure>"
        )
    return f'<h3>Maps, on one scale</h3><div class="bcx-maps">{"".join(figures)}</div>{legend_html("it")}'


def legend_html(label: str) -> str:
    """Return the colour scale of a class's map, painted over grey by the same code as the overlays."""
    ramp = np.linspace(-1, 1, 256, dtype=np.float32)[None].repeat(2, axis=0)
    bar = data_url(lay_over(np.full(ramp.shape, 128, np.uint8), ramp, 1.0, 1.0), side=256)
    name = escape(label)
    return (
        f'<div class="bcx-legend" role="img" aria-label="Green speaks against {name}, grey says nothing, purple speaks '
        f'for {name}"><span>against {name}</span>'
        f'<span class="bcx-legend-bar" style="background-image: url({bar})"></span><span>for {name}</span></div>'
    )


def _either(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " or " + names[-1]
