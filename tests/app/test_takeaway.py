"""What a person takes away of one answer says what the page said, and the last answers open again."""

import dataclasses
from datetime import datetime

import numpy as np
import pytest
from PIL import Image, PdfParser

from bcx.app.classify import past_html
from bcx.app.markup import html
from bcx.app.privacy import MOST_PAST, Chosen, Past, Sessions, kept
from bcx.app.viewer import FILES
from bcx.report import sheet
from bcx.report.words import NOTICE, words
from tests.app.test_answers import Text


@pytest.fixture(scope="module")
def prediction(tiny_lesion, scans):
    found = tiny_lesion.predict(scans["grey.png"])
    flags, spread = ["It looks unlike the others."], dict(zip(found.probabilities, (0.2, 0.5, 0.3), strict=True))
    return dataclasses.replace(found, label="benign", decision="benign", flags=flags, probabilities=spread)


@pytest.fixture(scope="module")
def past(prediction, scans):
    return made_past(prediction, Chosen(scans["grey.png"], "grey.png", "breast-ultrasound"))


def made_past(prediction, chosen) -> Past:
    return Past(*kept(prediction), chosen, datetime.now().astimezone())


def test_the_text_says_what_the_answer_says(past, prediction, tiny_lesion):
    said = sheet.text(prediction, tiny_lesion.task, past.at)
    wanted = (words(prediction, tiny_lesion.task).headline, *tiny_lesion.classes, "It looks unlike the others.")
    for part in (*wanted, prediction.weights_sha256, prediction.scan.sha256, "grey.png, 140 x 110 pixels", NOTICE):
        assert part in said
    assert sheet.MOMENT.format(past.at) in said


def test_what_is_no_scan_gets_neither_probabilities_nor_an_overlay(past, prediction, tiny_lesion):
    none = dataclasses.replace(prediction, decision="not a scan", reason="It is blank.", outlines=False)
    said = sheet.text(none, tiny_lesion.task, past.at)
    assert "It is blank." in said
    assert "%" not in said
    shown, without = (np.asarray(sheet.sheet(each, tiny_lesion.task, past.at)) for each in (prediction, none))
    right = (slice(220, 420), slice(720, 1150))
    assert shown[right].std() > 5
    assert without[right].min() == 255


def test_the_sheet_shows_scan_and_bars(past, prediction, tiny_lesion, tmp_path):
    sheet.write_file("png", prediction, tiny_lesion.task, past.at, tmp_path / "sheet.png")
    drawn = np.asarray(Image.open(tmp_path / "sheet.png"))
    assert drawn.shape[1:] == (1240, 3)
    for colour in tiny_lesion.task.colours:
        rgb = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        assert (drawn == rgb).all(2).sum() > 200
    assert (drawn[-40:] == 255).all()


@pytest.mark.slow
def test_more_words_than_a_page_holds_make_it_longer_and_leave_none_out(past, prediction, tiny_lesion):
    wordy = dataclasses.replace(prediction, flags=["word " * 40 + "x" * 300] * 12)
    assert sheet.sheet(wordy, tiny_lesion.task, past.at).height > 1754


def test_the_pdf_is_one_page_of_a4_with_the_answer_as_text(past, prediction, tiny_lesion, tmp_path):
    sheet.write_file("pdf", prediction, tiny_lesion.task, past.at, tmp_path / "sheet.pdf")
    with PdfParser.PdfParser(str(tmp_path / "sheet.pdf")) as read:
        assert len(read.pages) == 1
        width, height = read.read_indirect(read.pages[0])[b"MediaBox"][2:]
        assert (width / 72 * 25.4, height / 72 * 25.4) == pytest.approx((210, 297), abs=0.5)
        assert PdfParser.decode_text(read.info[b"Subject"]) == sheet.text(prediction, tiny_lesion.task, past.at)


def test_an_answer_opened_again_is_whole(tiny_lesion, tmp_path):
    """A large picture too: its overlay has the picture's own size, and the words say that size."""
    path, task = tmp_path / "large.png", tiny_lesion.task
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 2000), np.uint8)).save(path)
    large = tiny_lesion.predict(path)
    past = made_past(large, Chosen(path, "large.png", task.name))
    assert past.prediction.scan.width < 100, "pixels are read again when they are asked for"
    again = past.open()
    assert again.to_dict() == large.to_dict()
    sheet.write_file("overlay", again, task, past.at, tmp_path / "overlay.png")
    assert Image.open(tmp_path / "overlay.png").size == (2000, 400)
    assert 'data-pick="overlay"' in html.take(FILES, sheet.text(again, task, past.at))
    assert "2000 x 400 pixels" in sheet.text(again, task, past.at)


def test_the_strip_has_the_last_answers_of_this_task_and_ends_with_the_session(past, tiny_lesion, cells_task, tmp_path):
    sessions = Sessions(tmp_path)
    session = sessions.get("page")
    for _ in range(MOST_PAST + 3):
        session.remember(past.open(), past.chosen)
    session.answer = past.prediction
    tags = Text(past_html(session, tiny_lesion.task)).tags
    assert tags.count("button") == 2 * MOST_PAST - 1, "all but the open one can be put beside it"
    assert past_html(session, cells_task) == ""
    sessions.close("page")
    assert not session.past


def test_a_scan_is_kept_as_long_as_one_of_the_last_answers_is_its(past, scans, tmp_path):
    session = Sessions(tmp_path / "sessions").get("page")
    paths = [tmp_path / f"{place}.png" for place in range(MOST_PAST + 2)]
    for path in paths:
        path.write_bytes(scans["grey.png"].read_bytes())
        chosen = Chosen(path, path.name, "breast-ultrasound")
        session.choose(chosen)
        session.remember(past.open(), chosen)
    assert [path.exists() for path in paths] == [False, False, *[True] * MOST_PAST]
    oldest = session.past[-1].chosen
    session.choose(oldest)
    session.remember(past.open(), past.chosen)
    assert oldest.path.exists(), "it is open"


@pytest.fixture
def cells_task():
    from bcx.tasks import get_task

    return get_task("histology-idc")
