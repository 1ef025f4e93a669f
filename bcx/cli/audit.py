"""`bcx audit`: copies, leaks and odd files in a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bcx.cli.options import DeviceOption, ResumeOption, VerboseOption
from bcx.cli.progress import name_left_out, stages

if TYPE_CHECKING:
    from bcx.audit.findings import Audit


def audit(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Images, in subfolders or not.")
    ],
    split: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            exists=True,
            dir_okay=False,
            help="Columns file and split (or fold): which groups are on both sides?",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Write report.html and the tables here. The report shows the scans."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with status 1 when anything was found.")] = False,
    resume: ResumeOption = True,
    verbose: VerboseOption = False,
    device: DeviceOption = "auto",
) -> None:
    """Find duplicates, the same lesion twice, label conflicts, leaking splits and odd files.

    Stopped at any moment, the same command goes on where it was: what was seen of each file is kept in --out.

    Exit status: 0 the audit ran, whatever it found (1 with --strict when it found something), 2 wrong usage.
    """
    from bcx.audit.report import write_report
    from bcx.audit.run import audit as run
    from bcx.audit.tables import write_tables
    from bcx.errors import ConfigError, writing

    if out is not None:
        if out.exists() and not out.is_dir():
            raise ConfigError(f"'{out}' is a file.", expected="a folder after --out", remedy="Name a folder.")
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)

    def write(found: Audit) -> None:
        if out is not None:
            with writing(out):
                write_report(found, out / "report.html")
                write_tables(found, out)

    with stages() as tell:
        found = run(folder, split=split, work=out, resume=resume, write=write, on_progress=tell)
    _show(found, out)
    if verbose:
        name_left_out(found.left_out)
    if strict and not found.clean:
        raise typer.Exit(1)


def _show(found: Audit, out: Path | None) -> None:
    from bcx.audit.oddities import KINDS

    for name, count in found.counts().items():
        if count or name not in KINDS:
            typer.echo(f"{count:>7,}  {KINDS.get(name, name)[0].lower()}{KINDS.get(name, name)[1:]}")
    for group in found.straddling[:5]:
        typer.echo(f"Straddles {' | '.join(group.parts)}: {_some(group.files)}")
    for group in found.conflicts[:5]:
        typer.echo(f"Labels {', '.join(group.labels)}: {_some(group.files)}")
    for note in found.notes:
        typer.echo(note, err=True)
    if out is not None:
        typer.echo(
            f"Written to {out}: report.html (it shows the scans), groups.csv, pairs.csv, oddities.csv, audit.json"
        )
    elif found.pairs or found.odd:
        typer.echo("--out DIR writes a report with the pictures side by side, and groups.csv for training.")


def _some(files: tuple[str, ...], limit: int = 4) -> str:
    more = f" and {len(files) - limit} more" if len(files) > limit else ""
    return ", ".join(files[:limit]) + more
