"""What a published system reports beside what the same recipe reaches, with and without the leak, as Markdown.

>>> words_of("sensitivity_normal")
'sensitivity, normal'
"""

from __future__ import annotations

from typing import Any

from bcx.evaluate.words import interval, markdown_table, units

# Published or not, these are always shown.
_ALWAYS = ("accuracy", "macro_auc")
_WORDS = {
    "macro_auc": "ROC-AUC, macro",
    "macro_pr_auc": "PR-AUC, macro",
    "macro_precision": "precision, macro",
    "balanced_accuracy": "recall, macro (balanced accuracy)",
    "mcc": "Matthews correlation",
}
_KINDS = {"pr_auc": "PR-AUC", "auc": "ROC-AUC", "f1": "F1"}


def leak_lines(results: dict[str, Any]) -> list[str]:
    """Return a study's heading, table and remarks."""
    published = results["recipe"]["published"] or {"system": results["recipe"]["name"], "figures": {}, "differs": []}
    random, grouped = (results["protocols"][name] for name in ("random", "grouped"))
    reported = published["figures"]
    sizes = " or ".join(sorted({str(run["n_train"]) for run in results["runs"]}))
    recipe, seeds = results["recipe"], ", ".join(map(str, results["seeds"]))
    lines = [
        f"### {published['system']}",
        "",
        f"{recipe['arch']}, {recipe['size']} pixels, {recipe['epochs']} epochs, seeds {seeds}; trained on {sizes} "
        f"scans at a time, {random['n']} answers under each split.",
        "",
    ]
    rows = []
    for name in [*reported, *(name for name in _ALWAYS if name not in reported)]:
        theirs = units(reported[name]) if name in reported else "-"
        ours = [interval(part["figures"][name]) for part in (random, grouped)]
        rows.append([words_of(name), theirs, *ours, interval(results["leak"][name], sign=True)])
    head = ["figure", "theirs", "ours, random split as theirs", "ours, grouped", "random minus grouped"]
    lines += markdown_table(head, rows)
    lines += ["", _copies(results)]
    if published["differs"]:
        lines += ["", "What differs from the published system:", "", *(f"- {text}" for text in published["differs"])]
    return [*lines, ""]


def _copies(results: dict[str, Any]) -> str:
    """Say what the answers about scans are worth of which something was trained on."""
    known = results["protocols"]["random"]["copies"]
    if known["accuracy_without"]["value"] is None:  # where patients are groups, hardly one stands on one side alone
        return (
            f"Under the random split {_percent(known['in_training'])} of the answers were about a group (of patches: a "
            "patient) of which others had been trained on, so that there is nothing to compare them with."
        )
    copied, single = (interval(results[f"leak_{kind}"], sign=True) for kind in ("copied", "single"))
    return (
        f"Under the random split {_percent(known['in_training'])} of the answers were about a scan of which a "
        "near-duplicate, or the same lesion in another frame, had been trained on: accuracy "
        f"{interval(known['accuracy_with'])} on these and {interval(known['accuracy_without'])} on the others. "
        f"Random minus grouped is {copied} in the accuracy on scans that have such a copy anywhere in the set, and "
        f"{single} on those that have none."
    )


def words_of(name: str) -> str:
    """Return a figure's name in words."""
    if name in _WORDS:
        return _WORDS[name]
    for start in ("sensitivity", "specificity", "precision", *_KINDS):
        if name.startswith(f"{start}_") and "_vs_" not in name:
            return f"{_KINDS.get(start, start)}, {name.removeprefix(f'{start}_')}"
    return name.replace("_", " ")


def _percent(figure: dict[str, Any]) -> str:
    """Return a share with its 95 % interval, in per cent."""
    return f"{100 * figure['value']:.0f} % ({100 * figure['low']:.0f} to {100 * figure['high']:.0f})"
