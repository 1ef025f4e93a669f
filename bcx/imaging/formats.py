"""Image files but DICOM, decoded by Pillow and, JPEG XL, by imagecodecs.

Ordinary files (PNG, JPEG, GIF, BMP) are decoded here and now; the formats whose decoders are large and less tried
(TIFF, WebP, AVIF, JPEG 2000, JPEG XL) in a process of their own, see `bcx.imaging.worker`.
"""

import io
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import simplejpeg
from PIL import AvifImagePlugin, BmpImagePlugin, GifImagePlugin, Image, Jpeg2KImagePlugin, PngImagePlugin
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from bcx.errors import from_extra
from bcx.imaging import headers
from bcx.imaging.headers import MAX_FRAMES
from bcx.imaging.limits import check_size, decoding
from bcx.imaging.pixels import Decoded
from bcx.imaging.worker import run_isolated

DAMAGED = "The picture is damaged: its file ends early or holds wrong data, and part of what is shown is filled in."
"""What is said of an image whose rest a decoder made up."""

_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x(..)")
_SLACK = 16  # bytes left over before a JPEG's end are harmless up to here; some cameras fill up with them
_NAMES = {"jpeg2000": "JPEG 2000", "jpegxl": "JPEG XL", "webp": "WebP"}  # the others are called by their capitals
_ISOLATED = frozenset({"tiff", "webp", "avif", "jpeg2000", "jpegxl"})
_PHOTOMETRIC_TAG, _ORIENTATION_TAG, _TILE_WIDTH_TAG, _TILE_LENGTH_TAG = 262, 274, 322, 323
_LAYERED = frozenset({"1", "L", "P", "RGB", "LA", "La", "PA", "RGBA", "RGBa"})  # modes that may carry transparency
_NUMBERS = frozenset({"L", "RGB", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})  # modes that are arrays as they stand
_MAX_SEEK_PIXELS = 100_000_000  # a GIF's frames are drawn upon each other, from the first one on: some 0.5 s


class _Jpeg(JpegImageFile):
    def _read_dpi_from_exif(self) -> None:
        """Skip it: nothing here needs the resolution, and reading all of a crafted EXIF block can fill the memory."""


# Opened directly: PIL's `Image.open` would warn about large sizes before they can be looked at, through
# `warnings`, which threads share.
_PLUGINS: dict[str, Callable[[io.BytesIO], ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": _Jpeg,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImageFile,
    "webp": WebPImageFile,
    "avif": AvifImagePlugin.AvifImageFile,
    "jpeg2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}


def frame_count(data: bytes, kind: str, name: str) -> int:
    """Count the frames of a file that can be asked for one by one; 1 for formats of which only the first is read."""
    with _decoding(kind, name):
        if kind == "tiff":
            headers.check_tiff(data)
            return int(run_isolated(count_pages, data, name=name, options={})[0][0])
        if kind == "gif":
            frames, width, height = headers.gif_frames(data)
            return max(1, min(frames, _MAX_SEEK_PIXELS // max(1, width * height)))
    return 1


def count_pages(data: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    """Count a TIFF's pages: 1 where they differ in size, as an image and its smaller copies do, which are no clip."""
    pages, sizes = 0, set[tuple[int, int]]()
    try:
        image = TiffImageFile(io.BytesIO(data))
        while len(sizes) < 2 and pages <= MAX_FRAMES:
            image.seek(pages)
            sizes.add(image.size)
            pages += 1
    except EOFError:
        pass
    except Exception:  # whatever the damage leads to; who decodes a page says so
        pages = 1
    return np.array([pages if len(sizes) == 1 else 1]), {}


def decode(data: bytes, kind: str, name: str, frame: int = 0) -> Decoded:
    """Decode one frame, from 0, of a whole file, whose kind is as `sniff` names it.

    Raises:
        DamagedScan: truncated or inconsistent, or its decoder crashed or took too long.
        ScanTooLarge, ScanTooSmall: beyond a limit, mostly told before decoding.
        MissingExtra: nothing that decodes it is installed.
    """
    options: dict[str, Any] = {"kind": kind, "name": name, "frame": frame}
    if kind in _ISOLATED:
        values, facts = run_isolated(decode_here, data, name=name, options=options)
    else:
        values, facts = decode_here(data, **options)
    return Decoded(values, **facts, damage=DAMAGED if kind == "jpeg" and is_damaged(data) else "")


def decode_here(data: bytes, kind: str, name: str, frame: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Decode in this process: the values, and the orientation and notes of `Decoded`."""
    with _decoding(kind, name):
        return _decode(data, kind, name, frame)


def _decode(data: bytes, kind: str, name: str, frame: int) -> tuple[np.ndarray, dict[str, Any]]:
    frames = 0
    if kind == "jpegxl":
        return _decode_jpegxl(data, name), {}
    if kind == "gif":
        frames, width, height = headers.gif_frames(data)
        check_size(name, width, height)
    elif kind == "webp":  # its decoder allocates on opening
        check_size(name, *headers.webp_size(data))
    elif kind == "tiff":
        headers.check_tiff(data)
    elif kind == "jpeg":
        headers.check_jpeg(data)
    elif kind == "png":
        headers.check_png(data)
    image = _opened(data, kind, frame)
    check_size(name, *image.size)
    if isinstance(image, TiffImageFile):  # a tile is unpacked whole, however little of the image it covers
        tile = image.tag_v2.get(_TILE_WIDTH_TAG, 0) * image.tag_v2.get(_TILE_LENGTH_TAG, 0)
        if tile > max(1 << 22, 4 * image.width * image.height):
            raise ValueError("its tiles are far larger than the picture")
    deep = _deep_colour(image)
    values, orientation, notes = pil_values(image)
    counted = getattr(image, "n_frames", 1)  # of a GIF too: it raises where a later frame is damaged
    frames = frames or counted
    if deep is not None:
        del image  # or its pixels would be in memory beside three further copies
        low = _opened(data, kind, frame)
        low.tile = deep
        values = values.astype(np.uint16)
        values <<= 8
        values |= pil_values(low)[0]
    elif kind == "png" and data[24] == 16 and values.dtype == np.uint8:
        notes.append("16 bit reduced to 8")
    if frames > 1:
        count = f"{frames:,}" if frames <= MAX_FRAMES else f"more than {MAX_FRAMES:,}"
        what = "page" if kind == "tiff" else "frame"
        notes.insert(0, f"{what} {frame + 1:,} of {count}" if frame else f"first {what} of {count}")
    return values, {"orientation": orientation, "notes": notes}


def _opened(data: bytes, kind: str, frame: int) -> ImageFile:
    image = _PLUGINS[kind](io.BytesIO(data))
    if frame:
        image.seek(frame)
    return image


def _decoding(kind: str, name: str) -> AbstractContextManager[None]:
    return decoding(name, f"'{name}' is a {_NAMES.get(kind, kind.upper())} picture that cannot be decoded")


def _decode_jpegxl(data: bytes, name: str) -> np.ndarray:
    with from_extra("dicom", f"'{name}' is a JPEG XL picture, and imagecodecs is not installed."):
        from imagecodecs import jpegxl_decode
    values = jpegxl_decode(data)
    values = values if values.ndim < 4 else values[0]
    check_size(name, values.shape[1], values.shape[0])
    return values


def _deep_colour(image: ImageFile) -> list[Any] | None:
    """The tiles that decode the low bytes of an image of 16 bits per colour; None for any other.

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


def pil_values(image: Image.Image) -> tuple[np.ndarray, int, list[str]]:
    """Load a PIL image: [H, W], [H, W, 3] or [H, W, 4] as uint8, uint16, int32 or float32, EXIF orientation, notes."""
    notes, inverted, orientation = [], False, 1
    if isinstance(image, TiffImageFile):  # PIL turns these itself, while loading
        if image.tag_v2.get(_ORIENTATION_TAG, 1) in range(2, 9):
            notes.append("turned as its orientation tag asks")
        inverted = image.tag_v2.get(_PHOTOMETRIC_TAG) == 0 and image.mode.startswith("I;16")
    image.load()
    if not isinstance(image, TiffImageFile):
        orientation = headers.exif_orientation(image.info.get("exif") or b"")
    mode = image.mode
    if mode in _LAYERED and image.has_transparency_data:
        image = image if mode == "RGBA" else image.convert("RGBA")
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


def is_damaged(data: bytes) -> bool:
    """Tell whether a JPEG ends early or holds wrong data, by decoding its brightness.

    libjpeg fills what is missing with grey and only warns; Pillow does not pass that on. False for what simplejpeg
    cannot decode at all (CMYK, lossless): the decoder that reads it says itself what it finds. Not at an eighth of the
    size, which would be faster: simplejpeg 1.9 writes past its memory there when the JPEG is a lossless one.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, fastupsample=True, strict=True)
    except ValueError as error:
        said = str(error)
        if left_over := _LEFT_OVER.search(said):
            return left_over[2] != "d9" or int(left_over[1]) > _SLACK
        return "premature end" in said.lower() or "Huffman" in said
    return False
