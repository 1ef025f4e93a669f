"""Large images, region by region: a slide of a gigapixel never lies in memory whole.

TIFF in tiles or strips, BigTIFF and pyramids (OME-TIFF, Aperio SVS, generic) are read through tifffile, part by part.
Whatever else `bcx.imaging.scan.Scan` reads comes in through it, within its limits.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image

from bcx.errors import BcxError, ScanError, ScanTooLarge, UnknownFormat, from_extra
from bcx.imaging.limits import decoding
from bcx.imaging.scan import MAX_BYTES, MAX_PIXELS, Scan, sniff_file
from bcx.slides.tiff import Level, is_plain

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

MAX_SIDE, MAX_SLIDE_PIXELS = 400_000, 100_000_000_000  # the largest scanners make some 250,000 x 250,000
MAX_PAGES = 1000  # of a TIFF; slides have a dozen
_MICROSCOPE = (0.05, 30.0)  # micrometres per pixel; resolution tags often hold a printer's
_UNIT = {2: 25_400.0, 3: 10_000.0}  # micrometres per inch and per centimetre
_OME_UNIT = {"µm": 1.0, "μm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3}
_BLOCK = 1 << 20  # pixels that are shrunk at once while the overview is made


class _Held:
    """An image in memory, as a level."""

    strip_width = 1

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self.height, self.width = pixels.shape[:2]

    def region(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        return self._pixels[y : y + height, x : x + width]


@dataclass(eq=False)
class Slide(AbstractContextManager["Slide"]):
    """An open slide. Safe to use from several threads at once; close it, or use it in a `with`."""

    name: str
    levels: Sequence[Level | _Held]  # resolutions, the largest first; each has `width`, `height` and `region`
    microns: float | None = None  # micrometres per pixel of the largest level; None where the file does not say
    notes: tuple[str, ...] = ()  # what was done or left out, in words
    _file: TiffFile | None = None

    def __post_init__(self) -> None:
        self.width, self.height = self.levels[0].width, self.levels[0].height  # in pixels

    @classmethod
    def open(cls, source: str | os.PathLike[str] | np.ndarray | Scan, name: str | None = None) -> Slide:
        """Open the path of an image, or pixels in memory; `BcxError` where it is none, too large or damaged."""
        if not isinstance(source, (np.ndarray, Scan)):
            source = Path(source)
            name = name or source.name
            if sniff_file(source) == "tiff" and (slide := _open_tiff(source, name)):
                return slide
        scan = Scan.open(source, name)
        return cls(scan.name, [_Held(scan.pixels)], notes=scan.notes)

    def region(self, x: int, y: int, width: int, height: int, level: int = 0) -> np.ndarray:
        """Return a part, all in pixels of that level, as uint8 `[height, width]` (grey) or `[height, width, 3]`.

        `ScanError`: the part leaves the image, or (`DamagedScan`) cannot be decoded.
        """
        of = self.levels[level]
        if x < 0 or y < 0 or width < 1 or height < 1 or x + width > of.width or y + height > of.height:
            raise ScanError(
                f"The part at {x}, {y} of {width} x {height} pixels is not inside '{self.name}'.",
                expected=f"a part of {of.width} x {of.height} pixels",
                remedy="Ask for a part inside the picture.",
            )
        return of.region(x, y, width, height)

    def overview(self, side: int, workers: int = 1) -> Iterator[tuple[float, np.ndarray]]:
        """Yield the share that is done, 0..1, and the slide, small, uint8 `[h, w]` or `[h, w, 3]`, the same array.

        Its longer side is at most `side`, and more than half of it where the slide is large enough.
        """
        fitting = [each for each in self.levels if max(each.width, each.height) >= side]
        level = fitting[-1] if fitting else self.levels[0]
        factor = max(1, -(-max(level.width, level.height) // side))

        def shrink(block: tuple[int, int, int, int]) -> np.ndarray:
            x, y, wide, high = block
            part = level.region(x, y, wide, high)
            return cv2.resize(part, (-(-wide // factor), -(-high // factor)), interpolation=cv2.INTER_AREA)

        blocks = list(_blocks(level, factor))
        colours = level.region(0, 0, 1, 1).shape[2:]
        out = np.zeros((-(-level.height // factor), -(-level.width // factor), *colours), np.uint8)
        with ThreadPoolExecutor(workers, "bcx-overview") as pool:
            # A few at a time: `map` over all would keep what is done in memory until it is asked for.
            for start in range(0, len(blocks), 4 * workers):
                some = blocks[start : start + 4 * workers]
                for (x, y, _, _), small in zip(some, pool.map(shrink, some), strict=True):
                    out[y // factor :, x // factor :][: small.shape[0], : small.shape[1]] = small
                yield (start + len(some)) / len(blocks), out

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def __exit__(self, *_: Any) -> None:
        self.close()


def _blocks(level: Level | _Held, factor: int) -> Iterator[tuple[int, int, int, int]]:
    """Cut a level into parts whose corners are multiples of `factor`: as wide as strips are, or about square."""
    wide = level.width if level.strip_width == level.width else 1024
    wide = min(level.width, -(-wide // factor) * factor)
    high = min(level.height, max(1, _BLOCK // wide // factor) * factor)
    for y in range(0, level.height, high):
        for x in range(0, level.width, wide):
            yield x, y, min(wide, level.width - x), min(high, level.height - y)


def size_of(path: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Return an image's (width, height) without decoding it; None where its header does not tell or cannot be read."""
    try:
        if sniff_file(path) == "tiff":
            with Slide.open(path) as slide:
                return slide.width, slide.height
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:  # of large sizes: none is decoded
            return image.size
    except (BcxError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _open_tiff(path: Path, name: str) -> Slide | None:
    """Open a TIFF part by part; None where its layout is another one and it is small enough for `Scan.open`."""
    with from_extra("slides", "tifffile or imagecodecs is not installed, which slides are read with."):
        import imagecodecs  # noqa: F401
        import tifffile
    with decoding(name, f"'{name}' is a TIFF whose directory cannot be read"), ExitStack() as unused:
        try:
            file = unused.enter_context(tifffile.TiffFile(path))
        except OSError as error:
            found, remedy = f"'{name}' cannot be opened ({error.strerror}).", "Check its path and permissions."
            raise ScanError(found, expected="a file that may be read", remedy=remedy) from error
        slide = _from_pages(file, path, name)
        if slide is not None:
            unused.pop_all()
        return slide


def _from_pages(file: TiffFile, path: Path, name: str) -> Slide | None:
    if len(file.pages) > MAX_PAGES:
        found, remedy = f"'{name}' has {len(file.pages):,} pages.", "Export the page that you mean."
        raise ScanTooLarge(found, expected=f"at most {MAX_PAGES:,}", remedy=remedy)
    series = max(file.series, key=lambda each: _first(each).imagewidth * _first(each).imagelength)
    pages = [_first(level) for level in series.levels]
    width, height = pages[0].imagewidth, pages[0].imagelength
    if max(width, height) > MAX_SIDE or width * height > MAX_SLIDE_PIXELS:
        found, remedy = f"'{name}' has {width:,} x {height:,} pixels.", "Export a part of it, or a lower resolution."
        raise ScanTooLarge(found, expected=f"at most {MAX_SIDE:,} on a side", remedy=remedy)
    if width < 1 or height < 1:
        raise ValueError("it has no pixels")
    if not is_plain(pages[0]):
        _refuse_if_large(file.pages[0].aspage(), path, name)
        return None
    pages = [page for page in pages if is_plain(page) and page.samplesperpixel == pages[0].samplesperpixel]
    notes = [f"first page of {len(series.pages)}"] if len(series.pages) > 1 else []
    if len(pages) > 1:
        notes.append(f"a pyramid of {len(pages)} resolutions")
    reading = threading.Lock()
    levels = sorted((Level(page, name, reading) for page in pages), key=lambda level: -level.width)
    return Slide(name, levels, _microns(file, pages[0]), tuple(notes), file)


def _first(series: Any) -> TiffPage:
    return series.pages[0].aspage()


def _refuse_if_large(page: TiffPage, path: Path, name: str) -> None:
    if page.imagewidth * page.imagelength > MAX_PIXELS or path.stat().st_size > MAX_BYTES:
        raise UnknownFormat(
            f"'{name}' is a large TIFF in a layout that is not read piece by piece ({page.dtype}, "
            f"{page.samplesperpixel} samples per pixel, photometric {page.photometric}, "
            f"compression {page.compression}).",
            expected="8 bits per sample, grey or RGB, upright, as JPEG, JPEG 2000, deflate, LZW, Zstandard, WebP, raw",
            remedy="Convert it, for example with: vips tiffsave IN OUT --tile --compression jpeg --bigtiff",
        )


def _microns(file: TiffFile, page: TiffPage) -> float | None:
    """Micrometres per pixel: as Aperio or OME say, else by the resolution tags where they are a microscope's."""
    said, factor = re.search(r"MPP\s*=\s*([0-9.]+)", str(page.description)), 1.0
    if said is None and file.is_ome:
        text = str(file.ome_metadata)
        said = re.search(r'PhysicalSizeX="([0-9.eE+-]+)"', text)
        unit = re.search(r'PhysicalSizeXUnit="([^"]+)"', text)
        factor = _OME_UNIT.get(unit[1], 0.0) if unit else 1.0
    if said is not None:
        value = float(said[1]) * factor
    else:
        above, below = page.tags.valueof(282, (0, 1))
        value = _UNIT.get(int(page.tags.valueof(296, 1)), 0.0) * below / above if above else 0.0
    return value if _MICROSCOPE[0] <= value <= _MICROSCOPE[1] else None
