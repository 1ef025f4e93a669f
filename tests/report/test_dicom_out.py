"""Answers as DICOM, read back by pydicom and highdicom."""

import sys
from dataclasses import replace

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.seg import segread
from highdicom.sr import srread

import bcx
from bcx.errors import MissingExtra, ScanError
from bcx.inference import prediction
from bcx.report.dicom_out import DicomWriter
from bcx.report.pictures import layer_picture
from bcx.report.words import NOTICE
from bcx.simulate import simulate
from tests.dicoms import framed, region, ultrasound

SCAN = simulate("malignant", 3, 240, 280).pixels
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate")


@pytest.fixture(scope="module")
def classifier(tiny_lesion_checkpoint):
    return bcx.load(tiny_lesion_checkpoint)


@pytest.fixture
def written(classifier, tmp_path, monkeypatch):
    """Write the answer to a file, with a tenth of the scan outlined: the map of the tiny model is noise."""

    def write(data, outlined=True):
        answer = replace(classifier.predict(data, "a.dcm"), outlines=outlined)
        monkeypatch.setattr(prediction, "LESION_LEVEL", float(np.quantile(answer.lesion, 0.9)))
        return answer, DicomWriter().write(answer, data, 1, tmp_path / "a")

    return write


def test_all_three_stand_in_the_study_of_the_source(written):
    data = ultrasound(SCAN)
    answer, files = written(data)
    assert [file.name for file in files] == ["a_overlay.dcm", "a_lesion.dcm", "a_report.dcm"]
    made, source = [pydicom.dcmread(file) for file in files], pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    for each in made:
        assert [each[keyword].value for keyword in PATIENT] == [source[keyword].value for keyword in PATIENT]
        assert each.SeriesDescription == "bcx, research only, not for diagnosis"
        references = [e.value for e in each.iterall() if e.keyword == "ReferencedSOPInstanceUID"]
        assert source.SOPInstanceUID in references
    assert len({each.SeriesInstanceUID for each in made} | {source.SeriesInstanceUID}) == 4
    assert [each.Modality for each in made] == ["OT", "SEG", "SR"]
    np.testing.assert_array_equal(made[0].pixel_array, np.array(layer_picture(answer)))


def test_a_segmentation_lies_on_the_source_pixel_by_pixel(written):
    answer, files = written(ultrasound(SCAN))
    found = segread(files[1])
    np.testing.assert_array_equal(found.pixel_array, answer.lesion >= answer.outline_level)
    assert found.get_segment_description(1).segmented_property_type.meaning == "Lesion"
    assert NOTICE in found.ContentDescription


def test_a_segmentation_of_a_cut_scan_lies_in_the_machines_frame(written):
    picture = framed(SCAN)
    height, width = SCAN.shape
    data = ultrasound(picture, SequenceOfUltrasoundRegions=[region(90, 60, 90 + width - 1, 60 + height - 1)])
    answer, files = written(data)
    found = segread(files[1]).pixel_array
    assert found.shape == picture.shape
    inside = answer.lesion >= answer.outline_level
    np.testing.assert_array_equal(found[60 : 60 + height, 90 : 90 + width], inside)
    assert found.sum() == inside.sum()
    (lesion,) = srread(files[2]).content.get_planar_roi_measurement_groups()
    (area,) = lesion.get_measurements()
    assert (area.name.meaning, area.unit.value) == ("Area", "mm2")
    assert area.value == pytest.approx(inside.sum() * 0.1 * 0.1, abs=0.05)


def test_a_report_says_what_the_table_says(written):
    answer, files = written(ultrasound(SCAN))
    content = srread(files[2]).content
    (scan,) = content.get_image_measurement_groups()
    numbers = {each.name.meaning: each.value for each in scan.get_measurements()}
    assert numbers == {f"Probability of {name}": pytest.approx(p, abs=1e-6) for name, p in answer.probabilities.items()}
    said = {each.name.meaning: each.value.meaning for each in scan.get_qualitative_evaluations()}
    assert said["Decision"] == answer.decision
    (lesion,) = content.get_planar_roi_measurement_groups()
    segment = lesion.referenced_segmentation_frame[0].ReferencedSOPSequence[0]
    assert segment.ReferencedSOPInstanceUID == pydicom.dcmread(files[1]).SOPInstanceUID
    report = pydicom.dcmread(files[2])
    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    texts = [element.value for element in report.iterall() if element.keyword == "TextValue"]
    assert {NOTICE, answer.model, f"weights SHA-256 {answer.weights_sha256}"} <= set(texts)
    assert (report.CompletionFlag, report.VerificationFlag) == ("PARTIAL", "UNVERIFIED")


@pytest.mark.parametrize("decision", ["refer", "benign"])
def test_a_referral_bears_no_label_that_could_be_read_as_the_answer(classifier, tmp_path, decision):
    data = ultrasound(SCAN)
    answer = replace(classifier.predict(data, "a.dcm"), label="benign", decision=decision)
    *_, file = DicomWriter().write(answer, data, 1, tmp_path / "a")
    (scan,) = srread(file).content.get_image_measurement_groups()
    said = [(each.name.meaning, each.value.meaning) for each in scan.get_qualitative_evaluations()]
    assert said == [("Decision", decision), *([("Label", "benign")] if decision == "benign" else [])]


def test_without_an_outline_there_is_no_segmentation(written):
    _, files = written(ultrasound(SCAN), outlined=False)
    assert [file.name for file in files] == ["a_overlay.dcm", "a_report.dcm"]
    assert not srread(files[1]).content.get_planar_roi_measurement_groups()


def test_of_a_clip_the_decisive_frame_is_referred_to(written):
    data = ultrasound(SCAN, frames=3)
    answer, files = written(data)
    for file in files:
        made = pydicom.dcmread(file)
        frames = [e.value for e in made.iterall() if e.keyword == "ReferencedFrameNumber"]
        assert answer.clip.frame + 1 in frames
        kinds = {e.value for e in made.iterall() if e.keyword == "ReferencedSOPClassUID"}
        assert pydicom.uid.UltrasoundMultiFrameImageStorage in kinds
        assert pydicom.uid.UltrasoundImageStorage not in kinds
    assert segread(files[1]).NumberOfFrames == 1


def test_scans_of_a_study_share_a_series_per_kind(classifier, tmp_path):
    writer = DicomWriter()
    files = []
    for number in (1, 2):
        data = ultrasound(SCAN, SOPInstanceUID=f"1.2.3.1.{number}")
        files.append(writer.write(classifier.predict(data, "a.dcm"), data, number, tmp_path / f"{number}")[-1])
    one, other = map(pydicom.dcmread, files)
    assert one.SeriesInstanceUID == other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID
    assert (one.InstanceNumber, other.InstanceNumber) == (1, 2)


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientName": None, "PatientID": None, "PatientBirthDate": None, "PatientSex": None},
        {"StudyDate": None, "StudyTime": None, "StudyID": None, "AccessionNumber": None, "Modality": None},
        {"PatientSex": "U", "Laterality": None, "ReferringPhysicianName": None},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6", "FrameOfReferenceUID": "1.2.9"},
        {"PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    ],
    ids=["no patient", "no study module", "unknown sex", "retired class", "Japanese name"],
)
def test_headers_that_leave_something_out(written, tags):
    _, files = written(ultrasound(SCAN, **tags))
    assert len(files) == 3
    for file in files:
        assert str(pydicom.dcmread(file).PatientName) == (tags.get("PatientName", "Simulated^Ännchen") or "")


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_nothing_refers_to_a_source_without_its_identifiers(classifier, tmp_path, keyword):
    data = ultrasound(SCAN)
    answer = classifier.predict(data, "a.dcm")
    header = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
    delattr(header, keyword)
    buffer = pydicom.filebase.DicomBytesIO()
    header.save_as(buffer)
    with pytest.raises(ScanError, match=f"has no {keyword}"):
        DicomWriter().write(answer, buffer.getvalue(), 1, tmp_path / "a")


def test_a_header_that_cannot_be_copied_is_said(classifier, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a strange value")

    monkeypatch.setattr(highdicom.sc.SCImage, "from_ref_dataset", fail)
    data = ultrasound(SCAN)
    with pytest.raises(ScanError, match="cannot be copied \\(a strange value\\)"):
        DicomWriter().write(classifier.predict(data, "a.dcm"), data, 1, tmp_path / "a")
    assert not list(tmp_path.iterdir())


def test_without_highdicom_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(MissingExtra, match=r"bcx\[dicom-out\]"):
        DicomWriter()
