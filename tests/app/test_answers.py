"""Answers in words: the right sentence for each decision, nothing unescaped, nothing certain."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bcx
from bcx.app import rows, viewer
from bcx.app.markup import html
from bcx.checkpoints.checkpoint import find_checkpoint
from bcx.errors import UnknownFormat
from bcx.explain.descriptors import describe_lesion
from bcx.report import words as wording
from bcx.simulate import simulate
from bcx.tasks import get_task
from bcx.trust.rule import Decider


class Text(HTMLParser):
    """The text of some HTML, and the names of its tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs) -> None:
        self.tags.append(tag)


@pytest.fixture(scope="module")
def prediction(tiny, scans):
    return tiny.predict(scans["grey.png"])


def decided(prediction, decision: str, reason: str = "Because of this."):
    return dataclasses.replace(prediction, decision=decision, reason=reason)


def test_a_label_is_the_headline_with_its_meaning_and_its_limits(prediction, tiny):
    for label, meaning in zip(tiny.task.classes, tiny.task.meaning, strict=True):
        said = dataclasses.replace(prediction, label=label, decision=label, confidence=0.834)
        text = Text(html.answer(said, tiny.task)).text
        assert label.capitalize() in text
        assert "83 %" in text
        assert meaning in text
        assert "not a diagnosis" in text


def test_not_a_scan_is_the_headline_and_its_probabilities_are_not(prediction, tiny):
    card = html.answer(decided(prediction, "not a scan"), tiny.task)
    text = Text(card).text
    assert "not a breast ultrasound scan" in text
    assert "Because of this." in text
    assert "bcx-bars" not in card
    assert "%" not in text
    assert prediction.label.capitalize() not in text


def unsure(prediction, probabilities, reason="Because of this."):
    names = list(prediction.probabilities)
    said = dict(zip(names, probabilities, strict=True))
    return dataclasses.replace(decided(prediction, "refer", reason), probabilities=said)


def test_refer_names_the_classes_in_question_on_card_and_row(prediction, tiny):
    names = list(prediction.probabilities)
    for probabilities, expected in {
        (0.02, 0.58, 0.40): f"refer: {names[1]} or {names[2]}",
        (0.43, 0.50, 0.07): f"refer: {names[1]}, {names[0]} or {names[2]}",
        (0.01, 0.96, 0.03): "refer to a person",
        (0.01, 0.05, 0.94): f"refer: {names[2]} or {names[1]}",
    }.items():
        found = unsure(prediction, probabilities)
        assert expected.capitalize() in Text(html.answer(found, tiny.task)).text
        row = rows.make_row(found, Path("scan.png"), "scan.png", tiny.task)
        shown = Text(rows.rows_html(rows.Batch([], rows=[row]), tiny.task)).text
        assert expected in shown
        assert "%" not in shown


STORED = json.loads((find_checkpoint(bcx.DEFAULT_MODEL) / "config.json").read_text())["bcx"]["decisions"]


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).filter(sum))
def test_what_cannot_be_ruled_out_is_named(prediction, drawn):
    """By the shipped rule: "refer: benign or normal" must not stand over a scan that may be malignant."""
    task, stored = get_task("breast-ultrasound"), STORED
    probabilities = np.array(drawn) / sum(drawn)
    _, reason = Decider(stored, task).decide(probabilities)
    if reason and probabilities[2] > stored["rule"]["negative_below"]:
        assert "malignant" in wording.referral(unsure(prediction, probabilities, reason), task)


def test_a_persons_box_is_told_as_the_scan_is(prediction, tiny):
    row, task = rows.make_row(prediction, Path("scan.png"), "scan.png", tiny.task), tiny.task
    normal, benign, malignant = task.classes
    for found, said in (
        (unsure(prediction, (0.43, 0.50, 0.07)), f"refer: {benign}, {normal} or {malignant}"),
        (dataclasses.replace(prediction, label=benign, decision=benign, confidence=0.97), "benign 97 %"),
        (decided(prediction, "not a scan"), "not a scan"),
    ):
        shown = Text(rows.rows_html(rows.Batch([], rows=[row], boxed={0: found}), task)).text
        assert f"your box: {said}" in " ".join(shown.split())


def test_flags_and_notes_stand_on_the_card(prediction, tiny):
    scan = dataclasses.replace(prediction.scan, notes=("first page of 2",))
    noted = dataclasses.replace(prediction, flags=["Unlike <the> others."], scan=scan)
    card = html.answer(noted, tiny.task)
    assert "Unlike &lt;the&gt; others." in card
    assert "First page of 2." in Text(card).text
    assert "bcx-doubts" not in html.answer(dataclasses.replace(prediction, flags=[]), tiny.task)


def test_an_example_says_that_it_is_simulated(prediction, tiny):
    assert "simulated" in Text(html.answer(prediction, tiny.task, "benign")).text
    assert "simulated" not in Text(html.answer(dataclasses.replace(prediction, name="a.png"), tiny.task)).text


@pytest.mark.parametrize(("probability", "said"), [(0, "under 1 %"), (1, "over 99 %"), (0.5, "50 %"), (0.994, "99 %")])
def test_percentages_never_claim_certainty(probability, said):
    assert wording.percent(probability) == said


def test_names_and_reasons_cannot_inject_html(prediction, tiny):
    evil = "<script>alert(1)</script>.png"
    said = dataclasses.replace(prediction, name=evil, reason=evil, flags=[evil], decision="refer")
    error = UnknownFormat(evil, expected=evil, remedy=evil)
    for shown in (html.answer(said, tiny.task), html.facts(said), html.failure(error, evil)):
        assert "script" not in Text(shown).tags
        assert evil in Text(shown).text


def test_maps_show_every_class_with_words_for_those_who_cannot_see(prediction, tiny):
    shown = html.maps(prediction, tiny.task)
    assert Text(shown).tags.count("img") == len(tiny.task.classes)
    for name in tiny.task.classes:
        assert f"for and against {name}" in shown
    assert "Green speaks against it" in shown


def test_a_failure_says_what_was_found_expected_and_what_to_do():
    error = UnknownFormat("It is a letter.", expected="a picture", remedy="Send a picture.")
    text = Text(html.failure(error, "letter.png")).text
    for part in ("letter.png", "It is a letter.", "a picture", "Send a picture."):
        assert part in text


def test_a_task_of_ones_own_is_told_without_cancer_and_without_examples_that_it_lacks(prediction):
    task = get_task({"name": "skin", "classes": ["mole", "wart", "scar"], "image_noun": "skin picture"})
    spread = dict(zip(task.classes, (0.2, 0.3, 0.5), strict=True))
    said = dataclasses.replace(prediction, label="scar", decision="scar", probabilities=spread)
    cards = [html.no_picture(task, False), *(html.answer(decided(said, d), task) for d in ("scar", "refer"))]
    for card in cards:
        assert not re.search("cancer|tumour|breast|lump|example", Text(card).text)
    assert "or try an example" in Text(html.no_picture(task, True)).text


@pytest.mark.slow
def test_an_outlined_lesion_is_described_in_terms_and_numbers_and_anything_else_is_not(prediction):
    found = bcx.load().predict(simulate("benign", 1, 300, 360).pixels)
    expected, text = describe_lesion(found), Text(viewer.details_html(found, get_task("breast-ultrasound"))).text
    assert expected is not None
    assert "measured, not read by a radiologist" in text
    for term in (expected.orientation, expected.shape, expected.margin, expected.echo, expected.posterior):
        assert term in text
    assert f"{expected.width:.0f} wide" in text
    for none in (decided(found, "not a scan"), prediction):  # a model without a lesion map
        assert "measured" not in viewer.details_html(none, get_task("breast-ultrasound"))
