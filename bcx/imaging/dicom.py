"""Frames of a DICOM file, as a screen would show them; nothing that names a patient is read.

pydicom reads the file, and its decoding plugins undo the compression in a process of their own; this module keeps
limits before either allocates, and applies look-up tables, windows and palettes as the header asks.
"""

import io
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filereader import read_partial
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_rescale, apply_windowing
from pydicom.pixels.utils import as_pixel_options
from pydicom.tag import BaseTag, Tag

from bcx.errors import MissingExtra, ScanTooLarge, UnknownFormat
from bcx.imaging.dicom_codecs import decode_pixels, is_available
from bcx.imaging.dicom_header import LookupTable, find_region, find_scale, read_table
from bcx.imaging.formats import DAMAGED, is_damaged
from bcx.imaging.headers import MAX_FRAMES, begins_without_preamble, codestream_size
from bcx.imaging.limits import MAX_BYTES, check_size, decoding
from bcx.imaging.pixels import Decoded, stretch
from bcx.imaging.worker import run_isolated

MAX_ELEMENTS = 20_000
"""Top-level header entries; real files have some hundred."""

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_PLAIN = b"1.2.840.10008.1.2.1".ljust(len(_DEFLATED), b"\x00")  # explicit little endian: what is left after inflating
_RLE = "1.2.840.10008.1.2.5"  # pydicom undoes it in Python and NumPy, which cannot crash
_ONE_FRAME = "Export a single frame from it."
_COLOURS = ("Red", "Green", "Blue")

_WANTED = (
    *("SOPClassUID", "Modality", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames", "PhotometricInterpretation"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", "PlanarConfiguration", "RescaleSlope", "RescaleIntercept"),
    *("ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"),
    *(f"{colour}PaletteColorLookupTable{part}" for colour in _COLOURS for part in ("Descriptor", "Data")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in _COLOURS),
    *("SequenceOfUltrasoundRegions", "PixelSpacing"),
)
_PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData", 0x7FE00010: "PixelData"}


@dataclass(frozen=True)
class _File:
    """A file whose header was read and held against the limits: `pixels` is where its pixel element begins."""

    data: bytes
    header: Dataset
    pixels: int
    frames: int
    syntax: Any  # the transfer syntax
    options: dict[str, Any]  # what pydicom's decoders need to know of one frame


def frame_count(data: bytes, name: str) -> int:
    """Count the frames that a DICOM file says it holds; errors as `decode`."""
    with _decoding(name):
        return _open(data, name).frames


def decode(data: bytes, name: str, frame: int = 0) -> Decoded:
    """Decode one frame, from 0, of a whole DICOM file.

    Raises:
        MissingExtra: the plugin for this compression is not installed.
        UnknownFormat: no pixel data, or a compression that no plugin reads (video).
        DamagedScan: truncated or inconsistent, or its decoder crashed or took too long.
        ScanTooLarge: beyond a limit, mostly told before decoding.
    """
    with _decoding(name):
        file, damage = _open(data, name), ""
        notes: list[str] = []
        if file.syntax.is_encapsulated:
            values, damage = _compressed(file, name, frame)
        else:
            values, notes = _native(file, frame)
        pixels, shown = _displayed(values, file.header)
        if file.frames > 1:
            notes.insert(0, f"frame {frame + 1:,} of {file.frames:,}" if frame else f"first frame of {file.frames:,}")
        region, said = find_region(file.header, pixels)
        if region is not None:
            pixels = pixels[region[1] : region[3], region[0] : region[2]]
        scale = find_scale(file.header)
        return Decoded(pixels, [*notes, *shown, *said], damage=damage, mm_per_pixel=scale, region=region)


def _decoding(name: str) -> AbstractContextManager[None]:
    more = {"expected": "a complete DICOM file", "remedy": "Copy or export it again from where it came from."}
    return decoding(name, f"The DICOM file '{name}' cannot be decoded", **more)


def _inflated(data: bytes, name: str) -> bytes:
    """Undo the deflated transfer syntax, counting before keeping: 200 kB of it can hold 200 MB of zeros."""
    begin = 0 if begins_without_preamble(data[:512]) else 132
    meta = data[begin : begin + 4096]
    if _DEFLATED not in meta or not meta.startswith(b"\x02\x00\x00\x00UL\x04\x00"):
        return data
    start = begin + 12 + int.from_bytes(meta[8:12], "little")
    counter, body, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
    while body and not counter.eof:
        size += len(counter.decompress(body, 1 << 20))
        body = counter.unconsumed_tail
        if size > MAX_BYTES:
            found = f"'{name}' unpacks to more than {MAX_BYTES // 10**6} MB."
            raise ScanTooLarge(found, expected=f"at most {MAX_BYTES // 10**6} MB", remedy=_ONE_FRAME)
    if not counter.eof:
        raise ValueError("its compressed content ends early")
    return data[:start].replace(_DEFLATED, _PLAIN, 1) + zlib.decompress(data[start:], -zlib.MAX_WBITS)


def read_header(data: bytes, name: str) -> Dataset:
    """Read everything before the pixels; errors as `decode`."""
    with _decoding(name):
        return dcmread(io.BytesIO(_inflated(data, name)), stop_before_pixels=True, force=True)


def _open(data: bytes, name: str) -> _File:
    """Read what describes the pixels, up to the pixels, and hold it against the limits."""
    data = _inflated(data, name)
    met = 0
    keyword = None

    def stop(tag: BaseTag, vr: str | None, length: int) -> bool:
        nonlocal met, keyword
        met += 1
        if met > MAX_ELEMENTS:
            raise ValueError(f"more than {MAX_ELEMENTS:,} header entries")
        keyword = _PIXELS.get(tag)
        return keyword is not None

    buffer = io.BytesIO(data)
    header = read_partial(buffer, stop_when=stop, specific_tags=[Tag(keyword) for keyword in _WANTED], force=True)
    if keyword is None or not header.get("Rows") or not header.get("Columns"):
        kind, modality = header.get("SOPClassUID"), str(header.get("Modality") or "")[:16]
        what = f": it is of the kind '{getattr(kind, 'name', kind)}'" if kind else ""
        raise UnknownFormat(
            f"The DICOM file '{name}' holds no image{what}{f', modality {modality}' if modality else ''}.",
            expected="an image with rows, columns and pixels (a report or a directory has none)",
            remedy="Choose the image file of the same study.",
        )
    check_size(name, int(header.Columns), int(header.Rows))
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > MAX_FRAMES:
        found = f"'{name}' claims {frames:,} frames."
        raise ScanTooLarge(found, expected=f"at most {MAX_FRAMES:,} frames", remedy=_ONE_FRAME)
    if "TransferSyntaxUID" not in header.file_meta:
        if data[128:132] == b"DICM":
            raise ValueError("its transfer syntax is missing")
        implicit = header.original_encoding[0]
        header.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    syntax = header.file_meta.TransferSyntaxUID
    _check_syntax(syntax, name)
    bits = header.get("BitsAllocated", 8)
    if bits not in ((8, 16, 32) if syntax.is_encapsulated else (1, 8, 16, 32, 64)):
        raise ValueError(f"its header claims {bits} bits per value")
    options = as_pixel_options(header, number_of_frames=1) | {"pixel_keyword": keyword}
    if options.get("samples_per_pixel", 1) > 1:
        options.setdefault("planar_configuration", 0)
    return _File(data, header, buffer.tell(), max(1, frames), syntax, options)


def _check_syntax(syntax: Any, name: str) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise UnknownFormat(
            f"The DICOM file '{name}' is compressed as '{syntax.name}', which bcx cannot read.",
            expected="an uncompressed, RLE, JPEG, JPEG-LS or JPEG 2000 picture",
            remedy="Export the frame as PNG, or as uncompressed DICOM.",
        ) from error
    if not (decoder.is_available or is_available(syntax)):
        found = f"The DICOM file '{name}' is compressed as '{syntax.name}', and no decoder for it is installed."
        raise MissingExtra.named("dicom", found)


def _compressed(file: _File, name: str, frame: int) -> tuple[np.ndarray, str]:
    begin = file.pixels + 12  # tag, VR, reserved, length: encapsulated pixels are always explicit
    if not _is_whole(file.data, begin, frame, file.frames):
        raise ValueError("it ends before its compressed picture does")
    stream = get_frame(file.data[begin:], frame, number_of_frames=file.frames)
    size, claimed = codestream_size(stream), (file.header.Columns, file.header.Rows)
    if size is not None and size != claimed:
        said, found = (f"{width} x {height}" for width, height in (claimed, size))
        raise ValueError(f"its header says {said}, its picture {found}")
    jpeg = stream.startswith(b"\xff\xd8")
    if jpeg and b"\xff\xd9" not in stream[-16:]:
        raise ValueError("its compressed picture ends early")
    plain = {key: str(value) if isinstance(value, str) else int(value) for key, value in file.options.items()}
    single, asked = encapsulate([stream]), dict[str, Any](syntax=str(file.syntax), options=plain)
    if file.syntax == _RLE:
        values, _ = decode_pixels(single, **asked)
    else:
        values, _ = run_isolated(decode_pixels, single, name=name, options=asked)
    return values, DAMAGED if jpeg and is_damaged(stream) else ""


def _is_whole(data: bytes, at: int, frame: int, frames: int) -> bool:
    """Tell whether the items that hold a frame's compressed pixels end before the file does."""
    items = -1  # the first one is the table of offsets
    while data[at : at + 4] == b"\xfe\xff\x00\xe0":
        at += 8 + int.from_bytes(data[at + 4 : at + 8], "little")
        if at > len(data):
            return frames > 1 and items > frame
        items += 1
    return True


def _native(file: _File, frame: int) -> tuple[np.ndarray, list[str]]:
    """Cut one frame out of uncompressed pixels; what its length says goes before what its header says."""
    header, options, notes = file.header, dict(file.options), []
    start = file.pixels + (8 if file.syntax.is_implicit_VR else 12)  # tag, length; or tag, VR, reserved, length
    there = len(file.data) - start
    rows, columns, bits = int(header.Rows), int(header.Columns), int(header.get("BitsAllocated", 8))
    samples = int(options.setdefault("samples_per_pixel", 1))
    if options.get("photometric_interpretation") == "YBR_FULL_422":
        if there >= 3 * rows * columns * file.frames:
            options |= {"photometric_interpretation": "RGB"}
            notes.append("read as RGB, since its length is not that of the YBR_FULL_422 that its header says")
        else:
            samples = 2
    length = rows * columns * samples * bits  # in bits
    if 8 * there < (frame + 1) * length:
        which = f"frame {frame + 1:,}" if frame else "first frame"
        raise ValueError(f"it ends before its {which} is complete")
    if frame * length % 8:  # frames of single bits follow each other without a gap
        values = np.unpackbits(np.frombuffer(file.data[start:], np.uint8), bitorder="little")
        return values[frame * length : (frame + 1) * length].reshape(rows, columns), notes
    begin = start + frame * length // 8
    raw = file.data[begin : begin + -(-length // 8)]
    options["pixel_vr"] = "OW" if bits > 8 else "OB"
    return decode_pixels(raw + bytes(len(raw) % 2), str(file.syntax), options)[0], notes


def _displayed(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, list[str]]:
    """From stored values to what a screen shows: modality, VOI, palette, MONOCHROME1, 8 bits."""
    kind = str(header.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind == "PALETTE COLOR":
        return _palette(values, header), ["palette applied"]
    if values.ndim == 3:
        if values.dtype == np.uint8:
            return values[..., :3], []
        pixels, span = stretch(values[..., :3])
        return pixels, [f"{header.BitsStored} bit scaled from {span}"]
    pixels, notes = _grey_levels(values, header)
    return (np.uint8(255) - pixels, [*notes, "MONOCHROME1 inverted"]) if kind == "MONOCHROME1" else (pixels, notes)


def _palette(values: np.ndarray, header: Dataset) -> np.ndarray:
    planes = []
    for colour in _COLOURS:
        what = f"{colour.lower()} palette"
        descriptor = header.get(f"{colour}PaletteColorLookupTableDescriptor")
        data = header.get(f"{colour}PaletteColorLookupTableData")
        if segmented := data is None:
            data = header.get(f"Segmented{colour}PaletteColorLookupTableData")
        if descriptor is None or data is None:
            raise ValueError(f"its {what} is missing")
        plane = read_table(descriptor, data, what, little=_little(header), segmented=segmented)(values)
        # a palette's 16 bits are the range of its type, not of the image
        planes.append((plane >> 8).astype(np.uint8) if plane.dtype == np.uint16 else plane)
    return np.stack(planes, axis=-1)


def _little(header: Dataset) -> bool:
    return header.file_meta.TransferSyntaxUID.is_little_endian


def _grey_levels(values: np.ndarray, header: Dataset) -> tuple[np.ndarray, list[str]]:
    if not np.isfinite(values).all():
        raise ValueError("it holds numbers that are not finite")
    if header.get("BitsAllocated") == 1:
        return values.astype(np.uint8) * np.uint8(255), ["1 bit scaled to 0..255"]
    notes = []
    if header.get("ModalityLUTSequence"):
        values = _sequence_table(header, "Modality")(values)
        notes.append("rescaled as its header asks")
    elif header.get("RescaleSlope", 1) != 1 or header.get("RescaleIntercept", 0) != 0:
        values = apply_rescale(values, header)
        notes.append("rescaled as its header asks")
    if header.get("VOILUTSequence"):
        table = _sequence_table(header, "VOI")
        notes.append("look-up table of its header applied")
        return _between(table(np.rint(values)), 0.0, 2.0**table.bits - 1), notes
    if "WindowCenter" in header and "WindowWidth" in header:
        with np.errstate(over="ignore"):
            values = apply_windowing(values, header)
            # a window is monotone and levels off: its ends are what the furthest values become
            low, high = apply_windowing(np.array([-1e12, 1e12]), header)
        notes.append(f"window around {_first(header.WindowCenter)}, width {_first(header.WindowWidth)} applied")
        return _between(values, low, high), notes
    if values.dtype == np.uint8:
        return values, notes
    pixels, span = stretch(values)
    return pixels, [*notes, f"{header.get('BitsStored', 8 * values.dtype.itemsize)} bit scaled from {span}"]


def _sequence_table(header: Dataset, kind: str) -> LookupTable:
    item, what = header[f"{kind}LUTSequence"].value[0], f"{'VOI' if kind == 'VOI' else 'modality'} look-up table"
    return read_table(item.get("LUTDescriptor"), item.get("LUTData"), what, little=_little(header))


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values - low) * (255 / (high - low)), 0, 255)).astype(np.uint8)


def _first(value: Any) -> str:
    return f"{float(value if isinstance(value, (int, float, str)) else value[0]):g}"
