"""Figures as text, and tables of them in Markdown.

>>> units(0.8234), units(-0.012), units(0.045, sign=True)
('.823', '-.012', '+.045')
>>> interval({"value": 0.8234, "low": 0.79, "high": 0.85}), interval({"value": None})
('.823 (.790 to .850)', '-')
>>> markdown_table(["a", "b"], [["1", "2"]])
['| a | b |', '| --- | --- |', '| 1 | 2 |']
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def percent(value: float) -> str:
    """Return 0..1 as a whole percentage: "84 %"."""
    return f"{100 * value:.0f} %"


def units(value: float, sign: bool = False) -> str:
    """Return three digits and no nought before the point."""
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{value:+.3f}" if sign else f"{value:.3f}")


def interval(figure: Mapping[str, Any], sign: bool = False, form: str = "") -> str:
    """Return a value with its 95 % interval, a dash without one; as `units`, or in a format such as ".2f"."""
    if figure["value"] is None:
        return "-"
    known = [figure[key] for key in ("value", "low", "high") if figure[key] is not None]
    value, *ends = (format(number, form) if form else units(number, sign) for number in known)
    return f"{value} ({' to '.join(ends)})" if ends else value


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
