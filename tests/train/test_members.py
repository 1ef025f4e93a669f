"""Several trainings: members by their own recipes, averaged weights, none twice, and the steps that a bar counts."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

import bcx.train.fit as module
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.errors import ConfigError
from bcx.inference.classifier import Classifier
from bcx.networks.build import forward_maps
from bcx.networks.ensemble import LesionEnsemble
from bcx.studies.compare import plan_comparison
from bcx.tasks import get_task
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.crossval import crossval, train_checkpoint
from bcx.train.fit import (
    average,
    estimate_norms,
    fit,
    fit_network,
    freeze_parts,
    run_fingerprint,
    training_steps,
    write_history,
)
from bcx.train.heads import training_side
from bcx.train.tune import tune

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


@pytest.mark.slow
def test_members_are_trained_once_and_answer_as_if_trained_alone(records, tmp_path, monkeypatch):
    train = records[: len(records) // 2]
    told = []
    fitted = fit_network(RECIPE, train, out=tmp_path / "run", on_epoch=lambda row, epochs: told.append((row, epochs)))
    assert isinstance(fitted.network, LesionEnsemble)
    assert [(row["member"], row["epoch"], epochs) for row, epochs in told] == [(0, 1, 3), (1, 1, 3), (1, 2, 3)]
    assert [(row["member"], row["epoch"]) for row in fitted.history] == [(0, 1), (1, 1), (1, 2)]

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


WAYS = ("ultrasound-machines", "ultrasound")
SETTINGS = {
    **{"name": "mean", "arch": "mobilenetv2_035", "init": "scratch", "size": 64, "batch_size": 16, "epochs": 1},
    **{"precision": "fp32", "folds": 2, "lr": 0.001, "head_lr": 0.001},
}
LINEAR = Recipe(**SETTINGS, averaged=WAYS)
LESION = Recipe(**SETTINGS, averaged=WAYS, lesion=LesionRecipe(enlarge=False))


def norms(network: nn.Module) -> dict[str, _BatchNorm]:
    return {name: part for name, part in network.named_modules() if isinstance(part, _BatchNorm)}


def test_the_trainings_are_the_recipe_with_one_augmentation_each(records):
    machines, usual = LINEAR.averaged_recipes()
    assert (machines.augmentation, usual.augmentation) == ("ultrasound-machines", None)
    assert not machines.averaged
    assert LINEAR.trainings() == [machines, usual]
    assert usual.trainings() == [usual]
    # A training that was run by itself can take part.
    alone = Recipe(**SETTINGS)
    assert run_fingerprint(usual, records, []) == run_fingerprint(alone, records, [])
    assert run_fingerprint(LINEAR, records, []) != run_fingerprint(alone, records, [])
    members = LESION.model_copy(update={"averaged": (), "members": ({"averaged": WAYS}, {"lesion": None, "seed": 2})})
    assert [(part.seed, part.augmentation, part.lesion is None) for part in members.trainings()] == [
        *[(0, "ultrasound-machines", False), (0, None, False)],
        (2, None, True),
    ]


def test_an_unknown_augmentation_among_them_is_told(records, tmp_path):
    recipe = Recipe(**SETTINGS, averaged=("no-such", "ultrasound"))
    with pytest.raises(ConfigError, match="no-such"):
        fit_network(recipe, records, out=tmp_path)


def test_a_search_and_a_comparison_take_one_training_only(records, tmp_path):
    with pytest.raises(ConfigError, match="2 trainings"):
        tune(LINEAR, records, fold=0, trials=1, inner_folds=2, run_folds=1, out=tmp_path, command="bcx tune")
    with pytest.raises(ConfigError, match="2 trainings"):
        plan_comparison(LINEAR, ["mobilenetv2_035", "mobilenetv2_050"])


@pytest.mark.parametrize("recipe", [LINEAR, LESION], ids=["linear", "lesion"])
def test_norms_get_the_mean_over_the_training_pictures_and_frozen_ones_keep_theirs(records, recipe):
    side = training_side(recipe.averaged_recipes()[0].model_copy(update={"freeze_stages": 2}), records, TASK)
    before = {name: norm.running_mean.clone() for name, norm in norms(side.network).items()}
    frozen = freeze_parts(side.backbone, recipe.model_copy(update={"freeze_stages": 2}))
    untouched = {id(norm) for part in frozen for norm in part.modules() if isinstance(norm, _BatchNorm)}
    # The first norm that learns, watched from outside: what enters it, batch by batch.
    name, first = next((name, norm) for name, norm in norms(side.network).items() if id(norm) not in untouched)
    seen = []
    handle = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    estimate_norms(side, frozen)
    handle.remove()
    assert len(seen) == len(side.batches(0))
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in seen]).mean(0)
    spread = torch.stack([batch.var((0, 2, 3), unbiased=True) for batch in seen]).mean(0)
    torch.testing.assert_close(first.running_mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(first.running_var, spread, atol=1e-5, rtol=1e-4)
    assert not side.network.training
    for key, norm in norms(side.network).items():
        kept = torch.equal(norm.running_mean, before[key])
        assert kept == (id(norm) in untouched), key
    # No chance is in it: dropout is off.
    again = {key: norm.running_var.clone() for key, norm in norms(side.network).items()}
    estimate_norms(side, frozen)
    assert all(torch.equal(norm.running_var, again[key]) for key, norm in norms(side.network).items())
    assert name in before


@pytest.mark.slow
def test_trainings_run_once_and_their_weights_are_averaged(records, tmp_path, monkeypatch):
    told, steps = [], []
    calls = {"on_epoch": lambda row, epochs: told.append((row, epochs)), "on_batch": lambda: steps.append(1)}
    fitted = fit_network(LESION, records, out=tmp_path / "run", **calls)
    assert len(steps) == training_steps(LESION, records)
    assert [(row["training"], row["epoch"], epochs) for row, epochs in told] == [(0, 1, 2), (1, 1, 2)]
    assert [row["training"] for row in fitted.history] == [0, 1]
    alone = [fit(part, records, out=tmp_path / f"alone-{k}") for k, part in enumerate(LESION.averaged_recipes())]
    weights = [dict(part.network.named_parameters()) for part in alone]
    for name, value in fitted.network.named_parameters():
        # What is kept of a training is rounded.
        torch.testing.assert_close(value, (weights[0][name] + weights[1][name]) / 2, atol=2e-3, rtol=2e-3)
    expected = average(LESION.averaged_recipes()[0], [part.network for part in alone], records)
    batch = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    answer = forward_maps(fitted.network, batch).logits
    torch.testing.assert_close(answer, forward_maps(expected, batch).logits, atol=1e-2, rtol=1e-2)

    monkeypatch.setattr(module, "fit", lambda *_, **__: pytest.fail("trained again"))
    again = fit_network(LESION, records, out=tmp_path / "run", on_batch=lambda: steps.append(1))
    assert len(steps) == 2 * training_steps(LESION, records)  # what was done earlier is told at once
    torch.testing.assert_close(forward_maps(again.network, batch).logits, answer)


@pytest.mark.slow
def test_a_member_may_be_a_mean_and_ships_as_one_network(records, tmp_path):
    recipe = Recipe(**SETTINGS, lesion=LesionRecipe(enlarge=False), members=({"lesion": {}}, {"averaged": WAYS}))
    folder = train_checkpoint(recipe, records, tmp_path / "shipped", command="bcx train")
    assert not list(folder.glob("member-*"))
    with (folder / "history.csv").open(newline="") as stream:
        rows = [(row["member"], row["training"], row["epoch"]) for row in csv.DictReader(stream)]
    assert rows == [("0", "", "1"), ("1", "0", "1"), ("1", "1", "1")]
    loaded = load_checkpoint(folder)
    assert isinstance(loaded.network, LesionEnsemble)
    assert len(loaded.network.members) == 2
    assert set(Classifier(loaded).predict(records[0].file).probabilities) == set(TASK.classes)


def test_a_history_of_members_of_different_kinds_has_a_column_for_each(tmp_path):
    write_history(tmp_path / "history.csv", [{"member": 0, "epoch": 1}, {"member": 1, "training": 0, "epoch": 1}])
    assert (tmp_path / "history.csv").read_text().splitlines() == ["member,epoch,training", "0,1,", "1,1,0"]


SMALL = {"arch": "mobilenetv2_035", "init": "scratch", "size": 64, "batch_size": 4, "epochs": 3}


@pytest.fixture
def two_sources(records):
    """One is three times as large as the other."""
    return [*(replace(record, source="other", key=f"other/{record.key}") for record in records[::3]), *records]


@pytest.mark.parametrize(
    "more",
    [{}, {"balance": True}, {"oversample": True}, {"lesion": LesionRecipe()}, {"lesion": LesionRecipe(balance=False)}],
    ids=["each once", "sources balanced", "classes balanced", "lesion", "lesion, each once"],
)
def test_steps_are_those_of_the_training(two_sources, more):
    recipe = Recipe(**SMALL, **more)
    assert training_steps(recipe, two_sources) == 3 * len(training_side(recipe, two_sources, TASK).batches(0))


def test_every_training_of_a_recipe_counts(two_sources):
    one = training_steps(Recipe(**SMALL, lesion=LesionRecipe()), two_sources)
    ways = ("ultrasound-machines", "ultrasound")
    several = Recipe(**SMALL, lesion=LesionRecipe(), members=({"averaged": ways}, {"epochs": 6}))
    assert training_steps(several, two_sources) == 4 * one + one // 3  # and an epoch of pictures for the mean


def test_what_is_kept_aside_does_not_count(two_sources):
    assert training_steps(Recipe(**SMALL, inner_fraction=0.5), two_sources) < training_steps(
        Recipe(**SMALL), two_sources
    )
