"""Small charts as SVG from stored figures: they follow the page's light and dark, and need no file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcx.app.markup import html
from bcx.inference.clip import Clip
from bcx.report.words import percent
from bcx.tasks import Task

Mark = tuple[str, dict[str, Any], str]
#: In SVG units: side of the plotted square, and the room for labels at the left, below, above and at the right.
_SIDE, _LEFT, _BELOW, _ABOVE, _RIGHT = 240, 46, 40, 8, 14
#: Of a clip's plotted field, in SVG units; it is stretched to the width of the page.
_CLIP_SIZE = 560, 110


@dataclass(frozen=True)
class _Axes:
    """From `start` to 1 across and to `top` upwards."""

    start: float = 0.0
    top: float = 1.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        x, y = (x - self.start) / (1 - self.start), (y - self.start) / (self.top - self.start)
        return _LEFT + _SIDE * x, _ABOVE + _SIDE * (1 - y)

    def draw(self, caption: str, names: Sequence[str], ticks: Sequence[Sequence[float]], marks: list[Mark]) -> str:
        """Return the chart with the marks on it; `names` and `ticks` of the axis across and of the other."""
        drawn = []
        for across in ticks[0]:
            x = self.at(across, self.start)[0]
            drawn.append(_line(x, _ABOVE, x, _ABOVE + _SIDE, "bcx-grid"))
            drawn.append(_text(f"{x:.1f}", _ABOVE + _SIDE + 15, "middle", f"{100 * across:.0f}"))
        for up in ticks[1]:
            y = self.at(self.start, up)[1]
            drawn.append(_line(_LEFT, y, _LEFT + _SIDE, y, "bcx-grid"))
            drawn.append(_text(_LEFT - 6, f"{y + 4:.1f}", "end", f"{100 * up:.0f}"))
        width, height = _LEFT + _SIDE + _RIGHT, _ABOVE + _SIDE + _BELOW
        middle = _ABOVE + _SIDE / 2
        drawn.append(_text(_LEFT + _SIDE / 2, height - 6, "middle", f"{names[0]}, %"))
        drawn.append(_text(12, middle, "middle", f"{names[1]}, %", transform=f"rotate(-90 12 {middle})"))
        return html.chart(caption, width, height, [*drawn, *marks])


def reliability_chart(report: Mapping[str, Any], caption: str) -> str:
    """Return how often answers of each confidence were right, with intervals, against the diagonal.

    `report`: one scaling's, as `bcx.evaluate.curves.reliability_report`.
    """
    rows = report["bins"]
    known = [row[key] for row in rows for key in ("confidence", "right", "low") if row[key] is not None]
    start = min(80, int(100 * min(known, default=0)) // 20 * 20) / 100
    axes = _Axes(start)
    marks = [_line(*axes.at(start, start), *axes.at(1, 1), "bcx-guide")]
    for row in rows:
        x, y = axes.at(row["confidence"], row["right"])
        if row["low"] is not None:
            marks.append(_line(x, axes.at(0, row["low"])[1], x, axes.at(0, min(1.0, row["high"]))[1], "bcx-span"))
        marks.append(_circle(x, y, 4, "bcx-mark"))
    ticks = [k / 100 for k in range(round(100 * start), 101, 20 if start < 0.6 else 10)]
    return axes.draw(caption, ("confidence", "share right"), (ticks, ticks), marks)


def risk_chart(curve: Mapping[str, Sequence[float | None]], mark: tuple[float, float] | None, caption: str) -> str:
    """Return the share wrong among the scans answered, the surest first, with its band.

    `curve`: as `bcx.evaluate.derived.derive` stores it; `mark`: the share answered and the share wrong under the rule
    for referral, or None.
    """
    top = max(0.05, *(value for value in (*curve["high"], *curve["wrong"]) if value is not None))
    step = 2 if top <= 0.1 else 5 if top <= 0.25 else 10 if top <= 0.5 else 20
    rows = -(-round(100 * top) // step)
    axes = _Axes(top=rows * step / 100)  # a whole number of steps

    def path(name: str) -> list[tuple[float, float]]:
        pairs = zip(curve["answered"], curve[name], strict=True)
        return [axes.at(x, min(y, axes.top)) for x, y in pairs if x is not None and y is not None]

    marks: list[Mark] = [
        ("polygon", {"points": _points([*path("high"), *path("low")[::-1]]), "class": "bcx-band"}, ""),
        ("polyline", {"points": _points(path("wrong")), "class": "bcx-curve"}, ""),
    ]
    if mark is not None:
        marks.append(_circle(*axes.at(mark[0], min(mark[1], axes.top)), 5, "bcx-rule"))
    ticks = [k / 4 for k in range(5)], [step * k / 100 for k in range(rows + 1)]
    return axes.draw(caption, ("answered, the surest first", "wrong among them"), ticks, marks)


def clip_html(clip: Clip, task: Task, shown: int) -> str:
    """Return the probability of each class over the frames read; `shown`: the place among them, from 0, to mark."""
    values = ", ".join(f"{name} {percent(p)}" for name, p in zip(task.classes, clip.probabilities[shown], strict=True))
    said = f"Frame {clip.read[shown] + 1:,} of {clip.count:,}: {values}."
    width, height = _CLIP_SIZE
    first, last = clip.read[0], clip.read[-1]
    across = [width * (frame - first) / max(1, last - first) for frame in clip.read]
    upwards = 4 + (height - 8) * (1 - clip.probabilities.astype(float))
    lines = [_points(zip(across, each, strict=True)) for each in upwards.T]
    half = f"{4 + (height - 8) / 2:.1f}"
    return html.clip(clip, task, said, _CLIP_SIZE, half, f"{across[shown]:.1f}", lines)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Mark:
    return "line", {"x1": f"{x1:.1f}", "y1": f"{y1:.1f}", "x2": f"{x2:.1f}", "y2": f"{y2:.1f}", "class": kind}, ""


def _circle(x: float, y: float, radius: int, kind: str) -> Mark:
    return "circle", {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": radius, "class": kind}, ""


def _text(x: Any, y: Any, anchor: str, words: str, **more: str) -> Mark:
    return "text", {"x": x, "y": y, "text-anchor": anchor, **more}, words


def _points(pairs: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
