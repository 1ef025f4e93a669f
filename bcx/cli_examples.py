"""`bcx examples`: pictures that bcx draws itself, with the lesions it put into them.

bcx examples examples/                  the nine pictures that the page shows
bcx examples more/ --per-class 20       twenty of each class
"""

from __future__ import annotations

from pathlib import Path

import typer


def examples(
    out: Path = typer.Argument(Path("examples"), help="Folder to write into; made if missing.", file_okay=False),
    per_class: int = typer.Option(
        0, "--per-class", min=0, help="So many pictures of each class instead of the shipped set."
    ),
    seed: int = typer.Option(
        0, "--seed", min=0, help="First seed of --per-class; the same seed draws the same picture."
    ),
) -> None:
    """Draw simulated breast ultrasound scans: pictures of nobody, each with the mask of its lesion.

    Writes simulated-CLASS-N.png, masks/simulated-CLASS-N_mask.png and examples.csv (file, label, seed, mask).
    """
    from bcx.simulate import EXAMPLES, LABELS, write_examples

    wanted = [(label, seed + number) for label in LABELS for number in range(per_class)] or EXAMPLES
    files = write_examples(out, wanted)
    typer.echo(f"{len(files)} simulated scans, their masks and examples.csv are in {out}.")
