"""Recipes: every problem is named, nothing unknown passes, and those that ship load and build what was published."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.errors import ConfigError
from bcx.evaluate.metrics import figure_names
from bcx.tasks import HISTOLOGY_IDC, get_task
from bcx.train.augment import RECIPES
from bcx.train.config import DenseRecipe, LesionRecipe, Published, Recipe, find_recipe, load_recipe
from bcx.train.heads import recipe_network
from tests.layouts import write_breakhis_folder, write_idc_folder

# Generators and the study of their use have recipes of their own kind: tests/studies/synthesis/test_recipes.py.
OTHERS = {"r4-dcgan", "synth-modern", "synth-study"}
CONFIGS = sorted(f for f in (Path(__file__).resolve().parents[2] / "configs").rglob("*.yaml") if f.stem not in OTHERS)


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.stem)
def test_shipped_recipes_are_valid_and_named_after_their_file(file):
    assert load_recipe(file).name == file.stem


def test_the_command_line_wins_and_data_is_merged(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("epochs: 9\nlr: 0.001\ndata: {busi: a, mine: b}\n")
    recipe = load_recipe(file, {"epochs": 2, "data": {"mine": "c"}})
    assert (recipe.epochs, recipe.lr, recipe.data) == (2, 0.001, {"busi": "a", "mine": "c"})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("focal: 2.0\nfreeze_norms: true", ["focal: unknown key", "freeze_norms: unknown key"]),
        ("epoch: 9\nlr: -1\nprecision: fp64", ["epoch:", "lr:", "precision:", "r.yaml"]),
        ("lesion: {enlarged: true}", ["lesion.enlarged:"]),
        ("lesion: {presence_elsewhere: 1.5}", ["lesion.presence_elsewhere:"]),
        ("lesion: {}\npresence_elsewhere: 0", ["'lesion' block"]),
        ("lesion: {presence_elsewhere: .nan}", ["lesion.presence_elsewhere:"]),
        ("lesion: {balance: perhaps}", ["lesion.balance:"]),
        ("lesion: yes", ["lesion:"]),
        ("lesion: {}\nsize: 240", ["multiple of 32"]),
        ("lesion: {}\noversample: true", ["no oversample"]),
        ("lesion: {}\ndense: {}", ["no dense"]),
        ("patience: 3", ["inner_fraction"]),
        ("balance: true\noversample: true", ["choose one"]),
        ("members: [{seed: 1}]\nlesion: {}", ["at least two"]),
        ("members: [{}, {seed: 1}]", ["lesion head"]),
        ("members: [{}, {size: 64}]\nlesion: {}", ["size"]),
        ("members: [{}, {arch: resnet50}]\nlesion: {}", ["arch"]),
        ("members: [{lesion: null}, {}]\nlesion: {}", ["first of them"]),
        ("members: [{}, {sede: 1}]\nlesion: {}", ["sede"]),
        ("averaged: [ultrasound]", ["averaged names two augmentations or more"]),
        ("averaged: [ultrasound, ultrasound]", ["averaged names two augmentations or more"]),
        ("averaged: [ultrasound, plain]\naugmentation: ultrasound", ["averaged names two augmentations or more"]),
        ("dense: {widths: [8], drops: [0.5]}", ["one before each dense layer"]),
        ("published: {system: x, split: [1, 0, 0]}", ["published.split.2"]),
        ("published: {system: x, figure: {}}", ["published.figure"]),
        *((text, []) for text in ("", "- a\n- b", "just words", "epochs: [", "1: 2")),
    ],
)
def test_every_problem_is_named(tmp_path, text, words):
    file = tmp_path / "r.yaml"
    file.write_text(f"{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert all(word in str(caught.value) for word in words)


def test_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "b.yaml")
    with pytest.raises(ConfigError, match="r1-mobilenetv2"):  # those at hand
        load_recipe(Path("r9"))


def test_settings_that_went_are_passed_over_where_stored_recipes_have_their_fixed_value():
    stored = {"focal": 0.0, "freeze_norms": False, "picture": {"presence": 1 / 3, "kind": 1 / 3}}
    assert load_recipe(None, {"epochs": 3, **stored}) == Recipe(epochs=3)


def test_an_empty_lesion_block_is_a_head_of_its_own():
    assert Recipe().lesion is None
    assert load_recipe(None, {"lesion": {}}).lesion == LesionRecipe()
    given = {"balance": False, "presence_elsewhere": 0}
    assert load_recipe(None, {"lesion": given}).lesion == LesionRecipe(**given, enlarge=True)


def test_young_settings_leave_the_mark_of_finished_runs_alone():
    changed = {
        **{"dense": DenseRecipe(), "optimizer": "adam", "schedule": "constant"},
        **{"oversample": True, "freeze_base": True, "augmentation": "turn-zoom"},
    }
    assert not set(changed) & set(Recipe().identity())
    for key, value in changed.items():
        assert key in Recipe(**{key: value}).identity()
    block = Published(system="R3", split=(80, 0, 20), figures={"accuracy": 0.98})
    assert Recipe(published=block).identity() == Recipe().identity()


@pytest.mark.parametrize("name", ["r1-mobilenetv2", "r3-resnet50", "r3-mobilenetv2", "r4-system1"])
def test_published_recipes_run_by_name_and_speak_of_figures_that_bcx_has(name):
    found = recipe(name)
    assert set(found.published.figures) <= set(figure_names(get_task("breast-ultrasound").classes))
    assert found.published.differs


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
    words = ["train", "r2-mobilenetv3", "--data", f"breakhis-200x={data}", "--init", "scratch", "--epochs", "1"]
    for setting in ("size=64", "folds=2", "freeze_base=false", "task=histology-breakhis-subtypes"):
        words += ["--set", setting]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "near")])
    assert done.exit_code == 0, done.output
    block = json.loads((tmp_path / "near" / "config.json").read_text())["bcx"]
    assert block["classes"] == list(get_task("histology-breakhis-subtypes").classes)
    assert block["training"]["data"]["breakhis-200x"]["scans"] == 16


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
