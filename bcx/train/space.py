"""What a search tries: the range of every setting, and the recipe that a draw makes.

>>> from bcx.train.config import Recipe
>>> space = search_space(Recipe(), stages=8)
>>> sorted(space)
['augment', 'drop', 'freeze_stages', 'head', 'head_lr', 'lr', 'weight_decay']
>>> own_values(Recipe(), space)["lr"]
0.0005
>>> apply_values(Recipe(), {"lr": 0.001, "head": "dense", "drop": 0.3}).dense.drops
(0.0, 0.3)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bcx.train.config import DenseRecipe, Recipe

if TYPE_CHECKING:
    from optuna import Trial

#: Ranges: (lowest, highest, logarithmic).
_FLOATS = {
    "lr": (1e-5, 3e-3, True),
    "head_lr": (1e-4, 1e-2, True),
    "weight_decay": (1e-4, 0.3, True),
    "drop": (0.0, 0.6, False),
    "augment": (0.0, 1.5, False),
}
_MOST_FROZEN = 12  # as in `Recipe.freeze_stages`

#: name -> (lowest, highest, logarithmic) of a number, {"stages": most} of freezing, or the choices.
Space = dict[str, Any]


def search_space(recipe: Recipe, stages: int) -> Space:
    """Return what is searched for a recipe; what it rules out by other settings is left out.

    Args:
        recipe: where the search starts. A frozen base needs no learning rate and no frozen stages; the lesion head and
            the dense layers of tiny_cnn are kept.
        stages: how many stages the network has before its head.
    """
    space: Space = dict(_FLOATS)
    if recipe.freeze_base:
        del space["lr"]
    else:
        space["freeze_stages"] = (0, min(stages - 1, _MOST_FROZEN))  # one stage learns at least
    if recipe.lesion is None and recipe.arch != "tiny_cnn":
        space["head"] = ["linear", "dense"]
    return space


def own_values(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Return the recipe's own point in the space, without what lies outside the ranges."""
    drop = recipe.drop if recipe.dense is None else recipe.dense.drops[-1]
    values = {
        **{name: getattr(recipe, name) for name in ("lr", "head_lr", "weight_decay", "augment", "freeze_stages")},
        "drop": drop,
        "head": "linear" if recipe.dense is None else "dense",
    }
    return {
        name: values[name] for name, range_ in space.items() if name == "head" or range_[0] <= values[name] <= range_[1]
    }


def draw_values(trial: Trial, space: Space) -> dict[str, Any]:
    """Ask the search for one value of each setting."""
    values: dict[str, Any] = {}
    for name, range_ in space.items():
        if name == "head":
            values[name] = trial.suggest_categorical(name, range_)
        elif name == "freeze_stages":
            values[name] = trial.suggest_int(name, *range_)
        else:
            low, high, logarithmic = range_
            values[name] = trial.suggest_float(name, low, high, log=logarithmic)
    return values


def apply_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these settings.

    `drop` is the dropout before the output, whichever head there is. "dense" is the recipe's own dense head or, where
    it has none, 256 units over the averaged map.
    """
    changes = dict(values)
    head = changes.pop("head", None)
    dense = recipe.dense
    if head == "linear":
        dense = None
    elif head == "dense" and dense is None:
        dense = DenseRecipe.model_validate({})
    if dense is not None and "drop" in changes:
        dense = dense.model_copy(update={"drops": (*dense.drops[:-1], changes["drop"])})
    return recipe.model_copy(update={**changes, "dense": dense})
