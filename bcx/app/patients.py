"""One answer per patient in the Batch tab, by folder, by DICOM study, or for rows that a person picks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bcx.app.markup import html
from bcx.app.rows import PICKED, Batch, Row
from bcx.errors import BcxError, RequestError
from bcx.imaging.scan import place_of
from bcx.inference.archives import content
from bcx.inference.classifier import Classifier
from bcx.inference.patient import FOLDER, STUDY, folder_of, patient_rows
from bcx.tasks import Task

#: What tells whose a scan is, and what a person reads.
CHOICES = {"": "No", FOLDER: "Per folder", STUDY: "Per DICOM study", PICKED: "For rows that I pick"}
#: Patients that are shown, and groups of rows that a person can make.
SHOWN, MOST_GROUPS = 500, 200


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
    whose = _study if batch.by == STUDY else lambda row: folder_of(row.cells["file"])
    told = {row.cells["file"]: whose(row) for row in batch.rows}
    return patient_rows(classifier, [row.cells for row in batch.rows], {file: who for file, who in told.items() if who})


def _study(row: Row) -> str:
    try:
        data = content(row.source)
        return place_of(data.read_bytes() if isinstance(data, Path) else data)["study"]
    except (BcxError, OSError):
        return ""  # its row says why it cannot be read


def patients_html(cells: list[dict[str, Any]], batch: Batch, task: Task) -> str:
    """Return the combined answers, or what to do to get some; "" where none are asked for."""
    return html.patients(cells[:SHOWN], len(cells), batch.by, task) if batch.by and batch.ended is not None else ""
