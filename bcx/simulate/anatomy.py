"""What the beam meets: a breast in layers and its lesions, as maps of scattering, mirrors and loss.

All lengths are fractions of the image's height, so that one seed gives the same anatomy at every size.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass
class Scene:
    """The tissue under the probe: float32 [H, W], one value per pixel of the image."""

    echo: Map  # backscatter of unresolved scatterers in dB (fibroglandular tissue is 0)
    mirror: Map  # amplitude of coherent reflectors (septa, fasciae); 1 is as strong as fibroglandular speckle
    loss: Map  # attenuation in dB per image height beyond what depth gain makes up for; below 0 it brightens


def grid(height: int, width: int) -> tuple[Map, Map]:
    """Return `y`, float32 [H, 1], 0..1, and `x`, float32 [1, W], 0..W/H, of the pixel centres, in image heights."""
    y = ((np.arange(height) + 0.5) / height).astype(np.float32)
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)
    return y[:, None], x[None, :]


def smooth_field(rng: np.random.Generator, y: Map, x: Map, *, tall: float, wide: float) -> Map:
    """Return a smooth random field of mean 0 and standard deviation about 1 at coordinates that broadcast together.

    White noise on nodes `tall` x `wide` apart, joined by cubic B-splines; features are about twice as large.
    """
    from scipy.ndimage import map_coordinates

    rows, columns = np.broadcast_arrays(y / tall, x / wide)
    top, left = float(rows.min()), float(columns.min())
    shape = int(rows.max() - top) + 5, int(columns.max() - left) + 5
    nodes = rng.standard_normal(shape).astype(np.float32)
    # 0.48 = sum of squares of the cubic B-spline's weights, averaged over positions (151/315): the power along one
    # axis, and so the standard deviation along two
    values = map_coordinates(nodes, np.stack([rows - top + 1.5, columns - left + 1.5]), order=3, prefilter=False)
    return (values / 0.48).astype(np.float32)


def curve(rng: np.random.Generator, x: Map, *, wide: float, height: float) -> Map:
    """Return a smooth random line over `x` of standard deviation `height`, with features of about 2 `wide`."""
    return smooth_field(rng, np.zeros_like(x), x, tall=1.0, wide=wide) * np.float32(height)


def ridges(field: Map, pixel: float, thick: float, *, favour: float = 2.0) -> Map:
    """Return thin bright lines along the zero level of a field, float32 [H, W], 0..1: septa and fibres across a beam.

    A mirror answers when it lies square to the beam: strength falls with the line's slope, to the power `favour`.
    """
    down, across = np.gradient(field, pixel)
    steep = np.sqrt(down**2 + across**2) + 1e-3
    thick = max(thick, 0.6 * pixel)
    line = np.exp(-0.5 * (field / (steep * thick)) ** 2)
    return (line * (np.abs(down) / steep) ** favour).astype(np.float32)


def ramp(distance: Map, soft: float) -> Map:
    """Return a logistic step, 0 well above an edge and 1 well below it."""
    return (1 / (1 + np.exp(np.clip(-distance / soft, -30, 30)))).astype(np.float32)


def line(distance: Map, thick: float, pixel: float = 0.0) -> Map:
    """Return a bright line where a distance is 0, at least as thick as a pixel shows."""
    return np.exp(-0.5 * (distance / max(thick, 0.6 * pixel)) ** 2)


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

    edges = ((skin, 0.002), (gland, 0.010), (retro, 0.010), (muscle, 0.006), (chest, 0.006))
    in_fat, in_gland, in_retro, in_muscle, in_chest = (ramp(y - edge, soft) for edge, soft in edges)

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
    deep = np.float32(-13) + mottle
    echo = np.full((height, width), -4.0, np.float32)
    layers = (in_fat, fat), (in_gland, glandular), (in_retro, fat - 1), (in_muscle, striated), (in_chest, deep)
    for share, level in layers:
        echo = echo * (1 - share) + level * share
    grains = np.zeros((height, width), np.float32)  # strong lone scatterers, dB above the tissue
    down, across = (rng.random((2, 1200)) * [[height], [width]]).astype(int)
    grains[down, across] = rng.uniform(8, 20, 1200)
    echo += grains * (0.25 + 0.75 * (in_gland - in_retro)) * in_fat

    fatty = (in_fat - in_gland) + (in_retro - in_muscle)
    mirror = 3.2 * septa * fatty * np.clip(0.8 + 0.7 * patchy - 0.4 * islands, 0.1, 2)
    mirror += rng.uniform(2.5, 7) * threads * on_off * (in_gland - in_retro) + 2.0 * weave * (in_muscle - in_chest)
    for edge, strength in ((gland, 0.9), (retro, 0.7), (muscle, 1.6), (chest, 2.2)):
        worn = np.clip(0.3 + curve(rng, x, wide=0.1, height=0.7), 0, 1.8)
        mirror += strength * worn * line(y - edge, 0.003, pixel)
    mirror *= np.clip(0.9 + 0.45 * mottle, 0.15, 2)
    mirror += 2.5 * line(y - 0.006, 0.004, pixel) + np.float32(1.4) * line(y - skin, 0.003, pixel)

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
        mirror += 1.6 * there * line(y - cap, 0.006, pixel)
        loss += 110 * there * ramp(y - cap - 0.012, 0.01)
    return Scene(echo.astype(np.float32), mirror.astype(np.float32), loss.astype(np.float32))


class _Outline(NamedTuple):
    outside: Map  # about the distance from the edge in image heights, negative inside
    angle: Map  # direction from the centre in radians, 0 to the right and pi/2 downwards
    tall: float  # height of the lesion in image heights


def _waves(rng: np.random.Generator, angle: Map, roughness: float, orders: range) -> Map:
    """Relative radius over `angle`: 1 plus waves, weaker with order."""
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


def _outline(rng: np.random.Generator, label: str, height: int, width: int) -> _Outline:
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
    return _Outline(outside.astype(np.float32), angle, 2 * half_tall)


def add_lesion(scene: Scene, label: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Put one lesion into `scene`, in place; return where it is, bool [H, W].

    Signs of BI-RADS. Benign: an oval wider than tall, even or (a cyst) empty, with a thin bright capsule, enhancement
    below and shadows from its sides. Malignant: taller than wide, spiculated, uneven, in a halo, with a shadow below.
    """
    height, width = scene.echo.shape
    edge = _outline(rng, label, height, width)
    (_benign if label == "benign" else _malignant)(scene, edge, rng)
    return edge.outside < 0


def _fill(scene: Scene, inside: Map, level: Map, gained: float, tall: float) -> None:
    """Replace the tissue by scatterers of `level` dB; sound that crosses all of it gains `gained` dB."""
    scene.echo += ((level - scene.echo) * inside).astype(np.float32)
    scene.mirror *= 1 - inside
    scene.loss -= (gained / tall * inside).astype(np.float32)


def _benign(scene: Scene, edge: _Outline, rng: np.random.Generator) -> None:
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


def _malignant(scene: Scene, edge: _Outline, rng: np.random.Generator) -> None:
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
