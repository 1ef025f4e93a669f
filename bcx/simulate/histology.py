"""Tissue in haematoxylin and eosin, drawn: patches of nobody, for examples and tests.

Pink fibres run one way, fat and the openings of glands are white, nuclei purple. Without a tumour nuclei are few, small
and thin; with one they lie in dense nests, larger, uneven and dark. Stains add up as density (Beer and Lambert).
Textbook signs, far tidier than tissue: how a network reads these images says nothing about how it reads patients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from bcx.simulate.layouts import save_png, write_drawn

LABELS = ("negative", "positive")
SIDE = 50

# Optical density per unit of stain in red, green and blue.
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
_EOSIN = np.array([0.12, 0.62, 0.32], np.float32)
_FINER = 4  # drawn at so many times the resolution, then averaged


class _Nuclei(NamedTuple):
    """Share of drawn points at which one lies, half lengths in pixels, how much shorter the other way, stain."""

    share: float
    lengths: tuple[float, ...]
    short: float
    stain: tuple[float, float]


_QUIET = _Nuclei(0.0010, (0.7, 0.9, 1.1), 0.45, (0.7, 1.0))
_SHEET = _Nuclei(0.0110, (0.7, 1.0, 1.4), 0.80, (0.5, 1.5))


def simulate_patch(label: str, seed: int, side: int = SIDE, stain: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Draw one patch, uint8 `[side, side, 3]`; the same arguments draw the same image."""
    return simulate_tissue(np.full((side, side), label == LABELS[1]), seed, stain)


def simulate_tissue(tumour: np.ndarray, seed: int, stain: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """Draw tissue with a tumour where it is told to be, uint8 `[H, W, 3]`.

    Args:
        tumour: bool `[H, W]`.
        stain: how strongly haematoxylin and eosin took; laboratories differ.
    """
    rng = np.random.default_rng([seed, int(tumour.any())])
    height, width = tumour.shape
    fine = (height * _FINER, width * _FINER)
    mask = cv2.resize(tumour.astype(np.uint8), fine[::-1], interpolation=cv2.INTER_NEAREST) > 0
    turn = rng.uniform(0, np.pi)
    eosin = 0.75 + 0.16 * _fibres(rng, fine, turn) + 0.12 * _cloud(rng, fine, 6.0)
    blue = 0.10 + 0.03 * _cloud(rng, fine, 5.0)
    blue = np.maximum(blue, _nuclei(rng, ~mask, turn, _QUIET))
    nests = _cloud(rng, fine, 4.0) > rng.uniform(-1.6, -0.6)  # a tumour grows in nests, with strands of stroma between
    blue = np.maximum(blue, _nuclei(rng, mask & nests, turn, _SHEET))
    _holes(rng, tumour, eosin, blue)
    density = stain[0] * blue[..., None] * _HAEMATOXYLIN + stain[1] * np.maximum(eosin, 0)[..., None] * _EOSIN
    light = cv2.resize(np.exp(-density), (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(245 * light + rng.normal(0, 2.5, light.shape)), 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise of mean about 0 and spread 1, float32, with blobs `grain` pixels (of the patch) wide."""
    blurred = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), grain * _FINER)
    return (blurred - blurred.mean()) / (blurred.std() + 1e-6)


def _fibres(rng: np.random.Generator, shape: tuple[int, int], turn: float) -> np.ndarray:
    """Noise drawn out in one direction (radians), float32 of mean about 0 and spread 1."""
    kernel = _ellipse(5.0 * _FINER, 0.6 * _FINER, turn)
    drawn = cv2.filter2D(rng.normal(size=shape).astype(np.float32), -1, kernel)
    return (drawn - drawn.mean()) / (drawn.std() + 1e-6)


def _nuclei(rng: np.random.Generator, where: np.ndarray, turn: float, kind: _Nuclei) -> np.ndarray:
    """Haematoxylin of nuclei whose centres lie in `where`, float32, drawn size by size."""
    blue = np.zeros(where.shape, np.float32)
    for length in kind.lengths:
        dark = rng.uniform(*kind.stain, where.shape)
        here = (rng.random(where.shape) < kind.share / len(kind.lengths)) & where
        kernel = (_ellipse(length * _FINER, length * kind.short * _FINER, turn) > 0).astype(np.uint8)
        blue = np.maximum(blue, cv2.dilate(np.where(here, dark, 0).astype(np.float32), kernel))
    return cv2.GaussianBlur(blue, (0, 0), 0.3 * _FINER)


def _ellipse(a: float, b: float, turn: float) -> np.ndarray:
    """A kernel that is even within an ellipse and sums to 1, float32."""
    reach = int(np.ceil(max(a, b)))
    v, u = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    along, across = u * np.cos(turn) + v * np.sin(turn), v * np.cos(turn) - u * np.sin(turn)
    inside = (np.hypot(along / a, across / b) <= 1).astype(np.float32)
    return inside / inside.sum()


def _holes(rng: np.random.Generator, tumour: np.ndarray, eosin: np.ndarray, blue: np.ndarray) -> None:
    """White: fat cells side by side, and the openings of glands, with nuclei around them. Tumours have few."""
    height, width = tumour.shape
    for _ in range(rng.poisson(height * width / 1800)):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if tumour[int(y), int(x)] and rng.random() < 0.85:
            continue
        if rng.random() < 0.4:
            radius = rng.uniform(1.5, 3.5)
            _disc(blue, x, y, radius + 1.6, 0.75)
            cells = [(x, y, radius)]
        else:
            cells = [(x + rng.normal(0, 6), y + rng.normal(0, 6), rng.uniform(2.0, 4.5)) for _ in range(9)]
        for cell in cells:
            for plane in (eosin, blue):
                _disc(plane, *cell, 0.02)


def _disc(plane: np.ndarray, x: float, y: float, radius: float, value: float) -> None:
    """Set `plane` to `value` in a disc; units are the patch's pixels."""
    cv2.circle(plane, (round(x * _FINER), round(y * _FINER)), round(radius * _FINER), value, -1)


def write_idc_folder(root: str | os.PathLike[str], patients: int = 6, patches: int = 4, seed: int = 0) -> Path:
    """Write drawn patches in the layout of the published IDC set: `<patient>/<0|1>/<patient>_idx5_x…_y…_class….png`.

    Args:
        patients: numbered from 101; each has stains of its own.
        patches: of each class, for every patient.
    """
    root = Path(root)
    for number in range(patients):
        patient = 101 + number
        rng = np.random.default_rng([seed, number])
        stain = (rng.uniform(0.8, 1.2), rng.uniform(0.8, 1.2))
        for kind, label in enumerate(LABELS):
            for i in range(patches):
                name = f"{patient}_idx5_x{51 + SIDE * i}_y{101 + SIDE * kind}_class{kind}.png"
                pixels = simulate_patch(label, seed * 100_003 + number * 1_009 + i, stain=stain)
                save_png(pixels, root / str(patient) / str(kind) / name)
    return root


def write_breakhis_folder(
    root: str | os.PathLike[str],
    patients: int = 2,
    magnifications: Iterable[int] = (40, 100, 200, 400),
    size: tuple[int, int] = (46, 70),
) -> Path:
    """Write drawn images in the layout of BreakHis, one for each of the eight subtypes, patient and magnification.

    Args:
        magnifications: any of 40, 100, 200 and 400.
        size: height and width in pixels (the published ones: 460 and 700).
    """
    root = Path(root)
    subtypes = {
        "benign": {"A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes_tumor", "TA": "tubular_adenoma"},
        "malignant": {
            "DC": "ductal_carcinoma",
            "LC": "lobular_carcinoma",
            "MC": "mucinous_carcinoma",
            "PC": "papillary_carcinoma",
        },
    }
    number = 1000
    for label, kinds in subtypes.items():
        for short, folder in kinds.items():
            for _ in range(patients):
                number += 1
                slide = f"SOB_{label[0].upper()}_{short}"
                for zoom in magnifications:
                    pixels = simulate_tissue(np.full(size, label == "malignant"), number * 1_000 + zoom)
                    place = root / "histology_slides" / "breast" / label / "SOB" / folder
                    name = f"{slide}-14-{number}-{zoom}-001.png"
                    save_png(pixels, place / f"{slide}_14-{number}" / f"{zoom}X" / name)
    return root


EXAMPLES = (("negative", 1), ("negative", 2), ("negative", 4), ("positive", 1), ("positive", 2), ("positive", 3))
NOTE = "simulated breast tissue in haematoxylin and eosin ({}, seed {}), made by bcx: a picture of nobody"


def write_histology_examples(
    folder: str | os.PathLike[str], examples: Iterable[tuple[str, int]] = EXAMPLES
) -> list[Path]:
    """Write example patches and a table of them, as `write_drawn`; every PNG says that it is simulated."""
    return write_drawn(folder, examples, lambda label, seed: (simulate_patch(label, seed), None), NOTE)
