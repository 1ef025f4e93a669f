"""Compare explanations: a grid of maps that fills in method by method, then each map's verdict; it can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.answers import gone_html
from bcx.app.incoming import PRIVATE, choice, handler
from bcx.app.viewer import LESION
from bcx.errors import RequestError
from bcx.explain.methods import METHODS, quick_methods
from bcx.explain.sheet import draw_sheet, overlay
from bcx.report.pictures import as_image, data_url
from bcx.trust.claims import NOT_A_SCAN

if TYPE_CHECKING:
    from bcx.app.models import Models
    from bcx.app.privacy import Session, Sessions
    from bcx.explain.checks import Checks
    from bcx.explain.methods import Explanation
    from bcx.inference.prediction import Prediction


SIDE = 420


def build_explanations(
    models: Models,
    picker: gr.Dropdown,
    layers: gr.Radio,
    sessions: Sessions,
    explain: Callable[..., Explanation],
    check: Callable[..., Checks],
) -> gr.HTML:
    """Lay out and wire the folded part below an answer; return the grid, which a new answer empties.

    Args:
        models: what can answer; `picker` holds the name of the one that does.
        picker: the page's choice of model.
        layers: the viewer's choice of map; its class is explained, or the label where none is chosen.
        sessions: the open pages.
        explain, check: from a model's name, and what `bcx.explain` takes after the classifier.
    """
    with gr.Accordion("Compare explanations", open=False, elem_id="classify-explain-box") as box:
        gr.HTML(
            '<p class="bcx-caption">The exact class map beside methods of pytorch-grad-cam, for the class chosen above '
            "or else the result. Each map is then tested on this scan; that takes some seconds each.</p>"
        )
        with gr.Row():
            start = gr.Button("Compare", size="sm", elem_id="classify-explain-start", min_width=80)
            stop = gr.Button("Stop", size="sm", interactive=False, elem_id="classify-explain-stop", min_width=80)
            sheet = gr.DownloadButton(
                "Save as PNG", size="sm", interactive=False, elem_id="classify-explain-sheet", min_width=80
            )
        grid = gr.HTML(elem_id="classify-explain")

    @handler
    def compare(layer: Any, model: Any, request: gr.Request) -> Iterator[list[Any]]:
        with sessions.at_work(request.session_hash) as session:
            found = session.on_show
            if found is None:
                yield [gone_html(), gr.skip(), gr.skip()]
                return
            if found.decision == NOT_A_SCAN:
                raise RequestError(
                    "There is nothing to explain: the picture was taken for no scan.",
                    expected="a result",
                    remedy="Read a scan first.",
                )
            classes = models.get(model).classes
            layer = choice(layer, [LESION, *classes], "The map")
            target = found.label if layer == LESION else layer
            session.explaining.set()
            session.explaining = threading.Event()
            maps: list[Explanation] = []
            checks: dict[str, Checks] = {}
            off = gr.update(interactive=False)
            yield [grid_html(maps, checks, "Working"), gr.update(interactive=True), off]
            for _ in _steps(session, model, found.screen, target, explain, check, maps, checks):
                yield [grid_html(maps, checks, "Working"), gr.skip(), gr.skip()]
            if session.on_show is not found or not maps:  # another answer is on show, and its grid is empty
                yield [gr.skip(), off, off]
                return
            path = session.picture("bcx-explanations")
            draw_sheet(maps, checks, path)
            done = len(checks) == len(quick_methods())
            yield [
                grid_html(maps, checks, "Done" if done else "Stopped"),
                off,
                gr.update(value=str(path), interactive=True),
            ]

    @handler
    def ask_to_stop(request: gr.Request) -> Any:
        session = sessions.find(request.session_hash)
        if session is not None:
            session.explaining.set()
        return gr.update(interactive=False)

    gr.on(
        [box.expand, start.click],
        compare,
        [layers, picker],
        [grid, stop, sheet],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_id="explain",
        concurrency_limit=1,
        **PRIVATE,
    )
    stop.click(ask_to_stop, None, stop, show_progress="hidden", concurrency_limit=None, **PRIVATE)
    return grid


def _steps(
    session: Session,
    model: str,
    found: Prediction,
    target: str,
    explain: Callable[..., Explanation],
    check: Callable[..., Checks],
    maps: list[Explanation],
    checks: dict[str, Checks],
) -> Iterator[None]:
    """Fill in the maps, then their checks; ends early on a stop, another answer, or when the page closes."""
    stop, shown = session.explaining, session.on_show

    def goes_on() -> bool:
        return not stop.is_set() and session.on_show is shown and not session.ended.is_set()

    for method in quick_methods():
        if not goes_on():
            return
        maps.append(explain(model, found, target, method))
        yield
    for each in maps:
        if not goes_on():
            return
        checks[each.method] = check(model, each)
        yield


def grid_html(maps: list[Explanation], checks: Mapping[str, Checks], state: str) -> str:
    """Return the grid of what is there.

    Args:
        maps: of one answer and class, in order.
        checks: of those that were tested, by method.
        state: "Working", "Done" or "Stopped".
    """
    every = len(quick_methods())
    said = f"{state}: {len(maps)} of {every} maps, {len(checks)} tested."
    items = "".join(_tile(each, checks.get(each.method), state) for each in maps)
    legend = ""
    if maps:
        target, limit = escape(maps[0].target), maps[0].prediction.map_limit
        legend = (
            f'<p class="bcx-caption">Purple speaks for {target}, green against it. Full colour: {limit:.0f} logit '
            "units in the exact map, the library's own maximum in the others, which show nothing against.</p>"
        )
    return (
        f'<section class="bcx-explain" aria-label="Explanations" data-state="{state}"><p role="status">{said}</p>'
        f"<ul>{items}</ul>{legend}</section>"
    )


def _tile(each: Explanation, checks: Checks | None, state: str) -> str:
    title = escape(METHODS[each.method].title)
    verdict = checks.verdict if checks else "Not tested yet." if state == "Working" else "Not tested."
    return (
        f'<li data-method="{escape(each.method)}"><img src="{data_url(as_image(overlay(each)), SIDE)}" '
        f'alt="The scan with the map of {title}"><h3>{title} <small>{each.seconds:.1f} s</small></h3>'
        f"<p>{escape(verdict)}</p><details><summary>What it explains</summary>"
        f"<p>{escape(each.explains)} {escape(each.paper)}.</p></details></li>"
    )
