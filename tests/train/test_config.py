"""Recipes: every problem is named, nothing unknown passes."""

from pathlib import Path

import pytest

from bcx.errors import ConfigError
from bcx.train.config import LesionRecipe, Recipe, load_recipe

# Generators and the study of their use have recipes of their own kind: tests/synth/test_config.py.
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


def test_every_problem_is_named(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("epoch: 9\nlr: -1\nprecision: fp64\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    for word in ("epoch:", "lr:", "precision:", "r.yaml"):
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "epochs: [", "1: 2"])
def test_a_file_that_is_no_recipe_is_a_config_error(tmp_path, text):
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_recipe(file)


def test_missing_file_and_bytes_that_are_no_text(tmp_path):
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ConfigError):
        load_recipe(tmp_path / "b.yaml")


def test_without_a_lesion_block_the_head_is_the_plain_one_and_an_empty_block_is_a_head_of_its_own(tmp_path):
    file = tmp_path / "r.yaml"
    file.write_text("epochs: 2\n")
    assert load_recipe(file).lesion is None
    file.write_text("lesion: {}\n")
    assert load_recipe(file).lesion == LesionRecipe()
    file.write_text("lesion: {balance: false, presence_elsewhere: 0}\n")
    assert load_recipe(file).lesion == LesionRecipe(balance=False, enlarge=True, presence_elsewhere=0)


def test_the_lesion_recipe_that_ships_trains_that_head():
    file = next(file for file in CONFIGS if file.stem == "mobilenetv2-lesion")
    assert load_recipe(file).lesion is not None


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("lesion: {enlarged: true}", "lesion.enlarged:"),
        ("lesion: {presence_elsewhere: 1.5}", "lesion.presence_elsewhere:"),
        ("lesion: {}\npresence_elsewhere: 0", "'lesion' block"),
        ("lesion: {presence_elsewhere: .nan}", "lesion.presence_elsewhere:"),
        ("lesion: {balance: perhaps}", "lesion.balance:"),
        ("lesion: yes", "lesion:"),
        ("lesion: {}\nsize: 240", "multiple of 32"),
    ],
)
def test_every_problem_of_the_lesion_block_is_named(tmp_path, line, word):
    file = tmp_path / "r.yaml"
    file.write_text(line + "\n")
    with pytest.raises(ConfigError) as caught:
        load_recipe(file)
    assert word in str(caught.value)


def test_early_stopping_needs_something_to_watch():
    with pytest.raises(ValueError, match="inner_fraction"):
        Recipe(patience=3)
    assert Recipe(patience=3, inner_fraction=0.2).patience == 3
