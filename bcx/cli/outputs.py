"""What `bcx predict` writes beside its table: overlays, answers as DICOM, reports, and a row per patient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.data.tables import read_table
from bcx.errors import BcxError, ConfigError, DataError, ScanError, writing
from bcx.files import whole
from bcx.imaging.style import MapStyle
from bcx.inference.archives import content
from bcx.inference.input_files import Found, Listing, base_name
from bcx.inference.patient import FOLDER, STUDY, folder_of, patient_lines, patient_rows
from bcx.inference.table import write_lines

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Failure, Prediction
    from bcx.tasks import Task

#: Columns that the table of scans gets with `STUDY`, from DICOM headers.
PLACE = ("study", "series", "laterality", "view")
#: Kinds of files for a scan, and the end of the name of the one that is written last.
_LAST = {"overlays": "_overlay.png", "dicom": "_report.dcm", "report": "_report.pdf"}


class Outputs:
    """The files of one run, each kind in a folder of its own or not written; burnt-in text may be covered in them.

    A scan's `target` holds, for each kind of file that it gets, the folder and the beginning of the names. `refused`
    gathers why scans have no DICOM files. `MissingExtra`: these are asked for, and highdicom is not installed.
    """

    def __init__(self, folders: Mapping[str, Path | None], mask_text: bool, style: MapStyle) -> None:
        self.folders = {kind: folder for kind, folder in folders.items() if folder is not None}
        self.mask_text, self.style = mask_text, style
        self.refused: list[str] = []
        self._without_study = 0
        if "dicom" in self.folders:  # imported only here, since these load torch
            from bcx.report.dicom_out import DicomWriter

            self._writer = DicomWriter()
        if "report" in self.folders:
            from bcx.report.sheet import Batch

            self._batch = Batch()

    def prepare(self, listing: Listing) -> None:
        """Make the folders, none of which may be one of the scans'."""
        for folder in self.folders.values():
            listing.check_apart(folder)
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def targets(self, scans: Sequence[Found]) -> Iterator[dict[str, Path]]:
        taken: set[str] = set()
        for found in scans:
            name = base_name(found.inside, taken)
            target = {kind: folder / name for kind, folder in self.folders.items()}
            if "dicom" in target and not _is_dicom(found):
                del target["dicom"]
                self._without_study += 1
            yield target

    def are_there(self, target: Mapping[str, Path]) -> bool:
        return all(Path(f"{base}{_LAST[kind]}").is_file() for kind, base in target.items())

    def write(
        self, answer: Prediction | Failure, found: Found, target: Mapping[str, Path], number: int, task: Task
    ) -> None:
        """Write what belongs to the answer to the scan of that number, from 1; nothing for a failure."""
        from bcx.inference.prediction import Prediction

        if not target or not isinstance(answer, Prediction):
            return
        answer = replace(answer, mask_text=self.mask_text, style=self.style)
        if overlay := target.get("overlays"):
            for end, data in drawn(answer, self.mask_text, self.style):
                with new_file(Path(f"{overlay}{end}")) as partial:
                    partial.write_bytes(data)
        if report := target.get("report"):
            from bcx.report.sheet import write_file

            with new_file(Path(f"{report}_report.pdf")) as partial:
                write_file("pdf", answer, task, datetime.now().astimezone(), partial)
        if dicom := target.get("dicom"):
            with writing(dicom):
                dicom.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self._writer.write(answer, content(found.source), number, dicom)
                except ScanError as error:
                    self.refused.append(error.found)

    def count(self, file: str, decision: str, row: Mapping[str, Any]) -> None:
        """Count a row of the table, as it is written, for the page about the batch."""
        if "report" in self.folders:
            self._batch.add(file, decision, row.get("reason") or row.get("error", {}).get("found", ""))

    def finish(self, classifier: Classifier) -> None:
        if "report" in self.folders:
            with new_file(self.folders["report"] / "summary.pdf") as partial:
                self._batch.write(partial, classifier.task, classifier.name, datetime.now().astimezone())

    def said(self) -> Iterator[str]:
        if self._without_study:
            yield f"{self._without_study} not DICOM, without a study that DICOM results could refer to"
        if self.refused:
            yield f"{len(self.refused)} without DICOM results ({self.refused[0].rstrip('.')})"


def drawn(answer: Prediction, mask_text: bool, style: MapStyle) -> Iterator[tuple[str, bytes]]:
    """Yield an answer's overlays, as `Outputs.write` writes them: the end of each name, and its bytes."""
    from bcx.report.pictures import overlay_files

    return overlay_files(replace(answer, mask_text=mask_text, style=style))


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


def places_of(scans: Sequence[Found]) -> dict[str, dict[str, str]]:
    """Return what the header of each file says of `PLACE`; "" where it says nothing or is no DICOM header."""
    from bcx.imaging.scan import place_of

    places = {}
    for found in scans:
        try:
            places[found.file] = place_of(content(found.source))
        except BcxError:
            places[found.file] = dict.fromkeys(PLACE, "")  # its row says why it cannot be read
    return places


def patients_of(scans: Sequence[Found], by: str, places: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the patient of each file: `Found.file` to a name. Files of nobody known are not in it.

    `by`: "folder" (that of the file), "study" (DICOM's Study Instance UID, out of `places`), or the path of a CSV table
    with the columns `file` (as the results have it, or the name alone where no other is called so) and `patient`.
    """
    if by == FOLDER:
        return {found.file: folder_of(found.file) for found in scans}
    if by == STUDY:
        return {file: place["study"] for file, place in places.items() if place["study"]}
    if not Path(by).is_file():
        expected = "folder, study, or a CSV table with the columns file and patient"
        raise ConfigError(f"--patients is '{by}'.", expected=expected, remedy="Use one of the three.")
    table = read_table(Path(by), ("file", "patient"), layout="a CSV table with the columns file and patient")
    named = {row["file"]: row["patient"] for _, row in table.rows if row["patient"]}
    names = {found.file: found.file.rpartition("/")[2] for found in scans}
    count = Counter(names.values())
    told = {file: named.get(file) or (count[name] == 1 and named.get(name)) for file, name in names.items()}
    patients = {file: patient for file, patient in told.items() if patient}
    if not patients:
        found = f"None of the {len(scans)} files is in '{Path(by).name}', which begins with '{next(iter(named), '')}'."
        remedy = "Correct the column file."
        raise DataError(found, expected="files as the results name them, or plain file names", remedy=remedy)
    return patients


def write_patients(
    classifier: Classifier, rows: Iterable[Mapping[str, Any]], patients: Mapping[str, str], target: Path
) -> str:
    """Combine rows of results, CSV's or JSON's, by patient, write a CSV table, and return what was done, in words."""
    cells = patient_rows(classifier, rows, patients)
    with writing(target):
        write_lines(patient_lines(cells, classifier.classes), target)
    counts = Counter(cell.get("decision", "without a scan that can be read") for cell in cells)
    tally = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    return f"{len(cells)} patient{'' if len(cells) == 1 else 's'}: {tally}; written to {target}."
