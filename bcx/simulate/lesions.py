"""Lesions: smooth ovals that let sound through, and spiculated lumps that swallow it.

>>> import numpy as np
>>> from bcx.simulate.anatomy import breast
>>> rng = np.random.default_rng(0)
>>> scene = breast(rng, 96, 120)
>>> bool(add_lesion(scene, "benign", rng).any())
True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcx.simulate.scene import Map, Scene, grid, ramp, smooth_field


@dataclass(frozen=True)
class Outline:
    """Where a lesion ends.

    Attributes:
        outside: float32 [H, W], about the distance from the edge in picture heights, negative inside.
        angle: float32 [H, W], direction from the centre in radians, 0 to the right and pi/2 downwards.
        tall: height of the lesion in picture heights.
    """

    outside: Map
    angle: Map
    tall: float


def _waves(rng: np.random.Generator, angle: Map, roughness: float, orders: range) -> Map:
    """Relative radius over `angle`: 1 plus waves of the given orders, weaker with order."""
    radius = np.ones_like(angle)
    for order in orders:
        radius += roughness / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return radius


def _spikes(rng: np.random.Generator, angle: Map) -> Map:
    """Pointed outgrowths over `angle`, as a share of the radius."""
    radius = np.zeros_like(angle)
    for at in rng.uniform(-np.pi, np.pi, rng.integers(6, 11)):
        away = np.abs((angle - at + np.pi) % (2 * np.pi) - np.pi)
        radius = np.maximum(radius, rng.uniform(0.08, 0.42) * np.exp(-away / rng.uniform(0.08, 0.2)))
    return radius


def _outline(rng: np.random.Generator, label: str, height: int, width: int) -> Outline:
    y, x = grid(height, width)
    benign = label == "benign"
    size = rng.uniform(0.075, 0.16) if benign else rng.uniform(0.13, 0.23)
    stretch = rng.uniform(1.4, 2.0) if benign else 1 / rng.uniform(1.12, 1.4)
    half_wide, half_tall = size * np.sqrt(stretch), size / np.sqrt(stretch)
    top = rng.uniform(0.13, 0.28) if benign else rng.uniform(0.1, 0.2)
    dy = y - top - half_tall
    dx = x - rng.uniform(0.3, 0.7) * width / height
    tilt = rng.normal(0, 0.12)
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / half_wide
    v = (dy * np.cos(tilt) - dx * np.sin(tilt)) / half_tall
    angle = np.arctan2(v, u)
    if benign:
        rim, jag = _waves(rng, angle, 0.09, range(2, 5)), 0.0015
    else:
        rim, jag = 0.9 * _waves(rng, angle, 0.22, range(2, 7)) + _spikes(rng, angle), 0.005
    outside = (np.hypot(u, v) - rim) * np.hypot(half_wide * np.cos(angle), half_tall * np.sin(angle))
    outside += jag * smooth_field(rng, y, x, tall=0.012, wide=0.015)
    return Outline(outside.astype(np.float32), angle, 2 * half_tall)


def add_lesion(scene: Scene, label: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put one lesion into `scene`, in place.

    Benign: an oval wider than tall, even inside or (a cyst) empty, with a thin bright capsule, enhancement below and
    narrow shadows from its sides. Malignant: taller than wide, spiculated, uneven inside, in a bright halo, with a
    shadow below. (The signs of BI-RADS, American College of Radiology 2013.)

    Returns:
        The lesion, bool [H, W].
    """
    height, width = scene.echo.shape
    edge = _outline(rng, label, height, width)
    if label == "benign":
        _benign(scene, edge, rng)
    else:
        _malignant(scene, edge, rng)
    return edge.outside < 0


def _fill(scene: Scene, inside: Map, level: Map, gained: float, tall: float) -> None:
    """Replace the tissue by scatterers of `level` dB; sound that crosses all of it gains `gained` dB."""
    scene.echo += ((level - scene.echo) * inside).astype(np.float32)
    scene.mirror *= 1 - inside
    scene.loss -= (gained / tall * inside).astype(np.float32)


def _benign(scene: Scene, edge: Outline, rng: np.random.Generator) -> None:
    y, x = grid(*scene.echo.shape)
    inside = 1 - ramp(edge.outside, 0.004)
    cyst = rng.random() < 0.35
    even = smooth_field(rng, y, x, tall=0.02, wide=0.045)
    level = (rng.uniform(-38, -28) if cyst else rng.uniform(-22, -15)) + 1.8 * even
    _fill(scene, inside, level, rng.uniform(9, 14) if cyst else rng.uniform(6, 10), edge.tall)
    thick = max(0.003, 0.7 / len(y))
    capsule = np.exp(-0.5 * ((edge.outside - thick) / thick) ** 2)
    scene.mirror += (1.2 * capsule * np.sin(edge.angle) ** 2).astype(np.float32)
    scene.loss += (120 * capsule * np.cos(edge.angle) ** 6).astype(np.float32)


def _malignant(scene: Scene, edge: Outline, rng: np.random.Generator) -> None:
    y, x = grid(*scene.echo.shape)
    vague = smooth_field(rng, y, x, tall=0.08, wide=0.08)
    uneven = smooth_field(rng, y, x, tall=0.022, wide=0.04)
    rays = np.clip(_waves(rng, edge.angle, 9.0, range(9, 22)) - 1, -2, 2)
    halo = np.exp(-0.5 * ((edge.outside - 0.025) / 0.022) ** 2) * np.clip(0.8 + 0.4 * vague, 0, 1.6)
    scene.echo += (6 * halo + 3 * rays * np.exp(-np.maximum(edge.outside, 0) / 0.03)).astype(np.float32)
    scene.mirror *= 1 - 0.6 * np.exp(-np.maximum(edge.outside, 0) / 0.02).astype(np.float32)
    inside = 1 - ramp(edge.outside, 0.010)
    level = rng.uniform(-19, -12) + 3.0 * uneven + 4.0 * vague
    _fill(scene, inside, level, -rng.uniform(10, 18), edge.tall)
