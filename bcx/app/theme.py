"""The look of the page: a quiet theme from system fonts only, so that nothing is fetched from elsewhere."""

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


#: Of settings of the theme: light, dark.
_COLOURS = {
    "body_background_fill": ("#f7f8fa", "#0f141b"),
    "body_text_color_subdued": ("*neutral_600", "*neutral_300"),
    "input_placeholder_color": ("*neutral_600", "*neutral_300"),
    "block_background_fill": ("#ffffff", "#171e28"),
    "block_border_color": ("#e2e6ec", "#293341"),
    "block_label_background_fill": ("transparent", "transparent"),
    "block_label_text_color": ("*neutral_600", "*neutral_300"),
    "button_primary_background_fill": ("#24324a", "#c9d6ea"),
    "button_primary_text_color": ("#ffffff", "#111822"),
    "slider_color": ("#24324a", "#c9d6ea"),
}


def theme() -> gr.themes.Base:
    hues = dict.fromkeys(("primary_hue", "secondary_hue", "neutral_hue"), "slate")
    sizes = dict.fromkeys(("radius_size", "spacing_size", "text_size"), "md")
    colours = {name: light for name, (light, _) in _COLOURS.items()}
    colours |= {f"{name}_dark": dark for name, (_, dark) in _COLOURS.items()}
    edges = {"block_border_width": "1px", "block_label_border_width": "0px", "block_shadow": "none"}
    base = gr.themes.Base(**hues, **sizes, font=_SANS, font_mono=_MONO)
    return base.set(**colours, **edges, button_primary_background_fill_hover="#334564")
