"""What the first bytes of a file say. Nothing here decodes, or allocates what a file claims."""

import struct
from contextlib import suppress

MAX_FRAMES = 100_000
"""More frames or pages than this are not counted; no scanner writes as many into one file."""

HEAD_BYTES = 1024
"""As many first bytes as `sniff` needs; DICOM needs 132, an SVG may open with a long comment."""

_MAX_BLOCKS = 1_000_000
_MAX_COMMENT_BYTES = 1 << 18  # PIL joins a GIF's comments, and a JPEG's EXIF, piece by piece: quadratic
_MAX_EXIF_BYTES = 1 << 22
_MAX_SEGMENTS = 10_000
_MAX_PASSES = 500  # a progressive JPEG is drawn in some ten passes, each as costly as a whole image
_MAX_PASS_PIXELS = 1_600_000_000  # 40 passes over the largest image; 3 s

_MAX_TIFF_VALUES = 1_000_000
_TIFF_VALUE_BYTES = dict(enumerate((0, 1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4, 0, 0, 8, 8, 8)))  # by type number
_TIFF_BYTE_TYPES = (1, 2, 6, 7)  # kept as one bytes object by readers; the others become one Python number each
_TIFF_SUBDIRECTORIES = (34665, 34853, 40965)  # EXIF, GPS, interoperability
_ORIENTATION = (0x0112, 3)  # tag, and the type SHORT

_FORMATS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    **dict.fromkeys((b"GIF87a", b"GIF89a"), "gif"),
    **dict.fromkeys((b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+"), "tiff"),  # BigTIFF has the +
    b"\x00\x00\x00\x0cjP  \r\n\x87\n": "jpeg2000",
    b"\xff\x4f\xff\x51": "jpeg2000",
    b"\x00\x00\x00\x0cJXL \r\n\x87\n": "jpegxl",
    b"\xff\x0a": "jpegxl",
}
_OTHERS = {
    b"%PDF": "a PDF document",
    b"PK\x03\x04": "a ZIP archive or an office document",
    b"\x1f\x8b": "a gzip archive",
    b"Rar!": "a RAR archive",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x1aE\xdf\xa3": "a video",
    b"8BPS": "a Photoshop document",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
}
_DICOM_TYPES = (b"CS", b"UI", b"DA", b"TM", b"SH", b"LO", b"UL", b"DT", b"PN", b"ST")  # of the identifying group
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)  # sizes of its second header


def sniff(head: bytes) -> str | None:
    """Name the format of a file ("png", "tiff", "dicom", "svg" ...) from its first `HEAD_BYTES`; None where unknown."""
    if head[128:132] == b"DICM":
        return "dicom"
    for magic, kind in _FORMATS.items():
        if head.startswith(magic):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    brands = range(16, min(int.from_bytes(head[:4], "big"), len(head) - 3), 4)
    if head[4:8] == b"ftyp" and any(head[at : at + 4] in (b"avif", b"avis") for at in (8, *brands)):
        return "avif"
    if begins_without_preamble(head):
        return "dicom"
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:  # "BM" alone may be text
        return "bmp"
    text = head[:HEAD_BYTES].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg") or (text.startswith((b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in text):
        return "svg"
    return None


def begins_without_preamble(head: bytes) -> bool:
    """Tell whether a file begins as a DICOM data set without the 128 bytes and the "DICM" before it, as old ones do.

    Its first element must be of the meta or identifying group, and have one of DICOM's types or, where types are left
    out, a length that such an element can have.
    """
    if len(head) < 16:
        return False
    group, element, vr, length = struct.unpack_from("<HH2sH", head)
    if group == 0x0002:
        return element in (0x0000, 0x0001, 0x0002, 0x0010) and vr in (b"UL", b"OB", b"UI")
    if group != 0x0008 or element > 0x0070:
        return False
    if vr in _DICOM_TYPES:
        return length <= 256
    (length,) = struct.unpack_from("<I", head, 4)
    following = int.from_bytes(head[8 + length : 10 + length], "little")
    return length <= 256 and length % 2 == 0 and following in (0x0008, 0x0010)


def guess(head: bytes) -> str:
    """Say in words what a file that `sniff` does not know may be."""
    for magic, words in _OTHERS.items():
        if head.startswith(magic):
            return words
    if head[4:8] == b"ftyp":
        return "a HEIC photograph" if head[8:11] in (b"hei", b"hev", b"mif", b"msf") else "a video"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    if text and all(byte >= 32 or byte in b"\t\r\n\f" for byte in text):
        return "text"
    return "something else"


def check_png(data: bytes) -> None:
    """Raise `ValueError` where a PNG ends before its IEND chunk, or has too many chunks."""
    position = 8
    for _ in range(_MAX_BLOCKS // 10):
        kind = data[position + 4 : position + 8]
        if kind == b"IEND":
            return
        if len(kind) < 4:
            raise ValueError("the file ends early")
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    raise ValueError("too many chunks")


def check_jpeg(data: bytes) -> None:
    """Raise `ValueError` where a JPEG ends before its first pass, or has more segments, EXIF or passes than any has."""
    passes = data.count(b"\xff\xda")  # this marker cannot stand within compressed data
    if passes > _MAX_PASSES:
        raise ValueError("it is drawn in too many passes")
    if passes > 40 and (size := codestream_size(data)) and passes * size[0] * size[1] > _MAX_PASS_PIXELS:
        raise ValueError(f"it draws {size[0]} x {size[1]} pixels in {passes} passes")
    position, exif = 2, 0
    for _ in range(_MAX_SEGMENTS):
        marker = data[position : position + 2]
        if len(marker) < 2:
            raise ValueError("the file ends before its picture begins")
        if marker[0] != 0xFF or marker == b"\xff\xff":  # bytes between segments are skipped, as decoders do
            following = data.find(b"\xff", position + 1)
            position = following if following > 0 else len(data)
            continue
        if marker == b"\xff\xda":
            return
        if marker[1] in (0x00, 0x01) or 0xD0 <= marker[1] <= 0xD9:  # markers that stand alone
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        exif += length * (marker == b"\xff\xe1" and data[position + 4 : position + 8] == b"Exif")
        if exif > _MAX_EXIF_BYTES:
            raise ValueError("its EXIF block is far too large")
        position += 2 + max(length, 2)
    raise ValueError("too many segments before its picture")


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """Width and height inside a JPEG, JPEG-LS or JPEG 2000 stream, `ValueError` without any; None for other streams."""
    try:
        if frame.startswith(b"\xff\x4f\xff\x51"):  # JPEG 2000: SIZ follows at once
            right, bottom, left, top = struct.unpack_from(">IIII", frame, 8)
            return right - left, bottom - top
        if not frame.startswith(b"\xff\xd8"):
            return None
        position = 2
        while True:
            marker, length = struct.unpack_from(">HH", frame, position)
            # frame headers: C0 to CF without the tables C4, C8 and CC; F7 is JPEG-LS
            if marker == 0xFFF7 or (0xFFC0 <= marker <= 0xFFCF and marker not in (0xFFC4, 0xFFC8, 0xFFCC)):
                height, width = struct.unpack_from(">HH", frame, position + 5)
                return width, height
            if marker < 0xFFC0 or marker == 0xFFDA:
                raise ValueError("the compressed picture does not say its size")
            position += 2 + length if marker != 0xFFFF else 1
    except struct.error as error:
        raise ValueError("the compressed picture ends before its size") from error


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height that a WebP file claims, which its decoder allocates on opening; `ValueError` without any."""
    kind = data[12:16]
    if len(data) < 30:
        raise ValueError("the WebP header is cut short")
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    raise ValueError("no WebP picture chunk")


def gif_frames(data: bytes) -> tuple[int, int, int]:
    """Return a GIF's frames, up to `MAX_FRAMES` + 1, width and height, of which the first frame may exceed the canvas.

    It steps over the blocks, of which PIL limits none; `ValueError` for too many, or none complete.
    """
    width, height = struct.unpack_from("<HH", data, 6) if len(data) >= 13 else (0, 0)
    frames = steps = comment = 0
    position = 13
    try:
        if data[10] & 0x80:
            position += 3 << (data[10] & 7) + 1
        while frames <= MAX_FRAMES:
            block = data[position]
            commenting = data[position : position + 2] == b"\x21\xfe" and not frames
            if block == 0x21:  # extension: a label, then sub-blocks
                position += 2
            elif block == 0x2C:  # a frame
                if frames == 0:
                    left, top, across, down = struct.unpack_from("<HHHH", data, position + 1)
                    width, height = max(width, left + across), max(height, top + down)
                flags = data[position + 9]
                position += 11 + ((3 << (flags & 7) + 1) if flags & 0x80 else 0)
            else:  # trailer, or bytes that belong to nothing
                break
            while (length := data[position]) and steps <= _MAX_BLOCKS:
                position += 1 + length
                steps += 1
                comment += length * commenting
            position += 1
            steps += 1
            if steps > _MAX_BLOCKS or comment > _MAX_COMMENT_BYTES:
                raise ValueError("too many blocks or comments")
            frames += block == 0x2C
    except (IndexError, struct.error):
        pass  # the file ends early; what counts is whether a first frame is there
    if not frames:
        raise ValueError("the file ends before its first frame is complete")
    return frames, width, height


def check_tiff(data: bytes) -> None:
    """Raise `ValueError` where a TIFF's first directory is cut short, or would fill the memory when it is read.

    (Entries that share one large block, or millions of strips.)
    """
    order, big = "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\x00", b"\x00+")
    try:
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)
        _check_directory(data, start, order, big)
    except (struct.error, OverflowError) as error:
        raise ValueError("the file ends before its first directory is complete") from error


def _check_directory(data: bytes, start: int, order: str, big: bool, nested: bool = False) -> None:
    entry, step, head = (order + "HHQQ", 20, 8) if big else (order + "HHII", 12, 2)
    (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
    total = 0
    for at in range(start + head, start + head + step * entries, step):
        tag, kind, count, value = struct.unpack_from(entry, data, at)
        total += count * _TIFF_VALUE_BYTES.get(kind, 0)
        if kind not in _TIFF_BYTE_TYPES and count > _MAX_TIFF_VALUES:
            raise ValueError(f"its directory lists {count:,} values for one entry")
        if total > 2 * len(data) + 65_536:
            raise ValueError("its directory claims more bytes than the file has")
        if tag in _TIFF_SUBDIRECTORIES and not nested:
            with suppress(struct.error, OverflowError):  # readers skip a sub-directory that is not there
                _check_directory(data, value, order, big, nested=True)


def exif_orientation(exif: bytes) -> int:
    """Return the orientation of a raw EXIF block, 1 to 8; PIL would read the whole block, in quadratic time."""
    exif = exif.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    with suppress(struct.error):
        if order is not None:
            (start,) = struct.unpack_from(order + "I", exif, 4)
            (entries,) = struct.unpack_from(order + "H", exif, start)
            for at in range(start + 2, start + 2 + 12 * entries, 12):
                tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, at)
                if (tag, kind) == _ORIENTATION:
                    return value if 1 <= value <= 8 else 1
    return 1
