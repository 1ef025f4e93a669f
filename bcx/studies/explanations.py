"""Which explanation should one trust? Every method on the same scans, against the outlines and by the checks.

The network must not have been trained on the scans. The class that is explained is the more probable kind of lesion.
Each map is held against that of another scan as well, the exact one in every test, the others in ROAD, which rewards
breadth: what is no better than a map of something else is chance. The study can be stopped: a row is written when a map
is measured, and rows that are there are not made again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from bcx.data.records import Record, load_mask
from bcx.evaluate.canvas import CYCLE, DIM, dots, paper, publish, styled
from bcx.evaluate.intervals import means_with_intervals
from bcx.evaluate.localisation import CLASS_MAP_LEVEL, measure
from bcx.evaluate.words import interval, markdown_table
from bcx.explain.checks import check, faithfulness, likeness, road
from bcx.explain.methods import EXACT, METHODS, Explanation, explain
from bcx.files import AnyPath, write_rows
from bcx.inference.classifier import Classifier
from bcx.inference.prediction import Prediction
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork
from bcx.tasks import Task

#: The exact map of another scan, held against this one: what chance scores.
CONTROL = "another scan's map"
#: The exact map of a lesion network as it is on the network's grid: what smoothing it changes.
UNSMOOTHED = "exact class map, not smoothed"
#: Of the table; a larger one is better, but for the last five.
FIGURES = (
    *("heat_inside", "pointing", "iou", "road", "road_gain", "insertion_gain", "deletion_gain", "here_more"),
    *("stability", "random_head", "random_network", "other_scan", "seconds"),
)
_ABOUT = ("file", "group", "label", "answer", "target", "weights", "method")
_MEASURED = (
    *("heat_inside", "pointing", "iou", "probability", "drop_here", "drop_elsewhere", "deletion", "deletion_random"),
    *("insertion", "insertion_random", "road", "mirror", "noise", "zoom", "random_head", "random_network"),
    *("other_scan", "road_other", "seconds"),
)


def sample(records: Sequence[Record], count: int, task: Task) -> list[Record]:
    """Return up to `count` scans with an outlined lesion, the classes in turn, so that any first part is balanced."""
    rng = np.random.default_rng(0)
    classes: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: (record.label, record.key)):
        if record.masks and record.label != task.absent:
            classes.setdefault(record.label, []).append(record)
    drawn = [[part[place] for place in rng.permutation(len(part))] for part in classes.values()]
    return [record for turn in zip_longest(*drawn) for record in turn if record is not None][:count]


def maps_of(classifier: Classifier, place: int, slow: int) -> list[str]:
    """Return what is measured of the scan at a place of the sample: controls and methods."""
    lesion = isinstance(classifier.checkpoint.network, LesionNetwork | LesionEnsemble)
    methods = [name for name, method in METHODS.items() if place < slow or not method.slow]
    return [CONTROL, *[UNSMOOTHED] * lesion, *methods]


def explanation_study(
    classifier: Classifier,
    records: Sequence[Record],
    table: Path,
    checked: int,
    slow: int,
    on_map: Callable[[], object] = lambda: None,
) -> pd.DataFrame:
    """Measure every method's map of every scan, and return the rows, which stand in `table` as well.

    Rows that this classifier made before are kept. Records, two or more, are of `sample`; `checked` says of how many
    stability and sanity are measured (six maps more for each map), `slow` of how many the slow methods' maps are made.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if table.exists():
        stored = pd.read_csv(table).astype(object)
        stored = stored.where(stored.notna(), None)[stored["weights"] == classifier.weights_sha256[:12]]
        rows = {(row["file"], row["method"]): row for row in stored.to_dict("records")}
    before: dict[str, np.ndarray] = {}  # maps of the scan before this one
    for place, record in enumerate(records):
        deep = {name for name, method in METHODS.items() if place < checked and not method.slow}
        missing = [
            name
            for name in maps_of(classifier, place, slow)
            if (record.key, name) not in rows or (name in deep and rows[record.key, name]["random_network"] is None)
        ]
        maps: dict[str, np.ndarray] = {}
        if missing:
            partner = records[place - 1 if place else 1]
            mine, other = (classifier.predict(each.file, each.key) for each in (record, partner))
        for name in missing:
            method = name if name in METHODS else EXACT
            found = explain(classifier, mine, _target(classifier, mine), method)
            maps[method] = found.map
            if method not in before:
                before[method] = explain(classifier, other, _target(classifier, other), method).map
            foreign = cv2.resize(before[method], (mine.scan.width, mine.scan.height))
            other_map = replace(found, map=foreign)
            of_others: dict[str, Any] = {}
            if name in METHODS:
                of_others = {"other_scan": likeness(found.map, foreign), "road_other": road(classifier, other_map)}
            elif name == CONTROL:
                found = other_map
            else:
                found = replace(found, map=mine.class_map(found.target, smoothing=0))
            values = check(classifier, found).to_dict() if name in deep else faithfulness(classifier, found)
            values |= of_others
            rows[record.key, name] = _row(classifier, record, mine.label, found, name, values)
            write_rows(table, [*_ABOUT, *_MEASURED], rows.values())
            on_map()
        before = maps
    order = {record.key: place for place, record in enumerate(records)}
    frame = pd.DataFrame([row for (file, _), row in rows.items() if file in order], columns=[*_ABOUT, *_MEASURED])
    return frame.sort_values("file", key=lambda file: file.map(order), kind="stable")


def _row(
    classifier: Classifier, record: Record, answer: str, found: Explanation, name: str, values: dict[str, Any]
) -> dict[str, Any]:
    mask, peak = load_mask(record, found.map.shape), float(found.heat.max())
    assert mask is not None  # `sample` leaves out scans without one
    fit = measure(found.heat / peak if peak > 0 else found.heat, mask, CLASS_MAP_LEVEL)
    values |= {"heat_inside": fit.inside, "pointing": fit.pointing, "iou": fit.iou, "seconds": found.seconds}
    about = (record.key, record.group, record.label, answer, found.target, classifier.weights_sha256[:12], name)
    numbers = {key: None if values.get(key) is None else round(float(values[key]), 5) for key in _MEASURED}
    return dict(zip(_ABOUT, about, strict=True)) | numbers


def _target(classifier: Classifier, prediction: Prediction) -> str:
    kinds = [name for name in classifier.classes if name != classifier.task.absent]
    return max(kinds, key=lambda name: prediction.probabilities[name])


def summarise(frames: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Return, ready for JSON, what each method is worth, with 95 % intervals over groups.

    Args:
        frames: rows of `explanation_study`, by data set.

    Returns:
        `methods`: name -> `scans`, `FIGURES`, and `less_than_exact`: the exact map's figure minus this method's, on
        the scans that both have; of all sets together. `sets`: the same of each. `chance`: the 95th percentile of
        `here_more` and `road` of another scan's map. `alike`: of `other_scan`, by method: two patients' maps are less
        alike than that in 95 % of pairs.
    """
    frame = pd.concat(list(frames.values()), ignore_index=True)
    control = _derived(frame[frame["method"] == CONTROL])
    alike = frame.groupby("method", sort=False)["other_scan"].quantile(0.95).dropna().round(4)
    return {
        "methods": _methods(frame),
        "sets": {name: _methods(part) for name, part in frames.items()} if len(frames) > 1 else {},
        "chance": {key: round(float(control[key].quantile(0.95)), 4) for key in ("here_more", "road")},
        "alike": alike.to_dict(),
    }


def _derived(frame: pd.DataFrame) -> pd.DataFrame:
    # Gains are over random order, that of ROAD over the same method's map of another scan; `here_more` over an equal
    # region elsewhere.
    return frame.assign(
        road_gain=frame["road"] - frame["road_other"],
        insertion_gain=frame["insertion"] - frame["insertion_random"],
        deletion_gain=frame["deletion_random"] - frame["deletion"],
        here_more=frame["drop_here"] - frame["drop_elsewhere"],
        stability=frame[["mirror", "noise", "zoom"]].min(axis=1),
    )


def _methods(frame: pd.DataFrame) -> dict[str, Any]:
    frame = _derived(frame)
    exact = frame[frame["method"] == EXACT].set_index("file")
    methods: dict[str, Any] = {}
    for name in [CONTROL, UNSMOOTHED, *METHODS]:
        part = frame[frame["method"] == name]
        if part.empty:
            continue
        groups, paired = part["group"].tolist(), exact.reindex(part["file"])
        figures = {key: part[key].to_numpy(float) for key in FIGURES}
        methods[name] = {"scans": len(part), **means_with_intervals(figures, groups)}
        if name != EXACT:
            gaps = {key: paired[key].to_numpy(float) - figures[key] for key in FIGURES if key != "seconds"}
            methods[name]["less_than_exact"] = means_with_intervals(gaps, groups)
    return methods


#: Figures on paper, and the words for them.
SHOWN = {
    "pointing": "hottest pixel in the lesion",
    "heat_inside": "energy in the lesion",
    "iou": "IoU at 30 % of the peak",
    "road": "ROAD",
    "road_gain": "ROAD, gain over another scan's map",
    "deletion_gain": "deletion, gain over random",
    "insertion_gain": "insertion, gain over random",
    "here_more": "hidden here, more than elsewhere",
    "stability": "stability, least of three",
    "random_network": "like a random network's",
    "seconds": "seconds",
}
#: Figures that are told of each data set as well.
IN_EACH_SET = ("pointing", "heat_inside", "road", "road_gain")


def table(results: Mapping[str, Any]) -> str:
    """Return the figures as a table in Markdown, "value (low to high)"; from `summarise`."""
    rows = [
        [_title(name), str(row["scans"]), *(interval(row[key], form=".2f") for key in SHOWN)]
        for name, row in results["methods"].items()
    ]
    return "\n".join(markdown_table(["method", "lesions", *SHOWN.values()], rows))


def table_of_sets(results: Mapping[str, Any]) -> str:
    """Return `IN_EACH_SET` of every data set as a table in Markdown; from `summarise`."""
    sets = results["sets"].values()
    heads = [f"{name}: {SHOWN[key]}" for key in IN_EACH_SET for name in results["sets"]]
    rows = [
        [_title(method), *(interval(part[method][key], form=".2f") for key in IN_EACH_SET for part in sets)]
        for method in results["methods"]
        if all(method in part for part in sets)
    ]
    return "\n".join(markdown_table(["method", *heads], rows))


def _title(name: str) -> str:
    return METHODS[name].title if name in METHODS else name.capitalize()


@styled
def write_explanations_figure(results: Mapping[str, Any], path: AnyPath) -> None:
    """Draw the figures of `summarise` but seconds, a row per method; dotted: what another scan's map scores."""
    methods, figures = results["methods"], [name for name in SHOWN if name != "seconds"]
    names = list(methods)
    sheet, axes = paper(9.2, 4.1 + 1.1 * len(names), 5, 2, sharey=True)
    for name, panel in zip(figures, axes, strict=True):
        panel.set_title(SHOWN[name])
        control, *others = (row[name] for row in methods.values())
        dots(panel, [0], [control], CYCLE[1])
        dots(panel, range(1, len(names)), others, CYCLE[0])
        if control["value"] is not None:
            panel.axvline(control["value"], color=DIM, linewidth=1, linestyle=(0, (1, 2)))
        panel.set_yticks(range(len(names)), [_title(method) for method in names])
    axes[0].invert_yaxis()
    publish(sheet, path)
