"""Tasks as data: the built-in ones, and tasks that users bring."""

import json
from dataclasses import replace

import pytest

from bcx.errors import ConfigError
from bcx.tasks import HISTOLOGY_IDC, TASKS, get_task
from bcx.train.augment import RECIPES

OWN = {"name": "mushrooms", "classes": ["edible", "poisonous"]}


@pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
def test_built_in_tasks_are_whole(task):
    assert get_task(task.name) is task
    assert task.stored() == task.name
    assert task.augmentation in RECIPES
    assert len(set(task.colours)) == len(task.classes)
    assert all(sentence.endswith(".") for sentence in task.meaning)
    assert task.grey == (task.name == "breast-ultrasound")


def test_a_task_of_ones_own_needs_a_name_and_classes_alone():
    task = get_task(OWN)
    assert task.classes == ("edible", "poisonous")
    assert (task.positive, task.absent, task.grey, task.tile) == ("poisonous", None, False, None)
    assert task.augmentation in RECIPES
    assert len(set(get_task({"name": "many", "classes": list("abcdefgh")}).colours)) == 8


def test_what_is_stored_reads_back_through_json():
    full = {**OWN, "absent": "edible", "grey": True, "tile": 64, "colours": ["#000000", "#FFFFFF"], "image_noun": "cap"}
    for task in (get_task(OWN), get_task(full), HISTOLOGY_IDC, replace(HISTOLOGY_IDC, tile=100)):
        assert get_task(json.loads(json.dumps(task.stored()))) == task
    # the name alone would lose what is different
    assert isinstance(replace(HISTOLOGY_IDC, tile=100).stored(), dict)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"classes": ["one"]}, "at least two"),
        ({"classes": ["one", "one"]}, "name of its own"),
        ({"classes": "ab"}, "wrong kind"),
        ({"classes": [True, False]}, "wrong kind"),  # what YAML makes of yes and no
        ({"colours": ["#000000"]}, "one colour"),
        ({"positive": "third"}, "positive class"),
        ({"absent": "poisonous"}, "first one"),
        ({"absent": "edible", "positive": "edible"}, "two different"),
        ({"tile": 8}, "16 pixels"),
        ({"tile": True}, "wrong kind"),
        ({"grey": "yes"}, "wrong kind"),
        ({"clases": []}, "clases"),
        ({"name": "../other"}, "wrong kind"),
        ({"classes": ["=1+1", "b"]}, "wrong kind"),
        ({"classes": ["a\nb", "c"]}, "wrong kind"),
        ({"classes": [str(i) for i in range(101)]}, "wrong kind"),
        ({"colours": ["red;}", "#000000"]}, "wrong kind"),
        ({"colours": 3}, "wrong kind"),
        ({"tile": 10**9}, "wrong kind"),
        ({"microns": float("nan")}, "wrong kind"),
        ({"microns": -1}, "wrong kind"),
        ({"name": ""}, "wrong kind"),
    ],
)
def test_what_does_not_fit_is_said(change, words):
    with pytest.raises(ConfigError, match=words):
        get_task({**OWN, **change})


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="histology-idc"):
        get_task("histology")
