"""What a person takes away of one answer says what the page said, and the last answers open again."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from PIL import Image, PdfParser

from bcx.app import takeaway
from bcx.app.answers import NOTICE, words
from bcx.app.privacy import MOST_PAST, Sessions
from tests.app.test_answers import Text


@pytest.fixture(scope="module")
def prediction(tiny_lesion, scans):
    found = tiny_lesion.predict(scans["grey.png"])
    flags, spread = ["It looks unlike the others."], dict(zip(found.probabilities, (0.2, 0.5, 0.3), strict=True))
    return dataclasses.replace(found, label="benign", decision="benign", flags=flags, probabilities=spread)


@pytest.fixture(scope="module")
def past(prediction):
    return takeaway.make_past(prediction, "card", "details")


def test_the_text_says_what_the_answer_says(past, prediction, tiny_lesion):
    said = takeaway.text(past, prediction, tiny_lesion.task)
    wanted = (words(prediction, tiny_lesion.task).headline, *tiny_lesion.classes, "It looks unlike the others.")
    for part in (*wanted, prediction.weights_sha256, prediction.scan.sha256, "grey.png, 140 x 110 pixels", NOTICE):
        assert part in said
    assert takeaway.moment(past.at) in said


def test_what_is_no_scan_gets_neither_probabilities_nor_an_overlay(past, prediction, tiny_lesion):
    none = dataclasses.replace(prediction, decision="not a scan", reason="It is blank.", outlines=False)
    said = takeaway.text(past, none, tiny_lesion.task)
    assert "It is blank." in said
    assert "%" not in said
    shown, without = (np.asarray(takeaway.sheet(past, each, tiny_lesion.task)) for each in (prediction, none))
    right = (slice(220, 420), slice(720, 1150))
    assert shown[right].std() > 5
    assert without[right].min() == 255


def test_the_sheet_shows_scan_and_bars(past, prediction, tiny_lesion, tmp_path):
    takeaway.write_file("png", past, prediction, tiny_lesion.task, tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert sheet.shape[1:] == (1240, 3)
    for colour in tiny_lesion.task.colours:
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (sheet == rgb).all(2).sum() > 200
    assert (sheet[-40:] == 255).all()


def test_more_words_than_a_page_holds_make_it_longer_and_leave_none_out(past, prediction, tiny_lesion):
    wordy = dataclasses.replace(prediction, flags=["word " * 40 + "x" * 300] * 12)
    assert takeaway.sheet(past, wordy, tiny_lesion.task).height > 1754


def test_the_pdf_is_one_page_of_a4_with_the_answer_as_text(past, prediction, tiny_lesion, tmp_path):
    takeaway.write_file("pdf", past, prediction, tiny_lesion.task, tmp_path / "sheet.pdf")
    with PdfParser.PdfParser(str(tmp_path / "sheet.pdf")) as read:
        assert len(read.pages) == 1
        width, height = read.read_indirect(read.pages[0])[b"MediaBox"][2:]
        assert (width / 72 * 25.4, height / 72 * 25.4) == pytest.approx((210, 297), abs=0.5)
        assert PdfParser.decode_text(read.info[b"Subject"]) == takeaway.text(past, prediction, tiny_lesion.task)


def test_the_overlay_has_the_picture_s_own_size(tiny_lesion, tmp_path):
    large = tiny_lesion.predict(np.random.default_rng(0).integers(0, 256, (300, 2000), np.uint8))
    past, task = takeaway.make_past(large, "", ""), tiny_lesion.task
    takeaway.write_file("overlay", past, large, task, tmp_path / "overlay.png")
    assert Image.open(tmp_path / "overlay.png").size == (large.scan.width, large.scan.height)
    assert "overlay" in takeaway.buttons_html(past, large, task)
    assert past.prediction.scan.width == 1400
    assert 'data-pick="overlay"' not in takeaway.buttons_html(past, past.prediction, task)
    assert f"{large.scan.width} x {large.scan.height} pixels" in takeaway.text(past, past.prediction, task)


def test_the_strip_has_the_last_answers_of_this_task_and_ends_with_the_session(past, tiny_lesion, cells_task, tmp_path):
    sessions = Sessions(tmp_path)
    session = sessions.get("page")
    session.past.extend([past] * (MOST_PAST + 3))
    html = takeaway.past_html(session.past, tiny_lesion.task)
    assert Text(html).tags.count("button") == MOST_PAST
    assert takeaway.past_html(session.past, cells_task) == ""
    sessions.close("page")
    assert not session.past


@pytest.fixture
def cells_task():
    from bcx.tasks import get_task

    return get_task("histology-idc")
