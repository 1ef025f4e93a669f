"""Simulated images in the folder layouts of published sets."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from bcx.files import write_rows
from bcx.simulate import LABELS, simulate
from bcx.simulate.examples import save_png
from bcx.simulate.histology import SIDE, simulate_patch, simulate_tissue


def write_busi_folder(
    root: Path | str, per_class: int | Mapping[str, int] = 4, size: tuple[int, int] = (96, 112)
) -> Path:
    """As Kaggle spreads BUSI: `<class>/<class> (n).png` with `_mask.png`, black for normals; `size`: height, width."""
    for label in LABELS:
        for number in range(1, (per_class if isinstance(per_class, int) else per_class[label]) + 1):
            scan = simulate(label, number, *size)
            save_png(scan.pixels, Path(root, label, f"{label} ({number}).png"))
            save_png(255 * scan.mask.astype(np.uint8), Path(root, label, f"{label} ({number})_mask.png"))
    return Path(root)


def write_busbra_folder(root: Path | str, patients: int = 6, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    """As BUS-BRA: `bus_data.csv`, `Images/`, `Masks/`; two views of a patient, no normals, folds from 0 to 3."""
    rows = []
    for case, (view, side) in product(range(1, patients + 1), enumerate(("left", "right"))):
        label, name = LABELS[1 + case % 2], f"{case:04d}-{side[0]}"
        scan = simulate(label, seed * 100_003 + case * 2 + view, *size)
        save_png(scan.pixels, Path(root, "Images", f"bus_{name}.png"))
        save_png(255 * scan.mask.astype(np.uint8), Path(root, "Masks", f"mask_{name}.png"))
        down, across = np.nonzero(scan.mask)
        rows.append(
            {
                "ID": f"bus_{name}",
                "Case": case,
                "Histology": "fibroadenoma" if label == "benign" else "invasive ductal carcinoma",
                "Pathology": label,
                "BIRADS": 3 if label == "benign" else 5,
                "Device": "simulated",
                "Width": size[1],
                "Height": size[0],
                "Side": side,
                "BBOX": str([int(across.min()), int(down.min()), int(np.ptp(across)) + 1, int(np.ptp(down)) + 1]),
                "fold": (case - 1) // 2 % 4,
            }
        )
    write_rows(Path(root, "bus_data.csv"), rows[0], rows)
    return Path(root)


def write_breast_folder(root: Path | str, cases: int = 6, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    """As BrEaST: `manifest.csv`, `Images/`, `Masks/`; a patient per scan, the classes in turn, normals without mask."""
    rows = []
    for number in range(1, cases + 1):
        label, case = LABELS[(number - 1) % len(LABELS)], f"case{number:03d}"
        scan = simulate(label, seed * 100_003 + number, *size)
        mask = f"Masks/{case}.png" if scan.mask.any() else ""
        save_png(scan.pixels, Path(root, "Images", f"{case}.png"))
        if mask:
            save_png(255 * scan.mask.astype(np.uint8), Path(root, mask))
        rows.append({"file": f"Images/{case}.png", "label": label, "group": case, "mask": mask})
    write_rows(Path(root, "manifest.csv"), rows[0], rows)
    return Path(root)


def write_idc_folder(root: Path, patients: int = 6, patches: int = 4) -> Path:
    """As the IDC set: `<patient>/<0|1>/<patient>_idx5_x…_y…_class….png`."""
    for number in range(patients):
        for (kind, label), i in product(enumerate(("negative", "positive")), range(patches)):
            patient = 101 + number
            name = f"{patient}_idx5_x{51 + SIDE * i}_y{101 + SIDE * kind}_class{kind}.png"
            save_png(simulate_patch(label, number * 1_009 + i), root / str(patient) / str(kind) / name)
    return root


BREAKHIS = {
    "benign": {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes_tumor", "TA": "tubular_adenoma"},
    "malignant": {
        "DC": "ductal_carcinoma",
        "LC": "lobular_carcinoma",
        "MC": "mucinous_carcinoma",
        "PC": "papillary_carcinoma",
    },
}


def write_breakhis_folder(root: Path, patients: int = 2, magnifications: tuple[int, ...] = (40, 100, 200, 400)) -> Path:
    """As BreakHis: one small image for each of the eight subtypes, patient and magnification."""
    slides = [(label, *kind) for label, kinds in BREAKHIS.items() for kind in kinds.items() for _ in range(patients)]
    for (number, (label, short, folder)), zoom in product(enumerate(slides, 1001), magnifications):
        slide = f"SOB_{label[0].upper()}_{short}"
        place = root / "histology_slides" / "breast" / label / "SOB" / folder / f"{slide}_14-{number}" / f"{zoom}X"
        pixels = simulate_tissue(np.full((46, 70), label == "malignant"), number * 1_000 + zoom)
        save_png(pixels, place / f"{slide}-14-{number}-{zoom}-001.png")
    return root
