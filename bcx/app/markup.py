"""The page's HTML: `html.NAME(...)` is the macro NAME of `page.html`, with whatever is put in escaped.

>>> html.caption("a < b")
'<p class="bcx-caption">a &lt; b</p>'
"""

import re
from collections.abc import Callable
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined

from bcx.explain.descriptors import MEASURED
from bcx.explain.methods import METHODS
from bcx.explain.sheet import overlay
from bcx.imaging.overlay import COLOUR, colourise, lay_over, lesion_colours
from bcx.imaging.style import STYLE, MapStyle
from bcx.report.pictures import data_url, lesion_picture
from bcx.report.words import NEUTRAL, NOTICE, percent, place, referral, words
from bcx.trust.claims import NOT_A_SCAN, REFER


@lru_cache
def colour_bar(colours: str = STYLE.colours, bare: bool = False) -> str:
    """Return the colours of a map from against to for, over grey as in an overlay, or bare, as a data address."""
    style = MapStyle(colours)
    ramp = np.linspace(-1, 1, 256, dtype=np.float32)[None].repeat(2, axis=0)
    grey = np.full(ramp.shape, 128, np.uint8)
    return data_url(colourise(ramp, 1.0, style) if bare else lay_over(grey, ramp, 1.0, 1.0, style), side=256)


def lesion_colour(style: MapStyle) -> str:
    return "rgb({}, {}, {})".format(*lesion_colours(np.ones((1, 1), np.float32), style).ravel().astype(int))


def share(value: float) -> str:
    """Return a share as a percentage; unlike a probability it may be none or all."""
    return f"{value:.0%}".replace("%", " %") if value in (0, 1) else percent(value)


def clock(seconds: float) -> str:
    """Return a duration in words, such as 1 min 15 s."""
    hours, rest = divmod(round(seconds), 3600)
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    if hours:
        return f"{hours} h {rest // 60} min"
    return f"{rest // 60} min {rest % 60} s" if rest >= 60 else f"{rest} s"


def inline(text: str) -> str:
    """Return the Markdown of a sentence (bold, code, links) as HTML, the rest of it escaped."""
    text = re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2" rel="noopener">\1</a>', escape(text))
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)


def joined(source: str) -> str:
    """Return a template without the ends of its lines, which would be seen as spaces around elements."""
    source = re.sub(r"(?:(?<=>)|(?<=[%#]\}))\s*\n\s*|\s*\n\s*(?=<|\{[%#])|(?<=\}\})\s*\n\s*(?=\{\{)", "", source)
    return re.sub(r"\s*\n\s*", " ", source).strip()


_environment = Environment(autoescape=True, undefined=StrictUndefined)
_functions: list[Any] = [clock, inline, percent, place, referral, share, words]
_functions += [colour_bar, data_url, lesion_colour, lesion_picture]
_environment.globals.update(
    {each.__name__: each for each in _functions}
    | {"zip": zip, "commas": "{:,}".format, "explained": overlay, "NOT_A_SCAN": NOT_A_SCAN, "REFER": REFER}
    | {"METHODS": METHODS, "MEASURED": MEASURED, "NEUTRAL": NEUTRAL, "NOTICE": NOTICE, "OUTLINE": COLOUR}
)
_template = _environment.from_string(joined(Path(__file__).with_name("page.html").read_text("utf-8")))


class Macros:
    def __getattr__(self, name: str) -> Callable[..., str]:
        macro = getattr(_template.module, name)
        return lambda *values, **named: str(macro(*values, **named))


html = Macros()
