"""`bcx predict --dicom-out`: DICOM results beside the table."""

from pathlib import Path

import pydicom
import pytest
from PIL import Image

from bcx.simulate import simulate
from tests.dicoms import ultrasound


@pytest.fixture
def ward(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = simulate("benign", 1, 120, 140).pixels
    for number in (1, 2):
        file = tmp_path / "ward" / str(number) / "a.dcm"
        file.parent.mkdir(parents=True)
        file.write_bytes(ultrasound(scan, SOPInstanceUID=f"1.2.3.1.{number}"))
    Image.fromarray(scan).save(tmp_path / "ward" / "plain.png")
    return Path("ward")


def test_dicom_scans_get_dicom_results_and_others_a_line(run, ward, tiny_checkpoint):
    command = ("predict", ward, "--model", tiny_checkpoint, "--out", "r.csv", "--dicom-out", "ward/made")
    done = run(*command)
    assert done.status == 0, done.err
    assert "1 not DICOM, without a study that DICOM results could refer to" in done.err
    made = sorted(path.relative_to("ward/made").as_posix() for path in Path("ward/made").rglob("*.*"))
    assert made == [f"{number}/a_{kind}.dcm" for number in (1, 2) for kind in ("overlay", "report")]
    assert pydicom.dcmread("ward/made/2/a_report.dcm").InstanceNumber == 3  # its place among the scans
    assert run(*command).status == 0
    assert Path("r.csv").read_text("utf-8").count("\n") == 4  # what the first run wrote is not read as scans


def test_a_scan_that_nothing_can_refer_to_is_said(run, ward, tiny_checkpoint):
    (ward / "1" / "a.dcm").write_bytes(ultrasound(simulate("benign", 1, 120, 140).pixels, StudyInstanceUID=None))
    done = run("predict", ward, "--model", tiny_checkpoint, "--dicom-out", "made")
    assert done.status == 1
    assert "1 without DICOM results ('a.dcm' has no StudyInstanceUID" in done.err
    assert done.out.count("\n") == 4


@pytest.mark.parametrize(("option", "masked"), [("--mask-text", True), ("--no-mask-text", False)])
def test_burnt_in_text_is_masked_where_that_is_asked_for(run, ward, tiny_checkpoint, monkeypatch, option, masked):
    seen = []
    monkeypatch.setattr("bcx.inference.prediction.mask_text", lambda pixels: seen.append(1) or pixels)
    done = run("predict", ward / "1", "--model", tiny_checkpoint, "--dicom-out", "made", option)
    assert done.status == 0, done.err
    assert bool(seen) == masked


def test_results_are_not_written_among_the_scans(run, ward, tiny_checkpoint):
    done = run("predict", ward, "--model", tiny_checkpoint, "--dicom-out", "ward")
    assert done.status == 2
    assert "among the scans" in done.err
