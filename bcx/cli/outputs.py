"""What `bcx predict` writes beside its table: overlays, answers as DICOM, reports, and a row per patient.

>>> overlay_name(Path("ward/a.dcm"), set()).as_posix()
'ward/a_overlay.png'
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bcx.errors import BcxError, ConfigError, DataError, ScanError, writing
from bcx.files import whole
from bcx.imaging.style import MapStyle
from bcx.inference.archives import Member
from bcx.inference.input_files import Found, Listing
from bcx.inference.patient import FOLDER, STUDY, folder_of, patient_lines, patient_rows

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Failure, Prediction
    from bcx.tasks import Task

#: The page about the batch, in the folder of the reports; those of scans end in _report.pdf.
BATCH = "summary.pdf"
#: Columns that the table of scans gets with `STUDY`, from DICOM headers.
PLACE = ("study", "series", "laterality", "view")


class Target(NamedTuple):
    """Where the files of one scan go; None where none are asked for, or none can be.

    Attributes:
        number: of the scan, from 1.
        overlay: the image.
        dicom: folder and beginning of the names of its DICOM files.
        report: the sheet of paper.
    """

    number: int
    overlay: Path | None
    dicom: Path | None
    report: Path | None

    def is_there(self) -> bool:
        """Tell whether all of it has been written."""
        report = None if self.dicom is None else self.dicom.with_name(f"{self.dicom.name}_report.dcm")
        return all(file.is_file() for file in (self.overlay, report, self.report) if file is not None)


class Outputs:
    """The files of one run, each kind in a folder of its own or not written; burnt-in text may be covered in them.

    Raises:
        MissingExtra: DICOM files are asked for, and highdicom is not installed.
    """

    def __init__(
        self, overlays: Path | None, dicom: Path | None, report: Path | None, mask_text: bool, style: MapStyle
    ) -> None:
        self.overlays, self.dicom, self.report = overlays, dicom, report
        self.mask_text, self.style = mask_text, style
        self.folders = [folder for folder in (overlays, dicom, report) if folder is not None]
        self.refused: list[str] = []
        self._without_study = 0
        self._writer, self._batch = None, None
        if dicom is not None:  # imported only here, since these load torch
            from bcx.report.dicom_out import DicomWriter

            self._writer = DicomWriter()
        if report is not None:
            from bcx.report.sheet import Batch

            self._batch = Batch()

    def prepare(self, listing: Listing) -> None:
        """Make the folders, none of which may be one of the scans'."""
        for folder in self.folders:
            if folder.exists() and any(root.samefile(folder) for root in listing.roots):
                raise ConfigError(
                    f"Results would be written among the scans in '{folder}', and read as scans the next time.",
                    expected="another folder after --overlays, --dicom-out and --report",
                    remedy=f"Use for example '{folder / 'results'}'.",
                )
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def targets(self, scans: Sequence[Found]) -> list[Target]:
        """Say where the files of each scan go."""
        taken: set[str] = set()
        made = []
        for number, found in enumerate(scans, 1):
            name = overlay_name(found.inside, taken)
            plain = name.name.removesuffix("_overlay.png")
            overlay = self.overlays and self.overlays / name
            dicom = self.dicom / name.with_name(plain) if self.dicom is not None and _is_dicom(found) else None
            report = self.report and self.report / name.with_name(f"{plain}_report.pdf")
            made.append(Target(number, overlay, dicom, report))
        self._without_study = 0 if self.dicom is None else sum(each.dicom is None for each in made)
        return made

    def write(self, answer: Prediction | Failure, found: Found, target: Target, task: Task) -> None:
        """Write what belongs to one answer; nothing for a failure."""
        from bcx.inference.prediction import Prediction

        if not isinstance(answer, Prediction):
            return
        answer = replace(answer, mask_text=self.mask_text, style=self.style)
        if target.overlay is not None:
            from bcx.report.pictures import lesion_picture

            lesion = lesion_picture(answer)
            if lesion is not None:
                name = target.overlay.name.removesuffix("_overlay.png")
                with new_file(target.overlay.with_name(f"{name}_lesion.png")) as partial:
                    lesion.save(partial, format="PNG")
            with new_file(target.overlay) as partial:
                answer.overlay().save(partial, format="PNG")
        if target.report is not None:
            from bcx.report.sheet import write_file

            with new_file(target.report) as partial:
                write_file("pdf", answer, task, datetime.now().astimezone(), partial)
        if target.dicom is not None and self._writer is not None:
            with writing(target.dicom):
                target.dicom.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._writer.write(answer, _read(found), target.number, target.dicom)
                except ScanError as error:
                    self.refused.append(error.found)

    def count(self, file: str, decision: str, row: Mapping[str, Any]) -> None:
        """Count a row of the table, as it is written, for the page about the batch."""
        if self._batch is not None:
            self._batch.add(file, decision, row.get("reason") or row.get("error", {}).get("found", ""))

    def finish(self, classifier: Classifier) -> None:
        """Write the page about the batch, once all rows are counted."""
        if self._batch is not None and self.report is not None:
            with new_file(self.report / BATCH) as partial:
                self._batch.write(partial, classifier.task, classifier.name, datetime.now().astimezone())

    def said(self) -> list[str]:
        """Return parts of the summary: what has no DICOM files, and why."""
        parts = []
        if self._without_study:
            parts.append(f"{self._without_study} not DICOM, without a study that DICOM results could refer to")
        if self.refused:
            parts.append(f"{len(self.refused)} without DICOM results ({self.refused[0].rstrip('.')})")
        return parts


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes `path` at the end, in a folder that is made where it is missing."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            yield partial


def _is_dicom(found: Found) -> bool:
    from bcx.imaging.scan import sniff_file

    try:
        return (sniff_file(found.path) if found.member is None else found.member.kind()) == "dicom"
    except ScanError:
        return False  # its row says why it cannot be read


def _read(found: Found) -> bytes:
    from bcx.imaging.scan import read_file

    return found.source.read() if isinstance(found.source, Member) else read_file(found.source)


def _short(name: str) -> str:
    """Leave room for what is added to a name: file systems take 255 bytes."""
    return os.fsencode(name)[:200].decode(errors="ignore") if len(os.fsencode(name)) > 200 else name


def overlay_name(inside: Path, taken: set[str]) -> Path:
    """Return where a scan's overlay goes below the folder of overlays, and add it to the names taken.

    `a.dcm` gives `a_overlay.png`; a second scan called `a.png` there gives `a.png_overlay.png`.
    """
    stem, name = _short(inside.stem), _short(inside.name)
    chosen, number = inside.with_name(f"{stem}_overlay.png"), 1
    while chosen.as_posix().casefold() in taken:  # case is ignored by the file systems of macOS and Windows
        chosen = inside.with_name(f"{name}_overlay.png" if number == 1 else f"{name}_{number}_overlay.png")
        number += 1
    taken.add(chosen.as_posix().casefold())
    return chosen


def places_of(scans: Sequence[Found]) -> dict[str, dict[str, str]]:
    """Return what the header of each file says of `PLACE`; "" where it says nothing or is no DICOM header."""
    from bcx.imaging.dicom import place_of

    places = {}
    for found in scans:
        try:
            places[found.file] = place_of(_read(found))
        except BcxError:
            places[found.file] = dict.fromkeys(PLACE, "")  # its row says why it cannot be read
    return places


def patients_of(scans: Sequence[Found], by: str, places: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the patient of each file: `Found.file` to a name. Files of nobody known are not in it.

    Args:
        scans: what will be answered.
        by: "folder" (that of the file), "study" (DICOM's Study Instance UID), or a CSV table's path with the columns
            `file` and `patient`; a file is told by its path as the results have it, or by its name where that is the
            only one of its kind.
        places: from `places_of`, for "study".
    """
    if by == FOLDER:
        return {found.file: folder_of(found.file) for found in scans}
    if by == STUDY:
        return {file: place["study"] for file, place in places.items() if place["study"]}
    if not Path(by).is_file():
        raise ConfigError(
            f"--patients is '{by}'.",
            expected="folder, study, or a CSV table with the columns file and patient",
            remedy="Use one of the three.",
        )
    from bcx.data.tables import read_table

    table = read_table(Path(by), ("file", "patient"), layout="a CSV table with the columns file and patient")
    named = {row["file"]: row["patient"] for _, row in table.rows if row["patient"]}
    names = Counter(found.file.rpartition("/")[2] for found in scans)
    patients = {}
    for found in scans:
        name = found.file.rpartition("/")[2]
        if patient := named.get(found.file) or (names[name] == 1 and named.get(name)):
            patients[found.file] = patient
    if not patients:
        raise DataError(
            f"None of the {len(scans)} files is in '{Path(by).name}', which begins with '{next(iter(named), '')}'.",
            expected="files as the results name them, or plain file names",
            remedy="Correct the column file.",
        )
    return patients


def write_patients(
    classifier: Classifier, rows: Iterable[Mapping[str, Any]], patients: Mapping[str, str], target: Path
) -> str:
    """Combine rows of results, CSV's or JSON's, by patient, write a CSV table, and return what was done, in words.

    A scan that could not be read stands in the reason of its patient's row.
    """
    from bcx.inference.table import write_text

    cells = patient_rows(classifier, rows, patients)
    with writing(target):
        write_text(patient_lines(cells, classifier.classes), target)
    counts = Counter(cell.get("decision", "without a scan that can be read") for cell in cells)
    tally = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{len(cells)} patient{'' if len(cells) == 1 else 's'}: {tally}; written to {target}."
