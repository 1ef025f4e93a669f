"""Simulated images in the folder layouts of published sets, for tests, and as shipped examples."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

from bcx.files import whole, write_rows
from bcx.simulate.formation import LABELS, simulate


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
    """Return a mask, bool [H, W], as an image: uint8, white inside."""
    return mask.astype(np.uint8) * 255


def write_drawn(
    folder: str | os.PathLike[str],
    examples: Iterable[tuple[str, int]],
    draw: Callable[[str, int], tuple[np.ndarray, np.ndarray | None]],
    note: str,
) -> list[Path]:
    """Write `simulated-<label>-<n>.png`, `masks/simulated-<label>-<n>_mask.png` where there is one, and `examples.csv`.

    Args:
        examples: label and seed of each image.
        draw: from these to pixels, and a mask or None.
        note: with places for label and seed; stands in each PNG.

    Returns:
        The images, in the order of the table (columns file, label, seed, mask).
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


def write_busi_folder(
    root: str | os.PathLike[str],
    per_class: int | Mapping[str, int] = 4,
    seed: int = 0,
    size: tuple[int, int] = (96, 112),
    duplicates: int = 0,
) -> Path:
    """Write simulated scans in the layout that Kaggle spreads BUSI in, and return `root`.

    `<class>/<class> (n).png` with `<class>/<class> (n)_mask.png`; the masks of normals are black.

    Args:
        per_class: scans of each class, or a number per class.
        size: height and width in pixels.
        duplicates: further scans per class that repeat the first ones with another gain and a narrow crop, as
            near-duplicates do in published sets. They are numbered after the others.
    """
    root = Path(root)
    height, width = size
    for label in LABELS:
        count = per_class[label] if isinstance(per_class, Mapping) else per_class
        for number in range(1, count + duplicates + 1):
            twin = number > count
            scan = simulate(label, seed * 100_003 + (number - count if twin else number), height, width)
            pixels, mask = scan.pixels, scan.mask
            if twin:
                pixels = np.clip(pixels[1:-1, 1:-1] * 1.1 + 3, 0, 255).astype(np.uint8)
                mask = mask[1:-1, 1:-1]
            save_png(pixels, root / label / f"{label} ({number}).png")
            save_png(ink(mask), root / label / f"{label} ({number})_mask.png")
    return root


BUSBRA_COLUMNS = ["ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX", "fold"]


def write_busbra_folder(
    root: str | os.PathLike[str], patients: int = 6, seed: int = 0, size: tuple[int, int] = (96, 80)
) -> Path:
    """Write simulated scans in the layout of BUS-BRA: `bus_data.csv`, `Images/`, `Masks/`; return `root`.

    Every patient (`Case`) has two views of one lesion, `-l` and `-r`, and a fold from 0 to 3. There are no normals.
    """
    root = Path(root)
    height, width = size
    rows = []
    for case in range(1, patients + 1):
        label = LABELS[1 + case % 2]
        for view, side in enumerate("lr"):
            scan = simulate(label, seed * 100_003 + case * 2 + view, height, width)
            name = f"{case:04d}-{side}"
            save_png(scan.pixels, root / "Images" / f"bus_{name}.png")
            save_png(ink(scan.mask), root / "Masks" / f"mask_{name}.png")
            down, across = np.nonzero(scan.mask)
            box = [int(across.min()), int(down.min()), int(np.ptp(across)) + 1, int(np.ptp(down)) + 1]
            rows.append(
                {
                    "ID": f"bus_{name}",
                    "Case": case,
                    "Histology": "fibroadenoma" if label == "benign" else "invasive ductal carcinoma",
                    "Pathology": label,
                    "BIRADS": 3 if label == "benign" else 5,
                    "Device": "simulated",
                    "Width": width,
                    "Height": height,
                    "Side": "left" if side == "l" else "right",
                    "BBOX": str(box),
                    "fold": (case - 1) // 2 % 4,
                }
            )
    write_rows(root / "bus_data.csv", BUSBRA_COLUMNS, rows)
    return root


def write_breast_folder(
    root: str | os.PathLike[str], cases: int = 6, seed: int = 0, size: tuple[int, int] = (96, 80)
) -> Path:
    """Write simulated scans in the layout of BrEaST: `manifest.csv`, `Images/`, `Masks/`; return `root`.

    There is a patient per scan; the classes come in turn, normals have no mask.
    """
    root = Path(root)
    rows: list[dict[str, object]] = []
    for number in range(1, cases + 1):
        label, case = LABELS[(number - 1) % len(LABELS)], f"case{number:03d}"
        scan = simulate(label, seed * 100_003 + number, *size)
        mask = f"Masks/{case}.png" if scan.mask.any() else ""
        save_png(scan.pixels, root / "Images" / f"{case}.png")
        if mask:
            save_png(ink(scan.mask), root / mask)
        rows.append({"file": f"Images/{case}.png", "label": label, "group": case, "mask": mask})
    write_rows(root / "manifest.csv", ["file", "label", "group", "mask"], rows)
    return root


# The shipped images: label and seed, typical ones of each class.
EXAMPLES = (
    *(("normal", 14), ("normal", 16), ("normal", 34)),
    *(("benign", 13), ("benign", 28), ("benign", 7)),
    *(("malignant", 8), ("malignant", 10), ("malignant", 5)),
)
NOTE = "simulated breast ultrasound ({}, seed {}), made by bcx: a picture of nobody"


def write_examples(
    folder: str | os.PathLike[str],
    examples: Iterable[tuple[str, int]] = EXAMPLES,
    size: tuple[int, int] = (470, 560),
) -> list[Path]:
    """Write the examples, their masks (not of normals) and a table of both, as `write_drawn`; `size`: height, width.

    Every PNG says in its text chunk `Description` that it is simulated.
    """

    def draw(label: str, seed: int) -> tuple[np.ndarray, np.ndarray | None]:
        scan = simulate(label, seed, *size)
        return scan.pixels, scan.mask if scan.mask.any() else None

    return write_drawn(folder, examples, draw, NOTE)
