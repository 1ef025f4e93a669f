"""Two answers side by side: two scans, or two models on one scan, on the same map."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from bcx.app.answers import answer_html
from bcx.report.pictures import data_url, layer_picture

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bcx.inference.prediction import Prediction
    from bcx.tasks import Task

#: Longer side of a picture, in pixels.
SIDE = 720


def compare_html(
    answers: Sequence[tuple[Prediction, str | None]], task: Task, class_: str | None, opacity: float
) -> str:
    """Return the answers in columns, one below the other where the page is narrow.

    Args:
        answers: each with its pixels, and what a shipped example was made to show.
        task: of all of them.
        class_: whose map is shown; None: the lesion's, or the positive class's where not all have one.
        opacity: 0..1.
    """
    if class_ is None and any(found.reading.lesion is None for found, _ in answers):
        class_ = task.positive
    shown = "lesion map" if class_ is None else f"what speaks for (purple) and against (green) {class_}"
    columns = "".join(
        f'<div>{answer_html(found, task, made)}<figure><img src="{data_url(picture, SIDE)}" '
        f'alt="The scan with the {escape("map of " + (class_ or "lesions"))}">'
        f"<figcaption>{escape(found.model)}{', your box' if found.box else ''}</figcaption></figure></div>"
        for found, made in answers
        for picture in [layer_picture(found.screen, class_, opacity)]
    )
    return (
        '<section class="bcx-compare" aria-label="Side by side"><header>'
        f"<h3>Side by side: {escape(shown)}</h3>"
        f'<button type="button" data-pick="close">Close</button></header><div>{columns}</div></section>'
    )
