"""The Model tab: the model's card, for a patient's relative first and for experts below.

Every number comes from the model's results files, as in its card.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from bcx.app.charts import reliability_chart, risk_chart
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
        seen=sum(part["scans"] for part in data.values()),
        places=" and ".join(map(_place, data)),
        kinds=", ".join(gloss.get(name, name) for name in task.classes),
        tiles={_place(source): [*_tiles(figures, task.positive)] for source, figures in _decided(facts).items()},
        abroad=[_abroad(facts, file) for file in facts.external],
        protocol=protocol,
        charts={_place(source): _charts(facts, source) for source in results.get("risk_coverage", {})},
        tables=_tables(facts, data),
        terms=[*terms, f"Starting weights: {said.start(training['recipe']['init'])}"],
    )


def _place(source: str) -> str:
    return _SOURCES.get(source, source)


def _decided(facts: Facts) -> dict[str, Mapping[str, Any]]:
    """Per source: accuracy, sensitivity and specificity of the label as the checkpoint gives it."""
    results, positive = facts.results, facts.task.positive
    if facts.config["bcx"].get("decisions") and "decisions" in results:
        return results["decisions"]["sources"]
    views = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    views = views or {" and ".join(results["data"]): results["one_view"]}
    names = {"accuracy": "accuracy"} | {name: f"{name}_{positive}" for name in ("sensitivity", "specificity")}
    return {source: {name: view[key] for name, key in names.items()} for source, view in views.items()}


def _tiles(figures: Mapping[str, Any], positive: str) -> Iterator[tuple[Any, ...]]:
    """Yield each figure out of a hundred, whether it counts faults, the words around it, and its interval or Nones."""
    for key, bad, before, after in (
        ("sensitivity", False, f"of 100 {positive} ones it found", " and missed {rest}"),
        ("specificity", True, "of 100 others it called", f" {positive} by mistake"),
        ("accuracy", False, "of 100 pictures it was right on", ""),
    ):
        figure = figures.get(key)
        if figure is None or figure["value"] is None:
            continue
        hundred, low, high = _hundred(figure["value"], bad), None, None
        if figure["low"] is not None:
            low, high = sorted(_hundred(figure[end], bad) for end in ("low", "high"))
        yield hundred, bad, before, after.replace("{rest}", str(100 - hundred)), low, high


def _hundred(share: float, bad: bool) -> int:
    """A share out of a hundred, or what is left of it."""
    return 100 - round(100 * share) if bad else round(100 * share)


def _abroad(facts: Facts, file: str) -> tuple[int, str, str]:
    """Return on how many scans from where what became of them, in a sentence that hides nothing."""
    found, task = facts.external[file], facts.task
    figures = found["figures"]
    told = [f"it was right on {round(100 * figures['accuracy']['value'])} of 100 pictures"]
    finds, loses = figures.get(f"sensitivity_{task.positive}"), figures.get(f"lesions_called_{task.absent}")
    if finds and finds["value"] is not None:
        told.append(f"called {round(100 * finds['value'])} of 100 {task.positive} ones {task.positive}")
    if loses and loses["value"] is not None:
        told.append(f"and said of {round(100 * loses['value'])} of 100 lumps that there was none")
    return found["n"], " and ".join(map(_place, found["data"])), ", ".join(told)


def _tables(facts: Facts, data: Mapping[str, Any]) -> list[tables.Table]:
    every = [*tables.measured_tables(facts)]
    if facts.places is not None and facts.places.get("localisation"):
        every.append(tables.places_table(facts.places["localisation"]))
    every += [tables.external_table(found, facts.task) for found in facts.external.values()]
    if facts.transfer is not None:
        every.append(tables.transfer_table(facts.transfer, facts.task))
    return [*every, tables.data_table(data)]


def _charts(facts: Facts, source: str) -> list[str]:
    """Confusion, reliability and risk-coverage of a source."""
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
