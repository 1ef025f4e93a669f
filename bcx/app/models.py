"""The models that a page offers: named at once, loaded when first chosen, kept from then on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.incoming import choice
from bcx.checkpoints.checkpoint import list_checkpoints
from bcx.checkpoints.config import read_config
from bcx.errors import CheckpointError
from bcx.tasks import Task

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier


@dataclass(frozen=True)
class Part:
    """A part of the page that follows the chosen model.

    Attributes:
        outputs: its components, laid out for the default model.
        values: from a model to new values for `outputs`, in their order; what an earlier model said is cleared.
        again: wires, after an event, that the chosen model reads what an earlier one has read; also where that one is
            still reading.
    """

    outputs: list[Any]
    values: Callable[[Classifier], list[Any]]
    again: Callable[[Any], Any] | None = None


class Models:
    """The models at hand, the default first. Safe to use from several threads."""

    def __init__(self, default: Classifier, folders: Mapping[str, Path] | None = None) -> None:
        """Take a loaded model as default, and the folders of others by name (default: all checkpoints at hand)."""
        self.default = default
        at_hand = list_checkpoints() if folders is None else folders
        self._folders = {name: folder for name, folder in at_hand.items() if name != default.name}
        self._loaded = {default.name: default}
        self._locks = {name: threading.Lock() for name in self._folders}

    def choices(self) -> list[tuple[str, str]]:
        """Return (what a person reads, name) of each model, the default first."""
        tasks = self._tasks()
        return [(f"{field(tasks[name])}: {name}" if name in tasks else name, name) for name in self.names()]

    def names(self) -> list[str]:
        """Return the name of each model, the default first."""
        return [self.default.name, *self._folders]

    def others(self, name: str) -> list[str]:
        """Return the names of the other models of the same task."""
        tasks = self._tasks()
        return [other for other in self.names() if other != name and tasks.get(other) == tasks[name]]

    def any_tiles(self) -> bool:
        """Whether one of them reads large images tile by tile."""
        return any(task.tile is not None for task in self._tasks().values())

    def _tasks(self) -> dict[str, Task]:
        """Return what each model answers; damaged ones are missing."""
        tasks = {self.default.name: self.default.task}
        for name, folder in self._folders.items():
            with suppress(CheckpointError):
                tasks[name] = read_config(folder).task
        return tasks

    def get(self, name: Any) -> Classifier:
        """Return a model by name, loaded if this is the first time.

        Raises:
            RequestError: it is not one of `names`: a page can ask for nothing but what it was offered.
            CheckpointError: it is damaged.
        """
        name = choice(name, self.names(), "The model")
        if name not in self._loaded:
            with self._locks[name]:
                if name not in self._loaded:
                    from bcx.inference.classifier import load

                    self._loaded[name] = load(self._folders[name])
        return self._loaded[name]


def field(task: Task) -> str:
    """Return what a task is about in a word or two ("Breast ultrasound")."""
    return task.title.partition(":")[0]


def build_picker(models: Models) -> gr.Dropdown:
    """Lay out the choice of models; hidden where there is only one."""
    choices = models.choices()
    more: dict[str, Any] = {"label": "Model", "filterable": False, "elem_id": "model-picker"}
    return gr.Dropdown(choices, value=models.default.name, visible=len(choices) > 1, **more)
