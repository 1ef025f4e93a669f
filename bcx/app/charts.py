"""Small charts as SVG and HTML from stored figures: they follow the page's light and dark, and need no file.

>>> dots(79).count("<circle"), dots(79).count('class="bcx-hit"')
(100, 79)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

#: In SVG units: side of the plotted square, and the room for labels at the left, below, above and at the right.
_SIDE, _LEFT, _BELOW, _ABOVE, _RIGHT = 240, 46, 40, 8, 14


def dots(hundred: int, bad: bool = False) -> str:
    """Return a hundred dots, the first `hundred` of them filled, ten in a row; in the colour of faults where `bad`."""
    filled = "bcx-fault" if bad else "bcx-hit"
    marks = [
        f'<circle cx="{6 + 12 * (k % 10)}" cy="{6 + 12 * (k // 10)}" r="4.2" '
        f'class="{filled if k < hundred else "bcx-miss"}"/>'
        for k in range(100)
    ]
    return f'<svg class="bcx-dots" viewBox="0 0 120 120" aria-hidden="true">{"".join(marks)}</svg>'


def reliability_chart(report: Mapping[str, Any], title: str) -> str:
    """Return how often answers of each confidence were right, with intervals, against the diagonal.

    Args:
        report: one scaling's, as `bcx.evaluate.decisions.reliability_report`.
        title: read out instead of the picture.
    """
    rows = report["bins"]
    known = [row[key] for row in rows for key in ("confidence", "right", "low") if row[key] is not None]
    start = min(80, int(100 * min(known, default=0)) // 20 * 20) / 100

    def at(x: float, y: float) -> tuple[float, float]:
        return _place((x - start) / (1 - start), (y - start) / (1 - start))

    marks = []
    for row in rows:
        x, y = at(row["confidence"], row["right"])
        if row["low"] is not None:
            marks.append(_line(x, at(0, row["low"])[1], x, at(0, min(1.0, row["high"]))[1], "bcx-span"))
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" class="bcx-mark"/>')
    marks.insert(0, _line(*at(start, start), *at(1, 1), "bcx-guide"))
    ticks = [k / 100 for k in range(round(100 * start), 101, 20 if start < 0.6 else 10)]
    return _chart(marks, title, "confidence", "share right", [(t, t) for t in ticks], start)


def risk_chart(curve: Mapping[str, Sequence[float | None]], mark: tuple[float, float] | None, title: str) -> str:
    """Return the share wrong among the scans answered, the surest first, with its band.

    Args:
        curve: as `bcx.evaluate.derived.derive` stores it.
        mark: the share answered and the share wrong under the rule for referral, or None.
        title: read out instead of the picture.
    """
    highs = [high for high in curve["high"] if high is not None]
    top = max(0.05, *(value for value in (*highs, *curve["wrong"]) if value is not None))
    step = 2 if top <= 0.1 else 5 if top <= 0.25 else 10 if top <= 0.5 else 20
    rows = -(-round(100 * top) // step)
    top = rows * step / 100  # a whole number of steps

    def path(x: Sequence[float | None], y: Sequence[float | None]) -> list[tuple[float, float]]:
        pairs = zip(x, y, strict=True)
        return [_place(a, min(b, top) / top) for a, b in pairs if a is not None and b is not None]

    upper, lower = path(curve["answered"], curve["high"]), path(curve["answered"], curve["low"])
    marks = [f'<polygon points="{_points([*upper, *lower[::-1]])}" class="bcx-band"/>']
    marks.append(f'<polyline points="{_points(path(curve["answered"], curve["wrong"]))}" class="bcx-curve"/>')
    if mark is not None:
        x, y = _place(mark[0], min(mark[1], top) / top)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="bcx-rule"/>')
    ticks = [(k / 4, None) for k in range(5)] + [(None, step * k / 100) for k in range(rows + 1)]
    return _chart(marks, title, "answered, the surest first", "wrong among them", ticks, 0.0, top)


def confusion_picture(confusion: Mapping[str, Mapping[str, int]], title: str) -> str:
    """Return a matrix of true classes against what was given, each cell as dark as its share of the row."""
    across = list(next(iter(confusion.values())))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in across)
    body = []
    for true, row in confusion.items():
        total = sum(row.values())
        cells = []
        for given in across:
            share = row[given] / total if total else 0.0
            told = f"<small>{100 * share:.0f} %</small>" if total else ""
            cells.append(f'<td style="--share: {60 * share:.0f}%">{row[given]}{told}</td>')
        body.append(f'<tr><th scope="row">{escape(true)}</th>{"".join(cells)}</tr>')
    told = escape(f"{title}. Down: what it was; across: what it said")
    return (
        f'<figure class="bcx-confusion"><figcaption>{told}</figcaption>'
        f"<table><thead><tr><td></td>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        "</figure>"
    )


def _chart(
    marks: Sequence[str],
    title: str,
    below: str,
    beside: str,
    ticks: Sequence[tuple[float | None, float | None]],
    start: float,
    top: float = 1.0,
) -> str:
    """Axes from `start` to 1 and `top` with `ticks` (x, y; None: on the other axis only), and the marks on them."""
    parts = []
    for across, up in ticks:
        if across is not None:
            x = _place((across - start) / (1 - start), 0)[0]
            parts.append(_line(x, _ABOVE, x, _ABOVE + _SIDE, "bcx-grid"))
            parts.append(f'<text x="{x:.1f}" y="{_ABOVE + _SIDE + 15}" text-anchor="middle">{100 * across:.0f}</text>')
        if up is not None:
            y = _place(0, (up - start) / (top - start))[1]
            parts.append(_line(_LEFT, y, _LEFT + _SIDE, y, "bcx-grid"))
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * up:.0f}</text>')
    middle, height = _LEFT + _SIDE / 2, _ABOVE + _SIDE + _BELOW
    parts.append(f'<text x="{middle}" y="{height - 6}" text-anchor="middle">{escape(below)}, %</text>')
    turned = f'transform="rotate(-90 12 {_ABOVE + _SIDE / 2})"'
    parts.append(f'<text x="12" y="{_ABOVE + _SIDE / 2}" text-anchor="middle" {turned}>{escape(beside)}, %</text>')
    return (
        f'<svg class="bcx-chart" viewBox="0 0 {_LEFT + _SIDE + _RIGHT} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join([*parts, *marks])}</svg>'
    )


def _place(x: float, y: float) -> tuple[float, float]:
    return _LEFT + _SIDE * x, _ABOVE + _SIDE * (1 - y)


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
