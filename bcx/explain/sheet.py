"""All explanations of one answer side by side, as one picture."""

import math
import os
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np

from bcx.errors import writing
from bcx.explain.checks import Checks
from bcx.explain.methods import METHODS, Explanation
from bcx.files import whole
from bcx.imaging.overlay import colourise, lay_over

_COLUMNS = 4
_WIDTH, _DPI = 3.0, 150  # inches of a column
_OPACITY = 0.75


def overlay(explanation: Explanation) -> np.ndarray:
    """Return the scan with the map laid over it, uint8 `[H, W, 3]`."""
    if explanation.unit == "logit":  # the box of a second stage fades into the rest
        return np.asarray(explanation.prediction.overlay(explanation.target, _OPACITY))
    prediction = explanation.prediction
    return np.asarray(lay_over(prediction.shown, explanation.map, 1.0, _OPACITY, prediction.style))


def draw_sheet(explanations: Sequence[Explanation], checks: Mapping[str, Checks], path: str | os.PathLike[str]) -> None:
    """Write a PNG: the scan, then each map with its method, seconds and, where it was checked, verdict.

    `explanations` are of one answer and one class; `checks` go by method.
    """
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    prediction, target = explanations[0].prediction, explanations[0].target
    columns = min(_COLUMNS, len(explanations) + 1)
    rows = math.ceil((len(explanations) + 1) / columns)
    picture = (_WIDTH - 0.1) * min(2.0, prediction.scan.height / prediction.scan.width)
    cell = picture + (1.0 if checks else 0.4)
    width, height = columns * _WIDTH, rows * cell + 0.6
    figure = Figure((width, height), _DPI)
    FigureCanvasAgg(figure)

    def axes(left: float, top: float, wide: float, high: float) -> Axes:
        """From inches, the top one counted downwards."""
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    for place in range(len(explanations) + 1):
        row, column = divmod(place, columns)
        shown = axes(column * _WIDTH + 0.05, row * cell + 0.25, _WIDTH - 0.1, picture)
        shown.set_axis_off()
        if place == 0:
            shown.imshow(prediction.shown, cmap="gray", vmin=0, vmax=255)
            title = f"Scan: {prediction.decision}, P({target}) {prediction.probabilities[target]:.0%}"
        else:
            each = explanations[place - 1]
            shown.imshow(overlay(each))
            title = f"{METHODS[each.method].title}, {each.seconds:.1f} s"
            said = textwrap.fill(checks[each.method].verdict, 54) if each.method in checks else ""
            shown.text(0, -0.03, said, transform=shown.transAxes, va="top", fontsize=7)
        shown.set_title(title, fontsize=9)
    legend, limit = axes(width / 2 - 2, height - 0.5, 4, 0.12), prediction.map_limit
    ramp = colourise(np.linspace(-1, 1, 255, dtype=np.float32)[None], 1.0, prediction.style)
    legend.imshow(ramp, aspect="auto", extent=(-1, 1, 0, 1))
    legend.set_yticks([])
    ends = (
        f"against {target}\n{-limit:.0f} (exact map)",
        "nothing\n0",
        f"for {target}\n{limit:.0f} (exact), 1 (others)",
    )
    legend.set_xticks((-1, 0, 1), ends, fontsize=7)
    with writing(path), whole(path) as partial:
        figure.savefig(partial, format="png", dpi=_DPI)
