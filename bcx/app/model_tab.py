"""The Model tab: the model's card, for a patient's relative first and for experts below.

Every number comes from the model's results files, as in its card. Charts are SVG: they follow the page's light and
dark, and need no file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from bcx.app.markup import html
from bcx.errors import CheckpointError
from bcx.inference.classifier import Classifier
from bcx.report import tables
from bcx.report.card import said
from bcx.report.facts import Facts, gather, telling_of
from bcx.tasks import BREAST_ULTRASOUND

#: What a class means to somebody who has never heard the word; others keep their name.
_GLOSS = {"malignant": "malignant (a cancer)", "benign": "benign (a harmless lump)", "normal": "normal (no lump)"}
_SOURCES = {
    "busi": "BUSI, a hospital in Cairo",
    "busbra": "BUS-BRA, a cancer institute in Brazil",
    "breast": "BrEaST, five centres in Poland",
}
Mark = tuple[str, dict[str, Any]]
#: In SVG units: side of the plotted square, and the room at its left and above it.
_SIDE, _LEFT, _ABOVE = 240, 46, 8
_SCALINGS = {"none": "before scaling", "temperature": "after temperature scaling"}


def model_html(classifier: Classifier) -> str:
    """Return the card of the classifier's model as HTML."""
    try:
        facts = gather(classifier.folder)
        with telling_of(facts.folder):
            if facts.was_measured:
                return _card(facts)
    except CheckpointError:
        pass
    return html.untold(classifier.name, classifier.task)


def _card(facts: Facts) -> str:
    task, results, training = facts.task, facts.results, facts.config["bcx"]["training"]
    data = training.get("data", {})
    gloss = _GLOSS if task == BREAST_ULTRASOUND else {}
    protocol = (
        f"{said.protocol(facts)} In brackets: 95 % bootstrap intervals over groups. Temperature "
        f"{results['temperature']:.3f}: ECE {results['uncalibrated']['ece']:.3f} before, "
        f"{results['report']['ece']:.3f} after."
    )
    terms = [said.terms(source, source) for source in data]
    return html.model(
        facts,
        data,
        _named,
        kinds=", ".join(gloss.get(name, name) for name in task.classes),
        tiles={_named([source]): figures for source, figures in _decided(facts).items()},
        protocol=protocol,
        charts={_named([source]): _charts(facts, source) for source in results.get("risk_coverage", {})},
        tables=_tables(facts, data),
        terms=[*terms, f"Starting weights: {said.start(training['recipe']['init'])}"],
    )


def _named(sources: Iterable[str]) -> str:
    return " and ".join(_SOURCES.get(source, source) for source in sources)


def _decided(facts: Facts) -> dict[str, Mapping[str, Any]]:
    """Per source: accuracy, sensitivity and specificity of the label as the checkpoint gives it."""
    results, positive = facts.results, facts.task.positive
    if facts.config["bcx"].get("decisions") and "decisions" in results:
        return results["decisions"]["sources"]
    views = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    views = views or {" and ".join(results["data"]): results["one_view"]}
    names = {"accuracy": "accuracy"} | {name: f"{name}_{positive}" for name in ("sensitivity", "specificity")}
    return {source: {name: view[key] for name, key in names.items()} for source, view in views.items()}


def _tables(facts: Facts, data: Mapping[str, Any]) -> list[tables.Table]:
    every = [*tables.measured_tables(facts)]
    if facts.places is not None and facts.places.get("localisation"):
        every.append(tables.places_table(facts.places["localisation"]))
    every += [tables.external_table(found, facts.task) for found in facts.external.values()]
    if facts.transfer is not None:
        every.append(tables.transfer_table(facts.transfer, facts.task))
    return [*every, tables.data_table(data)]


def _charts(facts: Facts, source: str) -> list[str]:
    results = facts.results
    decided = results.get("decisions", {}) if facts.config["bcx"].get("decisions") else {}
    part, charts = decided.get("sources", {}).get(source, {}), []
    if "confusion" in part:
        matrix, title = part["confusion"], "The answers"
    else:
        alone = len(results["risk_coverage"]) == 1
        matrix, title = results["report"]["confusion"] if alone else None, "The most probable class"
    if matrix:
        charts.append(html.confusion(matrix, title))
    for name, words in _SCALINGS.items():
        if name in results["reliability"][source]:
            report = results["reliability"][source][name]
            charts.append(reliability_chart(report, f"Reliability {words}: ECE {report['ece']['value']:.3f}"))
    curve, mark = results["risk_coverage"][source], None
    told = f"Risk and coverage: area {curve['area']['value']:.3f}"
    share = decided.get("referral", {}).get(source)
    if share and share["answered"] < 1 and share["accuracy"] is not None:
        mark = share["answered"], 1 - share["accuracy"]
        told += f"; the dot: refers {100 * (1 - mark[0]):.0f} %, of the rest {100 * share['accuracy']:.1f} % right"
    return [*charts, risk_chart(curve, mark, told)]


class _Axes(NamedTuple):
    """From `start` to 1 across and to `top` upwards."""

    start: float = 0.0
    top: float = 1.0

    def at(self, x: float, y: float) -> tuple[float, float]:
        x, y = (x - self.start) / (1 - self.start), (y - self.start) / (self.top - self.start)
        return _LEFT + _SIDE * x, _ABOVE + _SIDE * (1 - y)

    def draw(self, caption: str, names: Sequence[str], ticks: Sequence[Sequence[float]], marks: list[Mark]) -> str:
        """Return the chart with the marks on it; `names` and `ticks` of the axis across and of the other."""
        across = [(self.at(tick, self.start)[0], 100 * tick) for tick in ticks[0]]
        upwards = [(self.at(self.start, tick)[1], 100 * tick) for tick in ticks[1]]
        return html.chart(caption, names, across, upwards, (_SIDE, _LEFT, _ABOVE), marks)


def reliability_chart(report: Mapping[str, Any], caption: str) -> str:
    """Return how often answers of each confidence were right, with intervals, against the diagonal.

    `report`: one scaling's, as `bcx.evaluate.curves.reliability_report`.
    """
    rows = report["bins"]
    known = [row[key] for row in rows for key in ("confidence", "right", "low") if row[key] is not None]
    start = min(80, int(100 * min(known, default=0)) // 20 * 20) / 100
    axes = _Axes(start)
    marks = [_path("polyline", [axes.at(start, start), axes.at(1, 1)], "bcx-guide")]
    for row in rows:
        if row["low"] is not None:
            ends = [axes.at(row["confidence"], share) for share in (row["low"], min(1.0, row["high"]))]
            marks.append(_path("polyline", ends, "bcx-span"))
        marks.append(_circle(axes.at(row["confidence"], row["right"]), 4, "bcx-mark"))
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

    marks = [
        _path("polygon", [*path("high"), *path("low")[::-1]], "bcx-band"),
        _path("polyline", path("wrong"), "bcx-curve"),
    ]
    if mark is not None:
        marks.append(_circle(axes.at(mark[0], min(mark[1], axes.top)), 5, "bcx-rule"))
    ticks = [k / 4 for k in range(5)], [step * k / 100 for k in range(rows + 1)]
    return axes.draw(caption, ("answered, the surest first", "wrong among them"), ticks, marks)


def _circle(at: tuple[float, float], radius: int, kind: str) -> Mark:
    return "circle", {"cx": f"{at[0]:.1f}", "cy": f"{at[1]:.1f}", "r": radius, "class": kind}


def _path(element: str, pairs: Sequence[tuple[float, float]], kind: str) -> Mark:
    return element, {"points": " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs), "class": kind}
