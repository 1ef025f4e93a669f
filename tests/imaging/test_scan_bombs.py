"""Files made to exhaust a machine: each is a typed error with a remedy, within a second and 300 MB.

Each file is opened in a forked process of its own, so that its time and its peak memory are its own.
"""

import functools
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx import errors

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="measures in forked processes")

OPEN_EACH = """
import json, os, resource, sys, time, traceback
from bcx.errors import BcxError
from bcx.imaging.scan import Scan

def attempt(path):
    started = time.process_time()
    try:
        answer = ["", " | ".join(Scan.open(path).notes), ""]
    except BcxError as error:
        answer = [type(error).__name__, str(error), error.remedy]
    except BaseException as error:
        answer = ["escaped: " + type(error).__name__, traceback.format_exc(), ""]
    return [*answer, time.process_time() - started]

for path in sys.argv[1:]:
    ours, theirs = os.pipe()
    if not (child := os.fork()):
        os.write(theirs, json.dumps([os.path.basename(path), *attempt(path)]).encode()[:60_000])
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as pipe:
        answer = json.loads(pipe.read() or '["' + os.path.basename(path) + '", "died", "", "", 0]')
    usage = os.wait4(child, 0)[2]
    print(json.dumps([*answer, usage.ru_maxrss / 1024]), flush=True)
"""


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, idat: bytes, *before: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join([chunk(b"IHDR", header), *before, chunk(b"IDAT", idat), chunk(b"IEND")])


@functools.cache
def zeros(megabytes: int) -> bytes:
    packer = zlib.compressobj(1)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()


def saved(kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 256, (300, 400), np.uint8)
    Image.fromarray(noise).save(buffer, kind, **options)
    return buffer.getvalue()


def directory(entries: list[tuple[int, int, int, int]], tail: bytes = b"") -> bytes:
    """A little-endian TIFF or EXIF block with one directory."""
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + tail


def tiff(width: int, height: int, *extra: tuple[int, int, int, int], tail: bytes = b"") -> bytes:
    basic = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1)]
    return directory(sorted([*basic, *extra]), tail)


def tiff_of_one_huge_tile() -> bytes:
    tile = zeros(900)
    entries = [(322, 4, 1, 30_000), (323, 4, 1, 30_000), (324, 4, 1, 8 + 2 + 12 * 10 + 4), (325, 4, 1, len(tile))]
    return tiff(100, 100, *entries, tail=tile)


def jpeg_with(segments: bytes) -> bytes:
    data = saved("JPEG")
    end = 4 + int.from_bytes(data[4:6], "big")  # without its JFIF segment, for want of a resolution EXIF is asked
    return data[:2] + segments + data[end:]


def exif_of_shared_blocks(segments: int) -> bytes:
    """One directory over several APP1 segments, whose entries all point at the same block."""
    block = directory([(1000 + n, 7, 50_000 * segments, 0) for n in range(5000)], bytes(60_000 * segments))
    parts = [block[at : at + 65_000] for at in range(0, len(block), 65_000)]
    return b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 8) + b"Exif\x00\x00" + part for part in parts)


def jpeg_of_many_passes() -> bytes:
    data = saved("JPEG", progressive=True)
    last = data.rfind(b"\xff\xda")
    return data[:-2] + data[last:-2] * 3000 + data[-2:]


def webp_of_full_size() -> bytes:
    canvas = b"\x02\x00\x00\x00" + 2 * (16_382).to_bytes(3, "little")
    body = b"WEBPVP8X" + struct.pack("<I", 10) + canvas + saved("WEBP", lossless=True)[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_of_many_frames() -> bytes:
    data = saved("GIF")
    small = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x4c\x01\x00"
    return data[:-1] + small * 9_999 + data[-1:]


def gif_of_comments() -> bytes:
    data = saved("GIF")
    at = data.index(b"\x2c\x00\x00\x00\x00")
    return data[:at] + b"\x21\xfe" + (b"\xff" + b"a" * 255) * 80_000 + b"\x00" + data[at:]


def gif_of_blocks(blocks: bytes) -> bytes:
    data = saved("GIF")
    at = data.index(b"\x2c\x00\x00\x00\x00")
    return data[:at] + blocks + data[at:]


def gif_with_a_frame_beyond_its_canvas() -> bytes:
    data = saved("GIF")
    at = data.index(b"\x2c\x00\x00\x00\x00") + 5
    return data[:at] + struct.pack("<HH", 65_535, 65_535) + data[at + 4 :]


def bmp(width: int, height: int, compression: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 2000, 0, 0, 54 + 1024) + info + bytes(1024)


def jpeg_header(width: int, height: int) -> bytes:
    data = saved("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty.png": (bytes, "DamagedScan"),
    "text.png": (lambda: b"This is not a picture.\n" * 9, "UnknownFormat"),
    "drawing.svg": (lambda: b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "UnknownFormat"),
    "one-pixel.png": (lambda: png(1, 1, zlib.compress(b"\x00\x00")), "ScanTooSmall"),
    "header-40000.png": (lambda: png(40_000, 40_000, zlib.compress(bytes(1000))), "ScanTooLarge"),
    "bomb-40000.png": (lambda: png(40_000, 40_000, zeros(400), depth=1), "ScanTooLarge"),
    "more-than-its-size.png": (lambda: png(300, 300, zeros(400)), ""),
    "hollow-6000.png": (lambda: png(6_000, 6_000, zlib.compress(bytes(1000))), "DamagedScan"),
    "ztxt.png": (lambda: png(90, 90, zeros(1), chunk(b"zTXt", b"k\x00\x00" + zeros(400))), "DamagedScan"),
    "itxt.png": (lambda: png(90, 90, zeros(1), chunk(b"iTXt", b"k\x00\x01\x00\x00\x00" + zeros(400))), "DamagedScan"),
    "iccp.png": (lambda: png(90, 90, zeros(1), chunk(b"iCCP", b"k\x00\x00" + zeros(400))), "DamagedScan"),
    "much-text.png": (lambda: png(90, 90, zeros(1), *[chunk(b"zTXt", b"k\x00\x00" + zeros(1))] * 200), "DamagedScan"),
    "chunks.png": (lambda: png(90, 90, zeros(1), chunk(b"teXt") * 2_000_000), "DamagedScan"),
    "cut.png": (lambda: saved("PNG")[:9_000], "DamagedScan"),
    "cut.jpg": (lambda: saved("JPEG")[:9_000], "DamagedScan"),
    "cut.gif": (lambda: saved("GIF")[:9_000], "DamagedScan"),
    "cut.bmp": (lambda: saved("BMP")[:9_000], "DamagedScan"),
    "cut.tiff": (lambda: saved("TIFF")[:9_000], "DamagedScan"),
    "cut.webp": (lambda: saved("WEBP")[:9_000], "DamagedScan"),
    "frames-10000.gif": (gif_of_many_frames, ""),
    "canvas-65535.gif": (lambda: b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + saved("GIF")[10:], "ScanTooLarge"),
    "frame-65535.gif": (gif_with_a_frame_beyond_its_canvas, "ScanTooLarge"),
    "comments.gif": (gif_of_comments, "DamagedScan"),
    "blocks.gif": (lambda: gif_of_blocks(b"\x21\x01\x00" * 3_000_000), "DamagedScan"),
    "sub-blocks.gif": (lambda: gif_of_blocks(b"\x21\x01" + b"\x01a" * 30_000_000 + b"\x00"), "DamagedScan"),
    "header-65000.jpg": (lambda: jpeg_header(65_000, 65_000), "ScanTooLarge"),
    "hollow-6000.jpg": (lambda: jpeg_header(6_000, 6_000)[:-2], "DamagedScan"),
    "passes.jpg": (jpeg_of_many_passes, "DamagedScan"),
    "exif-64k.jpg": (lambda: jpeg_with(exif_of_shared_blocks(1)), ""),
    "exif-3m.jpg": (lambda: jpeg_with(exif_of_shared_blocks(50)), ""),
    "exif-60m.jpg": (lambda: jpeg_with(exif_of_shared_blocks(1000)), "DamagedScan"),
    "segments.jpg": (lambda: jpeg_with(b"\xff\xe9\x00\x02" * 5_000_000), "DamagedScan"),
    "header-40000.bmp": (lambda: bmp(40_000, 40_000, 0), "ScanTooLarge"),
    "hollow-6000.bmp": (lambda: bmp(6_000, 6_000, 0), "DamagedScan"),
    "canvas-16383.webp": (webp_of_full_size, "ScanTooLarge"),
    "header-40000.tiff": (lambda: tiff(40_000, 40_000, (273, 4, 1, 8), (279, 4, 1, 8)), "ScanTooLarge"),
    "tile-30000.tiff": (tiff_of_one_huge_tile, "DamagedScan"),
    "shared-blocks.tiff": (
        lambda: tiff(90, 90, *[(40_000 + n, 7, 500_000, 0) for n in range(3000)], tail=bytes(500_000)),
        "DamagedScan",
    ),
    "strips.tiff": (lambda: tiff(90, 90, (273, 4, 5_000_000, 200), tail=bytes(20_000_000)), "DamagedScan"),
}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list]:
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in FILES.items():
        (folder / name).write_bytes(make())
    command = [sys.executable, "-W", "ignore", "-c", OPEN_EACH, *(str(folder / name) for name in FILES)]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300)
    assert done.returncode == 0, done.stderr
    return {(answer := json.loads(line))[0]: answer[1:] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("name", FILES)
def test_each_is_answered_within_a_second_and_300_megabytes(opened, name):
    kind, words, remedy, seconds, megabytes = opened[name]
    print(f"{name}: {kind or 'read'} ({words}) {seconds:.3f} s, {megabytes:.0f} MB")
    expected = FILES[name][1]
    assert kind == expected, words
    assert seconds < 1
    assert megabytes < 300
    if expected:
        assert issubclass(getattr(errors, kind), errors.BcxError)
        assert name in words
        assert remedy


def test_of_10000_frames_the_first_is_read(opened):
    assert opened["frames-10000.gif"][1] == "first frame of 10,000"
