"""Training: what it optimises, what it records, and that a kill changes nothing."""

import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from sklearn.utils.class_weight import compute_class_weight

from bcx.data.readers import read_source
from bcx.errors import ConfigError, SplitError, TrainingError
from bcx.imaging.scan import Scan
from bcx.networks.build import build_network
from bcx.tasks import get_task
from bcx.train.answer import answer_records, stacked_logits
from bcx.train.config import LesionRecipe, Recipe
from bcx.train.fit import _optimizer, fit, freeze_parts, run_fingerprint
from bcx.train.heads import ScanDataset, class_weights, make_preprocess, training_side
from bcx.train.state import STATE_FILE
from tests.layouts import write_busbra_folder

TINY = {
    "arch": "mobilenetv2_035",
    "init": "scratch",
    "size": 48,
    "batch_size": 8,
    "precision": "fp32",
    "lr": 0.001,
    "head_lr": 0.001,
}


def test_class_weights_are_scikit_learns_up_to_the_cap():
    labels = [0] * 2 + [1] * 10 + [2] * 5
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    assert np.allclose(class_weights(labels, 3, cap=100), expected)
    assert class_weights(labels, 3, cap=1.5).tolist() == pytest.approx([1.5, *expected[1:]])
    assert class_weights([1, 1, 2, 2], 3, cap=3).tolist() == pytest.approx(
        [1, 2 / 3, 2 / 3]
    )  # a source without normals


def test_a_training_picture_depends_on_seed_epoch_and_index_only(records):
    task, recipe = get_task("breast-ultrasound"), Recipe(**TINY)
    preprocess = make_preprocess(recipe, build_network("mobilenetv2_035", 3), task)
    data = ScanDataset(records, task, preprocess, augment=1.0, seed=4)
    other = ScanDataset(records, task, preprocess, augment=1.0, seed=4)
    data.epoch = other.epoch = 2
    picture = data[3][0]
    _ = other[0], other[1]
    assert np.array_equal(other[3][0], picture)
    other.epoch = 3
    assert not np.array_equal(other[3][0], picture)


def test_without_augmentation_training_sees_what_serving_sees(records):
    task = get_task("breast-ultrasound")
    preprocess = make_preprocess(Recipe(**TINY), build_network("mobilenetv2_035", 3), task)
    data = ScanDataset(records, task, preprocess, augment=0.0, seed=0)
    for index, record in enumerate(records):
        assert np.array_equal(data[index][0], preprocess.plane(Scan.open(record.file).pixels))
        assert task.classes[data[index][1]] == record.label


def test_a_rise_of_a_single_step_is_scheduled(records):
    recipe = Recipe(**TINY, warmup=0.2)
    optimizer, schedule = _optimizer(recipe, training_side(recipe, records, get_task(recipe.task)), steps=5)
    rates = []
    for _ in range(5):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert np.argmax(rates) == 1
    assert rates[-1] < 0.01 * recipe.lr


@pytest.mark.slow
def test_frozen_stages_do_not_change_and_the_rest_does(records, tmp_path):
    recipe = Recipe(**TINY, epochs=1, freeze_stages=3)
    fitted = fit(recipe, records, out=tmp_path)
    start = build_network("mobilenetv2_035", 3)
    frozen_names = {
        name
        for module in freeze_parts(start, recipe)
        for name, parameter in start.named_parameters()
        if any(parameter is own for own in module.parameters())
    }
    assert frozen_names
    fresh = _initial(recipe)
    for name, value in fitted.network.state_dict().items():
        if name in frozen_names:
            assert torch.equal(value, fresh[name]), name
    assert not torch.equal(fitted.network.classifier.weight, fresh["classifier.weight"])
    with pytest.raises(ConfigError, match="freeze_stages"):
        freeze_parts(build_network("mobilenetv2_035", 3), Recipe(freeze_stages=12))


def _initial(recipe):
    from accelerate.utils import set_seed

    set_seed(recipe.seed)
    return build_network(recipe.arch, 3, drop=recipe.drop, init=recipe.init).state_dict()


@pytest.mark.slow
def test_it_learns_what_can_be_learnt_and_writes_its_history(records, tmp_path):
    """Twelve simulated scans, no augmentation: a network that learns at all can tell them apart by heart."""
    recipe = Recipe(**TINY | {"arch": "resnet10t"}, epochs=12, augment=0.0, drop=0.0, label_smoothing=0.0)
    fitted = fit(recipe, records, out=tmp_path)
    assert fitted.history[-1]["train_loss"] < 0.5 * fitted.history[0]["train_loss"]
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    wanted = {"loss", "accuracy", "precision", "recall", "f1", "roc_auc", "pr_auc", "mcc"}
    assert {f"train_{name}" for name in wanted} <= set(rows[0])
    assert [int(row["epoch"]) for row in rows] == list(range(1, 13))
    flipped = [np.fliplr(Scan.open(record.file).pixels).copy() for record in records]
    plain = fitted.network(torch.stack([fitted.preprocess.tensor(pixels) for pixels in flipped])).numpy()
    mirrored = stacked_logits(answer_records(fitted.network, fitted.preprocess, records, mirror=True), 3)
    np.testing.assert_allclose(mirrored, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_early_stopping_keeps_the_best_epoch_of_the_inner_part(records, tmp_path):
    train, inner = records[::2], records[1::2]
    recipe = Recipe(**TINY, epochs=8, inner_fraction=0.5, patience=1)
    fitted = fit(recipe, train, inner, out=tmp_path)
    scores = [row["inner_roc_auc"] for row in fitted.history]
    best = int(np.argmax(scores))
    assert len(scores) in (8, best + 2)
    logits = stacked_logits(answer_records(fitted.network, fitted.preprocess, inner), 3)
    labels = np.array([get_task(recipe.task).classes.index(r.label) for r in inner])
    accuracy = float((logits.argmax(1) == labels).mean())
    assert accuracy == pytest.approx(fitted.history[best]["inner_accuracy"])


@pytest.mark.slow
def test_one_process_trains_in_one_precision_after_the_other(records, tmp_path, monkeypatch):
    """And each run in its own: bfloat16 rounds, so the same seed ends at other weights.

    Where the processor would only emulate it, what trains is float32.
    """
    ends = []
    for number, (precision, has_it) in enumerate([("fp32", True), ("bf16", True), ("bf16", False)]):
        monkeypatch.setattr("bcx.train.fit.computes_bf16", lambda device, has_it=has_it: has_it)
        recipe = Recipe(**TINY | {"precision": precision}, epochs=1)
        fitted = fit(recipe, records, out=tmp_path / str(number))
        ends.append(torch.cat([parameter.flatten() for parameter in fitted.network.parameters()]))
    assert torch.equal(ends[0], ends[2])
    assert not torch.equal(ends[0], ends[1])


def test_a_group_on_both_sides_is_refused(records, tmp_path):
    with pytest.raises(SplitError):
        fit(Recipe(**TINY, epochs=1), records, records[:1], out=tmp_path)


@pytest.mark.slow
def test_the_snapshot_of_another_run_is_not_continued(records, tmp_path):
    fit(Recipe(**TINY, epochs=1), records, out=tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        fit(Recipe(**TINY, epochs=1, seed=1), records, out=tmp_path)
    with pytest.raises(TrainingError, match="another recipe"):
        fit(Recipe(**TINY, epochs=1), [replace(r, key=r.key + "x") for r in records], out=tmp_path)
    (tmp_path / STATE_FILE).write_bytes(b"not a snapshot")
    with pytest.raises(TrainingError, match="cannot be read"):
        fit(Recipe(**TINY, epochs=1), records, out=tmp_path)


@pytest.mark.slow
def test_kill_minus_nine_and_resume_give_bitwise_the_same_weights(busi_folder, tmp_path, run):
    flags = [f"--set={key}={value}" for key, value in TINY.items() if key not in ("arch", "init")]
    words = ["train", "--data", f"mine={busi_folder}", "--arch", TINY["arch"], "--init", "scratch", "--epochs", "6"]
    words += [*flags, "--set=folds=2", "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    command, quiet = [sys.executable, "-m", "bcx", *words, str(killed)], subprocess.DEVNULL
    process = subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=quiet, stderr=quiet)
    deadline = time.monotonic() + 200
    while not (killed / STATE_FILE).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)  # into the second epoch
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert not (killed / "model.safetensors").exists()
    assert len((killed / "history.csv").read_text().splitlines()) < 7

    for out in (killed, whole):
        assert run(*words, out).status == 0
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert not (killed / STATE_FILE).exists()


class Stopped(Exception):
    """Stands for whatever ends a run in the middle of an epoch."""


@pytest.fixture
def any_precision():
    """Accelerate keeps the first precision of a process; here it is made to forget it, as its own tests do."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw", "adam"])
@pytest.mark.usefixtures("any_precision")
def test_a_lesion_run_that_is_stopped_goes_on_to_bitwise_the_same_weights(records, tmp_path, optimizer):
    recipe = Recipe(**TINY | {"size": 64, "precision": "bf16"}, epochs=3, optimizer=optimizer, lesion=LesionRecipe())
    whole = fit(recipe, records, out=tmp_path / "whole")
    steps = []

    def stop_in_the_third_epoch():
        steps.append(None)
        if len(steps) == 2 * 2 + 1:  # two batches an epoch
            raise Stopped

    with pytest.raises(Stopped):
        fit(recipe, records, out=tmp_path / "stopped", on_batch=stop_in_the_third_epoch)
    rows, counted = [], []
    told = {"on_epoch": lambda row, _: rows.append(row["epoch"]), "on_batch": lambda: counted.append(len(rows))}
    resumed = fit(recipe, records, out=tmp_path / "stopped", **told)
    assert rows == [3]
    assert len(counted) == 3 * 2  # a bar that counts them ends where a whole run's does
    for name, value in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], value), name
    timeless = [
        [{key: value for key, value in row.items() if key != "seconds"} for row in run.history]
        for run in (whole, resumed)
    ]
    assert timeless[0] == timeless[1]


def test_the_lesion_settings_tell_runs_apart_and_plain_runs_keep_their_mark(records):
    plain = Recipe(**TINY)
    # The settings that there were when the first results were stored.
    names = "name task arch size mean std epochs batch_size lr head_lr weight_decay warmup clip drop label_smoothing"
    names += " class_weight_cap freeze_stages augment inner_fraction patience folds seed precision"
    settings = plain.model_dump(include=set(names.split()))
    content = [settings, "scratch", [record.key for record in records], []]
    before = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    assert run_fingerprint(plain, records, []) == before  # of runs made then
    lesion = [Recipe(**TINY | {"size": 64}, lesion=LesionRecipe(balance=balance)) for balance in (False, True)]
    assert len({run_fingerprint(recipe, records, []) for recipe in [plain, *lesion]}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("lesion", [None, LesionRecipe()], ids=["linear", "lesion"])
def test_two_hospitals_train_together_though_one_has_no_normals(records, tmp_path, lesion):
    task = get_task("breast-ultrasound")
    other = read_source("busbra", write_busbra_folder(tmp_path / "busbra", patients=4, seed=1), task=task)
    assert {record.label for record in other} == {"benign", "malignant"}
    recipe = Recipe(**TINY | {"size": 64}, epochs=1, lesion=lesion)
    fitted = fit(recipe, [*records, *other], out=tmp_path / "run")
    logits = stacked_logits(answer_records(fitted.network, fitted.preprocess, other), 3)
    assert logits.shape == (len(other), 3)
    assert np.isfinite(logits).all()


def test_without_context_an_answer_reads_the_lesion_map_and_the_context_of_normals(records, tmp_path):
    recipes = [Recipe(**TINY | {"size": 64}, epochs=1, lesion=LesionRecipe(context=context)) for context in (1, 0)]
    kept, without = (fit(recipe, records, out=tmp_path / str(k)) for k, recipe in enumerate(recipes))
    batch = torch.stack([kept.preprocess.tensor(Scan.open(record.file).pixels) for record in records])
    learned, fixed = kept.network.read(batch), without.network.read(batch)
    assert learned.context.std() > 0
    normal = torch.tensor([record.label == "normal" for record in records])
    assert torch.allclose(fixed.context, learned.context[normal].mean(), atol=1e-5)
    for same in ("lesion", "evidence", "stages"):
        assert torch.equal(getattr(fixed, same), getattr(learned, same))
    assert len({run_fingerprint(recipe, records, []) for recipe in recipes}) == 2
