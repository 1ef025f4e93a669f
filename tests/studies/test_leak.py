"""`bcx leak` from the command line to the table: resumable, without paths, and with the leak where it was put."""

from __future__ import annotations

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

import bcx.studies.leak as module
from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.errors import ConfigError
from bcx.simulate import write_busi_folder
from bcx.studies.leak import leak_study
from bcx.studies.leak_figures import leak_lines
from bcx.tasks import get_task
from bcx.train.config import load_recipe

TASK = get_task("breast-ultrasound")
RECIPE = """
name: tiny
arch: mobilenetv2_035
init: scratch
size: 40
epochs: 1
batch_size: 8
precision: fp32
oversample: true
published: {system: "A system", split: [60, 0, 40], figures: {accuracy: 0.5, auc_normal: 0.75}, differs: ["All of it."]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six scans of each class; two and two of them belong together."""
    folder = write_busi_folder(tmp_path_factory.mktemp("leak") / "scans", per_class=6)
    lines = ["file,group"]
    lines += [f"{label}/{label} ({n}).png,{label}{(n - 1) // 2}" for label in TASK.classes for n in range(1, 7)]
    (folder / "groups.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(RECIPE)
    return file


@pytest.fixture(scope="module")
def measured(folder, config, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "leak"
    words = ["leak", str(config), "--data", f"mine={folder}", "--out", str(out), "--seeds", "0,7", "--set", "folds=3"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "macro_auc, random" in done.output
    return out


def test_the_results_say_what_leaked(measured):
    results = json.loads((measured / "results.json").read_text())
    table = pd.read_csv(measured / "predictions.csv")
    assert len(results["runs"]) == 4
    assert results["seeds"] == [0, 7]
    assert results["predictions"]["rows"] == len(table) == sum(run["n_held"] for run in results["runs"])
    assert {run["n_train"] + run["n_held"] for run in results["runs"]} == {18}
    random, grouped = (table[table["protocol"] == name] for name in ("random", "grouped"))
    assert random["copies_in_training"].sum() > 0
    assert grouped["copies_in_training"].sum() == 0
    assert (table["copies"] == 1).all()
    share = results["protocols"]["random"]["copies"]["in_training"]["value"]
    assert share == pytest.approx((random["copies_in_training"] > 0).mean())
    called = random[[f"logit_{name}" for name in TASK.classes]].to_numpy().argmax(1)
    accuracy = (called == random["label"].map(TASK.classes.index)).mean()
    assert results["protocols"]["random"]["figures"]["accuracy"]["value"] == pytest.approx(accuracy)
    for key in ("command", "recipe", "commit", "versions", "data", "seconds", "leak"):
        assert key in results


def test_no_path_of_this_machine_gets_into_the_results(measured, folder):
    for file in [*measured.glob("*.*"), *measured.glob("runs/*/*")]:
        assert str(folder) not in file.read_text(), file
    assert not list(measured.rglob("*.safetensors"))


def test_a_finished_study_is_not_trained_again_and_another_recipe_is(measured, folder, config, monkeypatch):
    recipe = load_recipe(config)
    records = read_source("mine", folder, task=TASK)
    before = (measured / "predictions.csv").read_bytes()

    def never(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr(module, "fit_network", never)
    again = leak_study(recipe.model_copy(update={"folds": 3}), records, out=measured, command="x", seeds=(0, 7))
    assert again is not None
    assert (measured / "predictions.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="trained again"):
        leak_study(recipe.model_copy(update={"lr": 0.1}), records, out=measured, command="x", seeds=(0, 7))
    # a fold that is not asked for is left, and the summary with it
    assert leak_study(recipe, records, out=measured / "other", command="x", seeds=(0,), only=[5]) is None


def test_the_page_shows_theirs_beside_ours(measured):
    results = json.loads((measured / "results.json").read_text())
    text = "\n".join(leak_lines(results))
    value = results["protocols"]["grouped"]["figures"]["accuracy"]["value"]
    row = next(line for line in text.splitlines() if line.startswith("| accuracy |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == ".500"
    assert cells[3].startswith(f"{value:.3f}".lstrip("0"))
    assert "| ROC-AUC, normal | .750 |" in text
    assert "| ROC-AUC, macro | - |" in text
    assert "- All of it." in text


@pytest.mark.parametrize("seeds", ["one", "", "0,0"])
def test_seeds_that_are_none_are_told(folder, config, seeds, tmp_path):
    with pytest.raises(ConfigError, match="seeds"):
        CliRunner().invoke(
            app,
            [
                "leak",
                str(config),
                "--data",
                f"mine={folder}",
                "--out",
                str(tmp_path),
                "--set",
                "folds=3",
                "--seeds",
                seeds,
            ],
            catch_exceptions=False,
        )
