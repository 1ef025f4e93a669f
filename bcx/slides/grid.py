"""Where the tiles of a slide lie, at the scale that the network learned, and which pixels of the file each one is.

>>> positions(120, tile=50, stride=50)
[0, 50, 70]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bcx.errors import ConfigError, ScanTooSmall
from bcx.slides.reader import Slide

#: Tiles of one slide at most: their map and table still fit into the memory that reading may take.
MAX_TILES = 10_000_000
#: Pixels that are read at once, at the level that is read.
_BLOCK = 1 << 20
#: Tiles that are read at once: few enough that progress is told every few seconds, and that a reading stops soon.
_BLOCK_TILES = 256
#: The smallest and the largest scale at which a slide is read.
SCALES = (0.01, 8.0)


def positions(length: int, tile: int, stride: int) -> list[int]:
    """Return where tiles begin along one side: every `stride`, and a last one that ends with the picture."""
    starts = list(range(0, length - tile + 1, stride))
    if starts[-1] != length - tile:
        starts.append(length - tile)
    return starts


@dataclass(frozen=True)
class Block:
    """Neighbouring tiles that are read together.

    Attributes:
        rows, columns: the part of the grid, as slices.
        x, y, width, height: the part of the level that holds them.
    """

    rows: slice
    columns: slice
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Grid:
    """The tiles of one slide.

    Attributes:
        tile, stride: in pixels of the scale that the network learned.
        scale: that scale in pixels per pixel of the slide; 0.5 makes the slide half as large before it is tiled.
        level: which of the slide's levels is read.
        factor_x, factor_y: pixels of that level per pixel of the network's scale.
        xs, ys: left and upper edges of the tiles' columns and rows, in pixels of the network's scale.
    """

    tile: int
    stride: int
    scale: float
    level: int
    factor_x: float
    factor_y: float
    xs: tuple[int, ...]
    ys: tuple[int, ...]

    @classmethod
    def over(cls, slide: Slide, tile: int, stride: int | None = None, scale: float = 1.0) -> Grid:
        """Lay a grid over a slide.

        Args:
            tile: side of a tile, in pixels of the scale that the network learned.
            stride: from one tile to the next; default: the tile's side, so that tiles touch.
            scale: what the slide is multiplied by to get there; of a pyramid, the nearest larger level is read.

        Raises:
            ConfigError: a stride or scale out of range, or more than `MAX_TILES` tiles.
            ScanTooSmall: the slide holds no tile.
        """
        stride = tile if stride is None else stride
        if not 1 <= stride <= 100 * tile:
            raise ConfigError(
                f"The stride is {stride} pixels.",
                expected=f"1 to {100 * tile}",
                remedy=f"Leave it out for tiles that touch ({tile} pixels).",
            )
        if not SCALES[0] <= scale <= SCALES[1]:
            raise ConfigError(
                f"The scale is {scale:g}.",
                expected=f"{SCALES[0]} to {SCALES[1]:g}",
                remedy="Give how many pixels of the model's training images one pixel of the slide is wide.",
            )
        width, height = (slide.width, slide.height) if scale == 1 else _scaled(slide, scale)
        if min(width, height) < tile:
            raise ScanTooSmall(
                f"'{slide.name}' has {width} x {height} pixels at the scale of {scale:g}.",
                expected=f"at least {tile} on each side",
                remedy="Use the original picture, or another --scale.",
            )
        xs, ys = positions(width, tile, stride), positions(height, tile, stride)
        if len(xs) * len(ys) > MAX_TILES:
            raise ConfigError(
                f"'{slide.name}' would be cut into {len(xs) * len(ys):,} tiles.",
                expected=f"at most {MAX_TILES:,}",
                remedy="Use a larger stride or a smaller scale.",
            )
        # The smallest level that still has a pixel for each that is wanted (1 % of slack for rounded pyramids).
        level = max(number for number, each in enumerate(slide.levels) if number == 0 or each.width >= 0.99 * width)
        read = slide.levels[level]
        return cls(tile, stride, scale, level, read.width / width, read.height / height, tuple(xs), tuple(ys))

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.ys), len(self.xs)

    def on_level(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return (x, y, width, height) of a tile in pixels of the level that is read."""
        left, top = round(self.xs[column] * self.factor_x), round(self.ys[row] * self.factor_y)
        right = round((self.xs[column] + self.tile) * self.factor_x)
        bottom = round((self.ys[row] + self.tile) * self.factor_y)
        return left, top, max(1, right - left), max(1, bottom - top)

    def on_slide(self, row: int, column: int) -> tuple[int, int, int]:
        """Return (x, y, side) of a tile in pixels of the slide's largest level."""
        return round(self.xs[column] / self.scale), round(self.ys[row] / self.scale), round(self.tile / self.scale)

    def blocks(self, slide: Slide, wanted: np.ndarray) -> Iterator[Block]:
        """Cut the grid into blocks that are read one at a time, from top to bottom, without those that hold no tile.

        Args:
            slide: what the grid lies over; where it is stored in strips, blocks are as flat as their neighbours, so
                that a strip is unpacked once.
            wanted: bool `[rows, columns]`.
        """
        rows, columns = self.shape
        level = slide.levels[self.level]
        step_x, step_y = self.stride * self.factor_x, self.stride * self.factor_y
        # Blocks of one row of blocks need the same strips: together they may be as large as eight blocks.
        high = 8 * _BLOCK / level.width if level.strip_width == level.width else _BLOCK**0.5
        down = max(1, int((high - self.tile * self.factor_y) / step_y) + 1)
        across = max(1, int((_BLOCK**0.5 - self.tile * self.factor_x) / step_x) + 1)
        down = min(down, max(int(_BLOCK_TILES**0.5), _BLOCK_TILES // across))
        across = min(across, max(1, _BLOCK_TILES // down))
        for row in range(0, rows, down):
            for column in range(0, columns, across):
                part = wanted[row : row + down, column : column + across]
                if not part.any():
                    continue
                inside_rows, inside_columns = np.nonzero(part.any(1))[0], np.nonzero(part.any(0))[0]
                first = (row + int(inside_rows[0]), column + int(inside_columns[0]))
                last = (row + int(inside_rows[-1]), column + int(inside_columns[-1]))
                x, y, _, _ = self.on_level(*first)
                right, bottom, wide, tall = self.on_level(*last)
                right, bottom = min(level.width, right + wide), min(level.height, bottom + tall)
                yield Block(slice(first[0], last[0] + 1), slice(first[1], last[1] + 1), x, y, right - x, bottom - y)


def _scaled(slide: Slide, scale: float) -> tuple[int, int]:
    return round(slide.width * scale), round(slide.height * scale)
