"""A breast in layers: skin, fat with septa, gland, fat again, muscle, chest wall, sometimes a rib.

>>> import numpy as np
>>> scene = breast(np.random.default_rng(0), 96, 120)
>>> scene.echo.shape
(96, 120)
"""

from __future__ import annotations

import numpy as np

from bcx.simulate.scene import Map, Scene, curve, grid, ramp, ridges, smooth_field


def _line(distance: Map, thick: float, pixel: float) -> Map:
    """A line of half thickness `thick` along the zero of a signed distance, float32 in 0..1."""
    return np.exp(-0.5 * (distance / max(thick, 0.6 * pixel)) ** 2)


def _grains(rng: np.random.Generator, shape: tuple[int, int], count: int) -> Map:
    """Strong lone scatterers in dB above the tissue, at `count` random places: 0 elsewhere."""
    grains = np.zeros(shape, np.float32)
    place = (rng.random((2, count)) * np.array(shape)[:, None]).astype(int)
    grains[place[0], place[1]] = rng.uniform(8, 20, count)
    return grains


def breast(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw the tissue of one breast without a lesion, float32 maps of [height, width]."""
    y, x = grid(height, width)
    pixel = 1 / height
    lean = rng.normal(0, 0.05) * (x - x.mean())
    fine = curve(rng, x, wide=0.07, height=0.006)
    skin = rng.uniform(0.025, 0.05) + curve(rng, x, wide=0.5, height=0.002)
    gland = rng.uniform(0.12, 0.27) + lean + fine + curve(rng, x, wide=0.22, height=0.025)
    retro = gland + rng.uniform(0.24, 0.45) + curve(rng, x, wide=0.3, height=0.025) - fine
    muscle = retro + rng.uniform(0.05, 0.12) + lean * 0.3 + curve(rng, x, wide=0.5, height=0.012)
    chest = muscle + rng.uniform(0.12, 0.24) + curve(rng, x, wide=0.5, height=0.012)

    in_fat = ramp(y - skin, 0.002)
    in_gland = ramp(y - gland, 0.010)
    in_retro = ramp(y - retro, 0.010)
    in_muscle = ramp(y - muscle, 0.006)
    in_chest = ramp(y - chest, 0.006)

    # fields run along the layers, bent a little, so that fibres follow the surfaces between them
    bend = smooth_field(rng, y, x, tall=0.13, wide=0.2) * np.float32(0.016)
    depth = y - 0.7 * (gland - gland.mean()) + bend
    lobules = smooth_field(rng, depth + 2 * bend, x, tall=rng.uniform(0.03, 0.05), wide=rng.uniform(0.09, 0.16))
    fibres = smooth_field(rng, depth, x, tall=0.020, wide=0.15)
    mottle = smooth_field(rng, depth, x, tall=0.010, wide=0.035)
    islands = smooth_field(rng, depth, x, tall=0.055, wide=0.12)
    strands = smooth_field(rng, y - chest, x, tall=0.015, wide=0.22)
    patchy = smooth_field(rng, y, x, tall=0.16, wide=0.25)

    septa = ridges(lobules, pixel, 0.0030, favour=1.6)
    threads = ridges(fibres - 0.3 * mottle, pixel, 0.0022)
    weave = ridges(strands, pixel, 0.0020)
    on_off = np.clip(0.7 + 1.0 * patchy + 0.6 * islands, 0, 2.5)

    fat = rng.uniform(-15, -9) + 1.2 * mottle + 6.0 * np.exp(-4.0 * lobules**2) + patchy
    glandular = 2.4 * mottle + 2.8 * fibres + 2.2 * patchy - 5.0 * ramp(islands - rng.uniform(0.6, 1.6), 0.12)
    striated = -9 + 1.2 * mottle + 3.0 * strands
    echo = np.full((height, width), -4.0, np.float32)
    for share, level in (
        (in_fat, fat),
        (in_gland, glandular),
        (in_retro, fat - 1),
        (in_muscle, striated),
        (in_chest, np.float32(-13) + mottle),
    ):
        echo = echo * (1 - share) + level * share
    echo += _grains(rng, (height, width), 1200) * (0.25 + 0.75 * (in_gland - in_retro)) * in_fat

    fatty = (in_fat - in_gland) + (in_retro - in_muscle)
    mirror = 3.2 * septa * fatty * np.clip(0.8 + 0.7 * patchy - 0.4 * islands, 0.1, 2)
    mirror += rng.uniform(2.5, 7) * threads * on_off * (in_gland - in_retro) + 2.0 * weave * (in_muscle - in_chest)
    for edge, strength in ((gland, 0.9), (retro, 0.7), (muscle, 1.6), (chest, 2.2)):
        worn = np.clip(0.3 + curve(rng, x, wide=0.1, height=0.7), 0, 1.8)
        mirror += strength * worn * _line(y - edge, 0.003, pixel)
    mirror *= np.clip(0.9 + 0.45 * mottle, 0.15, 2)
    mirror += 2.5 * _line(y - 0.006, 0.004, pixel) + np.float32(1.4) * _line(y - skin, 0.003, pixel)

    fade = rng.uniform(16, 34)
    loss = fade * 1.5 * np.sqrt(y) + np.zeros_like(echo)
    loss += 9 * curve(rng, x, wide=0.06, height=1.0) * np.exp(-(((y - 0.15) / 0.12) ** 2))
    if rng.random() < 0.45:  # one side of the probe has lifted off the skin
        reach = rng.uniform(0.05, 0.16)
        side = x if rng.random() < 0.5 else x.max() - x
        loss += rng.uniform(60, 160) * np.exp(-((side / reach) ** 2)) * np.exp(-y / 0.12)
    if rng.random() < 0.15:  # a rib: a bright cap on the chest wall and nothing behind it
        across = (x - rng.uniform(0.1, 0.9) * x.max()) / rng.uniform(0.14, 0.22)
        cap = chest + 0.05 * across**2
        there = ramp(1 - np.abs(across), 0.16)
        mirror += 1.6 * there * _line(y - cap, 0.006, pixel)
        loss += 110 * there * ramp(y - cap - 0.012, 0.01)
    return Scene(echo.astype(np.float32), mirror.astype(np.float32), loss.astype(np.float32))
