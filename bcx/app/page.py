"""The whole page: header, tabs, endpoints, and the rule that a session's files end with it."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder

from bcx.app.answers import NOTICE
from bcx.app.api import build_api
from bcx.app.batch import build_batch
from bcx.app.classify import build_classify
from bcx.app.examples import list_examples
from bcx.app.gpu import on_gpu
from bcx.app.model_tab import build_model_tab
from bcx.app.privacy import SESSIONS, Sessions

if TYPE_CHECKING:
    from bcx.engine import Classifier
    from bcx.tasks import Task

#: Seconds between sweeps of uploads, and the age at which one is swept: for callers that never say goodbye.
SWEEP = (600, 3600)
QUEUE = 64


def build_app(classifier: Classifier, examples: str | os.PathLike[str] | None = None) -> gr.Blocks:
    """Return the page around `classifier`, ready for `launch`.

    Args:
        classifier: what answers (`bcx.load()`).
        examples: folder with `examples.csv`; without it the page has no examples.
    """
    task = classifier.task
    # Beside Gradio's own uploads: a picture in there may be shown, and a hard link costs no space.
    sessions = Sessions(Path(get_upload_folder()) / SESSIONS)
    predict, stream = on_gpu(classifier.predict), on_gpu(classifier.stream)
    with gr.Blocks(title=f"bcx: {task.title}", analytics_enabled=False, delete_cache=SWEEP) as app:
        gr.HTML(_header(task))
        with gr.Tabs(elem_id="bcx-tabs"):
            with gr.Tab("Classify", id="classify"):
                build_classify(classifier, sessions, list_examples(examples) if examples else [], predict)
            with gr.Tab("Batch", id="batch"):
                build_batch(classifier, sessions, stream)
            with gr.Tab("Model", id="model"):
                build_model_tab(classifier)
        gr.HTML(_footer(classifier))
        build_api(sessions, predict, stream)

        def end_session(request: gr.Request) -> None:
            sessions.close(request.session_hash)

        app.unload(end_session)
    app.queue(max_size=QUEUE)
    return app


def _header(task: Task) -> str:
    return (
        '<header class="bcx-header"><h1>Breast ultrasound, read by a network</h1>'
        "<p>It says what it sees, where it looked, how sure it is, and when not to believe it.</p>"
        f'<p class="bcx-notice" role="note"><strong>{escape(NOTICE)}</strong> Pictures stay on this server only while '
        "this page is open.</p></header>"
    )


def _footer(classifier: Any) -> str:
    return (
        f'<footer class="bcx-footer"><p>Model {escape(classifier.name)}, weights '
        f"<code>{escape(classifier.weights_sha256[:12])}</code>. {escape(NOTICE)}</p></footer>"
    )
