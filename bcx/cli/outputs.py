"""What `bcx predict` writes beside its table: overlays, answers as DICOM, and reports.

>>> from pathlib import Path
>>> overlay_name(Path("ward/a.dcm"), set()).as_posix()
'ward/a_overlay.png'
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bcx.errors import ConfigError, ScanError, writing
from bcx.files import whole
from bcx.inference.archives import Member
from bcx.inference.input_files import Found, Listing

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.inference.prediction import Failure, Prediction
    from bcx.report.dicom_out import DicomWriter
    from bcx.report.sheet import Batch
    from bcx.tasks import Task

#: The page about the batch, in the folder of the reports; those of scans end in _report.pdf.
BATCH = "summary.pdf"


class Target(NamedTuple):
    """Where the files of one scan go.

    Attributes:
        number: of the scan, from 1.
        overlay: the picture; None where none is asked for.
        dicom: folder and beginning of the names of its DICOM files; None where none are asked for, or none can be.
        report: the sheet of paper; None where none is asked for.
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
    """The files of one run.

    Args:
        overlays: folder for pictures, or None.
        dicom: folder for DICOM files, or None.
        report: folder for sheets of paper, one per scan and one for the batch, or None.
        mask_text: whether burnt-in text is covered in them.

    Raises:
        MissingExtra: DICOM files are asked for, and highdicom is not installed.
    """

    def __init__(self, overlays: Path | None, dicom: Path | None, report: Path | None, mask_text: bool) -> None:
        self.overlays, self.dicom, self.report, self.mask_text = overlays, dicom, report, mask_text
        self.folders = [folder for folder in (overlays, dicom, report) if folder is not None]
        self.refused: list[str] = []
        self._writer = None if dicom is None else _writer()
        self._without_study = 0
        self._batch = None if report is None else _batch()

    def prepare(self, listing: Listing) -> None:
        """Make the folders.

        Raises:
            ConfigError: one of them holds the scans.
        """
        for folder in self.folders:
            if folder.exists() and any(root.samefile(folder) for root in listing.roots):
                raise ConfigError(
                    f"Results would be written among the scans in '{folder}', and read as scans the next time.",
                    expected="another folder after --overlays, --dicom-out and --report",
                    remedy=f"Use for example '{folder / 'results'}'.",
                )
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)

    def targets(self, pictures: Sequence[Found]) -> list[Target]:
        """Say where the files of each scan go."""
        taken: set[str] = set()
        made = []
        for number, found in enumerate(pictures, 1):
            name = overlay_name(found.inside, taken)
            plain = name.name.removesuffix("_overlay.png")
            dicom = self.dicom / name.with_name(plain) if self.dicom is not None and _is_dicom(found) else None
            overlay = None if self.overlays is None else self.overlays / name
            report = None if self.report is None else self.report / name.with_name(f"{plain}_report.pdf")
            made.append(Target(number, overlay, dicom, report))
        self._without_study = 0 if self.dicom is None else sum(each.dicom is None for each in made)
        return made

    def write(self, answer: Prediction | Failure, found: Found, target: Target, task: Task) -> None:
        """Write what belongs to one answer; nothing for a failure.

        Raises:
            OutputError: the disk is full, or a folder may not be written to.
        """
        from bcx.inference.prediction import Prediction

        if not isinstance(answer, Prediction):
            return
        answer = replace(answer, mask_text=self.mask_text)
        if target.overlay is not None:
            _write_overlay(answer, target.overlay)
        if target.report is not None:
            _write_report(answer, target.report, task)
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
            with writing(self.report), whole(self.report / BATCH) as partial:
                self._batch.write(partial, classifier.task, classifier.name, datetime.now().astimezone())

    def said(self) -> list[str]:
        """Return parts of the summary: what has no DICOM files, and why."""
        parts = []
        if self._without_study:
            parts.append(f"{self._without_study} not DICOM, without a study that DICOM results could refer to")
        if self.refused:
            parts.append(f"{len(self.refused)} without DICOM results ({self.refused[0].rstrip('.')})")
        return parts


def _batch() -> Batch:
    from bcx.report.sheet import Batch  # here, since it loads torch

    return Batch()


def _writer() -> DicomWriter:
    from bcx.report.dicom_out import DicomWriter  # here, since it loads torch

    return DicomWriter()


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
    choices = [inside.with_name(f"{stem}_overlay.png"), inside.with_name(f"{name}_overlay.png")]
    number = 2
    while choices[0].as_posix().casefold() in taken:  # case is ignored by the file systems of macOS and Windows
        choices = [*choices[1:], inside.with_name(f"{name}_{number}_overlay.png")]
        number += 1
    taken.add(choices[0].as_posix().casefold())
    return choices[0]


def _write_overlay(answer: Prediction, target: Path) -> None:
    from bcx.report.pictures import lesion_picture

    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lesion = lesion_picture(answer)
        if lesion is not None:
            with whole(target.with_name(f"{target.name.removesuffix('_overlay.png')}_lesion.png")) as partial:
                lesion.save(partial, format="PNG")
        with whole(target) as partial:
            answer.overlay().save(partial, format="PNG")


def _write_report(answer: Prediction, target: Path, task: Task) -> None:
    from bcx.report.sheet import write_file

    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as partial:
            write_file("pdf", answer, task, datetime.now().astimezone(), partial)
