"""`bcx predict --patients`: scans of a folder, a DICOM study or a table get one answer together."""

import csv
import json
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset

import bcx
from bcx.simulate import simulate
from tests.dicoms import ultrasound
from tests.imaging.test_dicom import encoded


@pytest.fixture
def ward(tmp_path, busi_folder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scans = sorted(path for path in busi_folder.rglob("*.png") if "_mask" not in path.name)
    for number, scan in enumerate(scans[:4]):
        target = tmp_path / "ward" / ("ann" if number < 2 else "bea") / f"{number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(scan, target)
    return Path("ward")


def patients(path="r.patients.csv"):
    return list(csv.DictReader(Path(path).open(encoding="utf-8")))


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_folder_per_patient(run, ward, tiny_checkpoint, more):
    done = run("predict", ward, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "folder", *more)
    assert done.status == 0, done.err
    rows = patients()
    assert [(row["patient"], row["scans"]) for row in rows] == [("ward/ann", "2"), ("ward/bea", "2")]
    assert rows[0]["files"] == "ward/ann/0.png; ward/ann/1.png"
    classifier = bcx.load(tiny_checkpoint)
    expected = classifier.combine("x", [classifier.predict(ward / "ann" / f"{n}.png") for n in (0, 1)])
    for name, value in expected.probabilities.items():
        assert float(rows[0][f"p_{name}"]) == pytest.approx(value, abs=5e-6)
    assert "2 patients" in done.err


def test_a_table_of_patients(run, ward, tiny_checkpoint):
    Path("who.csv").write_text("file;patient\n0.png;one\nward/bea/2.png;one\n1.png;two\n", encoding="utf-8")
    done = run("predict", ward, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "who.csv")
    assert done.status == 0, done.err
    assert {row["patient"]: row["scans"] for row in patients()} == {"one": "2", "two": "1"}


def test_a_study_per_patient(run, ward, tiny_checkpoint):
    from PIL import Image

    for number, study in enumerate(("1.2.3", "1.2.3", "1.2.4")):
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.StudyInstanceUID, data.SOPClassUID = study, "1.2.840.10008.5.1.4.1.1.6.1"
        data.SOPInstanceUID = f"1.2.{number}"
        with Image.open(ward / "ann" / "0.png") as picture:
            grey = picture.convert("L")
        data.Rows, data.Columns = grey.height, grey.width
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
        data.PhotometricInterpretation = "MONOCHROME2"
        data.PixelData = grey.tobytes() + b"\0" * (grey.height * grey.width % 2)
        Path("dicom").mkdir(exist_ok=True)
        data.save_as(Path("dicom", f"{number}.dcm"), enforce_file_format=True)
    done = run("predict", "dicom", ward, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "study")
    assert done.status == 0, done.err
    assert {row["patient"]: row["scans"] for row in patients()} == {"1.2.3": "2", "1.2.4": "1"}


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_dicom_archive_is_listed_by_study_series_laterality_and_view(
    run, tmp_path, tiny_checkpoint, monkeypatch, more
):
    monkeypatch.chdir(tmp_path)
    scan = simulate("benign", 1, 120, 140).pixels
    view = Dataset()
    view.CodeMeaning = "transverse"
    said = {
        "a": {"ViewPosition": "ML"},
        "b": {"Laterality": "L", "ImageLaterality": "R", "ViewCodeSequence": [view], "SeriesInstanceUID": "1.2.3.2"},
        "c": {"Laterality": None, "StudyInstanceUID": "1.2.4"},
    }
    for name, tags in said.items():
        Path("disc", name).mkdir(parents=True)
        Path("disc", name, "IM0001").write_bytes(ultrasound(scan, **tags))
    Path("disc", "plain.png").write_bytes(encoded(scan, "PNG"))
    Path("disc", "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    done = run("predict", "disc", "--model", tiny_checkpoint, "--out", "r", "--patients", "study", *more)
    assert done.status == 0, done.err
    text = Path("r").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if more else list(csv.DictReader(text.splitlines()))
    assert {row["file"]: tuple(row[name] for name in ("study", "series", "laterality", "view")) for row in rows} == {
        "disc/plain.png": ("", "", "", ""),
        "disc/a/IM0001": ("1.2.3", "1.2.3.1", "L", "ML"),
        "disc/b/IM0001": ("1.2.3", "1.2.3.2", "R", "transverse"),
        "disc/c/IM0001": ("1.2.4", "1.2.3.1", "", ""),
    }
    assert [(row["patient"], row["scans"]) for row in patients()] == [("1.2.3", "2"), ("1.2.4", "1")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--patients", "folder"), "without a table of scans"),
        (("--patients", "none.csv", "--out", "r.csv"), "folder, study, or a CSV table"),
        (("--patients", "wrong.csv", "--out", "r.csv"), "None of the 4 files is in 'wrong.csv'"),
    ],
)
def test_what_cannot_be_grouped_is_said_before_anything_is_answered(run, ward, tiny_checkpoint, options, said):
    Path("wrong.csv").write_text("file,patient\nother.png,one\n", encoding="utf-8")
    done = run("predict", ward, "--model", tiny_checkpoint, *options)
    assert done.status in (1, 2)
    assert said in " ".join(done.err.split())
    assert not Path("r.csv").exists()


def test_scans_that_cannot_be_read_are_said_in_their_patients_row(run, ward, tiny_checkpoint):
    (ward / "ann" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (ward / "cleo").mkdir()
    (ward / "cleo" / "broken.png").write_bytes(b"")
    done = run("predict", ward, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "folder")
    assert done.status == 1
    rows = {row["patient"]: row for row in patients()}
    assert set(rows) == {"ward/ann", "ward/bea", "ward/cleo"}
    assert "Could not be read: ward/ann/broken.png." in rows["ward/ann"]["reason"]
    assert rows["ward/ann"]["scans"] == "2"
    assert (rows["ward/cleo"]["decision"], rows["ward/cleo"]["scans"]) == ("", "0")
    assert "1 without a scan that can be read" in done.err


@pytest.mark.parametrize(("out", "table"), [("who.csv", "who.csv"), ("r.csv", "r.patients.csv")])
def test_the_table_of_patients_is_not_written_over(run, ward, tiny_checkpoint, out, table):
    Path(table).write_text("file,patient\n0.png,one\n", encoding="utf-8")
    done = run("predict", ward, "--model", tiny_checkpoint, "--out", out, "--patients", table)
    assert done.status == 2
    assert "would be written over" in done.err
    assert Path(table).read_text("utf-8").startswith("file,patient")


def test_a_resumed_run_has_the_same_patients(run, ward, tiny_checkpoint):
    command = ("predict", ward, "--model", tiny_checkpoint, "--out", "r.jsonl", "--json", "--patients", "folder")
    assert run(*command).status == 0
    before = patients()
    assert run(*command).status == 0
    assert patients() == before
    assert len([json.loads(line) for line in Path("r.jsonl").read_text("utf-8").splitlines()]) == 4
