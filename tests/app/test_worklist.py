"""The batch as a worklist: order, filters, the person's own labels and what they make of the answers."""

import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from bcx.app import rows
from bcx.errors import ScanError
from bcx.inference.prediction import Failure
from bcx.trust.claims import NOT_A_SCAN, REFER

LABELS = ("normal", "benign", "malignant")


@pytest.fixture(scope="module")
def answer(tiny, scans):
    return tiny.predict(scans["grey.png"])


@pytest.fixture
def make(answer, tiny):
    """From (file, probability of malignant, decision) to a batch that has run; the rest of it is benign."""

    def batch(*given):
        files = [(Path(name), name) for name, *_ in given]
        made = rows.Batch(files, own=rows.own_labels([name for _, name in files], tiny.task))
        for name, p, decision in given:
            probabilities = {"normal": 0.0, "benign": 1 - p, "malignant": p}
            label = "malignant" if p > 0.5 else "benign"
            said = replace(answer, probabilities=probabilities, label=label, decision=decision, flags=[], confidence=p)
            made.rows.append(rows.make_row(said, Path(name), name, tiny.task))
        made.ended = time.monotonic()
        return made

    return batch


def shown(batch, task):
    return re.findall(r'data-row="(\d+)"', rows.rows_html(batch, task))


def test_numbers_in_names_count_and_folders_come_first():
    names = ["b/scan10.png", "a/b/mono2.dcm", "b/scan2.png", "B/scan1.png", "a/mono2.dcm", "scan (2).png", "scan.png"]
    assert sorted(names, key=rows.natural_key) == [
        *("a/b/mono2.dcm", "a/mono2.dcm", "B/scan1.png", "b/scan2.png", "b/scan10.png", "scan.png", "scan (2).png")
    ]
    assert sorted(["9" * 9000, "8" * 9000, "٣", ""], key=rows.natural_key)[0] == ""


def test_rows_are_sorted_by_suspicion_and_by_doubt(make, tiny):
    batch = make(("a", 0.2, "benign"), ("b", 0.9, "malignant"), ("c", 0.55, REFER), ("d", 0.99, NOT_A_SCAN))
    broken = Failure("e", ScanError("Empty.", expected="a scan", remedy="Send it again."))
    batch.rows.append(rows.make_row(broken, Path("e"), "e", tiny.task))
    assert shown(batch, tiny.task) == ["0", "1", "2", "3", "4"]
    batch.order = "suspicion"
    assert shown(batch, tiny.task) == ["1", "2", "0", "3", "4"]
    batch.order = "uncertainty"
    assert shown(batch, tiny.task) == ["2", "0", "1", "3", "4"]
    assert "malignant 55 %" in rows.rows_html(batch, tiny.task)


def test_rows_are_filtered_by_decision_and_text_and_counted(make, tiny):
    batch = make(("ward/a", 0.2, "benign"), ("ward/b", 0.9, "malignant"), ("c", 0.55, REFER), ("d", 0.6, REFER))
    html = rows.counts_html(batch, tiny.task)
    counted = dict(re.findall(r'data-show="([^"]*)"[^>]*>[^<]*<b>([\d,]+)</b>', html))
    assert counted == {"": "4", "normal": "0", "benign": "1", "malignant": "1", REFER: "2"}
    batch.order, batch.decision = "suspicion", REFER
    assert shown(batch, tiny.task) == ["3", "2"]
    batch.order, batch.decision, batch.text = "name", "", "WARD"
    assert shown(batch, tiny.task) == ["0", "1"]
    batch.text = "<nothing>"
    assert "No rows match" in rows.rows_html(batch, tiny.task)


def test_folders_named_like_classes_give_labels(tiny):
    names = ["Benign/a.png", "study.zip/malignant/case 3/b.png", "normal.png", "benign/malignant/c.png", "other/d.png"]
    assert rows.own_labels(names, tiny.task) == {0: "benign", 1: "malignant", 3: "malignant"}


def test_own_labels_are_scored_as_scikit_learn_does(make, tiny):
    rng = np.random.default_rng(3)
    own = [LABELS[1 + place % 2] for place in range(40)]
    p = np.clip([0.3 + 0.4 * (label == "malignant") + rng.normal(0, 0.2) for label in own], 0.01, 0.99)
    said = [REFER if 0.45 < each < 0.55 else "malignant" if each > 0.5 else "benign" for each in p]
    batch = make(*((f"{label}/{i}.png", each, d) for i, (label, each, d) in enumerate(zip(own, p, said, strict=True))))
    html = rows.score_html(batch, tiny.task)
    area = roc_auc_score([label == "malignant" for label in own], p)
    right = sum(a == b for a, b in zip(own, said, strict=True))
    answered = 40 - said.count(REFER)
    assert f"rest: {area:.2f} (" in html
    assert f"{right} of {answered}" in html
    assert f"{said.count(REFER)} referred" in html
    assert "Your labels are" in html
    batch.own.clear()
    assert rows.score_html(batch, tiny.task) == ""


def test_one_class_has_no_roc(make, tiny):
    html = rows.score_html(make(("benign/a", 0.2, "benign"), ("benign/b", 0.9, "malignant")), tiny.task)
    assert "ROC-AUC needs labels of malignant and of another class" in html


def test_a_row_offers_the_persons_own_label(make, tiny):
    batch = make(("a.png", 0.2, "benign"))
    batch.own[0] = "malignant"
    html = rows.rows_html(batch, tiny.task)
    assert '<option value="malignant" selected>' in html
    assert 'aria-label="Your label for a.png"' in html
    assert [row["own_label"] for row in batch.table()] == ["malignant"]


def test_of_thousands_of_rows_a_page_is_drawn(make, tiny):
    batch = make(*((f"case{place}.png", (place % 97) / 97, "benign") for place in range(1200)))
    for order in rows.ORDERS:
        batch.order, batch.decision, batch.text = order, "benign", "case1"
        assert rows.rows_html(batch, tiny.task).count("<li") == rows.PAGE_ROWS
