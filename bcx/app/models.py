"""What a page offers: models, named at once and loaded when first chosen, and examples that the project made itself."""

from __future__ import annotations

import csv
import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr

from bcx.app.incoming import choice
from bcx.checkpoints.checkpoint import list_checkpoints
from bcx.checkpoints.config import read_config
from bcx.errors import CheckpointError
from bcx.imaging.scan import Scan
from bcx.inference.classifier import Classifier, load
from bcx.report.pictures import data_url
from bcx.tasks import Task


class Models:
    """The models at hand, the default first. Safe to use from several threads."""

    def __init__(self, default: Classifier, folders: Mapping[str, Path] | None = None) -> None:
        """Take a loaded model as default, and the folders of others by name (default: all checkpoints at hand)."""
        self.default = default
        at_hand = list_checkpoints() if folders is None else folders
        self._folders = {name: folder for name, folder in at_hand.items() if name != default.name}
        self.names = [default.name, *self._folders]
        self._loaded = {default.name: default}
        self._locks = {name: threading.Lock() for name in self._folders}

    def tasks(self) -> dict[str, Task]:
        """Return what each model answers; damaged ones are missing."""
        tasks = {self.default.name: self.default.task}
        for name, folder in self._folders.items():
            with suppress(CheckpointError):
                tasks[name] = read_config(folder).task
        return tasks

    def others(self, name: str) -> list[str]:
        """Return the names of the other models of the same task."""
        tasks = self.tasks()
        return [other for other in self.names if other != name and tasks.get(other) == tasks[name]]

    def get(self, name: Any) -> Classifier:
        """Return a model by name, loaded if this is the first time.

        Raises:
            RequestError: it is not one of `names`: a page can ask for nothing but what it was offered.
            CheckpointError: it is damaged.
        """
        name = choice(name, self.names, "The model")
        if name not in self._loaded:
            with self._locks[name]:
                if name not in self._loaded:
                    self._loaded[name] = load(self._folders[name])
        return self._loaded[name]


def build_picker(models: Models) -> gr.Dropdown:
    """Lay out the choice of models, each with its task ("Breast ultrasound"); hidden where there is only one."""
    tasks = models.tasks()
    choices = [(f"{tasks[n].title.partition(':')[0]}: {n}" if n in tasks else n, n) for n in models.names]
    more: dict[str, Any] = {"label": "Model", "filterable": False, "elem_id": "model-picker"}
    return gr.Dropdown(choices, value=models.default.name, visible=len(choices) > 1, **more)


@dataclass(frozen=True)
class Example:
    """One example: its file, the class it was made to show, and its thumbnail as a data address."""

    path: Path
    label: str
    thumbnail: str


def list_examples(folder: str | os.PathLike[str], task: Task) -> list[Example]:
    """Return the examples of a task that `examples.csv` names (columns `file`, `label`); none without one.

    It lies in the folder, or in a folder there with the task's name.
    """
    for place in (Path(folder) / task.name, Path(folder)):
        table = place / "examples.csv"
        if table.is_file():
            rows = csv.DictReader(table.read_text("utf-8").splitlines())
            return [_read(place / row["file"], row["label"]) for row in rows if row["label"] in task.classes]
    return []


@lru_cache(maxsize=256)
def _read(path: Path, label: str) -> Example:
    return Example(path.resolve(), label, data_url(Scan.open(path).pixels, side=168))
