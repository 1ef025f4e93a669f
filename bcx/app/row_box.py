"""A person's box in the Batch tab: the open row is read again where they look, and both answers are kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from bcx.app import viewer
from bcx.app.answers import compare_html
from bcx.app.incoming import PICK
from bcx.app.markup import html
from bcx.app.place import SHOW_BESIDE, OtherPlaces, asked
from bcx.app.privacy import Session
from bcx.app.rows import Batch, rows_html
from bcx.app.takeaway import slim
from bcx.app.wiring import NETWORK, QUICK, Changes, Page
from bcx.inference.archives import content
from bcx.inference.classifier import Classifier
from bcx.tasks import Task

Changed = Callable[[Session, Batch, Task], Changes]


class RowBox:
    """The components; each method returns new values by component."""

    def __init__(self) -> None:
        """Lay them out, hidden until a row is open."""
        self.places = OtherPlaces("batch")
        self.compared = gr.HTML(js_on_load=PICK, elem_id="batch-compare")
        self.outputs = [*self.places.outputs, self.compared]

    def wire(
        self, page: Page, view: viewer.Viewer, files: list[Any], listing: gr.HTML, card: gr.HTML, changed: Changed
    ) -> None:
        """Wire them.

        Args:
            page: what all tabs share.
            view: of the open row.
            files: the downloads, and `changed`: from session, batch and task to their state once a box was read.
            listing: the rows.
            card: where a lost page is said.
        """

        def read_place(
            session: Session, classifier: Classifier, layer: Any, opacity: Any, event: gr.EventData
        ) -> Changes:
            batch, task = session.batch, classifier.task
            viewer.checked(task, layer, opacity)
            if batch is None or batch.opened is None or batch.current is None:
                return {card: html.gone()}
            place, row, opened = batch.current, batch.rows[batch.current], batch.opened
            wanted = asked(event, opened)
            hidden = wanted.get("hidden")
            source = (content(row.source), row.cells["file"]) if hidden is None else (hidden, hidden.name)
            found = page.predict(opened.model, *source, wanted.get("box"))
            if session.batch is not batch:  # another batch or model came meanwhile
                return {}
            changes: Changes = {}
            if hidden is None:  # else it is no answer to this scan
                batch.boxed[place] = slim(found)
                changes = {listing: rows_html(batch, task), **changed(session, batch, task)}
            if batch.current == place:
                batch.beside = found
                changes |= self.show(session, task, layer, opacity)
            return changes

        def end(session: Session, _: Classifier) -> Changes:
            if session.batch is not None:
                session.batch.beside = None
            return {self.compared: ""}

        seen, outputs = [view.layer, view.opacity], [self.compared, listing, card, *files]
        for event, where in ((self.places.square.select, self.places.square), (self.places.lesions.click, card)):
            read = page.listen(event, read_place, seen, outputs, show_progress_on=where, **NETWORK)
            read.then(None, js=SHOW_BESIDE.replace("NAME", "batch"))
        page.listen(self.compared.click, end, [], [self.compared], trigger_mode="always_last", **QUICK)

    def open(self, session: Session, task: Task, opacity: Any) -> Changes:
        """Show what can be done with the row that was just opened, and what its box was answered before."""
        batch = session.batch
        assert batch is not None
        assert batch.opened is not None
        assert batch.current is not None
        boxed = batch.boxed.get(batch.current)
        batch.beside = None if boxed is None else boxed.with_pixels(content(batch.rows[batch.current].source))
        return {**self.places.show(batch.opened), **self.show(session, task, viewer.LESION, opacity)}

    def show(self, session: Session, task: Task, layer: Any, opacity: Any) -> Changes:
        """Show the open row's answer and what stands beside it, if anything."""
        layer, opacity = viewer.checked(task, layer, opacity)
        batch = session.batch
        if batch is None or batch.opened is None or batch.beside is None:
            return {self.compared: ""}
        pair = [(session.drawn(found), None) for found in (batch.opened, batch.beside)]
        return {self.compared: compare_html(pair, task, None if layer == viewer.LESION else layer, opacity / 100)}

    def hide(self) -> Changes:
        """Show nothing."""
        return {**self.places.hide(), self.compared: ""}
