"""The recipes of histology: they load, build what was published, and run on drawn folders as they stand."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.evaluate.metrics import figure_names
from bcx.simulate.histology import write_breakhis_folder, write_idc_folder
from bcx.tasks import HISTOLOGY_IDC, get_task
from bcx.train.augment import RECIPES
from bcx.train.config import find_recipe, load_recipe
from bcx.train.heads import recipe_network

R2 = {"r2-vgg16": (384, 64), "r2-mobilenetv3": (256, 32), "r2-resnet50": (256, 32)}


def recipe(name):
    return load_recipe(find_recipe(Path(name)))


@pytest.mark.parametrize("name", ["mobilenetv2-idc", "r5-tiny-cnn", *R2])
def test_recipes_fit_their_task(name):
    found = recipe(name)
    task = get_task(found.task)
    assert found.name == name
    assert not task.grey
    assert (found.augmentation or task.augmentation) in RECIPES
    if found.published:
        assert set(found.published.figures) <= set(figure_names(task.classes))


def test_r5_is_what_was_published():
    found = recipe("r5-tiny-cnn")
    assert (found.size, found.epochs, found.batch_size, found.lr, found.patience) == (50, 10, 35, 1e-4, 5)
    assert (found.optimizer, found.watch, found.augment) == ("adam", "loss", 0)
    network, _ = recipe_network(found, HISTOLOGY_IDC)
    kinds = Counter(type(module).__name__ for module in network.modules())
    assert (kinds["Conv2d"], kinds["Linear"]) == (5, 5)
    assert tuple(network.eval()(torch.zeros(1, 3, 50, 50)).shape) == (1, 2)


@pytest.mark.parametrize(("name", "widths"), R2.items())
def test_r2_has_its_heads_on_a_frozen_base(name, widths):
    found = recipe(name)
    assert found.freeze_base
    assert found.dense.widths == widths
    assert found.dense.drops == (0.4, 0.3, 0.2)
    with torch.device("meta"):
        network, backbone = recipe_network(found.model_copy(update={"init": "scratch"}), get_task(found.task))
    own = {id(parameter) for parameter in backbone.parameters()}
    shapes = [p.shape[0] for p in network.parameters() if id(p) not in own and p.ndim == 2]
    assert shapes == [*widths, 2]


@pytest.mark.slow
def test_train_runs_on_breakhis_as_it_stands(tmp_path):
    data = write_breakhis_folder(tmp_path / "data", patients=2, magnifications=(40, 200))
    settings = ["--set", "size=64", "--set", "folds=2", "--set", "freeze_base=false"]
    for name, source, task in (
        ("all", "breakhis", "histology-breakhis"),
        ("near", "breakhis-200x", "histology-breakhis-subtypes"),
    ):
        done = CliRunner().invoke(
            app,
            [
                *("train", "r2-mobilenetv3", "--data", f"{source}={data}", "--init", "scratch", "--epochs", "1"),
                *(*settings, "--set", f"task={task}", "--out", str(tmp_path / name)),
            ],
        )
        assert done.exit_code == 0, done.output
        block = json.loads((tmp_path / name / "config.json").read_text())["bcx"]
        assert block["classes"] == list(get_task(task).classes)
        assert block["training"]["data"][source]["scans"] == (32 if source == "breakhis" else 16)


@pytest.mark.slow
def test_leak_compares_patches_at_random_with_patients(tmp_path):
    data = write_idc_folder(tmp_path / "data", patients=12, patches=3)
    assert len(read_source("idc", data, task=HISTOLOGY_IDC)) == 72
    done = CliRunner().invoke(
        app,
        [
            *("leak", "r5-tiny-cnn", "--data", f"idc={data}", "--epochs", "1", "--seeds", "0"),
            *("--set", "inner_fraction=0.3", "--out", str(tmp_path / "leak")),
        ],
    )
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "leak" / "results.json").read_text())
    assert set(results["protocols"]) == {"random", "grouped"}
    assert "accuracy" in results["leak"]
