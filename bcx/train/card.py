"""The model card: README.md of a checkpoint, written from its config.json and results.json alone.

>>> in_percent({"value": 0.8234, "low": 0.79, "high": 0.85})
'82.3 % (79.0 to 85.0)'
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bcx.tasks import get_task
from bcx.train.provenance import read_json

_DATA = {
    "busi": "BUSI (Al-Dhabyani et al., Data in Brief 2020, doi 10.1016/j.dib.2019.104863): GE LOGIQ E9, one hospital "
    "in Cairo; the article is CC BY, the files carry no licence of their own: cite, research use",
    "busbra": "BUS-BRA (Gómez-Flores et al., Medical Physics 2024): biopsy-proven, four machines, National Cancer "
    "Institute of Brazil; free use with citation",
}

_HEADS = {
    "average pooling, linear": "with average pooling and one linear layer, so each class's map is an exact account of "
    "its logit.",
    "lesion": "with a lesion head: a map of where it sees a lesion, learnt from masks, and the evidence for malignant "
    "or benign read where that is high. It looks twice: at the whole scan, then, enlarged, at where it saw most. Each "
    "class's map is an exact account of its logit.",
}


def in_percent(figure: dict[str, Any]) -> str:
    """Write a share with its 95 % interval, in per cent."""
    return f"{100 * figure['value']:.1f} % ({100 * figure['low']:.1f} to {100 * figure['high']:.1f})"


def in_units(figure: dict[str, Any]) -> str:
    """Write a figure with its 95 % interval, three decimals."""
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def headline_rows(view: dict[str, Any], classes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return (name, text) of the figures that every card shows; what has no value (no such scans) says so."""
    rows = [("accuracy", in_percent, "accuracy"), ("ROC-AUC, macro", in_units, "macro_auc")]
    rows += [(f"sensitivity, {name}", in_percent, f"sensitivity_{name}") for name in classes]
    rows += [(f"specificity, {name}", in_percent, f"specificity_{name}") for name in classes]
    return [(name, "no such scans" if view[key]["value"] is None else write(view[key])) for name, write, key in rows]


def write_card(folder: Path) -> Path:
    """Write `README.md` into a checkpoint's folder, at once or not at all."""
    config = read_json(folder / "config.json")
    results = read_json(folder / "results.json")
    text = "\n".join([*_front_matter(folder.name, config, results), *_body(folder.name, config, results)])
    scratch = folder / "README.md.writing"
    scratch.write_text(text + "\n", encoding="utf-8")
    os.replace(scratch, folder / "README.md")
    return folder / "README.md"


def _front_matter(name: str, config: dict[str, Any], results: dict[str, Any]) -> list[str]:
    lines = ["---", "license: apache-2.0", "library_name: timm", "pipeline_tag: image-classification", "tags:"]
    lines += [f"- {tag}" for tag in ("medical-imaging", "ultrasound", "breast", "grad-cam", "bcx")]
    if "one_view" in results:
        lines += ["model-index:", f"- name: {name}", "  results:", "  - task:", "      type: image-classification"]
        lines += ["    dataset:", f"      name: {', '.join(config['bcx']['training']['data'])} (grouped folds)"]
        lines += ["      type: image-folder", "    metrics:"]
        for kind, key in (("accuracy", "accuracy"), ("roc_auc", "macro_auc")):
            lines += [f"    - type: {kind}", f"      value: {results['one_view'][key]['value']:.4f}"]
    return [*lines, "---", ""]


def _body(name: str, config: dict[str, Any], results: dict[str, Any]) -> list[str]:
    block = config["bcx"]
    task, training = get_task(block["task"]), block["training"]
    lines = [
        f"# {name}",
        "",
        f"{task.title}. A {config['architecture']} {_HEADS[block['head']]} **For research and teaching, never for "
        "diagnosis.**",
        "",
        "```python",
        "import bcx",
        "",
        f'prediction = bcx.load("{name}").predict("scan.png")',
        "```",
        "",
        f"Plain timm loads the {'backbone' if block['head'] == 'lesion' else 'network'} too: "
        f'`timm.create_model("local-dir:checkpoints/{name}", pretrained=True)`.',
        "",
        "## What it was trained on",
        "",
        "| source | scans | groups | classes |",
        "|---|---|---|---|",
    ]
    for source, data in training["data"].items():
        classes = ", ".join(f"{count} {label}" for label, count in data["classes"].items())
        lines.append(f"| {source} | {data['scans']} | {data['groups']} | {classes} |")
    lines += ["", *(f"- {_DATA[source]}." for source in training["data"] if source in _DATA), ""]
    start = training["recipe"]["init"]
    lines.append(
        f"Starting weights: `{start['file']}` (sha256 {start['sha256'][:12]}…)."
        if isinstance(start, dict)
        else f"Starting weights: {start}."
    )
    recipe = training["recipe"]
    lines += [
        f"Recipe: {recipe['epochs']} epochs, batch {recipe['batch_size']}, learning rate {recipe['lr']:g} "
        f"(head {recipe['head_lr']:g}), seed {recipe['seed']}, {recipe['size']} pixels, {recipe['precision']}; "
        f"{training['seconds']:.0f} s on {training['machine']['cores']} cores. Command: `{training['command']}`.",
        "",
    ]
    lines += _measured(task.classes, results) if "one_view" in results else ["## Figures", "", "None were measured."]
    return [
        *lines,
        "",
        "## What it is not for",
        "",
        "Any decision about a person. It has seen scans of few hospitals and machines; on others it is worse, and it "
        "does not know the patient. A gate stops pictures that are no breast ultrasound, but lets some through.",
    ]


def _measured(classes: tuple[str, ...], results: dict[str, Any]) -> list[str]:
    one, two = results["one_view"], results["two_views"]
    lines = [
        "## What was measured",
        "",
        f"Grouped cross-validation: {len(results['folds'])} folds, near-duplicates and scans of one lesion always on "
        f"the same side, {results['n']} out-of-fold answers in {results['groups']} groups, one run per fold (seed "
        f"{results['recipe']['seed']}). In brackets: 95 % bootstrap intervals over groups. The shipped network is "
        "trained on all folds by the same recipe; it is not one of those that were measured.",
        "",
        "| figure | one view (default) | scan and mirror image averaged |",
        "|---|---|---|",
    ]
    pairs = zip(headline_rows(one, classes), headline_rows(two, classes), strict=True)
    lines += [f"| {name} | {text} | {other} |" for (name, text), (_, other) in pairs]
    for source, part in results.get("sources", {}).items():
        rows = headline_rows(part["one_view"], classes)
        lines += ["", f"Of these, {source} ({part['n']} scans in {part['groups']} groups), one view:", ""]
        lines += ["| figure | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
        between = part["one_view"].get("auc_malignant_vs_benign")
        if between and between["value"] is not None:
            lines.append(f"| ROC-AUC, malignant against benign | {in_units(between)} |")
    lines += ["", "| fold | scans | accuracy | ROC-AUC, macro |", "|---|---|---|---|"]
    lines += [
        f"| {row['fold']} | {row['n']} | {100 * row['accuracy']:.1f} % | {row['macro_auc']:.3f} |"
        for row in results["folds"]
    ]
    for name, part in results.get("without", {}).items():
        lines += [
            "",
            f"Without the {part['left_out']} scans marked '{name}': accuracy "
            f"{in_percent(part['one_view']['accuracy'])}, ROC-AUC {in_units(part['one_view']['macro_auc'])}.",
        ]
    lines += [
        "",
        f"Temperature {results['temperature']:.3f}, fitted on the out-of-fold logits: calibration error (ECE) "
        f"{results['uncalibrated']['ece']:.3f} before, {results['report']['ece']:.3f} after. `oof.csv` beside this "
        "file holds every out-of-fold answer.",
    ]
    if "decisions" in results:
        lines += _decided(results["decisions"])
    return lines


_DECIDED = (
    ("accuracy", "scans read correctly"),
    ("sensitivity", "malignant scans called malignant"),
    ("specificity", "other scans not called malignant"),
    ("absent_recall", "normal scans called normal"),
    ("lost_lesions", "lesions called normal"),
)


def _decided(decisions: dict[str, Any]) -> list[str]:
    """Lines on the label at the stored operating point, and on referral."""
    point, refer = decisions["rules"]["operating_point"], decisions["rules"]["refer"]
    lines = [
        "",
        "## The label",
        "",
        f"The label is normal where P(normal) is at least {point['normal_above']:.3f}, else malignant where malignant "
        f"holds at least {point['positive_above']:.3f} of the rest. Both thresholds were fitted on the out-of-fold "
        "answers; the figures below decide each fold by thresholds fitted on the others.",
        "",
        "| figure | " + " | ".join(decisions["sources"]) + " |",
        "|---" * (len(decisions["sources"]) + 1) + "|",
    ]
    for key, words in _DECIDED:
        cells = [in_percent(part[key]) if key in part else "no such scans" for part in decisions["sources"].values()]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    if refer is not None:
        shares = [
            f"{source}: {100 * part['answered']:.0f} % answered, of which {100 * part['accuracy']:.1f} % right"
            for source, part in decisions["referral"].items()
            if part["accuracy"] is not None
        ]
        lines += [
            "",
            f'`decision` is "refer" where no class reaches {100 * refer["below"]:.1f} %: {"; ".join(shares)}.',
        ]
    return lines
