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
from dataclasses import dataclass
from typing import Any

import gradio as gr

from bcx.app.incoming import PRIVATE, in_words
from bcx.app.models import Models
from bcx.app.privacy import Sessions

#: What a handler returns: new values by component.
Changes = dict[Any, Any]
#: Every call that runs the network shares this queue, so that pages wait for each other and not for memory.
NETWORK: dict[str, Any] = {"concurrency_id": "network", "concurrency_limit": 4}
#: Calls that run no network.
QUICK: dict[str, Any] = {"show_progress": "hidden", "concurrency_limit": None}


@dataclass(frozen=True)
class Page:
    """What every tab needs.

    Attributes:
        models: what can answer.
        picker: holds the name of the one that does.
        sessions: the open pages.
        predict, stream, slide, explain, check: as `Classifier.predict`, `Classifier.stream`, `stream_slide`, `explain`
            and `check`, with a model's name in its place.
    """

    models: Models
    picker: gr.Dropdown
    sessions: Sessions
    predict: Callable[..., Any]
    stream: Callable[..., Iterator[Any]]
    slide: Callable[..., Iterator[Any]]
    explain: Callable[..., Any]
    check: Callable[..., Any]

    def listen(
        self, event: Any, function: Callable[..., Any], inputs: list[Any], outputs: list[Any], **how: Any
    ) -> Any:
        """Wire a handler to an event, or to several, and return what Gradio does.

        Args:
            event: `component.click` or the like, or a list.
            function: from the session, the chosen model and what stands in `inputs` to new values by component; what
                it leaves out stays as it is. It may yield several. A last parameter `event` gets what a click carries.
            inputs, outputs: components.
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
                return answer(function(*arguments))

        def steps(*sent: Any) -> Iterator[Any]:
            with entered(*sent) as arguments, closing(function(*arguments)) as every:
                for changed in every:
                    yield answer(changed)

        wired: Any = steps if inspect.isgeneratorfunction(function) else call
        kind = inspect.Parameter.POSITIONAL_ONLY
        parameters = [inspect.Parameter(name, kind) for name in special]
        wired.__signature__ = inspect.Signature(
            [*parameters, inspect.Parameter("sent", inspect.Parameter.VAR_POSITIONAL)]
        )
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
