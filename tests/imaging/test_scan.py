"""Scan.open on good pictures: PIL, OpenCV and plain arithmetic say what the pixels should be."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile, ImageOps

from bcx.errors import BcxError, DamagedScan, ScanError, ScanTooLarge, ScanTooSmall, UnknownFormat
from bcx.imaging import scan as images
from bcx.imaging.scan import MIN_SIDE, Scan, frame_count, sniff, sniff_file

RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (40, 52), np.uint8)
COLOUR = RNG.integers(0, 256, (40, 52, 3), np.uint8)
SIDES = st.integers(MIN_SIDE, 40)


def encode(array: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def stretched(values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    return (values - values.min()) * 255 / max(values.max() - values.min(), 1e-300)


# ---- files of every format


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("WEBP", {"lossless": True})],
)
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_lossless_formats_give_back_the_pixels(kind, options, pixels):
    data = encode(pixels, kind, **options)
    scan = Scan.open(data)
    np.testing.assert_array_equal(scan.pixels, pixels)
    assert scan.notes == ()
    assert scan.sha256 == hashlib.sha256(data).hexdigest()
    assert (scan.height, scan.width, scan.pixels.ndim) == (40, 52, 2 if pixels is GREY else 3)


@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_jpeg_equals_opencv(pixels):
    smooth = cv2.GaussianBlur(pixels, (0, 0), 3)
    data = encode(smooth, "JPEG", quality=95, subsampling=0)
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    ours = Scan.open(data).pixels
    ours = ours if ours.ndim == 3 else np.stack([ours] * 3, axis=-1)
    assert np.abs(ours.astype(int) - other).max() <= 2


def test_gif_gives_back_a_palette_picture():
    np.testing.assert_array_equal(Scan.open(encode(GREY, "GIF")).pixels, GREY)
    palette = Image.fromarray(COLOUR).quantize(64)
    np.testing.assert_array_equal(Scan.open(encode(palette, "GIF")).pixels, np.asarray(palette.convert("RGB")))


def test_result_is_contiguous_and_read_only():
    for source in (encode(COLOUR, "PNG"), GREY, COLOUR[:, ::-1], Image.fromarray(GREY)):
        pixels = Scan.open(source).pixels
        assert pixels.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            pixels[0, 0] = 1


def test_grey_stored_as_colour_becomes_grey_and_one_odd_pixel_keeps_it_coloured():
    stack = np.stack([GREY] * 3, axis=-1)
    assert Scan.open(encode(stack, "PNG")).pixels.ndim == 2
    stack[37, 5, 1] ^= 1
    np.testing.assert_array_equal(Scan.open(encode(stack, "PNG")).pixels, stack)


# ---- depth


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_stretched_from_its_own_range(kind):
    deep = RNG.integers(100, 4000, (30, 31)).astype(np.uint16)
    scan = Scan.open(encode(deep, kind))
    assert np.abs(scan.pixels - stretched(deep)).max() <= 0.5 + 1e-9
    assert scan.notes == (f"16 bit scaled from {deep.min()}..{deep.max()}",)


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bit_colour_keeps_its_low_bytes(extension, channels):
    deep = RNG.integers(0, 1000, (30, 31, channels)).astype(np.uint16)
    if channels == 4:
        deep[..., 3] = 65_535
    order = [2, 1, 0, 3][:channels]
    done, data = cv2.imencode(extension, deep[..., order])
    assert done
    scan = Scan.open(data.tobytes())
    assert np.abs(scan.pixels - stretched(deep[..., :3])).max() <= 0.5 + 1e-9


def test_white_is_zero_16_bit_tiff_is_inverted():
    deep = RNG.integers(0, 4096, (30, 31)).astype(np.uint16)
    data = encode(deep, "TIFF", tiffinfo={262: 0})
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert np.abs(Scan.open(data).pixels - (255 - stretched(deep))).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("values", "expected", "word"),
    [
        (np.linspace(0, 1, 400).reshape(20, 20), lambda v: v * 255, "0..1"),
        (np.linspace(0, 250, 400).reshape(20, 20), lambda v: v, "rounded"),
        (np.linspace(-3, 900, 400).reshape(20, 20), stretched, "-3..900"),
    ],
)
@pytest.mark.parametrize("through", ["array", "tiff"])
def test_floats(values, expected, word, through):
    values = values.astype(np.float32)
    scan = Scan.open(values if through == "array" else encode(values, "TIFF"))
    assert np.abs(scan.pixels - expected(values.astype(np.float64))).max() <= 0.5 + 1e-3
    assert word in scan.notes[0]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
def test_the_whole_range_of_a_float_type_does_not_overflow(dtype):
    top = np.finfo(np.float64 if dtype is np.longdouble else dtype).max
    values = np.zeros((20, 20), dtype)
    values[0, 0], values[0, 1] = -top, top
    pixels = Scan.open(values).pixels
    assert (pixels[0, 0], pixels[0, 1]) == (0, 255)
    assert pixels[5, 5] in (127, 128)


def test_32_bit_integers_are_stretched():
    wide = RNG.integers(-(10**6), 10**6, (20, 20)).astype(np.int32)
    scan = Scan.open(encode(wide, "TIFF"))
    assert np.abs(scan.pixels - stretched(wide)).max() <= 0.5 + 1e-9
    assert scan.notes[0].startswith("32 bit scaled from -")


# ---- modes, alpha, orientation


def test_every_mode_equals_its_conversion_by_pil():
    source = Image.fromarray(COLOUR)
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"):
        image = source.convert("RGB").convert(mode) if mode != "LAB" else Image.merge("LAB", source.split())
        scan = Scan.open(image)
        np.testing.assert_array_equal(
            scan.pixels if scan.pixels.ndim == 3 else np.stack([scan.pixels] * 3, -1),
            np.asarray(image.convert("RGB")),
            err_msg=mode,
        )
        assert any(mode in note for note in scan.notes) == (mode in ("CMYK", "YCbCr", "HSV", "LAB"))


def test_cmyk_jpeg_and_one_bit_png():
    cmyk = encode(Image.fromarray(cv2.GaussianBlur(COLOUR, (0, 0), 3)).convert("CMYK"), "JPEG", quality=95)
    assert Scan.open(cmyk).notes == ("CMYK converted to RGB",)
    bits = GREY > 127
    np.testing.assert_array_equal(Scan.open(encode(Image.fromarray(bits), "PNG")).pixels, bits * 255)


def composed(rgba: np.ndarray) -> np.ndarray:
    black = Image.new("RGBA", (rgba.shape[1], rgba.shape[0]), (0, 0, 0, 255))
    return np.asarray(Image.alpha_composite(black, Image.fromarray(rgba)).convert("RGB"))


def test_alpha_is_composed_on_black():
    rgba = RNG.integers(0, 256, (40, 52, 4), np.uint8)
    for source in (rgba, encode(rgba, "PNG"), encode(rgba, "WEBP", lossless=True, exact=True), encode(rgba, "TIFF")):
        scan = Scan.open(source)
        assert np.abs(scan.pixels.astype(int) - composed(rgba)).max() <= 1
        assert scan.notes == ("transparent parts put on black",)
    rgba[..., 3] = 255
    assert Scan.open(rgba).notes == ()


def test_grey_alpha_palette_transparency_and_transparent_colour():
    grey_alpha = Image.fromarray(RNG.integers(0, 256, (40, 52, 2), np.uint8), "LA")
    palette = Image.fromarray(COLOUR).quantize(16)
    for image, options in (
        (grey_alpha, {}),
        (palette, {"transparency": 3}),
        (palette, {"transparency": bytes(range(0, 160, 10))}),
        (Image.fromarray(GREY), {"transparency": int(GREY[0, 0])}),
        (Image.fromarray(COLOUR), {"transparency": tuple(map(int, COLOUR[0, 0]))}),
    ):
        data = encode(image, "PNG", **options)
        ours = Scan.open(data).pixels
        ours = ours if ours.ndim == 3 else np.stack([ours] * 3, -1)
        rgba = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
        assert rgba[..., 3].min() < 255
        assert np.abs(ours.astype(int) - composed(rgba)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_exif_orientation_is_turned_as_pil_turns_it(orientation, kind):
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(GREY, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L"))
    for source in (data, Image.open(io.BytesIO(data))):
        scan = Scan.open(source)
        np.testing.assert_array_equal(scan.pixels, upright)
        assert len(scan.notes) == (orientation != 1)


# ---- frames


@pytest.mark.parametrize(("kind", "word"), [("GIF", "frame"), ("TIFF", "page"), ("WEBP", "frame"), ("PNG", "frame")])
def test_first_of_several(kind, word):
    shades = [np.full((40, 52), level, np.uint8) for level in (10, 120, 250)]
    first, *rest = (Image.fromarray(shade) for shade in shades)
    options = {"lossless": True} if kind == "WEBP" else {}
    scan = Scan.open(encode(first, kind, save_all=True, append_images=rest, **options))
    np.testing.assert_array_equal(scan.pixels, shades[0])
    assert scan.notes == (f"first {word} of 3",)


# ---- arrays, PIL images, paths, names


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16, np.bool_, np.float32, np.float64]),
        st.one_of(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES, st.sampled_from([1, 3, 4]))),
        elements={"allow_nan": False, "allow_infinity": False},
        fill=st.nothing(),
    )
)
def test_arrays_of_every_shape_and_type(array):
    scan = Scan.open(array)
    assert scan.pixels.dtype == np.uint8
    assert scan.pixels.shape[:2] == array.shape[:2]
    assert scan.pixels.ndim == 2 or scan.pixels.shape[2] == 3
    assert not np.shares_memory(scan.pixels, array)
    if array.dtype == np.uint8 and array.shape[2:] in ((), (1,)):
        np.testing.assert_array_equal(scan.pixels, array.reshape(array.shape[:2]))


@settings(max_examples=30, deadline=None)
@given(hnp.arrays(np.uint16, st.tuples(SIDES, SIDES)), st.sampled_from(["PNG", "TIFF"]))
def test_16_bit_file_and_array_give_the_same_scan(array, kind):
    from_file, from_array = Scan.open(encode(array, kind)), Scan.open(array)
    np.testing.assert_array_equal(from_file.pixels, from_array.pixels)
    assert from_file.notes == from_array.notes


def test_byte_order_and_memory_order_do_not_matter():
    deep = RNG.integers(0, 4096, (30, 31)).astype(np.uint16)
    want = Scan.open(deep).pixels
    np.testing.assert_array_equal(Scan.open(deep.astype(">u2")).pixels, want)
    np.testing.assert_array_equal(Scan.open(np.asfortranarray(deep)).pixels, want)


def test_path_str_bytes_and_pil_agree(tmp_path):
    path = tmp_path / "left breast.png"
    path.write_bytes(encode(GREY, "PNG"))
    by_path = Scan.open(path)
    assert by_path.name == "left breast.png"
    for source in (str(path), path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        scan = Scan.open(source)
        np.testing.assert_array_equal(scan.pixels, by_path.pixels)
        assert scan.sha256 == by_path.sha256
    with Image.open(path) as image:
        scan = Scan.open(image)
        assert scan.name == "left breast.png"
        assert scan.sha256 == Scan.open(GREY).sha256 != by_path.sha256
    assert Scan.open(path, name="A").name == "A"
    assert Scan.open(by_path) is by_path
    assert Scan.open(by_path, name="B").name == "B"


def test_a_scan_survives_a_trip_between_processes():
    scan = Scan.open(COLOUR, name="x")
    again = pickle.loads(pickle.dumps(scan))
    np.testing.assert_array_equal(again.pixels, COLOUR)
    assert (again.name, again.sha256, again.notes) == (scan.name, scan.sha256, scan.notes)


def test_content_decides_not_the_name(tmp_path):
    path = tmp_path / "scan.dcm"
    path.write_bytes(encode(GREY, "PNG"))
    np.testing.assert_array_equal(Scan.open(path).pixels, GREY)
    assert sniff_file(path) == "png"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="...">', "svg"),
        (b"\xef\xbb\xbf  <SVG>", "svg"),
        (b'<?xml version="1.0"?><html>', None),
        (b"BMI of the patient: 24", None),
        (bytes(128) + b"DICM", "dicom"),
        (b"", None),
    ],
)
def test_sniff_looks_further_than_the_first_letters(head, kind):
    assert sniff(head) == kind


def test_eight_threads_read_what_one_reads():
    files = [encode(np.roll(COLOUR, shift, 0), kind) for shift in range(8) for kind in ("PNG", "BMP", "TIFF", "WEBP")]
    serial = [Scan.open(data).pixels for data in files]
    with ThreadPoolExecutor(8) as pool:
        for one, other in zip(serial, pool.map(lambda data: Scan.open(data).pixels, files), strict=True):
            np.testing.assert_array_equal(one, other)


def test_pils_global_state_stays_as_it_is():
    before = (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)
    for data in (encode(GREY, "PNG"), encode(GREY, "PNG")[:400], encode(GREY, "TIFF")):
        try:
            Scan.open(data)
        except BcxError:
            continue
    assert before == (ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)


def test_importing_it_loads_neither_pydicom_nor_torch():
    code = "import sys, bcx.imaging.scan; print([m for m in ('pydicom', 'torch', 'gradio', 'cv2') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what cannot be read


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        (np.full((20, 20), np.nan), ScanError, "not finite"),
        (np.full((20, 20), np.inf, np.float32), ScanError, "not finite"),
        (np.zeros((20, 20, 2), np.uint8), ScanError, r"\[20, 20, 2\]"),
        (np.zeros((3, 20, 20, 3), np.uint8), ScanError, r"\[3, 20, 20, 3\]"),
        (np.zeros(20, np.uint8), ScanError, r"\[20\]"),
        (np.zeros((20, 20), np.int64), ScanError, "int64"),
        (np.zeros((20, 20), complex), ScanError, "complex"),
        (np.zeros((20, 20), object), ScanError, "object"),
        (np.zeros((0, 20), np.uint8), ScanTooSmall, "20 x 0"),
        (np.zeros((1, 1), np.uint8), ScanTooSmall, "1 x 1"),
        (np.broadcast_to(np.uint8(0), (40_000, 40_000)), ScanTooLarge, "40,000 x 40,000"),
        (Image.new("L", (1, 1)), ScanTooSmall, "1 x 1"),
        (None, ScanError, "NoneType"),
        (17, ScanError, "int"),
        (io.BytesIO(b"x"), ScanError, "BytesIO"),
        ("", ScanError, "empty"),
        ("no/such/file.png", ScanError, "no file"),
        ("a\x00b.png", ScanError, "cannot be opened"),
        ("x" * 5000, ScanError, "cannot be opened"),
        ("https://example.org/scan.png", ScanError, "download it first"),
        (Path(os.devnull), ScanError, "not an ordinary file"),
        (b"", DamagedScan, "is empty"),
        (b"%PDF-1.7 ...", UnknownFormat, "a PDF document"),
        (b"Dear colleague, ...", UnknownFormat, "holds text"),
        (b"<svg/>", UnknownFormat, "SVG"),
    ],
)
def test_errors_are_typed_and_say_what_was_found(source, kind, words):
    with pytest.raises(kind, match=words) as caught:
        Scan.open(source)
    assert type(caught.value) is kind
    assert caught.value.expected
    assert caught.value.remedy


def test_a_folder_a_pipe_and_a_closed_file(tmp_path):
    with pytest.raises(ScanError, match="is a folder"):
        Scan.open(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScanError, match="not an ordinary file"):
        sniff_file(tmp_path / "pipe")
    (tmp_path / "cut.png").write_bytes(encode(GREY, "PNG")[:900])
    with Image.open(tmp_path / "cut.png") as image, pytest.raises(DamagedScan):
        Scan.open(image)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "locked.png"
    path.write_bytes(encode(GREY, "PNG"))
    path.chmod(0)
    with pytest.raises(ScanError, match="may not be read"):
        Scan.open(path)


def test_too_many_bytes_are_told_before_reading(tmp_path, monkeypatch):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(images.MAX_BYTES + 1)
    with pytest.raises(ScanTooLarge, match="200 MB"):
        Scan.open(path)
    monkeypatch.setattr(images, "MAX_BYTES", 100)
    with pytest.raises(ScanTooLarge):
        Scan.open(encode(GREY, "PNG"))


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("PNG", {}), ("JPEG", {}), ("JPEG", {"progressive": True}), ("GIF", {}), ("BMP", {}), ("TIFF", {})),
        *(("TIFF", {"compression": "tiff_lzw"}), ("TIFF", {"compression": "jpeg"}), ("WEBP", {})),
        ("WEBP", {"lossless": True}),
    ],
)
def test_a_file_cut_anywhere_is_an_error_or_the_same_picture(kind, options):
    data = encode(COLOUR if kind != "GIF" else GREY, kind, **options)
    whole = Scan.open(data).pixels
    refused = 0
    for length in {*range(0, len(data), 37), *range(max(len(data) - 300, 0), len(data))}:
        try:
            np.testing.assert_array_equal(Scan.open(data[:length]).pixels, whole)
        except BcxError:
            refused += 1
    assert refused > 5


# ---- formats of phones and of archives


@pytest.mark.parametrize(
    ("kind", "options", "exact"), [("AVIF", {"quality": 95}, False), ("JPEG2000", {"irreversible": False}, True)]
)
def test_avif_and_jpeg_2000_are_read(kind, options, exact):
    for pixels in (GREY, cv2.GaussianBlur(COLOUR, (0, 0), 3)):
        scan = Scan.open(encode(pixels, kind, **options))
        away = np.abs(scan.pixels.astype(int) - pixels) if scan.pixels.shape == pixels.shape else None
        assert away is not None
        assert away.max() == 0 if exact else away.mean() < 4


def test_jpeg_xl_is_read_and_heic_is_named(monkeypatch):
    imagecodecs = pytest.importorskip("imagecodecs")
    np.testing.assert_array_equal(Scan.open(imagecodecs.jpegxl_encode(GREY, lossless=True)).pixels, GREY)
    with pytest.raises(DamagedScan, match="JPEG XL"):
        Scan.open(imagecodecs.jpegxl_encode(GREY, lossless=True)[:-200])
    with pytest.raises(UnknownFormat, match="a HEIC photograph"):
        Scan.open(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic" + bytes(40))


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_every_frame_of_a_clip_can_be_asked_for(kind):
    frames = [np.roll(GREY, 3 * number, 1) for number in range(6)]
    buffer = io.BytesIO()
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(buffer, kind, save_all=True, append_images=rest)
    data = buffer.getvalue()
    assert frame_count(data) == 6
    for number in (5, 0, 3):
        scan = Scan.open(data, frame=number)
        np.testing.assert_array_equal(scan.pixels, frames[number])
        word = "page" if kind == "TIFF" else "frame"
        assert scan.notes == ((f"{word} {number + 1} of 6",) if number else (f"first {word} of 6",))
    with pytest.raises(DamagedScan):
        Scan.open(data, frame=6)
    assert frame_count(encode(GREY, "PNG")) == frame_count(encode(GREY, "JPEG")) == 1
    with pytest.raises(UnknownFormat):
        frame_count(b"no picture, but text")


def test_a_jpeg_drawn_too_often_is_refused_before_it_is_decoded():
    large = np.zeros((6000, 6000), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(large).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(DamagedScan, match="6000 x 6000 pixels in"):
        Scan.open(data[:-2] + 60 * scan + data[-2:])
    assert Scan.open(data).height == 6000
