"""What the tabs share: the models, the open pages, the engine, and how a handler is wired to an event.

def repaint(session, classifier, layer):            # what stands in the components is not checked yet
    layer = choice(layer, classifier.classes, "The layer")
    return {image: painted(session.answer, layer)}

page.listen(layers.input, repaint, [layers], [image], **QUICK)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import gradio as gr

from bcx.app.gpu import ON_A_SPACE, on_gpu
from bcx.app.incoming import PRIVATE, in_words
from bcx.app.markup import html
from bcx.app.models import Models
from bcx.app.privacy import Sessions
from bcx.explain.checks import Checks, check
from bcx.explain.methods import Explanation, explain
from bcx.inference.prediction import Failure, Prediction
from bcx.slides import SlideProgress, stream_slide

#: What a handler returns: new values by component; what it leaves out stays as it is.
Changes = dict[Any, Any]
#: Every call that runs the network shares this queue, so that pages wait for each other and not for memory.
NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 4}
#: Calls that run no network.
QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


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

        @on_gpu
        def explained(model: str, *asked: Any) -> Explanation:
            return explain(models.get(model), *asked)

        @on_gpu
        def checked(model: str, explanation: Explanation) -> Checks:
            return check(models.get(model), explanation)

        self.predict, self.stream, self.slide, self.explain, self.check = predict, stream, slide, explained, checked

    def listen(
        self,
        event: Any,
        function: Callable[..., Any],
        inputs: list[Any],
        outputs: list[Any],
        lost: Any = None,
        **how: Any,
    ) -> Any:
        """Wire a handler to an event, or to several, and return what Gradio does.

        Args:
            event: `component.click` or the like, or a list.
            function: from the session, the chosen model and what stands in `inputs` to `Changes`; it may yield several.
                A last parameter `event` gets what a click carries.
            inputs, outputs: components.
            lost: which of `outputs` says so where the function meets `gone`; else all stays as it is.
            how: more for Gradio.
        """
        special: dict[str, Any] = {"request": gr.Request}
        if "event" in inspect.signature(function).parameters:
            special["event"] = gr.EventData

        @contextmanager
        def entered(request: gr.Request, *sent: Any) -> Iterator[list[Any]]:
            clicked = sent[: len(special) - 1]
            *values, model = sent[len(special) - 1 :]
            with in_words(function.__name__), self.sessions.at_work(request.session_hash) as session:
                yield [session, self.models.get(model), *values, *clicked]

        def answer(changed: Changes) -> Any:
            values = in_order(changed, outputs)
            return values if len(values) > 1 else values[0]

        def call(*sent: Any) -> Any:
            with entered(*sent) as arguments:
                try:
                    return answer(function(*arguments))
                except Gone:
                    return answer({lost: html.gone()})

        def steps(*sent: Any) -> Iterator[Any]:
            with entered(*sent) as arguments, closing(function(*arguments)) as every:
                for changed in every:
                    yield answer(changed)

        wired: Any = steps if inspect.isgeneratorfunction(function) else call
        own = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_ONLY) for name in special]
        wired.__signature__ = inspect.Signature([*own, inspect.Parameter("sent", inspect.Parameter.VAR_POSITIONAL)])
        wired.__name__, wired.__annotations__ = function.__name__, special
        trigger = gr.on if isinstance(event, list) else event
        first = [event] if isinstance(event, list) else []
        return trigger(*first, wired, [*inputs, self.picker], outputs, **how, **PRIVATE)


def in_order(changed: Changes, outputs: list[Any]) -> list[Any]:
    """Return the new values of these components, for Gradio."""
    return [changed.get(output, gr.skip()) for output in outputs]


def scroll_to(anchor: str) -> str:
    """On a narrow page the answer stands below the fold, so bring it into view."""
    return (
        "() => { if (window.innerWidth < 800) "
        f"document.getElementById('{anchor}')?.scrollIntoView({{behavior: 'smooth'}}); }}"
    )
