"""One answer per patient in the Batch tab, by folder, by DICOM study, or for rows that a person picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from bcx.app.incoming import choice, event_value, flag, index
from bcx.app.markup import html
from bcx.app.privacy import Session
from bcx.app.rows import PICKED, Batch, Row, rows_html
from bcx.app.wiring import QUICK, Changes, Page
from bcx.errors import BcxError, RequestError
from bcx.imaging.dicom import place_of
from bcx.inference.archives import content
from bcx.inference.classifier import Classifier
from bcx.inference.patient import FOLDER, STUDY, folder_of, patient_lines, patient_rows
from bcx.inference.table import write_text
from bcx.tasks import Task

#: What tells whose a scan is, and what a person reads.
CHOICES = {"": "No", FOLDER: "Per folder", STUDY: "Per DICOM study", PICKED: "For rows that I pick"}
#: Patients that are shown, and groups of rows that a person can make.
SHOWN, MOST_GROUPS = 500, 200


#: The rows that were picked are combined; their boxes are emptied here, since their HTML may be what it was before.
UNMARK = "() => document.querySelectorAll('[data-mark][checked]').forEach((mark) => mark.removeAttribute('checked'))"


class Patients:
    """The components; each method returns new values by component."""

    def __init__(self) -> None:
        """Lay them out."""
        choices = [(words, name) for name, words in CHOICES.items()]
        self.by = gr.Radio(choices, value="", label="One answer per patient", elem_id="batch-by")
        small: dict[str, Any] = {"visible": False, "size": "sm"}
        with gr.Row():
            self.combine = gr.Button("Combine the picked scans", elem_id="batch-combine", **small)
            self.csv = gr.DownloadButton("Patients (CSV)", elem_id="batch-patients-csv", **small)
        self.table = gr.HTML(elem_id="batch-patients")
        self.outputs = [self.combine, self.csv, self.table]

    def wire(self, page: Page, listing: gr.HTML, card: gr.HTML) -> None:
        """Wire them. `listing`: the rows, which tell of those that are picked; `card`: where a lost page is said."""

        def again(session: Session, batch: Batch, classifier: Classifier) -> Changes:
            return {listing: rows_html(batch, classifier.task), **self.show(session, batch, classifier)}

        def group(session: Session, classifier: Classifier, by: Any) -> Changes:
            batch, by = session.batch, checked(by)
            if batch is None:
                return {}
            batch.by = by
            return again(session, batch, classifier)

        def pick_row(session: Session, classifier: Classifier, event: gr.EventData) -> Changes:
            batch = session.batch
            if batch is None:
                return {card: html.gone()}
            picked = flag(event_value(event, "picked"), "Whether it is picked")
            row = index(event_value(event, "row"), len(batch.rows), "The row")
            (batch.picked.add if picked else batch.picked.discard)(row)  # in one step: picks come side by side
            return {}

        def combine(session: Session, classifier: Classifier) -> Changes:
            batch = session.batch
            if batch is None:
                return {card: html.gone()}
            pick_group(batch)
            return again(session, batch, classifier)

        shown = [*self.outputs, listing, card]
        page.listen(self.by.input, group, [self.by], shown, trigger_mode="always_last", **QUICK)
        page.listen(self.combine.click, combine, [], shown, **QUICK).success(None, js=UNMARK)
        page.listen(listing.edit, pick_row, [], [card], trigger_mode="multiple", **QUICK)

    def show(self, session: Session, batch: Batch, classifier: Classifier) -> Changes:
        """Show the combined answers, and offer their table."""
        batch.patients = combined(batch, classifier)
        shown = {
            self.table: patients_html(batch.patients, batch, classifier.task),
            self.combine: gr.update(visible=batch.by == PICKED),
            self.csv: gr.update(visible=False, value=None),
        }
        if batch.patients:
            path = session.picture("bcx-results.patients", ".csv")
            write_text(patient_lines(batch.patients, classifier.classes), path)
            shown[self.csv] = gr.update(visible=True, value=str(path))
        return shown

    def hide(self) -> Changes:
        """Show none."""
        return {self.table: "", self.csv: gr.update(visible=False, value=None)}


def checked(sent: Any) -> str:
    """Return what a person chose to tell patients by, checked."""
    return choice(sent, CHOICES, "What tells whose a scan is")


def pick_group(batch: Batch) -> None:
    """Make a patient of the rows that are picked.

    Raises:
        RequestError: fewer than two are, or there are `MOST_GROUPS` already.
    """
    if len(batch.picked) < 2 or len(batch.groups) >= MOST_GROUPS:
        raise RequestError(
            f"{len(batch.picked)} rows are picked, and {len(batch.groups)} answers were combined before.",
            expected=f"two rows or more, and fewer than {MOST_GROUPS} answers",
            remedy="Pick the scans of one patient in the list.",
        )
    batch.groups.append(sorted(batch.picked))
    batch.picked.clear()


def combined(batch: Batch, classifier: Classifier) -> list[dict[str, Any]]:
    """Return a row per patient, as `bcx predict --patients` writes it; none while the batch runs."""
    if batch.ended is None or not batch.by:
        return []
    if batch.by == PICKED:
        each = []
        for number, places in enumerate(batch.groups, 1):
            cells = [batch.rows[place].cells for place in places if place < len(batch.rows)]
            each += patient_rows(classifier, cells, {row["file"]: f"selection {number}" for row in cells})
        return each
    rows = [row.cells for row in batch.rows]
    if batch.by == FOLDER:
        return patient_rows(classifier, rows, {row["file"]: folder_of(row["file"]) for row in rows})
    studies = {row.cells["file"]: _study(row) for row in batch.rows}
    return patient_rows(classifier, rows, {file: study for file, study in studies.items() if study})


def _study(row: Row) -> str:
    try:
        data = content(row.source)
        return place_of(data.read_bytes() if isinstance(data, Path) else data)["study"]
    except (BcxError, OSError):
        return ""  # its row says why it cannot be read


def patients_html(cells: list[dict[str, Any]], batch: Batch, task: Task) -> str:
    """Return the combined answers, or what to do to get some; "" where none are asked for."""
    return html.patients(cells[:SHOWN], len(cells), batch.by, task) if batch.by and batch.ended is not None else ""
