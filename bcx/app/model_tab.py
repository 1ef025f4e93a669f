"""The Model tab: the model's card, for a patient's relative first and for experts below.

Every number comes from the model's results files, as in its card. Charts are SVG: they follow the page's light and
dark, and need no file.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from bcx.app.markup import html
from bcx.errors import CheckpointError
from bcx.inference.classifier import Classifier
from bcx.report import tables
from bcx.report.card import said
from bcx.report.facts import Facts, gather, telling_of
from bcx.tasks import BREAST_ULTRASOUND, Task
from bcx.trust.claims import REFER

#: What a class means to somebody who has never heard the word; others keep their name.
_GLOSS = {"malignant": "malignant (a cancer)", "benign": "benign (a harmless lump)", "normal": "normal (no lump)"}
_SOURCES = {
    "busi": "BUSI (a hospital in Cairo)",
    "busbra": "BUS-BRA (a cancer institute in Brazil)",
    "breast": "BrEaST (five centres in Poland)",
}
Mark = tuple[list[tuple[float, float]], str]  # on a chart: a line or an area, or one point; and what it is
_SCALINGS = {"none": "before scaling", "temperature": "after temperature scaling"}


def model_html(classifier: Classifier) -> str:
    with suppress(CheckpointError), telling_of(classifier.folder):
        if (facts := gather(classifier.folder)).was_measured:
            return _card(facts)
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
        tiles={_named([source]): tiles for source, tiles in _tiles(facts).items()},
        protocol=protocol,
        charts={_named([source]): _charts(facts, source) for source in results.get("risk_coverage", {})},
        tables=_tables(facts, data),
        terms=[*terms, f"Starting weights: {said.start(training['recipe']['init'])}"],
    )


def _named(sources: Iterable[str]) -> str:
    *first, last = (_SOURCES.get(source, source) for source in sources)
    return f"{', '.join(first)} and {last}" if first else last


class Tile(NamedTuple):
    """What happens to a hundred pictures of one kind: how many are answered rightly, referred, and answered wrongly.

    In words: of 100 `of`, `number` were `called` so, and what `more` says. `ends`: those of its 95 % interval.
    """

    right: int
    referred: int
    wrong: int
    of: str
    number: int
    called: str
    more: str
    ends: list[int]


def _tiles(facts: Facts) -> dict[str, list[Tile]]:
    """Return the tiles of each source: positive scans, others, and all of them."""
    results, task = facts.results, facts.task
    if facts.config["bcx"].get("decisions") and "decisions" in results:
        return {source: _decided(part, task) for source, part in results["decisions"]["sources"].items()}
    views = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    views = views or {" and ".join(results["data"]): results["one_view"]}
    names = {"accuracy": "accuracy"} | {name: f"{name}_{task.positive}" for name in ("sensitivity", "specificity")}
    return {source: _decided({key: view[name] for key, name in names.items()}, task) for source, view in views.items()}


def _decided(part: Mapping[str, Any], task: Task) -> list[Tile]:
    rest = " or ".join(name for name in task.classes if name != task.positive)
    others = [row for name, row in part.get("confusion", {}).items() if name != task.positive]
    away = sum(row.get(REFER, 0) for row in others) / max(1, sum(sum(row.values()) for row in others))
    none = {"value": 0.0}
    ill, referred = (part.get(name, none)["value"] for name in ("positive_referred", "referred"))
    missed, alarms = part.get("missed") or _rest(part["sensitivity"]), part.get("false_alarms")
    right = part.get("right") or part["accuracy"]
    tiles = [
        _tile(f"{task.positive} ones", missed, ill, f"called {rest}"),
        _tile("others", alarms or _rest(part["specificity"]), away, f"called {task.positive}"),
        _tile("answers" if referred else "pictures", right, referred, "right", of_answers=True),
    ]
    return [tile for tile in tiles if tile]


def _rest(figure: Mapping[str, Any]) -> dict[str, Any]:
    """Return the share of all else, with its interval."""
    value, low, high = (None if figure[key] is None else 1 - figure[key] for key in ("value", "low", "high"))
    return {"value": value, "low": high, "high": low}


def _tile(of: str, figure: Mapping[str, Any], referred: float, called: str, of_answers: bool = False) -> Tile | None:
    """`figure` is the share that is wrong; or, `of_answers`, of those the share that is right."""
    if figure["value"] is None:
        return None
    number, away = round(100 * figure["value"]), round(100 * referred)
    wrong = round((100 - away) * (1 - figure["value"])) if of_answers else number
    more = f"; {away} of 100 pictures were referred" if of_answers else f" and {away} referred"
    ends = [] if figure["low"] is None else [round(100 * figure[key]) for key in ("low", "high")]
    return Tile(100 - away - wrong, away, wrong, of, number, called, f"{more} to a person" if away else "", ends)


def _tables(facts: Facts, data: Mapping[str, Any]) -> list[tables.Table]:
    places = facts.places and facts.places.get("localisation")
    return [
        *tables.measured_tables(facts),
        *([tables.places_table(places)] if places else []),
        *(tables.external_table(found, facts.task) for found in facts.external.values()),
        *([tables.transfer_table(facts.transfer, facts.task)] if facts.transfer else []),
        tables.data_table(data),
    ]


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


def reliability_chart(report: Mapping[str, Any], caption: str) -> str:
    """Return how often answers of each confidence were right, with intervals, of a `reliability_report`."""
    rows = report["bins"]
    known = [row[key] for row in rows for key in ("confidence", "right", "low") if row[key] is not None]
    start = min(80, int(100 * min(known, default=0)) // 20 * 20) / 100
    marks: list[Mark] = [([(start, start), (1, 1)], "bcx-guide")]
    for row in rows:
        x, low, high = row["confidence"], row["low"], row["high"]
        marks += [([(x, low), (x, min(1.0, high))], "bcx-span")] if low is not None else []
        marks.append(([(x, row["right"])], "bcx-mark"))
    ticks = [k / 100 for k in range(round(100 * start), 101, 20 if start < 0.6 else 10)]
    return html.chart(caption, ("confidence", "share right"), ticks, ticks, marks)


def risk_chart(curve: Mapping[str, Sequence[float | None]], mark: tuple[float, float] | None, caption: str) -> str:
    """Return the share wrong among the scans answered, the surest first, with its band.

    `mark`: the share answered and the share wrong under the rule for referral, or None.
    """
    top = max(0.05, *(value for value in (*curve["high"], *curve["wrong"]) if value is not None))
    step = 2 if top <= 0.1 else 5 if top <= 0.25 else 10 if top <= 0.5 else 20
    upwards = [step * k / 100 for k in range(-(-round(100 * top) // step) + 1)]  # a whole number of steps

    def points(name: str) -> list[tuple[float, float]]:
        pairs = zip(curve["answered"], curve[name], strict=True)
        return [(x, min(y, upwards[-1])) for x, y in pairs if x is not None and y is not None]

    marks: list[Mark] = [([*points("high"), *points("low")[::-1]], "bcx-band"), (points("wrong"), "bcx-curve")]
    if mark is not None:
        marks.append(([(mark[0], min(mark[1], upwards[-1]))], "bcx-rule"))
    across = [k / 4 for k in range(5)]
    return html.chart(caption, ("answered, the surest first", "wrong among them"), across, upwards, marks)
