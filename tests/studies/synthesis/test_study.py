"""The study: no generator sees what is scored, generated pictures only in training, every figure from the answers."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score

import bcx.studies.synthesis.study as module
from bcx.data.readers import read_source
from bcx.data.splits import assign_folds
from bcx.errors import DataError, SplitError
from bcx.studies.synthesis.generator import load_generator
from bcx.studies.synthesis.quality import scans_of
from bcx.studies.synthesis.recipes import ARMS, StudyRecipe, SynthRecipe, plan_generators, plan_runs
from bcx.studies.synthesis.study import synth_study
from bcx.tasks import get_task
from bcx.train.config import Recipe
from tests.conftest import never

TASK = get_task("breast-ultrasound")
STUDY = StudyRecipe(
    name="tiny",
    generator=SynthRecipe(
        size=16, width=4, noise=8, epochs=1, batch_size=2, precision="fp32", classes=("malignant", "normal")
    ),
    classifier=Recipe(arch="mobilenetv2_035", init="scratch", size=32, batch_size=16, precision="fp32", epochs=1),
    arms=("plain", "synthetic", "synthetic-leaking"),
    folds=(0,),
    seeds=(0, 1),
)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    from tests.layouts import write_busi_folder

    counts = {"benign": 12, "malignant": 8, "normal": 6}
    root = write_busi_folder(tmp_path_factory.mktemp("scans") / "busi", per_class=counts, size=(40, 48))
    return assign_folds(read_source("mine", root, task=TASK), k=2)


@pytest.fixture(scope="module")
def study(tiny_checkpoint):
    return STUDY.model_copy(update={"judge_by": str(tiny_checkpoint)})


@pytest.fixture(scope="module")
def done(study, records, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    results = synth_study(study, records, out=folder / "out", work=folder / "work", command="bcx synth study tiny")
    return results, folder


def test_a_generator_sees_the_training_part_only_but_for_the_leaking_arm(records):
    held = {record.key for record in records if record.fold == 0}
    jobs = plan_generators(STUDY, records)
    assert [job.folder for job in jobs] == ["fold-0/malignant", "fold-0/normal", "all/malignant", "all/normal"]
    for job in jobs:
        seen = {record.key for record in job.records}
        assert (seen & held == set()) if job.fold == 0 else (seen >= held)
    no_leak = STUDY.model_copy(update={"arms": ("plain", "synthetic")})
    assert {job.fold for job in plan_generators(no_leak, records)} == {0}


def test_every_arm_trains_on_the_same_scans_and_only_fills_rare_classes(records, tmp_path):
    study = STUDY.model_copy(update={"arms": tuple(ARMS), "folds": (0, 1)})
    runs = plan_runs(study, records)
    assert len(runs) == len(ARMS) * 2 * 2
    for run in runs:
        counts = {label: sum(r.label == label for r in run.train) for label in TASK.classes}
        assert not {r.group for r in run.train} & {r.group for r in run.held}
        filled = {label: counts["benign"] - counts[label] for label in ("malignant", "normal")}
        assert run.wanted == (filled if ARMS[run.arm].generated else {})
        assert run.recipe.augment == (1.0 if ARMS[run.arm].augmented else 0.0)
        assert run.recipe.oversample == ARMS[run.arm].oversample
        assert run.recipe.seed == run.seed
    with pytest.raises(SplitError, match="Fold 7"):
        synth_study(STUDY.model_copy(update={"folds": (7,)}), records, out=tmp_path, work=tmp_path, command="")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_every_figure_can_be_derived_from_the_answers(done):
    results, folder = done
    written = json.loads((folder / "out" / "tiny.json").read_text())
    assert written["arms"].keys() == {"plain", "synthetic", "synthetic-leaking"}
    table = pd.read_csv(folder / "out" / results["answers"])
    assert table["fold"].eq(0).all()
    for arm, found in written["arms"].items():
        per_seed = []
        for seed in (0, 1):
            rows = table[(table["arm"] == arm) & (table["seed"] == seed)]
            labels = rows["label"].map(TASK.classes.index).to_numpy()
            chances = rows[[f"p_{name}" for name in TASK.classes]].to_numpy()
            chances = chances / chances.sum(1, keepdims=True)
            per_seed.append(
                (
                    accuracy_score(labels, chances.argmax(1)),
                    roc_auc_score(labels, chances, multi_class="ovr"),
                    recall_score(labels, chances.argmax(1), labels=[2], average=None)[0],
                )
            )
        means = np.mean(per_seed, axis=0)
        for name, mean in zip(("accuracy", "macro_auc", "sensitivity_malignant"), means, strict=True):
            assert found["figures"][name]["value"] == pytest.approx(mean, abs=2e-3)
    figures = {row["a"] + row["b"]: row["figures"]["accuracy"]["value"] for row in written["differences"]}
    arms = {name: arm["figures"]["accuracy"]["value"] for name, arm in written["arms"].items()}
    assert figures["syntheticplain"] == pytest.approx(arms["synthetic"] - arms["plain"])
    assert figures["synthetic-leakingsynthetic"] == pytest.approx(arms["synthetic-leaking"] - arms["synthetic"])
    assert (folder / "out" / "tiny.png").is_file()


@pytest.mark.slow
def test_generated_pictures_are_in_training_only_and_stay_in_the_work_folder(done):
    results, folder = done
    assert results["arms"]["plain"]["generated"] == 0
    assert results["arms"]["synthetic"]["generated"] > 0
    scored = pd.read_csv(folder / "out" / results["answers"])["file"]
    assert not scored.str.contains("generated").any()
    assert sorted(file.name for file in (folder / "out").iterdir()) == ["tiny.json", "tiny.png", "tiny.scans.csv"]
    pictures = {file.parent.parent.name for file in (folder / "work" / "pictures").rglob("*.png")}
    assert pictures == {"fold-0", "all"}


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(study, done, records, monkeypatch):
    results, folder = done

    monkeypatch.setattr(module, "fit", never)
    again = synth_study(study, records, out=folder / "out", work=folder / "work", command="bcx synth study tiny")
    assert again["arms"] == results["arms"]
    assert again["quality"] == results["quality"]
    other = study.model_copy(update={"classifier": study.classifier.model_copy(update={"lr": 0.1})})
    with pytest.raises(AssertionError, match="trained again"):
        synth_study(other, records, out=folder / "out", work=folder / "work", command="bcx synth study tiny")


@pytest.mark.slow
def test_quality_stands_against_the_scans_that_each_generator_did_not_see(done, records):
    results, folder = done
    own, leaking = results["quality"]["fold-0/malignant"], results["quality"]["all/malignant"]
    held = sum(r.fold == 0 and r.label == "malignant" for r in records)
    assert (own["held"], leaking["held"]) == (held, 0)
    assert own["train"] == 8 - held
    generator = load_generator(folder / "work" / "generators" / "fold-0" / "malignant" / "generator.safetensors")
    train, kept = scans_of(generator, records)
    assert not {r.group for r in train} & {r.group for r in kept}
    renamed = [replace(r, key=r.key + "x") for r in records]
    with pytest.raises(DataError, match="learnt"):
        scans_of(generator, renamed)
