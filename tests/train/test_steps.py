"""The steps that a progress bar counts are those that a training takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bcx.data.readers import read_source
from bcx.tasks import get_task
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.heads import training_side
from bcx.train.steps import training_steps

TASK = get_task("breast-ultrasound")
SMALL = {"arch": "mobilenetv2_035", "init": "scratch", "size": 64, "batch_size": 4, "epochs": 3}


@pytest.fixture(scope="module")
def records(busi_folder):
    """Two sources, one three times as large as the other."""
    mine = read_source("mine", busi_folder, task=TASK)
    return [*(replace(record, source="other", key=f"other/{record.key}") for record in mine[::3]), *mine]


@pytest.mark.parametrize(
    "more",
    [{}, {"balance": True}, {"oversample": True}, {"lesion": LesionRecipe()}, {"lesion": LesionRecipe(balance=False)}],
    ids=["each once", "sources balanced", "classes balanced", "lesion", "lesion, each once"],
)
def test_steps_are_those_of_the_training(records, more):
    recipe = Recipe(**SMALL, **more)
    assert training_steps(recipe, records) == 3 * len(training_side(recipe, records, TASK).batches(0))


def test_every_training_of_a_recipe_counts(records):
    one = training_steps(Recipe(**SMALL, lesion=LesionRecipe()), records)
    ways = ("ultrasound-machines", "ultrasound")
    several = Recipe(**SMALL, lesion=LesionRecipe(), members=({"averaged": ways}, {"epochs": 6}))
    assert training_steps(several, records) == 4 * one + one // 3  # and an epoch of pictures for the mean


def test_what_is_kept_aside_does_not_count(records):
    assert training_steps(Recipe(**SMALL, inner_fraction=0.5), records) < training_steps(Recipe(**SMALL), records)
