"""The search: the outer fold is never read, a kill loses nothing, and the best recipe can be trained."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
import yaml

import bcx.train.tune as module
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import ConfigError
from bcx.tasks import get_task
from bcx.train.config import DenseRecipe, LesionRecipe, Recipe, load_recipe
from bcx.train.tune import apply_values, inner_folds_of, own_values, search_space, tune

TASK = get_task("breast-ultrasound")
RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=2, seed=3
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Simulated scans in two outer folds, those of fold 0 deleted: whoever reads one of them fails."""
    from tests.layouts import write_busi_folder

    folder = write_busi_folder(tmp_path_factory.mktemp("simulated") / "busi", per_class=8)
    found = assign_folds(read_source("mine", folder, task=TASK), k=2)
    for record in found:
        if record.fold == 0:
            record.file.unlink()
            for mask in record.masks:
                mask.unlink()
    return found


@pytest.fixture(scope="module")
def searched(records, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "tune"
    results = tune(RECIPE, records, fold=0, trials=4, inner_folds=2, run_folds=1, out=out, command="bcx tune")
    return out, results


def test_inner_folds_hold_the_training_part_alone(records):
    parts = inner_folds_of(records, 0, 2, seed=0)
    keys = [{record.key for record in part} for part in parts]
    assert keys[0] | keys[1] == {record.key for record in records if record.fold == 1}
    assert not keys[0] & keys[1]
    assert not {r.group for r in parts[0]} & {r.group for r in parts[1]}


@pytest.mark.slow
def test_the_outer_fold_is_never_read(searched, records):
    """Its files are gone, and the search ran to its end; nor does its name stand anywhere in the results."""
    out, results = searched
    assert results["outer_fold"] == {"fold": 0, "scans_never_seen": 12}
    assert results["data"]["mine"]["scans"] == 12
    held = [record.key for record in records if record.fold == 0]
    for file in out.rglob("*"):
        if file.suffix in (".json", ".csv", ".log", ".yaml"):
            assert not any(key in file.read_text() for key in held)


@pytest.mark.slow
def test_the_first_trial_is_the_recipe_as_it_stands(searched):
    out, results = searched
    with (out / "trials.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert float(rows[0]["lr"]) == RECIPE.lr
    assert float(rows[0]["drop"]) == RECIPE.drop
    assert rows[0]["head"] == "linear"
    assert results["recipe_as_it_stood"]["value"] == float(rows[0]["value"])
    best = max((row for row in rows if row["value"]), key=lambda row: float(row["value"]))
    assert results["best"]["value"] == float(best["value"])
    assert results["best"]["trial"] == int(best["trial"])
    assert len({row["lr"] for row in rows}) == 4  # each trial drew settings of its own


@pytest.mark.slow
def test_a_trial_is_worth_what_its_network_scored_on_the_inner_fold(searched):
    out, results = searched
    recipe = apply_values(RECIPE, results["best"]["values"])
    (history,) = (out / "trials" / module._mark(recipe.identity())).glob("inner-*/history.csv")
    with history.open(newline="") as stream:
        assert results["best"]["value"] == pytest.approx(float(list(csv.DictReader(stream))[-1]["inner_roc_auc"]))
    assert not list(out.rglob("state.safetensors"))


@pytest.mark.slow
def test_the_best_recipe_is_one_that_training_takes(searched):
    out, results = searched
    best = load_recipe(out / "best.yaml")
    assert best == apply_values(RECIPE, results["best"]["values"]).model_copy(update={"init": best.init})
    assert not {"data", "init"} & set(yaml.safe_load((out / "best.yaml").read_text()))


@pytest.mark.slow
def test_more_trials_join_those_that_are_there(searched, records, tmp_path):
    out = shutil.copytree(searched[0], tmp_path / "tune")
    before = (out / "trials.csv").read_text().splitlines()
    ran = []
    results = tune(
        *(RECIPE, records),
        **{"fold": 0, "trials": 5, "inner_folds": 2, "run_folds": 1, "out": out, "command": "bcx tune"},
        on_trial=lambda trial, ended: ran.append((trial.number, ended)),
    )
    assert ran == [(4, 5)]
    after = (out / "trials.csv").read_text().splitlines()
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert sum(results["importance"].values()) == pytest.approx(1, abs=1e-3)
    assert (out / "importance.png").is_file()


@pytest.mark.slow
def test_a_killed_trial_is_taken_up_at_the_epoch_where_it_was(records, tmp_path):
    """The same search, killed after the first epoch of its second trial, ends with the same first two trials."""
    settings = {"fold": 0, "trials": 2, "inner_folds": 2, "run_folds": 1, "command": "bcx tune"}
    tune(RECIPE, records, out=tmp_path / "whole", **settings)

    class Killed(BaseException):
        pass

    def kill(trial, inner, row, epochs):
        if trial == 1:
            raise Killed

    epochs = []
    with pytest.raises(Killed):
        tune(RECIPE, records, out=tmp_path / "cut", on_epoch=kill, **settings)
    tune(
        *(RECIPE, records),
        **settings,
        out=tmp_path / "cut",
        on_epoch=lambda trial, inner, row, count: epochs.append((trial, row["epoch"])),
    )
    assert epochs == [(2, 2)]  # trial 1 failed, its settings went on as trial 2, at the second epoch
    rows = []
    for name in ("whole", "cut"):
        with (tmp_path / name / "trials.csv").open(newline="") as stream:
            done = [row for row in csv.DictReader(stream) if row["state"] == "complete"]
        rows.append([(row["value"], row["lr"], row["head"]) for row in done])
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_another_search_in_the_same_folder_is_refused(searched, records):
    settings = {"trials": 4, "inner_folds": 2, "run_folds": 1, "out": searched[0], "command": "bcx tune"}
    with pytest.raises(ConfigError, match="another recipe"):
        tune(RECIPE.model_copy(update={"epochs": 3}), records, fold=0, **settings)
    shifted = [replace(record, fold=1 - record.fold) for record in records]
    with pytest.raises(ConfigError, match="another recipe"):
        tune(RECIPE, shifted, fold=0, **settings)


@pytest.mark.slow
def test_a_learning_rate_that_breaks_training_ends_its_trial_alone(records, tmp_path, monkeypatch):
    """At a learning rate of 1e30 the loss is no number; the search goes on."""
    drawn = iter([{"lr": 1e30}, {"lr": 1e-4}])
    monkeypatch.setattr(module, "draw_values", lambda trial, space: next(drawn))
    results = tune(
        RECIPE, records, fold=0, trials=2, inner_folds=2, run_folds=1, out=tmp_path / "out", command="bcx tune"
    )
    assert (results["trials"]["pruned"], results["trials"]["complete"]) == (1, 1)


def test_the_space_fits_the_recipe():
    space = search_space(RECIPE)
    assert space["freeze_stages"] == (0, 7)  # the stem and seven stages of MobileNetV2, of which one learns
    assert "lr" not in search_space(RECIPE.model_copy(update={"freeze_base": True}))
    assert "head" not in search_space(RECIPE.model_copy(update={"lesion": LesionRecipe(), "size": 64}))
    assert "head" not in search_space(RECIPE.model_copy(update={"arch": "tiny_cnn"}))
    assert "lr" not in own_values(RECIPE.model_copy(update={"lr": 0.5}), space)


def test_dropout_goes_to_the_head_that_there_is():
    dense = Recipe(dense=DenseRecipe(pool="flatten", widths=(8, 4), drops=(0.1, 0.2, 0.3)))
    assert own_values(dense, search_space(dense))["drop"] == 0.3
    assert apply_values(dense, {"drop": 0.5, "head": "dense"}).dense.drops == (0.1, 0.2, 0.5)
    linear = apply_values(dense, {"drop": 0.5, "head": "linear"})
    assert linear.dense is None
    assert linear.drop == 0.5


@pytest.mark.slow
def test_the_command_writes_a_recipe(busi_folder, tmp_path, run):
    arguments = f"tune --data mine={busi_folder} --fold 0 --trials 1 --inner-folds 2 --run-folds 1 --epochs 1 --out "
    arguments += f"{tmp_path} --set folds=2 --arch mobilenetv2_035 --init scratch --set size=48 --set batch_size=8"
    done = run(*arguments.split())
    assert (done.status, "Best inner ROC-AUC" in done.out) == (0, True)
    assert load_recipe(tmp_path / "best.yaml").arch == "mobilenetv2_035"
    assert str(busi_folder) not in json.loads((tmp_path / "results.json").read_text())["command"]
