"""The whole path of two classes and none absent: folds, thresholds, checkpoint, card, answers, evaluation."""

import json

import pytest
from typer.testing import CliRunner

import bcx
from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.report.card import write_card
from bcx.simulate.histology import simulate_patch
from bcx.tasks import HISTOLOGY_IDC
from bcx.train.config import Recipe
from bcx.train.crossval import crossval, train_checkpoint
from bcx.train.fit import fit
from bcx.trust.claims import NOT_A_SCAN
from bcx.trust.decisions import OperatingPoint
from tests.layouts import write_idc_folder

RECIPE = Recipe(
    name="tiny-idc",
    task="histology-idc",
    arch="mobilenetv2_035",
    init="scratch",
    size=32,
    epochs=1,
    batch_size=8,
    folds=2,
    precision="fp32",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_idc_folder(tmp_path_factory.mktemp("data") / "idc", patients=6, patches=4)


@pytest.fixture(scope="module")
def records(data):
    return assign_folds(read_source("idc", data, task=HISTOLOGY_IDC), 2)


@pytest.fixture(scope="module")
def shipped(records, tmp_path_factory):
    here = tmp_path_factory.mktemp("run")
    results = crossval(RECIPE, records, out=here / "results" / "tiny-idc", command="bcx crossval tiny-idc")
    folder = train_checkpoint(
        RECIPE,
        records,
        here / "checkpoints" / "tiny-idc",
        command="bcx train tiny-idc",
        measured=here / "results" / "tiny-idc",
    )
    return folder, results


@pytest.mark.slow
def test_out_of_fold_figures_and_a_threshold(shipped):
    folder, results = shipped
    assert results["n"] == 48
    assert results["groups"] == 6
    figures = results["decisions"]["sources"]["idc"]
    confusion = figures["confusion"]
    recalls = [confusion[name][name] / sum(confusion[name].values()) for name in HISTOLOGY_IDC.classes]
    assert figures["balanced_accuracy"]["value"] == pytest.approx(sum(recalls) / 2)
    stored = json.loads((folder / "config.json").read_text())["bcx"]
    assert stored["task"] == "histology-idc"
    assert stored["decisions"] == results["decisions"]["rules"]
    assert OperatingPoint.from_dict(stored["decisions"]["operating_point"]).positive == 1


@pytest.mark.slow
def test_the_card_speaks_of_two_classes(shipped):
    text = write_card(shipped[0]).read_text("utf-8")
    assert "None" not in text.replace("None were measured", "")
    assert "The label is negative where P(negative) is at least" in text
    assert "| balanced accuracy |" in text
    assert "IDC patches" in text


@pytest.mark.slow
def test_patches_pass_the_gate_and_are_answered_by_the_threshold(shipped):
    folder, results = shipped
    classifier = bcx.load(folder)
    answer = classifier.predict(simulate_patch("positive", 1))
    assert answer.decision != NOT_A_SCAN
    above = results["decisions"]["rules"]["operating_point"]["normal_above"]
    assert answer.label == ("negative" if answer.probabilities["negative"] >= above else "positive")
    assert answer.maps.shape == (2, 50, 50)


@pytest.mark.slow
def test_evaluate_and_predict_from_the_command_line(shipped, data, tmp_path):
    runner, out = CliRunner(), tmp_path / "found.json"
    done = runner.invoke(app, ["evaluate", "--checkpoint", str(shipped[0]), "--data", f"idc={data}", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "sensitivity_positive" in done.output
    assert "None" not in done.output
    assert json.loads(out.read_text())["n"] == 48
    table = tmp_path / "table.csv"
    done = runner.invoke(app, ["predict", str(data / "101"), "--model", str(shipped[0]), "--out", str(table)])
    assert done.exit_code == 0, done.output
    assert "p_positive" in table.read_text().splitlines()[0]


@pytest.mark.slow
def test_early_stopping_may_watch_the_loss(records, tmp_path):
    recipe = RECIPE.model_copy(update={"inner_fraction": 0.34, "patience": 1, "watch": "loss", "epochs": 4})
    held = {r.group for r in records if r.group in ("idc:101", "idc:102")}
    train, inner = [r for r in records if r.group not in held], [r for r in records if r.group in held]
    history = fit(recipe, train, inner, out=tmp_path).history
    losses = [row["inner_loss"] for row in history]
    best = losses.index(min(losses))
    assert len(history) == 4 or len(history) == best + 2
    assert recipe.identity()["watch"] == "loss"
