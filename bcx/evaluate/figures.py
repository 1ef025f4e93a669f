"""Figures of answers: curves with bands, confusion, reliability, referral, net benefit, training, comparison.

Each function takes plain data and a path, writes a PNG and returns the matplotlib figure. `draw_all` draws what an
out-of-fold table holds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bcx.errors import DataError
from bcx.evaluate.canvas import CYCLE, DASHES, DIM, INK, SHAPES, in_percent, paper, publish, styled
from bcx.evaluate.curves import GRID, curve_band
from bcx.evaluate.figures_data import class_figure
from bcx.evaluate.metrics import check_answers, named_confusion, pair_score
from bcx.evaluate.oof import label_positions, logits_of
from bcx.evaluate.words import interval, percent, units
from bcx.files import AnyPath
from bcx.tasks import Task
from bcx.trust.calibration import apply_temperature

_ALARMS = "share of the others called so (1 - specificity)"
_PARTS = (("train", "training"), ("inner", "validation"))
_SCALINGS = {"none": "before scaling", "temperature": "after temperature", "vector": "after vector scaling"}
_EPOCH_FIGURES = {
    "loss": "loss",
    "accuracy": "accuracy",
    "precision": "precision (macro)",
    "recall": "recall (macro)",
    "f1": "F1 (macro)",
    "roc_auc": "ROC-AUC (macro)",
    "pr_auc": "PR-AUC (macro)",
    "mcc": "MCC",
}


@styled
def curve_figure(
    kind: str,
    labels: np.ndarray,
    probabilities: np.ndarray,
    groups: np.ndarray,
    task: Task,
    path: AnyPath,
    view: Mapping[str, Any],
) -> Figure:
    """Draw ROC or precision-recall curves with their 95 % bands: each class against the rest, positive against others.

    What a guess would reach is dotted; classes that no scan has are left out. The areas are those of `view`, the
    figures of the same answers (see `report_with_intervals`), else the bands'. Errors as `curve_band`.
    """
    labels, probabilities = check_answers(labels, probabilities)
    held = np.unique(labels).tolist()
    positive = task.classes.index(task.positive)
    panels: list[tuple[int, int | None]] = [(c, None) for c in held]
    if len(held) > 2 and positive in held:
        panels += [(positive, other) for other in held if other not in (0, positive)]
    figure, grid = _panels(len(panels), 3.35, sharey=True)
    for axes, (c, other) in zip(grid, panels, strict=False):
        title, rows, score = _against(labels, probabilities, task, c, other)
        hit = labels[rows] == c
        band = curve_band(kind, score[rows], hit, groups[rows])
        name = title.removesuffix(" against the rest").replace(" against ", "_vs_")
        stored = view.get(f"{'auc' if kind == 'roc' else 'pr_auc'}_{name}")
        area = band.area if stored is None or stored["low"] is None else stored
        axes.fill_between(GRID, band.low, band.high, color=task.colours[c], alpha=0.22, linewidth=0)
        _guess(axes, *((0, 1) if kind == "roc" else (hit.mean(), hit.mean())))
        drawstyle: Any = "default" if kind == "roc" else "steps-pre"
        axes.plot(band.line_x, band.line_y, color=task.colours[c], drawstyle=drawstyle)
        axes.set_title(f"{title}\n{'AUC' if kind == 'roc' else 'AP'} {interval(area)}, {hit.sum()} of {len(hit)}")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    figure.supxlabel(_ALARMS if kind == "roc" else "recall (sensitivity)", fontsize=9)
    figure.supylabel("sensitivity" if kind == "roc" else "precision", fontsize=9)
    return publish(figure, path)


def _against(
    labels: np.ndarray, probabilities: np.ndarray, task: Task, c: int, other: int | None
) -> tuple[str, np.ndarray, np.ndarray]:
    """Return class `c` against another, or None: the rest, in words, the scans of these, bool [N], and their scores."""
    if other is None:
        return f"{task.classes[c]} against the rest", np.ones(len(labels), bool), probabilities[:, c]
    title = f"{task.classes[c]} against {task.classes[other]}"
    return title, np.isin(labels, (other, c)), pair_score(probabilities, other, c)


def _panels(count: int, height: float, above: float = 0.0, **settings: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of two columns with rows of `height` inches, and its axes, without those left over."""
    rows = -(-count // 2)
    figure, grid = paper(6.4, above + height * rows, rows, 2, sharex=True, **settings)
    for axes in grid[count:]:
        axes.axis("off")
    return figure, grid


def _guess(axes: Axes, begin: float = 0, end: float = 1) -> None:
    """Draw a dotted line across: what a guess reaches, or what is right as often as it is sure."""
    axes.plot([0, 1], [begin, end], color=DIM, linewidth=0.8, linestyle=DASHES[3])


@styled
def roc_of_all(
    models: Mapping[str, np.ndarray], labels: np.ndarray, groups: np.ndarray, task: Task, path: AnyPath
) -> Figure:
    """Draw every model's ROC curve of the positive class: against the rest and, where there are three, the second.

    Bands of several models would hide each other, so the intervals of the areas stand in the legend.
    """
    positive = task.classes.index(task.positive)
    panels: list[int | None] = [None]
    others = [c for c in np.unique(labels) if c != positive]
    if len(others) == 2:
        panels += [c for c in others if task.classes[c] != task.absent]
    figure, grid = paper(3.9 * len(panels) + 0.4, 4.9 + 0.22 * len(models), 1, len(panels), sharex=True, sharey=True)
    for axes, other in zip(grid, panels, strict=True):
        _guess(axes)
        for number, (name, probabilities) in enumerate(models.items()):
            title, rows, score = _against(labels, probabilities, task, positive, other)
            hit = labels[rows] == positive
            band = curve_band("roc", score[rows], hit, groups[rows])
            colour, dash = CYCLE[number % len(CYCLE)], DASHES[number % len(DASHES)]
            label = f"{name}: {interval(band.area)}"
            axes.plot(band.line_x, band.line_y, color=colour, linestyle=dash, label=label)
        axes.set_title(f"{title}\n{hit.sum()} of {len(hit)} scans")
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), box_aspect=1, anchor="N", xlabel=_ALARMS)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), title="AUC, 95 % interval", title_fontsize=8.5)
    grid[0].set_ylabel("sensitivity")
    return publish(figure, path)


@styled
def importance_figure(importances: Mapping[str, float], path: AnyPath) -> Figure:
    """Draw how much of the differences between trials each setting explains: share by name, 0..1."""
    names = sorted(importances, key=importances.__getitem__)
    figure, (axes,) = paper(5, 1.0 + 0.3 * len(names))
    bars = axes.barh(names, [importances[name] for name in names], color=CYCLE[0], height=0.65)
    axes.bar_label(bars, [units(importances[name]) for name in names], padding=3, color=INK, fontsize=8.5)
    axes.set(xlim=(0, 1), xlabel="share of the differences between trials that it explains (fANOVA)")
    axes.grid(axis="y", visible=False)
    return publish(figure, path)


@styled
def confusion_figure(confusion: Mapping[str, Mapping[str, int]], path: AnyPath, title: str) -> Figure:
    """Draw counts, and the share of each row, of {true class: {answer: n}}; answers may end with "refer"."""
    table = pd.DataFrame(confusion).T
    classes, given = list(table.index), list(table.columns)
    counts, totals = table.to_numpy(), table.sum(axis=1)
    shares = counts / np.maximum(totals.to_numpy(), 1)[:, None]
    figure, (axes,) = paper(1.6 + 1.15 * len(given), 1.4 + 0.85 * len(classes))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for r, c in np.ndindex(counts.shape):
        colour = "white" if shares[r, c] > 0.7 else INK
        axes.text(c, r - 0.1, f"{counts[r, c]:,}", ha="center", va="center", color=colour, fontsize=13)
        axes.text(c, r + 0.24, percent(float(shares[r, c])), ha="center", va="center", color=colour, fontsize=8.5)
    axes.set_xticks(range(len(given)), given)
    axes.set_yticks(range(len(classes)), [f"{name}\n(n = {n:,})" for name, n in totals.items()])
    answered = counts[:, : len(classes)]
    right = percent(float(np.trace(answered) / max(1, answered.sum())))
    of = " of those answered" if len(given) > len(classes) else ""
    axes.set(xlabel="answer", ylabel="true class", title=f"{title}: {right}{of} right")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return publish(figure, path)


@styled
def reliability_figure(report: Mapping[str, Mapping[str, Any]], path: AnyPath) -> Figure:
    """Draw how often answers of each confidence were right, a panel per name, from `curves.reliability_report`."""
    figure, panels = paper(3.3 * len(report), 3.9, 1, len(report), sharex=True, sharey=True)
    for k, (axes, (name, found)) in enumerate(zip(panels, report.items(), strict=True)):
        bins = pd.DataFrame(found["bins"]).astype(float)
        colour = CYCLE[k % len(CYCLE)]
        _guess(axes)
        axes.vlines(bins["confidence"], bins["low"], bins["high"], color=colour, linewidth=1.1)
        axes.plot(bins["confidence"], bins["right"], SHAPES[k % len(SHAPES)], color=colour, markersize=5)
        ece = found["ece"]
        axes.set_title(f"{name}\nECE {units(ece['value'])}, {ece['n']:,} scans")
        axes.set(xlabel="confidence", aspect="equal")
        in_percent(axes.xaxis, axes.yaxis)
    every = [row[key] for found in report.values() for row in found["bins"] for key in ("from", "right", "low")]
    start = np.floor(10 * min(value for value in every if value is not None)) / 10
    panels[0].set(ylabel="share right", xlim=(start, 1.02), ylim=(start, 1.02))
    return publish(figure, path)


def _banded(axes: Axes, curve: Mapping[str, Any], x: str, y: str, label: str | None = None) -> np.ndarray:
    """Draw a curve with its band as `bcx.evaluate.curves` gives it, and return x, y, low and high, float64 [4, K]."""
    values = np.array([curve[name] for name in (x, y, "low", "high")], np.float64)
    axes.fill_between(values[0], *values[2:], color=CYCLE[0], alpha=0.2, linewidth=0)
    axes.plot(*values[:2], color=CYCLE[0], label=label)
    return values


@styled
def referral_figure(curve: Mapping[str, Any], path: AnyPath, rule: tuple[float, float] | None) -> Figure:
    """Draw the share of wrong answers against the share of scans answered, from `curves.referral_curve`.

    `rule`, the share answered and the share wrong among them under the rule for referral, is marked.
    """
    figure, (axes,) = paper(5.0, 3.5)
    _banded(axes, curve, "answered", "wrong")
    if rule is not None:
        shares = f"{percent(rule[0])} answered, {percent(1 - rule[1])} of them right"
        told = f"referral, each fold by the others' threshold:\n{shares}"
        axes.plot(*rule, SHAPES[0], color=CYCLE[1], markersize=7, label=told, linestyle="none")
        axes.legend(loc="upper left")
    axes.set(xlim=(0, 1.01), ylim=(0, None), xlabel="scans answered, the surest first", ylabel="wrong among them")
    axes.set_title(f"Risk and coverage (area {units(curve['area']['value'])})")
    in_percent(axes.xaxis, axes.yaxis)
    return publish(figure, path)


@styled
def decision_figure(curve: Mapping[str, Any], positive: str, path: AnyPath) -> Figure:
    """Draw the net benefit of acting on the model's word, on every scan, and on none; from `curves.decision_curve`."""
    figure, (axes,) = paper(5.0, 3.5)
    x, y, _, high = _banded(axes, curve, "threshold", "net_benefit", "on those the model finds")
    axes.plot(x, curve["on_all"], color=CYCLE[1], linestyle=DASHES[1], label="on every scan")
    axes.axhline(0, color=INK, linewidth=1.2, linestyle=DASHES[3], label="on none")
    top = float(max(np.nanmax(high, initial=0), y.max(), *curve["on_all"], 0.01))
    axes.set(xlim=(0, x.max()), ylim=(-0.15 * top, 1.08 * top))
    axes.set(xlabel=f"probability of {positive} from which one acts", ylabel="net benefit per scan")
    axes.set_title("Decision curve: net benefit of acting")
    axes.legend(loc="upper right")
    in_percent(axes.xaxis)
    return publish(figure, path)


@styled
def training_figure(runs: Mapping[str, Sequence[Mapping[str, Any]]], path: AnyPath) -> Figure:
    """Draw each epoch's figures: training in full lines, validation dashed where there is some; a colour per run.

    `runs`: name -> rows of `history.csv`, numbers or their text; several members or trainings are a run each.
    """
    tables = _by_member(runs)
    drawn = [name for name in _EPOCH_FIGURES if any(f"train_{name}" in table for table in tables.values())]
    if not drawn:
        raise DataError(
            "The history has no figures of training.",
            expected="rows with epoch and train_loss, train_accuracy, ...",
            remedy="Pass the history.csv that training wrote.",
        )
    figure, grid = _panels(len(drawn), 1.9, 0.6)
    for axes, name in zip(grid, drawn, strict=False):
        for k, (run, table) in enumerate(tables.items()):
            for p, (part, words) in enumerate(_PARTS):
                y = table.get(f"{part}_{name}")
                if y is not None and np.isfinite(y).any():
                    told = words if len(tables) == 1 else f"{run}, {words}"
                    colour = CYCLE[(p if len(tables) == 1 else k) % len(CYCLE)]
                    mark = SHAPES[p] if len(y) == 1 else None
                    axes.plot(table["epoch"], y, color=colour, linestyle=DASHES[p], marker=mark, label=told, lw=1.4)
        axes.set_title(_EPOCH_FIGURES[name])
        axes.xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("epoch", fontsize=9)
    entries = grid[0].get_legend_handles_labels()
    # Long names stand in fewer columns: 90 letters fill the width.
    across = max(1, min(len(entries[0]), 3, 90 // max(len(name) for name in entries[1])))
    figure.legend(*entries, loc="outside upper center", ncols=across)
    return publish(figure, path)


def _by_member(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, pd.DataFrame]:
    """Each run's history, or one for each of its members and trainings, as numbers."""
    parted: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, rows in runs.items():
        for row in rows:
            parts = [(words, row.get(part)) for part, words in (("member", "network"), ("training", "variant"))]
            told = [name, *(f"{words} {int(number) + 1}" for words, number in parts if number not in (None, ""))]
            parted[", ".join(filter(None, told))].append(row)
    return {name: pd.DataFrame(rows).apply(pd.to_numeric, errors="coerce") for name, rows in parted.items()}


def draw_all(
    frame: pd.DataFrame,
    task: Task,
    results: Mapping[str, Any],
    folder: AnyPath,
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[Path]:
    """Draw every figure that a cross-validation's results hold, and return the files: no scan is needed or shown.

    Sources are drawn apart (`roc-busi.png`) where there are several: a curve over two hospitals, one without normals,
    would show which hospital a scan is from. What `derived.derive` gave is drawn as it is.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = sorted(set(frame["source"].tolist()))
    written = [folder / "classes.png"]
    class_figure({s: frame[frame["source"] == s]["label"].value_counts().to_dict() for s in sources}, task, written[0])
    # A curve over two hospitals, one of them without normals, would show which hospital a scan is from.
    for source in sources:
        rows = frame[frame["source"] == source]
        labels, groups = label_positions(rows, task), rows["group"].to_numpy(str)
        answers = apply_temperature(logits_of(rows, task), results["temperature"])

        def place(name: str, source: str = source) -> Path:
            written.append(folder / (f"{name}-{source}.png" if len(sources) > 1 else f"{name}.png"))
            return written[-1]

        if len(np.unique(labels)) > 1:
            view = results["sources"][source]["one_view"] if "sources" in results else results["one_view"]
            for kind in ("roc", "pr"):
                curve_figure(kind, labels, answers, groups, task, place(kind), view)
        most_probable = named_confusion(labels, answers.argmax(axis=1), task.classes)
        confusion_figure(most_probable, place("confusion"), "Most probable class")
        rule = None
        if "decisions" in results:
            decided, share = results["decisions"]["sources"][source], results["decisions"]["referral"][source]
            confusion_figure(decided["confusion"], place("confusion-answers"), "Answers")
            if share["answered"] < 1 and share["accuracy"] is not None:
                rule = share["answered"], 1 - share["accuracy"]
        scalings = {_SCALINGS[name]: report for name, report in results["reliability"][source].items()}
        reliability_figure(scalings, place("reliability"))
        referral_figure(results["risk_coverage"][source], place("risk-coverage"), rule)
        if source in results["decision_curve"]:
            decision_figure(results["decision_curve"][source], task.positive, place("decision-curve"))
    if runs:
        written.append(folder / "training.png")
        training_figure(runs, written[-1])
    return written
