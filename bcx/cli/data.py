"""`bcx data check`, `bcx audit` and `bcx examples`: what folders of scans hold, and scans that bcx draws itself."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from bcx.cli.options import DeviceOption, ResumeOption, VerboseOption
from bcx.cli.progress import name_left_out, stages
from bcx.errors import ConfigError, writing

if TYPE_CHECKING:
    from bcx.audit.findings import Audit
    from bcx.data.reading import Reading
    from bcx.data.records import Record
    from bcx.tasks import Task

app = typer.Typer(name="data", no_args_is_help=True)

LAYOUTS = {
    "busi": "BUSI, by its published manifest",
    "busbra": "BUS-BRA, by its bus_data.csv",
    "breast": "BrEaST, by its manifest.csv",
    "idc": "IDC patches, a folder per patient",
    "breakhis": "BreakHis, by its published names",
    "folder": "a folder with one subfolder per class",
    "manifest": "a CSV manifest",
}
Kind = StrEnum("Kind", ["busi", "busbra", "breast", "idc", "breakhis", "folder", "manifest"])
_SUITS = {"idc": "histology-idc", "breakhis": "histology-breakhis"}


# Without this, Typer would merge the only command into its group and `bcx data check` would not be one.
@app.callback()
def _group() -> None:
    """Look at folders of scans before training on them."""


@app.command()
def check(
    source: Path = Argument(
        help="A folder (BUSI, BUS-BRA, IDC, BreakHis, or one subfolder per class) or a CSV manifest.",
        metavar="FOLDER",
        exists=True,
    ),
    kind: Kind | None = Option(None, help="What it is; without this it is told from what is there."),
    task: str | None = Option(
        None,
        metavar="NAME|RECIPE.yaml",
        help="Whose classes are looked for: a task's name, or a recipe; without this, what suits the layout.",
    ),
    verbose: VerboseOption = False,
    split: str = Option("dev", help="BUSI: dev, test, conflict or all. Manifest: a value of its column 'split'."),
) -> None:
    """Open every scan and mask, and print what there is and all that is wrong.

    Exit status: 0 nothing is wrong, 1 something is, 2 wrong usage.
    """
    from bcx.data.check import check_folder
    from bcx.data.readers import detect_kind
    from bcx.tasks import get_task
    from bcx.train.config import load_recipe

    found = kind.value if kind else detect_kind("", source)
    wanted: str | dict[str, Any] = task or _SUITS.get(found, "breast-ultrasound")
    if task is not None and task.endswith((".yaml", ".yml")):
        wanted = load_recipe(Path(task)).task
    with stages() as tell:
        on_file = partial(tell, "Opening files")
        report = check_folder(source, task=get_task(wanted), kind=found, split=split, on_file=on_file)
    _show(report, f"{source}: {LAYOUTS[found]}", get_task(wanted))
    if verbose:
        name_left_out(report.left_out)
    if report.problems:
        raise typer.Exit(1)


def _show(report: Reading, title: str, task: Task) -> None:
    # Names of files are shown as Text: square brackets in them are no markup.
    console = Console(soft_wrap=True, highlight=False)
    console.print(Text(title))
    if report.records:
        console.print(_counts(report.records, task))
    for note in report.notes:
        console.print(Text(note))
    count = len(report.problems)
    said = f"{count} problem{'s' if count > 1 else ''}:" if count else "No problems."
    console.print(said, style="bold red" if count else "green")
    for problem in report.problems:
        console.print(Text(f"- {problem}"))


def _counts(records: Sequence[Record], task: Task) -> Table:
    # Narrow enough for five folds in 80 columns.
    table = Table(box=SIMPLE, show_footer=True, pad_edge=False, collapse_padding=True)
    columns = {
        "scans": [record.label for record in records],
        "groups": [label for _, label in sorted({(record.group, record.label) for record in records})],
        "masked": [record.label for record in records if record.masks],
    }
    folds = sorted({record.fold for record in records if record.fold is not None})
    columns |= {f"fold {fold}": [record.label for record in records if record.fold == fold] for fold in folds}
    table.add_column("label", footer="all", no_wrap=True)
    for name, found in columns.items():
        # one group may hold two labels
        total = len({record.group for record in records}) if name == "groups" else len(found)
        table.add_column(name, justify="right", footer=f"{total}")
    for label in task.classes:
        if label in columns["scans"]:
            table.add_row(label, *(str(found.count(label)) for found in columns.values()))
    return table


def audit(
    folder: Path = Argument(metavar="FOLDER", exists=True, file_okay=False, help="Images, in subfolders or not."),
    split: Path | None = Option(
        None,
        metavar="CSV",
        exists=True,
        dir_okay=False,
        help="Columns file and split (or fold): which groups are on both sides?",
    ),
    out: Path | None = Option(
        None,
        "--out",
        "-o",
        metavar="DIR",
        file_okay=False,
        help="Write report.html and the tables here. The report shows the scans.",
    ),
    strict: bool = Option(False, "--strict", help="Exit with status 1 when anything was found."),
    resume: ResumeOption = True,
    verbose: VerboseOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Find duplicates, the same lesion twice, label conflicts, leaking splits and odd files.

    Stopped at any moment, the same command goes on where it was: what was seen of each file is kept in --out.

    Exit status: 0 the audit ran, whatever it found (1 with --strict when it found something), 2 wrong usage.
    """
    from bcx.audit.findings import write_report, write_tables
    from bcx.audit.run import audit as run

    if out is not None:
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)

    def write(found: Audit) -> None:
        if out is not None:
            with writing(out):
                write_report(found, out / "report.html")
                write_tables(found, out)

    with stages() as tell:
        found = run(folder, split=split, work=out, resume=resume, write=write, on_progress=tell)
    _tell(found, out)
    if verbose:
        name_left_out(found.left_out)
    if strict and not found.clean:
        raise typer.Exit(1)


def _tell(found: Audit, out: Path | None) -> None:
    for _, words, count in found.told():
        typer.echo(f"{count:>7,}  {words[0].lower()}{words[1:]}")
    for group in found.straddling[:5]:
        typer.echo(f"Straddles {' | '.join(group.parts)}: {_some(group.files)}")
    for group in found.conflicts[:5]:
        typer.echo(f"Labels {', '.join(group.labels)}: {_some(group.files)}")
    for note in found.notes:
        typer.echo(note, err=True)
    if out is not None:
        files = "report.html (it shows the scans), groups.csv, pairs.csv, oddities.csv, audit.json"
        typer.echo(f"Written to {out}: {files}")
    elif found.pairs or found.odd:
        typer.echo("--out DIR writes a report with the pictures side by side, and groups.csv for training.")


def _some(files: tuple[str, ...], limit: int = 4) -> str:
    more = f" and {len(files) - limit} more" if len(files) > limit else ""
    return ", ".join(files[:limit]) + more


def examples(
    out: Path = Argument(Path("examples"), help="Folder to write into; made if missing.", file_okay=False),
    per_class: int = Option(0, min=0, help="So many pictures of each class instead of the shipped set."),
    seed: int = Option(0, min=0, help="First seed of --per-class; the same seed draws the same picture."),
    task: str = Option("breast-ultrasound", help="With --per-class: breast-ultrasound or histology-idc."),
) -> None:
    """Draw simulated breast ultrasound scans, with masks of their lesions, and simulated patches of breast tissue.

    They show nobody. Writes simulated-CLASS-N.png, masks/simulated-CLASS-N_mask.png and examples.csv (file, label,
    seed, mask); the shipped patches go into histology-idc/ inside the folder.
    """
    from bcx.simulate import LABELS, histology
    from bcx.simulate.examples import EXAMPLES, PATCHES, write_examples

    if task not in ("breast-ultrasound", "histology-idc"):
        expected = "breast-ultrasound or histology-idc"
        raise ConfigError(f"Nothing is drawn for the task '{task}'.", expected=expected, remedy="Correct --task.")
    tissue = task == "histology-idc"
    labels = histology.LABELS if tissue else LABELS
    wanted = [(label, seed + number) for label in labels for number in range(per_class)]
    if not tissue:
        files = write_examples(out, wanted or EXAMPLES)
        typer.echo(f"{len(files)} simulated scans, their masks and examples.csv are in {out}.")
    if tissue or not wanted:
        folder = out if tissue else out / "histology-idc"
        files = write_examples(folder, wanted or PATCHES)
        typer.echo(f"{len(files)} simulated patches of tissue and examples.csv are in {folder}.")
