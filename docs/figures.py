"""Write the figures in README.md from the results files, so that no figure there is typed by hand.

```bash
python docs/figures.py
```

A test compares the README with what this writes.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MODEL = "mobilenetv2-busi"
RESULTS = ROOT / "checkpoints" / MODEL / "results.json"
GATE = ROOT / "results" / "gate" / "gate.json"
SPEED = ROOT / "results" / "benchmarks" / "speed.json"
BEGIN, END = "<!-- figures: written by `python docs/figures.py` -->", "<!-- end of figures -->"

# What is shown, in words, and whether it is a share (shown in per cent) or a plain number.
SHOWN = (
    ("accuracy", "Scans read correctly (accuracy)", True),
    ("macro_auc", "Macro one-vs-rest ROC-AUC", False),
    ("sensitivity_malignant", "Malignant scans found (sensitivity)", True),
    ("specificity_malignant", "Other scans not called malignant (specificity)", True),
    ("sensitivity_benign", "Benign scans called benign", True),
    ("sensitivity_normal", "Normal scans called normal", True),
    ("auc_malignant_vs_benign", "Malignant against benign, ROC-AUC", False),
    ("ece", "Calibration error (ECE, adaptive bins)", False),
)


def figure(entry: dict[str, Any], share: bool) -> str:
    """Return a value with its 95 % interval: `82.3 % (79.1 to 85.2)` or `.924 (.905 to .941)`."""
    texts = [
        f"{100 * entry[key]:.1f}" if share else f"{entry[key]:.3f}".lstrip("0") for key in ("value", "low", "high")
    ]
    return f"{texts[0]}{' %' if share else ''} ({texts[1]} to {texts[2]})"


def gate_line(study: dict[str, Any]) -> str:
    """Return what the gate stops and passes, as a sentence."""
    every, later = study["stand_ins"]["all"], study["stand_ins"]["kinds made afterwards"]
    other = study["scans"]["busbra"]
    return (
        f"**Is it a scan at all?** The gate stops {every['stopped']} of {every['n']} pictures that are no breast "
        f"ultrasound: photographs, documents, drawings, noise, microscope slides ({later['stopped']} of {later['n']} "
        f"of kinds that were made after it). It passes {100 * other['passed']:.1f} % of {other['n']} scans of "
        "BUS-BRA, a hospital that the network has never seen (600 of them were in view when the gate's allowance was "
        f"set). [By kind]({GATE.relative_to(ROOT).as_posix()})."
    )


def speed_table(speed: dict[str, Any]) -> str:
    """Return the benchmark's ratios as a Markdown table."""
    machine = speed["machine"]
    lines = [
        f"**Speed**, as ratios measured in one run on {machine['cores']} cores without a GPU "
        f"([how](benchmarks/README.md)):",
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
        lines.append(f"| {row['what']} | {measured} | {row['at_least']} | {row['aim']} |")
    return "\n".join(lines)


def block(results: dict[str, Any]) -> str:
    """Return the README's figures as Markdown."""
    one, two = results["one_view"], results["two_views"]
    folds = results["folds"]
    lines = [
        f"`{MODEL}`: MobileNetV2, {results['n']} scans of BUSI in {results['groups']} groups, {len(folds)}-fold "
        "cross-validation in which near-duplicates and scans of one lesion never straddle a split. Every scan was read "
        "by a network that had not seen it or a copy of it. 95 % intervals are from a bootstrap over groups.",
        "",
        "| | one view (default) | two views (scan and mirror image) |",
        "| --- | --- | --- |",
        *(f"| {words} | {figure(one[name], share)} | {figure(two[name], share)} |" for name, words, share in SHOWN),
        "",
        "Accuracy of the single folds: "
        + ", ".join(f"{100 * fold['accuracy']:.1f} %" for fold in folds)
        + ". They differ that much because the groups differ; a single split would have told you any of these.",
    ]
    for name, rest in results.get("without", {}).items():
        lines += [
            "",
            f"Without the {rest['left_out']} scans marked `{name}`: "
            f"accuracy {figure(rest['one_view']['accuracy'], True)}, "
            f"macro ROC-AUC {figure(rest['one_view']['macro_auc'], False)}.",
        ]
    source = RESULTS.relative_to(ROOT).as_posix()
    lines += [
        "",
        f"The shipped network was then trained on all {results['n']} scans with the same recipe, so it has no test set "
        f"of its own. [results.json]({source}) holds every figure, and the command that made it.",
    ]
    lines += ["", gate_line(json.loads(GATE.read_text("utf-8")))]
    lines += ["", speed_table(json.loads(SPEED.read_text("utf-8")))]
    return "\n".join(lines)


def with_figures(readme: str, results: dict[str, Any]) -> str:
    """Return the README's text with its figures replaced."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{block(results)}\n{END}{after}"


def main() -> int:
    """Rewrite README.md."""
    results = json.loads(RESULTS.read_text("utf-8"))
    README.write_text(with_figures(README.read_text("utf-8"), results), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
