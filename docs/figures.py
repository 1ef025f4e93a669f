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
from pathlib import Path
from typing import Any

from bcx.evaluate.words import interval, markdown_table, units
from bcx.report import tables
from bcx.studies.compare import leaderboard_markdown
from bcx.studies.synthesis.study import figure_words
from bcx.tasks import BREAST_ULTRASOUND

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
FIGURES = ROOT / "docs" / "explanation" / "figures.md"
STUDY = ROOT / "docs" / "explanation" / "seeing-lesions.md"
PUBLISHED = ROOT / "docs" / "explanation" / "published-systems.md"
SYNTH = ROOT / "docs" / "explanation" / "synthetic-images.md"
HISTOLOGY = ROOT / "docs" / "explanation" / "histology.md"
AUDITING = ROOT / "docs" / "how-to" / "audit-your-images.md"
MEASURING = ROOT / "docs" / "explanation" / "measuring.md"
SLIDES = ROOT / "docs" / "how-to" / "read-a-slide.md"
DECIDING = ROOT / "docs" / "explanation" / "decisions.md"
CLUSTER = ROOT / "docs" / "how-to" / "many-machines.md"
COMPARING = ROOT / "docs" / "how-to" / "compare-and-tune.md"
CHECKED = ROOT / "docs" / "explanation" / "input-check.md"
RESULTS = ROOT / "results"
DECISIONS = RESULTS / "studies" / "decisions"
INPUT_CHECK = RESULTS / "studies" / "input-check" / "mobilenetv2-lesion.json"
DEFAULT_INPUT_CHECK = RESULTS / "studies" / "input-check" / "mobilenetv2-hospitals.json"
PLAIN_INPUT_CHECK = RESULTS / "studies" / "input-check" / "input-check.json"
SPEED = RESULTS / "benchmarks" / "speed.json"
PLAIN_SPEED = RESULTS / "benchmarks" / "speed-mobilenetv2-busi.json"
HOSPITALS = RESULTS / "mobilenetv2-hospitals"
LESION = RESULTS / "mobilenetv2-lesion"
ALONE = RESULTS / "studies" / "mobilenetv2-lesion-alone"
PAIR = RESULTS / "studies" / "mobilenetv2-lesion-pair"
SECOND_START = RESULTS / "studies" / "mobilenetv2-lesion-second-start"
EACH_KIND = RESULTS / "studies" / "mobilenetv2-lesion-each-kind"
MACHINES = RESULTS / "studies" / "mobilenetv2-lesion-machines"
LOOKS = RESULTS / "studies" / "mobilenetv2-lesion-looks"
PLAIN = RESULTS / "mobilenetv2-busi"
IDC = RESULTS / "mobilenetv2-idc"
TINY = RESULTS / "studies" / "r5-tiny-cnn"
COMPARED = RESULTS / "studies" / "compare"
TUNED = RESULTS / "studies" / "tune" / "busi"
LEAK = RESULTS / "studies" / "leak"
SYNTHESIS = RESULTS / "studies" / "synth" / "synth-study.json"
AUDIT = RESULTS / "studies" / "audit"
LEAKS = ("r1-mobilenetv2", "r3-mobilenetv2", "r4-system1", "r5-tiny-cnn")
BEGIN, END = "<!-- figures: written by `python docs/figures.py` -->", "<!-- end of figures -->"

# What is shown of an answer, in words, and whether it is a share (shown in per cent) or a plain number.
DECIDED = (
    ("accuracy", "Scans read correctly (accuracy)"),
    ("sensitivity", "Malignant scans called malignant (sensitivity)"),
    ("specificity", "Other scans not called malignant (specificity)"),
    ("absent_recall", "Normal scans called normal"),
    ("lost_lesions", "Lesions called normal"),
    ("missed", "Cancers answered normal or benign, not referred"),
    ("referred", "Scans referred"),
)
RANKED = (
    ("macro_auc", "Macro one-vs-rest ROC-AUC"),
    ("auc_malignant_vs_benign", "Malignant against benign, ROC-AUC"),
    ("ece", "Calibration error (ECE, adaptive bins)"),
)
TISSUE = (
    ("balanced_accuracy", "Balanced accuracy"),
    ("sensitivity", "Patches with carcinoma called positive (sensitivity)"),
    ("specificity", "Other patches called negative (specificity)"),
    ("f1", "F1 of positive"),
    ("accuracy", "Patches read correctly (accuracy)"),
)
PLACED = (
    ("heat_inside", "Share of the heat that lies inside the lesion"),
    ("pointing", "Hottest pixel inside the lesion (pointing game)"),
    ("iou", "Overlap with the lesion (IoU) at the fixed threshold"),
)


def read(file: Path) -> dict[str, Any]:
    """Read a results file."""
    return json.loads(file.read_text("utf-8"))


def figure(entry: dict[str, Any] | None, share: bool) -> str:
    """Return a value with its 95 % interval: `82.3 % (79.1 to 85.2)` or `.924 (.905 to .941)`; a dash without one."""
    if entry is None or entry["value"] is None:
        return "-"
    texts = [
        f"{100 * entry[key]:.1f}" if share else f"{entry[key]:.3f}".lstrip("0") for key in ("value", "low", "high")
    ]
    return f"{texts[0]}{' %' if share else ''} ({texts[1]} to {texts[2]})"


def input_check_line(study: dict[str, Any], plain: dict[str, Any]) -> str:
    """Return what the input checks of both models stop and pass, as sentences."""
    every, later = study["non_scans"]["all"], study["non_scans"]["kinds made afterwards"]
    own = study["scans"]["training scans, left out of the input check by folds"]
    other = plain["scans"]["busbra"]
    by_kind, plain_by_kind = (file.relative_to(ROOT).as_posix() for file in (INPUT_CHECK, PLAIN_INPUT_CHECK))
    return (
        f"**Is it a scan at all?** The input check of `mobilenetv2-lesion` stops {every['stopped']} of {every['n']} "
        "pictures that are no breast ultrasound: photographs, documents, drawings, noise, microscope slides "
        f"({later['stopped']} of {later['n']} of kinds that were made after the input check), and passes "
        f"{100 * own['passed']:.1f} % of {own['n']} scans that it was not fitted on ([by kind]({by_kind})). The plain "
        f"model's input check passes {100 * other['passed']:.1f} % of {other['n']} scans of BUS-BRA, a hospital that "
        "it has never seen (600 of them were in view when the input check's allowance was set; "
        f"[by kind]({plain_by_kind}))."
    )


AKIN = ("colour Doppler", "spectral Doppler", "elastography", "split screen", "report", "photograph of a screen")
ULTRASOUND = ("other ultrasound", "true other ultrasound")


def checked_block() -> str:
    """Return what the default model's input check stops of pictures akin to a breast scan, and of true scans."""
    study = read(DEFAULT_INPUT_CHECK)
    by_kind = study["non_scans"]["by_kind"]
    lines = ["| picture | in view | n | stopped | by the distance alone |", "| --- | --- | --- | --- | --- |"]
    for family in (*AKIN, *ULTRASOUND):
        kinds = {kind: row for kind, row in by_kind.items() if kind.split(":")[0] == family}
        for kind, row in sorted(kinds.items(), key=lambda item: (not item[1]["seen"], item[0])):
            share = figure({"value": row["share"], "low": row["low"], "high": row["high"]}, True)
            alone = f"{100 * row['by the distance alone'] / row['n']:.1f} %"
            lines.append(f"| {kind} | {'yes' if row['seen'] else 'no'} | {row['n']} | {share} | {alone} |")
    names = {"busi": "BUSI", "busbra": "BUS-BRA", "breast": "BrEaST"}
    lines += ["", "| true scans, the hospital left out | n | stopped | by the distance | by plain checks |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for hospital, row in study["hospitals left out"].items():
        cells = [str(row["n"]), figure(row | {"value": row["share"]}, True)]
        cells += [str(row["by the distance"]), str(row["by plain checks"])]
        lines.append(f"| {names[hospital]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed_table(speed: dict[str, Any]) -> str:
    """Return the benchmark's ratios as a Markdown table."""
    machine = speed["machine"]
    lines = [
        f"**Speed** of `{speed['model']['name']}`, as ratios measured in one run on {machine['cores']} cores without a "
        "GPU ([how](benchmarks/README.md)):",
        "",
        "| what | measured | floor | aim |",
        "| --- | --- | --- | --- |",
    ]
    for row in speed["rows"]:
        if row["at_least"] is None:
            continue
        if "seconds" in row:
            measured = f"{row['seconds']:.2g} s"
        else:
            measured = f"{row['ratio']:.2f} x" if row["ratio"] < 5 else f"{row['ratio']:.0f} x"
        lines.append(f"| {row['what']} | {measured} | {row['at_least']} | {row['aim'] or '-'} |")
    return "\n".join(lines)


def cost_lines() -> list[str]:
    """Return what an answer takes in milliseconds, by model and by what runs the network."""
    ours, plain = read(SPEED), read(PLAIN_SPEED)
    rows = []
    for name, speed in (("`mobilenetv2-lesion`", ours), ("`mobilenetv2-busi` (plain)", plain)):
        took = {row["backend"]: row["bcx_ms"] for row in speed["rows"] if "with all maps" in row["what"]}
        rows.append((name, [f"{took['torch']:.0f} ms", f"{took['onnxruntime']:.0f} ms"]))
    machine = ours["machine"]
    words = f"One opened scan with all maps, on {machine['cores']} cores without a GPU, the median over rounds:"
    return ["", "### What it costs", "", words, "", *columns(["torch", "ONNX Runtime"], rows)]


def columns(head: list[str], rows: list[tuple[str, list[str]]]) -> list[str]:
    """Return a Markdown table; rows whose cells are all empty are left out."""
    lines = [f"| | {' | '.join(head)} |", "| --- " * (len(head) + 1) + "|"]
    return lines + [f"| {words} | {' | '.join(cells)} |" for words, cells in rows if set(cells) != {"-"}]


def answers_table(source: str, lesion: dict[str, Any], other: dict[str, Any], other_view: dict[str, Any]) -> list[str]:
    """Return what both models answer on one hospital's scans.

    Args:
        source: "busi" or "busbra".
        lesion: results of the two-look model's cross-validation.
        other: the plain model's decided figures by the names of `DECIDED`.
        other_view: the plain model's ranked figures by the names of `RANKED`.
    """
    mine, view = lesion["decisions"]["sources"][source], lesion["sources"][source]["one_view"]
    mine, other = mine | harm_of(LESION, source), other | harm_of(PLAIN, source)
    rows = [(words, [figure(mine.get(key), True), figure(other.get(key), True)]) for key, words in DECIDED]
    rows += [(words, [figure(view.get(key), False), figure(other_view.get(key), False)]) for key, words in RANKED]
    return columns(["`mobilenetv2-lesion`", "`mobilenetv2-busi` (plain)"], rows)


def plain_decided(view: dict[str, Any]) -> dict[str, Any]:
    """Return a classification report's figures under the names of `DECIDED`."""
    names = {"sensitivity": "sensitivity_malignant", "specificity": "specificity_malignant"}
    names |= {"accuracy": "accuracy", "absent_recall": "sensitivity_normal", "lost_lesions": "lesions_called_normal"}
    return {name: view.get(key) for name, key in names.items()}


def places_table(lesion: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """Return where both models look, by hospital."""
    parts = [lesion["localisation"]["by_source"].get(source) for source in ("busi", "busbra")]
    parts.append(plain["localisation"]["by_source"].get("busbra"))
    rows = [
        (words, [figure(None if part is None else part[key], key != "iou") for part in parts]) for key, words in PLACED
    ]
    blobs = [None if part is None else part["centred_blob"]["heat_inside"] for part in parts]
    rows.append(("to judge by: heat of a blob in the picture's centre", [figure(blob, True) for blob in blobs]))
    return columns(["`mobilenetv2-lesion`, BUSI", "`mobilenetv2-lesion`, BUS-BRA", "plain, BUS-BRA"], rows)


def harm_of(folder: Path, hospital: str) -> dict[str, Any]:
    """Return what a model's stored rule does at home; in a hospital never seen, what one fitted on the others does."""
    for row in read(DECISIONS / folder.name / "decisions.json")["table"]:
        wanted = "as stored" if row["where"] == "home" else "by the other hospitals"
        if (row["hospital"], row["rule"], row["point"]) == (hospital, wanted, "default"):
            found = row
    return {key: found[key] for key in ("missed", "referred")}


def harm_lines() -> list[str]:
    """Return what the rule of decision does in hospitals that no network saw, beside the rule before."""
    study = read(DECISIONS / LESION.name / "decisions.json")
    found = {
        (row["hospital"], row["rule"]): row
        for row in study["table"]
        if (row["where"], row["point"]) == ("elsewhere", "default")
    }
    lines = [
        "**Decisions in a hospital that no network saw.** A class is answered only where it is safe to say; all else "
        "is referred. Each hospital is read by networks that never saw it, and decided by a rule fitted on the others "
        "([the study](docs/explanation/decisions.md)):",
        "",
        "| hospital | rule | cancers answered normal | cancers answered benign | scans referred |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, words in (("busi", "BUSI"), ("busbra", "BUS-BRA"), ("breast", "BrEaST")):
        for rule, told in (("before", "before"), ("by the other hospitals", "harm first")):
            cells = (figure(found[name, rule][key], True) for key in ("as_absent", "as_other", "referred"))
            lines.append(f"| {words} | {told} | {' | '.join(cells)} |")
    return lines


def decisions_block() -> str:
    """Return the study of decisions, model by model, as Markdown."""
    lines: list[str] = []
    for folder in (HOSPITALS, LESION, PLAIN):
        study = read(DECISIONS / folder.name / "decisions.json")
        lines += [f"### `{folder.name}`", "", f"> {study['rule']['what']}", ""]
        lines += [f"Temperature {study['temperature']:.3f}. Of the hospitals:", ""]
        for name, about in study["hospitals"].items():
            left = f"; {about['left_out']} scans of classes that these never learned are left out" * (
                about["left_out"] > 0
            )
            counts = ", ".join(f"{count} {label}" for label, count in about["counts"].items())
            lines.append(f"- `{name}`: {about['n']} scans ({counts}), answered by {about['networks']}{left}.")
        picture = (DECISIONS / folder.name / "decisions.png").relative_to(ROOT).as_posix()
        words = f"Cancers missed against scans referred, a panel per hospital, {folder.name}"
        lines += ["", f"![{words}](../../{picture})", ""]
        for table in (
            tables.harm_table(study, BREAST_ULTRASOUND),
            tables.stored_points_table(study, BREAST_ULTRASOUND),
            tables.calibration_table(study),
        ):
            lines += [f"**{table.title}.** {table.note}".rstrip(), "", f"| {' | '.join(table.head)} |"]
            lines += ["| --- " * len(table.head) + "|", *(f"| {' | '.join(row)} |" for row in table.rows), ""]
    return "\n".join(lines).rstrip()


def places_part(plain: dict[str, Any]) -> list[str]:
    """Return the README's part on where the models look."""
    words = "**Does it look at the lesion?** Maps against the masks that doctors drew, out of fold:"
    return [words, "", *places_table(read(LESION / "localisation.json"), plain), ""]


def transfer_table(transfer: dict[str, Any]) -> list[str]:
    """Return what is left where a hospital or a machine was not trained on."""
    lines = [
        "| trained on | scored on (lesions) | ROC-AUC, malignant against benign | sensitivity | specificity | "
        "lesions called normal |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in transfer["table"]:
        shares = (figure(row[key], True) for key in ("sensitivity", "specificity", "lesions_called_absent"))
        where = f"{row['train_on']} | {row['score_on']} ({row['lesions']})"
        lines.append(f"| {where} | {figure(row['auc'], False)} | {' | '.join(shares)} |")
    return lines


def readme_block() -> str:
    """Return the README's table: the default model, and the one before, in hospitals that their networks never saw."""
    heads = ["ROC-AUC, malignant / benign", "cancers answered normal", "cancers answered benign", "scans referred"]
    return "\n".join(columns(heads, [*hospital_rows(HOSPITALS), *hospital_rows(LESION)]))


def hospital_rows(folder: Path) -> list[tuple[str, list[str]]]:
    """Return a row per hospital that the networks and the rule of one model had not seen."""
    decided = {
        row["hospital"]: row
        for row in read(DECISIONS / folder.name / "decisions.json")["table"]
        if (row["where"], row["rule"], row["point"]) == ("elsewhere", "by the other hospitals", "default")
    }
    table = read(folder / "transfer" / "results.json")["table"]
    aucs = {row["score_on"]: row["auc"] for row in table if row["part"] in ("hospital", "left-out")}
    if (folder / "external-breast.json").is_file():
        aucs["breast"] = read(folder / "external-breast.json")["figures"]["auc_malignant_vs_benign"]
    rows = []
    for name, words in (("busi", "BUSI"), ("busbra", "BUS-BRA"), ("breast", "BrEaST")):
        told = [figure(decided[name][key], True) for key in ("as_absent", "as_other", "referred")]
        rows.append((f"`{folder.name}`: {words}", [figure(aucs[name], False), *told]))
    return rows


def all_block() -> str:
    """Return every figure of the shipped models as Markdown, with links as the documentation needs them."""
    text = _all_figures().replace("](docs/explanation/", "](")
    return re.sub(r"\]\((results|benchmarks)/", r"](../../\1/", text)


def _all_figures() -> str:
    lesion, plain = read(LESION / "results.json"), read(PLAIN / "results.json")
    abroad = read(PLAIN / "external-busbra.json")
    busi, busbra = lesion["sources"]["busi"], lesion["sources"]["busbra"]
    lines = [
        "Grouped cross-validation: near-duplicates, scans of one lesion and scans of one patient never straddle a "
        "split; every scan was read by a network that had not seen it or a copy of it. 95 % intervals from a bootstrap "
        f"over groups. One run per fold (seed {lesion['recipe']['seed']}).",
        "",
        f"**BUSI**, {busi['n']} scans in {busi['groups']} groups, both models out of fold:",
        "",
        *answers_table("busi", lesion, plain["decisions"]["sources"]["busi"], plain["one_view"]),
        "",
        f"**BUS-BRA**, {busbra['n']} scans of {busbra['groups']} patients, no normal ones. The lesion model out of "
        "fold; the plain one has never seen this hospital, and shows what a model that learned one hospital is worth "
        "in the next:",
        "",
        *answers_table("busbra", lesion, plain_decided(abroad["figures"]), abroad["figures"]),
        "",
        *harm_lines(),
        "",
        *places_part(abroad),
        "[Seeing lesions](docs/explanation/seeing-lesions.md) is the study behind this: what was tried, and what did "
        "not work. The shipped networks were then trained on "
        "all folds with the same recipes, so they have no test set of their own.",
        "",
        input_check_line(read(INPUT_CHECK), read(PLAIN_INPUT_CHECK)),
        "",
        *leak_summary(),
        "",
        *synth_summary(),
        "**Another task, tissue under the microscope.** " + "\n".join(tissue_table()),
        "",
        speed_table(read(SPEED)),
        "",
        speed_table(read(PLAIN_SPEED)),
    ]
    return "\n".join(lines)


def alone_table(source: str) -> list[str]:
    """Return what the lesion head answers alone, and what each step from there to the model adds."""
    found = [read(folder / "results.json") for folder in (ALONE, PAIR, SECOND_START, EACH_KIND, LESION)]
    views = [results["sources"][source]["one_view"] for results in found]
    decided = [results["decisions"]["sources"][source] for results in found]
    rows = [(words, [figure(view.get(key), False) for view in views]) for key, words in RANKED]
    rows += [(words, [figure(part.get(key), True) for part in decided]) for key, words in DECIDED]
    second = "and a second lesion head"
    heads = ["one lesion head", "and the whole picture", f"{second}, as the first", f"{second}, many machines"]
    return columns([*heads, "the model: both heads of both kinds, averaged"], rows)


def study_block() -> str:
    """Return the study's figures as Markdown."""
    lesion, places = read(LESION / "results.json"), read(LESION / "localisation.json")
    size = places["localisation"]["by_size"]
    rows = [(words, [figure(size[name][key], key != "iou") for name in size]) for key, words in PLACED]
    hidden = places["deletion"]
    lines = ["### By fold", "", "| fold | scans | accuracy | macro ROC-AUC |", "| --- | --- | --- | --- |"]
    for fold in lesion["folds"]:
        lines.append(f"| {fold['fold']} | {fold['n']} | {100 * fold['accuracy']:.1f} % | {fold['macro_auc']:.3f} |")
    lines += [
        "",
        "Both hospitals together, the most probable class; by hospital, [all figures](figures.md) has them.",
        "",
        "### What each step adds",
        "",
        "BUSI, out of fold:",
        "",
        *alone_table("busi"),
        "",
        "BUS-BRA, out of fold:",
        "",
        *alone_table("busbra"),
        "",
        "### By size of the lesion",
        "",
        *columns(list(size), rows),
        "",
        "### Does the map belong to the answer?",
        "",
        f"Of the {hidden['called_positive']} scans called malignant, hiding the map's hottest region lowers the "
        f"probability of malignant by {figure(hidden['drop_here'], False)}, hiding an equal region elsewhere by "
        f"{figure(hidden['drop_elsewhere'], False)}; the first did more in {figure(hidden['here_more'], True)}.",
    ]
    transfer, each_kind, whole = (read(f / "transfer" / "results.json") for f in (ALONE, EACH_KIND, LESION))
    lines += ["", "### Another hospital", "", "The model by its whole recipe, one run each:", ""]
    lines += transfer_table(whole)
    lines += [
        "",
        "With one lesion head of each kind, not averaged:",
        "",
        *transfer_table(each_kind),
        "",
        *against_lines(),
    ]
    lines += ["", "One lesion head alone:", "", *transfer_table(transfer)]
    lines += ["", "### What makes one hospital's lessons hold in another", "", *trials_table()]
    lines += ["", "### A machine that was not trained on", "", *unseen_table()]
    lines += ["", "### Further looks", "", *looks_table()]
    return "\n".join([*lines, *corruption_lines(transfer), *cost_lines()])


def against_lines() -> list[str]:
    """Return what averaging the lesion heads adds, in the same scans."""
    names = {"busi": "BUSI", "busbra": "BUS-BRA"}
    lines = ["What averaging both heads adds to malignant against benign, in the same scans:", ""]
    for row in read(EACH_KIND / "against.json")["rows"]:
        trained = names.get(row["train_on"], row["train_on"])
        more = interval(row["difference"], sign=True)
        lines.append(f"- trained on {trained}, scored on {names[row['score_on']]}: {more} of ROC-AUC")
    return lines


def trials_table() -> list[str]:
    """Return what each change of the training is worth where the hospital was not trained on."""
    trials = read(MACHINES / "trials.json")["trials"]
    lines = [
        f"Trained on BUSI alone, scored on BUS-BRA's {trials[0]['lesions']:,} lesions; one lesion head where nothing "
        "else is said, one run each:",
        "",
        "| training | ROC-AUC, malignant against benign | sensitivity | specificity | lesions called normal |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in trials:
        shares = (figure(row[key], True) for key in ("sensitivity", "specificity", "lesions_called_absent"))
        lines.append(f"| {row['words']} | {figure(row['auc'], False)} | {' | '.join(shares)} |")
    return lines


def unseen_table() -> list[str]:
    """Return what a machine that was not trained on costs, and what each kind of lesion head is worth there."""
    lines = [
        "One lesion head, one run each, trained on BUSI and on BUS-BRA without every patient seen on one machine:",
        "",
        "| machine (lesions) | training | ROC-AUC, malignant against benign | sensitivity | specificity |",
        "| --- | --- | --- | --- | --- |",
    ]
    noted = read(MACHINES / "unseen" / "both.json")
    for row in noted["rows"]:
        shares = (figure(row[key], True) for key in ("sensitivity", "specificity"))
        cells = [f"{row['machine']} ({row['lesions']:,})", row["words"], figure(row["auc"], False), *shares]
        lines.append(f"| {' | '.join(cells)} |")
    more = figure(noted["mean_against_alone"], False)
    lines += ["", f"Answers averaged against the first head alone, in the same patients: {more} of ROC-AUC more.", ""]
    known = {(row["score_on"], row["way"]): figure(row["auc"], False) for row in noted["known"]}
    for source, name in (("busi", "BUSI"), ("busbra", "BUS-BRA")):
        before, varied = known[source, "alone"], known[source, "machines"]
        lines.append(
            f"Where all machines are known (folds 0 to 2, out of fold), {name}: {before}, machines varied {varied}."
        )
    return lines


def looks_table() -> list[str]:
    """Return what further passes over a scan are worth, and cost."""
    lines = [
        "Out of fold, with one lesion head of each kind, not averaged; BUSI by the most probable class:",
        "",
        "| what is read | billion multiply-adds | BUSI: macro ROC-AUC | BUSI: accuracy | BUS-BRA: ROC-AUC |",
        "| --- | --- | --- | --- | --- |",
    ]
    for way in read(LOOKS / "looks.json")["ways"]:
        auc, right = figure(way["busi"]["macro_auc"], False), figure(way["busi"]["accuracy"], True)
        other = figure(way["busbra"]["auc"], False)
        lines.append(f"| {way['words']} | {way['gmacs']:.2f} | {auc} | {right} | {other} |")
    return lines


def corruption_lines(alone: dict[str, Any]) -> list[str]:
    """Return what changed pictures take from one lesion head alone, and from the model."""
    ours = read(LESION / "transfer" / "results.json")
    lines = ["", "### Other pictures of the same scans", "", "Mean loss of macro ROC-AUC over the suite of changes "]
    lines[-1] += "([which](transfer.md)), BUSI out of fold: one lesion head alone "
    lines[-1] += figure(alone["corruption"]["mean_drop"]["macro_auc"], False)
    drop = figure(ours["corruption"]["mean_drop"]["macro_auc"], False)
    lines[-1] += f", the model {drop}."
    return lines


def leak_lines(name: str) -> list[str]:
    """Return what a published system reports beside what the same recipe reaches, with and without the leak."""
    results = read(LEAK / name / "results.json")
    recipe, protocols = results["recipe"], results["protocols"]
    published, random = recipe["published"], protocols["random"]
    reported = published["figures"]
    sizes = " or ".join(sorted({str(run["n_train"]) for run in results["runs"]}))
    rows = [
        [
            leak_words(name),
            units(reported[name]) if name in reported else "-",
            *(interval(protocols[protocol]["figures"][name]) for protocol in ("random", "grouped")),
            interval(results["leak"][name], sign=True),
        ]
        for name in dict.fromkeys([*reported, "accuracy", "macro_auc"])
    ]
    lines = [
        f"### {published['system']}",
        "",
        f"{recipe['arch']}, {recipe['size']} pixels, {recipe['epochs']} epochs, seeds "
        f"{', '.join(map(str, results['seeds']))}; trained on {sizes} scans at a time, {random['n']} answers under "
        "each split.",
        "",
        *markdown_table(
            ["figure", "theirs", "ours, random split as theirs", "ours, grouped", "random minus grouped"], rows
        ),
        "",
    ]
    known = random["copies"]
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
    differs = ["", "What differs from the published system:", "", *(f"- {text}" for text in published["differs"])]
    return [*lines, line, *(differs if published["differs"] else []), ""]


def leak_words(name: str) -> str:
    """Return a figure's name in words."""
    if name == "balanced_accuracy":
        return "recall, macro (balanced accuracy)"
    macro, kind = name.startswith("macro_"), name.removeprefix("macro_")
    kind, label = (kind, "macro") if macro else name.rsplit("_", 1) if "_" in name else (name, "")
    words = {"pr_auc": "PR-AUC", "auc": "ROC-AUC", "f1": "F1", "mcc": "Matthews correlation"}.get(kind, kind)
    return f"{words}, {label}" if label else words


def leak_block() -> str:
    """Return the tables of what published recipes reach with and without the leak, as Markdown."""
    return "\n".join(line for name in LEAKS for line in leak_lines(name))


def leak_summary() -> list[str]:
    """Return, for each published system that was repeated, what a random split adds, as lines."""
    lines = [
        "**What are published figures worth?** The same recipe under a random split, as published, and under a split "
        "that keeps near-duplicates together, three seeds each ([the study](docs/explanation/published-systems.md)):",
        "",
        "| accuracy | theirs | ours, random split | ours, grouped | random minus grouped |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name in LEAKS:
        results = read(LEAK / name / "results.json")
        published = results["recipe"]["published"]
        random, grouped = (results["protocols"][kind]["figures"]["accuracy"] for kind in ("random", "grouped"))
        gap = interval(results["leak"]["accuracy"], sign=True)
        theirs = units(published["figures"]["accuracy"]) if "accuracy" in published["figures"] else "-"
        lines.append(f"| {published['system']} | {theirs} | {interval(random)} | {interval(grouped)} | {gap} |")
    return lines


def synth_summary() -> list[str]:
    """Return whether generated scans help a classifier, as lines."""
    results = read(SYNTHESIS)
    return [
        "**Do generated scans help?** Rare classes of BUSI filled up with pictures that a network made, the same "
        f"grouped scans scored. {results['sizes']} ([the study](docs/explanation/synthetic-images.md)):",
        "",
        *synth_differences(results, "percentage points", ["accuracy", "macro_auc"]),
        "",
    ]


def synth_differences(results: dict[str, Any], corner: str, names: list[str]) -> list[str]:
    """Return the differences between arms of the study of generated scans, as lines."""
    rows = [
        [f"{row['question']} ({row['a']} less {row['b']})", *synth_shares(row["figures"], names)]
        for row in results["differences"]
    ]
    return markdown_table([corner, *map(figure_words, names)], rows)


def synth_shares(figures: dict[str, Any], names: list[str]) -> list[str]:
    """Return figures in per cent, without the sign."""
    return [figure(figures[name], True).replace(" %", "") for name in names]


def synth_block() -> str:
    """Return sizes, figures per arm, differences and the quality of the generated images, as Markdown."""
    results = read(SYNTHESIS)
    arms = results["arms"].values()
    names = list(next(iter(arms))["figures"])
    rows = [
        [arm["words"], f"{arm['real']:.0f}", f"{arm['generated']:.0f}", *synth_shares(arm["figures"], names)]
        for arm in arms
    ]
    lines = [
        f"{results['sizes']}. In per cent, with 95 % intervals over groups; each figure is the mean over seeds.",
        "",
        *markdown_table(["", "real", "generated", *map(figure_words, names)], rows),
        "",
        "Differences in percentage points, on the same scans; where the interval holds nought, chance explains it:",
        "",
        *synth_differences(results, "", names),
    ]
    rows = []
    for name, found in results["quality"].items():
        for network, by in found["by"].items():
            distances, copies = by["distances"], by["copies"]
            rows.append(
                [f"{name}, {found['size']} px", network, str(distances["n"])]
                + [f"{distances[kind][of]['mean']:.3g}" for kind in ("kid", "fid") for of in ("generated", "real")]
                + [f"{copies['copies']} of {copies['n']} ({copies['expected']:g})", f"{copies['nearer']:.2f}"]
            )
    head = ["generator", "features", "n", "KID", "KID of real scans", "FID", "FID of real scans"]
    head += ["copies (at most by chance)", "nearer than real scans (.5: alike)"]
    lines += ["", "The pictures, judged at the generators' size:", "", *markdown_table(head, rows), ""]
    return "\n".join([*lines, f"![{results['sizes']}](../../results/studies/synth/{results['figure']})"])


def tissue_table() -> list[str]:
    """Return what the model of tissue patches is worth over folds of patients, as lines."""
    results = read(IDC / "results.json")
    decided = results["decisions"]["sources"]["idc"]
    return [
        f"`mobilenetv2-idc` on {results['n']:,} patches of {results['groups']} patients, who never straddle a split; "
        "every patch was read by a network that had seen none of its patient. One run per fold (seed "
        f"{results['recipe']['seed']}), 95 % intervals over patients:",
        "",
        "| | `mobilenetv2-idc` |",
        "| --- | --- |",
        *(f"| {words} | {figure(decided[name], True)} |" for name, words in TISSUE),
        f"| ROC-AUC | {figure(results['one_view']['auc_positive'], False)} |",
        f"| Calibration error (ECE, adaptive bins) | {figure(results['one_view']['ece'], False)} |",
    ]


def histology_block() -> str:
    """Return the figures of the page on tissue as Markdown."""
    lines = [*tissue_table(), "", "### R5: the small network from scratch, on the same folds of patients", ""]
    lines += [*tiny_table(), "", *leak_lines("r5-tiny-cnn")]
    return "\n".join([*lines, "", "### R2's three networks, from scratch", "", *compared_lines("r2-idc")])


def tiny_table() -> list[str]:
    """Return what the published small network reaches beside the fine-tuned one, patients held apart, as lines."""
    views = [read(folder / "results.json")["one_view"] for folder in (IDC, TINY)]
    names = ("balanced_accuracy", "auc_positive", "f1_positive", "accuracy")
    words = ("Balanced accuracy", "ROC-AUC", "F1 of positive", "Accuracy")
    rows = [(word, [figure(view.get(name), False) for view in views]) for name, word in zip(names, words, strict=True)]
    return ["The most probable class:", "", *columns(["`mobilenetv2-idc`, fine-tuned", "R5, from scratch"], rows)]


def compared_lines(name: str) -> list[str]:
    """Return a leaderboard with the picture of its curves, as lines."""
    table = leaderboard_markdown(read(COMPARED / name / "results.json")).splitlines()
    return [*table, "", f"![ROC curves of all networks](../../results/studies/compare/{name}/roc.png)"]


def search_lines(results: dict[str, Any]) -> list[str]:
    """Return what a search of `bcx tune` tried, what it gained, and which settings mattered."""
    trials, inner, recipe = results["trials"], results["inner_folds"], results["recipe"]
    ended = ", ".join(f"{count} {name}" for name, count in trials.items() if count)
    best, own = results["best"], results["recipe_as_it_stood"]
    lines = [
        f"`{recipe['name']}` at {recipe['size']} pixels for {recipe['epochs']} epochs, {inner['trained']} of "
        f"{inner['cut']} inner folds, outer fold {results['outer_fold']['fold']} never opened; {ended}.",
        "",
        "| | inner macro ROC-AUC |",
        "| --- | --- |",
    ]
    if own is not None:
        lines.append(f"| the recipe as it stood | {units(own['value'])} |")
    lines.append(f"| the best of all trials (optimistic, as the best of many is) | {units(best['value'])} |")
    chosen = ", ".join(f"{name} {_value(value)}" for name, value in best["values"].items())
    lines += ["", f"Its settings: {chosen or 'those of the recipe'}."]
    if results["importance"]:
        shares = sorted(results["importance"].items(), key=lambda pair: -pair[1])[:3]
        named = ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares)
        lines.append(f"What explains the differences between trials (fANOVA): {named}.")
    return lines


def _value(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def comparing_block() -> str:
    """Return the leaderboard and the search that were run here, as Markdown."""
    compared, searched = compared_lines("busi"), search_lines(read(TUNED / "results.json"))
    return "\n".join(["### Compared here", "", *compared, "", "### Searched here", "", *searched])


def audit_block() -> str:
    """Return what `bcx audit` finds of a list of pairs that it never saw, and what it costs, as Markdown."""
    busi = read(AUDIT / "busi.json")
    lines = [
        f"BUSI, {busi['n']} scans, against a list of pairs that the audit never sees:",
        "",
        "| | pairs on the list | found as a pair | in one group | pairs found | of these on the list |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for kind, listed in busi["listed"].items():
        found = busi["found"][kind]
        shares = (f"{100 * listed[key]:.1f} %" for key in ("recall", "recall, through groups"))
        right = f"{found['n']} | {100 * found['precision']:.1f} %"
        lines.append(f"| {kind} | {listed['n']} | {' | '.join(shares)} | {right} |")
    runs, wall = [(busi["n"], "BUSI", busi)], []
    if (AUDIT / "scale.json").is_file():
        scale = read(AUDIT / "scale.json")
        runs += [
            (int(name), "real scans, copies and blends of them, simulated ones", run)
            for name, run in scale["runs"].items()
            if "processor_seconds" in run
        ]
        wall = [
            f"The audit of {int(name.split()[0]):,} pictures took {run['seconds']:,.0f} s with {run['cores']} cores at "
            "work."
            for name, run in scale["runs"].items()
            if "cores" in run
        ]
    lines += [
        "",
        "| pictures | what | seconds of one core | per picture | most memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for count, what, run in runs:
        cost = f"{run['processor_seconds']:,.0f} | {run['processor_ms_per_picture']:.0f} ms"
        lines.append(f"| {count:,} | {what} | {cost} | {run['peak_memory_mb']} MB |")
    return "\n".join([*lines, *(["", *wall] if wall else [])])


def slide_block() -> str:
    """Return what reading a large slide costs, as Markdown."""
    slides = read(RESULTS / "benchmarks" / "slides.json")
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
    """Return what the Ray engine costs on one machine, and what follows for many, as Markdown."""
    found, scans, nodes, cores, price = read(RESULTS / "benchmarks" / "cluster.json"), 10**8, 100, 16, 0.04
    per_core = found["ray_scans_per_second"] / found["cores"]
    hours = scans / per_core / 3600
    seconds, model = 3600 * hours / nodes / cores, found["command"].split("--model ")[1].split()[0]
    rows = [
        ("computing", f"10^8 / {per_core:.1f} per second", f"{hours:,.0f} core-hours"),
        ("time", f"on {nodes} nodes of {cores} cores", f"{seconds / 60:.0f} minutes"),
        ("cost", f"at {price} USD per core-hour; put in your own price", f"{price * hours:.0f} USD"),
        (
            "reading",
            "scans of 300 kB: 30 TB; a network of 1 Gbit/s carries 125 MB/s",
            f"{3e5 * scans / seconds / nodes / 1e6:.0f} MB/s per node",
        ),
    ]
    lines = [
        f"Measured on one machine of {found['cores']} cores, {found['scans']:,} simulated scans, `{model}` "
        f"on ONNX Runtime: {found['local_scans_per_second']:.1f} scans/s by the local engine, "
        f"{found['ray_scans_per_second']:.1f} by Ray from the first shard on (**{found['ratio']:.2f} times**), "
        f"which is there after {found['ray_seconds_to_first_shard']:.0f} s. From that, on paper:",
        "",
        "| what | arithmetic | |",
        "| --- | --- | --- |",
    ]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def with_figures(page: str, block: str) -> str:
    """Return a page's text with its figures replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block}\n{END}{after}"


#: What each page shows.
PAGES = {
    README: readme_block,
    FIGURES: all_block,
    STUDY: study_block,
    PUBLISHED: leak_block,
    HISTOLOGY: histology_block,
    SYNTH: synth_block,
    AUDITING: audit_block,
    MEASURING: audit_block,
    CLUSTER: cluster_block,
    COMPARING: comparing_block,
    DECIDING: decisions_block,
    CHECKED: checked_block,
    SLIDES: slide_block,
}


def main() -> int:
    """Rewrite the pages."""
    for page, block in PAGES.items():
        page.write_text(with_figures(page.read_text("utf-8"), block()), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
