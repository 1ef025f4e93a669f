"""The tables of a model's card, as text cells: the card writes them as Markdown, the page as HTML.

>>> in_percent({"value": 0.8234, "low": 0.79, "high": 0.85})
'82.3 % (79.0 to 85.0)'
>>> in_units({"value": 0.92345, "low": None, "high": None}), in_units({"value": None})
('0.923', 'no such scans')
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bcx.evaluate.harm import FIGURES
from bcx.report.facts import Facts
from bcx.tasks import Task

Figure = Mapping[str, Any]
NONE = "no such scans"


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: what it shows.
        head: names of the columns; the first is that of the rows.
        rows: cells, as many per row as the head has.
        note: a sentence that a reader needs with it, or "".
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def in_percent(figure: Figure | None) -> str:
    """Write a share with its 95 % interval, in per cent."""
    return _with_ends(figure, lambda value: f"{100 * value:.1f}", " %")


def in_units(figure: Figure | None) -> str:
    """Write a figure with its 95 % interval, three decimals."""
    return _with_ends(figure, lambda value: f"{value:.3f}", "")


def _with_ends(figure: Figure | None, write: Callable[[float], str], unit: str) -> str:
    if figure is None or figure["value"] is None:
        return NONE
    ends = "" if figure.get("low") is None else f" ({write(figure['low'])} to {write(figure['high'])})"
    return f"{write(figure['value'])}{unit}{ends}"


_OVERALL = (
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
_PER_CLASS = (
    ("precision", "precision", in_percent),
    ("sensitivity", "recall (sensitivity)", in_percent),
    ("specificity", "specificity", in_percent),
    ("f1", "F1", in_units),
    ("auc", "ROC-AUC against the rest", in_units),
    ("pr_auc", "PR-AUC", in_units),
    ("net_benefit", "net benefit, acting at 0.1", in_units),
)
_DECIDED = (
    ("accuracy", "scans read correctly"),
    ("sensitivity", "{positive} scans called {positive}"),
    ("specificity", "other scans not called {positive}"),
    ("absent_recall", "{absent} scans called {absent}"),
    ("lost_lesions", "lesions called {absent}"),
    ("balanced_accuracy", "balanced accuracy"),
    ("f1", "F1 of {positive}"),
    *FIGURES.items(),
)
_PLACED = (
    ("heat_inside", "share of the heat inside the lesion", in_percent),
    ("pointing", "hottest pixel inside the lesion", in_percent),
    ("iou", "overlap with the lesion (IoU)", in_units),
)
_SCALINGS = {"none": "before scaling", "temperature": "after temperature", "vector": "after vector scaling"}
_FIGURES = ("sensitivity", "specificity", "accuracy")
_RULES = {
    "before": "before",
    "by the other hospitals": "fitted on the other hospitals",
    "as stored": "as stored",
}
_NONE_SEEN = "Where none was seen, the upper end is 3 over the number of patients (rule of three)."
_COVERAGES = (1.0, 0.9, 0.8, 0.7, 0.5)


def pair_names(task: Task) -> list[tuple[str, str]]:
    """Return (key, words) of the ROC-AUCs of the positive class against each other class that is there."""
    others = [name for name in task.classes if name not in (task.positive, task.absent)]
    return [
        (f"auc_{task.positive}_vs_{name}", f"ROC-AUC, {task.positive} against {name}")
        for name in others
        if task.classes.index(name) < task.classes.index(task.positive) and len(task.classes) > 2
    ]


def overall_table(views: Mapping[str, Mapping[str, Figure]], task: Task, title: str) -> Table:
    """Return the figures over all classes, a column per view and one for n; a figure that no view has is left out."""
    wanted = [*_OVERALL, *((key, words, in_units) for key, words in pair_names(task))]
    rows = []
    for key, words, write in wanted:
        cells = [view.get(key) for view in views.values()]
        if any(cell is not None and cell["value"] is not None for cell in cells):
            count = max(cell["n"] for cell in cells if cell is not None)
            rows.append((words, *(write(cell) for cell in cells), str(count)))
    return Table(title, ("figure", *views, "n"), tuple(rows))


def class_table(view: Mapping[str, Figure], task: Task, counts: Mapping[str, int], title: str) -> Table:
    """Return the figures of each class, one view; classes without a scan say so."""
    rows = []
    for key, words, write in _PER_CLASS:
        cells = [view.get(f"{key}_{name}") for name in task.classes]
        if any(cell is not None for cell in cells):
            rows.append((words, *map(write, cells)))
    head = [f"{name} (n = {counts.get(name, 0)})" for name in task.classes]
    return Table(title, ("figure", *head), tuple(rows))


def confusion_table(confusion: Mapping[str, Mapping[str, int]], title: str) -> Table:
    """Return counts of true (rows) against given (columns) classes."""
    rows = [(true, *(str(count) for count in row.values())) for true, row in confusion.items()]
    answers = next(iter(confusion.values()))
    return Table(title, ("true class", *(f"answer {name}" for name in answers)), tuple(rows))


def decided_table(decisions: Mapping[str, Any], task: Task) -> Table:
    """Return what label and decision are worth, a column per source."""
    sources = decisions["sources"]
    rows = []
    for key, words in _DECIDED:
        if not any(key in part for part in sources.values()):
            continue
        cells = [(in_units if key == "f1" else in_percent)(part.get(key)) for part in sources.values()]
        rows.append((words.format(positive=task.positive, absent=task.absent), *cells))
    return Table("Label and decision", ("figure", *sources), tuple(rows))


def points_table(decisions: Mapping[str, Any], task: Task) -> Table:
    """Return what the other operating points cost: a column per source, or of two classes a row per sensitivity."""
    if "points" in decisions:
        wanted = ("called", "false_alarms", "missed", "referred")
        rows = [
            (f"{point}: {FIGURES[key].format(positive=task.positive, absent=task.absent)}", *cells)
            for point, sources in decisions["points"].items()
            for key in wanted
            for cells in [[in_percent(figures[key]) for figures in sources.values()]]
        ]
        return Table("The other operating points", ("figure", *decisions["sources"]), tuple(rows))
    head = (f"sensitivity, {task.positive}", "specificity", "accuracy")
    costs = tuple(
        tuple("-" if point[name] is None else f"{100 * point[name]:.1f} %" for name in _FIGURES)
        for point in decisions["sensitivity_points"]
    )
    return Table(
        f"What 90 and 95 % sensitivity for {task.positive} would cost",
        head,
        costs,
        "On the same scans that these thresholds were fitted on, every hospital weighing the same.",
    )


def reliability_table(reliability: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return calibration before and after scaling, a row per source and scaling."""
    rows = [
        (f"{source}, {_SCALINGS[name]}", *(in_units(report[key]) for key in ("ece", "log_loss", "brier")))
        for source, reports in reliability.items()
        for name, report in reports.items()
    ]
    return Table(
        "Reliability before and after scaling",
        ("probabilities", "ECE", "log-loss", "Brier score"),
        tuple(rows),
        "Each fold is scaled by what was fitted on the other folds.",
    )


def coverage_table(risk: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return how often answers are right when only the surest are given, a column per source."""
    rows = []
    for wanted in _COVERAGES:
        cells = []
        for curve in risk.values():
            at = min(range(len(curve["answered"])), key=lambda i: abs(curve["answered"][i] - wanted))
            ends = {"low": curve["high"][at], "high": curve["low"][at]}
            flipped = {key: None if value is None else 1 - value for key, value in ends.items()}
            cells.append(in_percent({"value": 1 - curve["wrong"][at]} | flipped))
        rows.append((f"{100 * wanted:.0f} %", *cells))
    areas = "; ".join(f"{source} {in_units(curve['area'])}" for source, curve in risk.items())
    return Table(
        "Risk and coverage: right among the scans answered, the surest first",
        ("answered", *risk),
        tuple(rows),
        f"Area under the risk-coverage curve (lower is better): {areas}.",
    )


def fold_table(folds: Sequence[Mapping[str, Any]]) -> Table:
    """Return accuracy and ROC-AUC fold by fold, one view."""
    rows = [
        (str(row["fold"]), str(row["n"]), f"{100 * row['accuracy']:.1f} %", _known(row["macro_auc"])) for row in folds
    ]
    return Table("By fold", ("fold", "scans", "accuracy", "ROC-AUC, macro"), tuple(rows))


def external_table(found: Mapping[str, Any], task: Task) -> Table:
    """Return every figure of `bcx evaluate` on scans from elsewhere."""
    figures = found["figures"]
    named = {key: (words, write) for key, words, write in _OVERALL}
    named |= {key: (words, in_units) for key, words in pair_names(task)}
    for key, words, write in _PER_CLASS:
        named |= {f"{key}_{name}": (f"{words}, {name}", write) for name in task.classes}
    named |= {
        f"lesions_called_{task.absent}": (f"lesions called {task.absent}", in_percent),
        "not_a_scan": ("taken for no scan at all", in_percent),
    }
    rows = [
        (words, write(figures[key]), str(figures[key]["n"]))
        for key, (words, write) in named.items()
        if key in figures and figures[key]["value"] is not None
    ]
    return Table(f"On {' and '.join(found['data'])}", ("figure", "one view", "n"), tuple(rows))


def places_table(places: Mapping[str, Any]) -> Table:
    """Return how well the maps fit the lesions' masks, by source and by size."""
    parts = {**places["by_source"], **places["by_size"]}
    rows = [(words, *(write(part[key]) for part in parts.values())) for key, words, write in _PLACED]
    blob = [part["centred_blob"]["heat_inside"] for part in parts.values() if "centred_blob" in part]
    if len(blob) == len(parts):
        rows.append(("to judge by: heat of a blob in the centre", *map(in_percent, blob)))
    head = [f"{name} (n = {part['n']})" for name, part in parts.items()]
    return Table("Where it looks, against the masks", ("figure", *head), tuple(rows))


def transfer_table(transfer: Mapping[str, Any], task: Task) -> Table:
    """Return what is left where a hospital or a machine was left out of training."""
    shares = ("sensitivity", "specificity", "lesions_called_absent")
    rows = [
        (
            f"{row['train_on']}",
            f"{row['score_on']} ({row['lesions']})",
            _cell(row, "auc", in_units),
            *(_cell(row, key, in_percent) for key in shares),
        )
        for row in transfer["table"]
    ]
    head = ("trained on", "scored on (lesions)", f"ROC-AUC, {task.positive}", "sensitivity", "specificity")
    return Table("Another hospital, another machine", (*head, f"lesions called {task.absent}"), tuple(rows))


def harm_table(study: Mapping[str, Any], task: Task) -> Table:
    """Return what each rule of decision does in hospitals that no network saw, and at home."""
    wanted = ("as_absent", "as_other", "referred", "false_alarms", "absent_cleared")
    rows = [
        (
            row["hospital"] + (" (at home)" if row["where"] == "home" else ""),
            _RULES[row["rule"]],
            *(_cell(row, key, in_percent) for key in wanted),
        )
        for row in study["table"]
        if row["point"] == "default"
    ]
    words = (FIGURES[key].format(positive=task.positive, absent=task.absent) for key in wanted)
    return Table("Decisions in hospitals never seen", ("hospital", "rule", *words), tuple(rows), _NONE_SEEN)


def stored_points_table(study: Mapping[str, Any], task: Task) -> Table:
    """Return what the operating points hold in hospitals that no network saw, by what was fitted on the others."""
    wanted = ("called", "false_alarms", "missed", "referred")
    rows = [
        (row["hospital"], row["point"], *(_cell(row, key, in_percent) for key in wanted))
        for row in study["table"]
        if row["rule"] == "by the other hospitals" and row["point"] != "default"
    ]
    words = (FIGURES[key].format(positive=task.positive, absent=task.absent) for key in wanted)
    return Table("Operating points in hospitals never seen", ("hospital", "operating point", *words), tuple(rows))


def calibration_table(study: Mapping[str, Any]) -> Table:
    """Return how well probabilities are calibrated in hospitals that no network saw, and at home."""
    rows = [
        (
            row["hospital"] + (" (at home)" if row["where"] == "home" else ""),
            f"{_RULES[row['rule']]}: {row['temperature']:.3f}",
            in_units(row["ece"]),
            in_units(row["log_loss"]),
        )
        for row in study["calibration"]
    ]
    return Table("Calibration in hospitals never seen", ("hospital", "temperature", "ECE", "log-loss"), tuple(rows))


def data_table(data: Mapping[str, Any]) -> Table:
    """Return what the network was trained on."""
    rows = [
        (
            source,
            str(about["scans"]),
            str(about["groups"]),
            ", ".join(f"{count} {label}" for label, count in about["classes"].items()),
        )
        for source, about in data.items()
    ]
    return Table("What it was trained on", ("source", "scans", "groups", "classes"), tuple(rows))


def measured_tables(facts: Facts) -> list[Table]:
    """Return every table of what was measured out of fold, in the card's order."""
    results, task = facts.results, facts.task
    views = {"one view (default)": results["one_view"], "scan and mirror image averaged": results["two_views"]}
    counts = results["report"]["counts"]
    sources = results.get("sources", {})
    whole = "All scans" if sources else "Out of fold"
    tables = [
        overall_table(views, task, whole),
        class_table(results["one_view"], task, counts, f"{whole}, by class (one view)"),
        confusion_table(results["report"]["confusion"], f"{whole}: the most probable class"),
    ]
    for source, part in sources.items():
        held = {"one view (default)": part["one_view"], "scan and mirror image averaged": part["two_views"]}
        n = {name: part["one_view"][f"sensitivity_{name}"]["n"] for name in task.classes}
        title = f"{source}: {part['n']} scans in {part['groups']} groups"
        tables.append(overall_table(held, task, title))
        tables.append(class_table(part["one_view"], task, n, f"{source}, by class (one view)"))
    if "decisions" in results:
        tables.append(decided_table(results["decisions"], task))
        for source, part in results["decisions"]["sources"].items():
            if "confusion" in part:
                tables.append(confusion_table(part["confusion"], f"{source}: the answers"))
        tables.append(points_table(results["decisions"], task))
    if "reliability" in results:
        tables.append(reliability_table(results["reliability"]))
    if "risk_coverage" in results:
        tables.append(coverage_table(results["risk_coverage"]))
    tables.append(fold_table(results["folds"]))
    return tables


def _cell(row: Mapping[str, Any], key: str, write: Callable[[Figure | None], str]) -> str:
    return "-" if row.get(key) is None or row[key]["value"] is None else write(row[key])


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
