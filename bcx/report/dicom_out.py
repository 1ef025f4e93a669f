"""An answer as DICOM, for the archive that the scan came from, through highdicom.

In the study of the source, each in a series of its own: a Secondary Capture of the overlay, a Segmentation of the
lesion where one is outlined, and a structured report (TID 1500) with label, probabilities, decision and disclaimer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import bcx
from bcx.errors import ScanError, from_extra
from bcx.files import whole
from bcx.report.pictures import layer_picture
from bcx.report.words import NOTICE

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    from bcx.inference.prediction import Prediction

#: Ends of the file names; the report refers to the segmentation, and is written last.
OVERLAY, LESION, REPORT = "_overlay.dcm", "_lesion.dcm", "_report.dcm"

_NEEDED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
_MAY_BE_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    "ReferringPhysicianName",
)
_SCHEME = "99BCX"  # names of local codes begin with 99
_SERIES = {OVERLAY: 9101, LESION: 9102, REPORT: 9103}  # beyond what machines count to


class DicomWriter:
    """Writes answers as DICOM files; scans of one study share a series per kind, so there is one writer per run."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], str] = {}
        with from_extra("dicom-out", "DICOM output needs highdicom, which is not installed."):
            import highdicom  # noqa: F401

    def write(self, prediction: Prediction, source: bytes, number: int, base: Path) -> list[Path]:
        """Write what belongs to one answer, with its pixels, to a DICOM file; return the files, the report last.

        `number`: of the instances in their series, from 1; `base`: folder and beginning of the files' names.
        `ScanError`: the source lacks an identifier that a reference needs, or its header cannot be copied.
        """
        from bcx.imaging.dicom import read_header  # here, since it needs pydicom

        header = read_header(source, prediction.name)
        if missing := [keyword for keyword in _NEEDED if not header.get(keyword)]:
            found = f"'{prediction.name}' has no {missing[0]}, so that nothing can refer to it."
            remedy = "Export it again from the archive."
            raise ScanError(found, expected="the UIDs of class, instance, series and study", remedy=remedy)
        files = []
        try:
            for end, dataset in self._objects(prediction, header, number).items():
                files.append(base.with_name(f"{base.name}{end}"))
                with whole(files[-1]) as partial:
                    dataset.save_as(partial, enforce_file_format=True)
        except OSError:
            raise
        except Exception as error:  # pydicom and highdicom raise whatever a strange header leads them to
            found = f"The header of '{prediction.name}' cannot be copied ({str(error)[:200] or type(error).__name__})."
            remedy = "Export it again from the archive."
            raise ScanError(found, expected="values as the DICOM standard asks for", remedy=remedy) from error
        return files

    def _objects(self, prediction: Prediction, header: Dataset, number: int) -> dict[str, Dataset]:
        from highdicom import UID
        from pydicom.uid import UltrasoundImageStorage

        # As a single image without a place in space: highdicom refuses classes that are retired, and asks clips for
        # where each frame lies, which ultrasound does not say. The references to the source are set right at the end.
        kind = header.SOPClassUID
        header.SOPClassUID = UltrasoundImageStorage
        header.pop("FrameOfReferenceUID", None)
        for keyword in _MAY_BE_EMPTY:
            header.setdefault(keyword, "")
        if header.get("PatientSex") not in ("M", "F", "O"):
            header.PatientSex = ""
        header.Modality = header.get("Modality") or "OT"

        def identity(kind: str) -> dict[str, Any]:
            return {
                "series_instance_uid": self._series.setdefault((header.StudyInstanceUID, kind), UID()),
                "series_number": _SERIES[kind],
                "sop_instance_uid": UID(),
                "instance_number": number,
                "manufacturer": "bcx",
                "manufacturer_model_name": prediction.model[:64],
                "software_versions": bcx.__version__,
                "device_serial_number": prediction.weights_sha256,
                "series_description": "bcx, research only, not for diagnosis",
                "specific_character_set": "ISO_IR 192",
            }

        made = {OVERLAY: _capture(prediction, header, identity(OVERLAY))}
        lesion = prediction.lesion
        if lesion is not None and (inside := lesion >= prediction.outline_level).any():
            left, top, right, bottom = prediction.scan.region or (0, 0, header.Columns, header.Rows)
            placed = np.zeros((header.Rows, header.Columns), bool)
            placed[top:bottom, left:right] = inside
            made[LESION] = _segmentation(prediction, placed, header, identity(LESION))
        made[REPORT] = _report(prediction, header, made.get(LESION), identity(REPORT))

        def set_kind(dataset: Dataset, element: DataElement) -> None:
            if element.keyword == "ReferencedSOPInstanceUID" and element.value == header.SOPInstanceUID:
                dataset.ReferencedSOPClassUID = kind

        for each in made.values():
            each.walk(set_kind)
        return made


def _frames(prediction: Prediction) -> list[int] | None:
    """Return the frame that is referred to, from 1, as a list; None where the source is one image."""
    return None if prediction.clip is None else [prediction.clip.frame + 1]


def _capture(prediction: Prediction, header: Dataset, identity: dict[str, Any]) -> Dataset:
    from highdicom.sc import SCImage
    from pydicom.dataset import Dataset

    capture = SCImage.from_ref_dataset(
        ref_dataset=header,
        pixel_array=np.array(layer_picture(prediction)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **identity,
    )
    capture.PatientOrientation = []  # nobody knows how the probe was held
    capture.Laterality = header.get("Laterality", "")
    capture.ConversionType = "WSD"
    capture.DerivationDescription = f"Class map of {prediction.model}. {NOTICE}"
    capture.copy_patient_and_study_information(header)
    if "BurnedInAnnotation" in header:
        capture.BurnedInAnnotation = header.BurnedInAnnotation
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if frames := _frames(prediction):
        source.ReferencedFrameNumber = frames
    capture.SourceImageSequence = [source]
    return capture


def _segmentation(prediction: Prediction, inside: np.ndarray, header: Dataset, identity: dict[str, Any]) -> Dataset:
    """Return the outlined lesion as a binary Segmentation that lies on the source pixel by pixel."""
    from highdicom import UID, AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    weights = {"weights SHA-256": prediction.weights_sha256}
    family = codes.DCM.ArtificialIntelligence
    algorithm = AlgorithmIdentificationSequence(prediction.model, family, bcx.__version__, "bcx", weights)
    lesion = SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_uid=UID(),
        tracking_id="lesion",
        anatomic_regions=[codes.SCT.Breast],
    )
    identity |= {"content_label": "LESION", "content_description": NOTICE}
    made = Segmentation([header], inside, "BINARY", [lesion], **identity)
    made.PatientOrientation = ""
    if frames := _frames(prediction):
        derivation = made.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
        derivation.SourceImageSequence[0].ReferencedFrameNumber = frames
    return made


def _report(prediction: Prediction, header: Dataset, segmentation: Dataset | None, identity: dict[str, Any]) -> Dataset:
    from highdicom import UID, sr
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    def local(value: str, meaning: str) -> sr.CodedConcept:
        return sr.CodedConcept(value, _SCHEME, meaning[:64])

    reference = (header.SOPClassUID, header.SOPInstanceUID, _frames(prediction))
    weights = f"weights SHA-256 {prediction.weights_sha256}"
    algorithm = sr.AlgorithmIdentification(prediction.model, bcx.__version__, [weights])
    said = {"decision": prediction.decision}
    if prediction.decision == prediction.label:  # a label beside "refer" would be read as the answer
        said["label"] = prediction.label
    groups: list[Any] = [
        sr.MeasurementsAndQualitativeEvaluations(
            sr.TrackingIdentifier(UID(), "scan"),
            algorithm_id=algorithm,
            measurements=[
                sr.Measurement(local(f"probability-{name}", f"Probability of {name}"), round(p, 6), codes.UCUM.NoUnits)
                for name, p in prediction.probabilities.items()
            ],
            qualitative_evaluations=[
                sr.QualitativeEvaluation(local(name, name.capitalize()), local(value, value))
                for name, value in said.items()
            ],
            source_images=[sr.SourceImageForMeasurementGroup(*reference)],
        )
    ]
    evidence = [header]
    if segmentation is not None:
        evidence.append(segmentation)
        side, lesion = prediction.scan.mm_per_pixel, prediction.lesion
        assert lesion is not None
        area = 0.0 if side is None else np.count_nonzero(lesion >= prediction.outline_level) * side**2
        sizes = [sr.Measurement(codes.SCT.Area, round(area, 1), codes.UCUM.SquareMillimeter)] if area else None
        segment = sr.ReferencedSegmentationFrame(
            segmentation.SOPClassUID, segmentation.SOPInstanceUID, 1, 1, sr.SourceImageForSegmentation(*reference)
        )
        del segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber  # a frame or a segment, says the standard
        groups.append(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                sr.TrackingIdentifier(segmentation.SegmentSequence[0].TrackingUID, "lesion"),
                referenced_segment=segment,
                finding_type=codes.SCT.Lesion,
                measurements=sizes,
                algorithm_id=algorithm,
            )
        )
    uid = generate_uid(entropy_srcs=[prediction.weights_sha256])
    device = sr.DeviceObserverIdentifyingAttributes(uid, "bcx", "bcx", prediction.model)
    observer = sr.ObservationContext(observer_device_context=sr.ObserverContext(codes.DCM.Device, device))
    content = sr.MeasurementReport(observer, codes.SCT.ImagingProcedure, groups)[0]
    for text in filter(None, (NOTICE, prediction.reason, *prediction.flags, *prediction.notes)):
        content.ContentSequence.append(sr.TextContentItem(codes.DCM.Comment, text, "CONTAINS"))
    return sr.ComprehensiveSR(evidence, content, **identity)
