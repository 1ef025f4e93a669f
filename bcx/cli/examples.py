"""`bcx examples`: pictures that bcx draws itself, with the lesions it put into them."""

from __future__ import annotations

from pathlib import Path

import typer

from bcx.errors import ConfigError


def examples(
    out: Path = typer.Argument(Path("examples"), help="Folder to write into; made if missing.", file_okay=False),
    per_class: int = typer.Option(
        0, "--per-class", min=0, help="So many pictures of each class instead of the shipped set."
    ),
    seed: int = typer.Option(
        0, "--seed", min=0, help="First seed of --per-class; the same seed draws the same picture."
    ),
    task: str = typer.Option(
        "breast-ultrasound", "--task", help="With --per-class: breast-ultrasound or histology-idc."
    ),
) -> None:
    """Draw simulated breast ultrasound scans, with masks of their lesions, and simulated patches of breast tissue.

    They show nobody. Writes simulated-CLASS-N.png, masks/simulated-CLASS-N_mask.png and examples.csv (file, label,
    seed, mask); the shipped patches go into histology-idc/ inside the folder.
    """
    from bcx.simulate import EXAMPLES, LABELS, histology, write_examples

    if task not in ("breast-ultrasound", "histology-idc"):
        raise ConfigError(
            f"Nothing is drawn for the task '{task}'.",
            expected="breast-ultrasound or histology-idc",
            remedy="Correct --task.",
        )
    labels = histology.LABELS if task == "histology-idc" else LABELS
    wanted = [(label, seed + number) for label in labels for number in range(per_class)]
    if task == "histology-idc":
        files = histology.write_histology_examples(out, wanted or histology.EXAMPLES)
        typer.echo(f"{len(files)} simulated patches of tissue and examples.csv are in {out}.")
        return
    files = write_examples(out, wanted or EXAMPLES)
    typer.echo(f"{len(files)} simulated scans, their masks and examples.csv are in {out}.")
    if not wanted:
        files = histology.write_histology_examples(out / "histology-idc")
        typer.echo(f"{len(files)} simulated patches of tissue are in {out / 'histology-idc'}.")
