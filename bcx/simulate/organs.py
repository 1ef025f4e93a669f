"""Looks of other ultrasound than a breast's: thyroid, liver, fetal head, heart, phantom; flat and curved probes.

They have the layout, the depth, the probe and the speckle of their kind, and are no anatomy.
"""

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from bcx.simulate.anatomy import Map, Scene, grid, line, ramp, smooth_field
from bcx.simulate.formation import compress, envelope


class Probe(NamedTuple):
    """The face of a probe: the angle between its outer beams in degrees, and its radius in depths of the image."""

    opening: float = 0.0
    radius: float = 0.0


LINEAR, CONVEX, PHASED = Probe(), Probe(64, 0.45), Probe(82, 0.03)


def simulate_organ(kind: str, seed: int, *, probe: Probe = LINEAR) -> np.ndarray:
    """Make one picture, uint8 [420, 560]; the same arguments give the same pixels. `kind`: a key of `ORGANS`."""
    tissue, sound = (np.random.default_rng([seed, list(ORGANS).index(kind), part]) for part in (10, 11))
    y, x = _beams(probe, 420, 560)
    drawn = ORGANS[kind](tissue, y, x)
    scene = Scene(*(part.astype(np.float32) for part in (drawn.echo, drawn.mirror, drawn.loss)))
    amplitude = envelope(scene, sound, looks=3, focus=sound.uniform(0.3, 0.6))
    pixels = compress(amplitude, sound, gain=sound.normal(-1, 2))
    return _scan_converted(pixels, probe) if probe.opening else pixels


def _beams(probe: Probe, height: int, width: int) -> tuple[Map, Map]:
    """Depth of each sample of each beam below the face's middle, and offset to its right, float32 [H, W]."""
    depth, across = ((np.arange(n, dtype=np.float32) + 0.5) / n for n in (height, width))
    if not probe.opening:
        offset = ((across - 0.5) * (width / height)).astype(np.float32)
        return np.repeat(depth[:, None], width, axis=1), np.repeat(offset[None], height, axis=0)
    angle = np.radians(probe.opening) * (across[None] - 0.5)
    reach = probe.radius + depth[:, None]
    return (reach * np.cos(angle) - probe.radius).astype(np.float32), (reach * np.sin(angle)).astype(np.float32)


def _scan_converted(beams: np.ndarray, probe: Probe) -> np.ndarray:
    """From beams side by side to the fan that they make on the screen, black around it."""
    height, width = beams.shape
    half = np.radians(probe.opening) / 2
    top = probe.radius * np.cos(half)  # where the outer beams begin, the highest of the fan
    scale = max((1 + probe.radius - top) / height, 2 * (1 + probe.radius) * np.sin(half) / width)
    down = top + scale * (np.arange(height, dtype=np.float32) + 0.5)[:, None]
    across = scale * (np.arange(width, dtype=np.float32) + 0.5 - width / 2)[None]
    rows = (np.hypot(down, across) - probe.radius) * height - 0.5
    columns = (np.arctan2(across, down) / (2 * half) + 0.5) * width - 0.5
    return cv2.remap(beams, columns.astype(np.float32), rows.astype(np.float32), cv2.INTER_LINEAR)


def _ellipse(y: Map, x: Map, at: tuple[float, float], half: tuple[float, float], tilt: float = 0.0) -> Map:
    """About the distance from the edge of an ellipse, negative inside; `at` and `half`: down, across."""
    dy, dx = y - at[0], x - at[1]
    v, u = dy * np.cos(tilt) - dx * np.sin(tilt), dx * np.cos(tilt) + dy * np.sin(tilt)
    return (np.hypot(v / half[0], u / half[1]) - 1) * min(half)


class _Drawing:
    """A scene in the making: even tissue of `level` dB under skin, in whose maps parts are set."""

    def __init__(self, rng: np.random.Generator, y: Map, x: Map, level: float, grain: float = 1.2, fade: float = 20):
        mottle = smooth_field(rng, y, x, tall=0.012, wide=0.02)
        patchy = smooth_field(rng, y, x, tall=0.2, wide=0.3)
        self.echo = level + grain * (mottle + 0.8 * patchy)
        below = grid(*y.shape)[0]  # the probe's face, along every beam
        self.mirror = 3 * line(below - 0.006, 0.005) + np.zeros_like(y)
        self.loss = np.float32(fade) * np.sqrt(np.maximum(y, 0))

    def fill(self, outside: Map, level: float, *, wall: float = 0.0, gained: float = 0.0, thick: float = 0.004) -> None:
        """Fill a part with scatterers of `level` dB; `wall`: mirror of its edge; `gained`: dB per depth in it."""
        inside = 1 - ramp(outside, 0.003)
        self.echo = self.echo * (1 - inside) + level * inside
        self.mirror = self.mirror * (1 - inside) + wall * line(outside, thick)
        self.loss = self.loss - gained * inside


def _thyroid(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Two even lobes beside a windpipe that shadows, neck arteries outside them, flat muscles above."""
    draw = _Drawing(rng, y, x, -9, 2.0)
    fibres = smooth_field(rng, y, x, tall=0.012, wide=0.25)
    draw.echo += 3 * fibres * (1 - ramp(y - 0.2, 0.01))
    middle, top = rng.normal(0, 0.05), rng.uniform(0.2, 0.28)
    high, wide = rng.uniform(0.14, 0.2), rng.uniform(0.2, 0.28)
    for side in (-1, 1):
        lobe = _ellipse(y, x, (top + high, middle + side * (wide + 0.08)), (high, wide), side * 0.15)
        draw.fill(lobe, rng.uniform(-3, 1), wall=1.2)
        artery = _ellipse(y, x, (top + high, middle + side * (2 * wide + 0.18)), (0.075, 0.075))
        draw.fill(artery, -42, wall=1.5, gained=40)
    pipe = _ellipse(y, x, (top + 0.2, middle), (0.17, 0.15))
    draw.fill(pipe, -30, wall=5)
    echoes = sum(line(pipe + 0.035 * n, 0.005) / n for n in range(1, 5))
    draw.mirror += 3 * echoes * (np.abs(x - middle) < 0.1)
    draw.loss += 80 * (1 - ramp(pipe + 0.03, 0.005))
    return draw


def _liver(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Even tissue, vessels with and without bright walls, the diaphragm deep in it."""
    draw = _Drawing(rng, y, x, rng.uniform(-8, -4), 1.4, rng.uniform(14, 26))
    bend = 0.04 * smooth_field(rng, y, x, tall=0.3, wide=0.3)
    for number in range(int(rng.integers(4, 9))):
        at = (rng.uniform(0.25, 0.75), rng.uniform(-0.5, 0.5))
        half = (rng.uniform(0.012, 0.03), rng.uniform(0.06, 0.25))
        tube = _ellipse(y + bend, x, at, half, rng.uniform(-1.2, 1.2))
        draw.fill(tube, -40, wall=3.5 if number % 2 else 0.3)
    bottom = y - rng.uniform(0.78, 0.9) + rng.uniform(0.1, 0.4) * (x - rng.normal(0, 0.2)) ** 2
    draw.echo -= 9 * ramp(bottom, 0.01)
    draw.mirror += 9 * line(bottom, 0.008)
    return draw


def _fetus(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """A skull as a bright ring, with the brain's middle line, in fluid below the wall of the womb."""
    draw = _Drawing(rng, y, x, -8, 2.0)
    at, size, tilt = (rng.uniform(0.45, 0.58), rng.normal(0, 0.05)), rng.uniform(0.2, 0.28), rng.normal(0, 0.4)
    draw.fill(_ellipse(y, x, at, (size + 0.12, 1.25 * size + 0.16), tilt), -44, gained=10)
    skull = _ellipse(y, x, at, (size, 1.25 * size), tilt)
    draw.fill(skull, -17, wall=10, thick=0.009)
    along = (y - at[0]) * np.cos(tilt) - (x - at[1]) * np.sin(tilt)
    draw.mirror += 3 * line(along, 0.006) * (skull < -0.04)
    for side in (-1, 1):
        draw.fill(_ellipse(y, x, (at[0] + 0.3 * side * size, at[1]), (0.16 * size, 0.5 * size), tilt), -32, wall=1)
    return draw


def _heart(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Four empty chambers in muscle, with leaflets between them and a bright sac behind."""
    draw = _Drawing(rng, y, x, rng.uniform(-20, -14), 3.0, rng.uniform(16, 24))
    level, tall = rng.uniform(0.5, 0.6), rng.uniform(0.14, 0.19)
    for side in (-1, 1):
        wide = rng.uniform(0.09, 0.14)
        across = side * (wide + rng.uniform(0.02, 0.035))
        draw.fill(_ellipse(y, x, (level - tall - 0.02, across), (tall, wide), 0.25 * side), -46, wall=2)
        draw.fill(_ellipse(y, x, (level + 0.12, across), (0.11, wide), 0), -46, wall=2)
        leaf = (y - level + 0.03) + side * rng.uniform(0.3, 0.9) * (x - across)
        draw.mirror += 5 * line(leaf, 0.005) * (np.abs(x - across) < 0.8 * wide)
    sac = _ellipse(y, x, (level - 0.02, 0), (0.33, 0.33))
    draw.mirror += 5 * line(sac, 0.01) * (y > level)
    draw.echo -= 8 * ramp(sac - 0.03, 0.01)
    return draw


def _phantom(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Even speckle with rows of wires and of round targets, brighter, darker and empty."""
    draw = _Drawing(rng, y, x, -6, 0.2, rng.uniform(6, 14))
    step = rng.uniform(0.1, 0.16)
    for depth in np.arange(step, 1, step):
        draw.mirror += 9 * line(np.hypot(y - depth, x - rng.choice([0, 0, 0.02])), 0.005)
    size = rng.uniform(0.04, 0.07)
    for row in (rng.uniform(0.25, 0.4), rng.uniform(0.6, 0.8)):
        for number, across in enumerate(np.arange(-0.6, 0.7, rng.uniform(0.2, 0.28))):
            draw.fill(_ellipse(y, x, (row, across), (size, size)), (-46, -14, -10, 0, 6)[number % 5])
    return draw


def _kidney(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Under the liver, a bean with a dark rim, darker pyramids and a bright middle."""
    draw = _Drawing(rng, y, x, rng.uniform(-8, -5), 1.4, rng.uniform(14, 24))
    at, half, tilt = (rng.uniform(0.5, 0.6), rng.normal(0, 0.06)), (0.16, rng.uniform(0.28, 0.36)), rng.normal(0, 0.25)
    draw.fill(_ellipse(y, x, at, half, tilt), -12, wall=2.5)
    for turn in np.arange(0, 2 * np.pi, 0.9) + rng.uniform(0, 0.9):
        place = at[0] + 0.62 * half[0] * np.sin(turn), at[1] + 0.7 * half[1] * np.cos(turn)
        draw.fill(_ellipse(y, x, place, (0.03, 0.04)), -20)
    draw.fill(_ellipse(y, x, at, (0.06, 0.55 * half[1]), tilt), 3)
    return draw


def _muscle(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """Fat, fasciae, two layers of long slanting fibres, and a bone that shadows."""
    draw = _Drawing(rng, y, x, -12, 2.0)
    lean, bone = rng.uniform(-0.25, 0.25), rng.uniform(0.75, 0.88)
    for top, tilt in ((rng.uniform(0.14, 0.2), lean), (rng.uniform(0.42, 0.52), -0.7 * lean)):
        fibres = smooth_field(rng, y + tilt * x, x, tall=0.016, wide=0.5)
        inside = ramp(y - top, 0.005)
        draw.echo = draw.echo * (1 - inside) + (-14 + 5 * fibres) * inside
        draw.mirror += 5 * line(y - top, 0.005) + 1.5 * inside * np.clip(fibres - 1, 0, 1)
    draw.mirror += 10 * line(y - bone, 0.007)
    draw.loss += 90 * ramp(y - bone - 0.01, 0.01)
    return draw


def _thyroid_along(rng: np.random.Generator, y: Map, x: Map) -> _Drawing:
    """One lobe lengthwise, a spindle from side to side under flat muscle, with a dark nodule."""
    draw = _Drawing(rng, y, x, -12, 2.0)
    draw.echo += 4 * smooth_field(rng, y, x, tall=0.012, wide=0.3) * (1 - ramp(y - 0.22, 0.01))
    depth, half = rng.uniform(0.38, 0.46), (rng.uniform(0.14, 0.19), rng.uniform(0.55, 0.75))
    draw.fill(_ellipse(y, x, (depth, rng.normal(0, 0.08)), half, rng.normal(0, 0.05)), rng.uniform(-3, 1), wall=1.5)
    size = rng.uniform(0.05, 0.09)
    draw.fill(_ellipse(y, x, (depth, rng.uniform(-0.3, 0.3)), (size, 1.4 * size)), rng.uniform(-20, -10), wall=1)
    return draw


ORGANS: dict[str, Callable[[np.random.Generator, Map, Map], _Drawing]] = {
    draw.__name__[1:].replace("_", " "): draw
    for draw in (_thyroid, _liver, _fetus, _heart, _phantom, _kidney, _muscle, _thyroid_along)
}
