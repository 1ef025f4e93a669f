"""Comparison of architectures: the plan, one leaderboard over equal folds, and no training twice."""

import csv
import json

import pytest
from safetensors.torch import save_file

import bcx.train.crossval as crossval_module
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import CheckpointError, ConfigError
from bcx.networks.build import build_network
from bcx.studies.compare import SCRATCH, compare, leaderboard_markdown, plan_comparison, starting_weights
from bcx.tasks import get_task
from bcx.train.config import Recipe
from tests.conftest import few_resamples, never

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)
TASK = get_task("breast-ultrasound")
RECIPE = Recipe(name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=1)
ARCHS = ["mobilenetv2_035", "tiny_cnn"]


@pytest.fixture(scope="module")
def records(busi_folder):
    return assign_folds(read_source("mine", busi_folder, task=TASK), k=2)


@pytest.fixture(scope="module")
def compared(records, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "compare"
    entrants = plan_comparison(RECIPE, ARCHS, changes={"tiny_cnn": {"epochs": 2}})
    seen = []
    results = compare(
        entrants,
        records,
        out=out,
        folds=[0, 1],
        command="bcx compare",
        on_epoch=lambda entrant, fold, row, epochs: seen.append((entrant.recipe.arch, fold, row["epoch"])),
    )
    return out, entrants, results, seen


@pytest.mark.slow
def test_every_architecture_runs_the_same_folds(compared):
    out, _, results, seen = compared
    assert seen == [
        *(("mobilenetv2_035", fold, 1) for fold in (0, 1)),
        *(("tiny_cnn", fold, epoch) for fold in (0, 1) for epoch in (1, 2)),
    ]
    for fold in (0, 1):
        files = [
            [line.split(",")[0] for line in (out / arch / f"fold-{fold}" / "oof.csv").read_text().splitlines()]
            for arch in ARCHS
        ]
        assert files[0] == files[1]
    assert results["n"] == 12
    assert (out / "roc.png").is_file()


@pytest.mark.slow
def test_the_leaderboard_says_what_was_measured(compared):
    out, _, results, _ = compared
    stored = json.loads((out / "results.json").read_text())
    assert stored == json.loads(json.dumps(results))
    rows = {row["arch"]: row for row in stored["leaderboard"]}
    assert [row["rank"] for row in stored["leaderboard"]] == [1, 2]
    assert rows["tiny_cnn"]["input"] == 50
    assert rows["tiny_cnn"]["epochs"] == [2, 2]
    assert {row["starting_weights"] for row in rows.values()} == {SCRATCH}
    network = out / "tiny_cnn" / "fold-0" / "network" / "model.safetensors"
    assert rows["tiny_cnn"]["bytes"] == network.stat().st_size
    assert rows["mobilenetv2_035"]["times_base"] == 1
    for arch, row in rows.items():
        own = json.loads((out / arch / "results.json").read_text())
        # crossval's own summary of the same answers, at its own temperature
        assert row["figures"]["accuracy"] == own["one_view"]["accuracy"]
        assert row["temperature"] == own["temperature"]
    with (out / "leaderboard.csv").open(newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [line["arch"] for line in table] == [row["arch"] for row in stored["leaderboard"]]
    assert float(table[0]["macro_auc_low"]) <= float(table[0]["macro_auc"]) <= float(table[0]["macro_auc_high"])
    text = (out / "leaderboard.md").read_text()
    assert text == leaderboard_markdown(stored)
    assert "Epochs differ" in text
    assert "Inputs differ" in text
    assert text.count(SCRATCH) == 2


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(compared, records, monkeypatch):
    out, entrants, results, _ = compared

    monkeypatch.setattr(crossval_module, "fit_network", never)
    again = compare(entrants, records, out=out, folds=[0, 1], command="bcx compare")
    assert [row["figures"] for row in again["leaderboard"]] == [row["figures"] for row in results["leaderboard"]]


def test_a_wrong_request_fails_before_any_training():
    for archs in (["resnet18"], ["resnet18", "resnet18"]):
        with pytest.raises(ConfigError, match="at least two different"):
            plan_comparison(RECIPE, archs)
    with pytest.raises(ConfigError, match="settings for vgg11"):
        plan_comparison(RECIPE, ARCHS, inits={"vgg11": "scratch"})
    with pytest.raises(ConfigError, match="mobilenetv2_999"):
        plan_comparison(RECIPE, ["mobilenetv2_035", "mobilenetv2_999"])
    with pytest.raises(ConfigError, match="epochs"):
        plan_comparison(RECIPE, ARCHS, changes={"tiny_cnn": {"epochs": 0}})


def test_starting_weights_are_told_as_they_are(tmp_path):
    plan = plan_comparison(RECIPE, ["mobilenetv2_035", "resnet18", "tiny_cnn"])
    assert [starting_weights(entrant.recipe) for entrant in plan] == [SCRATCH, "ImageNet (timm's a1_in1k)", SCRATCH]
    for outputs, words in ((1000, "ImageNet (start.safetensors)"), (5, "start.safetensors")):
        save_file(build_network("mobilenetv2_035", outputs).state_dict(), tmp_path / "start.safetensors")
        assert starting_weights(RECIPE.model_copy(update={"init": str(tmp_path / "start.safetensors")})) == words


def test_weights_that_cannot_be_fetched_are_told_with_both_ways_out(records, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "empty"))
    plan = plan_comparison(RECIPE, ["resnet18", "mobilenetv2_035"])
    with pytest.raises(CheckpointError, match=r"--init FILE.*--init scratch"):
        compare(plan, records, out=tmp_path / "out", folds=[0], command="bcx compare")


@pytest.mark.slow
def test_the_command_writes_a_table_and_goes_on(busi_folder, tmp_path, run):
    arguments = f"compare --archs mobilenetv2_035,tiny_cnn --data mine={busi_folder} --init-others scratch --epochs 1 "
    arguments += f"--out {tmp_path} --set arch=mobilenetv2_035 --set init=scratch --set size=48 --set batch_size=8 "
    arguments += "--set precision=fp32 --set folds=2 --folds 0 --set-for tiny_cnn:epochs=2"
    done = run(*arguments.split())
    assert done.status == 0, done.err
    assert "| tiny_cnn | none: from scratch | 50 px | 2 |" in done.out
    command = json.loads((tmp_path / "results.json").read_text())["command"]
    assert "--folds 0" in command
    assert str(busi_folder) not in command
    assert run(*arguments.split()[:-4], "--folds", "7").status == 2
