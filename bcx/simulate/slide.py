"""Simulated slides of any size: stained-looking tissue on glass, with regions of tumour, written piece by piece.

Blobs with soft borders are painted with two small textures, without and with a tumour, which repeat. A pixel depends on
the seed and on where it lies alone, so that a slide written tile by tile has no seams. It is cheap rather than true to
life: for tests, the example and the benchmark, never for training.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bcx.errors import MissingExtra
from bcx.files import whole
from bcx.simulate.histology import simulate_tissue

#: Side of the textures, which are repeated over the slide, and of a written tile.
TEXTURE, TILE = 512, 256
#: Pixels over which a texture's end fades into its beginning.
FADE = 48
#: Pixels between the points where the outlines of tissue and tumour are known; between them they are blended.
COARSE = 64

_GLASS = np.array([243, 240, 244], np.float32)


@dataclass(frozen=True)
class SlideScene:
    """One simulated slide of `width` x `height` pixels, drawn part by part; `tissue`: share of it that is tissue."""

    seed: int
    width: int
    height: int
    tissue: float = 0.5
    _shift: tuple[int, int] = field(init=False, repr=False)
    _outlines: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "_shift", tuple(int(each) for each in rng.integers(0, TEXTURE, 2)))
        object.__setattr__(self, "_outlines", self._draw_outlines(rng))

    def _draw_outlines(self, rng: np.random.Generator) -> np.ndarray:
        """Return float32 `[rows, columns, 2]`, 0..1, on the coarse points: how far inside tissue, inside tumour."""
        shape = (-(-self.height // COARSE) + 2, -(-self.width // COARSE) + 2)
        levels = []
        for cells, share in ((4, self.tissue), (9, 0.35)):
            height = np.zeros(shape, np.float32)
            for octave, weight in ((1, 1.0), (3, 0.3), (8, 0.12)):  # large shapes, smaller ones on their borders
                coarse = rng.normal(0, weight, (octave * cells + 3,) * 2).astype(np.float32)
                height += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
            levels.append(np.clip((height - np.quantile(height, 1 - share)) * 6 + 0.5, 0, 1))
        return np.dstack(levels).astype(np.float32)

    def part(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 `[height, width, 3]` of the slide from (x, y) on."""
        inside = self._outline(x, y, width, height)
        tissue, tumour = inside[..., :1], inside[..., 1:]
        right, down = self._shift
        where = np.ix_(
            np.arange(y + down, y + down + height) % TEXTURE, np.arange(x + right, x + right + width) % TEXTURE
        )
        quiet, dense = _texture(tumour=False)[where], _texture(tumour=True)[where]
        stained = quiet + tumour * (dense - quiet)
        return np.clip(_GLASS + tissue * (stained - _GLASS), 0, 255).astype(np.uint8)

    def tumour(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return bool `[height, width]`: where the slide shows tumour."""
        inside = self._outline(x, y, width, height)
        return (inside[..., 0] > 0.5) & (inside[..., 1] > 0.5)

    def _outline(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return float32 `[height, width, 2]`: the coarse points, blended."""
        columns = (np.arange(x, x + width, dtype=np.float32) / COARSE)[None].repeat(height, 0)
        rows = (np.arange(y, y + height, dtype=np.float32) / COARSE)[:, None].repeat(width, 1)
        left, top = x // COARSE, y // COARSE
        # remap knows no image longer than 32,767 pixels, so it gets the points around the part alone.
        near = self._outlines[top : top + height // COARSE + 3, left : left + width // COARSE + 3]
        return cv2.remap(near, columns - left, rows - top, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def write_slide(
    file: str | os.PathLike[str],
    width: int,
    height: int,
    *,
    seed: int = 0,
    tissue: float = 0.5,
    compression: str | None = "jpeg",
    microns: float | None = None,
) -> Path:
    """Write a simulated slide as a tiled BigTIFF, tile by tile, so that its size does not matter.

    Args:
        compression: as tifffile names it ("jpeg", "zlib", None for none).
        microns: micrometres per pixel, noted in the file; None notes nothing.

    Raises:
        MissingExtra: tifffile or its encoders are not installed.
    """
    try:
        import imagecodecs  # noqa: F401
        import tifffile
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{error.name} is not installed, which slides are written with.",
            expected="the extra 'slides'",
            remedy='Install it with: pip install "bcx[slides]"',
        ) from error
    scene = SlideScene(seed, width, height, tissue)
    file = Path(file)
    noted: dict[str, Any] = {}
    if microns is not None:
        noted = {"resolution": (10_000 / microns, 10_000 / microns), "resolutionunit": "CENTIMETER"}
    with whole(file) as partial, tifffile.TiffWriter(partial, bigtiff=True) as writer:
        writer.write(
            _tiles(scene),
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="rgb",
            compression=compression,
            compressionargs={"level": 85} if compression == "jpeg" else None,
            metadata=None,
            **noted,
        )
    return file


def _tiles(scene: SlideScene) -> Iterator[np.ndarray]:
    for y in range(0, scene.height, TILE):
        for x in range(0, scene.width, TILE):
            yield scene.part(x, y, TILE, TILE)  # beyond the edge, too: tiles are stored whole


@functools.cache
def _texture(tumour: bool) -> np.ndarray:
    """Return float32 `[TEXTURE, TEXTURE, 3]` that continues over its edges: its beginning fades in from its end."""
    side = TEXTURE + FADE
    drawn = simulate_tissue(np.full((side, side), tumour), 0).astype(np.float32)
    share = np.linspace(0, 1, FADE, dtype=np.float32)
    drawn[:FADE] = drawn[:FADE] * share[:, None, None] + drawn[TEXTURE:] * (1 - share[:, None, None])
    drawn[:, :FADE] = drawn[:, :FADE] * share[:, None] + drawn[:, TEXTURE:] * (1 - share[:, None])
    texture = np.ascontiguousarray(drawn[:TEXTURE, :TEXTURE])
    texture.flags.writeable = False  # shared by all scenes
    return texture
