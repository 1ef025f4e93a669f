"""What the beam meets: maps of scattering, mirrors and loss, and the random fields that draw them.

All lengths are fractions of the picture's height, so that one seed gives the same anatomy at every size.

>>> import numpy as np
>>> y, x = grid(96, 120)
>>> field = smooth_field(np.random.default_rng(0), y, x, tall=0.1, wide=0.3)
>>> field.shape, bool(abs(field).max() < 6)
((96, 120), True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]


@dataclass
class Scene:
    """The tissue under the probe, one value per pixel of the picture.

    Attributes:
        echo: float32 [H, W], backscatter of unresolved scatterers in dB (fibroglandular tissue is 0).
        mirror: float32 [H, W], amplitude of coherent reflectors (septa, fasciae, capsules), 0 where there are none;
            1 is as strong as fibroglandular speckle.
        loss: float32 [H, W], attenuation in dB per picture height beyond what the machine's depth gain makes up for;
            negative where the sound is weakened less than that, which brightens everything below.
    """

    echo: Map
    mirror: Map
    loss: Map


def grid(height: int, width: int) -> tuple[Map, Map]:
    """Coordinates of the pixel centres in picture heights: `y` float32 [H, 1] in 0..1, `x` float32 [1, W] in 0..W/H."""
    y = ((np.arange(height) + 0.5) / height).astype(np.float32)
    x = ((np.arange(width) + 0.5) / height).astype(np.float32)
    return y[:, None], x[None, :]


def smooth_field(rng: np.random.Generator, y: Map, x: Map, *, tall: float, wide: float) -> Map:
    """A smooth random field of mean 0 and standard deviation about 1, at any coordinates.

    White noise on nodes `tall` x `wide` apart, joined by cubic B-splines (a sum of four by four bumps, so that
    values, slopes and curvatures are continuous).

    Args:
        y, x: float32 arrays of coordinates that broadcast together, in picture heights.
        tall, wide: distance of the nodes; features are about twice as large.

    Returns:
        float32 of the broadcast shape.
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
    """A smooth random line over `x` (float32 [1, W]) of standard deviation `height` and features about 2 `wide`."""
    return smooth_field(rng, np.zeros_like(x), x, tall=1.0, wide=wide) * np.float32(height)


def ridges(field: Map, pixel: float, thick: float, *, favour: float = 2.0) -> Map:
    """Thin bright lines along the zero level of a field: how septa and fibres look across a beam.

    A mirror answers when it lies square to the beam, so a line's strength falls with its slope (the cosine of the
    angle between its normal and the vertical, to the power `favour`).

    Args:
        field: float32 [H, W].
        pixel: side of a pixel in picture heights.
        thick: half thickness of the line in picture heights.

    Returns:
        float32 [H, W] in 0..1.
    """
    down, across = np.gradient(field, pixel)
    steep = np.sqrt(down**2 + across**2) + 1e-3
    thick = max(thick, 0.6 * pixel)
    line = np.exp(-0.5 * (field / (steep * thick)) ** 2)
    return (line * (np.abs(down) / steep) ** favour).astype(np.float32)


def ramp(distance: Map, soft: float) -> Map:
    """0 well above an edge, 1 well below it: a logistic step of width `soft` over a signed `distance`."""
    return (1 / (1 + np.exp(np.clip(-distance / soft, -30, 30)))).astype(np.float32)
