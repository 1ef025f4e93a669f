"""Search for settings within the training part of one outer fold, which is itself never seen.

Optuna (Akiba et al. 2019) draws settings by its tree-structured Parzen estimator and stops trials whose inner ROC-AUC
falls below the median of earlier trials at the same epoch. The first trial is the recipe as it stands.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import timm
import torch
import yaml
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from bcx.data.records import Record
from bcx.data.splits import assign_folds
from bcx.errors import CheckpointError, ConfigError, SplitError, TrainingError
from bcx.evaluate.figures import importance_figure
from bcx.files import whole, write_rows
from bcx.tasks import get_task
from bcx.train.config import DenseRecipe, Recipe, require_one_training
from bcx.train.crossval import split_fold
from bcx.train.fit import fit
from bcx.train.heads import recipe_network
from bcx.train.provenance import describe_run, hash_of, write_json
from bcx.train.runs import carry_out
from bcx.train.state import STATE_FILE

BEST_FILE = "best.yaml"
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)

#: name -> (lowest, highest, logarithmic) of a number, (lowest, highest) of freezing, or the choices.
Space = dict[str, Any]
_FLOATS: Space = {
    "lr": (1e-5, 3e-3, True),
    "head_lr": (1e-4, 1e-2, True),
    "weight_decay": (1e-4, 0.3, True),
    "drop": (0.0, 0.6, False),
    "augment": (0.0, 1.5, False),
}


def search_space(recipe: Recipe) -> Space:
    """Return what is searched; a frozen base needs no learning rate and no frozen stages, and some heads are kept."""
    space = {name: ends for name, ends in _FLOATS.items() if name != "lr" or not recipe.freeze_base}
    if not recipe.freeze_base:
        with torch.device("meta"):
            _, backbone = recipe_network(recipe.model_copy(update={"init": "scratch"}), get_task(recipe.task))
        stages = max(timm.models.group_modules(backbone, backbone.group_matcher(coarse=True)))
        space["freeze_stages"] = (0, min(stages - 1, 12))  # one stage learns at least; 12 as in `Recipe`
    if recipe.lesion is None and recipe.arch != "tiny_cnn":
        space["head"] = ["linear", "dense"]
    return space


def own_values(recipe: Recipe, space: Space) -> dict[str, Any]:
    """Return the recipe's own point in the space, without what lies outside the ranges."""
    values = recipe.model_dump() | {"head": "linear"}
    if recipe.dense is not None:
        values |= {"head": "dense", "drop": recipe.dense.drops[-1]}
    return {name: values[name] for name, ends in space.items() if name == "head" or ends[0] <= values[name] <= ends[1]}


def draw_values(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Ask the search for one value of each setting."""
    for name, range_ in space.items():
        if name == "head":
            trial.suggest_categorical(name, range_)
        elif name == "freeze_stages":
            trial.suggest_int(name, *range_)
        else:
            trial.suggest_float(name, *range_[:2], log=range_[2])
    return trial.params


def apply_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return the recipe with these settings.

    `drop` is the dropout before the output, whichever head there is. "dense" is the recipe's own dense head or, where
    it has none, 256 units over the averaged map.
    """
    changes = dict(values)
    head = changes.pop("head", "linear" if recipe.dense is None else "dense")
    dense = None if head == "linear" else recipe.dense or DenseRecipe.model_validate({})
    if dense is not None and "drop" in changes:
        dense = dense.model_copy(update={"drops": (*dense.drops[:-1], changes["drop"])})
    return recipe.model_copy(update={**changes, "dense": dense})


def inner_folds_of(records: Sequence[Record], fold: int, count: int, seed: int) -> list[list[Record]]:
    """Cut the training part of an outer fold into `count` grouped folds of its own."""
    train, _ = split_fold(records, fold)
    cut = assign_folds([replace(record, fold=None) for record in train], count, seed)
    return [[record for record in cut if record.fold == number] for number in range(count)]


def tune(
    recipe: Recipe,
    records: Sequence[Record],
    *,
    fold: int,
    trials: int,
    out: Path,
    command: str,
    inner_folds: int,
    run_folds: int,
    on_epoch: Callable[[int, int, dict[str, Any], int], object] = lambda *_: None,
    on_trial: Callable[[FrozenTrial, int], object] = lambda *_: None,
    cluster: str | None = None,
) -> dict[str, Any]:
    """Search, and write `best.yaml`, `trials.csv`, `importance.png` and `results.json`.

    The search lives in `study.log` (Optuna's journal), and goes on where an interrupted one was, to the epoch: a
    trial's folder is named by its settings, so that it is taken up again and its network's snapshot found.

    Args:
        recipe: where the search starts; inner folds watch every trial, in place of its own inner part.
        fold: the outer fold; none of its scans is read.
        trials: trials in all, those of earlier calls included.
        inner_folds: grouped folds that the training part is cut into; `run_folds` of these each trial trains on.
        on_epoch: called with trial, inner fold, history row, number of epochs.
        on_trial: called when a trial has ended, with the number of those that have.
        cluster: address of a Ray cluster, for trials side by side (see `bcx.train.runs.carry_out`).
    """
    require_one_training(recipe)
    recipe = recipe.model_copy(update={"inner_fraction": 0.0, "patience": None})
    parts = inner_folds_of(records, fold, inner_folds, recipe.seed)
    space = search_space(recipe)
    out.mkdir(parents=True, exist_ok=True)
    study = _open_study(recipe, space, parts, run_folds, out)

    def count(*states: TrialState) -> int:
        return len(study.get_trials(deepcopy=False, states=states))

    def drawn() -> Iterator[tuple[optuna.Trial, Recipe]]:
        while count(*_ENDED, TrialState.RUNNING) < trials:
            trial = study.ask()
            yield trial, apply_values(recipe, draw_values(trial, space))

    do = partial(_run_trial, study, parts, run_folds, out)
    told: dict[str, Callable[..., object]] = {"on_epoch": on_epoch}
    for trial, _ in carry_out(drawn(), do, told, out=out, most=trials - count(*_ENDED), cluster=cluster):
        on_trial(study.trials[trial.number], count(*_ENDED))

    finished = study.get_trials(states=(TrialState.COMPLETE,))
    if not finished:
        raise TrainingError("No trial was finished.", expected="at least one", remedy="Ask for more with --trials.")
    best = study.best_trial
    importances = None  # of fewer than four trials they would be noise
    if len(finished) >= 4 and len({trial.value for trial in finished}) > 1:
        # How much of the differences between finished trials each setting explains (Hutter et al. 2014).
        shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=recipe.seed))
        importances = {name: round(float(share), 4) for name, share in shares.items()}
        importance_figure(importances, out / "importance.png")
    own = next((trial for trial in finished if trial.number == 0), None)
    results = {
        "what": "search for settings within the training part of one outer fold",
        **describe_run(recipe, [record for part in parts for record in part], command),
        "outer_fold": {"fold": fold, "scans_never_seen": len(split_fold(records, fold)[1])},
        "inner_folds": {"cut": len(parts), "trained": run_folds, "scans": [len(part) for part in parts]},
        "decides": "mean over inner folds of the last epoch's macro ROC-AUC",
        "space": space,
        "trials": {state.name.lower(): count(state) for state in TrialState},
        "best": {"trial": best.number, "value": best.value, "inner": best.user_attrs["inner"], "values": best.params},
        "recipe_as_it_stood": None if own is None else {"trial": 0, "value": own.value},
        "importance": importances,
        "seconds": round(sum(trial.user_attrs.get("seconds", 0) for trial in study.trials), 1),
        "note": f"The best of several values is an optimistic one: measure {BEST_FILE} on fold {fold}, which took no "
        "part. The scans of the other folds chose these settings, so figures over all folds are slightly optimistic.",
    }
    columns = ("trial", "state", "value", "epochs", "seconds", *space)
    rows = []
    for t in study.trials:
        done = len(t.intermediate_values), t.user_attrs.get("seconds")
        rows.append((t.number, t.state.name.lower(), t.value, *done, *map(t.params.get, space)))
    write_rows(out / "trials.csv", columns, [dict(zip(columns, row, strict=True)) for row in rows])
    _write_best(out / BEST_FILE, apply_values(recipe, best.params), fold)
    write_json(out / "results.json", results)
    return results


def _open_study(recipe: Recipe, space: Space, parts: list[list[Record]], run: int, out: Path) -> optuna.Study:
    """Open or begin the search of this folder; trials that a kill has interrupted are queued again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name="tune",
        storage=JournalStorage(JournalFileBackend(str(out / "study.log"))),
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1),
    )
    mark = _mark(recipe.identity(), space, [[record.key for record in part] for part in parts], run)
    if study.user_attrs.get("mark", mark) != mark:
        raise ConfigError(
            f"The folder '{out.name}' holds a search with another recipe, other data or another fold.",
            expected="the same, to go on with that search",
            remedy="Choose another folder.",
        )
    study.set_user_attr("mark", mark)
    if not study.trials:
        study.enqueue_trial(own_values(recipe, space))
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)
    # A sampler that begins with the same seed each time would draw the first trials' settings again.
    study.sampler = optuna.samplers.TPESampler(seed=recipe.seed + len(study.trials), n_startup_trials=5)
    return study


def _mark(*content: Any) -> str:
    return hash_of(content)[:16]


def _run_trial(
    study: optuna.Study,
    parts: list[list[Record]],
    run: int,
    out: Path,
    drawn: tuple[optuna.Trial, Recipe],
    on_epoch: Callable[[int, int, dict[str, Any], int], object],
) -> None:
    """Train on each inner fold in turn; the trial's value is the mean of their last epochs' inner ROC-AUC."""
    trial, recipe = drawn
    folder = out / "trials" / _mark(recipe.identity())
    started, scores = time.perf_counter(), []
    state, value = TrialState.PRUNED, None
    try:
        for number in range(run):
            train = [record for other, part in enumerate(parts) if other != number for record in part]

            def report(row: dict[str, Any], epochs: int, number: int = number) -> None:
                on_epoch(trial.number, number, row, epochs)
                # The same step is the same epoch of the same inner fold in every trial: medians compare like with like.
                trial.report(_score(row), number * recipe.epochs + row["epoch"] - 1)
                if trial.should_prune():
                    raise optuna.TrialPruned

            place = folder / f"inner-{number}"
            fitted = fit(recipe, train, parts[number], out=place, on_epoch=report)
            scores.append(_score(fitted.history[-1]))
        state, value = TrialState.COMPLETE, sum(scores) / len(scores)
    except optuna.TrialPruned:
        pass
    except (TrainingError, CheckpointError) as end:  # a learning rate at which the loss, or the network, is not finite
        trial.set_user_attr("error", end.found)
    trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))
    trial.set_user_attr("inner", scores)
    study.tell(trial, value, state=state)
    for snapshot in folder.rglob(STATE_FILE):  # only now: until the trial is told, a kill must find them
        snapshot.unlink()


def _score(row: dict[str, Any]) -> float:
    if row["inner_roc_auc"] is None:
        raise SplitError(
            "An inner fold has scans of one class only.",
            expected="every class in each inner fold",
            remedy="Use fewer inner folds.",
        )
    return float(row["inner_roc_auc"])


def _write_best(file: Path, recipe: Recipe, fold: int) -> None:
    """Write a recipe without this machine's folders; `bcx train` and `bcx crossval` take it."""
    settings = recipe.model_dump(mode="json", exclude={"data", "init", "published"})
    head = (
        f"# Settings that `bcx tune` found within the training part of fold {fold}.\n"
        f"# Honest figures: bcx crossval {file.name} --fold {fold}. The other folds' scans chose these settings.\n"
        "# Start: --init FILE, --data NAME=FOLDER\n"
    )
    with whole(file) as partial:
        partial.write_text(head + yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
