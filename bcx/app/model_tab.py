"""The Model tab: the model's card, for a patient's relative first and for experts below.

tab = build_model_tab(classifier)                  # once
tab.value = model_html(another)                    # for another model: the same component, other content

Every number comes from the model's results files, as in its card.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from bcx.app.charts import confusion_picture, dots, reliability_chart, risk_chart
from bcx.errors import CheckpointError
from bcx.report import tables, wording
from bcx.report.facts import Facts, gather, telling_of
from bcx.tasks import BREAST_ULTRASOUND

if TYPE_CHECKING:
    from bcx.inference.classifier import Classifier
    from bcx.tasks import Task

#: What a class means to somebody who has never heard the word; others keep their name.
_GLOSS = {"malignant": "malignant (a cancer)", "benign": "benign (a harmless lump)", "normal": "normal (no lump)"}
_SOURCES = {
    "busi": "BUSI, a hospital in Cairo",
    "busbra": "BUS-BRA, a cancer institute in Brazil",
    "breast": "BrEaST, five centres in Poland",
}
_SCALINGS = {"none": "before scaling", "temperature": "after temperature scaling"}


def build_model_tab(classifier: Classifier) -> gr.HTML:
    """Lay out the tab's content and return it; hand `model_html(another)` to it to show another model."""
    return gr.HTML(model_html(classifier), elem_id="model-card")


def model_html(classifier: Classifier) -> str:
    """Return the card of the classifier's model as HTML."""
    try:
        facts = gather(classifier.folder)
        with telling_of(facts.folder):
            if facts.was_measured:
                return f'<article class="bcx-model">{_plain(facts)}{_expert(facts)}</article>'
    except CheckpointError:
        pass
    return _untold(classifier.name, classifier.task)


def _untold(name: str, task: Task) -> str:
    return (
        f'<article class="bcx-model"><section><h2>{escape(name)}</h2><p>{escape(task.title)}. Nobody has measured this '
        "model: there is no telling how often it is wrong. For research and teaching, never for "
        "diagnosis.</p></section></article>"
    )


def _plain(facts: Facts) -> str:
    """What it is, how well it does and what it is not, in plain words."""
    task, training = facts.task, facts.config["bcx"]["training"]
    data = training.get("data", {})
    seen = sum(part["scans"] for part in data.values())
    places = " and ".join(_SOURCES.get(name, name) for name in data)
    gloss = _GLOSS if task == BREAST_ULTRASOUND else {}
    kinds = ", ".join(gloss.get(name, name) for name in task.classes)
    tested = "Tested on pictures that were not in its training data."
    if facts.by_hospital:
        tested = "Each hospital was tested with programs of the same kind that had seen the other hospitals only."
    parts = [
        f'<section class="bcx-plain"><h2>What is it?</h2><p>A computer program called <b>{escape(facts.name)}</b>. It '
        f"has looked at {seen:,} {escape(task.image_noun)}s whose answer was known ({escape(places)}) and learnt to "
        f"sort new ones into {len(task.classes)} kinds: {escape(kinds)}. It sees one picture, and knows "
        "nothing about the person.</p>",
        f"<h2>How often is it right?</h2><p>{tested} Each dot is one picture out of a hundred.</p>",
    ]
    for source, figures in _decided(facts).items():
        parts.append(_tiles(facts, source, figures))
    parts += [_abroad(facts, file) for file in facts.external]
    parts.append(
        "<h2>What it is not</h2><ul><li>It is <b>no doctor and no medical device</b>. Nobody has tested it on "
        "patients. If you are worried about your health, see a doctor, whatever it says.</li>"
        f"<li>It is no all-clear: it misses some that are {escape(task.positive)}.</li>"
        "<li>It is worse on pictures from other hospitals and machines than those named here.</li>"
        f"<li>Its input check lets some pictures pass that are no {escape(task.image_noun)}.</li></ul></section>"
    )
    return "".join(parts)


def _decided(facts: Facts) -> dict[str, Mapping[str, Any]]:
    """Per source: accuracy, sensitivity and specificity of the label as the checkpoint gives it."""
    results, task = facts.results, facts.task
    if facts.config["bcx"].get("decisions") and "decisions" in results:
        return results["decisions"]["sources"]
    views = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    views = views or {" and ".join(results["data"]): results["one_view"]}
    names = {"accuracy": "accuracy", "sensitivity": f"sensitivity_{task.positive}"}
    names |= {"specificity": f"specificity_{task.positive}"}
    return {source: {name: view[key] for name, key in names.items()} for source, view in views.items()}


def _tiles(facts: Facts, source: str, figures: Mapping[str, Any]) -> str:
    positive = facts.task.positive
    cells = []
    for key, bad, words in (
        ("sensitivity", False, f"of 100 {positive} ones it found {{}} and missed {{rest}}"),
        ("specificity", True, f"of 100 others it called {{}} {positive} by mistake"),
        ("accuracy", False, "of 100 pictures it was right on {}"),
    ):
        figure = figures.get(key)
        if figure is None or figure["value"] is None:
            continue
        hundred = _hundred(figure["value"], bad)
        told = escape(words).replace("{}", f"<b>{hundred}</b>").replace("{rest}", str(100 - hundred))
        if figure["low"] is not None:
            low, high = sorted(_hundred(figure[end], bad) for end in ("low", "high"))
            told += f"<small>with other patients there: {low} to {high}</small>"
        cells.append(f'<li class="bcx-tile">{dots(hundred, bad)}<p>{told}</p></li>')
    title = escape(_SOURCES.get(source, source))
    return f'<h3>{title}</h3><ul class="bcx-tiles">{"".join(cells)}</ul>'


def _hundred(share: float, bad: bool) -> int:
    """A share out of a hundred, or what is left of it."""
    return 100 - round(100 * share) if bad else round(100 * share)


def _abroad(facts: Facts, file: str) -> str:
    """What became of scans from elsewhere, in a sentence that hides nothing."""
    found, task = facts.external[file], facts.task
    figures = found["figures"]
    place = escape(" and ".join(_SOURCES.get(name, name) for name in found["data"]))
    told = [f"it was right on {round(100 * figures['accuracy']['value'])} of 100 pictures"]
    finds, loses = figures.get(f"sensitivity_{task.positive}"), figures.get(f"lesions_called_{task.absent}")
    if finds and finds["value"] is not None:
        told.append(f"called {round(100 * finds['value'])} of 100 {task.positive} ones {task.positive}")
    if loses and loses["value"] is not None:
        told.append(f"and said of {round(100 * loses['value'])} of 100 lumps that there was none")
    return (
        f'<p class="bcx-abroad"><b>It is worse elsewhere.</b> On {found["n"]:,} pictures of {place}, not in its '
        f"training data, {escape(', '.join(told))}.</p>"
    )


def _expert(facts: Facts) -> str:
    """The card's tables and pictures."""
    results, training = facts.results, facts.config["bcx"]["training"]
    parts = [
        '<section class="bcx-expert"><h2>For experts</h2>',
        f"<p>{_inline(wording.protocol(facts))} In brackets: 95 % bootstrap intervals over groups. "
        f"Temperature {results['temperature']:.3f}: ECE {results['uncalibrated']['ece']:.3f} before, "
        f"{results['report']['ece']:.3f} after.</p>",
        _pictures(facts),
    ]
    every = [*tables.measured_tables(facts)]
    if facts.places is not None and facts.places.get("localisation"):
        every.append(tables.places_table(facts.places["localisation"]))
    every += [tables.external_table(found, facts.task) for found in facts.external.values()]
    if facts.transfer is not None:
        every.append(tables.transfer_table(facts.transfer, facts.task))
    every.append(tables.data_table(training.get("data", {})))
    parts += [_table(table, number == 0) for number, table in enumerate(every)]
    terms = [wording.DATA.get(source, f"{source}: {wording.OWN_DATA}.") for source in training.get("data", {})]
    start = wording.start_words(training["recipe"]["init"])
    parts.append(
        "<details><summary>Data, starting weights, licences</summary><ul>"
        + "".join(f"<li>{_inline(text)}</li>" for text in [*terms, f"Starting weights: {start}"])
        + "<li>Code and weights: Apache-2.0.</li></ul></details></section>"
    )
    return "".join(parts)


def _pictures(facts: Facts) -> str:
    """Confusion, reliability and risk-coverage, a row per source."""
    results = facts.results
    decided = results.get("decisions", {}) if facts.config["bcx"].get("decisions") else {}
    rows = []
    for source in results.get("risk_coverage", {}):
        part = decided.get("sources", {}).get(source, {})
        if "confusion" in part:
            matrix, title = part["confusion"], "The answers"
        else:
            matrix, title = results["report"]["confusion"], "The most probable class"
        cells = [confusion_picture(matrix, title)] if matrix and ("confusion" in part or _single(results)) else []
        for name, words in _SCALINGS.items():
            if name in results["reliability"][source]:
                report = results["reliability"][source][name]
                told = f"Reliability {words}: ECE {report['ece']['value']:.3f}"
                cells.append(_figure(reliability_chart(report, told), told))
        curve, mark = results["risk_coverage"][source], None
        told = f"Risk and coverage: area {curve['area']['value']:.3f}"
        share = decided.get("referral", {}).get(source)
        if share and share["answered"] < 1 and share["accuracy"] is not None:
            mark = share["answered"], 1 - share["accuracy"]
            told += f"; the dot: refers {100 * (1 - mark[0]):.0f} %, of the rest {100 * share['accuracy']:.1f} % right"
        cells.append(_figure(risk_chart(curve, mark, told), told))
        rows.append(f'<h3>{escape(_SOURCES.get(source, source))}</h3><div class="bcx-charts">{"".join(cells)}</div>')
    return "".join(rows)


def _single(results: Mapping[str, Any]) -> bool:
    return len(results["risk_coverage"]) == 1


def _figure(picture: str, caption: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{picture}</figure>"


def _table(table: tables.Table, opened: bool) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in row[1:])}</tr>'
        for row in table.rows
    )
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<details{' open' if opened else ''}><summary>{escape(table.title)}</summary>"
        f'<div class="bcx-scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{note}</details>"
    )


def _inline(text: str) -> str:
    """Markdown of a sentence (bold, code, links) as HTML."""
    text = escape(text)
    text = re.sub(r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2" rel="noopener">\1</a>', text)
    text = re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
