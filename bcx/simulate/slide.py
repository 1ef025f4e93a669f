"""Simulated slides of any size: stained-looking tissue on glass, with regions of tumour, written piece by piece.

Two small textures, without and with a tumour, repeat. A pixel depends on the seed and on where it lies alone, so that a
slide written tile by tile has no seams. For tests and the benchmark, never for training.
"""

import functools
from pathlib import Path

import cv2
import numpy as np

from bcx.files import AnyPath, whole
from bcx.simulate.histology import simulate_tissue

#: Side of the textures, which are repeated over the slide, and of a written tile.
TEXTURE, TILE = 512, 256
FADE = 48  # pixels over which a texture's end fades into its beginning
COARSE = 64  # pixels between the points where the outlines of tissue and tumour are known; between, they are blended

_GLASS = np.array([243, 240, 244], np.float32)


class SlideScene:
    """One simulated slide of `width` x `height` pixels, drawn part by part; `tissue`: share of it that is tissue."""

    def __init__(self, seed: int, width: int, height: int, tissue: float = 0.5) -> None:
        rng = np.random.default_rng(seed)
        self._shift = tuple(int(each) for each in rng.integers(0, TEXTURE, 2))
        shape = (-(-height // COARSE) + 2, -(-width // COARSE) + 2)
        levels = []
        for cells, share in ((4, tissue), (9, 0.35)):
            level = np.zeros(shape, np.float32)
            for octave, weight in ((1, 1.0), (3, 0.3), (8, 0.12)):  # large shapes, smaller ones on their borders
                coarse = rng.normal(0, weight, (octave * cells + 3,) * 2).astype(np.float32)
                level += cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_CUBIC)
            levels.append(np.clip((level - np.quantile(level, 1 - share)) * 6 + 0.5, 0, 1))
        # On the coarse points: how far inside tissue, inside tumour, 0..1.
        self._outlines = np.dstack(levels).astype(np.float32)

    def part(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 `[height, width, 3]` of the slide from (x, y) on."""
        columns = (np.arange(x, x + width, dtype=np.float32) / COARSE)[None].repeat(height, 0)
        rows = (np.arange(y, y + height, dtype=np.float32) / COARSE)[:, None].repeat(width, 1)
        left, top = x // COARSE, y // COARSE
        # remap knows no image longer than 32,767 pixels, so it gets the points around the part alone.
        near = self._outlines[top : top + height // COARSE + 3, left : left + width // COARSE + 3]
        inside = cv2.remap(near, columns - left, rows - top, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        tissue, tumour = inside[..., :1], inside[..., 1:]
        right, down = self._shift
        where = np.ix_((np.arange(height) + y + down) % TEXTURE, (np.arange(width) + x + right) % TEXTURE)
        quiet, dense = _texture(tumour=False)[where], _texture(tumour=True)[where]
        stained = quiet + tumour * (dense - quiet)
        return np.clip(_GLASS + tissue * (stained - _GLASS), 0, 255).astype(np.uint8)


def write_slide(file: AnyPath, width: int, height: int, *, seed: int = 0, tissue: float = 0.5) -> Path:
    """Write a simulated slide as a tiled BigTIFF, tile by tile, so that its size does not matter."""
    import tifffile

    scene = SlideScene(seed, width, height, tissue)
    # Beyond the edge, too: tiles are stored whole.
    tiles = (scene.part(x, y, TILE, TILE) for y in range(0, height, TILE) for x in range(0, width, TILE))
    with whole(file) as partial, tifffile.TiffWriter(partial, bigtiff=True) as writer:
        writer.write(
            tiles,
            shape=(height, width, 3),
            dtype=np.uint8,
            tile=(TILE, TILE),
            photometric="rgb",
            compression="jpeg",
            compressionargs={"level": 85},
            metadata=None,
        )
    return Path(file)


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
