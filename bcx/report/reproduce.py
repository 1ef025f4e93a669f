"""Whether a card's figures can be had again: from the stored out-of-fold answers, and from scans at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bcx.checkpoints.checkpoint import sha256_of
from bcx.errors import DataError
from bcx.evaluate.derived import DERIVED, derive, noted_scans
from bcx.evaluate.oof import read_oof
from bcx.report.facts import Facts
from bcx.train.provenance import write_json

if TYPE_CHECKING:
    from bcx.evaluate.evaluation import Evaluation

OOF = "oof.csv"
#: A value agrees when the card would print the same: half of its last digit. Ends of intervals come from random draws,
#: which another version of NumPy may make differently, and an answer from another backend or image decoder.
VALUE, BOUND, ANSWER = 0.0005, 0.005, 0.005


@dataclass(frozen=True)
class Check:
    """One figure that was had again, as text; `agrees` is None where there is nothing to hold it against."""

    what: str
    stored: str
    again: str
    agrees: bool | None


def derive_again(facts: Facts) -> dict[str, Any]:
    """Return the figures of a model, from its out-of-fold table alone."""
    frame = read_oof(oof_file(facts), facts.task)
    return derive(frame, facts.task, noted_scans(frame["file"]))


def oof_file(facts: Facts) -> Path:
    """Return the model's out-of-fold table, that of its results first; `DataError` where there is none."""
    for folder in (facts.measured, facts.folder):
        if folder is not None and (folder / OOF).is_file():
            return folder / OOF
    raise DataError(
        f"There are no out-of-fold answers of '{facts.name}'.",
        expected=f"{OOF} in results/{facts.name} or beside the weights",
        remedy="Run bcx crossval, or fetch the checkpoint with all its files.",
    )


def check_figures(stored: Mapping[str, Any], again: Mapping[str, Any]) -> list[Check]:
    """Hold every stored figure with an interval against what came out again.

    A figure that results.json lacks, because it is older than the figure, does not agree: the card would lack it.
    """
    checks = [_number("temperature", stored.get("temperature"), again["temperature"])]
    blocks: list[tuple[tuple[str, ...], str]] = [((), "")]
    blocks += [(("sources", source), f"{source}, ") for source in again.get("sources", {})]
    blocks += [(("without", name), f"without {name}, ") for name in again.get("without", {})]
    for path, words in blocks:
        for view in ("one_view", "two_views"):
            mine, theirs = _at(stored, *path, view), _at(again, *path, view)
            what = f"{words}{view.replace('_', ' ')}: "
            checks += [_figure(what + name, mine.get(name), figure) for name, figure in theirs.items()]
    for path in (("report", "ece"), ("uncalibrated", "ece")):
        checks.append(_number(" ".join(path), _at(stored, path[0]).get(path[1]), _at(again, *path)))
    if "decisions" in again:
        mine = stored.get("decisions", {})
        checks += _rules(mine.get("rules", {}), again["decisions"]["rules"], "results.json")
        for source, figures in again["decisions"]["sources"].items():
            old = _at(mine, "sources", source)
            for name, figure in figures.items():
                if name != "confusion":
                    checks.append(_figure(f"label, {source}: {name}", old.get(name), figure))
    return checks


def check_checkpoint(facts: Facts, again: Mapping[str, Any]) -> list[Check]:
    """Hold what the checkpoint stores and uses against what comes out again, and its table against the results'."""
    block = facts.config["bcx"]
    temperature, rules = again["temperature"], again.get("decisions", {}).get("rules", {})
    if facts.decisions is not None:  # fitted on other hospitals, by a study of its own
        temperature, rules = facts.decisions["temperature"], {"rule": facts.decisions["rule"]}
    checks = [_number("temperature in config.json", block["temperature"], temperature)]
    if block.get("decisions"):
        checks += _rules(block["decisions"], rules, "config.json")
    own = facts.folder / OOF
    if facts.measured is not None and own.is_file():
        hashes = [sha256_of(file)[:12] for file in (own, oof_file(facts))]
        checks.append(Check(f"{OOF} of checkpoint and results", hashes[0], hashes[1], hashes[0] == hashes[1]))
    return checks


def check_scans(facts: Facts, data: Mapping[str, Mapping[str, Any]], evaluation: Evaluation) -> list[Check]:
    """Hold the checkpoint's answers to scans at hand against what was measured on the same scans.

    Per source: every stored external figure on the same scans; or, where the network was trained on them or nobody
    measured them before, the accuracy and the macro ROC-AUC, which nothing can be held against.

    Args:
        data: source -> its hash and counts, as `bcx.train.provenance.describe_data`.
        evaluation: the checkpoint's answers.
    """
    summary = evaluation.summary()
    parts = summary.get("sources", dict.fromkeys(data, summary))
    trained = {name: part["sha256"] for name, part in facts.config["bcx"]["training"].get("data", {}).items()}
    checks = []
    for source, about in data.items():
        figures = parts[source]["figures"]
        known = [
            found["sources"][source]["figures"] if "sources" in found else found["figures"]
            for found in facts.external.values()
            if found["data"].get(source, {}).get("sha256") == about["sha256"]
        ]
        if known:
            checks += [
                _number(f"{source}: {name}", figure["value"], figures[name]["value"], ANSWER)
                for name, figure in known[0].items()
                if name in figures and figure["value"] is not None
            ]
            continue
        seen = about["sha256"] in trained.values()
        why = "seen in training" if seen else "not measured before"
        for name in ("accuracy", "macro_auc"):
            value = figures[name]["value"]
            checks.append(Check(f"{source}: {name}", why, "-" if value is None else f"{value:.4f}", None))
    return checks


def store(facts: Facts, again: Mapping[str, Any]) -> list[Path]:
    """Write the figures that came out again into results.json, beside the results and in the checkpoint."""
    kept = {key: value for key, value in facts.results.items() if key not in DERIVED}
    written = []
    for folder in (facts.measured, facts.folder):
        if folder is not None and (folder / OOF).is_file() and sha256_of(folder / OOF) == sha256_of(oof_file(facts)):
            write_json(folder / "results.json", kept | dict(again))
            written.append(folder / "results.json")
    return written


def _at(block: Mapping[str, Any], *path: str) -> Any:
    for key in path:
        block = block.get(key, {})
    return block


def _rules(stored: Mapping[str, Any], again: Mapping[str, Any], where: str) -> list[Check]:
    """Hold every number of stored rules against those that came out again."""
    return [
        _number(f"{kind} {name} in {where}", (stored.get(kind) or {}).get(name), value)
        for kind, block in again.items()
        for name, value in (block or {}).items()
        if isinstance(value, float)
    ]


def _number(what: str, stored: float | None, again: float | None, within: float = VALUE) -> Check:
    agrees = stored is again is None or (None not in (stored, again) and abs(stored - again) <= within)  # type: ignore[operator]
    told = ["-" if value is None else f"{value:.4f}" for value in (stored, again)]
    return Check(what, told[0], told[1], agrees)


def _figure(what: str, stored: Mapping[str, Any] | None, again: Mapping[str, Any]) -> Check:
    if stored is None:
        return Check(what, "missing", _told(again), False)
    pairs = [(stored[key], again[key], within) for key, within in (("value", VALUE), ("low", BOUND), ("high", BOUND))]
    agrees = all(_number(what, *pair).agrees for pair in pairs) and stored["n"] == again["n"]
    return Check(what, _told(stored), _told(again), agrees)


def _told(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "-"
    ends = "" if figure["low"] is None else f" ({figure['low']:.3f} to {figure['high']:.3f})"
    return f"{figure['value']:.4f}{ends}, n {figure['n']}"
