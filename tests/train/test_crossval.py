"""Cross-validation: nothing leaks, a finished fold is not run twice, every headline figure stands in oof.csv."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

import bcx.train.crossval as module
from bcx.checkpoints.checkpoint import load_checkpoint
from bcx.errors import SplitError, TrainingError
from bcx.inference.classifier import Classifier
from bcx.report.card import write_card
from bcx.tasks import get_task
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.crossval import crossval, split_fold, train_checkpoint
from bcx.train.fit import training_steps
from bcx.trust.calibration import apply_temperature
from tests.conftest import never

TASK = get_task("breast-ultrasound")
RECIPE = Recipe(
    name="tiny", arch="mobilenetv2_035", init="scratch", size=48, batch_size=8, precision="fp32", epochs=1, folds=2
)


@pytest.fixture(scope="module")
def measured(records, tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "tiny"
    assert crossval(RECIPE, records, out=out, command="bcx crossval", only=[1]) is None
    assert not (out / "results.json").exists()
    crossval(RECIPE, records, out=out, command="bcx crossval", leave_out={"first": [records[0].key]})
    return out


def test_a_fold_is_answered_by_a_run_that_never_saw_its_groups(records):
    for fold in (0, 1):
        train, held = split_fold(records, fold)
        assert not {r.group for r in train} & {r.group for r in held}
        assert sorted(r.key for r in train + held) == [r.key for r in records]
    with pytest.raises(SplitError):
        split_fold(records, 7)


def test_a_source_with_fewer_folds_leaves_out_nothing_in_the_last_run(records):
    other = [
        replace(r, file=Path(f"b/{i}"), key=f"b/{i}", group=f"b:{i}", source="b", fold=0) for i, r in enumerate(records)
    ]
    unused = replace(records[0], file=Path("u"), key="u", group="u", fold=None)
    train, held = split_fold([*records, *other, unused], 1)
    assert {r.source for r in held} == {"mine"}
    assert sum(r.source == "b" for r in train) == len(other)
    assert unused not in train


@pytest.mark.slow
def test_every_headline_figure_can_be_derived_from_the_table(measured):
    results = json.loads((measured / "results.json").read_text())
    frame = pd.read_csv(measured / "oof.csv")
    logits = frame[[f"logit_{name}" for name in TASK.classes]].to_numpy()
    probabilities = apply_temperature(logits, results["temperature"])
    labels = frame["label"].map(TASK.classes.index).to_numpy()
    assert results["one_view"]["accuracy"]["value"] == pytest.approx(accuracy_score(labels, probabilities.argmax(1)))
    auc = roc_auc_score(labels, probabilities, multi_class="ovr", average="macro")
    assert results["one_view"]["macro_auc"]["value"] == pytest.approx(auc)
    assert results["without"]["first"]["left_out"] == 1
    assert results["data"]["mine"]["scans"] == len(frame) == 12
    for key in ("command", "recipe", "commit", "versions", "seconds"):
        assert key in results


@pytest.mark.slow
def test_no_path_of_this_machine_gets_into_the_results(measured, busi_folder):
    for file in [measured / "results.json", measured / "oof.csv", *measured.glob("fold-*/*.json")]:
        assert str(busi_folder) not in file.read_text()


@pytest.mark.slow
def test_a_finished_fold_is_not_run_again(measured, records, monkeypatch):
    before = (measured / "oof.csv").read_bytes()

    monkeypatch.setattr(module, "fit_network", never)
    steps = []
    told = {"leave_out": {"first": [records[0].key]}, "on_batch": lambda: steps.append(1)}
    crossval(RECIPE, records, out=measured, command="bcx crossval", **told)
    assert (measured / "oof.csv").read_bytes() == before
    assert len(steps) == sum(training_steps(RECIPE, split_fold(records, fold)[0]) for fold in (0, 1))
    with pytest.raises(AssertionError, match="trained again"):
        crossval(RECIPE.model_copy(update={"lr": 1e-5}), records, out=measured, command="bcx crossval")


@pytest.mark.slow
def test_a_checkpoint_ships_with_what_was_measured(measured, records, tmp_path):
    folder = train_checkpoint(RECIPE, records, tmp_path / "tiny", command="bcx train", measured=measured)
    assert {"config.json", "model.safetensors", "gate.safetensors", "results.json", "oof.csv", "history.csv"} <= {
        file.name for file in folder.iterdir()
    }
    assert not (folder / "state.safetensors").exists()
    results = json.loads((measured / "results.json").read_text())
    checkpoint = load_checkpoint(folder)
    assert checkpoint.temperature == results["temperature"]
    card = write_card(folder).read_text("utf-8")
    accuracy = results["one_view"]["accuracy"]
    assert f"{100 * accuracy['value']:.1f} % ({100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})" in card
    answer = Classifier(checkpoint).predict(records[0].file)
    assert sum(answer.probabilities.values()) == pytest.approx(1)


@pytest.mark.slow
def test_the_lesion_head_is_measured_ships_and_answers(records, tmp_path):
    recipe = RECIPE.model_copy(update={"lesion": LesionRecipe(), "size": 64})
    measured = tmp_path / "measured"
    crossval(recipe, records, out=measured, command="bcx crossval")
    logits = pd.read_csv(measured / "oof.csv")[[f"logit_{name}" for name in TASK.classes]].to_numpy()
    assert logits.shape == (12, 3)
    # The head's own form, -p, p - m and p + m: the mean of the last two is the first with another sign.
    assert abs((logits[:, 1] + logits[:, 2]) / 2 + logits[:, 0]).max() < 1e-4
    folder = train_checkpoint(recipe, records, tmp_path / "tiny", command="bcx train", measured=measured)
    assert (folder / "head.safetensors").is_file()
    answer = Classifier(load_checkpoint(folder)).predict(records[0].file)
    assert answer.lesion.shape == answer.maps.shape[1:]
    assert "lesion head" in write_card(folder).read_text("utf-8")
    with pytest.raises(TrainingError, match="another lesion"):
        train_checkpoint(RECIPE.model_copy(update={"size": 64}), records, tmp_path / "x", command="", measured=measured)


@pytest.mark.slow
def test_figures_of_another_recipe_are_refused(measured, records, tmp_path):
    with pytest.raises(TrainingError, match="another lr"):
        train_checkpoint(
            RECIPE.model_copy(update={"lr": 1e-5}), records, tmp_path / "x", command="bcx train", measured=measured
        )
    with pytest.raises(TrainingError, match=r"no results\.json"):
        train_checkpoint(RECIPE, records, tmp_path / "x", command="bcx train", measured=tmp_path)


def test_without_measurements_the_card_says_so(records, tmp_path):
    """Not marked slow, though it trains: of the quick tests it alone ships a checkpoint."""
    folder = train_checkpoint(RECIPE, records, tmp_path / "bare", command="bcx train")
    assert "None were measured." in write_card(folder).read_text("utf-8")
    assert load_checkpoint(folder).temperature == 1
