"""What `bcx predict` writes beside its table: DICOM results, the page's sheets, and a row per patient."""

import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image, PdfParser
from pydicom.dataset import Dataset
from pydicom.fileset import FileSet

import bcx
from bcx.imaging.style import MapStyle
from bcx.inference.input_files import find
from bcx.report import sheet
from bcx.report.pictures import lesion_picture
from bcx.report.words import NOTICE
from bcx.simulate import simulate
from tests.dicoms import ultrasound


@pytest.fixture
def disc(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scan = simulate("benign", 1, 120, 140).pixels
    for number in (1, 2):
        file = tmp_path / "ward" / str(number) / "a.dcm"
        file.parent.mkdir(parents=True)
        file.write_bytes(ultrasound(scan, SOPInstanceUID=f"1.2.3.1.{number}"))
    Image.fromarray(scan).save(tmp_path / "ward" / "plain.png")
    return Path("ward")


@pytest.mark.slow
def test_dicom_scans_get_dicom_results_and_others_a_line(run, disc, tiny_checkpoint):
    command = ("predict", disc, "--model", tiny_checkpoint, "--out", "r.csv", "--dicom-out", "ward/made")
    done = run(*command)
    assert done.status == 0, done.err
    assert "1 not DICOM, without a study that DICOM results could refer to" in done.err
    made = sorted(path.relative_to("ward/made").as_posix() for path in Path("ward/made").rglob("*.*"))
    assert made == [f"{number}/a_{kind}.dcm" for number in (1, 2) for kind in ("overlay", "report")]
    assert pydicom.dcmread("ward/made/2/a_report.dcm").InstanceNumber == 3  # its place among the scans
    assert run(*command).status == 0
    assert Path("r.csv").read_text("utf-8").count("\n") == 4  # what the first run wrote is not read as scans


def test_a_scan_that_nothing_can_refer_to_is_said(run, disc, tiny_checkpoint):
    (disc / "1" / "a.dcm").write_bytes(ultrasound(simulate("benign", 1, 120, 140).pixels, StudyInstanceUID=None))
    done = run("predict", disc, "--model", tiny_checkpoint, "--dicom-out", "made")
    assert done.status == 1
    assert "1 without DICOM results ('a.dcm' has no StudyInstanceUID" in done.err
    assert done.out.count("\n") == 4


@pytest.mark.parametrize(("option", "masked"), [("--mask-text", True), ("--no-mask-text", False)])
def test_burnt_in_text_is_masked_where_that_is_asked_for(run, disc, tiny_checkpoint, monkeypatch, option, masked):
    seen = []
    monkeypatch.setattr("bcx.inference.prediction.mask_text", lambda pixels: seen.append(1) or pixels)
    done = run("predict", disc / "1", "--model", tiny_checkpoint, "--dicom-out", "made", option)
    assert done.status == 0, done.err
    assert bool(seen) == masked


def test_results_are_not_written_among_the_scans(run, disc, tiny_checkpoint):
    done = run("predict", disc, "--model", tiny_checkpoint, "--dicom-out", "ward")
    assert done.status == 2
    assert "among the scans" in done.err


def test_overlays_are_drawn_in_the_style_that_is_asked_for(run, disc, tiny_lesion_checkpoint):
    asked = ("predict", disc / "plain.png", "--model", tiny_lesion_checkpoint, "--overlays", "made", "--colours")
    assert run(*asked, "viridis", "--contour").status == 0
    found = replace(bcx.load(tiny_lesion_checkpoint).predict(disc / "plain.png"), style=MapStyle("viridis", True))
    np.testing.assert_array_equal(Image.open("made/plain_overlay.png"), found.overlay())
    np.testing.assert_array_equal(Image.open("made/plain_lesion.png"), lesion_picture(found))
    wrong = run(*asked, "jet")
    assert wrong.status == 2
    assert "jet" in wrong.err


@pytest.fixture
def scans(tmp_path, busi_folder, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(busi_folder / "benign", tmp_path / "scans")
    (tmp_path / "scans" / "empty.png").touch()
    return tmp_path / "scans"


def subject(path: Path) -> str:
    with PdfParser.PdfParser(str(path)) as read:
        assert len(read.pages) == 1
        return PdfParser.decode_text(read.info[b"Subject"])


@pytest.mark.slow
def test_each_scan_gets_the_sheet_of_the_page_and_the_batch_one_more(run, scans, tiny_lesion_checkpoint):
    done = run("predict", "scans", "--model", tiny_lesion_checkpoint, "--out", "r.csv", "--report", "reports")
    assert done.status == 1  # one file is empty
    rows = list(csv.DictReader(Path("r.csv").read_text("utf-8").splitlines()))
    answered = [row for row in rows if row["label"]]
    written = {path.name for path in Path("reports").iterdir()}
    assert written == {"summary.pdf", *(f"{Path(row['file']).stem}_report.pdf" for row in answered)}

    classifier = bcx.load(tiny_lesion_checkpoint)
    said = subject(Path("reports", f"{Path(answered[0]['file']).stem}_report.pdf"))
    prediction = classifier.predict(answered[0]["file"])
    date = next(line for line in said.splitlines() if line.startswith("Date: "))
    expected = sheet.text(prediction, classifier.task, sheet.datetime.now().astimezone()).splitlines()
    assert said.splitlines() == [date if line.startswith("Date: ") else line for line in expected]

    decisions = [row["decision"] or "failed" for row in rows]
    counted = dict(line.split(": ") for line in subject(Path("reports", "summary.pdf")).splitlines())
    assert counted == {name: str(decisions.count(name)) for name in set(decisions)}


@pytest.mark.slow
def test_a_report_that_was_lost_is_written_again(run, scans, tiny_checkpoint):
    (scans / "empty.png").unlink()
    for _ in range(2):
        done = run("predict", "scans", "--model", tiny_checkpoint, "--json", "--report", "reports")
        assert done.status == 0
        assert len(list(Path("reports").glob("*_report.pdf"))) == 4
        next(Path("reports").glob("*_report.pdf")).unlink()


def test_a_long_list_is_cut_and_says_so(tmp_path, tiny_checkpoint):
    classifier, drawn, batch = bcx.load(tiny_checkpoint), [], sheet.Batch()
    for number in range(100):
        batch.add(f"{number}.png", "refer", "No lesion seen for certain.")
    write = sheet._Page.write
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            sheet._Page, "write", lambda page, said, *a, **b: (drawn.append(said), write(page, said, *a, **b))
        )
        batch.write(tmp_path / "batch.pdf", classifier.task, "tiny", sheet.datetime.now().astimezone())
    assert f"and {100 - 20} more: see the table." in drawn
    assert NOTICE in drawn
    assert "19.png" in drawn
    assert "20.png" not in drawn


@pytest.fixture
def people(tmp_path, busi_folder, monkeypatch):
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
def test_a_folder_per_patient(run, people, tiny_checkpoint, more):
    done = run("predict", people, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "folder", *more)
    assert done.status == 0, done.err
    rows = patients()
    assert [(row["patient"], row["scans"]) for row in rows] == [("ward/ann", "2"), ("ward/bea", "2")]
    assert rows[0]["files"] == "ward/ann/0.png; ward/ann/1.png"
    classifier = bcx.load(tiny_checkpoint)
    expected = classifier.combine("x", [classifier.predict(people / "ann" / f"{n}.png") for n in (0, 1)])
    for name, value in expected.probabilities.items():
        assert float(rows[0][f"p_{name}"]) == pytest.approx(value, abs=5e-6)
    assert "2 patients" in done.err


def test_a_table_of_patients(run, people, tiny_checkpoint):
    Path("who.csv").write_text("file;patient\n0.png;one\nward/bea/2.png;one\n1.png;two\n", encoding="utf-8")
    done = run("predict", people, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "who.csv")
    assert done.status == 0, done.err
    assert {row["patient"]: row["scans"] for row in patients()} == {"one": "2", "two": "1"}


@pytest.fixture
def exported(tmp_path, monkeypatch) -> dict[str, str]:
    """A disc as a hospital burns it, made by pydicom, with notes beside: the file of each instance by its UID."""
    monkeypatch.chdir(tmp_path)
    scan = simulate("benign", 1, 120, 140).pixels
    view = Dataset()
    view.CodeMeaning = "transverse"
    said = {
        "1.2.9.1": {"ViewPosition": "ML"},
        "1.2.9.2": {"Laterality": "L", "ImageLaterality": "R", "ViewCodeSequence": [view]},
        "1.2.9.3": {"Laterality": None, "StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.4.1"},
    }
    said["1.2.9.2"]["SeriesInstanceUID"] = "1.2.3.2"
    files = FileSet()
    for uid, tags in said.items():
        files.add(pydicom.dcmread(io.BytesIO(ultrasound(scan, SOPInstanceUID=uid, **tags))))
    files.write(tmp_path / "disc")
    for name in ("README", "VERSION", "PT000000/NOTES", "PT000000/BMI"):
        Path("disc", name).write_text("BMI 22. DICM: see the viewer. <svg is no picture here\n" * 20)
    return {each.SOPInstanceUID: Path(each.path).relative_to(tmp_path).as_posix() for each in files}


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_a_disc_is_listed_by_study_series_laterality_and_view(run, exported, tiny_checkpoint, more):
    Image.fromarray(simulate("benign", 1, 120, 140).pixels).save("disc/plain.png")
    done = run("predict", "disc", "--model", tiny_checkpoint, "--out", "r", "--patients", "study", *more)
    assert done.status == 0, done.err
    assert "skipped 5 files that are no pictures" in done.err
    text = Path("r").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if more else list(csv.DictReader(text.splitlines()))
    assert not any(Path(file).suffix for file in exported.values())
    assert {row["file"]: tuple(row[name] for name in ("study", "series", "laterality", "view")) for row in rows} == {
        "disc/plain.png": ("", "", "", ""),
        exported["1.2.9.1"]: ("1.2.3", "1.2.3.1", "L", "ML"),
        exported["1.2.9.2"]: ("1.2.3", "1.2.3.2", "R", "transverse"),
        exported["1.2.9.3"]: ("1.2.4", "1.2.4.1", "", ""),
    }
    assert [(row["patient"], row["scans"]) for row in patients()] == [("1.2.3", "2"), ("1.2.4", "1")]


def test_a_zipped_disc_is_listed_alike(exported):
    shutil.make_archive("zipped", "zip", ".", "disc")
    assert {found.file for found in find(["zipped.zip"]).pictures} == {
        f"zipped.zip/{file}" for file in exported.values()
    }


@pytest.mark.filterwarnings("ignore:.*nvalid value", "ignore:The value length")
@pytest.mark.parametrize("away", [["..", "outside", "IM1"], ["{here}/outside/IM1"], ["LINK", "IM1"]])
def test_no_directory_of_a_disc_leads_outside_of_it(run, exported, tiny_checkpoint, away, tmp_path):
    (tmp_path / "outside").mkdir()
    shutil.copy(exported["1.2.9.1"], "outside/IM1")
    Path("disc/LINK").symlink_to(tmp_path / "outside", target_is_directory=True)
    away = [part.format(here=tmp_path) for part in away]
    assert Path("disc", *away).samefile("outside/IM1")
    listed = pydicom.dcmread("disc/DICOMDIR")
    for record in listed.DirectoryRecordSequence:
        if "ReferencedFileID" in record:
            record.ReferencedFileID = away
    listed.save_as("disc/DICOMDIR")
    done = run("predict", "disc", "--model", tiny_checkpoint, "--out", "r")
    assert done.status == 0, done.err
    rows = list(csv.DictReader(Path("r").read_text("utf-8").splitlines()))
    assert sorted(row["file"] for row in rows) == sorted(exported.values())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--patients", "folder"), "without a table of scans"),
        (("--patients", "none.csv", "--out", "r.csv"), "folder, study, or a CSV table"),
        (("--patients", "wrong.csv", "--out", "r.csv"), "None of the 4 files is in 'wrong.csv'"),
    ],
)
def test_what_cannot_be_grouped_is_said_before_anything_is_answered(run, people, tiny_checkpoint, options, said):
    Path("wrong.csv").write_text("file,patient\nother.png,one\n", encoding="utf-8")
    done = run("predict", people, "--model", tiny_checkpoint, *options)
    assert done.status in (1, 2)
    assert said in " ".join(done.err.split())
    assert not Path("r.csv").exists()


def test_scans_that_cannot_be_read_are_said_in_their_patients_row(run, people, tiny_checkpoint):
    (people / "ann" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (people / "cleo").mkdir()
    (people / "cleo" / "broken.png").write_bytes(b"")
    done = run("predict", people, "--model", tiny_checkpoint, "--out", "r.csv", "--patients", "folder")
    assert done.status == 1
    rows = {row["patient"]: row for row in patients()}
    assert set(rows) == {"ward/ann", "ward/bea", "ward/cleo"}
    assert "Could not be read: ward/ann/broken.png." in rows["ward/ann"]["reason"]
    assert rows["ward/ann"]["scans"] == "2"
    assert (rows["ward/cleo"]["decision"], rows["ward/cleo"]["scans"]) == ("", "0")
    assert "1 without a scan that can be read" in done.err


@pytest.mark.parametrize(("out", "table"), [("who.csv", "who.csv"), ("r.csv", "r.patients.csv")])
def test_the_table_of_patients_is_not_written_over(run, people, tiny_checkpoint, out, table):
    Path(table).write_text("file,patient\n0.png,one\n", encoding="utf-8")
    done = run("predict", people, "--model", tiny_checkpoint, "--out", out, "--patients", table)
    assert done.status == 2
    assert "would be written over" in done.err
    assert Path(table).read_text("utf-8").startswith("file,patient")


def test_a_resumed_run_has_the_same_patients(run, people, tiny_checkpoint):
    command = ("predict", people, "--model", tiny_checkpoint, "--out", "r.jsonl", "--json", "--patients", "folder")
    assert run(*command).status == 0
    before = patients()
    assert run(*command).status == 0
    assert patients() == before
    assert len([json.loads(line) for line in Path("r.jsonl").read_text("utf-8").splitlines()]) == 4
