"""`bcx space` and `bcx push`: the page, or a checkpoint alone, onto the Hugging Face Hub.

```
bcx space OWNER/NAME --model mobilenetv2-lesion
bcx push mobilenetv2-lesion OWNER/NAME
```
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bcx import DEFAULT_MODEL
from bcx.cli.options import CheckpointArgument

RepoArgument = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Where on the Hub.")]
PrivateOption = Annotated[bool, typer.Option("--private", help="Only you can see it, if it is made now.")]


def space(
    repo: RepoArgument,
    model: Annotated[
        str, typer.Option("--model", "-m", help="The model that the page opens with: name, folder or Hub id.")
    ] = DEFAULT_MODEL,
    private: PrivateOption = False,
    hardware: Annotated[
        str | None, typer.Option(help="The Space's hardware, such as cpu-basic or zero-a10g; default: as it is.")
    ] = None,
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="DIR", help="Write the Space there; upload nothing.")
    ] = None,
    check: Annotated[
        bool, typer.Option(help="First install it into a fresh environment and answer an example: some minutes.")
    ] = True,
) -> None:
    """Put the page on a Hugging Face Space: gather what it needs, check that it answers, upload it.

    Who is logged in decides where: `hf auth login`, or the variable HF_TOKEN.
    """
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.report.space import gather_space, try_space, upload

    with tempfile.TemporaryDirectory(prefix="bcx-space-") as place:
        cpu = hardware is None or hardware.startswith("cpu")
        folder = gather_space(dry_run or Path(place, "space"), load_checkpoint(model), cpu=cpu)
        sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
        typer.echo(f"Gathered: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB.", err=True)
        if check:
            typer.echo("Installing it into a fresh environment (some minutes) ...", err=True)
            typer.echo(f"It answers: an example is '{try_space(folder)}'.", err=True)
        if dry_run is not None:
            typer.echo(f"Written: {dry_run}")
            return
        typer.echo(upload(folder, repo, kind="space", private=private, hardware=hardware))


def push(checkpoint: CheckpointArgument, repo: RepoArgument, private: PrivateOption = False) -> None:
    """Put a checkpoint on the Hugging Face Hub, for `bcx.load("OWNER/NAME")`: weights, settings and card."""
    from bcx.checkpoints.checkpoint import load_checkpoint
    from bcx.report.space import ANSWERING, upload

    typer.echo(upload(load_checkpoint(checkpoint).folder, repo, kind="model", private=private, only=ANSWERING))
