"""From what a command line names to recipes and records; and the command as results record it.

>>> command_line("crossval", data=["busi"], init="/home/me/weights.safetensors", seed=0, views=None)
'bcx crossval --data busi=DIR --init weights.safetensors --seed 0'
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bcx.errors import ConfigError

if TYPE_CHECKING:
    from bcx.data.records import Record
    from bcx.tasks import Task
    from bcx.train.config import Recipe


def command_line(*words: str, data: Iterable[str] = (), **options: Any) -> str:
    """Return a command with folders left out: results are published, paths of a machine are not.

    `options`: values by name; a list is given several times, True alone, and None or False not at all.
    """
    parts = ["bcx", *words, *(f"--data {name}=DIR" for name in data)]
    for name, value in options.items():
        for each in value if isinstance(value, list | tuple) else [value]:
            if each is True:
                parts.append(f"--{name.replace('_', '-')}")
            elif each is not None and each is not False:
                parts.append(f"--{name.replace('_', '-')} {Path(each).name if name == 'init' else each}")
    return " ".join(parts)


def recipe_words(config: Path | None) -> list[str]:
    """Return how a command names its recipe in results: without this machine's folders; nothing for no recipe."""
    if config is None:
        return []
    folder = next((f"{own}/" for own in ("configs", "configs/studies") if config.parent.match(own)), "")
    return [f"{folder}{config.name}"]


def pairs(texts: Iterable[str] | None, form: str) -> list[tuple[str, str]]:
    """Split texts at their first "="; `ConfigError` where one is not of the form, such as "--set KEY=VALUE"."""
    found = []
    for text in texts or ():
        key, _, value = text.partition("=")
        if not (key and value):
            raise ConfigError(f"'{text}' has no value.", expected=form, remedy="Add '=' and the value.")
        found.append((key, value))
    return found


def named_folders(data: Iterable[str] | None) -> dict[str, Path]:
    named = pairs(data, "--data NAME=DIR, such as busi=Dataset_BUSI_with_GT")
    if len(dict(named)) < len(named):
        expected = "a name of its own for each --data"
        raise ConfigError("Two sources have the same name.", expected=expected, remedy="Rename one.")
    return {name: Path(folder) for name, folder in named}


def read_sources(
    sources: Mapping[str, str | Path], task: Task, split: str = "dev", *, verify: bool = False
) -> list[Record]:
    """Read sources of labelled scans, folders by name; `split` as `bcx.data.readers.read_source`.

    "all" of BUSI leaves out its "conflict" part, in which one lesion carries two labels. `verify` holds BUSI's files
    against its manifest: a renamed one would carry another scan's label and group.
    """
    from bcx.data.busi import verify_manifest
    from bcx.data.readers import detect_kind, read_source

    records: list[Record] = []
    for name, folder in sources.items():
        is_busi = detect_kind(name, Path(folder)) == "busi"
        splits = ("dev", "test") if split == "all" and is_busi else (split,)
        part = [record for each in splits for record in read_source(name, Path(folder), task=task, split=each)]
        if is_busi and verify:
            verify_manifest(part, Path(folder))
        records += part
    return records


def read_settings(settings: Iterable[str] | None, form: str = "--set KEY=VALUE") -> dict[str, Any]:
    from bcx.data.settings import parse_value

    return {key: parse_value(value) for key, value in pairs(settings, form)}


def read_recipe(
    config: Path | None, data: Sequence[str] | None, settings: Sequence[str] | None, **given: Any
) -> Recipe:
    """Lay the command line over a recipe's file: `--data`, `--set`, and settings with an option of their own."""
    from bcx.train.config import load_recipe

    values = {key: value for key, value in given.items() if value is not None} | read_settings(settings)
    if data:
        values["data"] = {name: str(folder) for name, folder in named_folders(data).items()}
    recipe = load_recipe(config, values)
    if not recipe.data:
        remedy = "Add --data busi=DIR, or a 'data' block to the recipe."
        raise ConfigError("No scans were named.", expected="at least one source", remedy=remedy)
    return recipe


def read_records(recipe: Recipe) -> list[Record]:
    """Read every source that the recipe names, with folds; patches that teach nothing are left out."""
    from bcx.data.check import clean
    from bcx.data.splits import assign_folds
    from bcx.tasks import get_task

    task = get_task(recipe.task)
    records = read_sources(recipe.data, task, verify=True)
    kept, left_out = clean(records, task)
    if words := ", ".join(f"{len(keys)} {reason}" for reason, keys in left_out.items() if keys):
        typer.echo(f"Left out of {len(records)} patches: {words} (bcx data check lists them).", err=True)
    return assign_folds(kept, recipe.folds, recipe.seed)


def numbers(option: str, text: str, among: Collection[int] | None = None) -> list[int]:
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or (among is not None and not set(found) <= set(among)):
        expected = "numbers with commas between them" + (f", out of {', '.join(map(str, among))}" if among else "")
        raise ConfigError(f"{option} is '{text}'.", expected=expected, remedy="Correct the list.")
    return found


def in_words(figure: Mapping[str, Any]) -> str:
    """Write a figure with its interval, or a dash where it has no value."""
    if figure["value"] is None or figure["low"] is None:
        return "-" if figure["value"] is None else f"{figure['value']:.3f}"
    return f"{figure['value']:.3f} (95 % interval {figure['low']:.3f} to {figure['high']:.3f})"
