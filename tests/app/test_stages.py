"""The lesion map in words: where, how large, none at all, and whether it fits the answer; the layers that show it."""

import dataclasses
import re
from datetime import datetime
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from bcx.app import rows, viewer
from bcx.app.markup import html
from bcx.app.privacy import Sessions
from bcx.app.wiring import Models, Page
from bcx.imaging.crop import Box
from bcx.inference.two_stage import Enlarged
from bcx.report import pictures
from bcx.report import words as wording
from tests.app.test_answers import Text


@pytest.fixture(scope="module")
def prediction(tiny_lesion, scans):
    return tiny_lesion.predict(scans["grey.png"])  # 140 x 110 pixels


WHOLE = Box(0, 0, 140)


@pytest.fixture(scope="module")
def view(tiny_lesion, tmp_path_factory):
    """A viewer of a session's last answer."""
    with gr.Blocks():
        page = Page(Models(tiny_lesion), gr.Dropdown(), Sessions(tmp_path_factory.mktemp("none")))
        on_show = lambda session: viewer.Shown(session.answer, datetime.now().astimezone())  # noqa: E731
        return viewer.Viewer(page, "classify", on_show, gr.HTML())


def show(view, session, prediction, task):
    session.answer = prediction
    return view.show(session, task)


@pytest.fixture
def session(tmp_path):
    return Sessions(tmp_path / "sessions").get("page")


def seen(prediction, first: np.ndarray, second: np.ndarray, box: Box = WHOLE, **changes):
    """The prediction with other lesion maps."""
    enlarged = Enlarged(box, prediction.reading.second.maps, second.astype(np.float32))
    reading = dataclasses.replace(prediction.reading, lesion=first.astype(np.float32), second=enlarged)
    return dataclasses.replace(prediction, reading=reading, **changes)


def spot(*places: tuple[slice, slice], strength: float = 0.95) -> np.ndarray:
    grid = np.full((28, 28), 0.01)
    for place in places:
        grid[place] = strength
    return grid


EVERYWHERE = np.full((28, 28), 0.95)
NOWHERE = np.full((28, 28), 0.02)
UPPER_RIGHT = (slice(3, 8), slice(20, 26))


def test_one_lesion_is_said_with_its_place_and_size(prediction, tiny_lesion):
    said = wording.lesion_words(
        seen(prediction, spot(UPPER_RIGHT), EVERYWHERE, label="benign", decision="benign"), tiny_lesion.task
    )
    assert said.startswith("One lesion found: upper right, ")
    wide, high = (int(part.split()[-1]) for part in said.split("\u00a0%")[:2])
    assert wide == pytest.approx(100 * 6 / 28, abs=4)
    assert high == pytest.approx(100 * 5 / 28, abs=4)
    assert "Yet" not in said


def test_several_places_are_counted(prediction, tiny_lesion):
    two = spot(UPPER_RIGHT, (slice(19, 25), slice(2, 9)))
    said = wording.lesion_words(seen(prediction, two, EVERYWHERE, label="benign", decision="benign"), tiny_lesion.task)
    assert said.startswith("2 lesions found. Largest: lower left, ")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (NOWHERE, NOWHERE),
        (NOWHERE, EVERYWHERE),
        (EVERYWHERE, NOWHERE),
        (spot((slice(0, 5), slice(0, 5))), spot((slice(20, 28), slice(20, 28)))),
    ],
)
def test_no_lesion_is_found_where_the_stages_disagree(prediction, tiny_lesion, first, second):
    answer = seen(prediction, first, second, label="normal", decision="normal")
    said = wording.lesion_words(answer, tiny_lesion.task)
    assert answer.lesion_box is None
    assert said == "No lesion found in both stages."


def test_words_that_do_not_fit_the_answer_say_so(prediction, tiny_lesion):
    none = seen(prediction, NOWHERE, NOWHERE, label="malignant", decision="malignant")
    assert "Yet malignant is more probable" in wording.lesion_words(none, tiny_lesion.task)
    one = seen(prediction, spot(UPPER_RIGHT), EVERYWHERE, label="normal", decision="refer")
    assert "looks normal: check this place" in wording.lesion_words(one, tiny_lesion.task)
    claimed = dataclasses.replace(one, decision="normal", outlines=False)
    assert "No lesion found" in wording.lesion_words(claimed, tiny_lesion.task)
    assert claimed.lesion_box is None


def test_nothing_is_laid_over_what_is_no_scan(prediction, tiny_lesion, session, view):
    """Not by the viewer, a row, the report, or a program's overlay."""
    task = tiny_lesion.task
    other = seen(prediction, EVERYWHERE, EVERYWHERE, decision="not a scan", outlines=False)
    assert viewer.stages_html(other, task) == ""
    assert html.maps(other, task) == ""
    values = show(view, session, other, task)
    assert not values[view.controls]["visible"]
    assert "no overlay" in values[view.legend]
    bare = pictures.as_image(other.scan.pixels).convert("RGB")
    assert np.array_equal(pictures.page_overlay(other), bare)
    for layer in (viewer.LESION, *task.classes):
        pair = view.repaint(session, tiny_lesion, layer, 100)[view.slider]
        assert np.array_equal(Image.open(pair[1]), bare)
    scan = dataclasses.replace(other, decision="refer")
    assert pictures.row_picture(other, 72) != pictures.row_picture(scan, 72)


def test_maps_say_what_they_mean_and_where_most_of_it_lies(prediction, tiny_lesion, tiny, scans):
    """Both kinds of lesion are purple on one lesion where the network is sure that it is one: so the words say that."""
    task = tiny_lesion.task
    lesion = seen(prediction, spot(UPPER_RIGHT), EVERYWHERE)
    for label in task.classes:
        said = viewer.evidence_words(lesion, task, label)
        assert said.startswith(f"Purple speaks for {label}, green against it.")
        assert ("for benign and for malignant alike" in said) == (label != task.absent)
        inside = lesion.lesion >= lesion.outline_level
        speaks_for = np.maximum(lesion.class_map(label), 0)
        if speaks_for.any():
            share = int(re.search(r"(\d+)\u00a0% of what speaks for", said)[1])
            assert share == pytest.approx(100 * speaks_for[inside].sum() / speaks_for.sum(), abs=4)
    plain = tiny.predict(scans["grey.png"])
    said = viewer.evidence_words(plain, tiny.task, "benign")
    assert "alike" not in said
    assert "of the picture" in said or "Nothing in this picture" in said


def test_the_card_shows_the_second_stage_with_words_for_those_who_cannot_see(prediction, tiny_lesion, tiny, scans):
    card = viewer.stages_html(prediction, tiny_lesion.task)
    assert Text(card).tags.count("img") == 1
    assert "alt=" in card
    assert "mean of both stages" in Text(card).text
    assert viewer.stages_html(tiny.predict(scans["grey.png"]), tiny.task) == ""


def test_how_much_the_second_stage_enlarges_is_said_where_it_does(prediction, tiny_lesion):
    small = seen(prediction, EVERYWHERE, EVERYWHERE, Box(10, 10, 31))
    assert "enlarged 4.0 times" in viewer.stages_html(small, tiny_lesion.task)
    whole = seen(prediction, EVERYWHERE, EVERYWHERE, Box(0, -15, 140))
    assert "enlarged" not in viewer.stages_html(whole, tiny_lesion.task)


def test_the_enlarged_part_is_what_the_network_read(prediction):
    bare = seen(prediction, NOWHERE, NOWHERE, Box(20, 30, 50))
    size = bare.preprocess.size
    picture = np.asarray(pictures.enlarged_picture(bare).convert("L").resize((size, size)), float)
    part = bare.preprocess.plane(bare.scan.pixels[30:80, 20:70]).astype(float)
    assert np.corrcoef(picture.ravel(), part.ravel())[0, 1] > 0.97


def test_details_show_the_lesion_beside_every_class(prediction, tiny_lesion, tiny, scans):
    maps = html.maps(prediction, tiny_lesion.task)
    assert Text(maps).tags.count("img") == 1 + len(tiny_lesion.classes)
    assert "Second stage" in html.facts(prediction)
    assert "Second stage" not in html.facts(tiny.predict(scans["grey.png"]))


def test_the_lesion_layer_comes_first_and_the_classes_after_it(prediction, tiny_lesion, session, view):
    task = tiny_lesion.task
    shown = show(view, session, prediction, task)
    slider, picker, legend, card = (shown[part] for part in (view.slider, view.layer, view.legend, view.stages))
    assert [value for _, value in picker["choices"]] == [viewer.LESION, *task.classes]
    assert picker["value"] == viewer.LESION
    assert "bcx-key" in legend
    assert "against benign" not in legend
    assert card["visible"]
    assert 0 < slider["slider_position"] <= viewer.LINE
    shown = {}
    for layer in (viewer.LESION, *task.classes):
        painted = view.repaint(session, tiny_lesion, layer, 50)
        shown[layer] = Path(painted[view.slider][1]).read_bytes()
        if layer != viewer.LESION:
            assert viewer.evidence_words(prediction, task, layer) in Text(painted[view.legend]).text
    assert len(set(shown.values())) == len(shown)


def test_a_model_without_a_lesion_map_has_its_classes_alone(tiny, scans, session, view):
    plain = tiny.predict(scans["grey.png"])
    shown = show(view, session, plain, tiny.task)
    slider, picker, legend, card = (shown[part] for part in (view.slider, view.layer, view.legend, view.stages))
    assert [value for _, value in picker["choices"]] == list(tiny.classes)
    assert picker["value"] == plain.label
    assert f"against {plain.label}" in legend
    assert not card["visible"]
    assert slider["slider_position"] == viewer.LINE


def test_the_line_between_the_pictures_does_not_cut_the_second_stage(prediction, tiny_lesion, session, view):
    for x in (-20, 0, 30, 60, 110):
        moved = seen(prediction, EVERYWHERE, EVERYWHERE, Box(x, 10, 30))
        position = show(view, session, moved, tiny_lesion.task)[view.slider]["slider_position"]
        assert 0 < position <= 50
        assert position < max(100 * x / 140, viewer.MARGIN + 0.1)


def test_a_row_shows_the_outline(prediction, tiny_lesion, scans):
    found = seen(prediction, spot(UPPER_RIGHT), EVERYWHERE)
    none = seen(prediction, NOWHERE, NOWHERE)
    rows_made = [rows.make_row(answer, scans["grey.png"], "grey.png", tiny_lesion.task) for answer in (found, none)]
    assert rows_made[0].thumbnail != rows_made[1].thumbnail
    assert float(rows_made[0].cells["lesion_share"]) > 0
    assert rows_made[0].cells["lesion_box"] == " ".join(map(str, found.lesion_box))
    assert (rows_made[1].cells["lesion_share"], rows_made[1].cells["lesion_box"]) == (0.0, "")
    again = rows_made[0].prediction()
    assert np.array_equal(pictures.lesion_picture(again), pictures.lesion_picture(found))


def test_a_large_picture_is_painted_at_the_size_of_a_screen(tiny_lesion, session, view):
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    large = tiny_lesion.predict(noise)
    show(view, session, large, tiny_lesion.task)
    for layer in (viewer.LESION, *tiny_lesion.classes):
        pair = view.repaint(session, tiny_lesion, layer, 50)[view.slider]
        for path in map(Path, pair):
            assert Image.open(path).size == (1400, 1050)
            assert path.stat().st_size < 1_000_000
    assert "lesion" not in vars(large)
    assert len(list(session.folder.iterdir())) <= 4
