"""What the tabs share: models and examples, the open pages, the engine, and how a handler is wired to an event.

def repaint(session, classifier, layer):            # what stands in the components is not checked yet
    layer = choice(layer, classifier.classes, "The layer")
    return {image: painted(session.answer, layer)}

page.listen(layers.input, repaint, [layers], [image], **QUICK)
"""

import csv
import inspect
import os
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import gradio as gr

from bcx.app.gpu import ON_A_SPACE, on_gpu
from bcx.app.incoming import PRIVATE, choice, in_words
from bcx.app.markup import html
from bcx.app.privacy import Sessions
from bcx.checkpoints.checkpoint import list_checkpoints
from bcx.checkpoints.config import read_config
from bcx.errors import CheckpointError
from bcx.explain.checks import check
from bcx.explain.methods import explain
from bcx.imaging.scan import Scan
from bcx.inference.classifier import Classifier, load
from bcx.inference.prediction import Failure, Prediction
from bcx.report.pictures import data_url
from bcx.slides import SlideProgress, stream_slide
from bcx.tasks import Task

#: What a handler returns: new values by component; what it leaves out stays as it is.
Changes = dict[Any, Any]
#: Every call that runs the network shares this queue, so that pages wait for each other and not for memory.
NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 4}
#: Calls that run no network.
QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}
#: What runs within components in the browser: clicks that reach Python, the list of rows, the square on a scan.
PICK, LIST, PLACE = (Path(__file__).with_name(f"{js}.js").read_text("utf-8") for js in ("pick", "worklist", "place"))


class Models:
    """The models at hand, the default first. Safe to use from several threads."""

    def __init__(self, default: Classifier) -> None:
        """Take a loaded model as default, and all checkpoints at hand beside it."""
        self.default = default
        self._folders = {name: folder for name, folder in list_checkpoints().items() if name != default.name}
        self.names = [default.name, *self._folders]
        self._loaded = {default.name: default}
        self._locks = {name: threading.Lock() for name in self.names}
        self.tasks = {default.name: default.task}  # what each answers; damaged ones are missing
        for name, folder in self._folders.items():
            with suppress(CheckpointError):
                self.tasks[name] = read_config(folder).task

    def others(self, name: str) -> list[str]:
        return [other for other in self.names if other != name and self.tasks.get(other) == self.tasks[name]]

    def get(self, name: Any) -> Classifier:
        """Return a model, loaded at first use; `CheckpointError`: it is damaged, `RequestError`: it was not offered."""
        with self._locks[choice(name, self.names, "The model")]:
            if name not in self._loaded:
                self._loaded[name] = load(self._folders[name])
            return self._loaded[name]


def build_picker(models: Models) -> gr.Dropdown:
    """Lay out the choice of models, each with its task ("Breast ultrasound"); hidden where there is only one."""
    tasks = models.tasks
    choices = [(f"{tasks[n].title.partition(':')[0]}: {n}" if n in tasks else n, n) for n in models.names]
    more: dict[str, Any] = {"label": "Model", "filterable": False, "elem_id": "model-picker"}
    return gr.Dropdown(choices, value=models.default.name, visible=len(choices) > 1, **more)


class Example(NamedTuple):
    """One example: its file, the class it was made to show, and its thumbnail as a data address."""

    path: Path
    label: str
    thumbnail: str


def list_examples(folder: str | os.PathLike[str], task: Task) -> list[Example]:
    """Return those that examples.csv (columns file, label) names, in the folder or in that of the task there."""
    for place in (Path(folder) / task.name, Path(folder)):
        table = place / "examples.csv"
        if table.is_file():
            rows = csv.DictReader(table.read_text("utf-8").splitlines())
            return [_read(place / row["file"], row["label"]) for row in rows if row["label"] in task.classes]
    return []


@lru_cache(maxsize=256)
def _read(path: Path, label: str) -> Example:
    return Example(path.resolve(), label, data_url(Scan.open(path).pixels, side=168))


class Gone(Exception):
    """The session of a page has ended on the server."""


def gone() -> NoReturn:
    """Stop a handler that needs what only an open session has."""
    raise Gone


class Page:
    """What every tab needs: models, the picker that holds the chosen one's name, the open pages, and the engine.

    The engine is `predict`, `stream`, `slide`, `explain` and `check`: as `Classifier.predict`, `Classifier.stream`,
    `stream_slide`, `explain` and `check`, with a model's name in its place, since ZeroGPU pickles the arguments.
    """

    def __init__(self, models: Models, picker: gr.Dropdown, sessions: Sessions) -> None:
        self.models, self.picker, self.sessions = models, picker, sessions

        @on_gpu
        def predict(model: str, source: Any, name: str, box: Any = None) -> Prediction:
            return replace(models.get(model).predict(source, name, box=box), mask_text=ON_A_SPACE)

        @on_gpu
        def stream(model: str, sources: Any) -> Iterator[Prediction | Failure]:
            for answer in models.get(model).stream(sources):
                yield replace(answer, mask_text=ON_A_SPACE) if isinstance(answer, Prediction) else answer

        @on_gpu
        def slide(model: str, *source: Any, **options: Any) -> Iterator[SlideProgress]:
            yield from stream_slide(models.get(model), *source, **options)

        self.predict, self.stream, self.slide = predict, stream, slide
        self.explain = on_gpu(lambda model, *asked: explain(models.get(model), *asked))
        self.check = on_gpu(lambda model, explanation: check(models.get(model), explanation))

    def listen(
        self, event: Any, function: Any, inputs: list[Any], outputs: list[Any], lost: Any = None, **how: Any
    ) -> Any:
        """Wire a handler to an event (`component.click` or the like) or to a list of them; return what Gradio does.

        `function`: from the session, the chosen model and what stands in `inputs` to `Changes`; it may yield several. A
        last parameter `event` gets what a click carries. `lost`: which of `outputs` says so where the function meets
        `gone`; else all stays as it is. `how`: more for Gradio.
        """
        special: dict[str, Any] = {"request": gr.Request}
        if "event" in inspect.signature(function).parameters:
            special["event"] = gr.EventData
        in_steps = inspect.isgeneratorfunction(function)

        def answer(changed: Changes) -> Any:
            return {part: changed[part] for part in outputs if part in changed} or gr.skip()

        def steps(request: gr.Request, *sent: Any) -> Iterator[Any]:
            clicked, (*values, model) = sent[: len(special) - 1], sent[len(special) - 1 :]
            with in_words(function.__name__), self.sessions.at_work(request.session_hash) as session:
                # A late request may name the model that was chosen before.
                arguments = [session, self.models.get(session.model or model), *values, *clicked]
                try:
                    if not in_steps:
                        yield answer(function(*arguments))
                        return
                    with closing(function(*arguments)) as every:
                        yield from map(answer, every)
                except Gone:
                    yield answer({lost: html.gone()})

        def call(*sent: Any) -> Any:
            (only,) = steps(*sent)
            return only

        wired: Any = steps if in_steps else call
        own = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in special]
        wired.__signature__ = inspect.Signature([*own, inspect.Parameter("sent", inspect.Parameter.VAR_POSITIONAL)])
        wired.__name__, wired.__annotations__ = function.__name__, special
        trigger = partial(gr.on, event) if isinstance(event, list) else event
        return trigger(wired, [*inputs, self.picker], outputs, **how, **PRIVATE)
