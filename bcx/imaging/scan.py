"""Any file, bytes or array becomes pixels through `Scan.open`, held against limits before anything is decoded."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from bcx.errors import DamagedScan, ScanError, UnknownFormat, from_extra
from bcx.imaging import formats, headers
from bcx.imaging.headers import HEAD_BYTES, sniff
from bcx.imaging.limits import MAX_BYTES, MAX_PIXELS, MIN_SIDE, check_size, decoding, too_many_bytes
from bcx.imaging.pixels import Decoded, alpha_share, grey_if_grey, on_black, to_bytes, turn

__all__ = ["MAX_BYTES", "MAX_PIXELS", "MIN_SIDE", "Scan", "frame_count", "place_of", "read_file", "sniff", "sniff_file"]

_FORMATS = "a PNG, JPEG, GIF, BMP, TIFF, WebP, AVIF, JPEG 2000, JPEG XL or DICOM picture"


@dataclass(frozen=True, eq=False)
class Scan:
    """A decoded image.

    Attributes:
        pixels: uint8 [H, W] (grey) or [H, W, 3] (RGB), 0..255, C-contiguous, read-only.
        name: file name, or the name that was given.
        sha256: of the bytes as given; for arrays and PIL images of shape, dtype and values.
        notes: what was done to it, in words ("16 bit scaled from 0..4095").
        frame: which frame or page of the file this is, from 0.
        damage: a sentence where the file is damaged and part of the pixels made up; "" where it is whole.
        mm_per_pixel: side of a pixel in millimetres, where the file is DICOM and says so.
        region: (left, top, right, bottom) of the pixels in the image of a DICOM file whose header says where in the
            scanner's frame the scan lies; None where they are the whole image.
    """

    pixels: np.ndarray = field(repr=False)
    name: str
    sha256: str
    notes: tuple[str, ...] = ()
    frame: int = 0
    damage: str = ""
    mm_per_pixel: float | None = None
    region: tuple[int, int, int, int] | None = None

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

    @classmethod
    def open(
        cls,
        source: str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Scan,
        name: str | None = None,
        *,
        frame: int = 0,
    ) -> Scan:
        """Read an image from wherever it is; one in colour whose channels agree becomes grey.

        Args:
            source: path or bytes of a file (PNG, JPEG, GIF, BMP, TIFF, WebP, AVIF, JPEG 2000, JPEG XL or DICOM by its
                content, never by its name), PIL image, or array: bool, uint8, uint16 or float, [H, W], [H, W, 1],
                [H, W, 3] (RGB) or [H, W, 4] (RGBA); floats within 0..1 or 0..255, otherwise stretched.
            name: what to call it; by default the file's own name.
            frame: which of a file's frames or pages, from 0 to `frame_count` - 1.

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
            return _from_bytes(bytes(source), name or "bytes", frame)
        if isinstance(source, (str, os.PathLike)):
            path = os.fsdecode(source)
            return _from_bytes(read_file(path), name or os.path.basename(path) or path, frame)
        raise ScanError(
            f"A {type(source).__name__} is not a picture.",
            expected="a path, the bytes of a file, a PIL image or a NumPy array",
            remedy="Pass one of these (of an open file, what its read() returns).",
        )


def sniff_file(path: str | os.PathLike[str]) -> str | None:
    """`sniff` for a file, reading no more than its first bytes; `ScanError` where that is impossible."""
    return sniff(read_file(path, HEAD_BYTES))


def read_file(path: str | os.PathLike[str], head: int | None = None) -> bytes:
    """Return the bytes of an image file, or its first `head`; `ScanError` where it is none, too large or forbidden."""
    path = os.fsdecode(path)
    if not path:
        raise ScanError("The path is empty.", expected="the path of a picture", remedy="Name a file.")
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            remedy = "Name a file in it, or use `bcx predict FOLDER`."
            raise ScanError(f"'{path}' is a folder.", expected="one picture", remedy=remedy)
        if not stat.S_ISREG(found.st_mode):
            raise ScanError(f"'{path}' is not an ordinary file.", expected="a picture file", remedy="Save it first.")
        if head is None and found.st_size > MAX_BYTES:
            raise too_many_bytes(path, found.st_size)
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1 if head is None else head)
    except FileNotFoundError as error:
        remedy = "Check the spelling" + (", or download it first." if "://" in path else ".")
        expected = "the path of a picture on this machine"
        raise ScanError(f"There is no file '{path}'.", expected=expected, remedy=remedy) from error
    except PermissionError as error:
        remedy = "Change its permissions, or copy it."
        raise ScanError(f"'{path}' may not be read.", expected="a readable file", remedy=remedy) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        why = f"'{path[:200]}' cannot be opened ({getattr(error, 'strerror', None) or error})."
        raise ScanError(why, expected="a readable file", remedy="Check the path.") from error


def frame_count(data: bytes, name: str = "bytes") -> int:
    """Count the frames or pages of a file that `Scan.open` can be asked for: DICOM, GIF and TIFF; 1 for all else."""
    kind = _kind(data, name)
    if kind == "dicom":
        return _dicom(name).frame_count(data, name)
    return formats.frame_count(data, kind, name)


def place_of(data: bytes) -> dict[str, str]:
    """Return a DICOM file's study and series (UIDs), laterality and view, each "" where its header does not say."""
    found: dict[str, Any] = dict.fromkeys(("study", "series", "laterality", "view"))
    with suppress(Exception):  # pydicom raises whatever the damage leads it to; the file's row says what is wrong
        header: Any = _dicom("").read_header(data, "") if sniff(data[:HEAD_BYTES]) == "dicom" else {}
        codes = header.get("ViewCodeSequence")
        found = {
            "study": header.get("StudyInstanceUID"),
            "series": header.get("SeriesInstanceUID"),
            "laterality": header.get("ImageLaterality") or header.get("Laterality"),
            "view": header.get("ViewPosition") or (codes and codes[0].get("CodeMeaning")),
        }
    return {name: " ".join(str(value or "").split())[:64] for name, value in found.items()}


def _dicom(name: str) -> ModuleType:
    with from_extra("dicom", f"'{name}' is a DICOM file, and pydicom is not installed."):
        from bcx.imaging import dicom  # here, since it costs what only DICOM files need
    return dicom


def _kind(data: bytes, name: str) -> str:
    if not data:
        raise DamagedScan(f"'{name}' is empty.", expected=_FORMATS, remedy="Copy or download it again.")
    if len(data) > MAX_BYTES:
        raise too_many_bytes(name, len(data))
    kind = sniff(data[:HEAD_BYTES])
    if kind == "svg":
        found = f"'{name}' is an SVG drawing, which has no pixels."
        raise UnknownFormat(found, expected=_FORMATS, remedy="Export it as PNG.")
    if kind is None:
        found = f"'{name}' holds {headers.guess(data[:HEAD_BYTES])}, whatever its name says."
        raise UnknownFormat(found, expected=_FORMATS, remedy="Choose another file, or export the picture as PNG.")
    return kind


def _from_bytes(data: bytes, name: str, frame: int = 0) -> Scan:
    kind = _kind(data, name)
    decoded = _dicom(name).decode(data, name, frame) if kind == "dicom" else formats.decode(data, kind, name, frame)
    return _finish(decoded, name, hashlib.sha256(data).hexdigest(), frame)


def _from_pil(image: Image.Image, name: str) -> Scan:
    check_size(name, *image.size)
    expected, remedy = "an image whose file is open, complete and undamaged", "Open it again, or pass the file itself."
    with decoding(name, f"The PIL image '{name}' cannot be loaded", expected=expected, remedy=remedy):
        values, orientation, notes = formats.pil_values(image)
    return _finish(Decoded(values, notes, orientation), name, _array_sha256(values))


def _from_array(array: np.ndarray, name: str) -> Scan:
    array = np.asarray(array)  # of masked arrays and matrices only the values count
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ScanError(
            f"'{name}' has the shape {list(array.shape)}.",
            expected="[height, width], [height, width, 1], [height, width, 3] or [height, width, 4]",
            remedy="Move the channels to the end, and pass one picture at a time.",
        )
    if array.dtype.kind not in "bf" and array.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        remedy = "Convert it, for example with array.astype('uint8')."
        raise ScanError(f"'{name}' has the type {array.dtype}.", expected="bool, uint8, uint16 or float", remedy=remedy)
    check_size(name, array.shape[1], array.shape[0])
    digest = _array_sha256(array)
    # copied: a Scan does not change when the caller's array does
    return _finish(Decoded(array.astype(array.dtype.newbyteorder("="), order="C")), name, digest)


def _array_sha256(array: np.ndarray) -> str:
    digest = hashlib.sha256(f"{array.shape} {array.dtype.str} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _finish(decoded: Decoded, name: str, sha256: str, frame: int = 0) -> Scan:
    """Values of any kind become a Scan: 8 bits, no alpha, upright, grey where it is."""
    values, notes = decoded.values, list(decoded.notes)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        expected, remedy = "finite numbers (no NaN, no infinity)", "Replace them, for example with numpy.nan_to_num."
        raise ScanError(f"'{name}' holds numbers that are not finite.", expected=expected, remedy=remedy)
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
    pixels, turned = turn(pixels, decoded.orientation)
    if turned:
        notes.append(turned)
    if pixels.ndim == 3:
        pixels = grey_if_grey(pixels)
    if decoded.damage:
        notes.append("damaged: its file ends early or holds wrong data")
    return Scan(pixels, name, sha256, tuple(notes), frame, decoded.damage, decoded.mm_per_pixel, decoded.region)
