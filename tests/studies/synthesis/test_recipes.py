"""Recipes of generators and studies: shipped ones fit, every problem is named."""

from pathlib import Path

import pytest

from bcx.errors import ConfigError
from bcx.studies.synthesis.recipes import SynthRecipe, load_study, load_synth_recipe

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.mark.parametrize("name", ["r4-dcgan", "synth-modern"])
def test_shipped_recipes_are_valid_and_named_after_their_file(name):
    assert load_synth_recipe(CONFIGS / f"{name}.yaml").name == name


def test_the_published_settings_are_those_that_were_published():
    recipe = load_synth_recipe(CONFIGS / "r4-dcgan.yaml")
    settings = {label: (own.epochs, own.batch_size, own.images) for label, own in recipe.per_class.items()}
    assert settings == {"malignant": (4200, 150, 227), "normal": (2500, 100, 304)}
    assert (recipe.size, recipe.noise, recipe.loss, recipe.lr_generator) == (224, 100, "bce", 0.001)
    malignant = recipe.for_class("malignant")
    assert (malignant.epochs, malignant.batch_size, malignant.per_class) == (4200, 150, {})


def test_the_command_line_wins_over_single_classes_too():
    recipe = load_synth_recipe(CONFIGS / "r4-dcgan.yaml", {"epochs": 5})
    assert recipe.for_class("normal").epochs == 5
    assert recipe.for_class("normal").batch_size == 100


def test_the_shipped_study_reads_the_generator_beside_it():
    study = load_study(CONFIGS / "synth-study.yaml", {"classifier": {"epochs": 3}})
    assert study.name == "synth-study"
    assert study.generator == load_synth_recipe(CONFIGS / "synth-modern.yaml")
    assert (study.classifier.epochs, study.classifier.size) == (3, 96)
    assert len(study.seeds) >= 3


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"epoch": 3}, "epoch"),
        ({"size": 48}, "power of 2"),
        ({"size": 44, "networks": "dcgan"}, "multiple of 8"),
        ({"classes": ["cyst"]}, "cyst"),
        ({"per_class": {"cyst": {"epochs": 2}}}, "cyst"),
        ({"task": "teeth"}, "teeth"),
        ({"augment": ["rotation"]}, "augment"),
    ],
)
def test_every_problem_is_named(tmp_path, values, word):
    file = tmp_path / "r.yaml"
    file.write_text("seed: 1\n")
    with pytest.raises(ConfigError, match=word):
        load_synth_recipe(file, values)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"arms": ["plain", "mixup"]}, "mixup"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"classifier": {"lesion": {}}}, "masks"),
        ({"generator": {"task": "histology-idc", "classes": []}}, "same task"),
    ],
)
def test_a_study_that_does_not_fit_says_why(values, word):
    with pytest.raises(ConfigError, match=word):
        load_study(CONFIGS / "synth-study.yaml", values)


def test_names_do_not_change_what_a_recipe_is():
    assert SynthRecipe(name="a").identity() == SynthRecipe(name="b").identity()
    assert SynthRecipe(seed=1).identity() != SynthRecipe().identity()
