"""Paper for figures: one style, readable in print and for colour-blind eyes."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from bcx.files import AnyPath, whole

DPI = 200
INK, DIM, FAINT = "#1a1a1a", "#595959", "#d9d9d9"
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito (2008), for lines that are no classes; yellow is left out, which white paper swallows."""
DASHES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)))
"""Lines differ in dashes too, and marks in shape, so that they stay apart in grey print."""
SHAPES = ("o", "s", "D", "^")

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": DIM,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": DIM,
    "ytick.color": DIM,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.edgecolor": "none",
    "legend.framealpha": 0.85,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.7,
}

styled = rc_context(_STYLE)  # type: ignore[arg-type]
"""Lets a function draw in the common style; matplotlib's settings are the caller's again afterwards."""


def paper(
    width: float, height: float, rows: int = 1, columns: int = 1, bare: bool = False, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """Return an empty figure in inches, without pyplot's global state, and its axes [R * C]; settings of `subplots`.

    Bare axes hold images: no frame, no ticks, at the top of their place.
    """
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows, columns, squeeze=False, **settings).ravel()
    for axes in grid if bare else ():
        axes.axis("off")
        axes.set_anchor("N")
    return figure, grid


def publish(figure: Figure, path: AnyPath, colours: int | None = 96) -> Figure:
    """Write the figure as a PNG of `DPI` dots per inch, whole or not at all, and return it.

    So many colours are plenty for lines, at a third of the bytes; None keeps all, for photographs.
    """
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    image = Image.open(drawn).convert("RGB")
    image = image if colours is None else image.quantize(colours)
    with whole(path) as partial:
        image.save(partial, format="PNG", dpi=(DPI, DPI), optimize=True)
    return figure


def dots(
    axes: Axes,
    places: Sequence[float] | np.ndarray,
    figures: Sequence[Mapping[str, Any]],
    colour: str,
    shape: str = "o",
    label: str | None = None,
) -> None:
    """Draw figures ({value, low, high}) as dots with their intervals, each at its place; None is not drawn."""
    values, low, high = (np.array([figure[key] for figure in figures], float) for key in ("value", "low", "high"))
    axes.hlines(places, low, high, color=colour, linewidth=1.6)
    axes.plot(values, places, shape, color=colour, markersize=5, label=label)


def in_percent(*axes: Axis) -> None:
    """Label axes of 0..1 in per cent, at round numbers."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(nbins="auto", steps=[1, 2, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{round(100 * value, 6):g} %"))
