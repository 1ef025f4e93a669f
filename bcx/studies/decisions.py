"""Decisions in hospitals that no network saw: a rule fitted where it is judged least kindly, beside the one before.

Each hospital's figures come from thresholds and a temperature that were fitted on the other hospitals. What is stored
is fitted on all of them. `patients_table` measures one answer per patient beside one per scan.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.checkpoints.checkpoint import Checkpoint
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.evaluate.canvas import CYCLE, DIM, in_percent, paper, publish, styled
from bcx.evaluate.derived import BY_HOSPITAL, HOSPITALS, derive, fit_hospitals, harm_figures, noted_scans
from bcx.evaluate.intervals import figures_with_intervals, report_with_intervals
from bcx.evaluate.metrics import REFERRED, ranked_auc
from bcx.evaluate.oof import DISTANCE, label_positions, logits_of, read_answers
from bcx.files import AnyPath
from bcx.inference.patient import Answer, combine
from bcx.studies.corruptions import lesion_score
from bcx.tasks import Task
from bcx.train.answer import answer_table
from bcx.train.provenance import read_json
from bcx.train.runs import ANSWERS, NOTE
from bcx.trust.calibration import apply_temperature
from bcx.trust.claims import REFER
from bcx.trust.input_check import InputCheck
from bcx.trust.rule import ABSENT_HARM, NEGATIVE_HARM, POINTS, Decider, HarmRule

#: Levels of harm that the curve goes through, in the proportion of the two targets.
LEVELS = np.geomspace(0.002, 0.4, 60)
_CALIBRATION = ("ece", "log_loss")


@dataclass(frozen=True)
class Elsewhere:
    """The answers to one hospital (`bcx.evaluate.oof.read_answers`) by networks that never saw it, these in words.

    `left_out` are scans of classes that those networks never learned, which are not in the frame.
    """

    frame: pd.DataFrame
    networks: str
    left_out: int = 0

    def about(self) -> dict[str, Any]:
        """Return how many there are, and by what, ready for JSON."""
        groups, counts = int(self.frame["group"].nunique()), self.frame["label"].value_counts().sort_index().to_dict()
        sizes = {"n": len(self.frame), "groups": groups, "counts": counts}
        return {**sizes, "networks": self.networks, "left_out": self.left_out}


def transfer_answers(folder: Path, task: Task) -> dict[str, Elsewhere]:
    """Read the answers of `bcx evaluate --transfer`, parts "hospital" and "left-out"; none where there is no folder.

    Of several runs that answer a hospital, those count that learned from most scans.
    """
    found: dict[str, Elsewhere] = {}
    most: dict[str, int] = {}
    for run in sorted([*folder.glob("hospital-*"), *folder.glob("without-*")]):
        note = read_json(run / NOTE)
        words = f"networks of the same recipe trained on {note['n_train']} scans from elsewhere"
        for hospital, part in read_answers(run / ANSWERS, task).groupby("source"):
            known = part[part["label"].isin(note["classes"])].reset_index(drop=True)
            if note["n_train"] > most.get(str(hospital), 0):
                most[str(hospital)] = note["n_train"]
                found[str(hospital)] = Elsewhere(known, words, len(part) - len(known))
    return found


def left_out_results(transfer: Path, task: Task) -> tuple[pd.DataFrame, dict[str, Any]] | None:
    """Return a cross-validation whose folds are hospitals, from a study of transfer that left each of them out.

    It is the out-of-fold table and what belongs in results.json; None where not every hospital was left out.
    """
    if not (transfer / "results.json").is_file():
        return None
    study = read_json(transfer / "results.json")
    runs = [run for run in study["runs"] if run["name"].startswith("without ")]
    if len(runs) != len(study["data"]) or len(runs) < 2:
        return None
    tables = [read_answers(transfer / run["name"].replace(" ", "-") / ANSWERS, task) for run in runs]
    frame = pd.concat([table.assign(fold=fold) for fold, table in enumerate(tables)], ignore_index=True)
    about = {
        "what": "every hospital answered by a network of the same recipe that never saw it",
        "protocol": BY_HOSPITAL,
        **{key: study[key] for key in ("command", "commit", "versions", "machine", "recipe", "data", "seconds")},
        "runs": [{"fold": fold, **run} for fold, run in enumerate(runs)],
        "oof": {"file": ANSWERS, "rows": len(frame)},
    }
    return frame, about | derive(frame, task, noted_scans(frame["file"]), HOSPITALS)


def fresh_answers(checkpoint: Checkpoint, records: Sequence[Record]) -> dict[str, pd.DataFrame]:
    """Answer scans of hospitals that a checkpoint was not trained on (else: `DataError`): a frame per source."""
    if seen := set(checkpoint.training.get("data", {})) & {record.source for record in records}:
        raise DataError(
            f"'{checkpoint.name}' was trained on {', '.join(sorted(seen))}.",
            expected="hospitals that it never saw",
            remedy="Leave these out.",
        )
    frame, stages = answer_table(checkpoint.network, checkpoint.preprocess, records, 0, checkpoint.task)
    if checkpoint.input_check is not None:
        frame[DISTANCE] = InputCheck.load(checkpoint.folder, checkpoint.input_check).distances(stages)
    return {str(source): part.reset_index(drop=True) for source, part in frame.groupby("source")}


def fit_elsewhere(
    answers: Iterable[Elsewhere], task: Task, prevalence: Sequence[float], fitted_on: str = "", **harms: float
) -> tuple[float, HarmRule]:
    """Fit a temperature and a rule: `fit_hospitals` on all these answers."""
    frame = pd.concat([each.frame for each in answers], ignore_index=True)
    return fit_hospitals(frame, task, prevalence, fitted_on, **harms)


def decisions_study(
    checkpoint: Checkpoint,
    elsewhere: Mapping[str, Elsewhere],
    at_home: pd.DataFrame | None,
    before: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Fit the rule of decision, and hold it against the one before in every hospital, ready for JSON.

    `elsewhere` has answers by networks that never saw a hospital (fewer than two are a `DataError`), `at_home` the
    out-of-fold table of the checkpoint's own, `before` the `temperature` and `decisions` that were stored before.
    `temperature` and `rule` are fitted on all hospitals; `table` has a row of harm per hospital, rule ("before", "by
    the other hospitals", "as stored") and operating point, `calibration` one per hospital and temperature.
    """
    task = checkpoint.task
    if len(elsewhere) < 2:
        raise DataError(
            f"There are answers to {len(elsewhere)} hospital{'s' if len(elsewhere) != 1 else ''} that no network saw.",
            expected="two or more, so that a rule can be judged where it was not fitted",
            remedy="Name hospitals with --data, or run bcx evaluate --transfer first.",
        )
    prevalence, names = stated_prevalence(checkpoint), sorted(elsewhere)
    said = f"answers to {', '.join(names)} by networks that never saw them"
    temperature, stored = fit_elsewhere(elsewhere.values(), task, prevalence, said)
    rows, calibration = [], []
    for where, name, frame in _tables(elsewhere, at_home):
        ways: dict[str, tuple[float, Mapping[str, Any]]] = {}
        if before is not None:
            ways["before"] = before["temperature"], before["decisions"]
        if where == "elsewhere":
            own, rule = fit_elsewhere([elsewhere[other] for other in names if other != name], task, prevalence)
            ways["by the other hospitals"] = own, {"rule": rule.to_dict()}
        ways["as stored"] = temperature, {"rule": stored.to_dict()}
        labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
        for way, (own, block) in ways.items():
            words = {"hospital": name, "where": where, "rule": way}
            for point in POINTS if "rule" in block else POINTS[:1]:
                figures = harm_figures(labels, _decided(frame, own, block, task, point), groups, task)
                rows.append({**words, "point": point, "temperature": own, **figures})
            probabilities = apply_temperature(logits_of(frame, task), own)
            means = probabilities.mean(axis=0), np.bincount(labels, minlength=len(task.classes)) / len(labels)
            mean, share = (dict(zip(task.classes, values.round(4).tolist(), strict=True)) for values in means)
            figures = report_with_intervals(labels, probabilities, groups, task.classes, _CALIBRATION)
            calibration.append({**words, "temperature": own, **figures, "mean_probability": mean, "share": share})
    return {
        "temperature": temperature,
        "rule": stored.to_dict(),
        "before": before,
        "targets": {"as_absent": ABSENT_HARM, "as_other": NEGATIVE_HARM},
        "hospitals": {name: elsewhere[name].about() for name in names},
        "table": rows,
        "calibration": calibration,
        "curves": {name: _curves(name, elsewhere, task, before) for name in names},
    }


def _tables(
    elsewhere: Mapping[str, Elsewhere], at_home: pd.DataFrame | None
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Where, the hospital, and the answers: by networks that never saw it, then out of fold."""
    for name in sorted(elsewhere):
        yield "elsewhere", name, elsewhere[name].frame
    for source, part in () if at_home is None else at_home.groupby("source"):
        yield "home", str(source), part.reset_index(drop=True)


def stated_prevalence(checkpoint: Checkpoint) -> list[float]:
    """Return the share of each class among the scans that a checkpoint was trained on; empty where it does not say."""
    data = checkpoint.training.get("data", {}).values()
    counts = [sum(about["classes"].get(name, 0) for about in data) for name in checkpoint.task.classes]
    return [count / sum(counts) for count in counts] if sum(counts) else []


def flat(table: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row per figure of the study's table: hospital, where, rule, point, figure, value, low, high, n."""
    about = ("hospital", "where", "rule", "point")
    figures = ((row, name, figure) for row in table for name, figure in row.items() if isinstance(figure, dict))
    return pd.DataFrame([{key: row[key] for key in about} | {"figure": name} | each for row, name, each in figures])


def _decided(
    frame: pd.DataFrame, temperature: float, block: Mapping[str, Any], task: Task, point: str = "default"
) -> np.ndarray:
    """The answers, int [N], `REFERRED` where there is none: by a rule, or by the thresholds that were stored before."""
    probabilities = apply_temperature(logits_of(frame, task), temperature)
    if "rule" in block:
        distances = frame[DISTANCE].to_numpy() if DISTANCE in frame else None
        labels, reasons = Decider(block, task, point=point).decide_rows(probabilities, distances)
        return np.where([bool(reason) for reason in reasons], REFERRED, labels)
    limits, lesion = block["operating_point"], probabilities[:, 1:].sum(axis=1)
    positive, rest = limits["positive"], probabilities.copy()
    rest[:, [0, positive]] = -1
    labels = rest.argmax(axis=1)
    labels[probabilities[:, positive] / np.where(lesion > 0, lesion, 1) >= limits["positive_above"]] = positive
    labels[probabilities[:, 0] >= limits["normal_above"]] = 0
    return np.where(probabilities.max(axis=1) < block["refer"]["below"], REFERRED, labels)


def _curves(
    name: str, elsewhere: Mapping[str, Elsewhere], task: Task, before: Mapping[str, Any] | None
) -> dict[str, dict[str, list[float]]]:
    """Share referred and share of the positive scans missed, from the mildest rule to the strictest."""
    frame, others = elsewhere[name].frame, [each for other, each in elsewhere.items() if other != name]
    positive, total = task.classes.index(task.positive), ABSENT_HARM + NEGATIVE_HARM
    ill = label_positions(frame, task) == positive
    curves = defaultdict[str, dict[str, list[float]]](lambda: {"referred": [], "missed": []})

    def add(name: str, temperature: float, block: Mapping[str, Any]) -> None:
        answers, curve = _decided(frame, temperature, block, task), curves[name]
        curve["referred"].append(round(float((answers == REFERRED).mean()), 5))
        curve["missed"].append(round(float((~np.isin(answers, (positive, REFERRED)))[ill].mean()), 5))

    for level in LEVELS:
        harms = {"absent_harm": level * ABSENT_HARM / total, "negative_harm": level * NEGATIVE_HARM / total}
        temperature, rule = fit_elsewhere(others, task, (), **harms)
        add("harm first", temperature, {"rule": rule.to_dict()})
    if before is not None:
        for below in np.linspace(0, 1, 101):
            refer = before["decisions"]["refer"] | {"below": float(below)}
            add("before", before["temperature"], before["decisions"] | {"refer": refer})
    return dict(curves)


def patients_table(
    sources: Sequence[str],
    elsewhere: Mapping[str, Elsewhere],
    at_home: pd.DataFrame | None,
    task: Task,
    temperature: float,
    rule: Mapping[str, Any],
) -> dict[str, Any]:
    """Return `table`: `patients_study` per source, whose groups are patients, and place, as in `decisions_study`."""
    rows = []
    for source in sources:
        frames = {where: frame for where, name, frame in _tables(elsewhere, at_home) if name == source}
        if not frames:
            raise DataError(
                f"There are no answers to '{source}'.",
                expected=f"one of {', '.join(elsewhere)}",
                remedy="Correct the name after --patients.",
            )
        for where, frame in frames.items():
            figures = patients_study(frame, task, temperature, Decider({"rule": rule}, task))
            rows.append({"hospital": source, "where": where, **figures})
    return {"table": rows}


def patients_study(frame: pd.DataFrame, task: Task, temperature: float, decider: Decider) -> dict[str, Any]:
    """Combine the answers to each patient's scans as `bcx predict --patients` does, and score both.

    The frame's groups are patients, each with one label; those with one scan are left out. `auc` is of the positive
    class against other lesions (by scan, by patient, and the paired gain); intervals are over patients.
    """
    frame = frame[frame.groupby("group")["file"].transform("size") > 1].reset_index(drop=True)
    scans = apply_temperature(logits_of(frame, task), temperature).astype(float)
    labels, groups = label_positions(frame, task), frame["group"].to_numpy(str)
    chosen, reasons = decider.decide_rows(scans)
    codes = np.where([bool(reason) for reason in reasons], REFERRED, chosen)
    decisions = [REFER if code == REFERRED else task.classes[code] for code in codes]
    names, first, of = np.unique(groups, return_index=True, return_inverse=True)
    chances = [dict(zip(task.classes, row, strict=True)) for row in scans]
    each = pd.Series(map(Answer, frame["file"], decisions, reasons, chances))
    answers = [combine(name, list(part), decider, task) for name, part in each.groupby(groups)]
    patients = np.array([list(one.probabilities.values()) for one in answers])
    combined = [REFERRED if one.decision == REFER else task.classes.index(one.decision) for one in answers]

    positive = task.classes.index(task.positive)
    by_scan = ranked_auc(lesion_score(scans, task), labels == positive)
    by_patient = ranked_auc(lesion_score(patients, task), labels[first] == positive)

    def areas(weights: np.ndarray) -> np.ndarray:
        scan, patient = by_scan(weights[of]), by_patient(weights)
        return np.array([scan, patient, patient - scan])

    counts = {"scan": len(frame), "patient": len(names), "gain": len(names)}
    return {
        "patients": len(names),
        "scans": len(frame),
        "auc": figures_with_intervals(areas, counts, names),
        "scan": harm_figures(labels, codes, groups, task)
        | report_with_intervals(labels, scans, groups, task.classes, _CALIBRATION),
        "patient": harm_figures(labels[first], np.array(combined), names, task)
        | report_with_intervals(labels[first], patients, names, task.classes, _CALIBRATION),
    }


_LINES = {"before": ("rule before", CYCLE[1]), "harm first": ("harm first", CYCLE[0])}
_MARKS: dict[str, dict[str, Any]] = {
    "before": {"label": "as stored before", "fmt": "s", "color": CYCLE[1]},
    "by the other hospitals": {"label": "fitted on the other hospitals", "fmt": "o", "color": CYCLE[0]},
    "as stored": {"label": "as stored, fitted on all", "fmt": "o", "color": CYCLE[0], "markerfacecolor": "white"},
}


@styled
def write_decisions_figure(results: Mapping[str, Any], path: AnyPath, task: Task) -> None:
    """Draw, for each hospital, the positive scans missed against the scans referred; results of `decisions_study`."""
    table = [row for row in results["table"] if (row["where"], row["point"]) == ("elsewhere", "default")]
    sheet, axes = paper(3.1 * len(results["curves"]), 3.9, 1, len(results["curves"]), sharex=True, sharey=True)
    target = sum(results["targets"].values())
    for (name, curves), panel in zip(results["curves"].items(), axes, strict=True):
        about = results["hospitals"][name]
        panel.axhline(target, color=DIM, linewidth=1, linestyle=(0, (4, 3)))
        for rule, curve in curves.items():
            words, colour = _LINES[rule]
            panel.plot(curve["referred"], curve["missed"], color=colour, label=f"{words}, from mild to strict")
        for row in (row for row in table if row["hospital"] == name):
            x, y = row["referred"], row["missed"]
            errors = [[[each["value"] - each["low"]], [each["high"] - each["value"]]] for each in (y, x)]
            style = {"markersize": 6, "elinewidth": 1} | _MARKS[row["rule"]]
            panel.errorbar(x["value"], y["value"], *errors, **style)
        panel.set_title(f"{name}: {about['counts'].get(task.positive, 0)} {task.positive} of {about['n']} scans")
        panel.set_xlabel("scans referred")
        in_percent(panel.xaxis)
    axes[0].set_ylabel(f"{task.positive} scans answered with another class")
    axes[0].set_ylim(-0.01, max(row["missed"]["high"] for row in table) + 0.02)
    axes[0].set_xlim(0, 0.95)
    in_percent(axes[0].yaxis)
    axes[-1].annotate("target", (0.94, target), ha="right", va="bottom", fontsize=8, color=DIM)
    handles, labels = axes[0].get_legend_handles_labels()
    sheet.legend(handles, labels, loc="outside lower center", ncols=3)
    publish(sheet, path)
