"""`bcx data`: what a folder of training scans holds."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bcx.cli.options import VerboseOption
from bcx.cli.progress import name_left_out, stages

if TYPE_CHECKING:
    from rich.table import Table

    from bcx.data.check import Report

app = typer.Typer(name="data", no_args_is_help=True)


class Kind(StrEnum):
    """Layouts that can be asked for by name."""

    busi = "busi"
    busbra = "busbra"
    breast = "breast"
    idc = "idc"
    breakhis = "breakhis"
    folder = "folder"
    manifest = "manifest"


# Without this, Typer would merge the only command into its group and `bcx data check` would not be one.
@app.callback()
def _group() -> None:
    """Look at folders of scans before training on them."""


@app.command()
def check(
    source: Path = typer.Argument(
        help="A folder (BUSI, BUS-BRA, IDC, BreakHis, or one subfolder per class) or a CSV manifest.",
        metavar="FOLDER",
        exists=True,
    ),
    kind: Kind | None = typer.Option(None, help="What it is; without this it is told from what is there."),
    task: str | None = typer.Option(
        None,
        metavar="NAME|RECIPE.yaml",
        help="Whose classes are looked for: a task's name, or a recipe; without this, what suits the layout.",
    ),
    verbose: VerboseOption = False,
    split: str = typer.Option("dev", help="BUSI: dev, test, conflict or all. Manifest: a value of its column 'split'."),
) -> None:
    """Open every scan and mask, and print what there is and all that is wrong.

    Exit status: 0 nothing is wrong, 1 something is, 2 wrong usage.
    """
    from bcx.data.check import check_folder
    from bcx.data.readers import detect_kind
    from bcx.tasks import get_task

    found = kind.value if kind else detect_kind("", source)
    wanted: str | dict[str, Any] = task or _SUITS.get(found, "breast-ultrasound")
    if task is not None and task.endswith((".yaml", ".yml")):
        from bcx.train.config import load_recipe

        wanted = load_recipe(Path(task)).task
    with stages() as tell:
        on_file = partial(tell, "Opening files")
        report = check_folder(source, task=get_task(wanted), kind=found, split=split, on_file=on_file)
    _show(report)
    if verbose:
        name_left_out(report.left_out)
    if report.problems:
        raise typer.Exit(1)


_SUITS = {"idc": "histology-idc", "breakhis": "histology-breakhis"}
LAYOUTS = {
    "busi": "BUSI, by its published manifest",
    "busbra": "BUS-BRA, by its bus_data.csv",
    "breast": "BrEaST, by its manifest.csv",
    "idc": "IDC patches, a folder per patient",
    "breakhis": "BreakHis, by its published names",
    "folder": "a folder with one subfolder per class",
    "manifest": "a CSV manifest",
}


def _show(report: Report) -> None:
    from rich.console import Console
    from rich.text import Text

    # Names of files are shown as Text: square brackets in them are no markup.
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(f"{report.root}: {LAYOUTS[report.kind]}"))
    if report.records:
        console.print(_counts(report))
        if report.sizes:
            console.print(f"Scans are {report.sizes}.")
    for note in report.notes:
        console.print(Text(note))
    if not report.problems:
        console.print("No problems.", style="green")
        return
    console.print(f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}:", style="bold red")
    for problem in report.problems:
        console.print(Text(f"- {problem}"))


def _counts(report: Report) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(
        box=SIMPLE, show_footer=True, pad_edge=False, collapse_padding=True
    )  # narrow enough for five folds in 80 columns
    table.add_column("label", footer="all", no_wrap=True)
    labels = [label for label in report.task.classes if any(record.label == label for record in report.records)]
    columns = {
        "scans": [record.label for record in report.records],
        "groups": [label for _, label in sorted({(record.group, record.label) for record in report.records})],
        "masked": [record.label for record in report.records if record.masks],
    }
    footers = {"groups": len({record.group for record in report.records})}  # one group may hold two labels
    for fold in report.folds:
        columns[f"fold {fold}"] = [record.label for record in report.records if record.fold == fold]
    for name, found in columns.items():
        table.add_column(name, justify="right", footer=str(footers.get(name, len(found))))
    for label in labels:
        table.add_row(label, *(str(found.count(label)) for found in columns.values()))
    return table
