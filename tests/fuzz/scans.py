"""Files of every format, and what damage and malice make of them; shared by the tests and by `benchmarks/fuzz.py`."""

import io
import struct

import numpy as np
from PIL import Image
from pydicom import uid
from pydicom.encaps import encapsulate

from bcx.simulate import simulate
from tests.imaging.test_dicom import dataset, encoded, written

#: What makes decoders stumble: ends of ranges, signs, and lengths that do not fit.
ODD = [0, 1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 32_767, 32_768, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1]


def seeds() -> dict[str, bytes]:
    """Return one or more small valid files of every format that `Scan.open` reads."""
    grey = simulate("benign", 2, 60, 80).pixels
    colour = np.stack([grey, np.roll(grey, 3, 0), np.roll(grey, 3, 1)], -1)
    deep = grey.astype(np.uint16) * 16
    files = {
        "png": encoded(grey, "PNG"),
        "png-16": encoded(deep, "PNG"),
        "png-palette": _saved(Image.fromarray(colour).quantize(32), "PNG", transparency=3),
        "jpeg": encoded(grey, "JPEG", quality=90),
        "jpeg-progressive": encoded(colour, "JPEG", progressive=True),
        "jpeg-cmyk": _saved(Image.fromarray(colour).convert("CMYK"), "JPEG"),
        "gif": _saved(
            Image.fromarray(grey),
            "GIF",
            save_all=True,
            append_images=[Image.fromarray(np.roll(grey, 9 * k, 0)) for k in (1, 2, 3)],
        ),
        "bmp": encoded(colour, "BMP"),
        "tiff": encoded(deep, "TIFF"),
        "tiff-lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": encoded(colour, "TIFF", compression="jpeg"),
        "tiff-pages": _saved(Image.fromarray(grey), "TIFF", save_all=True, append_images=[Image.fromarray(grey)] * 2),
        "webp": encoded(colour, "WEBP", quality=80),
        "webp-lossless": encoded(colour, "WEBP", lossless=True),
        "avif": encoded(colour, "AVIF"),
        "jp2": _saved(Image.fromarray(grey), "JPEG2000"),
        "j2k": encoded(grey, "JPEG2000"),
    }
    files |= _dicoms(grey, colour, deep)
    try:
        from imagecodecs import jpegxl_encode

        files["jxl"] = jpegxl_encode(grey)
    except ImportError:
        pass
    return files


def _saved(picture: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def _dicoms(grey: np.ndarray, colour: np.ndarray, deep: np.ndarray) -> dict[str, bytes]:
    frames = np.stack([grey, grey[::-1], grey])
    rle = dataset(colour, "RGB")
    rle.compress(uid.RLELossless)
    compressed = {
        "jpeg": (uid.JPEGBaseline8Bit, encoded(grey, "JPEG")),
        "j2k": (uid.JPEG2000Lossless, encoded(grey, "JPEG2000", irreversible=False)),
    }
    try:
        from imagecodecs import jpegls_encode, ljpeg_encode

        compressed["jls"] = (uid.JPEGLSLossless, jpegls_encode(grey))
        compressed["ljpeg"] = (uid.JPEGLosslessSV1, ljpeg_encode(grey))
    except ImportError:
        pass
    palette = dataset(grey, "PALETTE COLOR")
    for name in ("Red", "Green", "Blue"):
        setattr(palette, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 8])
        setattr(palette, f"{name}PaletteColorLookupTableData", bytes(range(256)))
    window = dataset(deep, WindowCenter=2000, WindowWidth=1500, RescaleSlope=2, RescaleIntercept=-5)
    plain = {
        "dcm": dataset(grey),
        "dcm-implicit": dataset(deep, syntax=uid.ImplicitVRLittleEndian),
        "dcm-deflated": dataset(grey, syntax=uid.DeflatedExplicitVRLittleEndian),
        "dcm-clip": dataset(grey, NumberOfFrames=3, PixelData=frames.tobytes()),
        "dcm-422": dataset(colour, "YBR_FULL"),
        "dcm-rle": rle,
        "dcm-palette": palette,
        "dcm-window": window,
    }
    for name, (syntax, stream) in compressed.items():
        plain[f"dcm-{name}"] = dataset(grey, syntax=syntax, PixelData=encapsulate([stream]))
    files = {name: written(ds) for name, ds in plain.items()}
    return files | {"dcm-no-preamble": files["dcm"][132:]}


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file in one to four of the ways in which files are damaged, or made hostile."""
    mutated = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if len(mutated) < 8:
            break
        # half of all changes in the headers, where they tell
        span = len(mutated) if rng.random() < 0.5 else min(len(mutated), 600)
        at = int(rng.integers(0, span))
        way = int(rng.integers(0, 8))
        if way == 0:
            mutated[at] ^= 1 << int(rng.integers(8))
        elif way == 1:
            mutated[at : at + 4] = struct.pack("<I" if rng.random() < 0.5 else ">I", int(rng.choice(ODD)))
        elif way == 2:
            mutated[at : at + 2] = struct.pack("<H" if rng.random() < 0.5 else ">H", int(rng.choice(ODD)) & 0xFFFF)
        elif way == 3:
            del mutated[at : at + int(rng.integers(1, 64))]
        elif way == 4:
            mutated[at:at] = rng.bytes(int(rng.integers(1, 64)))
        elif way == 5:
            length = int(rng.integers(1, 256))
            mutated[at:at] = mutated[at : at + length] * int(rng.integers(1, 20))
        elif way == 6:
            del mutated[max(8, at) :]
        else:
            mutated[at : at + 16] = rng.bytes(16)
    return bytes(mutated)
