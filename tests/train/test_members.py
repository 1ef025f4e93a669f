"""Ensembles while training: each member by its own recipe, none twice, all of them in what is measured and shipped."""

from __future__ import annotations

import json

import pytest
import torch

import bcx.train.members as module
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import ConfigError
from bcx.inference.classifier import Classifier
from bcx.networks.build import forward_maps
from bcx.networks.ensemble import LesionEnsemble
from bcx.tasks import get_task
from bcx.train.config import LesionRecipe, Recipe, load_recipe
from bcx.train.crossval import crossval
from bcx.train.fit import fit, run_fingerprint
from bcx.train.members import fit_network
from bcx.train.runs import earlier_seconds
from bcx.train.ship import train_checkpoint

TASK = get_task("breast-ultrasound")
RECIPE = Recipe(
    name="two",
    arch="mobilenetv2_035",
    init="scratch",
    size=64,
    batch_size=16,
    precision="fp32",
    epochs=1,
    folds=2,
    lesion=LesionRecipe(enlarge=False),
    members=({}, {"name": "other", "seed": 3, "epochs": 2, "lesion": {"presence": 1.0}}),
)


@pytest.fixture(scope="module")
def records(busi_folder):
    return assign_folds(read_source("mine", busi_folder, task=TASK), k=2)


def test_a_members_recipe_is_the_ensembles_with_its_own_settings_laid_over():
    first, second = RECIPE.member_recipes()
    assert first.model_dump(exclude={"members"}) == RECIPE.model_dump(exclude={"members"})
    assert not second.members
    assert (second.name, second.seed, second.epochs, second.size) == ("other", 3, 2, 64)
    assert second.lesion == LesionRecipe(enlarge=False, presence=1.0)
    assert not RECIPE.model_copy(update={"members": ()}).member_recipes()


def test_a_run_of_one_member_is_the_run_of_its_recipe(records):
    alone = RECIPE.model_copy(update={"members": ()})
    assert run_fingerprint(RECIPE.member_recipes()[0], records, []) == run_fingerprint(alone, records, [])
    assert run_fingerprint(RECIPE, records, []) != run_fingerprint(alone, records, [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("members: [{seed: 1}]\nlesion: {}\n", "at least two"),
        ("members: [{}, {seed: 1}]\n", "lesion head"),
        ("members: [{}, {size: 64}]\nlesion: {}\n", "size"),
        ("members: [{}, {arch: resnet50}]\nlesion: {}\n", "arch"),
        ("members: [{lesion: null}, {}]\nlesion: {}\n", "first of them"),
        ("members: [{}, {lesion: null}]\nlesion: {}\npicture: {presence: 2}\n", "picture.presence"),
        ("members: [{}, {sede: 1}]\nlesion: {}\n", "sede"),
    ],
)
def test_members_that_cannot_answer_together_are_refused(tmp_path, text, told):
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=told):
        load_recipe(file)


@pytest.mark.slow
def test_members_are_trained_once_and_answer_as_if_trained_alone(records, tmp_path, monkeypatch):
    train = records[: len(records) // 2]
    told = []
    fitted = fit_network(RECIPE, train, out=tmp_path / "run", on_epoch=lambda row, epochs: told.append((row, epochs)))
    assert isinstance(fitted.network, LesionEnsemble)
    assert [(row["member"], row["epoch"], epochs) for row, epochs in told] == [(0, 1, 3), (1, 1, 3), (1, 2, 3)]
    assert [(row["member"], row["epoch"]) for row in fitted.history] == [(0, 1), (1, 1), (1, 2)]
    assert earlier_seconds(tmp_path / "run") > 0

    alone = fit(RECIPE.member_recipes()[1], train, out=tmp_path / "alone")
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = forward_maps(alone.network, batch).logits
    # What is kept is rounded.
    torch.testing.assert_close(forward_maps(fitted.network.members[1], batch).logits, expected, atol=1e-2, rtol=1e-2)

    monkeypatch.setattr(module, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = fit_network(RECIPE, train, out=tmp_path / "run")
    torch.testing.assert_close(forward_maps(again.network, batch).logits, forward_maps(fitted.network, batch).logits)


@pytest.mark.slow
def test_an_ensemble_is_measured_ships_and_answers(records, tmp_path):
    results = crossval(RECIPE, records, out=tmp_path / "results", command="bcx crossval")
    assert results["one_view"]["accuracy"]["n"] == len(records)
    folder = train_checkpoint(RECIPE, records, tmp_path / "two", command="bcx train", measured=tmp_path / "results")
    assert not list(folder.glob("member-*"))
    rows = (folder / "history.csv").read_text().splitlines()
    assert rows[0].startswith("member,epoch,")
    assert len(rows) == 4
    loaded = load_checkpoint(folder)
    assert isinstance(loaded.network, LesionEnsemble)
    assert json.loads((folder / "config.json").read_text())["bcx"]["members"] == 2
    answer = Classifier(loaded).predict(records[0].file)
    assert answer.lesion is not None
    assert set(answer.probabilities) == set(TASK.classes)
