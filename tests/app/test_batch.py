"""The batch behind the tab: what is taken in, what a row keeps, what can be taken away."""

import secrets
import shutil
import zipfile

import numpy as np
import pandas
import pytest
from PIL import Image

from bcx.app import rows
from bcx.app.privacy import Sessions
from bcx.imaging.names import ARCHIVE, MASK, NO_PICTURE
from bcx.inference import table
from bcx.report.pictures import lesion_picture


@pytest.fixture
def session(tmp_path):
    return Sessions(tmp_path / "sessions").get("page")


def sent(path, session, name=None) -> dict:
    """What Gradio says about an uploaded file; the upload is a copy that the upload route has noted, as it is there."""
    folder = session.folder.parent.parent / "uploads" / secrets.token_hex(8)
    target = folder / "0a1b" / path.name
    target.parent.mkdir(parents=True)
    shutil.copy(path, target)
    session.uploads.note(str(target), folder)
    return {"path": str(target), "orig_name": name or path.name}


def run(session, taken, classifier):
    session.batch = taken
    for _ in rows.run(session, taken, classifier.task, classifier.stream):
        pass
    return taken


def test_every_chosen_file_gets_a_row_in_natural_order(session, scans, tiny, tmp_path):
    names = ["scan2.png", "scan10.png"]
    sources = {"scan2.png": "photo.jpg", "scan10.png": "broken.png"}
    uploads = [sent(scans[sources[name]], session, name) for name in reversed(names)]
    done = run(session, rows.take_in(session, uploads, folder=False), tiny)
    assert [row.cells["file"] for row in done.rows] == names
    assert done.failed == 1
    assert "Expected" in done.rows[1].cells["reason"]
    assert done.rows[0].cells["label"] == tiny.predict(scans["photo.jpg"]).label
    assert done.ended is not None


def test_a_folder_leaves_out_masks_and_files_that_are_no_pictures(session, scans, tmp_path):
    uploads = [
        sent(scans["grey.png"], session),
        sent(scans["grey.png"], session, "grey_mask.png"),
        sent(scans["broken.png"], session, "letter.txt"),
    ]
    taken = rows.take_in(session, uploads, folder=True)
    assert [name for _, name in taken.files] == ["grey.png"]
    assert taken.left_out == [("grey_mask.png", MASK), ("letter.txt", NO_PICTURE)]


def test_what_was_left_out_is_named_when_the_batch_has_ended(session, scans, tiny):
    letters = [sent(scans["broken.png"], session, f"<letter> {number}.txt") for number in range(11)]
    taken = rows.take_in(session, [sent(scans["grey.png"], session), *letters], folder=True)
    assert "left out: 11 files that are no pictures" in rows.progress_html(taken)
    said = rows.progress_html(run(session, taken, tiny))
    assert "<summary>left out: 11 files that are no pictures</summary>" in said
    assert all(f"<li>&lt;letter&gt; {number}.txt: no picture</li>" in said for number in range(11))


def test_a_scan_in_a_folder_that_was_broken_on_its_way_is_a_row(session, scans, tiny):
    uploads = [sent(scans["broken.png"], session, "ward/a.png"), sent(scans["grey.png"], session, "ward/b.png")]
    done = run(session, rows.take_in(session, uploads, folder=True), tiny)
    assert [(row.cells["file"], row.slim is None) for row in done.rows] == [("ward/a.png", True), ("ward/b.png", False)]


def test_an_archive_is_answered_file_by_file(session, scans, tiny, tmp_path):
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.write(scans["grey.png"], "ward/grey.png")
        archive.write(scans["grey.png"], "ward/grey_mask.png")
        archive.writestr("../out.png", scans["grey.png"].read_bytes())
        archive.writestr("ward/notes.txt", "text")
    done = run(session, rows.take_in(session, [sent(tmp_path / "scans.zip", session)], folder=False), tiny)
    assert [row.cells["file"] for row in done.rows] == ["scans.zip/../out.png", "scans.zip/ward/grey.png"]
    assert done.rows[1].cells["p_benign"] == round(tiny.predict(scans["grey.png"]).probabilities["benign"], 6)
    assert "leads out of the archive 'scans.zip'" in done.rows[0].cells["reason"]
    assert dict(done.left_out) == {"scans.zip/ward/grey_mask.png": MASK, "scans.zip/ward/notes.txt": NO_PICTURE}
    assert done.rows[1].prediction().overlay().size == Image.open(scans["grey.png"]).size
    *_, (_, written) = rows.write_overlays(session, done, tiny.classes)
    names = zipfile.ZipFile(written).namelist()
    assert len(names) == 1
    assert names[0].startswith("scans.zip/ward/grey_")
    folder = rows.take_in(session, [sent(tmp_path / "scans.zip", session, "ward/scans.zip")], folder=True)
    assert (folder.files, folder.left_out) == ([], [("ward/scans.zip", ARCHIVE)])


def test_a_row_keeps_no_pixels_and_gives_back_the_same_overlay(session, scans, tiny, tmp_path):
    done = run(session, rows.take_in(session, [sent(scans["grey.png"], session)], folder=False), tiny)
    row = done.rows[0]
    direct = tiny.predict(scans["grey.png"])
    assert row.slim.scan.pixels.size < direct.scan.pixels.size
    again = row.prediction()
    for name in tiny.classes:
        np.testing.assert_allclose(np.asarray(again.overlay(name)), np.asarray(direct.overlay(name)), atol=1)


def test_same_names_stay_apart(session, scans, tmp_path):
    taken = rows.take_in(session, [sent(scans["grey.png"], session), sent(scans["grey.png"], session)], folder=False)
    assert [name for _, name in taken.files] == ["grey.png", "grey (2).png"]


@pytest.mark.parametrize("closed", [False, True])
def test_a_batch_that_is_stopped_or_whose_page_is_closed_keeps_what_is_done(session, scans, tiny, closed):
    taken = rows.take_in(session, [sent(scans["grey.png"], session) for _ in range(5)], folder=False)
    (session.ended if closed else taken.stop).set()
    done = run(session, taken, tiny)
    assert len(done.rows) == 1
    done.started = done.ended - 75
    assert "<strong>1 of 5 files in 1 min 15 s, then stopped</strong>" in rows.progress_html(done)
    done.files *= 250
    assert "1 of 1,250 files in" in rows.progress_html(done)
    done.files = done.files[:1]
    assert "<strong>1 file in 1 min 15 s</strong>" in rows.progress_html(done)


def test_the_zip_holds_the_lesion_too_where_the_model_has_such_a_map(session, scans, tiny_lesion, tmp_path):
    done = run(session, rows.take_in(session, [sent(scans["grey.png"], session)], folder=False), tiny_lesion)
    *_, (count, path) = rows.write_overlays(session, done, tiny_lesion.classes)
    direct = tiny_lesion.predict(scans["grey.png"])
    assert count == 1
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"grey_{direct.label}.png", "grey_lesion.png"]
        with archive.open("grey_lesion.png") as member:
            np.testing.assert_allclose(np.asarray(Image.open(member)), np.asarray(lesion_picture(direct)), atol=1)


def test_file_names_cannot_climb_out_of_the_zip(session, scans, tiny, tmp_path):
    uploads = [sent(scans["grey.png"], session, "../../evil.png"), sent(scans["grey.png"], session, "/abs.png")]
    done = run(session, rows.take_in(session, uploads, folder=False), tiny)
    *_, (_, path) = rows.write_overlays(session, done, tiny.classes)
    for name in zipfile.ZipFile(path).namelist():
        assert not name.startswith("/")
        assert ".." not in name


def test_the_table_is_the_one_that_every_door_writes(session, scans, tiny, tmp_path):
    done = run(session, rows.take_in(session, [sent(scans["grey.png"], session, "=1+1.png")], folder=False), tiny)
    path = tmp_path / "r.csv"
    done.own[0] = "malignant"
    table.write_lines(table.csv_lines(done.table(), [*table.columns(tiny.task), "own_label"]), path)
    read = pandas.read_csv(path)
    assert list(read.columns) == [*table.columns(tiny.task), "own_label"]
    assert read.loc[0, "own_label"] == "malignant"
    assert read.loc[0, "file"] == "'=1+1.png"
    expected = tiny.predict(scans["grey.png"]).probabilities
    for name, value in expected.items():
        assert read.loc[0, f"p_{name}"] == pytest.approx(value, abs=1e-5)


def test_rows_escape_file_names_and_are_shown_in_pages(session, scans, tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PAGE_ROWS", 2)
    uploads = [sent(scans["grey.png"], session, f"<b>{number}.png") for number in range(5)]
    done = run(session, rows.take_in(session, uploads, folder=False), tiny)
    html = rows.rows_html(done, tiny.task)
    assert html.count("<li>") == 2
    assert "<b>0" not in html
    assert "&lt;b&gt;0" in html
    done.page = 2
    assert rows.rows_html(done, tiny.task).count("<li>") == 1
