"""Lesions: smooth ovals that pass sound on, and spiculated lumps that swallow it.

>>> import numpy as np
>>> from bcx.simulate.anatomy import breast
>>> rng = np.random.default_rng(0)
>>> scene = breast(rng, 96, 120)
>>> bool(add_lesion(scene, "benign", rng).any())
True
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bcx.simulate.scene import Map, Scene, grid, ramp, smooth_field


def _rim(rng: np.random.Generator, angle: Map, roughness: float, orders: range) -> Map:
    """Relative radius of an outline over `angle`: 1 plus waves of the given orders, fading with order."""
    radius = np.ones_like(angle)
    for order in orders:
        radius += roughness / order * rng.normal() * np.cos(order * angle + rng.uniform(0, 2 * np.pi))
    return radius


def add_lesion(scene: Scene, label: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put one lesion of `label` ("benign" or "malignant") into `scene` and return its mask, bool [H, W]."""
    height, width = scene.echo.shape
    y, x = grid(height, width)
    pixel = 1 / height
    benign = label == "benign"
    size = rng.uniform(0.11, 0.2)
    stretch = rng.uniform(1.45, 2.0) if benign else 1 / rng.uniform(1.2, 1.5)
    half_wide, half_tall = size * np.sqrt(stretch), size / np.sqrt(stretch)
    centre_y = rng.uniform(0.1, 0.25) + half_tall
    centre_x = rng.uniform(0.35, 0.65) * width / height
    tilt = rng.normal(0, 0.1)
    dx, dy = x - centre_x, y - centre_y
    u = (dx * np.cos(tilt) + dy * np.sin(tilt)) / half_wide
    v = (-dx * np.sin(tilt) + dy * np.cos(tilt)) / half_tall
    angle = np.arctan2(v, u)
    if benign:
        outline = _rim(rng, angle, 0.08, range(2, 5))
    else:
        outline = _rim(rng, angle, 0.16, range(2, 9))
        spikes = np.zeros_like(outline)
        for at in rng.uniform(-np.pi, np.pi, rng.integers(7, 12)):
            away = np.abs((angle - at + np.pi) % (2 * np.pi) - np.pi)
            spikes = np.maximum(spikes, rng.uniform(0.1, 0.35) * np.exp(-away / 0.09))
        outline += spikes
    outside = (np.hypot(u, v) - outline) * min(half_wide, half_tall)  # about the distance from the edge
    mask = np.asarray(outside < 0)
    inside = 1 - ramp(outside, 0.002 if benign else 0.006)
    mottle = smooth_field(rng, y, x, tall=0.02, wide=0.03)
    if benign:
        level = rng.choice([rng.uniform(-34, -26), rng.uniform(-20, -15)], p=[0.4, 0.6]) + 0.7 * mottle
        drop = rng.uniform(-28, -18)
    else:
        level = rng.uniform(-22, -17) + 3.5 * mottle
        drop = rng.uniform(45, 75)
        halo = np.exp(-0.5 * ((outside - 0.02) / 0.018) ** 2)
        scene.echo += (7 * halo * (1 - inside)).astype(np.float32)
    scene.echo += ((level - scene.echo) * inside).astype(np.float32)
    scene.mirror *= 1 - inside
    scene.loss += (drop * inside).astype(np.float32)
    if benign:
        across = np.abs(v) / (np.hypot(u, v) + 1e-6)
        capsule = np.exp(-0.5 * ((outside - 0.003) / max(0.0025, 0.7 * pixel)) ** 2)
        scene.mirror += (1.6 * capsule * across**2).astype(np.float32)
        scene.loss += (90 * capsule * (1 - across) ** 2).astype(np.float32)
    return mask
