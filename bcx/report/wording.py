"""What a card says about data, starting weights and heads: sentences that hold for every model that used them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcx.report.facts import Facts

DATA = {
    "busi": "**BUSI** (Al-Dhabyani et al., Data in Brief 2020, "
    "[doi:10.1016/j.dib.2019.104863](https://doi.org/10.1016/j.dib.2019.104863)): one hospital in Cairo, GE LOGIQ E9, "
    "no patient ids. The article is CC BY; the files carry no licence of their own: cite, research use.",
    "busbra": "**BUS-BRA** (Gómez-Flores et al., Medical Physics 2024, "
    "[doi:10.1002/mp.16812](https://doi.org/10.1002/mp.16812)): biopsy-proven, four machines, National Cancer "
    "Institute of Brazil. Free use with citation.",
    "breast": "**BrEaST** (Pawłowska et al., Scientific Data 2024, "
    "[doi:10.1038/s41597-024-02984-z](https://doi.org/10.1038/s41597-024-02984-z)): 256 patients of five centres in "
    "Poland, several machines. CC BY 4.0.",
    "idc": "**IDC patches** (Cruz-Roa et al. 2014, Janowczyk and Madabhushi 2016; Kaggle "
    "breast-histopathology-images): a subset of what was published, chosen by whoever collected it, no licence stated "
    "with it: cite, research use.",
    "breakhis": "**BreakHis** (Spanhol et al. 2016): licence not verified: cite, research use.",
}
"""Source -> where it comes from, and under which terms."""

OWN_DATA = "data of whoever trained this model, under terms that only they know"

WEIGHTS = {
    "9bd89aab2da0bfa373b89bb07b6dbdff22360a5176182a272affefdbb9e1fe23": "MobileNetV2 1.0 trained on ImageNet, from "
    "TensorFlow-Slim (Apache-2.0), in timm's names; its convolutions by way of `webmachinelearning/webnn-samples` "
    "(Apache-2.0), its 1,000-class layer, which is not used here, from `google-coral/test_data` (Apache-2.0). Batch "
    "norm had been folded in and was unfolded with the statistics of 480 ultrasound scans. Its ImageNet accuracy was "
    "not measured here.",
    "timm": "timm's own pretrained weights of this architecture; their licence is in timm's model card.",
    "scratch": "none: random, from the seed.",
}
"""SHA-256 of a file of starting weights, or the word for others -> what they are and under which licence."""

HEADS = {
    "average pooling, linear": "with average pooling and one linear layer, so that each class's map is an exact "
    "account of its logit.",
    "average pooling, linear, in place of the network's own": "whose own last layers gave way to average pooling and "
    "one linear layer, so that each class's map is an exact account of its logit.",
    "dense": "with dense layers; each class's map is the gradient times the last map and, with what the layers' own "
    "constants add, an exact account of its logit.",
    "dense layers of its own": "with dense layers; each class's map is the gradient times the last map and, with what "
    "the layers' own constants add, an exact account of its logit.",
    "lesion": "with a lesion head: a lesion map, learnt from masks, and the evidence for malignant or benign read "
    "where that is high. It reads the scan in two stages: the whole, then, enlarged, the most suspicious place. Each "
    "class's map adds up to its logit.",
}

TIMM = {
    "average pooling, linear": ("the network", ""),
    "average pooling, linear, in place of the network's own": ("the backbone", ", features_only=True"),
    "dense layers of its own": ("the network, after `import bcx.networks.tiny_cnn`,", ""),
}
"""Head -> what plain timm loads, and with which further argument; of other heads the backbone."""

FIGURES = {
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
"""Name of a figure's file, without source and ending -> its caption."""


def protocol(facts: Facts) -> str:
    """Say on what the figures of a model stand: grouped folds, or hospitals that its networks never saw."""
    results = facts.results
    if not facts.by_hospital:
        return (
            f"Grouped cross-validation: {len(results['folds'])} folds; near-duplicates, scans of one lesion and, where "
            f"patients are named, scans of one patient are one group, and **a group never straddles a split**. "
            f"{results['n']:,} out-of-fold answers in {results['groups']:,} groups, one run per fold (seed "
            f"{results['recipe']['seed']}): every scan was answered by a network that had seen neither it nor a copy "
            "of it. The shipped network is trained on all folds by the same recipe; it is not one of those that were "
            "measured, and has no test set of its own."
        )
    recipe, shipped = results["recipe"], facts.config["bcx"].get("members", 1)
    measured = max(len(recipe.get("members") or ()), 1)
    return (
        f"One hospital left out at a time, {len(results['folds'])} of them: **every scan was answered by a network "
        f"that had seen nothing of its hospital**. {results['n']:,} answers in {results['groups']:,} groups, one run "
        f"per hospital (seed {recipe['seed']}), {_networks(measured)} of {recipe['epochs']} epochs each. "
        f"The checkpoint holds {_networks(shipped)} of {facts.config['bcx']['training']['recipe']['epochs']} epochs, "
        "trained on all of these hospitals; it has no test set of its own, and nobody measured it on the hospitals "
        "that it knows."
    )


def _networks(count: int) -> str:
    return f"{count} network{'s' if count > 1 else ''}"


def start_words(start: Any) -> str:
    """Say what a network started from, and under which licence; `start` as a recipe's `init` records it."""
    if isinstance(start, dict):
        known = WEIGHTS.get(start["sha256"], "a file of whoever trained this model, under terms that only they know.")
        return f"`{start['file']}` (sha256 `{start['sha256'][:12]}`): {known}"
    return WEIGHTS.get(str(start), f"`{start}`.")


def caption(stem: str) -> str:
    """Return the caption of a figure by its file's name without the ending: "roc-busi" is the ROC curves of busi."""
    for name in sorted(FIGURES, key=len, reverse=True):
        if stem == name:
            return FIGURES[name]
        if stem.startswith(f"{name}-"):
            return f"{FIGURES[name]}: {stem.removeprefix(f'{name}-')}"
    return stem
