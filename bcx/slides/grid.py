"""Where the tiles of a slide lie, at the scale that the network learned, and which of them hold tissue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bcx.errors import ConfigError, ScanTooSmall
from bcx.imaging.preprocess import resize
from bcx.slides.slide import Slide

MAX_TILES = 10_000_000  # of one slide, so that their map and table fit into memory
_BLOCK = 1 << 20  # pixels that are read at once, at the level that is read
_BLOCK_TILES = 256  # so few are read at once that progress is told every few seconds, and that stopping is quick
SCALES = (0.01, 8.0)  # the smallest and the largest at which a slide is read
LEAST, MOST = 13, 51  # between these, of 255, Otsu's threshold is held
DARK = 25  # darker than this, of 255, is no tissue
SHARE = 0.1  # of a tile that counts, at least so much is tissue


def positions(length: int, tile: int, stride: int) -> tuple[int, ...]:
    """Return where tiles begin along one side: every `stride`, and a last one that ends with the picture."""
    return *range(0, length - tile, stride), length - tile


@dataclass(frozen=True)
class Grid:
    """The tiles of one slide."""

    tile: int  # side, in pixels of the scale that the network learned
    stride: int
    scale: float  # pixels of that scale per pixel of the slide; 0.5 makes it half as large before it is tiled
    level: int  # which of the slide's levels is read
    factor_x: float  # pixels of that level per pixel of the network's scale
    factor_y: float
    xs: tuple[int, ...]  # left edges of the columns, in pixels of the network's scale
    ys: tuple[int, ...]  # upper edges of the rows

    @classmethod
    def over(cls, slide: Slide, tile: int, stride: int | None = None, scale: float = 1.0) -> Grid:
        """Lay a grid over a slide, by default of tiles that touch; of a pyramid, the nearest larger level is read.

        `ConfigError`: stride or scale out of range, or more than `MAX_TILES` tiles. `ScanTooSmall`: no tile fits.
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
        width, height = round(slide.width * scale), round(slide.height * scale)
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
        return cls(tile, stride, scale, level, read.width / width, read.height / height, xs, ys)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.ys), len(self.xs)

    def on_level(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Return a tile's (left, top, right, bottom) in pixels of the level that is read."""
        left, top = round(self.xs[column] * self.factor_x), round(self.ys[row] * self.factor_y)
        right = round((self.xs[column] + self.tile) * self.factor_x)
        bottom = round((self.ys[row] + self.tile) * self.factor_y)
        return left, top, max(left + 1, right), max(top + 1, bottom)

    def on_slide(self, row: int, column: int) -> tuple[int, int, int]:
        """Return (x, y, side) of a tile in pixels of the slide's largest level."""
        return round(self.xs[column] / self.scale), round(self.ys[row] / self.scale), round(self.tile / self.scale)

    def blocks(self, slide: Slide, wanted: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield rows and columns of neighbouring tiles that are `wanted`, bool `[rows, columns]`, from top to bottom.

        They are read together. Where the slide is stored in strips, blocks are as flat as their neighbours, so that a
        strip is unpacked once.
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
                inside = np.nonzero(wanted[row : row + down, column : column + across])
                if inside[0].size:
                    yield inside[0] + row, inside[1] + column

    def read(self, slide: Slide, rows: np.ndarray, columns: np.ndarray) -> list[np.ndarray]:
        """Return tiles that lie near each other, uint8 `[tile, tile]` or `[tile, tile, 3]`, read in one piece."""
        level = slide.levels[self.level]
        x, y, _, _ = self.on_level(int(rows.min()), int(columns.min()))
        _, _, right, bottom = self.on_level(int(rows.max()), int(columns.max()))
        pixels = slide.region(x, y, min(level.width, right) - x, min(level.height, bottom) - y, self.level)
        tiles = []
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            left, top, right, bottom = self.on_level(row, column)
            tile = pixels[top - y : bottom - y, left - x : right - x]
            tiles.append(tile if tile.shape[:2] == (self.tile, self.tile) else resize(tile, self.tile, self.tile))
        return tiles


def tissue_of(overview: np.ndarray) -> np.ndarray:
    """Return bool `[h, w]`: where an overview, uint8 `[h, w]` or `[h, w, 3]`, shows tissue, which has colour.

    Its saturation (of HSV, smoothed over 5 pixels) is split in two by Otsu's threshold (IEEE Trans. SMC 1979), which is
    held between `LEAST` and `MOST`: alone it would find tissue on empty glass and holes in a slide that is full of it.
    What is nearly black (pen, the edge of a cover slip) is no tissue. Grey has no colour to go by: all of it is tissue.
    """
    if overview.ndim == 2 or (np.ptp(overview, axis=2) == 0).all():
        return np.ones(overview.shape[:2], bool)
    smooth = cv2.GaussianBlur(overview, (5, 5), 0)
    _, saturation, value = cv2.split(cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV))
    threshold, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return (saturation > np.clip(threshold, LEAST, MOST)) & (value > DARK)


def tiles_with_tissue(tissue: np.ndarray, grid: Grid) -> np.ndarray:
    """Return bool `[rows, columns]`: which tiles hold enough tissue, given as bool `[h, w]` of the overview."""
    height, width = tissue.shape
    sums = cv2.integral(tissue.astype(np.uint8)).astype(np.int64)
    top, bottom = _edges(grid.ys, grid.tile, height)
    left, right = _edges(grid.xs, grid.tile, width)
    counts = sums[bottom][:, right] - sums[top][:, right] - sums[bottom][:, left] + sums[top][:, left]
    return counts >= SHARE * (bottom - top)[:, None] * (right - left)[None]


def _edges(starts: tuple[int, ...], tile: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Where tiles begin and end on the overview, at least one pixel apart."""
    low = np.asarray(starts, np.float64)
    factor = length / (low[-1] + tile)  # the last tile ends where the slide does
    first = np.minimum(np.floor(low * factor).astype(int), length - 1)
    return first, np.maximum(np.ceil((low + tile) * factor).astype(int).clip(max=length), first + 1)
