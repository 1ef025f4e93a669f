"""The model card: README.md of a checkpoint, written from its own files and its results alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from bcx.files import whole
from bcx.report import tables, wording
from bcx.report.facts import Facts, gather, telling_of

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
# Below the figures at home by so much, a set from elsewhere is called a failure in so many words.
_FAILED = 0.1


def write_card(folder: Path) -> Path:
    """Write `README.md` into a checkpoint's folder, at once or not at all; errors as `gather`."""
    text = card_text(gather(folder))
    with whole(folder / "README.md") as partial:
        partial.write_text(text, encoding="utf-8")
    return folder / "README.md"


def card_text(facts: Facts) -> str:
    """Return the card as Markdown with the Hub's metadata in front; the same files give the same text.

    Raises:
        CheckpointError: the results lack what the card tells, or have it of another kind.
    """
    with telling_of(facts.folder):
        card = ModelCard(f"---\n{_metadata(facts).to_yaml()}\n---\n\n" + "\n\n".join(_paragraphs(facts)))
    return str(card).rstrip("\n") + "\n"


def _metadata(facts: Facts) -> ModelCardData:
    """The Hub's metadata; figures are rounded to what the tables print."""
    found = list(_eval_results(facts)) if facts.was_measured else None
    return ModelCardData(
        language="en",
        license="apache-2.0",
        library_name="timm",
        pipeline_tag="image-classification",
        tags=[*_TAGS, facts.task.name],
        metrics=sorted({result.metric_type for result in found}) if found else None,
        model_name=facts.name if found else None,
        eval_results=found,
    )


def _eval_results(facts: Facts) -> Iterator[EvalResult]:
    results = facts.results
    parts = {name: part["one_view"] for name, part in results.get("sources", {}).items()}
    if not parts:
        parts = dict.fromkeys(results["data"], results["one_view"])
    where = ("left out", "never seen") if facts.by_hospital else ("grouped folds", "out of fold")
    named = {name: (view, f"{name}, {where[0]}", where[1]) for name, view in parts.items()}
    for file, found in facts.external.items():
        name = "+".join(found["data"])
        named[file.removesuffix(".json")] = found["figures"], f"{name}, never seen", found["split"]
    for key, (view, title, split) in named.items():
        for figure, (kind, words) in _METRICS.items():
            if figure in view and view[figure]["value"] is not None:
                yield EvalResult(
                    task_type="image-classification",
                    task_name=facts.task.title,
                    dataset_type=key,
                    dataset_name=title,
                    dataset_split=split,
                    metric_type=kind,
                    metric_name=words,
                    metric_value=round(view[figure]["value"], 4),
                )


def _paragraphs(facts: Facts) -> Iterator[str]:
    """The card from top to bottom; a blank line parts its paragraphs."""
    name, noun, block = facts.name, facts.task.image_noun, facts.config["bcx"]
    training, recipe = block["training"], block["training"]["recipe"]
    loads, further = wording.TIMM.get(block["head"], ("the backbone", ""))
    yield f"# {name}"
    yield f"{facts.task.title}. {_network(facts)} **For research and teaching, never for diagnosis.**"
    yield f'```python\nimport bcx\n\nprediction = bcx.load("{name}").predict("scan.png")\n```'
    yield (
        f'Plain timm loads {loads} too: `timm.create_model("local-dir:checkpoints/{name}", pretrained=True{further})`.'
    )
    yield "## What it is for"
    yield (
        f"Research and teaching on one {noun} at a time: to see what such a network answers, where it looked, how "
        "sure it is and when it should not be believed; to compare recipes and to study how figures depend on splits, "
        "hospitals and machines."
    )
    yield "## What it is not for"
    yield (
        "Any decision about a person: no diagnosis, no screening, no reassurance, no second opinion. It is no medical "
        "device and nobody has tested it on patients. It knows one picture: no history, no second plane, no age. Not "
        f"for pictures of anything but a {noun}: its input check stops most others, not all."
    )
    yield "## Data"
    yield _markdown(tables.data_table(training.get("data", {})))
    yield "\n".join(f"- {wording.DATA.get(source, f'`{source}`: {wording.OWN_DATA}.')}" for source in training["data"])
    yield "No picture of a patient, nor a crop of one, is in this repository."
    yield "## Starting weights"
    yield wording.start_words(recipe["init"])
    yield "## Training"
    yield (
        f"{recipe['epochs']} epochs, batch {recipe['batch_size']}, learning rate {recipe['lr']:g} "
        f"(head {recipe['head_lr']:g}), seed {recipe['seed']}, {recipe['size']} pixels, {recipe['precision']}; "
        f"{training['seconds']:.0f} s on {training['machine']['cores']} cores. Command: `{training['command']}`."
    )
    if not facts.was_measured:
        yield "## Figures"
        yield "None were measured."
        return
    yield "## How it was measured"
    yield (
        f"{wording.protocol(facts)} In brackets: 95 % bootstrap intervals over groups. A class that no scan of a "
        "source has leaves some figures without meaning: they are left out, and macro figures are means over the rest. "
        "The calibration error grows when scans repeat, so that its interval leans upwards."
    )
    results = facts.results
    yield (
        f"Temperature {results['temperature']:.3f}, fitted on these logits alone: calibration error (ECE) "
        f"{results['uncalibrated']['ece']:.3f} before, {results['report']['ece']:.3f} after. `oof.csv` beside this "
        f"file holds every answer; `bcx reproduce {name}` derives the figures from it again."
    )
    yield "## What was measured"
    yield from map(_titled, tables.measured_tables(facts))
    for mark, part in results.get("without", {}).items():
        accuracy, auc = part["one_view"]["accuracy"], part["one_view"]["macro_auc"]
        yield (
            f"Without the {part['left_out']} scans marked '{mark}': accuracy {tables.in_percent(accuracy)}, "
            f"ROC-AUC {tables.in_units(auc)}."
        )
    yield from _decision(facts)
    if facts.places is not None and facts.places.get("localisation"):
        yield _titled(tables.places_table(facts.places["localisation"]))
    yield from _elsewhere(facts)
    if files := facts.figures():
        yield "## Pictures of the figures"
    for file in files:
        words = wording.caption(file.stem)
        yield f"**{words}**"
        yield f"![{words}]({Path(os.path.relpath(file, facts.folder)).as_posix()})"
    sources = {0: "no scans", 1: "one source"}.get(len(training["data"]), f"{len(training['data'])} sources")
    calibrated = "scans of these sources" if facts.decisions is None else "answers to hospitals that no network saw"
    yield "## Limits"
    yield (
        f"- It learned from {sources} ({', '.join(training['data'])}). Scans from elsewhere are read worse, and by how "
        "much nobody knows who has not measured it there: `bcx evaluate`.\n"
        f"- Probabilities were calibrated on {calibrated}; where the classes occur in other shares, they are wrong, "
        "unless the prevalence is stated.\n"
        "- It has an answer to every picture. The input check lets some pass that are no scans.\n"
        "- Its maps are accounts of a sum, and no reasons. What it misses does not light up.\n"
        "- The figures are those of this recipe over groups; near-duplicates that nobody has found yet would raise "
        "them."
    )
    yield "## Licence"
    yield (
        "Code and weights: Apache-2.0. Whether the terms of the data bind weights trained on it is for you to judge "
        "before any use beyond research. What the starting weights and the data bring along is said above."
    )


def _network(facts: Facts) -> str:
    """What answers, in a sentence or two."""
    block = facts.config["bcx"]
    said = f"A {facts.config['architecture']} "
    said += wording.HEADS.get(block["head"], f"with a head called '{block['head']}'.")
    members, whole_image = block.get("members", 1), block.get("picture")
    lesion = members - len(whole_image["members"]) if whole_image else members
    if lesion > 1:
        said += f" {lesion} such networks answer together, every second one from the mirror image: their mean."
    if whole_image:
        share = whole_image["share"]
        said += (
            f" Beside {'them' if lesion > 1 else 'it'} a plain network of the same architecture reads the whole "
            f"picture, once, and has {100 * share['presence']:.0f} % of the answer to 'is there a lesion' and "
            f"{100 * share['kind']:.0f} % of 'malignant or benign'."
        )
    recipe = block["training"]["recipe"]
    parts = recipe.get("members") or [recipe]
    if means := [len(part["averaged"]) for part in parts if part.get("averaged")]:
        said += " Its weights are" if len(parts) == 1 else ""
        said += f" The weights of {len(means)} of the {len(parts)} networks are each" if len(parts) > 1 else ""
        said += f" the mean of {max(means)} trainings, which varied the pictures in different ways."
    return said


def _decision(facts: Facts) -> Iterator[str]:
    """What the checkpoint does with its probabilities."""
    found, stored = facts.results.get("decisions"), facts.config["bcx"].get("decisions") or {}
    if found is None:
        return
    positive = facts.task.positive
    yield "### The decision"
    if (rule := stored.get("rule")) is not None:
        yield (
            f"{rule['what']} The rule and the temperature ({facts.config['bcx']['temperature']:.3f}) are fitted on "
            f"{rule['fitted_on']}, every hospital weighing the same. A scan unlike those learned from is referred too."
        )
        pairs = zip(facts.task.classes, rule["prevalence"], strict=True)
        yield (
            f"Operating points: `screening` answers {positive} from {rule['screening_above']:.3f} on, "
            f"`rule-in` from {rule['rule_in_above']:.3f} on. Probabilities stand for the shares of the training scans "
            f"({', '.join(f'{name} {100 * share:.0f} %' for name, share in pairs)}); `prevalence` changes that by "
            "Bayes' rule."
        )
        yield (
            "The tables above decide each hospital by what was fitted on the others, scan by scan."
            if facts.by_hospital
            else "The tables above decide each fold by what was fitted on the other folds of the same hospitals."
        )
    elif "rule" in found["rules"]:
        yield f"Fitted on the out-of-fold answers: {found['rules']['rule']['what']}"
    else:
        yield _threshold(facts, found)
    if (study := facts.decisions) is not None:
        yield _titled(tables.harm_table(study, facts.task))
        yield _titled(tables.stored_points_table(study, facts.task))
        yield _titled(tables.calibration_table(study))
    if stored:
        yield 'This checkpoint stores the rule: from it come its `label`, and `decision` says "refer".'
    else:
        yield (
            "This checkpoint stores no rule: its `label` is the most probable class, and it refers nothing. The tables "
            "say what the rule would give."
        )


def _threshold(facts: Facts, found: dict[str, Any]) -> str:
    """The operating point and the referral of two classes."""
    point, refer, task = found["rules"]["operating_point"], found["rules"]["refer"], facts.task
    said = (
        f"The label is {task.classes[0]} where P({task.classes[0]}) is at least {point['normal_above']:.3f}, else "
        f"{task.positive}. The threshold was fitted on the out-of-fold answers; the tables decide each fold by "
        "thresholds fitted on the others."
    )
    if refer is not None:
        shares = [
            f"{source}: {100 * part['answered']:.0f} % answered, of which {100 * part['accuracy']:.1f} % right"
            for source, part in found["referral"].items()
            if part["accuracy"] is not None
        ]
        said += f" A scan is referred to a person where no class reaches {100 * refer['below']:.1f} %: "
        said += f"{'; '.join(shares)}."
    return said


def _elsewhere(facts: Facts) -> Iterator[str]:
    if not facts.external and facts.transfer is None:
        return
    yield "## Elsewhere"
    yield "Scans that no network here was trained on, reported as they came out."
    for file, found in facts.external.items():
        yield _titled(tables.external_table(found, facts.task))
        yield f"{_verdict(facts, found)} ({found['n']} scans in {found['groups']} groups; `{file}`)"
    if facts.transfer is not None:
        yield _titled(tables.transfer_table(facts.transfer, facts.task))


def _verdict(facts: Facts, found: dict[str, Any]) -> str:
    figures, task, home = found["figures"], facts.task, facts.results["one_view"]["accuracy"]
    text = f"Accuracy {tables.in_percent(figures['accuracy'])} against {tables.in_percent(home)} at home"
    finds, loses = figures.get(f"sensitivity_{task.positive}"), figures.get(f"lesions_called_{task.absent}")
    if finds and finds["value"] is not None:
        text += f", it finds {tables.in_percent(finds)} of the {task.positive} ones"
    if loses and loses["value"] is not None:
        text += f", calls {tables.in_percent(loses)} of the lesions {task.absent}"
    if home["value"] - figures["accuracy"]["value"] > _FAILED:
        return f"**It fails there.** {text}. Do not believe it on scans from elsewhere."
    return f"{text}."


def _titled(table: tables.Table) -> str:
    return f"### {table.title}\n\n{_markdown(table)}"


def _markdown(table: tables.Table) -> str:
    lines = [f"| {' | '.join(row)} |" for row in (table.head, *table.rows)]
    lines.insert(1, "|---" * len(table.head) + "|")
    return "\n".join([*lines, "", table.note] if table.note else lines)
