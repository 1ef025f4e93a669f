"""`bcx train`, `crossval`, `tune`, `compare` and `leak`: recipes and flags in, checkpoints and results out."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from typer import Option

from bcx.cli import options, sources
from bcx.cli.progress import bars, tell_epoch, training_bar
from bcx.cli.sources import command_line, in_words, read_recipe, read_records, recipe_words
from bcx.errors import ConfigError

Start = StrEnum("Start", ["timm", "scratch"])


def train(
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    arch: options.ArchOption = None,
    init: options.InitOption = None,
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    settings: options.SetOption = None,
    out: Path | None = Option(None, help="Folder of the checkpoint; default checkpoints/<name>."),
    measured: Path | None = Option(
        None, metavar="DIR", help="Results of `bcx crossval` with this recipe: the temperature and the figures."
    ),
    log_with: str | None = Option(
        None, metavar="tensorboard", help="Also log the epochs, into the folder 'logs' in --out."
    ),
    device: options.DeviceOption = "auto",
) -> None:
    """Train a network and write its checkpoint. Killed at any moment, the same command goes on where it was.

    `accelerate launch -m bcx train ...` trains in several processes, each its share of every batch.
    """
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    from bcx.report.card import write_card
    from bcx.train.crossval import train_checkpoint
    from bcx.train.fit import training_steps
    from bcx.train.processes import processes
    from bcx.train.state import epoch_log

    steps = training_steps(recipe, [record for record in records if record.fold is not None])
    folder = out or Path("checkpoints") / recipe.name
    main = processes().is_main_process
    with training_bar(steps, quiet=not main) as (tell, advance), epoch_log(log_with, folder / "logs") as log:

        def on_epoch(row: dict[str, Any], count: int) -> None:
            tell([], row, count)
            if main:
                log(row)

        written = train_checkpoint(
            recipe,
            records,
            folder,
            command=_command("train", config, recipe, arch=arch, epochs=epochs, set=settings),
            measured=measured,
            on_epoch=on_epoch,
            on_batch=advance,
        )
    if main:
        write_card(written)
        typer.echo(f"Written: {written}")


def _command(name: str, config: Path | None, recipe: Any, **given: Any) -> str:
    words = recipe_words(config)
    return command_line(name, *words, data=recipe.data, init=recipe.init, seed=recipe.seed, **given)


def crossval(
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    arch: options.ArchOption = None,
    init: options.InitOption = None,
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    settings: options.SetOption = None,
    out: Path | None = Option(None, help="Folder of the results; default results/<name>."),
    fold: list[int] | None = Option(None, help="Run only this fold; may be given several times."),
    engine: options.EngineOption = "local",
    address: options.AddressOption = None,
    device: options.DeviceOption = "auto",
) -> None:
    """Train once per grouped fold, answer the fold left out, and write oof.csv and results.json."""
    cluster = options.cluster_of(engine, address)
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    from bcx.evaluate.derived import noted_scans
    from bcx.train import crossval as folded
    from bcx.train.fit import training_steps
    from bcx.train.processes import processes

    folds = sorted(set(fold or (record.fold for record in records if record.fold is not None)))
    folder = out or Path("results") / recipe.name
    main = processes().is_main_process
    steps = sum(training_steps(recipe, folded.split_fold(records, number)[0]) for number in folds)
    command = _command("crossval", config, recipe, arch=arch, epochs=epochs, set=settings)
    with training_bar(steps, quiet=not main) as (tell, advance):
        results = folded.crossval(
            recipe,
            records,
            out=folder,
            command=command,
            only=folds,
            leave_out=noted_scans(record.key for record in records),
            on_epoch=lambda number, row, count: tell([f"fold {number}"], row, count),
            on_batch=advance,
            cluster=cluster,
        )
    if not main:
        return
    if results is None:
        typer.echo(f"Folds {folds} are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        typer.echo(f"{name}: {in_words(results['one_view'][name])}")
    typer.echo(f"Written: {folder / 'results.json'}")


def tune(
    out: Path = Option(..., help="Folder of the search."),
    trials: int = Option(..., min=1, help="Trials in all; those of earlier calls count."),
    fold: int = Option(..., min=0, help="The outer fold, which takes no part: measure on it afterwards."),
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    arch: options.ArchOption = None,
    init: options.InitOption = None,
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    settings: options.SetOption = None,
    inner_folds: int = Option(3, min=2, max=20, help="Grouped folds that the training part is cut into."),
    run_folds: int | None = Option(None, min=1, help="How many of these each trial trains on; default all."),
    engine: options.EngineOption = "local",
    address: options.AddressOption = None,
    device: options.DeviceOption = "auto",
) -> None:
    """Search for learning rates, dropout, weight decay, augmentation, head and freezing; write best.yaml.

    Killed at any moment, the same command goes on where it was.
    """
    cluster = options.cluster_of(engine, address)
    recipe = read_recipe(config, data, settings, arch=arch, init=init, epochs=epochs, seed=seed)
    records = read_records(recipe)
    from bcx.train import tune as search

    run_on = inner_folds if run_folds is None else min(run_folds, inner_folds)
    plan: dict[str, Any] = {"fold": fold, "inner_folds": inner_folds, "run_folds": run_on, "trials": trials}
    chosen = {name: getattr(recipe, name) for name in ("data", "arch", "init", "epochs", "seed")} | {"set": settings}
    with bars(lasting=True) as progress:
        each = run_on * recipe.epochs
        bar = progress.add_task("tuning, epochs", total=trials * each)

        def on_epoch(trial: int, inner: int, row: dict[str, Any], count: int) -> None:
            tell_epoch(progress, [f"trial {trial}", f"inner fold {inner}"], row, count)
            progress.advance(bar)

        def on_trial(trial: Any, ended: int) -> None:
            progress.update(bar, completed=ended * each)  # a trial that was stopped early counts as whole
            value = "" if trial.value is None else f", {trial.value:.3f}"
            progress.console.print(f"trial {trial.number}: {trial.state.name.lower()}{value}", highlight=False)

        results = search.tune(
            recipe,
            records,
            out=out,
            command=command_line("tune", *recipe_words(config), **chosen, **plan),
            on_epoch=on_epoch,
            on_trial=on_trial,
            cluster=cluster,
            **plan,
        )
    best, own = results["best"], results["recipe_as_it_stood"]
    beside = "" if own is None else f" (the recipe as it stood: {own['value']:.3f})"
    typer.echo(f"Best inner ROC-AUC: {best['value']:.3f} in trial {best['trial']}{beside}")
    for name, value in best["values"].items():
        typer.echo(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
    typer.echo(f"Written: {out / search.BEST_FILE}")


def compare(
    out: Path = Option(..., help="Folder of the results; one folder per architecture inside."),
    archs: str = Option(..., metavar="A,B,...", help="Architectures: timm's names, and tiny_cnn."),
    config: options.ConfigArgument = None,
    data: options.DataOption = None,
    init: options.InitOption = None,
    init_for: list[str] | None = Option(
        None, metavar="ARCH=FILE|timm|scratch", help="Starting weights of one architecture; --init is the recipe's own."
    ),
    init_others: Start = Option(
        Start.timm,
        metavar="timm|scratch",
        help="Starting weights of the others. timm fetches ImageNet weights; scratch needs no connection, and "
        "every table says so.",
    ),
    folds: str | None = Option(None, metavar="0,1,...", help="Folds to run; default all."),
    epochs: options.EpochsOption = None,
    seed: options.SeedOption = None,
    settings: options.SetOption = None,
    set_for: list[str] | None = Option(
        None, metavar="ARCH:KEY=VALUE", help="A setting of one architecture, such as vgg16:epochs=2."
    ),
    engine: options.EngineOption = "local",
    address: options.AddressOption = None,
    device: options.DeviceOption = "auto",
) -> None:
    """Train several architectures on the same grouped folds, and write one leaderboard.

    Killed at any moment, the same command goes on where it was; what is finished is not run again.
    """
    cluster = options.cluster_of(engine, address)
    recipe = read_recipe(config, data, settings, init=init, epochs=epochs, seed=seed)
    from bcx.studies import compare as study

    names, inits = [arch.strip() for arch in archs.split(",")], dict(sources.pairs(init_for, "--init-for ARCH=FILE"))
    entrants = study.plan_comparison(recipe, names, inits=inits, others=init_others.value, changes=_changes(set_for))
    records = read_records(recipe)
    at_hand = sorted({record.fold for record in records if record.fold is not None})
    chosen = at_hand if folds is None else sorted(set(sources.numbers("--folds", folds, at_hand)))
    each = {entrant.recipe.epochs for entrant in entrants}
    single = [f"{entrant.recipe.arch}:epochs={entrant.recipe.epochs}" for entrant in entrants] if len(each) > 1 else []
    starts = [f"{entrant.recipe.arch}={Path(entrant.recipe.init).name}" for entrant in entrants]
    given: dict[str, Any] = {"data": recipe.data, "init_for": starts, "folds": ",".join(map(str, chosen))}
    given |= {"epochs": None if single else each.pop(), "set_for": single, "seed": entrants[0].recipe.seed}
    command = command_line("compare", *recipe_words(config), f"--archs {archs}", **given)
    with bars(lasting=True) as progress:
        total = sum(entrant.recipe.epochs * len(chosen) for entrant in entrants)
        bar, ended = progress.add_task("comparing, epochs", total=total), []

        def on_epoch(entrant: Any, fold: int, row: dict[str, Any], count: int) -> None:
            tell_epoch(progress, [entrant.recipe.arch, f"fold {fold}"], row, count)
            progress.advance(bar)

        def on_done(entrant: Any) -> None:
            ended.append(entrant.recipe.epochs)  # also where it was finished before
            progress.update(bar, completed=sum(ended))

        results = study.compare(
            entrants,
            records,
            out=out,
            folds=chosen,
            command=command,
            on_epoch=on_epoch,
            on_done=on_done,
            cluster=cluster,
        )
    typer.echo(study.leaderboard_markdown(results))
    typer.echo(f"Written: {out / 'results.json'}")


def _changes(texts: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    form = "--set-for ARCH:KEY=VALUE"
    changes: dict[str, dict[str, Any]] = {}
    for where, value in sources.read_settings(texts, form).items():
        arch, _, key = where.partition(":")
        if not key:
            raise ConfigError(f"'{where}' names no setting.", expected=form, remedy="Add the key.")
        changes.setdefault(arch, {})[key] = value
    return changes


def leak(
    config: options.RecipeArgument,
    data: options.DataOption = None,
    init: options.InitOption = None,
    epochs: options.EpochsOption = None,
    settings: options.SetOption = None,
    out: Path | None = Option(None, help="Folder of the results; default results/studies/leak/<name>."),
    seeds: str = Option("0,1,2", help="Seeds, with commas between them."),
    train_only: list[int] | None = Option(
        None, help="Train only this fold; may be given several times. results.json follows once all are there."
    ),
    engine: options.EngineOption = "local",
    address: options.AddressOption = None,
    device: options.DeviceOption = "auto",
) -> None:
    """Train a recipe under a random and under a grouped split, and measure the difference. It can be stopped."""
    cluster = options.cluster_of(engine, address)
    recipe = read_recipe(config, data, settings, init=init, epochs=epochs)
    records = read_records(recipe)
    from bcx.studies.leak import is_done, leak_study, plan_protocols
    from bcx.train.fit import training_steps

    folder = out or Path("results", "studies", "leak", recipe.name)
    wanted = sources.numbers("--seeds", seeds)
    runs = [run for run in plan_protocols(recipe, records, wanted) if not train_only or run.fold in train_only]
    left = [run for run in runs if not is_done(run, folder)]
    name = config.name if config.parent.name in ("", "configs") else config.stem
    given: dict[str, Any] = {"init": recipe.init, "epochs": epochs, "set": settings}
    command = command_line("leak", name, data=recipe.data, **given, seeds=",".join(map(str, wanted)))
    with training_bar(sum(training_steps(run.recipe, run.train) for run in left)) as (tell, advance):
        results = leak_study(
            recipe,
            records,
            out=folder,
            command=command,
            seeds=wanted,
            only=train_only,
            on_epoch=lambda run, *told: tell([run.protocol, f"seed {run.recipe.seed}", f"fold {run.fold}"], *told),
            on_batch=advance,
            cluster=cluster,
        )
    if results is None:
        typer.echo("The folds asked for are done; results.json follows once all are.")
        return
    for name in ("accuracy", "macro_auc"):
        found = {protocol: results["protocols"][protocol]["figures"][name] for protocol in ("random", "grouped")}
        texts = [f"{name}, {protocol}: {in_words(figure)}" for protocol, figure in found.items()]
        typer.echo("; ".join([*texts, f"difference: {in_words(results['leak'][name])}"]))
    typer.echo(f"Written: {folder / 'results.json'}")
