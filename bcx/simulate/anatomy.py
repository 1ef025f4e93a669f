"""A breast in layers: skin, fat, gland, fat again, muscle, sometimes a rib.

>>> import numpy as np
>>> scene = breast(np.random.default_rng(0), 96, 120)
>>> scene.echo.shape
(96, 120)
"""

from __future__ import annotations

import numpy as np

from bcx.simulate.scene import Scene, curve, grid, ramp, ridges, smooth_field


def breast(rng: np.random.Generator, height: int, width: int) -> Scene:
    """Draw the tissue of one breast without a lesion, float32 maps of [height, width]."""
    y, x = grid(height, width)
    pixel = 1 / height
    skin = 0.03 + rng.uniform(0, 0.015) + curve(rng, x, wide=0.5, height=0.002)
    gland = rng.uniform(0.16, 0.28) + curve(rng, x, wide=0.25, height=0.025)
    retro = gland + rng.uniform(0.26, 0.4) + curve(rng, x, wide=0.35, height=0.02)
    muscle = retro + rng.uniform(0.05, 0.1) + curve(rng, x, wide=0.6, height=0.012)
    chest = muscle + rng.uniform(0.16, 0.26) + curve(rng, x, wide=0.6, height=0.01)

    in_fat = ramp(y - skin, 0.002)
    in_gland = ramp(y - gland, 0.006)
    in_retro = ramp(y - retro, 0.006)
    in_muscle = ramp(y - muscle, 0.004)
    in_chest = ramp(y - chest, 0.004)

    bend = smooth_field(rng, y, x, tall=0.2, wide=0.3) * np.float32(0.03)
    lobules = smooth_field(rng, y + bend, x, tall=0.055, wide=0.13)
    fibres = smooth_field(rng, y + bend, x, tall=0.022, wide=0.12)
    mottle = smooth_field(rng, y + bend, x, tall=0.03, wide=0.07)
    strands = smooth_field(rng, y - chest * 0.9, x, tall=0.014, wide=0.3)
    patchy = smooth_field(rng, y, x, tall=0.15, wide=0.25)

    fat_echo = rng.uniform(-13, -9)
    echo = np.full((height, width), 3.0, np.float32)
    for share, level in (
        (in_fat, fat_echo + 1.2 * mottle),
        (in_gland, 3.0 * mottle + 2.5 * fibres + 2.0 * patchy),
        (in_retro, fat_echo - 1 + 1.2 * mottle),
        (in_muscle, -9 + 3.5 * strands),
        (in_chest, np.float32(-16) + mottle),
    ):
        echo = echo * (1 - share) + level * share

    septa = ridges(lobules, pixel, 0.0022)
    threads = ridges(fibres, pixel, 0.0016)
    weave = ridges(strands, pixel, 0.0014)
    fat_part = (in_fat - in_gland) + (in_retro - in_muscle)
    mirror = 1.6 * septa * fat_part + 0.9 * threads * np.maximum(fibres + 0.5, 0) * (in_gland - in_retro)
    mirror = mirror + 1.0 * weave * (in_muscle - in_chest)
    for edge, strength in ((gland, 0.8), (retro, 0.8), (muscle, 2.2), (chest, 2.0)):
        worn = np.clip(0.6 + curve(rng, x, wide=0.12, height=0.5), 0, 1.6)
        mirror = mirror + strength * worn * np.exp(-0.5 * ((y - edge) / 0.0025) ** 2)
    for edge, strength in ((0.008, 5.0), (skin, 3.0)):
        mirror = mirror + strength * np.exp(-0.5 * ((y - edge) / 0.0025) ** 2)

    fade = rng.uniform(8, 22)
    loss = np.broadcast_to(fade * y**1.5 * 1.6, (height, width)).astype(np.float32)
    streaks = curve(rng, x, wide=0.08, height=2.5)
    return Scene(echo.astype(np.float32), mirror.astype(np.float32), loss + streaks)
