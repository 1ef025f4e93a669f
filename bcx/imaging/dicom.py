"""The first frame of a DICOM file, as a screen would show it.

pydicom reads the file and its decoding plugins undo the compression; this module keeps limits
before either allocates, and applies what the header asks for: modality and VOI look-up tables or
windows, palettes, and the inverted grey scale of MONOCHROME1. Nothing that names a patient is read.

    pixels, notes = decode(Path("cine.dcm").read_bytes(), "cine.dcm")
    notes                       # ("first frame of 40",)
"""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bcx.errors import BcxError, DamagedScan, MissingExtra, ScanError, ScanTooLarge, UnknownFormat
from bcx.imaging.headers import MAX_FRAMES, codestream_size
from bcx.imaging.pixels import stretch

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

MAX_ELEMENTS = 20_000
"""Top-level header entries; real files have some hundred."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PLAIN = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\x00")  # explicit little endian: what is left after inflating

_WANTED = (
    *("Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence"),
    *("WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(
        f"{colour}PaletteColorLookupTable{part}"
        for colour in ("Red", "Green", "Blue")
        for part in ("Descriptor", "Data")
    ),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


def decode(
    data: bytes, name: str, *, max_bytes: int, check_size: Callable[[int, int], None]
) -> tuple[np.ndarray, list[str]]:
    """Decode the first frame of a DICOM file.

    Args:
        data: the whole file.
        name: what error messages call it.
        max_bytes: limit for the content once inflated.
        check_size: called with (width, height) before decoding; raises where they are out of bounds.

    Returns:
        uint8 [H, W] or [H, W, 3] (RGB), and what was done to it in words.

    Raises:
        MissingExtra: pydicom, or the plugin for this compression, is not installed.
        UnknownFormat: no pixel data, or a compression that no plugin reads (video).
        DamagedScan: truncated or inconsistent.
        ScanTooLarge: beyond a limit, told before decoding.
    """
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            f"'{name}' is a DICOM file, and pydicom is not installed.",
            expected="pydicom and its decoders",
            remedy='Run: pip install "bcx[dicom]"',
        ) from error
    try:
        data = _inflated(data, name, max_bytes)
        header = _header(data, name)
        frames = _check_header(header, name, check_size)
        pixels, notes = _displayed(_first_frame(data, header, name), header)
    except BcxError:
        raise
    except MemoryError as error:
        raise ScanTooLarge(
            f"'{name}' needs more memory than there is.",
            expected="a picture that fits into memory",
            remedy="Export a single frame, or a smaller one.",
        ) from error
    except Exception as error:  # four decoders behind pydicom, each with exceptions of its own
        raise _damaged(name, f"{type(error).__name__}: {error}") from error
    if frames > 1:
        notes.insert(0, f"first frame of {frames:,}")
    return pixels, notes


def _damaged(name: str, why: str) -> DamagedScan:
    return DamagedScan(
        f"The DICOM file '{name}' cannot be decoded ({why.rstrip('.')[:200]}).",
        expected="a complete DICOM file",
        remedy="Copy or export it again from where it came from.",
    )


def _inflated(data: bytes, name: str, max_bytes: int) -> bytes:
    """Undo the deflated transfer syntax, counting before keeping: 200 kB of it can hold 200 MB of zeros."""
    meta = data[132:4096]
    if _DEFLATED not in meta or not meta.startswith(b"\x02\x00\x00\x00UL\x04\x00"):
        return data
    start = 144 + int.from_bytes(data[140:144], "little")
    counter, body, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
    while body and not counter.eof:
        size += len(counter.decompress(body, 1 << 20))
        body = counter.unconsumed_tail
        if size > max_bytes:
            raise ScanTooLarge(
                f"'{name}' unpacks to more than {max_bytes // 10**6} MB.",
                expected=f"at most {max_bytes // 10**6} MB",
                remedy="Export a single frame from it.",
            )
    if not counter.eof:
        raise _damaged(name, "its compressed content ends early")
    return data[:start].replace(_DEFLATED, _PLAIN, 1) + zlib.decompress(data[start:], -zlib.MAX_WBITS)


def _header(data: bytes, name: str) -> Dataset:
    """Read what describes the pixels, up to the pixels, and no more than that."""
    from pydicom.filereader import read_partial
    from pydicom.tag import Tag

    met = 0

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal met
        met += 1
        if met > MAX_ELEMENTS:
            raise _damaged(name, f"more than {MAX_ELEMENTS:,} header entries")
        return tag in _PIXELS

    return read_partial(io.BytesIO(data), stop_when=stop, specific_tags=[Tag(keyword) for keyword in _WANTED])


def _check_header(header: Dataset, name: str, check_size: Callable[[int, int], None]) -> int:
    """Hold size, frames and compression against what can be read; the number of frames."""
    from pydicom.pixels.decoders.base import get_decoder

    rows, columns = header.get("Rows"), header.get("Columns")
    if not rows or not columns:
        raise UnknownFormat(
            f"The DICOM file '{name}' holds no picture.",
            expected="an image with rows and columns (a report or a directory has none)",
            remedy="Choose the image file of the same study.",
        )
    check_size(int(columns), int(rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > MAX_FRAMES:
        raise ScanTooLarge(
            f"'{name}' claims {frames:,} frames.",
            expected=f"at most {MAX_FRAMES:,} frames",
            remedy="Export a single frame from it.",
        )
    syntax = header.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise _damaged(name, "its transfer syntax is missing")
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnknownFormat(
            f"The DICOM file '{name}' is compressed as '{syntax.name}', which bcx cannot read.",
            expected="an uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 picture",
            remedy="Export the frame as PNG, or as uncompressed DICOM.",
        ) from error
    if not decoder.is_available:
        raise MissingExtra(
            f"The DICOM file '{name}' is compressed as '{syntax.name}', and no decoder for it is installed.",
            expected="pydicom's decoders",
            remedy='Run: pip install "bcx[dicom]"',
        )
    return frames


def _first_frame(data: bytes, header: Dataset, name: str) -> np.ndarray:
    from pydicom.encaps import get_frame
    from pydicom.filereader import read_partial
    from pydicom.pixels.utils import pixel_array

    buffer = io.BytesIO(data)
    read_partial(buffer, stop_when=lambda tag, vr, length: tag in _PIXELS, specific_tags=[])
    if header.file_meta.TransferSyntaxUID.is_encapsulated:
        buffer.seek(12, io.SEEK_CUR)  # tag, VR, reserved, length: encapsulated pixels are always explicit
        frames = int(header.get("NumberOfFrames") or 1)
        stream = get_frame(buffer, 0, number_of_frames=frames)
        found = codestream_size(stream)
        if found is not None and found != (header.Columns, header.Rows):
            said = f"{header.Columns} x {header.Rows}"
            raise _damaged(name, f"its header says {said}, its picture {found[0]} x {found[1]}")
        if stream.startswith(b"\xff\xd8") and b"\xff\xd9" not in stream[-16:]:
            raise _damaged(name, "its compressed picture ends early")
    else:
        samples = 2 if header.get("PhotometricInterpretation") == "YBR_FULL_422" else header.get("SamplesPerPixel", 1)
        if 8 * (len(data) - buffer.tell()) < header.Rows * header.Columns * samples * header.get("BitsAllocated", 8):
            raise _damaged(name, "it ends before its first frame is complete")
    return pixel_array(buffer, index=0)


def _displayed(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, list[str]]:
    """From stored values to what a screen shows: modality, VOI, palette, MONOCHROME1, 8 bits."""
    from pydicom.pixels.processing import apply_color_lut

    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind == "PALETTE COLOR":
        colour = apply_color_lut(values, header)
        if colour.dtype == np.uint16:  # a palette's 16 bits are the range of its type, not of the picture
            colour = (colour >> 8).astype(np.uint8)
        return np.ascontiguousarray(colour[..., :3]), ["palette applied"]
    if values.ndim == 3:
        if values.dtype == np.uint8:
            return values[..., :3], []
        pixels, span = stretch(values[..., :3])
        return pixels, [f"{header.BitsStored} bit scaled from {span}"]
    pixels, notes = _grey_levels(values, header)
    if kind == "MONOCHROME1":
        return np.uint8(255) - pixels, [*notes, "MONOCHROME1 inverted"]
    return pixels, notes


def _grey_levels(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, list[str]]:
    from pydicom.pixels.processing import apply_modality_lut, apply_voi, apply_windowing

    if not np.isfinite(values).all():
        raise ScanError(
            "The DICOM picture holds numbers that are not finite.",
            expected="finite numbers",
            remedy="Export it again, or replace the missing values.",
        )
    if header.get("BitsAllocated") == 1:
        return values.astype(np.uint8) * np.uint8(255), ["1 bit scaled to 0..255"]
    rescaled = header.get("ModalityLUTSequence") or (
        header.get("RescaleSlope", 1) != 1 or header.get("RescaleIntercept", 0) != 0
    )
    notes = []
    if rescaled:
        values = apply_modality_lut(values, header)
        notes.append("rescaled as its header asks")
    if header.get("VOILUTSequence"):
        values = apply_voi(values, header)
        top = 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        return _between(values, 0.0, top), [*notes, "look-up table of its header applied"]
    if "WindowCenter" in header and "WindowWidth" in header:
        with np.errstate(over="ignore"):
            values = apply_windowing(values, header)
            # a window is monotone and levels off: its ends are what the furthest values become
            low, high = apply_windowing(np.array([-1e12, 1e12]), header)
        window = f"{_first(header.WindowCenter):g}, width {_first(header.WindowWidth):g}"
        return _between(values, low, high), [*notes, f"window around {window} applied"]
    if values.dtype == np.uint8:
        return values, notes
    pixels, span = stretch(values)
    return pixels, [*notes, f"{header.get('BitsStored', 8 * values.dtype.itemsize)} bit scaled from {span}"]


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


def _first(value: Any) -> float:
    return float(value if isinstance(value, (int, float, str)) else value[0])
