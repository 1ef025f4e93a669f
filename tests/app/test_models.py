"""The models that a page offers: named at once, loaded when chosen, once, and nothing else."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from bcx.app import wiring
from bcx.app.privacy import Chosen, Sessions
from bcx.app.rows import Batch
from bcx.app.wiring import Models, build_picker, list_examples
from bcx.errors import CheckpointError, RequestError
from bcx.tasks import get_task


@pytest.fixture
def folders(tiny_checkpoint, cells_checkpoint, tmp_path, monkeypatch):
    """At hand: two models beside the default one, and a third whose settings are not to be read."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    other = shutil.copytree(tiny_checkpoint, tmp_path / "other")
    found = {"broken": broken, "cells": cells_checkpoint, "other": other, tiny_checkpoint.name: other}
    monkeypatch.setattr(wiring, "list_checkpoints", lambda: found)
    return found


def test_the_default_comes_first_and_each_is_named_by_its_task(tiny, folders):
    offered = Models(tiny)
    assert build_picker(offered).choices == [
        ("Breast ultrasound: tiny", "tiny"),
        ("broken", "broken"),
        ("Breast tissue under the microscope: cells", "cells"),
        ("Breast ultrasound: other", "other"),
    ]
    assert offered.get("tiny") is tiny  # a folder of the same name does not hide it


def test_a_model_is_loaded_once_however_many_ask(tiny, folders, monkeypatch):
    load, loaded = wiring.load, []
    monkeypatch.setattr(wiring, "load", lambda folder: (loaded.append(folder), load(folder))[1])
    offered = Models(tiny)
    assert loaded == []
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda _: id(offered.get("cells")), range(8)))
    assert len(found) == 1
    assert loaded == [folders["cells"]]
    assert offered.get("cells").task.name == "histology-idc"


@pytest.mark.parametrize("name", ["../tiny", "owner/model", "", "no-such", None, ["tiny"], {"a": 1}])
def test_nothing_but_what_was_offered_is_loaded(tiny, folders, name):
    with pytest.raises(RequestError, match="one of tiny, broken, cells, other"):
        Models(tiny).get(name)


def test_a_damaged_one_says_so_each_time(tiny, folders):
    offered = Models(tiny)
    for _ in range(2):
        with pytest.raises(CheckpointError, match="'broken' is incomplete or damaged"):
            offered.get("broken")


def test_other_models_of_the_task_are_named(tiny, folders):
    offered = Models(tiny)
    assert offered.others("tiny") == ["other"]
    assert offered.others("other") == ["tiny"]
    assert offered.others("cells") == []


def test_examples_are_those_of_the_task(examples_of_both):
    scans, patches = (list_examples(examples_of_both, get_task(n)) for n in ("breast-ultrasound", "histology-idc"))
    assert [example.label for example in scans] == ["normal", "benign", "malignant"]
    assert [example.label for example in patches] == ["negative", "positive"]
    assert all(example.path.parent.name == "histology-idc" for example in patches)
    shutil.rmtree(examples_of_both / "histology-idc")
    assert list_examples(examples_of_both, get_task("histology-idc")) == []


def test_another_model_forgets_answers_and_keeps_files(tiny, scans, tmp_path):
    session = Sessions(tmp_path).get("page")
    first, second = tmp_path / "1.png", tmp_path / "2.png"
    for path in (first, second):
        shutil.copy(scans["grey.png"], path)
    session.choose(Chosen(first, "1.png", tiny.task.name))
    before = Batch([(second, "b.png")], own={0: "benign"}, task=tiny.task.name)
    session.answer, session.batch = tiny.predict(first), before
    session.start_over("other")
    assert (session.model, session.answer) == ("other", None)
    assert before.stop.is_set()
    assert (session.batch.files, session.batch.own, session.batch.rows) == (before.files, {0: "benign"}, [])
    assert session.batch is not before
    assert not session.ended.is_set()
    assert first.exists()
    session.choose(Chosen(second, "2.png", tiny.task.name))
    assert not first.exists()
    session.choose(Chosen(scans["grey.png"], "an example", tiny.task.name, "benign"))
    session.choose(Chosen(scans["photo.jpg"], "another", tiny.task.name, "benign"))
    assert not second.exists()
    assert scans["grey.png"].exists(), "examples are not the session's"
