"""The leak: two cuts with the same sizes, and the command from a recipe to the table: resumable, without paths."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import bcx.studies.leak as module
from bcx.cli.main import app
from bcx.data.busi import busi_rows
from bcx.data.readers import read_source
from bcx.data.records import Record
from bcx.errors import ConfigError, SplitError
from bcx.studies.leak import cut, leak_study, plan_protocols
from bcx.tasks import get_task
from bcx.train.config import Published, Recipe, load_recipe
from tests.conftest import few_resamples, never
from tests.layouts import write_busi_folder

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
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
published: {system: "A system", split: [60, 0, 40]}
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_no_path_of_this_machine_gets_into_the_results(measured, folder):
    for file in [*measured.glob("*.*"), *measured.glob("runs/*/*")]:
        assert str(folder) not in file.read_text(), file
    assert not list(measured.rglob("*.safetensors"))


@pytest.mark.slow
def test_a_finished_study_is_not_trained_again_and_another_recipe_is(measured, folder, config, monkeypatch):
    recipe = load_recipe(config)
    records = read_source("mine", folder, task=TASK)
    before = (measured / "predictions.csv").read_bytes()

    monkeypatch.setattr(module, "fit_network", never)
    again = leak_study(recipe.model_copy(update={"folds": 3}), records, out=measured, command="x", seeds=(0, 7))
    assert again is not None
    assert (measured / "predictions.csv").read_bytes() == before
    with pytest.raises(AssertionError, match="trained again"):
        leak_study(recipe.model_copy(update={"lr": 0.1}), records, out=measured, command="x", seeds=(0, 7))
    # a fold that is not asked for is left, and the summary with it
    assert leak_study(recipe, records, out=measured / "other", command="x", seeds=(0,), only=[5]) is None


@pytest.mark.parametrize("seeds", ["one", "", "0,0"])
def test_seeds_that_are_none_are_told(folder, config, seeds, tmp_path):
    words = ["leak", str(config), "--data", f"mine={folder}", "--out", str(tmp_path), "--seeds", seeds]
    with pytest.raises(ConfigError, match="seeds"):
        CliRunner().invoke(app, [*words, "--set", "folds=3"], catch_exceptions=False)


@pytest.fixture(scope="module")
def busi():
    """BUSI's own rows: names, labels and groups, no pictures."""
    rows = [row for row in busi_rows() if row.split == "dev"]
    return [
        Record(Path(row.file), f"busi/{row.file}", row.label, f"busi:{row.group}", "busi", fold=row.fold)
        for row in rows
    ]


def counts(part):
    return Counter(record.label for record in part)


@pytest.mark.parametrize("sizes", [(499, 125, 156), (80, 0, 20), (1.0,) * 10], ids=["R1", "R3", "R4"])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_cuts_have_the_same_sizes_class_by_class(busi, sizes, seed):
    random, grouped = (cut(busi, sizes, seed, grouped=flag) for flag in (False, True))
    assert [counts(part) for part in random] == [counts(part) for part in grouped]
    assert sorted(r.key for part in grouped for r in part) == sorted(r.key for r in busi)
    for part, size in zip(random, sizes, strict=True):
        for label, count in counts(busi).items():
            assert abs(counts(part)[label] - count * size / sum(sizes)) < 1
    groups = [{record.group for record in part} for part in grouped]
    assert sum(map(len, groups)) == len(set().union(*groups))
    straddling = [{record.group for record in part} for part in random]
    assert sum(map(len, straddling)) > len(set().union(*straddling))


def test_another_seed_is_another_cut_and_the_order_of_records_does_not_matter(busi):
    first = cut(busi, (4, 1), 0, grouped=True)
    assert cut(busi[::-1], (4, 1), 0, grouped=True) == first
    assert cut(busi, (4, 1), 1, grouped=True) != first


def test_every_scan_is_as_likely_as_another_to_be_tested():
    records = [Record(Path(f"{i}"), f"a/{i:02}", "benign", f"a:{i // 2}", "a") for i in range(10)]
    drawn = np.array([[r in cut(records, (3, 2), seed, grouped=True)[1] for r in records] for seed in range(400)])
    # 4 of 10 each time; three standard errors of a share of .4 over 400 draws are .073
    assert np.abs(drawn.mean(0) - 0.4).max() < 0.08
    assert (drawn[:, ::2] == drawn[:, 1::2]).all()


def test_a_group_that_fits_nowhere_goes_where_most_room_is():
    records = [Record(Path(f"{i}"), f"a/{i}", "benign", "a:one" if i < 6 else f"a:{i}", "a") for i in range(9)]
    parts = cut(records, (1, 1, 1), 0, grouped=True)
    assert sorted(map(len, parts)) == [1, 2, 6]
    with pytest.raises(SplitError, match="no benign"):
        cut(records[:6], (1, 1), 0, grouped=True)


def test_the_plan_holds_every_seed_fold_and_protocol(busi):
    folds = plan_protocols(Recipe(folds=3), busi, [0, 5])
    assert [(run.recipe.seed, run.protocol, run.fold) for run in folds[:6]] == [
        *((0, "random", fold) for fold in range(3)),
        *((0, "grouped", fold) for fold in range(3)),
    ]
    assert len({run.folder for run in folds}) == len(folds) == 12
    for run in folds:
        assert len(run.train) + len(run.held) == len(busi)
        assert {record.fold for record in run.held} == {run.fold}
        straddling = {record.group for record in run.train} & {record.group for record in run.held}
        assert bool(straddling) == (run.protocol == "random")

    split = Published(system="R1", split=(499, 125, 156))
    runs = plan_protocols(Recipe(published=split), busi, [0])
    assert [(run.protocol, len(run.train), len(run.held)) for run in runs] == [
        ("random", len(runs[0].train), len(runs[0].held)),
        ("grouped", len(runs[0].train), len(runs[0].held)),
    ]
    assert abs(len(runs[0].train) - 651 * 499 / 780) < 2
    assert abs(len(runs[0].held) - 651 * 156 / 780) < 2
