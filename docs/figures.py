"""Write the figures in README.md and in the documentation from the results files, so that none is typed by hand.

```bash
python docs/figures.py
```

A test compares the pages with what this writes.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bcx.evaluate.words import interval, markdown_table, units
from bcx.report import tables
from bcx.studies.compare import leaderboard_markdown
from bcx.studies.synthesis.study import figure_words
from bcx.tasks import BREAST_ULTRASOUND

ROOT = Path(__file__).resolve().parent.parent
# Folders of results.
HOSPITALS, LESION, PLAIN, IDC = ("mobilenetv2-hospitals", "mobilenetv2-lesion", "mobilenetv2-busi", "mobilenetv2-idc")
FOLDS = "studies/mobilenetv2-hospitals-folds"
ALONE, EACH_KIND, MACHINES = (f"studies/mobilenetv2-lesion-{name}" for name in ("alone", "each-kind", "machines"))
LEAKS = ("r1-mobilenetv2", "r3-mobilenetv2", "r4-system1", "r5-tiny-cnn")
NAMES = {"busi": "BUSI", "busbra": "BUS-BRA", "breast": "BrEaST"}
BY_OTHERS = "by the other hospitals"
BEGIN, END = "<!-- figures: written by `python docs/figures.py` -->", "<!-- end of figures -->"

# What is shown of an answer, in words: shares (in per cent), and plain numbers.
DECIDED = {
    "accuracy": "Scans read correctly (accuracy)",
    "sensitivity": "Malignant scans called malignant (sensitivity)",
    "specificity": "Other scans not called malignant (specificity)",
    "absent_recall": "Normal scans called normal",
    "lost_lesions": "Lesions called normal",
    "missed": "Cancers answered normal or benign, not referred",
    "referred": "Scans referred",
}
LABELLED = {key: words for key, words in DECIDED.items() if key not in ("missed", "referred")}  # without a rule
RANKED = {
    "macro_auc": "Macro one-vs-rest ROC-AUC",
    "auc_malignant_vs_benign": "Malignant against benign, ROC-AUC",
    "ece": "Calibration error (ECE, adaptive bins)",
}
TISSUE = {
    "balanced_accuracy": "Balanced accuracy",
    "sensitivity": "Patches with carcinoma called positive (sensitivity)",
    "specificity": "Other patches called negative (specificity)",
    "f1": "F1 of positive",
    "accuracy": "Patches read correctly (accuracy)",
}
PLACED = {
    "heat_inside": "Share of the heat that lies inside the lesion",
    "pointing": "Hottest pixel inside the lesion (pointing game)",
    "iou": "Overlap with the lesion (IoU) at the fixed threshold",
}
LESIONS = ("sensitivity", "specificity", "lesions_called_absent")
MALIGNANT = "ROC-AUC, malignant against benign"


def read(name: str) -> dict[str, Any]:
    """Read a results file."""
    return json.loads((ROOT / "results" / name).read_text("utf-8"))


def figure(entry: Mapping[str, Any] | None, share: bool) -> str:
    """Return a value with its 95 % interval: `82.3 % (79.1 to 85.2)` or `.924 (.905 to .941)`; a dash without one."""
    return tables.in_percent(entry, "-") if share or entry is None else interval(entry)


def figures(parts: Iterable[Mapping[str, Any]], names: Mapping[str, str], share: bool) -> list[list[str]]:
    """Return a row per figure: its words, and a cell per part."""
    parts = list(parts)
    return [[words, *(figure(part.get(key), share) for part in parts)] for key, words in names.items()]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; rows whose cells are all empty are left out."""
    return "\n".join(markdown_table(head, [row for row in rows if set(row[1:]) != {"-"}]))


def text(*parts: str) -> str:
    """Return paragraphs and tables as one text."""
    return "\n\n".join(parts)


# ---------------------------------------------------------------- all figures of the shipped models


def all_block() -> str:
    """Return every figure of the shipped models, with links as the documentation needs them."""
    lesion, plain = read(f"{LESION}/results.json"), read(f"{PLAIN}/results.json")
    abroad = read(f"{PLAIN}/external-busbra.json")
    busi, busbra = lesion["sources"]["busi"], lesion["sources"]["busbra"]
    return text(
        "Grouped cross-validation: near-duplicates, scans of one lesion and scans of one patient never straddle a "
        "split; every scan was read by a network that had not seen it or a copy of it. 95 % intervals from a bootstrap "
        f"over groups. One run per fold (seed {lesion['recipe']['seed']}).",
        f"**BUSI**, {busi['n']} scans in {busi['groups']} groups, both models out of fold:",
        answers_table("busi", lesion, plain["decisions"]["sources"]["busi"], plain["one_view"]),
        f"**BUS-BRA**, {busbra['n']} scans of {busbra['groups']} patients, no normal ones. The lesion model out of "
        "fold; the plain one has never seen this hospital, and shows what a model that learned one hospital is worth "
        "in the next:",
        answers_table("busbra", lesion, plain_decided(abroad["figures"]), abroad["figures"]),
        default_words(),
        "**Decisions in a hospital that no network saw.** A class is answered only where it is safe to say; all else "
        "is referred. Each hospital is read by networks that never saw it, and decided by a rule fitted on the others "
        "([the study](decisions.md)):",
        harm_table(),
        "**Does it look at the lesion?** Maps against the masks that doctors drew, out of fold:",
        places_table(read(f"{LESION}/localisation.json")["localisation"], abroad["localisation"]),
        "[Seeing lesions](seeing-lesions.md) is the study behind this: what was tried, and what did "
        "not work. The shipped networks were then trained on "
        "all folds with the same recipes, so they have no test set of their own.",
        input_check_words(),
        "**What are published figures worth?** The same recipe under a random split, as published, and under a split "
        "that keeps near-duplicates together, three seeds each ([the study](published-systems.md)):",
        leak_summary(),
        "**Do generated scans help?** Rare classes of BUSI filled up with pictures that a network made, the same "
        f"grouped scans scored. {read('studies/synth/synth-study.json')['sizes']} "
        "([the study](synthetic-images.md)):",
        synth_differences("percentage points", ["accuracy", "macro_auc"]),
        "**Another task, tissue under the microscope.** " + tissue_words(),
        speed_words(""),
        speed_words("-mobilenetv2-busi"),
    )


def answers_table(source: str, lesion: dict[str, Any], other: dict[str, Any], other_view: dict[str, Any]) -> str:
    """Return what both models answer on one hospital's scans; of the plain one its figures as answered, and ranked."""
    mine = lesion["decisions"]["sources"][source] | harm_of(LESION, source)
    rows = figures([mine, other | harm_of(PLAIN, source)], DECIDED, True)
    rows += figures([lesion["sources"][source]["one_view"], other_view], RANKED, False)
    return table(["", "`mobilenetv2-lesion`", "`mobilenetv2-busi` (plain)"], rows)


def default_words() -> str:
    """Return what the default model's recipe answers in hospitals that it learned from, and where it looks."""
    folds, placed = read(f"{FOLDS}/results.json"), read(f"{FOLDS}/localisation.json")["localisation"]["by_source"]
    rows = figures((folds["decisions"]["sources"][name] for name in NAMES), LABELLED, True)
    rows += figures((folds["sources"][name]["one_view"] for name in NAMES), RANKED, False)
    rows += [[words, *(figure(placed[name][key], key != "iou") for name in NAMES)] for key, words in PLACED.items()]
    counts = ", ".join(f"{folds['sources'][name]['n']:,} of {words}" for name, words in NAMES.items())
    return text(
        f"**The default model's recipe** in hospitals that it learned from: {counts}, out of fold. One network "
        "a fold, where `mobilenetv2-hospitals` is two. What such figures leave out is another hospital "
        "([the study](transfer.md)):",
        table(["", *NAMES.values()], rows),
    )


def plain_decided(view: dict[str, Any]) -> dict[str, Any]:
    """Return a classification report's figures under the names of `DECIDED`."""
    names = {"sensitivity": "sensitivity_malignant", "specificity": "specificity_malignant"}
    names |= {"accuracy": "accuracy", "absent_recall": "sensitivity_normal", "lost_lesions": "lesions_called_normal"}
    return {name: view.get(key) for name, key in names.items()}


def decided(model: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return what a model's rules of decision do by default, by hospital, where (at home or not) and rule."""
    rows = read(f"studies/decisions/{model}/decisions.json")["table"]
    return {(row["hospital"], row["where"], row["rule"]): row for row in rows if row["point"] == "default"}


def harm_of(model: str, hospital: str) -> dict[str, Any]:
    """Return what a model's stored rule does at home; in a hospital never seen, what one fitted on the others does."""
    rows = decided(model)
    found = rows.get((hospital, "home", "as stored")) or rows[hospital, "elsewhere", BY_OTHERS]
    return {key: found[key] for key in ("missed", "referred")}


def harm_table() -> str:
    """Return what the rule of decision does in hospitals that no network saw, beside the rule before."""
    found, keys = decided(LESION), ("as_absent", "as_other", "referred")
    rows = [
        [words, told, *(figure(found[name, "elsewhere", rule][key], True) for key in keys)]
        for name, words in NAMES.items()
        for rule, told in (("before", "before"), (BY_OTHERS, "harm first"))
    ]
    return table(["hospital", "rule", "cancers answered normal", "cancers answered benign", "scans referred"], rows)


def places_table(lesion: dict[str, Any], plain: dict[str, Any]) -> str:
    """Return where both models look, by hospital."""
    parts = [lesion["by_source"]["busi"], lesion["by_source"]["busbra"], plain["by_source"]["busbra"]]
    rows = [[words, *(figure(part[key], key != "iou") for part in parts)] for key, words in PLACED.items()]
    blobs = (figure(part["centred_blob"]["heat_inside"], True) for part in parts)
    rows.append(["to judge by: heat of a blob in the picture's centre", *blobs])
    return table(["", "`mobilenetv2-lesion`, BUSI", "`mobilenetv2-lesion`, BUS-BRA", "plain, BUS-BRA"], rows)


def input_check_words() -> str:
    """Return what the input checks of both models stop and pass."""
    study, plain = (read(f"studies/input-check/{name}.json") for name in (LESION, "input-check"))
    every, later = study["non_scans"]["all"], study["non_scans"]["kinds made afterwards"]
    own = study["scans"]["training scans, left out of the input check by folds"]
    other, folder = plain["scans"]["busbra"], "../../results/studies/input-check"
    return (
        f"**Is it a scan at all?** The input check of `mobilenetv2-lesion` stops {every['stopped']} of {every['n']} "
        "pictures that are no breast ultrasound: photographs, documents, drawings, noise, microscope slides "
        f"({later['stopped']} of {later['n']} of kinds that were made after the input check), and passes "
        f"{100 * own['passed']:.1f} % of {own['n']} scans that it was not fitted on "
        f"([by kind]({folder}/{LESION}.json)). The plain "
        f"model's input check passes {100 * other['passed']:.1f} % of {other['n']} scans of BUS-BRA, a hospital that "
        "it has never seen (600 of them were in view when the input check's allowance was set; "
        f"[by kind]({folder}/input-check.json))."
    )


def speed_words(model: str) -> str:
    """Return a benchmark's ratios."""
    speed, rows = read(f"benchmarks/speed{model}.json"), []
    for row in speed["rows"]:
        if row["at_least"] is not None:
            measured = f"{row['seconds']:.2g} s" if "seconds" in row else f"{row['ratio']:.{2 * (row['ratio'] < 5)}f} x"
            rows.append([row["what"], measured, str(row["at_least"]), str(row["aim"] or "-")])
    return text(
        f"**Speed** of `{speed['model']['name']}`, as ratios measured in one run on {speed['machine']['cores']} cores "
        "without a GPU ([how](../../benchmarks/README.md)):",
        table(["what", "measured", "floor", "aim"], rows),
    )


# ---------------------------------------------------------------- hospitals, decisions, input check


def readme_block() -> str:
    """Return the README's table: the default model, and the one before, in hospitals that their networks never saw."""
    heads = ["ROC-AUC, malignant / benign", "cancers answered normal", "cancers answered benign", "scans referred"]
    return table(["", *heads], [*hospital_rows(HOSPITALS), *hospital_rows(LESION)])


def hospital_rows(model: str) -> list[list[str]]:
    """Return a row per hospital that the networks and the rule of one model had not seen."""
    found, rows = decided(model), read(f"{model}/transfer/results.json")["table"]
    aucs = {row["score_on"]: row["auc"] for row in rows if row["part"] in ("hospital", "left-out")}
    if (ROOT / "results" / model / "external-breast.json").is_file():
        aucs["breast"] = read(f"{model}/external-breast.json")["figures"]["auc_malignant_vs_benign"]
    return [
        [
            f"`{model}`: {words}",
            figure(aucs[name], False),
            *(figure(found[name, "elsewhere", BY_OTHERS][key], True) for key in ("as_absent", "as_other", "referred")),
        ]
        for name, words in NAMES.items()
    ]


def decisions_block() -> str:
    """Return the study of decisions, model by model."""
    parts = []
    for model in (HOSPITALS, LESION, PLAIN):
        study = read(f"studies/decisions/{model}/decisions.json")
        hospitals = []
        for name, about in study["hospitals"].items():
            counts = ", ".join(f"{count} {label}" for label, count in about["counts"].items())
            left = f"; {about['left_out']} scans of classes that these never learned are left out"
            told = f"answered by {about['networks']}{left if about['left_out'] else ''}"
            hospitals.append(f"- `{name}`: {about['n']} scans ({counts}), {told}.")
        words = f"Cancers missed against scans referred, a panel per hospital, {model}"
        parts += [f"### `{model}`", f"> {study['rule']['what']}"]
        parts += [f"Temperature {study['temperature']:.3f}. Of the hospitals:", "\n".join(hospitals)]
        parts.append(f"![{words}](../../results/studies/decisions/{model}/decisions.png)")
        for found in (
            tables.harm_table(study, BREAST_ULTRASOUND),
            tables.stored_points_table(study, BREAST_ULTRASOUND),
            tables.calibration_table(study),
        ):
            parts += [f"**{found.title}.** {found.note}".rstrip(), "\n".join(markdown_table(found.head, found.rows))]
    return text(*parts)


def checked_block() -> str:
    """Return what the default model's input check stops of pictures akin to a breast scan, and of true scans."""
    study, rows = read(f"studies/input-check/{HOSPITALS}.json"), []
    akin = ("colour Doppler", "spectral Doppler", "elastography", "split screen", "report", "photograph of a screen")
    for family in (*akin, "other ultrasound", "true other ultrasound"):
        kinds = {kind: row for kind, row in study["non_scans"]["by_kind"].items() if kind.split(":")[0] == family}
        for kind, row in sorted(kinds.items(), key=lambda item: (not item[1]["seen"], item[0])):
            alone = f"{100 * row['by the distance alone'] / row['n']:.1f} %"
            stopped = figure(row | {"value": row["share"]}, True)
            rows.append([kind, "yes" if row["seen"] else "no", str(row["n"]), stopped, alone])
    left_out = [
        [
            NAMES[hospital],
            str(row["n"]),
            figure(row | {"value": row["share"]}, True),
            *(str(row[f"by {way}"]) for way in ("the distance", "plain checks")),
        ]
        for hospital, row in study["hospitals left out"].items()
    ]
    head = ["true scans, the hospital left out", "n", "stopped", "by the distance", "by plain checks"]
    return text(
        table(["picture", "in view", "n", "stopped", "by the distance alone"], rows),
        table(head, left_out),
    )


# ---------------------------------------------------------------- seeing lesions


def study_block() -> str:
    """Return the figures of the study of lesions."""
    lesion, places = read(f"{LESION}/results.json"), read(f"{LESION}/localisation.json")
    size, hidden = places["localisation"]["by_size"], places["deletion"]
    folds = [
        [str(fold["fold"]), str(fold["n"]), f"{100 * fold['accuracy']:.1f} %", f"{fold['macro_auc']:.3f}"]
        for fold in lesion["folds"]
    ]
    by_size = [[words, *(figure(size[name][key], key != "iou") for name in size)] for key, words in PLACED.items()]
    alone, each_kind, whole = (read(f"{name}/transfer/results.json") for name in (ALONE, EACH_KIND, LESION))
    lost = [figure(found["corruption"]["mean_drop"]["macro_auc"], False) for found in (alone, whole)]
    return text(
        "### By fold",
        table(["fold", "scans", "accuracy", "macro ROC-AUC"], folds),
        "Both hospitals together, the most probable class; by hospital, [all figures](figures.md) has them.",
        "### What each step adds",
        "BUSI, out of fold:",
        steps_table("busi"),
        "BUS-BRA, out of fold:",
        steps_table("busbra"),
        "### By size of the lesion",
        table(["", *size], by_size),
        "### Does the map belong to the answer?",
        f"Of the {hidden['called_positive']} scans called malignant, hiding the map's hottest region lowers the "
        f"probability of malignant by {figure(hidden['drop_here'], False)}, hiding an equal region elsewhere by "
        f"{figure(hidden['drop_elsewhere'], False)}; the first did more in {figure(hidden['here_more'], True)}.",
        "### Another hospital",
        "The model by its whole recipe, one run each:",
        transfer_table(whole),
        "With one lesion head of each kind, not averaged:",
        transfer_table(each_kind),
        "What averaging both heads adds to malignant against benign, in the same scans:",
        "\n".join(
            f"- trained on {NAMES.get(row['train_on'], row['train_on'])}, scored on {NAMES[row['score_on']]}: "
            f"{interval(row['difference'], sign=True)} of ROC-AUC"
            for row in read(f"{EACH_KIND}/against.json")["rows"]
        ),
        "One lesion head alone:",
        transfer_table(alone),
        "### What makes one hospital's lessons hold in another",
        trials_words(),
        "### A machine that was not trained on",
        unseen_words(),
        "### Further looks",
        "Out of fold, with one lesion head of each kind, not averaged; BUSI by the most probable class:",
        looks_table(),
        "### Other pictures of the same scans",
        "Mean loss of macro ROC-AUC over the suite of changes ([which](transfer.md)), BUSI out of fold: one lesion "
        f"head alone {lost[0]}, the model {lost[1]}.",
        "### What it costs",
        cost_words(),
    )


def steps_table(source: str) -> str:
    """Return what the lesion head answers alone, and what each step from there to the model adds."""
    folders = (ALONE, f"studies/{LESION}-pair", f"studies/{LESION}-second-start", f"studies/{LESION}-each-kind", LESION)
    found = [read(f"{folder}/results.json") for folder in folders]
    rows = figures((results["sources"][source]["one_view"] for results in found), RANKED, False)
    rows += figures((results["decisions"]["sources"][source] for results in found), LABELLED, True)
    second = "and a second lesion head"
    heads = ["one lesion head", "and the whole picture", f"{second}, as the first", f"{second}, many machines"]
    return table(["", *heads, "the model: both heads of both kinds, averaged"], rows)


def lesion_cells(row: Mapping[str, Any], shares: Sequence[str] = LESIONS) -> list[str]:
    """Return how well malignant is told from benign, and shares."""
    return [figure(row["auc"], False), *(figure(row[key], True) for key in shares)]


def transfer_table(transfer: dict[str, Any]) -> str:
    """Return what is left where a hospital or a machine was not trained on."""
    rows = [[row["train_on"], f"{row['score_on']} ({row['lesions']})", *lesion_cells(row)] for row in transfer["table"]]
    head = ["trained on", "scored on (lesions)", MALIGNANT, "sensitivity", "specificity", "lesions called normal"]
    return table(head, rows)


def trials_words() -> str:
    """Return what each change of the training is worth where the hospital was not trained on."""
    trials = read(f"{MACHINES}/trials.json")["trials"]
    head = ["training", MALIGNANT, "sensitivity", "specificity", "lesions called normal"]
    return text(
        f"Trained on BUSI alone, scored on BUS-BRA's {trials[0]['lesions']:,} lesions; one lesion head where nothing "
        "else is said, one run each:",
        table(head, [[row["words"], *lesion_cells(row)] for row in trials]),
    )


def unseen_words() -> str:
    """Return what a machine that was not trained on costs, and what each kind of lesion head is worth there."""
    noted = read(f"{MACHINES}/unseen/both.json")
    rows = [
        [f"{row['machine']} ({row['lesions']:,})", row["words"], *lesion_cells(row, LESIONS[:2])]
        for row in noted["rows"]
    ]
    more = figure(noted["mean_against_alone"], False)
    known = {(row["score_on"], row["way"]): figure(row["auc"], False) for row in noted["known"]}
    return text(
        "One lesion head, one run each, trained on BUSI and on BUS-BRA without every patient seen on one machine:",
        table(["machine (lesions)", "training", MALIGNANT, "sensitivity", "specificity"], rows),
        f"Answers averaged against the first head alone, in the same patients: {more} of ROC-AUC more.",
        "\n".join(
            f"Where all machines are known (folds 0 to 2, out of fold), {NAMES[source]}: {known[source, 'alone']}, "
            f"machines varied {known[source, 'machines']}."
            for source in ("busi", "busbra")
        ),
    )


def looks_table() -> str:
    """Return what further passes over a scan are worth, and cost."""
    rows = [
        [
            way["words"],
            f"{way['gmacs']:.2f}",
            figure(way["busi"]["macro_auc"], False),
            figure(way["busi"]["accuracy"], True),
            figure(way["busbra"]["auc"], False),
        ]
        for way in read(f"studies/{LESION}-looks/looks.json")["ways"]
    ]
    head = ["what is read", "billion multiply-adds", "BUSI: macro ROC-AUC", "BUSI: accuracy", "BUS-BRA: ROC-AUC"]
    return table(head, rows)


def cost_words() -> str:
    """Return what an answer takes, by model and backend, in passes of timm's network in the same run."""
    ours, rows = read("benchmarks/speed.json"), []
    for ending in ("", f"-{LESION}", "-mobilenetv2-busi"):
        speed, cells = read(f"benchmarks/speed{ending}.json"), {}
        for row in speed["rows"]:
            if found := re.search(r"with all maps, (\w+) pass", row["what"]):
                passes = row["ratio"] * (1 if found[1] == "one" else int(found[1]))
                cells[row["backend"]] = f"{passes:.1f} x ({row['bcx_ms']:.0f} ms)"
        rows.append([f"`{speed['model']['name']}`", cells["torch"], cells["onnxruntime"]])
    return text(
        "One opened scan with all maps, as a multiple of one plain pass of timm's network through torch in the same "
        f"run, on {ours['machine']['cores']} cores without a GPU. The milliseconds are of different machines. "
        f"An answer of the default model, the first, takes {ours['model']['multiply_adds'] / 1e9:.2f} billion "
        "multiply-adds.",
        table(["", "torch", "ONNX Runtime"], rows),
    )


# ---------------------------------------------------------------- published systems


def leak_block() -> str:
    """Return what published recipes reach with and without the leak."""
    return "\n".join(leak_words(name) + "\n" for name in LEAKS)


def leak_words(name: str) -> str:
    """Return what a published system reports beside what the same recipe reaches, with and without the leak."""
    results = read(f"studies/leak/{name}/results.json")
    recipe, protocols = results["recipe"], results["protocols"]
    published, random = recipe["published"], protocols["random"]
    reported, known = published["figures"], random["copies"]
    sizes = " or ".join(sorted({str(run["n_train"]) for run in results["runs"]}))
    rows = [
        [
            leak_figure(name),
            units(reported[name]) if name in reported else "-",
            *(interval(protocols[protocol]["figures"][name]) for protocol in ("random", "grouped")),
            interval(results["leak"][name], sign=True),
        ]
        for name in dict.fromkeys([*reported, "accuracy", "macro_auc"])
    ]
    value, low, high = (f"{100 * known['in_training'][key]:.0f}" for key in ("value", "low", "high"))
    line = f"Under the random split {value} % ({low} to {high}) of the answers were about a "
    if known["accuracy_without"]["value"] is None:  # where patients are groups, hardly one stands on one side alone
        line += "group (of patches: a patient) of which others had been trained on, so that there is nothing to "
        line += "compare them with."
    else:
        line += (
            "scan of which a near-duplicate, or the same lesion in another frame, had been trained on: accuracy "
            f"{interval(known['accuracy_with'])} on these and {interval(known['accuracy_without'])} on the others. "
            f"Random minus grouped is {interval(results['leak_copied'], sign=True)} in the accuracy on scans that "
            f"have such a copy anywhere in the set, and {interval(results['leak_single'], sign=True)} on those that "
            "have none."
        )
    differs = "\n".join(f"- {words}" for words in published["differs"])
    return text(
        f"### {published['system']}",
        f"{recipe['arch']}, {recipe['size']} pixels, {recipe['epochs']} epochs, seeds "
        f"{', '.join(map(str, results['seeds']))}; trained on {sizes} scans at a time, {random['n']} answers under "
        "each split.",
        table(["figure", "theirs", "ours, random split as theirs", "ours, grouped", "random minus grouped"], rows),
        line,
        *(["What differs from the published system:", differs] if differs else []),
    )


def leak_figure(name: str) -> str:
    """Return a figure's name in words."""
    if name == "balanced_accuracy":
        return "recall, macro (balanced accuracy)"
    macro, kind = name.startswith("macro_"), name.removeprefix("macro_")
    kind, label = (kind, "macro") if macro else name.rsplit("_", 1) if "_" in name else (name, "")
    words = {"pr_auc": "PR-AUC", "auc": "ROC-AUC", "f1": "F1", "mcc": "Matthews correlation"}.get(kind, kind)
    return f"{words}, {label}" if label else words


def leak_summary() -> str:
    """Return, for each published system that was repeated, what a random split adds."""
    rows = []
    for name in LEAKS:
        results = read(f"studies/leak/{name}/results.json")
        published = results["recipe"]["published"]
        theirs = units(published["figures"]["accuracy"]) if "accuracy" in published["figures"] else "-"
        ours = (interval(results["protocols"][kind]["figures"]["accuracy"]) for kind in ("random", "grouped"))
        rows.append([published["system"], theirs, *ours, interval(results["leak"]["accuracy"], sign=True)])
    return table(["accuracy", "theirs", "ours, random split", "ours, grouped", "random minus grouped"], rows)


# ---------------------------------------------------------------- generated scans


def synth_differences(corner: str, names: Sequence[str]) -> str:
    """Return the differences between arms of the study of generated scans."""
    rows = [
        [f"{row['question']} ({row['a']} less {row['b']})", *synth_shares(row["figures"], names)]
        for row in read("studies/synth/synth-study.json")["differences"]
    ]
    return table([corner, *map(figure_words, names)], rows)


def synth_shares(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Return figures in per cent, without the sign."""
    return [figure(found[name], True).replace(" %", "") for name in names]


def synth_block() -> str:
    """Return sizes, figures per arm, differences and the quality of the generated images."""
    results = read("studies/synth/synth-study.json")
    arms = results["arms"].values()
    names = list(next(iter(arms))["figures"])
    by_arm = [
        [arm["words"], f"{arm['real']:.0f}", f"{arm['generated']:.0f}", *synth_shares(arm["figures"], names)]
        for arm in arms
    ]
    quality = [
        [
            *(f"{name}, {found['size']} px", network, str(by["distances"]["n"])),
            *(f"{by['distances'][kind][of]['mean']:.3g}" for kind in ("kid", "fid") for of in ("generated", "real")),
            f"{by['copies']['copies']} of {by['copies']['n']} ({by['copies']['expected']:g})",
            f"{by['copies']['nearer']:.2f}",
        ]
        for name, found in results["quality"].items()
        for network, by in found["by"].items()
    ]
    head = ["generator", "features", "n", "KID", "KID of real scans", "FID", "FID of real scans"]
    return text(
        f"{results['sizes']}. In per cent, with 95 % intervals over groups; each figure is the mean over seeds.",
        table(["", "real", "generated", *map(figure_words, names)], by_arm),
        "Differences in percentage points, on the same scans; where the interval holds nought, chance explains it:",
        synth_differences("", names),
        "The pictures, judged at the generators' size:",
        table([*head, "copies (at most by chance)", "nearer than real scans (.5: alike)"], quality),
        f"![{results['sizes']}](../../results/studies/synth/{results['figure']})",
    )


# ---------------------------------------------------------------- tissue


def tissue_words() -> str:
    """Return what the model of tissue patches is worth over folds of patients."""
    results = read(f"{IDC}/results.json")
    ranked = {"auc_positive": "ROC-AUC", "ece": "Calibration error (ECE, adaptive bins)"}
    rows = figures([results["decisions"]["sources"]["idc"]], TISSUE, True)
    rows += figures([results["one_view"]], ranked, False)
    return text(
        f"`mobilenetv2-idc` on {results['n']:,} patches of {results['groups']} patients, who never straddle a split; "
        "every patch was read by a network that had seen none of its patient. One run per fold (seed "
        f"{results['recipe']['seed']}), 95 % intervals over patients:",
        table(["", "`mobilenetv2-idc`"], rows),
    )


def histology_block() -> str:
    """Return the figures of the page on tissue."""
    names = {"balanced_accuracy": "Balanced accuracy", "auc_positive": "ROC-AUC", "f1_positive": "F1 of positive"}
    views = [read(f"{folder}/results.json")["one_view"] for folder in (IDC, "studies/r5-tiny-cnn")]
    rows = figures(views, names | {"accuracy": "Accuracy"}, False)
    return text(
        tissue_words(),
        "### R5: the small network from scratch, on the same folds of patients",
        "The most probable class:",
        table(["", "`mobilenetv2-idc`, fine-tuned", "R5, from scratch"], rows),
        leak_words("r5-tiny-cnn") + "\n",
        "### R2's three networks, from scratch",
        compared_words("r2-idc"),
    )


# ---------------------------------------------------------------- comparing and tuning


def compared_words(name: str) -> str:
    """Return a leaderboard with the picture of its curves."""
    folder = f"studies/compare/{name}"
    curves = f"![ROC curves of all networks](../../results/{folder}/roc.png)"
    return text(leaderboard_markdown(read(f"{folder}/results.json")).rstrip(), curves)


def search_words(results: dict[str, Any]) -> str:
    """Return what a search of `bcx tune` tried, what it gained, and which settings mattered."""
    inner, recipe = results["inner_folds"], results["recipe"]
    ended = ", ".join(f"{count} {name}" for name, count in results["trials"].items() if count)
    best, own = results["best"], results["recipe_as_it_stood"]
    rows = [] if own is None else [["the recipe as it stood", units(own["value"])]]
    rows.append(["the best of all trials (optimistic, as the best of many is)", units(best["value"])])
    chosen = ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in best["values"].items()
    )
    words = f"Its settings: {chosen or 'those of the recipe'}."
    if results["importance"]:
        shares = sorted(results["importance"].items(), key=lambda pair: -pair[1])[:3]
        named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        words += f"\nWhat explains the differences between trials (fANOVA): {named}."
    return text(
        f"`{recipe['name']}` at {recipe['size']} pixels for {recipe['epochs']} epochs, {inner['trained']} of "
        f"{inner['cut']} inner folds, outer fold {results['outer_fold']['fold']} never opened; {ended}.",
        table(["", "inner macro ROC-AUC"], rows),
        words,
    )


def comparing_block() -> str:
    """Return the leaderboard and the search that were run here."""
    searched = search_words(read("studies/tune/busi/results.json"))
    return text("### Compared here", compared_words("busi"), "### Searched here", searched)


# ---------------------------------------------------------------- audits, slides, clusters


def audit_block() -> str:
    """Return what `bcx audit` finds of a list of pairs that it never saw, and what it costs."""
    busi, scale = read("studies/audit/busi.json"), read("studies/audit/scale.json")
    pairs = [
        [
            *(kind, str(listed["n"])),
            *(f"{100 * listed[key]:.1f} %" for key in ("recall", "recall, through groups")),
            *(str(busi["found"][kind]["n"]), f"{100 * busi['found'][kind]['precision']:.1f} %"),
        ]
        for kind, listed in busi["listed"].items()
    ]
    what = "real scans, copies and blends of them, simulated ones"
    timed = [(int(name), what, run) for name, run in scale["runs"].items() if "processor_seconds" in run]
    costs = [
        [
            *(f"{count:,}", what, f"{run['processor_seconds']:,.0f}"),
            *(f"{run['processor_ms_per_picture']:.0f} ms", f"{run['peak_memory_mb']} MB"),
        ]
        for count, what, run in [(busi["n"], "BUSI", busi), *timed]
    ]
    head = ["", "pairs on the list", "found as a pair", "in one group", "pairs found", "of these on the list"]
    return text(
        f"BUSI, {busi['n']} scans, against a list of pairs that the audit never sees:",
        table(head, pairs),
        table(["pictures", "what", "seconds of one core", "per picture", "most memory"], costs),
        "\n".join(
            f"The audit of {int(name.split()[0]):,} pictures took {run['seconds']:,.0f} s with {run['cores']} cores at "
            "work."
            for name, run in scale["runs"].items()
            if "cores" in run
        ),
    )


def slide_block() -> str:
    """Return what reading a large slide costs."""
    slides = read("benchmarks/slides.json")
    slide, whole, beside = slides["slide"], slides["whole"], slides["against_the_network_alone"]
    size = f"{slide['width']:,} x {slide['height']:,} pixels ({slide['unpacked_mb']:,.0f} MB unpacked)"
    return (
        f"A simulated slide of {size}, `{slides['model']}`, a tile every {whole['stride']} pixels: "
        f"{whole['tiles_read']:,} of {whole['tiles']:,} tiles show tissue and were read in {whole['seconds']:,.0f} s "
        f"through {whole['backend']}; the process, torch and all libraries included, never held more than "
        f"**{whole['peak_memory_mb']:,} MB**. Tiles are read at {beside['ratio']:.2f} times the speed of the network "
        "alone on tensors that are ready."
    )


def cluster_block() -> str:
    """Return what the Ray engine costs on one machine, and what follows for many."""
    found, scans, nodes, cores, price = read("benchmarks/cluster.json"), 10**8, 100, 16, 0.04
    per_core = found["ray_scans_per_second"] / found["cores"]
    hours = scans / per_core / 3600
    seconds, model = 3600 * hours / nodes / cores, found["command"].split("--model ")[1].split()[0]
    lost = found["node_killed"]
    reading = "scans of 300 kB: 30 TB; a network of 1 Gbit/s carries 125 MB/s"
    rows = [
        ("computing", f"10^8 / {per_core:.1f} per second", f"{hours:,.0f} core-hours"),
        ("time", f"on {nodes} nodes of {cores} cores", f"{seconds / 60:.0f} minutes"),
        ("cost", f"at {price} USD per core-hour; put in your own price", f"{price * hours:.0f} USD"),
        ("reading", reading, f"{3e5 * scans / seconds / nodes / 1e6:.0f} MB/s per node"),
    ]
    return text(
        f"Measured on one machine of {found['cores']} cores, {found['scans']:,} simulated scans, `{model}` "
        f"on ONNX Runtime: {found['local_scans_per_second']:.1f} scans/s by the local engine, "
        f"{found['ray_scans_per_second']:.1f} by Ray from the first shard on (**{found['ratio']:.2f} times**), "
        f"which is there after {found['ray_seconds_to_first_shard']:.0f} s. With one of two nodes killed once "
        f"{lost['shards_before']} of {lost['shards']} shards were there, {lost['shards_made_twice']} of these were "
        f"made again, and {lost['rows_that_differ']} of the {lost['scans']:,} rows differ from the local engine's. "
        "From that, on paper:",
        table(["what", "arithmetic", ""], rows),
    )


def with_figures(page: str, block: str) -> str:
    """Return a page's text with its figures replaced."""
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{block}\n{END}", page, flags=re.DOTALL)


#: What each page shows.
PAGES = {
    ROOT / "README.md": readme_block,
    ROOT / "docs/explanation/figures.md": all_block,
    ROOT / "docs/explanation/seeing-lesions.md": study_block,
    ROOT / "docs/explanation/published-systems.md": leak_block,
    ROOT / "docs/explanation/histology.md": histology_block,
    ROOT / "docs/explanation/synthetic-images.md": synth_block,
    ROOT / "docs/how-to/audit-your-images.md": audit_block,
    ROOT / "docs/explanation/measuring.md": audit_block,
    ROOT / "docs/how-to/many-machines.md": cluster_block,
    ROOT / "docs/how-to/compare-and-tune.md": comparing_block,
    ROOT / "docs/explanation/decisions.md": decisions_block,
    ROOT / "docs/explanation/input-check.md": checked_block,
    ROOT / "docs/how-to/read-a-slide.md": slide_block,
}


def main() -> int:
    """Rewrite the pages."""
    for page, block in PAGES.items():
        page.write_text(with_figures(page.read_text("utf-8"), block()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
