"""Parts of a TIFF: which tiles or strips a part needs, each decoded once for all threads, and what each may claim."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.errors import ScanTooLarge
from bcx.imaging.headers import codestream_size, webp_size
from bcx.imaging.limits import decoding
from bcx.imaging.pixels import on_black

if TYPE_CHECKING:
    from tifffile import TiffPage

MAX_SEGMENT = 32 * 2**20  # bytes, once decoded, of a tile or strip, which must be decoded whole
CACHE = 32 * 2**20  # bytes of decoded segments that are kept: two rows of a wide slide's tiles
#: Compressions that are read: none, LZW, JPEG, deflate, PackBits, JPEG 2000, Zstandard, WebP.
READABLE = frozenset({1, 5, 7, 8, 32773, 32946, 33003, 33005, 34712, 50000, 50001})
_JPEG, _WEBP = frozenset({7, 33003, 33005, 34712}), 50001
_GREY_DARK, _GREY, _RGB, _YCBCR = 0, 1, 2, 6  # photometric interpretations
_STRAIGHT = 2  # a fourth sample that is an opacity by which the colours are not yet multiplied


def is_plain(page: TiffPage) -> bool:
    """Tell whether a page is what `Level` reads: upright, 8 bits, grey, RGB or RGBA, in a compression of `READABLE`."""
    upright = page.tags.valueof(274, 1) == 1
    colours = {_GREY_DARK: (1,), _GREY: (1,), _RGB: (3, 4), _YCBCR: (3,) if page.compression != 1 else ()}
    return (
        upright
        and page.dtype == np.uint8
        and page.bitspersample == 8
        and page.imagedepth == 1
        and page.fillorder == 1
        and page.compression in READABLE
        and page.samplesperpixel in colours.get(page.photometric, ())
        and not (page.photometric == _YCBCR and page.compression not in _JPEG | {_WEBP})
    )


class Level:
    """One resolution of a slide, read part by part. Safe to use from several threads at once.

    Attributes:
        width, height: in pixels.
        strip_width: how many pixels of a row are decoded together; a whole row where the file is in strips.
    """

    def __init__(self, page: TiffPage, name: str, reading: threading.Lock) -> None:
        """Wrap a page for which `is_plain` holds; `reading`, of all levels of a file, is held while it is read.

        `ScanTooLarge`: its tiles or strips are larger than `MAX_SEGMENT` once decoded.
        """
        self._page, self._name, self._reading = page, name, reading
        self.width, self.height = int(page.imagewidth), int(page.imagelength)
        self._tiled = bool(page.is_tiled)
        self._wide = int(page.tilewidth) if self._tiled else self.width
        self._high = int(page.tilelength) if self._tiled else min(int(page.rowsperstrip), self.height)
        self._across = -(-self.width // self._wide)
        self._down = -(-self.height // self._high)
        self._apart = page.planarconfig == 2 and page.samplesperpixel > 1
        self._samples = int(page.samplesperpixel)
        self._raw = page.compression == 1 and page.predictor == 1 and not self._tiled
        self.strip_width = 1 if self._raw else self._wide
        size = self._wide * self._high * (1 if self._apart else self._samples)
        if size > MAX_SEGMENT and not self._raw:
            raise ScanTooLarge(
                f"'{name}' is stored in pieces of {self._wide:,} x {self._high:,} pixels, each to be unpacked whole.",
                expected=f"tiles or strips of at most {MAX_SEGMENT // 2**20} MB",
                remedy="Save it in tiles, for example with: vips tiffsave IN OUT --tile --compression jpeg --bigtiff",
            )
        self._size = size
        self._arguments: dict[str, Any] = {"_fullsize": False}
        if page.compression == 7:
            self._arguments |= {"jpegtables": page.jpegtables, "jpegheader": page.keyframe.jpegheader}
        self._lock = threading.Lock()
        self._kept: OrderedDict[int, Future[np.ndarray | None]] = OrderedDict()

    def region(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return uint8 `[height, width]` or `[height, width, 3]` of a part inside the image; or `DamagedScan`."""
        out = np.zeros((height, width, self._samples), np.uint8)
        copy = self._copy_rows if self._raw else self._copy_segments
        with decoding(self._name, f"'{self._name}' cannot be decoded everywhere"):
            for plane in range(self._samples if self._apart else 1):
                copy(out[..., plane : plane + 1] if self._apart else out, plane, x, y)
        return self._as_colour(out)

    def _copy_rows(self, out: np.ndarray, plane: int, x: int, y: int) -> None:
        """Read uncompressed strips row by row, and of each row only the part that is wanted."""
        height, width, samples = out.shape
        handle, offsets = self._page.parent.filehandle, self._page.dataoffsets
        for row in range(height):
            strip, inside = divmod(y + row, self._high)
            if plane * self._down + strip >= len(offsets):
                raise ValueError("its list of strips ends too early")
            start = offsets[plane * self._down + strip] + (inside * self.width + x) * samples
            with self._reading:
                handle.seek(start)
                data = handle.read(width * samples)
            if len(data) != width * samples:
                raise ValueError("it ends too early")
            out[row] = np.frombuffer(data, np.uint8).reshape(width, samples)

    def _copy_segments(self, out: np.ndarray, plane: int, x: int, y: int) -> None:
        height, width = out.shape[:2]
        for down in range(y // self._high, -(-(y + height) // self._high)):
            for across in range(x // self._wide, -(-(x + width) // self._wide)):
                segment = self._segment((plane * self._down + down) * self._across + across)
                if segment is None:
                    continue  # never written: black, as every reader shows it
                top, left = down * self._high, across * self._wide
                rows = slice(max(y, top), min(y + height, top + segment.shape[0]))
                columns = slice(max(x, left), min(x + width, left + segment.shape[1]))
                out[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x] = segment[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]

    def _segment(self, index: int) -> np.ndarray | None:
        """Return a decoded segment, `[h, w, samples]`; a thread that wants one in the making waits for it."""
        with self._lock:
            future = self._kept.get(index)
            mine = future is None
            if future is None:
                future = self._kept[index] = Future()
                while len(self._kept) > max(2, CACHE // self._size):
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(index)
        if mine:
            try:
                future.set_result(self._decode(index))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(index, None)
                future.set_exception(error)
        return future.result()

    def _decode(self, index: int) -> np.ndarray | None:
        page = self._page
        offset, count = page.dataoffsets[index], page.databytecounts[index]
        if count == 0:
            return None
        if count > 2 * self._size + 2**16:
            raise ValueError("a piece of it is larger than its pixels")
        with self._reading:
            page.parent.filehandle.seek(offset)
            data = page.parent.filehandle.read(count)
        if len(data) != count:
            raise ValueError("it ends too early")
        self._check_claim(data)
        decoded = page.keyframe.decode(data, index, **self._arguments)[0]
        return None if decoded is None else np.asarray(decoded)[0]

    def _check_claim(self, data: bytes) -> None:
        """Refuse a compressed image that says it is larger than the tile that it stands for."""
        claimed = None
        if self._page.compression == _WEBP:
            claimed = webp_size(data)
        elif self._page.compression in _JPEG:
            claimed = codestream_size(data)
        if claimed is not None and claimed[0] * claimed[1] > 2 * self._wide * self._high + 2**16:
            raise ValueError(f"a tile holds a picture of {claimed[0]} x {claimed[1]}")

    def _as_colour(self, pixels: np.ndarray) -> np.ndarray:
        if self._samples == 1:
            grey = pixels[..., 0]
            return ~grey if self._page.photometric == _GREY_DARK else grey
        if self._samples == 4 and tuple(self._page.extrasamples)[:1] == (_STRAIGHT,):
            return on_black(pixels[..., :3], pixels[..., 3])
        return np.ascontiguousarray(pixels[..., :3])
