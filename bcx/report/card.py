"""The model card: README.md of a checkpoint, from its own files and its results alone, in the words of card.md."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined

from bcx.files import whole
from bcx.report import tables
from bcx.report.facts import FIGURES, Facts, gather, telling_of

_TAGS = ("medical-imaging", "explainability", "calibration", "grad-cam", "bcx")
# The Hub's name of a metric, and ours.
_METRICS = {
    "accuracy": ("accuracy", "accuracy"),
    "balanced_accuracy": ("balanced_accuracy", "balanced accuracy"),
    "macro_f1": ("f1", "macro F1"),
    "macro_auc": ("roc_auc", "ROC-AUC, macro, one against the rest"),
    "macro_pr_auc": ("average_precision", "PR-AUC, macro"),
    "mcc": ("matthews_correlation", "MCC"),
    "ece": ("expected_calibration_error", "ECE, adaptive bins"),
    "brier": ("brier_score", "Brier score"),
}
#: Name of a figure's file, without source and ending -> its caption.
_CAPTIONS = {
    "classes": "How many scans of each class",
    "roc": "ROC curves with 95 % bands",
    "pr": "Precision-recall curves with 95 % bands",
    "confusion": "Confusion matrix, the most probable class",
    "confusion-answers": "Confusion matrix, the answers as they are given",
    "reliability": "Reliability before and after scaling",
    "risk-coverage": "Risk and coverage",
    "decision-curve": "Decision curve",
    "training": "Training, epoch by epoch",
    "intensity": "Intensity of pixels and of scans, by class",
}
_environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
_environment.globals["tables"] = tables
#: The macros of card.md, in which an indented line goes on the one before.
said: Any = _environment.from_string(
    re.sub(r"\n +", " ", Path(__file__).with_name("card.md").read_text("utf-8"))
).module


def write_card(folder: Path) -> Path:
    """Write `README.md` into a checkpoint's folder, at once or not at all; errors as `gather`."""
    with whole(folder / "README.md") as partial:
        partial.write_text(card_text(gather(folder)), encoding="utf-8")
    return folder / "README.md"


def card_text(facts: Facts) -> str:
    """Return the card, Markdown behind the Hub's metadata; `CheckpointError`: the results lack what it tells."""
    with telling_of(facts.folder):
        found = list(_eval_results(facts)) if facts.was_measured else None
        about = ModelCardData(
            language="en",
            license="apache-2.0",
            library_name="timm",
            pipeline_tag="image-classification",
            tags=[*_TAGS, facts.task.name],
            metrics=sorted({result.metric_type for result in found}) if found else None,
            model_name=facts.name if found else None,
            eval_results=found,
        )
        drawn = [] if facts.measured is None else sorted((facts.measured / FIGURES).glob("*.png"))
        links = {Path(os.path.relpath(file, facts.folder)).as_posix(): _caption(file.stem) for file in drawn}
        text = re.sub(r"\n{3,}", "\n\n", said.card(facts, links)).strip()
        return str(ModelCard(f"---\n{about.to_yaml()}\n---\n\n{text}\n"))


def _eval_results(facts: Facts) -> Iterator[EvalResult]:
    """The figures of each source and of each set from elsewhere, rounded to what the tables print."""
    results = facts.results
    parts = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    parts = parts or dict.fromkeys(results["data"], results["one_view"])
    where = ("left out", "never seen") if facts.by_hospital else ("grouped folds", "out of fold")
    named = {name: (view, f"{name}, {where[0]}", where[1]) for name, view in parts.items()}
    for file, found in facts.external.items():
        name = "+".join(found["data"])
        named[file.removesuffix(".json")] = found["figures"], f"{name}, never seen", found["split"]
    for key, (view, title, split) in named.items():
        about: dict[str, Any] = {"task_type": "image-classification", "task_name": facts.task.title}
        about |= {"dataset_type": key, "dataset_name": title, "dataset_split": split}
        for figure, (kind, words) in _METRICS.items():
            if figure in view and (value := view[figure]["value"]) is not None:
                yield EvalResult(**about, metric_type=kind, metric_name=words, metric_value=round(value, 4))


def _caption(stem: str) -> str:
    """ "roc-busi" is the ROC curves of busi."""
    name = max((name for name in _CAPTIONS if f"{stem}-".startswith(f"{name}-")), key=len, default="")
    source = stem.removeprefix(name).removeprefix("-")
    return ": ".join(filter(None, (_CAPTIONS.get(name), source)))
