"""Does it help to fill rare classes with generated images? The same grouped folds for every answer.

Each training has a folder of its own below `work`: killed at any moment it goes on where it was, and finished it is not
trained again. Images stay in `work`; `out` receives figures only.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bcx.data.records import Record
from bcx.evaluate.canvas import CYCLE, dots, paper, publish, styled
from bcx.evaluate.intervals import figures_with_intervals
from bcx.evaluate.metrics import figure_counts, figure_names, or_none, weighted_figures
from bcx.evaluate.oof import label_positions, read_oof, view_probabilities, write_oof
from bcx.files import whole
from bcx.studies.corruptions import probability_columns
from bcx.studies.synthesis.fit import train_generator
from bcx.studies.synthesis.generator import Generator
from bcx.studies.synthesis.quality import build_describers, judge_generator
from bcx.studies.synthesis.recipes import ARMS, QUESTIONS, GeneratorJob, RunJob, StudyRecipe, plan_generators, plan_runs
from bcx.tasks import Task, get_task
from bcx.train.answer import answer_table
from bcx.train.fit import fit
from bcx.train.provenance import describe_run, read_json, write_json
from bcx.train.runs import ANSWERS, NOTE, OnEpoch, is_finished, noted


def synth_study(
    study: StudyRecipe,
    records: Sequence[Record],
    *,
    out: Path,
    work: Path,
    command: str,
    sheets: Path | None = None,
    on_epoch: Callable[[GeneratorJob | RunJob, dict[str, Any], int], None] = lambda *_: None,
) -> dict[str, Any]:
    """Train generators and classifiers, score every arm on the same folds, and write it all down.

    Args:
        out: receives `<name>.json`, whose content is returned, `<name>.scans.csv` (every answer) and `<name>.png`.
        work: generators, generated images and runs; not to be published.
        sheets: a folder for sheets with real scans beside generated ones; none are made without it.
        on_epoch: called with the job of a generator or classifier, its history row and the number of epochs.
    """
    task = get_task(study.classifier.task)
    plan, jobs, folder = plan_generators(study, records), plan_runs(study, records), work / "generators"
    generators = {
        (job.fold, job.label): train_generator(study.generator, job, folder, partial(on_epoch, job)) for job in plan
    }
    for run in jobs:
        _complete(run, generators, work, task, partial(on_epoch, run))
    answers, quality = _answers(study, jobs, work, task), {}
    describers = build_describers(study.judge_by, study.classifier) if plan else {}
    for job in plan:
        sheet = None if sheets is None else sheets / f"{job.folder.replace('/', '-')}.png"
        generator = generators[job.fold, job.label]
        quality[job.folder] = judge_generator(generator, records, describers, sheet=sheet)
    results = {
        **_summarise(study, records, jobs, answers, work, task, command),
        "generators": [{"folder": job.folder, **read_json(folder / job.folder / NOTE)} for job in plan],
        "quality": quality,
        "figure": f"{study.name}.png",
        "answers": f"{study.name}.scans.csv",
    }
    out.mkdir(parents=True, exist_ok=True)
    write_study_figure(results, out / results["figure"])
    with whole(out / results["answers"]) as file:
        answers.to_csv(file, index=False, float_format="%.5f", lineterminator="\n")
    write_json(out / f"{study.name}.json", results)
    return results


def _complete(
    job: RunJob, generators: Mapping[tuple[int | None, str], Generator], work: Path, task: Task, on_epoch: OnEpoch
) -> None:
    scope = job.fold if ARMS[job.arm].generated == "fold" else None
    used = {label: generators[scope, label] for label in job.wanted}
    fingerprint = job.fingerprint([used[label].about["fingerprint"] for label in sorted(used)])
    folder = work / "classifiers" / job.folder
    if is_finished(folder, fingerprint):
        return
    parts = (generated_records(each, job.wanted[label], job.seed, work) for label, each in used.items())
    made = list(chain.from_iterable(parts))
    with noted(folder, fingerprint, n_train=len(job.train), n_generated=len(made), n_held=len(job.held)):
        fitted = fit(job.recipe, [*job.train, *made], out=folder, on_epoch=on_epoch)
        table, _ = answer_table(fitted.network, fitted.preprocess, job.held, job.fold, task)
        write_oof(folder / ANSWERS, table, task)


def generated_records(generator: Generator, count: int, seed: int, work: Path) -> list[Record]:
    """Generate images, write them below `work/pictures`, and return them as training records.

    Each is a group of its own; its key says which generator and seed it is from, so that it never passes for a scan.
    """
    label, mark = generator.label, generator.about["fingerprint"][:8]
    scope = "all" if generator.about["fold"] is None else f"fold-{generator.about['fold']}"
    folder = work / "pictures" / scope / f"{label}-{mark}"
    files = {f"generated/{scope}/{mark}/{file.name}": file for file in generator.write_samples(folder, count, seed)}
    return [Record(file, key, label, f"generated:{key}", "generated") for key, file in files.items()]


def _answers(study: StudyRecipe, jobs: Sequence[RunJob], work: Path, task: Task) -> pd.DataFrame:
    """Return a row per arm, seed and scan, the scans of each arm and seed in the same order."""
    parts = []
    for job in sorted(jobs, key=lambda job: study.arms.index(job.arm)):  # they come seed by seed, fold by fold
        frame = read_oof(work / "classifiers" / job.folder / ANSWERS, task)
        frame[probability_columns(task)] = view_probabilities(frame, task)[0]
        parts.append(frame.assign(arm=job.arm, seed=job.seed))
    columns = ["arm", "seed", "file", "group", "fold", "label", *probability_columns(task)]
    return pd.concat(parts, ignore_index=True)[columns]


def _summarise(
    study: StudyRecipe,
    records: Sequence[Record],
    jobs: Sequence[RunJob],
    answers: pd.DataFrame,
    work: Path,
    task: Task,
    command: str,
) -> dict[str, Any]:
    tables = {
        str(arm): [part for _, part in rows.groupby("seed", sort=False)]
        for arm, rows in answers.groupby("arm", sort=False)
    }
    first = next(iter(tables.values()))[0]
    labels, groups = label_positions(first, task), first["group"].to_numpy(str)
    names = ["accuracy", "balanced_accuracy", "macro_auc"]
    names += [f"{figure}_{label}" for figure in ("sensitivity", "specificity") for label in task.classes]
    chosen = [figure_names(task.classes).index(name) for name in names]
    counts = {name: figure_counts(labels, task.classes)[name] for name in names}
    per_seed = {
        arm: [weighted_figures(labels, part[probability_columns(task)].to_numpy()) for part in parts]
        for arm, parts in tables.items()
    }

    def mean(arm: str, weights: np.ndarray) -> np.ndarray:
        return np.mean([figures(weights)[chosen] for figures in per_seed[arm]], axis=0)

    arms: dict[str, Any] = {}
    for arm in tables:
        notes = [read_json(work / "classifiers" / job.folder / NOTE) for job in jobs if job.arm == arm]
        figures = figures_with_intervals(partial(mean, arm), counts, groups)
        single = zip(*(figures_of(np.ones(len(labels)))[chosen] for figures_of in per_seed[arm]), strict=True)
        arms[arm] = {
            "words": ARMS[arm].words,
            "real": round(float(np.mean([note["n_train"] for note in notes])), 1),
            "generated": round(float(np.mean([note["n_generated"] for note in notes])), 1),
            "seconds": round(sum(note["seconds"] for note in notes), 1),
            "figures": {
                name: {**figures[name], "seeds": [or_none(value) for value in values]}
                for name, values in zip(names, single, strict=True)
            },
        }
    differences = []
    for question, a, b in QUESTIONS:
        if a in tables and b in tables:
            difference = partial(lambda a, b, weights: mean(a, weights) - mean(b, weights), a, b)
            found = figures_with_intervals(difference, counts, groups)
            figures = {name: {key: found[name][key] for key in ("value", "low", "high")} for name in names}
            differences.append({"question": question, "a": a, "b": b, "figures": figures})
    used = [record for record in records if record.fold is not None]
    return {
        "what": "rare classes filled with generated pictures, against other ways, on the same grouped folds",
        "sizes": f"Generators at {study.generator.size} px, classifier at {study.classifier.size} px, "
        f"{study.classifier.epochs} epochs, folds {', '.join(map(str, sorted(study.folds)))}, "
        f"{len(study.seeds)} seeds, {len(labels)} scans in {len(np.unique(groups))} groups scored",
        **describe_run(study.classifier, used, command),
        "generator_recipe": study.generator.model_dump(mode="json"),
        "folds": sorted(study.folds),
        "seeds": list(study.seeds),
        "n": len(labels),
        "groups": len(np.unique(groups)),
        "note": "One view, the most probable class, no temperature. Each figure is the mean over seeds; intervals draw "
        "groups anew, the same ones for both arms of a difference. Seeds of one arm share their generators.",
        "arms": arms,
        "differences": differences,
    }


@styled
def write_study_figure(results: Mapping[str, Any], file: Path) -> None:
    """Draw accuracy, macro ROC-AUC, sensitivities and specificities of every arm with their intervals."""
    arms = results["arms"]
    names = [name for name in next(iter(arms.values()))["figures"] if name != "balanced_accuracy"]
    down = -(-len(names) // 4)
    figure, grid = paper(11, 0.9 + down * (0.5 + 0.24 * len(arms)), down, 4, sharey=True)
    for axes in grid[len(names) :]:
        axes.axis("off")
    places = range(0, -len(arms), -1)
    for axes, name in zip(grid, names, strict=False):
        for place, arm, colour in zip(places, arms.values(), CYCLE, strict=False):
            found = arm["figures"][name]
            dots(axes, [place], [found], colour)
            seeds = np.array(found["seeds"], float)  # None becomes nan, which is not drawn
            axes.plot(seeds, np.full(len(seeds), place), "|", color=colour, markersize=7)
        axes.set_title(figure_words(name))
        axes.set_yticks(places, list(arms))
        axes.grid(False, axis="y")
    figure.suptitle(
        f"{results['sizes']}. Dots: mean over seeds; bars: seeds; lines: 95 % interval over groups.", fontsize=8
    )
    publish(figure, file)


def figure_words(name: str) -> str:
    """Return a figure's name in words: `sensitivity_normal` becomes "sensitivity normal"."""
    return name.replace("_", " ").replace("auc", "ROC-AUC")
