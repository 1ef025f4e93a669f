"""Options that several commands share: each is said once, so that it means and reads the same everywhere."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bcx.errors import ConfigError, check_name
from bcx.imaging.style import PALETTES
from bcx.networks.device import use_device


def refuse(options: Mapping[str, Any], how: str, expected: str) -> None:
    """Raise `ConfigError` for the first option that was given where it means nothing, such as "with --transfer"."""
    if given := next((name for name, value in options.items() if value), None):
        raise ConfigError(f"{given} was given {how}.", expected=expected, remedy=f"Leave {given} out.")


def cluster_of(engine: str, address: str | None) -> str | None:
    """Return the cluster that `--engine` and `--address` ask for, as `bcx.train.runs.carry_out` takes it."""
    from bcx.inference.cluster import HERE

    check_name(engine, ("local", "ray"), "engine")
    if engine == "local":
        refuse({"--address": address}, "without --engine ray", "both")
    return (address or HERE) if engine == "ray" else None


AddressOption = Annotated[
    str | None, typer.Option(help="With --engine ray: a running cluster; default: one on this machine.")
]
CheckpointArgument = Annotated[str, typer.Argument(help="A checkpoint: its name or folder.")]
ColoursOption = Annotated[
    str,
    typer.Option("--colours", metavar="|".join(PALETTES), help="Colours of maps; signed: purple for, green against."),
]
ConfigArgument = Annotated[
    Path | None, typer.Argument(metavar="[CONFIG.yaml]", help="A recipe, such as those in configs/.")
]
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A checkpoint: its name or folder.")]
RecipeArgument = Annotated[Path, typer.Argument(metavar="CONFIG", help="A recipe's file, or its name in configs/.")]
RepoArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the Hub.")]

ArchOption = Annotated[str | None, typer.Option(help="timm's name of the network.")]
ContourOption = Annotated[bool, typer.Option("--contour", help="Draw maps as lines of equal evidence.")]
_data = partial(typer.Option, "--data", metavar="NAME=DIR")
DataOption = Annotated[
    list[str] | None,
    _data(
        help="A source of scans; may be given several times. busi, busbra, breast, idc, breakhis and breakhis-40x "
        "(-100x, -200x, -400x) are known layouts; with any other name the layout is told from what is there."
    ),
]
_device = partial(typer.Option, "--device", metavar="auto|cpu|cuda|mps", callback=use_device)
DeviceOption = Annotated[str, _device(help="Where networks run; auto: on a CUDA GPU where there is one.")]
EngineOption = Annotated[
    str, typer.Option(metavar="local|ray", help="ray: trainings side by side, each in a worker of its own.")
]
EpochsOption = Annotated[int | None, typer.Option(help="Epochs.")]
InitOption = Annotated[str | None, typer.Option(metavar="FILE|timm|scratch", help="Starting weights.")]
LabelledOption = Annotated[list[str] | None, _data(help="Labelled scans, as in bcx train; may be given several times.")]
MaskedOption = Annotated[list[str], _data(help="Scans with lesion masks.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Only you can see it, if it is made now.")]
ResumeOption = Annotated[
    bool, typer.Option(help="Go on with what an unfinished run of the same settings has kept, or begin anew.")
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of the run.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any other setting of the recipe.")
]
TrainedOption = Annotated[list[str], _data(help="The scans it was trained on, as in bcx train.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="Name every file that was left out, and why.")]
ViewsOption = Annotated[
    int, typer.Option("--views", min=1, max=2, help="2 also looks at the mirrored scan and averages.")
]
