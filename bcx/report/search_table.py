"""What a search for settings found, as Markdown.

print("\\n".join(search_lines(results)))      # results.json of `bcx tune`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bcx.evaluate.words import units

#: How many of the settings are named, those that explain most first.
_NAMED = 3


def search_lines(results: Mapping[str, Any]) -> list[str]:
    """Return what was searched, what it gained, and which settings mattered.

    Args:
        results: what `bcx tune` writes.
    """
    trials, inner, recipe = results["trials"], results["inner_folds"], results["recipe"]
    ended = ", ".join(f"{count} {name}" for name, count in trials.items() if count)
    best, own = results["best"], results["recipe_as_it_stood"]
    lines = [
        f"`{recipe['name']}` at {recipe['size']} pixels for {recipe['epochs']} epochs, {inner['trained']} of "
        f"{inner['cut']} inner folds, outer fold {results['outer_fold']['fold']} never opened; {ended}.",
        "",
        "| | inner macro ROC-AUC |",
        "| --- | --- |",
    ]
    if own is not None:
        lines.append(f"| the recipe as it stood | {units(own['value'])} |")
    lines.append(f"| the best of all trials (optimistic, as the best of many is) | {units(best['value'])} |")
    chosen = ", ".join(f"{name} {_value(value)}" for name, value in best["values"].items())
    lines += ["", f"Its settings: {chosen or 'those of the recipe'}."]
    if results["importance"]:
        shares = sorted(results["importance"].items(), key=lambda pair: -pair[1])[:_NAMED]
        named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        lines.append(f"What explains the differences between trials (fANOVA): {named}.")
    return lines


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
