"""A search in words: what it gained, and what mattered."""

from tests.test_docs import figures_module

search_words = figures_module().search_words

RESULTS = {
    "recipe": {"name": "plain", "size": 160, "epochs": 4},
    "trials": {"complete": 5, "pruned": 3, "fail": 0},
    "inner_folds": {"cut": 3, "trained": 1},
    "outer_fold": {"fold": 0},
    "best": {"trial": 4, "value": 0.9312, "values": {"lr": 0.00123456, "head": "dense", "freeze_stages": 2}},
    "recipe_as_it_stood": {"trial": 0, "value": 0.9},
    "importance": {"head": 0.1, "lr": 0.6, "drop": 0.2, "freeze_stages": 0.05},
}


def test_gain_settings_and_what_mattered_most_are_named():
    text = search_words(RESULTS)
    assert "| the recipe as it stood | .900 |" in text
    assert "| .931 |" in text
    assert "5 complete, 3 pruned." in text
    assert "fail" not in text
    assert "lr 0.00123, head dense, freeze_stages 2." in text
    assert text.endswith("lr 60 %, drop 20 %, head 10 %.")


def test_a_search_that_kept_the_recipe_says_so():
    kept = RESULTS | {"best": {"trial": 0, "value": 0.9, "values": {}}, "importance": None, "recipe_as_it_stood": None}
    text = search_words(kept)
    assert "as it stood |" not in text
    assert text.endswith("Its settings: those of the recipe.")
