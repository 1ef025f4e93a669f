"""Any file, bytes or array becomes pixels, safely.

`Scan.open` is the only way in. Size, bytes and frames are held against limits before anything is
decoded; what cannot be read raises a `bcx.errors.BcxError` that says what to do.

>>> import numpy as np
>>> scan = Scan.open(np.full((64, 80), 9, np.uint8), name="flat")
>>> scan.height, scan.width, scan.is_grey, scan.notes
(64, 80, True, ())
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bcx.errors import BcxError, DamagedScan, ScanError, ScanTooLarge, ScanTooSmall, UnknownFormat
from bcx.imaging import headers
from bcx.imaging.headers import HEAD_BYTES, MAX_FRAMES, sniff
from bcx.imaging.pixels import alpha_share, grey_if_grey, on_black, to_bytes, turn

__all__ = ["MAX_BYTES", "MAX_FRAMES", "MAX_PIXELS", "MIN_SIDE", "Scan", "sniff", "sniff_file"]

MAX_BYTES = 200_000_000
"""Largest file, in bytes."""

MAX_PIXELS = 40_000_000
"""Largest picture, in pixels: some ten times the largest screen; scans have about half a million."""

MIN_SIDE = 16
"""Shortest side, in pixels, that can show anything."""

_FORMATS = "a PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM picture"
_ORIENTATION_TAG = 274
_PHOTOMETRIC_TAG = 262
_TILE_WIDTH_TAG = 322
_TILE_LENGTH_TAG = 323
_LAYERED = frozenset({"1", "L", "P", "RGB", "LA", "La", "PA", "RGBA", "RGBa"})  # modes that may carry transparency
_NUMBERS = frozenset({"L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})  # modes that are arrays as they stand


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skip it: nothing here needs the resolution, and reading all of a crafted EXIF block can fill the memory."""


# Opened directly: PIL's `Image.open` would warn about large sizes before they can be looked at, through
# `warnings`, which threads share.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "png": PngImageFile,
    "jpeg": _Jpeg,
    "gif": GifImageFile,
    "bmp": BmpImageFile,
    "tiff": TiffImageFile,
    "webp": WebPImageFile,
}


@dataclass(frozen=True, eq=False)
class Scan:
    """A decoded picture.

    Attributes:
        pixels: uint8 [H, W] (grey) or [H, W, 3] (RGB), 0..255, C-contiguous, read-only.
        name: file name, or the name that was given.
        sha256: of the bytes as given; for arrays and PIL images of shape, dtype and values.
        notes: what was done to it, in words ("16 bit scaled from 0..4095").
    """

    pixels: np.ndarray = field(repr=False)
    name: str
    sha256: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        pixels = np.ascontiguousarray(self.pixels).view()
        pixels.flags.writeable = False
        object.__setattr__(self, "pixels", pixels)

    @property
    def height(self) -> int:
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def is_grey(self) -> bool:
        return self.pixels.ndim == 2

    @classmethod
    def open(
        cls, source: str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Scan, name: str | None = None
    ) -> Scan:
        """Read a picture from wherever it is.

        Files and bytes are told apart by their content, never by their name: PNG, JPEG, GIF, BMP, TIFF, WebP
        or DICOM. Of several frames or pages the first is read. A colour picture whose channels agree becomes grey.

        Args:
            source: path, bytes of a file, PIL image, or array: bool, uint8, uint16 or float, [H, W], [H, W, 1],
                [H, W, 3] (RGB) or [H, W, 4] (RGBA); floats within 0..1 or 0..255, otherwise stretched.
            name: what to call it; by default the file's own name.

        Raises:
            BcxError: one of its kinds in `bcx.errors`, mostly a `ScanError`.
        """
        if isinstance(source, Scan):
            return source if name is None else replace(source, name=name)
        if isinstance(source, np.ndarray):
            return _from_array(source, name or "array")
        if isinstance(source, Image.Image):
            return _from_pil(source, name or os.path.basename(os.fsdecode(getattr(source, "filename", ""))) or "image")
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _from_bytes(bytes(source), name or "bytes")
        if isinstance(source, (str, os.PathLike)):
            path = os.fsdecode(source)
            return _from_bytes(_read(path), name or os.path.basename(path) or path)
        raise ScanError(
            f"A {type(source).__name__} is not a picture.",
            expected="a path, the bytes of a file, a PIL image or a NumPy array",
            remedy="Pass one of these (of an open file, what its read() returns).",
        )


def sniff_file(path: str | os.PathLike[str]) -> str | None:
    """`sniff` for a file, reading no more than its first bytes.

    Raises:
        ScanError: no such file, a directory, or not allowed.
    """
    return sniff(_read(os.fsdecode(path), HEAD_BYTES))


def _read(path: str, head: int | None = None) -> bytes:
    """The file's bytes, or its first `head` bytes; looks before it opens, since a pipe would wait for ever."""
    if not path:
        raise ScanError("The path is empty.", expected="the path of a picture", remedy="Name a file.")
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            raise ScanError(
                f"'{path}' is a folder.",
                expected="one picture",
                remedy="Name a file in it, or use `bcx predict FOLDER`.",
            )
        if not stat.S_ISREG(found.st_mode):
            raise ScanError(f"'{path}' is not an ordinary file.", expected="a picture file", remedy="Save it first.")
        if head is None and found.st_size > MAX_BYTES:
            raise _too_many_bytes(path, found.st_size)
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1 if head is None else head)
    except FileNotFoundError as error:
        raise ScanError(
            f"There is no file '{path}'.",
            expected="the path of a picture on this machine",
            remedy="Check the spelling" + (", or download it first." if "://" in path else "."),
        ) from error
    except PermissionError as error:
        raise ScanError(
            f"'{path}' may not be read.", expected="a readable file", remedy="Change its permissions, or copy it."
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ScanError(
            f"'{path[:200]}' cannot be opened ({reason}).", expected="a readable file", remedy="Check the path."
        ) from error


def _too_many_bytes(name: str, size: int) -> ScanTooLarge:
    return ScanTooLarge(
        f"'{name}' has {size / 1e6:.0f} MB.",
        expected=f"at most {MAX_BYTES // 10**6} MB",
        remedy="Export a single frame, or a smaller picture.",
    )


def _check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ScanTooLarge(
            f"'{name}' has {width:,} x {height:,} pixels.",
            expected=f"at most {MAX_PIXELS / 1e6:g} million pixels",
            remedy="Make it smaller; the networks see a few hundred pixels a side.",
        )
    if min(width, height) < MIN_SIDE:
        raise ScanTooSmall(
            f"'{name}' has {width} x {height} pixels.",
            expected=f"at least {MIN_SIDE} pixels on each side",
            remedy="Use the original picture, not an icon or a preview of it.",
        )


def _from_bytes(data: bytes, name: str) -> Scan:
    if not data:
        raise DamagedScan(f"'{name}' is empty.", expected=_FORMATS, remedy="Copy or download it again.")
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(name, len(data))
    kind = sniff(data[:HEAD_BYTES])
    if kind == "svg":
        raise UnknownFormat(
            f"'{name}' is an SVG drawing, which has no pixels.", expected=_FORMATS, remedy="Export it as PNG."
        )
    if kind is None:
        raise UnknownFormat(
            f"'{name}' holds {headers.guess(data[:HEAD_BYTES])}, whatever its name says.",
            expected=_FORMATS,
            remedy="Choose another file, or export the picture as PNG.",
        )
    digest = hashlib.sha256(data).hexdigest()
    if kind == "dicom":
        from bcx.imaging import dicom

        pixels, notes = dicom.decode(data, name, max_bytes=MAX_BYTES, check_size=lambda w, h: _check_size(name, w, h))
        return _finish(pixels, 1, notes, name, digest)
    values, orientation, notes = _decode(data, kind, name)
    return _finish(values, orientation, notes, name, digest)


def _decode(data: bytes, kind: str, name: str) -> tuple[np.ndarray, int, list[str]]:
    """Decode the first frame: its values as an array, its EXIF orientation, and notes."""
    try:
        frames = _check_headers(data, kind, name)
        image = _PLUGINS[kind](io.BytesIO(data))
        _check_size(name, *image.size)
        if isinstance(image, TiffImageFile):
            _check_tiles(image)
        deep = _deep_colour(image)
        values, orientation, notes = _values(image)
        if deep is not None:
            low = _PLUGINS[kind](io.BytesIO(data))
            low.tile = deep
            values = values.astype(np.uint16) << 8 | _values(low)[0]
        elif kind == "png" and data[24] == 16 and values.dtype == np.uint8:
            notes.append("16 bit reduced to 8")
        frames = frames or getattr(image, "n_frames", 1)
    except BcxError:
        raise
    except MemoryError as error:
        raise ScanTooLarge(
            f"'{name}' needs more memory than there is.",
            expected="a picture that fits into memory",
            remedy="Make it smaller, or close other programs.",
        ) from error
    except Exception as error:  # decoders raise whatever the damage leads them to
        raise DamagedScan(
            f"'{name}' is a {kind.upper()} picture that cannot be decoded ({str(error).rstrip('.')[:200]}).",
            expected="a complete, undamaged file",
            remedy="Copy, download or export it again.",
        ) from error
    if frames > 1:
        count = f"{frames:,}" if frames <= MAX_FRAMES else f"more than {MAX_FRAMES:,}"
        notes.insert(0, f"first {'page' if kind == 'tiff' else 'frame'} of {count}")
    return values, orientation, notes


def _check_headers(data: bytes, kind: str, name: str) -> int:
    """Refuse what a decoder would choke on before it can say its size; the number of frames, 0 where PIL knows."""
    if kind == "webp":
        _check_size(name, *headers.webp_size(data))
    elif kind == "gif":
        frames, width, height = headers.gif_frames(data)
        _check_size(name, width, height)
        return frames
    elif kind == "tiff":
        return headers.tiff_pages(data)
    elif kind == "jpeg":
        headers.check_jpeg(data)
    elif kind == "png":
        headers.check_png(data)
    return 0


def _check_tiles(image: TiffImageFile) -> None:
    """A tile is unpacked whole, however little of the picture it covers."""
    tile = image.tag_v2.get(_TILE_WIDTH_TAG, 0) * image.tag_v2.get(_TILE_LENGTH_TAG, 0)
    if tile > max(1 << 22, 4 * image.width * image.height):
        raise ValueError("its tiles are far larger than the picture")


def _deep_colour(image: ImageFile) -> list[Any] | None:
    """The tiles that decode the low bytes of a picture of 16 bits per colour; None for any other.

    PIL keeps the high byte of each. Told that the byte order is the other one, it keeps the low byte.
    """
    if len(image.tile) != 1:
        return None
    codec, extents, offset, given = image.tile[0]
    arguments = (given,) if isinstance(given, str) else given or ("",)
    colour, _, order = str(arguments[0]).partition(";16")
    if colour not in ("RGB", "RGBA") or order not in ("B", "L", "N"):
        return None
    swapped = f"{colour};16{'L' if order == 'B' else 'B'}"
    return [type(image.tile[0])(codec, extents, offset, (swapped, *arguments[1:]))]


def _values(image: Image.Image) -> tuple[np.ndarray, int, list[str]]:
    """Load a PIL image: [H, W], [H, W, 3] or [H, W, 4] as uint8, uint16, int32 or float32, EXIF orientation, notes."""
    notes = []
    inverted = False
    if isinstance(image, TiffImageFile):  # PIL turns these itself, while loading
        asked = image.tag_v2.get(_ORIENTATION_TAG, 1)
        inverted = image.tag_v2.get(_PHOTOMETRIC_TAG) == 0 and image.mode.startswith("I;16")
        image.load()
        orientation = 1
        if asked in range(2, 9):
            notes.append("turned as its orientation tag asks")
    else:
        image.load()
        orientation = headers.exif_orientation(image.info.get("exif") or b"")
    mode = image.mode
    if mode in _LAYERED and image.has_transparency_data:
        image = image.convert("RGBA")
    elif mode == "1":
        image = image.convert("L")
    elif mode not in _NUMBERS:
        image = image.convert("RGB")
        if mode not in ("P", "RGBX"):
            notes.append(f"{mode} converted to RGB")
    values = np.asarray(image)
    if inverted:  # white is zero; PIL minds that up to 8 bits only
        values = ~values
        notes.append("inverted, since 0 stands for white")
    return values, orientation, notes


def _from_pil(image: Image.Image, name: str) -> Scan:
    _check_size(name, *image.size)
    try:
        values, orientation, notes = _values(image)
    except Exception as error:  # a file may stand behind it, with whatever damage
        raise DamagedScan(
            f"The PIL image '{name}' cannot be loaded ({str(error).rstrip('.')[:200]}).",
            expected="an image whose file is open, complete and undamaged",
            remedy="Open it again, or pass the file itself.",
        ) from error
    return _finish(values, orientation, notes, name, _array_sha256(values))


def _from_array(array: np.ndarray, name: str) -> Scan:
    array = np.asarray(array)  # of masked arrays and matrices only the values count
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ScanError(
            f"'{name}' has the shape {list(array.shape)}.",
            expected="[height, width], [height, width, 1], [height, width, 3] or [height, width, 4]",
            remedy="Move the channels to the end, and pass one picture at a time.",
        )
    if array.dtype.kind not in "bf" and array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise ScanError(
            f"'{name}' has the type {array.dtype}.",
            expected="bool, uint8, uint16 or float",
            remedy="Convert it, for example with array.astype('uint8').",
        )
    _check_size(name, array.shape[1], array.shape[0])
    digest = _array_sha256(array)
    # copied: a Scan does not change when the caller's array does
    return _finish(array.astype(array.dtype.newbyteorder("="), order="C"), 1, [], name, digest)


def _array_sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _finish(values: np.ndarray, orientation: int, notes: list[str], name: str, sha256: str) -> Scan:
    """Values of any kind become a Scan: 8 bits, no alpha, upright, grey where it is."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ScanError(
            f"'{name}' holds numbers that are not finite.",
            expected="finite numbers (no NaN, no infinity)",
            remedy="Replace them, for example with numpy.nan_to_num.",
        )
    alpha = None
    if values.ndim == 3 and values.shape[2] == 4:
        alpha = alpha_share(values[..., 3])
        values = values[..., :3]
    elif values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    pixels, scaled = to_bytes(values)
    if scaled:
        notes.append(scaled)
    if alpha is not None and alpha.min() < 255:
        pixels = on_black(pixels, alpha)
        notes.append("transparent parts put on black")
    pixels, turned = turn(pixels, orientation)
    if turned:
        notes.append(turned)
    if pixels.ndim == 3:
        pixels = grey_if_grey(pixels)
    return Scan(pixels, name, sha256, tuple(notes))
