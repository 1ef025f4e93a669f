"""Tissue in haematoxylin and eosin, drawn: patches of nobody, for examples and tests.

Pink fibres run one way, fat and the openings of glands are white, nuclei purple. Without a tumour nuclei are few, small
and thin; with one they lie in dense nests, larger, uneven and dark. Stains add up as density (Beer and Lambert).
"""

from typing import NamedTuple

import cv2
import numpy as np

LABELS = ("negative", "positive")
SIDE = 50

# Optical density per unit of stain in red, green and blue.
_HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
_EOSIN = np.array([0.12, 0.62, 0.32], np.float32)
_FINER = 4  # drawn at so many times the resolution, then averaged


class _Nuclei(NamedTuple):
    share: float  # of drawn points at which one lies
    lengths: tuple[float, ...]  # half of it, in pixels
    short: float  # the other way, as a share of the length
    stain: tuple[float, float]


_QUIET = _Nuclei(0.0010, (0.7, 0.9, 1.1), 0.45, (0.7, 1.0))
_SHEET = _Nuclei(0.0110, (0.7, 1.0, 1.4), 0.80, (0.5, 1.5))


def simulate_patch(label: str, seed: int, side: int = SIDE) -> np.ndarray:
    """Draw one patch, uint8 `[side, side, 3]`; the same arguments draw the same image."""
    return simulate_tissue(np.full((side, side), label == LABELS[1]), seed)


def simulate_tissue(tumour: np.ndarray, seed: int) -> np.ndarray:
    """Draw tissue with a tumour where bool `[H, W]` says, uint8 `[H, W, 3]`."""
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
    density = blue[..., None] * _HAEMATOXYLIN + np.maximum(eosin, 0)[..., None] * _EOSIN
    light = cv2.resize(np.exp(-density), (width, height), interpolation=cv2.INTER_AREA)
    return np.clip(np.rint(245 * light + rng.normal(0, 2.5, light.shape)), 0, 255).astype(np.uint8)


def _cloud(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise of mean about 0 and spread 1, float32, with blobs `grain` pixels (of the patch) wide."""
    blurred = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), grain * _FINER)
    return (blurred - blurred.mean()) / (blurred.std() + 1e-6)


def _fibres(rng: np.random.Generator, shape: tuple[int, int], turn: float) -> np.ndarray:
    """Noise drawn out in one direction (radians), float32 of mean about 0 and spread 1."""
    drawn = cv2.filter2D(rng.normal(size=shape).astype(np.float32), -1, _ellipse(5.0 * _FINER, 0.6 * _FINER, turn))
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
