"""`bcx synth`: train generators of scans, draw pictures from them, and measure whether they help a classifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer import Argument, Option

from bcx.cli.options import DataOption, DeviceOption, EpochsOption, InitOption, RecipeArgument, SetOption
from bcx.cli.progress import stages
from bcx.cli.sources import command_line, read_recipe, read_records, read_settings
from bcx.errors import ConfigError

app = typer.Typer(name="synth", no_args_is_help=True, help="Generated scans, and whether they help.")

WORK = Path("runs/synth")


@app.command()
def train(
    config: RecipeArgument,
    data: DataOption = None,
    label: list[str] | None = Option(None, help="Only this class; may be given several times. Default: the recipe's."),
    fold: int | None = Option(None, min=0, help="Leave this fold's scans out. Without it, all scans are learnt from."),
    epochs: EpochsOption = None,
    settings: SetOption = None,
    out: Path = Option(WORK / "generators", help="Folder of the generators."),
    device: DeviceOption = "auto",
) -> None:
    """Train a generator per class. Killed at any moment, the same command goes on where it was."""
    from bcx.studies.synthesis.fit import train_generator
    from bcx.studies.synthesis.recipes import GeneratorJob, load_synth_recipe
    from bcx.train.config import find_recipe
    from bcx.train.crossval import split_fold

    values = _settings(settings) | ({} if epochs is None else {"epochs": epochs})
    recipe = load_synth_recipe(find_recipe(config), values)
    if strange := sorted(set(label or []) - set(recipe.labels())):
        met, expected = f"The recipe makes no class '{strange[0]}'.", f"out of {', '.join(recipe.labels())}"
        raise ConfigError(met, expected=expected, remedy="Correct --label, or the recipe's classes.")
    records = read_records(read_recipe(None, data, None, task=recipe.task))
    cut = split_fold(records, fold)[0] if fold is not None else [one for one in records if one.fold is not None]
    with stages() as tell:
        for job in [GeneratorJob(fold, name, cut) for name in label or recipe.labels()]:

            def on_epoch(row: dict[str, Any], count: int, folder: str = job.folder) -> None:
                tell(folder, row["epoch"], count)

            train_generator(recipe, job, out, on_epoch)
            typer.echo(f"Written: {out / job.folder}")


@app.command()
def sample(
    generator: Path = Argument(metavar="GENERATOR", help="A generator.safetensors of bcx synth train."),
    out: Path = Option(..., "--out", "-o", help="Folder of the pictures."),
    count: int = Option(64, min=1, help="How many."),
    seed: int = Option(0, min=0, help="The same seed draws the same pictures."),
    data: DataOption = None,
    judge_by: str = Option("mobilenetv2-busi", help="Checkpoint whose features tell how good pictures are."),
    init: str = Option(
        "scratch", metavar="FILE|timm|scratch", help="ImageNet's weights judge too; scratch: they do not."
    ),
    sheet: Path | None = Option(
        None, metavar="PNG", help="Show real, generated and nearest real scans here; needs --data."
    ),
    device: DeviceOption = "auto",
) -> None:
    """Draw pictures, each marked as generated. With --data, judge them: quality.json, and copies of training scans."""
    if sheet is not None and not data:
        raise ConfigError("--sheet needs the real scans.", expected="--data NAME=DIR", remedy="Add it.")
    from bcx.studies.synthesis.generator import load_generator
    from bcx.studies.synthesis.quality import build_describers, judge_generator
    from bcx.train.provenance import describe_command, write_json

    loaded = load_generator(generator)
    files = loaded.write_samples(out, count, seed)
    typer.echo(f"Written: {len(files)} pictures in {out}")
    if not data:
        return
    start = read_recipe(None, data, None, task=loaded.recipe.task, init=init)
    describers = build_describers(judge_by, start)
    report = judge_generator(loaded, read_records(start), describers, seed=seed, count=count, sheet=sheet)
    copies = [files[position].name for position in report["flagged"]]
    command = command_line("synth sample", generator.name, data=start.data, count=count, seed=seed)
    write_json(out / "quality.json", {**describe_command(command), "of": loaded.about, **report, "copied": copies})
    for name, by in report["by"].items():
        kid = by["distances"]["kid"]
        typer.echo(f"KID by {name}: {kid['generated']['mean']:.3g}; of real scans: {kid['real']['mean']:.3g}")
    typer.echo(f"Nearer to a training scan than any real scan is: {len(copies)} of {count} (listed in quality.json)")


@app.command()
def study(
    config: RecipeArgument = Path("synth-study"),
    data: DataOption = None,
    init: InitOption = None,
    settings: SetOption = None,
    out: Path = Option(Path("results/studies/synth"), help="Folder of the results."),
    work: Path = Option(WORK, help="Folder of generators, pictures and runs; not for publication."),
    sheets: Path | None = Option(None, metavar="DIR", help="Sheets with real scans beside generated ones go here."),
    device: DeviceOption = "auto",
) -> None:
    """Train a classifier with and without generated pictures on the same grouped folds. It can be stopped."""
    from bcx.evaluate.words import interval
    from bcx.studies.synthesis.recipes import load_study
    from bcx.studies.synthesis.study import synth_study
    from bcx.train.config import find_recipe

    file = find_recipe(config)
    values = _settings(settings)
    if init is not None:
        values["classifier"] = {"init": init, **values.get("classifier", {})}
    chosen = load_study(file, values)
    named = data or [f"{name}={folder}" for name, folder in chosen.classifier.data.items()]
    recipe = read_recipe(None, named, None, task=chosen.classifier.task)
    name = file.stem if file.parent.name == "configs" else file.name
    command = command_line("synth study", name, data=recipe.data, init=chosen.classifier.init, set=settings)
    with stages() as tell:
        results = synth_study(
            chosen,
            read_records(recipe),
            out=out,
            work=work,
            command=command,
            sheets=sheets,
            on_epoch=lambda job, row, epochs: tell(job.folder, row["epoch"], epochs),
        )
    for row in results["differences"]:
        found = row["figures"]["macro_auc"]
        if found["low"] is not None:
            typer.echo(f"{row['question']} Macro ROC-AUC {interval(found, sign=True)}")
    typer.echo(f"Written: {out / (chosen.name + '.json')}")


def _settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Read KEY=VALUE; a key with a dot is one of a block, such as classifier.epochs."""
    values: dict[str, Any] = {}
    for key, value in read_settings(settings).items():
        block, dot, inner = key.partition(".")
        own = values.get(block)
        values[block] = (own if isinstance(own, dict) else {}) | {inner: value} if dot else value
    return values
