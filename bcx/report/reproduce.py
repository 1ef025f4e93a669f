"""Whether a card's figures can be had again: from the stored out-of-fold answers, and from scans at hand."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from bcx.checkpoints.checkpoint import sha256_of
from bcx.evaluate.derived import DERIVED, FOLDS, HOSPITALS, STORED, derive, noted_scans
from bcx.evaluate.evaluation import Evaluation
from bcx.evaluate.oof import read_answers
from bcx.report.facts import OOF, Facts, telling_of
from bcx.train.provenance import write_json

Named = Iterator[tuple[str, Mapping[str, Any]]]
#: A value agrees when the card would print the same: half of its last digit. Ends of intervals come from random draws,
#: which another version of NumPy may make differently, and an answer from another backend or image decoder.
VALUE, BOUND, ANSWER = 0.0005, 0.005, 0.005


class Check(NamedTuple):
    """One figure that was had again, as text; `agrees` is None where there is nothing to hold it against."""

    what: str
    stored: str
    again: str
    agrees: bool | None


def derive_again(facts: Facts) -> dict[str, Any]:
    """Return the figures of a model, from its out-of-fold table alone."""
    frame = read_answers(facts.tables()[0], facts.task)
    with telling_of(facts.folder):
        by = HOSPITALS if facts.by_hospital else facts.results.get("decisions", {}).get("by", FOLDS)
        block = facts.config["bcx"]
        stored = {FOLDS: None, HOSPITALS: None, STORED: (block["temperature"], block.get("decisions"))}[by]
    return derive(frame, facts.task, noted_scans(frame["file"]), by, stored)


def check_figures(stored: Mapping[str, Any], again: Mapping[str, Any]) -> list[Check]:
    """Hold every figure that came out again against the stored one; one that results.json lacks does not agree."""
    return _checks(_figures(stored), _figures(again))


def check_checkpoint(facts: Facts, again: Mapping[str, Any]) -> list[Check]:
    """Hold what the checkpoint stores and uses against what comes out again, and its table against the results'."""
    block = facts.config["bcx"]
    temperature, rules = again["temperature"], again.get("decisions", {}).get("rules", {})
    if facts.decisions is not None:  # fitted on other hospitals, by a study of its own
        temperature, rules = facts.decisions["temperature"], {"rule": facts.decisions["rule"]}
    what = "temperature in config.json"
    checks = [_check(what, {"value": block["temperature"]}, {"value": temperature})]
    if block.get("decisions"):
        checks += _checks(_rules(block["decisions"], "config.json"), _rules(rules, "config.json"))
    if len(tables := facts.tables()) > 1:
        own, theirs = (sha256_of(file)[:12] for file in reversed(tables))
        checks.append(Check(f"{OOF} of checkpoint and results", own, theirs, own == theirs))
    return checks


def check_scans(facts: Facts, data: Mapping[str, Mapping[str, Any]], evaluation: Evaluation) -> list[Check]:
    """Hold the checkpoint's answers to scans at hand against what was measured on the same scans.

    Per source of `data` (as `describe_data`): every stored external figure on the same scans; or, where the network was
    trained on them or nobody measured them before, accuracy and macro ROC-AUC, which nothing can be held against.
    """
    summary = evaluation.summary()
    trained = [part["sha256"] for part in facts.config["bcx"]["training"].get("data", {}).values()]
    checks = []
    for source, about in data.items():
        sets = facts.external.values()
        known = [found for found in sets if found["data"].get(source, {}).get("sha256") == about["sha256"]]
        figures, *measured = (_values(results, source) for results in (summary, *known))
        if measured:
            checks += [
                _check(f"{source}: {name}", figure, figures[name], ANSWER)
                for name, figure in measured[0].items()
                if name in figures and figure["value"] is not None
            ]
            continue
        why = "seen in training" if about["sha256"] in trained else "not measured before"
        checks += [Check(f"{source}: {name}", why, _told(figures[name]), None) for name in ("accuracy", "macro_auc")]
    return checks


def _values(results: Mapping[str, Any], source: str) -> dict[str, dict[str, Any]]:
    part = results.get("sources", {}).get(source, results)
    return {name: {"value": figure["value"]} for name, figure in part["figures"].items()}


def store(facts: Facts, again: Mapping[str, Any]) -> list[Path]:
    """Write the figures that came out again into results.json, beside the results and in the checkpoint."""
    content = {key: value for key, value in facts.results.items() if key not in DERIVED} | dict(again)
    tables = facts.tables()
    same = [table.with_name("results.json") for table in tables if sha256_of(table) == sha256_of(tables[0])]
    for file in same:
        write_json(file, content)
    return same


def _figures(results: Mapping[str, Any]) -> Named:
    """Yield what each figure of results.json is called, and the figure; a number alone as one without an interval."""
    yield "temperature", {"value": results.get("temperature")}
    parts = {"": results} | {f"{source}, ": part for source, part in results.get("sources", {}).items()}
    parts |= {f"without {name}, ": part for name, part in results.get("without", {}).items()}
    for words, part in parts.items():
        for view in ("one_view", "two_views"):
            for name, figure in part.get(view, {}).items():
                yield f"{words}{view.replace('_', ' ')}: {name}", figure
    for block in ("report", "uncalibrated"):
        yield f"{block} ece", {"value": results.get(block, {}).get("ece")}
    decisions = results.get("decisions", {})
    yield from _rules(decisions.get("rules", {}), "results.json")
    for source, figures in decisions.get("sources", {}).items():
        for name, figure in figures.items():
            if name != "confusion":
                yield f"label, {source}: {name}", figure


def _rules(rules: Mapping[str, Any], where: str) -> Named:
    for kind, block in rules.items():
        for name, value in (block or {}).items():
            if isinstance(value, float):
                yield f"{kind} {name} in {where}", {"value": value}


def _checks(stored: Named, again: Named) -> list[Check]:
    known = dict(stored)
    return [_check(what, known.get(what), figure) for what, figure in again]


def _check(what: str, stored: Mapping[str, Any] | None, again: Mapping[str, Any], within: float = VALUE) -> Check:
    if stored is None:
        return Check(what, "missing", _told(again), False)
    agrees = stored.get("n") == again.get("n")
    for key, most in {"value": within, "low": BOUND, "high": BOUND}.items():
        one, other = stored.get(key), again.get(key)
        agrees &= one is other if one is None or other is None else abs(one - other) <= most
    return Check(what, _told(stored), _told(again), agrees)


def _told(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    ends = "" if figure.get("low") is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.4f}{ends}" + (f", n {figure['n']}" if "n" in figure else "")
