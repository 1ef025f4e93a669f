"""Compare explanations: a grid of maps that fills in method by method, then each map's verdict; it can be stopped."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gradio as gr

from bcx.app.incoming import choice
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.viewer import LESION
from bcx.app.wiring import QUICK, Changes, Page
from bcx.errors import RequestError
from bcx.explain.checks import Checks
from bcx.explain.methods import Explanation, quick_methods
from bcx.explain.sheet import draw_sheet
from bcx.inference.classifier import Classifier
from bcx.trust.claims import NOT_A_SCAN

WORKING = "Working"


def build_explanations(page: Page, layers: gr.Radio) -> tuple[gr.HTML, gr.DownloadButton]:
    """Lay out and wire the folded part below an answer; return the grid, which a new answer empties, and the sheet.

    `layers`: the viewer's choice of map; its class is explained, or the label where none is chosen.
    """
    with gr.Accordion("Compare explanations", open=False, elem_id="classify-explain-box") as box:
        gr.HTML(html.about_explanations())
        with gr.Row():
            small: dict[str, Any] = {"size": "sm", "min_width": 80}
            start = gr.Button("Compare", elem_id="classify-explain-start", **small)
            stop = gr.Button("Stop", interactive=False, elem_id="classify-explain-stop", **small)
            sheet = gr.DownloadButton("Save as PNG", interactive=False, elem_id="classify-explain-sheet", **small)
        grid = gr.HTML(elem_id="classify-explain")
    off, on = gr.update(interactive=False), gr.update(interactive=True)

    def compare(session: Session, classifier: Classifier, layer: Any) -> Iterator[Changes]:
        found = session.on_show
        if found is None:
            yield {grid: html.gone()}
            return
        if found.decision == NOT_A_SCAN:
            raise RequestError(
                "There is nothing to explain: the picture was taken for no scan.",
                expected="a result",
                remedy="Read a scan first.",
            )
        layer = choice(layer, [LESION, *classifier.classes], "The map")
        target = found.label if layer == LESION else layer
        session.explaining.set()
        stopped = session.explaining = threading.Event()
        maps: list[Explanation] = []
        checks: dict[str, Checks] = {}
        methods = quick_methods()

        def filled(state: str) -> str:
            session.explained = found, maps, checks, state
            return grid_html(session)

        yield {grid: filled(WORKING), stop: on, sheet: off}
        for step in range(2 * len(methods)):
            if stopped.is_set() or session.on_show is not found or session.ended.is_set():
                break
            if step < len(methods):
                maps.append(page.explain(classifier.name, found.screen, target, methods[step]))
            else:
                tested = maps[step - len(methods)]
                checks[tested.method] = page.check(classifier.name, tested)
            yield {grid: filled(WORKING)}
        if session.on_show is not found or not maps:  # another answer is on show, and its grid is empty
            yield {stop: off, sheet: off}
            return
        state = "Done" if len(checks) == len(methods) else "Stopped"
        yield {grid: filled(state), stop: off, sheet: sheet_update(session)}

    def ask_to_stop(session: Session, _: Classifier) -> Changes:
        session.explaining.set()
        return {stop: off}

    alone = {"concurrency_id": "explain", "concurrency_limit": 1, "trigger_mode": "always_last"}
    page.listen([box.expand, start.click], compare, [layers], [grid, stop, sheet], show_progress="hidden", **alone)
    page.listen(stop.click, ask_to_stop, [], [stop], **QUICK)
    return grid, sheet


def grid_html(session: Session) -> str:
    """Return the maps of the answer on show side by side, in the page's style; "" where there are none."""
    if session.explained is None or session.explained[0] is not session.on_show:
        return ""
    _, maps, checks, state = session.explained
    return html.explanations(_drawn(session, maps), checks, len(quick_methods()), state)


def sheet_update(session: Session) -> Any:
    """Return the new state of the button that saves them, in the page's style; skipped until all are there."""
    if session.explained is None or session.explained[0] is not session.on_show or session.explained[3] == WORKING:
        return gr.skip()
    _, maps, checks, _ = session.explained
    path = session.picture("bcx-explanations")
    draw_sheet(_drawn(session, maps), checks, path)
    return gr.update(value=str(path), interactive=True)


def _drawn(session: Session, maps: list[Explanation]) -> list[Explanation]:
    return [replace(each, prediction=session.drawn(each.prediction)) for each in maps]
