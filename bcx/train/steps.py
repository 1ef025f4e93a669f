"""How many training steps lie ahead; for progress bars.

training_steps(recipe, training_records)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from bcx.data.records import Record
from bcx.train.config import Recipe
from bcx.train.dataset import source_turns


def training_steps(recipe: Recipe, train: Sequence[Record]) -> int:
    """Return how many steps a recipe takes: all trainings, and an epoch of pictures for each mean of several.

    Nearly, where some groups are kept aside to watch.

    Args:
        recipe: of one network, or of several.
        train: the scans, with those that are kept aside.
    """
    means = [part for part in recipe.member_recipes() or [recipe] if part.averaged]
    once = [part.averaged_recipes()[0] for part in means]  # their batch norms are estimated anew
    steps = sum(part.epochs * _steps_of_an_epoch(part, train) for part in recipe.trainings())
    return steps + sum(_steps_of_an_epoch(part, train) for part in once)


def _steps_of_an_epoch(recipe: Recipe, train: Sequence[Record]) -> int:
    shown = len(train)
    if recipe.balance if recipe.lesion is None else recipe.lesion.balance:
        of_source = Counter(record.source for record in train)
        names = sorted(of_source)
        turns = source_turns([number for number, name in enumerate(names) for _ in range(of_source[name])])
        shown = sum(of_source[name] * int(turn) for name, turn in zip(names, turns, strict=True))
    elif recipe.oversample:
        of_class = Counter(record.label for record in train)
        shown = len(of_class) * max(of_class.values())
    return -(-round(shown * (1 - recipe.inner_fraction)) // recipe.batch_size)
