"""The look of the page: a quiet theme from system fonts only, so that nothing is fetched from elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import gradio.routes

CSS = Path(__file__).with_name("style.css")
# Gradio loads the style sheet late, and part by part; what is not visible yet cannot jump.
_HIDDEN = """
html:not(.bcx-ready) gradio-app, html:not(.bcx-ready) .gradio-container {
  visibility: hidden; animation: bcx-show 0s 6s forwards;
}
@keyframes bcx-show { to { visibility: visible; } }
"""
_FIRST, _PAGE = (f"<script>{CSS.with_name(f'{js}.js').read_text('utf-8')}</script>" for js in ("first", "page"))
HEAD = f"<style>{_HIDDEN}</style>{_PAGE}"
_pages: Any = gradio.routes.templates.env.loader
_read_page = _pages.get_source


def _with_first(environment: Any, name: str) -> tuple[str, Any, Any]:
    source, *rest = _read_page(environment, name)
    return source.replace("<head>", f"<head>{_FIRST}", 1), *rest


_pages.get_source = _with_first
_SANS = ["system-ui", "-apple-system", "'Segoe UI'", "Roboto", "'Helvetica Neue'", "'Noto Sans'", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "'Liberation Mono'", "monospace"]


def theme() -> gr.themes.Base:
    hues = dict.fromkeys(("primary_hue", "secondary_hue", "neutral_hue"), "slate")
    sizes = dict.fromkeys(("radius_size", "spacing_size", "text_size"), "md")
    return gr.themes.Base(**hues, **sizes, font=_SANS, font_mono=_MONO).set(
        body_background_fill="#f7f8fa",
        body_background_fill_dark="#0f141b",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        block_background_fill="#ffffff",
        block_background_fill_dark="#171e28",
        block_border_color="#e2e6ec",
        block_border_color_dark="#293341",
        block_border_width="1px",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_text_color="*neutral_600",
        block_label_text_color_dark="*neutral_300",
        block_shadow="none",
        button_primary_background_fill="#24324a",
        button_primary_background_fill_hover="#334564",
        button_primary_background_fill_dark="#c9d6ea",
        button_primary_text_color="#ffffff",
        button_primary_text_color_dark="#111822",
        slider_color="#24324a",
        slider_color_dark="#c9d6ea",
    )
