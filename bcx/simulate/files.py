"""Drawn pictures as files that say what they are, with a table beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from bcx.files import whole, write_rows


def save_png(pixels: np.ndarray, path: Path, note: str = "") -> None:
    """Write uint8 [H, W] or [H, W, 3], whole or not at all, with a note in the text chunk `Description`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if note:
        info.add_text("Description", note)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", optimize=True, pnginfo=info)


def ink(mask: np.ndarray) -> np.ndarray:
    """Return a mask, bool [H, W], as a picture: uint8, white inside."""
    return mask.astype(np.uint8) * 255


def write_drawn(
    folder: str | os.PathLike[str],
    examples: Iterable[tuple[str, int]],
    draw: Callable[[str, int], tuple[np.ndarray, np.ndarray | None]],
    note: str,
) -> list[Path]:
    """Write `simulated-<label>-<n>.png`, `masks/simulated-<label>-<n>_mask.png` where there is one, and `examples.csv`.

    Args:
        folder: where to; made if missing.
        examples: label and seed of each picture.
        draw: from these to pixels, and a mask or None.
        note: with places for label and seed; stands in each PNG.

    Returns:
        The pictures, in the order of the table (columns file, label, seed, mask).
    """
    folder, counts = Path(folder), Counter[str]()
    files: list[Path] = []
    rows: list[dict[str, object]] = []
    for label, seed in examples:
        counts[label] += 1
        name, said = f"simulated-{label}-{counts[label]}", note.format(label, seed)
        pixels, mask = draw(label, seed)
        files.append(folder / f"{name}.png")
        save_png(pixels, files[-1], said)
        rows.append({"file": files[-1].name, "label": label, "seed": seed, "mask": ""})
        if mask is not None:
            rows[-1]["mask"] = f"masks/{name}_mask.png"
            save_png(ink(mask), folder / f"masks/{name}_mask.png", f"{said}; mask of the lesion")
    write_rows(folder / "examples.csv", ["file", "label", "seed", "mask"], rows)
    return files
