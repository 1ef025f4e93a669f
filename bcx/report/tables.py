"""The tables of a model's card, as text cells: the card writes them as Markdown, the page as HTML.

>>> in_percent({"value": 0.8234, "low": 0.79, "high": 0.85})
'82.3 % (79.0 to 85.0)'
>>> in_units({"value": 0.92345, "low": None, "high": None}), in_units({"value": None})
('0.923', 'no such scans')
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcx.evaluate.derived import HARM
from bcx.report.facts import Facts
from bcx.tasks import Task

Figure = Mapping[str, Any]
Wanted = Sequence[tuple[str, str, Callable[[Figure | None], str]]]  # name of a figure, its words, and how it is written
NONE = "no such scans"


@dataclass(frozen=True)
class Table:
    """A table of text: the first column names the rows; `note` is a sentence that a reader needs with it, or ""."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def in_percent(figure: Figure | None, none: str = NONE) -> str:
    """Write a share with its 95 % interval, in per cent; `none` stands for one without a value."""
    return _with_ends(figure, none, lambda share: f"{100 * share:.1f}", " %")


def in_units(figure: Figure | None, none: str = NONE) -> str:
    """Write a figure with its 95 % interval, three decimals; `none` stands for one without a value."""
    return _with_ends(figure, none, "{:.3f}".format, "")


def _with_ends(figure: Figure | None, none: str, write: Callable[[float], str], unit: str) -> str:
    if figure is None or figure["value"] is None:
        return none
    ends = "" if figure.get("low") is None else f" ({write(figure['low'])} to {write(figure['high'])})"
    return f"{write(figure['value'])}{unit}{ends}"


_OVERALL: Wanted = (
    ("accuracy", "accuracy", in_percent),
    ("balanced_accuracy", "balanced accuracy (macro recall)", in_percent),
    ("macro_precision", "macro precision", in_percent),
    ("macro_specificity", "macro specificity", in_percent),
    ("macro_f1", "macro F1", in_units),
    ("macro_auc", "ROC-AUC, macro", in_units),
    ("macro_pr_auc", "PR-AUC, macro", in_units),
    ("mcc", "MCC", in_units),
    ("kappa", "Cohen's kappa", in_units),
    ("log_loss", "log-loss", in_units),
    ("brier", "Brier score (0 to 2)", in_units),
    ("ece", "calibration error (ECE)", in_units),
)
_PER_CLASS: Wanted = (
    ("precision", "precision", in_percent),
    ("sensitivity", "recall (sensitivity)", in_percent),
    ("specificity", "specificity", in_percent),
    ("f1", "F1", in_units),
    ("auc", "ROC-AUC against the rest", in_units),
    ("pr_auc", "PR-AUC", in_units),
    ("net_benefit", "net benefit, acting at 0.1", in_units),
)
_DECIDED = {
    "accuracy": "scans read correctly",
    "sensitivity": "{positive} scans called {positive}",
    "specificity": "other scans not called {positive}",
    "absent_recall": "{absent} scans called {absent}",
    "lost_lesions": "lesions called {absent}",
    "balanced_accuracy": "balanced accuracy",
    "f1": "F1 of {positive}",
    **HARM,
}
_PLACED: Wanted = (
    ("heat_inside", "share of the heat inside the lesion", in_percent),
    ("pointing", "hottest pixel inside the lesion", in_percent),
    ("iou", "overlap with the lesion (IoU)", in_units),
)
_SCALINGS = {"none": "before scaling", "temperature": "after temperature", "vector": "after vector scaling"}
_RULES = {"before": "before", "by the other hospitals": "fitted on the other hospitals", "as stored": "as stored"}
_HARMS = ("as_absent", "as_other", "referred", "false_alarms", "absent_cleared")
_POINT_FIGURES = ("called", "false_alarms", "missed", "referred")
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)


def _overall(task: Task) -> Wanted:
    """The figures over all classes; of three, also the ROC-AUC of the positive class against the one before it."""
    before = task.classes[: task.classes.index(task.positive)] if len(task.classes) > 2 else ()
    pairs = [name for name in before if name != task.absent]
    auc = [(f"auc_{task.positive}_vs_{name}", f"ROC-AUC, {task.positive} against {name}", in_units) for name in pairs]
    return [*_OVERALL, *auc]


def _decided(keys: Iterable[str], task: Task) -> Wanted:
    said = {"positive": task.positive, "absent": task.absent}
    return [(key, _DECIDED[key].format(**said), in_units if key == "f1" else in_percent) for key in keys]


def _rows(wanted: Wanted, parts: Iterable[Mapping[str, Figure | None]], *, count: bool = False) -> list[list[str]]:
    """Return a row for each figure that some part has: its words, a cell per part, and where asked for, n."""
    parts, rows = list(parts), []
    for key, words, write in wanted:
        cells = [part.get(key) for part in parts]
        if known := [cell["n"] for cell in cells if cell is not None and cell["value"] is not None]:
            rows.append([words, *map(write, cells), *([str(max(known))] if count else [])])
    return rows


def _overall_table(part: Mapping[str, Any], task: Task, title: str) -> Table:
    views = {"one view (default)": part["one_view"], "scan and mirror image averaged": part["two_views"]}
    return Table(title, ("figure", *views, "n"), _rows(_overall(task), views.values(), count=True))


def _class_table(view: Mapping[str, Figure], task: Task, counts: Mapping[str, int], title: str) -> Table:
    classes = [{key: view.get(f"{key}_{name}") for key, *_ in _PER_CLASS} for name in task.classes]
    head = [f"{name} (n = {counts.get(name, 0)})" for name in task.classes]
    return Table(f"{title}, by class (one view)", ("figure", *head), _rows(_PER_CLASS, classes))


def _confusion_table(confusion: Mapping[str, Mapping[str, int]], title: str) -> Table:
    answers = [f"answer {name}" for name in next(iter(confusion.values()))]
    return Table(title, ("true class", *answers), [(true, *map(str, row.values())) for true, row in confusion.items()])


def _points_table(decisions: Mapping[str, Any], task: Task) -> Table:
    """What the other operating points cost: a column per source, or of two classes a row per sensitivity."""
    if "points" in decisions:
        rows = [
            [f"{point}: {words}", *cells]
            for point, sources in decisions["points"].items()
            for words, *cells in _rows(_decided(_POINT_FIGURES, task), sources.values())
        ]
        return Table("The other operating points", ("figure", *decisions["sources"]), rows)
    names = ("sensitivity", "specificity", "accuracy")
    rows = [[in_percent({"value": point[name]}, "-") for name in names] for point in decisions["sensitivity_points"]]
    title = f"What 90 and 95 % sensitivity for {task.positive} would cost"
    note = "On the same scans that these thresholds were fitted on, every hospital weighing the same."
    return Table(title, (f"sensitivity, {task.positive}", *names[1:]), rows, note)


def _reliability_table(reliability: Mapping[str, Mapping[str, Any]]) -> Table:
    rows = [
        (f"{source}, {_SCALINGS[name]}", *(in_units(report[key]) for key in ("ece", "log_loss", "brier")))
        for source, reports in reliability.items()
        for name, report in reports.items()
    ]
    head = ("probabilities", "ECE", "log-loss", "Brier score")
    note = "Each fold is scaled by what was fitted on the other folds."
    return Table("Reliability before and after scaling", head, rows, note)


def coverage_table(risk: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return how often answers are right when only the surest are given, a column per source."""
    rows = []
    for wanted in _COVERAGES:
        cells = []
        for curve in risk.values():
            at = min(range(len(curve["answered"])), key=lambda i: abs(curve["answered"][i] - wanted))
            wrong = {"value": curve["wrong"][at], "low": curve["high"][at], "high": curve["low"][at]}
            cells.append(in_percent({key: None if value is None else 1 - value for key, value in wrong.items()}))
        rows.append((f"{100 * wanted:.0f} %", *cells))
    areas = "; ".join(f"{source} {in_units(curve['area'])}" for source, curve in risk.items())
    title = "Risk and coverage: right among the scans answered, the surest first"
    return Table(title, ("answered", *risk), rows, f"Area under the risk-coverage curve (lower is better): {areas}.")


def _fold_table(folds: Sequence[Mapping[str, Any]]) -> Table:
    rows = [
        (str(row["fold"]), str(row["n"]), f"{100 * row['accuracy']:.1f} %", in_units({"value": row["macro_auc"]}, "-"))
        for row in folds
    ]
    return Table("By fold", ("fold", "scans", "accuracy", "ROC-AUC, macro"), rows)


def external_table(found: Mapping[str, Any], task: Task) -> Table:
    wanted = [
        *_overall(task),
        *((f"{key}_{name}", f"{words}, {name}", write) for key, words, write in _PER_CLASS for name in task.classes),
        (f"lesions_called_{task.absent}", f"lesions called {task.absent}", in_percent),
        ("not_a_scan", "taken for no scan at all", in_percent),
    ]
    rows = _rows(wanted, [found["figures"]], count=True)
    return Table(f"On {' and '.join(found['data'])}", ("figure", "one view", "n"), rows)


def places_table(places: Mapping[str, Any]) -> Table:
    """Return how well the maps fit the lesions' masks, by source and by size."""
    parts = {**places["by_source"], **places["by_size"]}
    rows = _rows(_PLACED, parts.values())
    blob = [part["centred_blob"]["heat_inside"] for part in parts.values() if "centred_blob" in part]
    if len(blob) == len(parts):
        rows.append(["to judge by: heat of a blob in the centre", *map(in_percent, blob)])
    head = [f"{name} (n = {part['n']})" for name, part in parts.items()]
    return Table("Where it looks, against the masks", ("figure", *head), rows)


def transfer_table(transfer: Mapping[str, Any], task: Task) -> Table:
    """Return what is left where a hospital or a scanner was left out of training."""
    rows = [
        (
            str(row["train_on"]),
            f"{row['score_on']} ({row['lesions']})",
            in_units(row.get("auc"), "-"),
            *(in_percent(row.get(key), "-") for key in ("sensitivity", "specificity", "lesions_called_absent")),
        )
        for row in transfer["table"]
    ]
    head = ("trained on", "scored on (lesions)", f"ROC-AUC, {task.positive}", "sensitivity", "specificity")
    return Table("Another hospital, another machine", (*head, f"lesions called {task.absent}"), rows)


def harm_table(study: Mapping[str, Any], task: Task) -> Table:
    """Return what each rule of decision does in hospitals that no network saw, and at home."""
    rows = [
        (_hospital(row), _RULES[row["rule"]], *(in_percent(row.get(key), "-") for key in _HARMS))
        for row in study["table"]
        if row["point"] == "default"
    ]
    head = ("hospital", "rule", *(words for _, words, _ in _decided(_HARMS, task)))
    note = "Where none was seen, the upper end is 3 over the number of patients (rule of three)."
    return Table("Decisions in hospitals never seen", head, rows, note)


def stored_points_table(study: Mapping[str, Any], task: Task) -> Table:
    """Return what the operating points hold in hospitals that no network saw, by what was fitted on the others."""
    rows = [
        (row["hospital"], row["point"], *(in_percent(row.get(key), "-") for key in _POINT_FIGURES))
        for row in study["table"]
        if row["rule"] == "by the other hospitals" and row["point"] != "default"
    ]
    head = ("hospital", "operating point", *(words for _, words, _ in _decided(_POINT_FIGURES, task)))
    return Table("Operating points in hospitals never seen", head, rows)


def calibration_table(study: Mapping[str, Any]) -> Table:
    """Return how well probabilities are calibrated in hospitals that no network saw, and at home."""
    rows = []
    for row in study["calibration"]:
        rule = f"{_RULES[row['rule']]}: {row['temperature']:.3f}"
        rows.append((_hospital(row), rule, in_units(row["ece"]), in_units(row["log_loss"])))
    return Table("Calibration in hospitals never seen", ("hospital", "temperature", "ECE", "log-loss"), rows)


def _hospital(row: Mapping[str, Any]) -> str:
    return row["hospital"] + (" (at home)" if row["where"] == "home" else "")


def data_table(data: Mapping[str, Any]) -> Table:
    heads = ("source", "scans", "groups", "classes")
    words = {name: ", ".join(f"{n} {label}" for label, n in about["classes"].items()) for name, about in data.items()}
    rows = [(name, str(about["scans"]), str(about["groups"]), words[name]) for name, about in data.items()]
    return Table("What it was trained on", heads, rows)


def measured_tables(facts: Facts) -> list[Table]:
    results, task, report = facts.results, facts.task, facts.results["report"]
    sources = results.get("sources", {})
    whole = "All scans" if sources else "Out of fold"
    tables = [_overall_table(results, task, whole), _class_table(results["one_view"], task, report["counts"], whole)]
    tables.append(_confusion_table(report["confusion"], f"{whole}: the most probable class"))
    for source, part in sources.items():
        n = {name: part["one_view"][f"sensitivity_{name}"]["n"] for name in task.classes}
        tables.append(_overall_table(part, task, f"{source}: {part['n']} scans in {part['groups']} groups"))
        tables.append(_class_table(part["one_view"], task, n, source))
    if decisions := results.get("decisions"):
        parts = decisions["sources"]
        tables.append(Table("Label and decision", ("figure", *parts), _rows(_decided(_DECIDED, task), parts.values())))
        answers = {source: part["confusion"] for source, part in parts.items() if "confusion" in part}
        tables += [_confusion_table(confusion, f"{source}: the answers") for source, confusion in answers.items()]
        tables.append(_points_table(decisions, task))
    tables += [_reliability_table(results["reliability"]), coverage_table(results["risk_coverage"])]
    return [*tables, _fold_table(results["folds"])]
