"""`bcx predict --report`: the page's sheet for every scan, and one page for the batch."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from PIL import PdfParser

import bcx
from bcx.report import sheet
from bcx.report.words import NOTICE


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
