"""The study's results as Markdown, for pages whose figures are written from the results file.

>>> share({"value": 0.8, "low": 0.7, "high": 0.9}), share({"value": None, "low": None, "high": None})
('80.0 (70.0 to 90.0)', '-')
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcx.evaluate.words import markdown_table


def page_block(folder: Path, link: str) -> str:
    """Return what `docs/explanation/synthetic-images.md` shows of the studies that were run.

    Args:
        link: the same folder as seen from the page.
    """
    parts = []
    for file in sorted(folder.glob("*.json")):
        results = json.loads(file.read_text("utf-8"))
        if "arms" in results:
            parts += [study_block(results), "", f"![{results['sizes']}]({link}/{results['figure']})", ""]
    return "\n".join(parts[:-1]) if parts else "Not measured yet."


def study_block(results: Mapping[str, Any]) -> str:
    """Return sizes, figures per arm, differences and the quality of the pictures."""
    names = list(next(iter(results["arms"].values()))["figures"])
    parts = [
        f"{results['sizes']}. In per cent, with 95 % intervals over groups; each figure is the mean over seeds.",
        "",
        *markdown_table(
            ["", "real", "generated", *(figure_words(name) for name in names)],
            [
                [arm["words"], f"{arm['real']:.0f}", f"{arm['generated']:.0f}"]
                + [share(arm["figures"][name]) for name in names]
                for arm in results["arms"].values()
            ],
        ),
        "",
        "Differences in percentage points, on the same scans; where the interval holds nought, chance explains it:",
        "",
        *markdown_table(
            ["", *(figure_words(name) for name in names)],
            [
                [f"{row['question']} ({row['a']} less {row['b']})", *(share(row["figures"][name]) for name in names)]
                for row in results["differences"]
            ],
        ),
    ]
    if results["quality"]:
        parts += ["", "The pictures, judged at the generators' size:", "", *quality_table(results["quality"])]
    return "\n".join(parts)


def answer_lines(results: Mapping[str, Any]) -> list[str]:
    """Return the study's differences in accuracy and macro ROC-AUC, for a README."""
    names = ("accuracy", "macro_auc")
    rows = [
        [f"{row['question']} ({row['a']} less {row['b']})", *(share(row["figures"][name]) for name in names)]
        for row in results["differences"]
    ]
    return markdown_table(["percentage points", *(figure_words(name) for name in names)], rows)


def quality_table(quality: Mapping[str, Any]) -> list[str]:
    """Return a row per generator and describing network.

    Args:
        quality: by generator, as `bcx.studies.synthesis.judging.judge_generator` returns it.
    """
    rows = []
    for name, found in quality.items():
        for network, by in found["by"].items():
            distances, copies = by["distances"], by["copies"]
            rows.append(
                [f"{name}, {found['size']} px", f"{network}", str(distances["n"])]
                + [f"{distances[kind][of]['mean']:.3g}" for kind in ("kid", "fid") for of in ("generated", "real")]
                + [f"{copies['copies']} of {copies['n']} ({copies['expected']:g})", f"{copies['nearer']:.2f}"]
            )
    head = ["generator", "features", "n", "KID", "KID of real scans", "FID", "FID of real scans"]
    return markdown_table([*head, "copies (at most by chance)", "nearer than real scans (.5: alike)"], rows)


def share(figure: Mapping[str, float | None]) -> str:
    """Return a share in per cent with its interval; a dash where it has no value."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None:
        return "-"
    return f"{100 * value:.1f}" + ("" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def figure_words(name: str) -> str:
    """Return a figure's name in words: `sensitivity_normal` becomes "sensitivity normal"."""
    figure, _, label = name.partition("_")
    return f"{figure} {label}".replace("_", " ").replace("macro auc", "macro ROC-AUC").strip()
