"""The shipped examples: simulated scans and patches as PNG files with a table."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from bcx.files import AnyPath, whole, write_rows
from bcx.simulate import histology
from bcx.simulate.formation import simulate

#: The shipped scans and patches: label and seed, typical ones of each class.
EXAMPLES = (
    *(("normal", 14), ("normal", 16), ("normal", 34)),
    *(("benign", 13), ("benign", 28), ("benign", 7)),
    *(("malignant", 8), ("malignant", 10), ("malignant", 5)),
)
PATCHES = (("negative", 1), ("negative", 2), ("negative", 4), ("positive", 1), ("positive", 2), ("positive", 3))


def write_examples(
    folder: AnyPath, examples: Iterable[tuple[str, int]] = EXAMPLES, size: tuple[int, int] = (470, 560)
) -> list[Path]:
    """Draw and write scans, or patches, given by label and seed; return them in order.

    `simulated-<label>-<n>.png`, `masks/simulated-<label>-<n>_mask.png` where there is a lesion, and `examples.csv`
    (file, label, seed, mask). Every PNG says in its text chunk `Description` that it is simulated. `size`: height and
    width of scans.
    """
    folder, counts = Path(folder), Counter[str]()
    rows: list[dict[str, object]] = []
    for label, seed in examples:
        counts[label] += 1
        name = f"simulated-{label}-{counts[label]}"
        mask: np.ndarray = np.zeros(0)
        if label in histology.LABELS:
            what, pixels = "tissue in haematoxylin and eosin", histology.simulate_patch(label, seed)
        else:
            what, (pixels, mask) = "ultrasound", simulate(label, seed, *size)
        note = f"simulated breast {what} ({label}, seed {seed}), made by bcx: a picture of nobody"
        rows.append({"file": f"{name}.png", "label": label, "seed": seed, "mask": ""})
        save_png(pixels, folder / f"{name}.png", note)
        if mask.any():
            rows[-1]["mask"] = f"masks/{name}_mask.png"
            save_png(mask.astype(np.uint8) * 255, folder / f"masks/{name}_mask.png", f"{note}; mask of the lesion")
    write_rows(folder / "examples.csv", ["file", "label", "seed", "mask"], rows)
    return [folder / str(row["file"]) for row in rows]


def save_png(pixels: np.ndarray, path: Path, note: str = "") -> None:
    """Write uint8 [H, W] or [H, W, 3], whole or not at all, with a note in the text chunk `Description`."""
    info = PngInfo()
    if note:
        info.add_text("Description", note)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", optimize=True, pnginfo=info)
