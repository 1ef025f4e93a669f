"""The reader: the same pixels as tifffile's and Pillow's whole read, in every layout; limits and typed errors."""

import contextlib
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from bcx.errors import BcxError, DamagedScan, ScanError, ScanTooLarge, UnknownFormat
from bcx.simulate.slide import SlideScene, write_slide
from bcx.slides import slide, tiff
from bcx.slides.slide import Slide, size_of

LOSSLESS = (None, "zlib", "lzw", "packbits", "zstd")
layouts = st.fixed_dictionaries(
    {
        "height": st.integers(17, 150),
        "width": st.integers(17, 170),
        "samples": st.sampled_from([1, 3, 4]),
        "compression": st.sampled_from(LOSSLESS),
        "tile": st.sampled_from([None, (16, 32), (48, 16), (64, 64)]),
        "rows": st.sampled_from([1, 7, 1000]),
        "apart": st.booleans(),
        "big": st.booleans(),
        "order": st.sampled_from("<>"),
        "predictor": st.booleans(),
    }
)


def overview(slide: Slide, side: int, workers: int = 1) -> tuple[np.ndarray, list[float]]:
    """The overview, and the shares that were told while it was made."""
    told, made = zip(*slide.overview(side, workers), strict=True)
    return made[-1], list(told)


def picture(height: int, width: int, samples: int, seed: int = 0) -> np.ndarray:
    shape = (height, width) if samples == 1 else (height, width, samples)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write(path, pixels, layout) -> None:
    samples = layout["samples"]
    apart = layout["apart"] and samples > 1
    # a fourth sample without a meaning; opacity has a test of its own
    extra = {"extrasamples": ["unspecified"]} if samples == 4 else {}
    tifffile.imwrite(
        path,
        np.moveaxis(pixels, -1, 0) if apart else pixels,
        photometric="minisblack" if samples == 1 else "rgb",
        planarconfig="separate" if apart else None if samples == 1 else "contig",
        compression=layout["compression"],
        predictor=layout["predictor"] and layout["compression"] in ("zlib", "lzw", "zstd"),
        tile=layout["tile"],
        rowsperstrip=None if layout["tile"] else layout["rows"],
        bigtiff=layout["big"],
        byteorder=layout["order"],
        metadata=None,
        **extra,
    )


@given(layout=layouts, part=st.tuples(*[st.floats(0, 1)] * 4))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_part_of_any_layout_is_what_a_whole_read_holds_there(tmp_path, layout, part):
    pixels = picture(layout["height"], layout["width"], layout["samples"])
    path = tmp_path / "any.tif"
    write(path, pixels, layout)
    whole = tifffile.imread(path)
    if layout["apart"] and layout["samples"] > 1:
        whole = np.moveaxis(whole, 0, -1)
    if layout["samples"] == 4:
        whole = whole[..., :3]
    height, width = layout["height"], layout["width"]
    x, y = int(part[0] * (width - 1)), int(part[1] * (height - 1))
    wide, high = 1 + int(part[2] * (width - x - 1)), 1 + int(part[3] * (height - y - 1))
    with Slide.open(path) as slide:
        assert (slide.width, slide.height) == (width, height)
        assert isinstance(slide.levels[0], tiff.Level)  # not by the door of small pictures
        np.testing.assert_array_equal(slide.region(x, y, wide, high), whole[y : y + high, x : x + wide])
        np.testing.assert_array_equal(slide.region(0, 0, width, height), whole)


@pytest.mark.slow
@pytest.mark.parametrize("subsampling", [(1, 1), (2, 2)])
def test_jpeg_tiles_are_decoded_as_tifffile_does(tmp_path, subsampling):
    pixels = SlideScene(3, 300, 200).part(0, 0, 300, 200)
    path = tmp_path / "jpeg.tif"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), compression="jpeg", compressionargs={"level": 90}, photometric="rgb",
        subsampling=subsampling, metadata=None,
    )  # fmt: skip
    with Slide.open(path) as slide:
        part = slide.region(33, 21, 200, 150)
    np.testing.assert_array_equal(part, tifffile.imread(path)[21:171, 33:233])
    assert np.abs(part.astype(int) - pixels[21:171, 33:233]).mean() < 8  # and it is the picture, in its own colours


def test_opacity_is_put_on_black_and_dark_zero_is_turned_around_as_scans_are(tmp_path):
    path = tmp_path / "alpha.tif"
    pixels = picture(60, 70, 4)
    Image.fromarray(pixels, "RGBA").save(path, compression="tiff_deflate")
    with Slide.open(path) as slide:
        assert isinstance(slide.levels[0], tiff.Level)
        found = slide.region(0, 0, 70, 60)
    expected = pixels[..., :3].astype(float) * pixels[..., 3:] / 255
    assert np.abs(found - expected).max() <= 0.5
    path = tmp_path / "dark.tif"
    tifffile.imwrite(path, picture(60, 70, 1), photometric="miniswhite", metadata=None)
    with Slide.open(path) as slide:
        np.testing.assert_array_equal(slide.region(0, 0, 70, 60), 255 - picture(60, 70, 1))


def test_a_pyramid_shows_its_levels_and_the_size_of_its_pixels(tmp_path):
    path = tmp_path / "pyramid.ome.tif"
    pixels = SlideScene(2, 800, 600).part(0, 0, 800, 600)
    with tifffile.TiffWriter(path, bigtiff=True) as writer:
        options = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
        metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeXUnit": "µm"}
        writer.write(pixels, subifds=2, metadata=metadata, **options)
        writer.write(pixels[::2, ::2], subfiletype=1, **options)
        writer.write(pixels[::4, ::4], subfiletype=1, **options)
    with Slide.open(path) as slide:
        assert [(level.width, level.height) for level in slide.levels] == [(800, 600), (400, 300), (200, 150)]
        assert slide.microns == 0.5
        np.testing.assert_array_equal(slide.region(7, 9, 150, 120, level=2), pixels[::4, ::4][9:129, 7:157])
        np.testing.assert_array_equal(overview(slide, 400)[0], pixels[::2, ::2])


def test_an_aperio_slide_is_its_large_picture_not_its_label(tmp_path):
    path = tmp_path / "aperio.svs"
    pixels = SlideScene(2, 700, 500).part(0, 0, 700, 500)
    with tifffile.TiffWriter(path) as writer:
        said = {"description": "Aperio Image Library v12\n700x500 |AppMag = 40|MPP = 0.2520", "metadata": None}
        writer.write(pixels, tile=(240, 240), photometric="rgb", compression="jpeg", **said)
        writer.write(pixels[::5, ::5], photometric="rgb", compression="jpeg", metadata=None)
        writer.write(pixels[::2, ::2], tile=(240, 240), photometric="rgb", compression="jpeg", metadata=None)
        writer.write(pixels[:90, :80], photometric="rgb", compression="lzw", subfiletype=1, metadata=None)
    with Slide.open(path) as slide:
        assert (slide.width, slide.height, slide.microns) == (700, 500, 0.252)
        assert np.abs(slide.region(0, 0, 700, 500).astype(int) - pixels).mean() < 8


@pytest.mark.parametrize(
    ("unit", "value", "microns"), [("CENTIMETER", 2500, 4.0), ("INCH", 72, None), ("NONE", 1, None)]
)
def test_a_printers_resolution_is_no_microscopes(tmp_path, unit, value, microns):
    path = tmp_path / "r.tif"
    tifffile.imwrite(path, picture(40, 40, 3), photometric="rgb", resolution=(value, value), resolutionunit=unit)
    with Slide.open(path) as slide:
        assert slide.microns == (None if microns is None else pytest.approx(microns))


@pytest.mark.parametrize("mode", ["P", "1", "I;16"])
def test_other_layouts_of_ordinary_size_come_in_as_scans_do(tmp_path, mode):
    path = tmp_path / "small.tif"
    grey = picture(64, 80, 1)
    image = Image.fromarray(grey.astype(np.uint16) * 100) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(path)
    from bcx.imaging.scan import Scan

    with Slide.open(path) as slide:
        np.testing.assert_array_equal(slide.region(3, 5, 50, 40), Scan.open(path).pixels[5:45, 3:53])


def test_the_overview_is_the_mean_of_blocks(tmp_path):
    pixels = picture(300, 500, 3)
    path = tmp_path / "one.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="rgb", metadata=None)
    with Slide.open(path) as slide:
        small, told = overview(slide, 125, workers=2)
    expected = pixels.reshape(75, 4, 125, 4, 3).mean((1, 3))
    assert np.abs(small - expected).max() <= 1
    assert told[-1] == 1


def test_threads_share_what_is_decoded(tmp_path, monkeypatch):
    path = tmp_path / "shared.tif"
    pixels = picture(256, 256, 3)
    tifffile.imwrite(path, pixels, tile=(128, 128), compression="zlib", photometric="rgb", metadata=None)
    counted: list[int] = []
    inner = tiff.Level._decode
    monkeypatch.setattr(tiff.Level, "_decode", lambda self, index: counted.append(index) or inner(self, index))
    barrier = threading.Barrier(8)
    with Slide.open(path) as slide, ThreadPoolExecutor(8) as pool:

        def read(number: int) -> bool:
            barrier.wait()
            return all(
                np.array_equal(slide.region(x, 10, 30, 200), pixels[10:210, x : x + 30]) for x in range(0, 220, 13)
            )

        assert all(pool.map(read, range(8)))
    assert sorted(counted) == [0, 1, 2, 3]


def test_a_slide_is_written_without_seams_and_the_same_each_time(tmp_path):
    scene = SlideScene(5, 700, 530)
    np.testing.assert_array_equal(scene.part(250, 130, 300, 280), scene.part(0, 0, 700, 530)[130:410, 250:550])
    written = [write_slide(tmp_path / name, 700, 530, seed=5).read_bytes() for name in ("a.tif", "b.tif")]
    assert written[0] == written[1]
    apart = tifffile.imread(tmp_path / "a.tif").astype(int) - scene.part(0, 0, 700, 530)
    assert np.abs(apart).mean() < 5  # JPEG


def test_a_part_outside_is_refused(slide_file):
    with Slide.open(slide_file) as slide, pytest.raises(ScanError, match="not inside"):
        slide.region(890, 0, 50, 50)


def test_sizes_are_told_without_decoding(tmp_path, slide_file, monkeypatch):
    Image.fromarray(picture(40, 60, 3)).save(tmp_path / "a.png")
    (tmp_path / "text.png").write_text("no picture")
    monkeypatch.setattr(tiff.Level, "_decode", lambda *_: pytest.fail("decoded"))
    assert size_of(tmp_path / "a.png") == (60, 40)
    assert size_of(slide_file) == (900, 700)
    assert size_of(tmp_path / "text.png") is None


def _huge_strip(path) -> None:
    tifffile.imwrite(path, np.zeros((400, 400), np.uint8), compression="zlib", rowsperstrip=400, metadata=None)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"MAX_SEGMENT": 1000}, ScanTooLarge, "to be unpacked whole"),
        ({"MAX_SIDE": 300}, ScanTooLarge, "400 x 400"),
        ({"MAX_PAGES": 0}, ScanTooLarge, "pages"),
    ],
)
def test_limits_are_told_before_anything_is_decoded(tmp_path, monkeypatch, change, error, words):
    _huge_strip(tmp_path / "limit.tif")
    for name, value in change.items():
        monkeypatch.setattr(tiff if name == "MAX_SEGMENT" else slide, name, value)
    monkeypatch.setattr(tiff.Level, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(error, match=words) as caught:
        Slide.open(tmp_path / "limit.tif")
    assert caught.value.remedy


def test_a_large_picture_in_another_layout_says_how_to_convert_it(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((400, 400), np.uint16), metadata=None)
    monkeypatch.setattr(slide, "MAX_PIXELS", 1000)
    with pytest.raises(UnknownFormat, match="uint16") as caught:
        Slide.open(tmp_path / "deep.tif")
    assert "vips" in caught.value.remedy


def test_a_tile_that_claims_to_be_a_giant_is_not_decoded(tmp_path):
    path = tmp_path / "bomb.tif"
    tifffile.imwrite(path, picture(64, 64, 3), tile=(64, 64), compression="jpeg", photometric="rgb", metadata=None)
    data = bytearray(path.read_bytes())
    at = data.find(b"\xff\xc0")
    struct.pack_into(">HH", data, at + 5, 60_000, 60_000)
    path.write_bytes(data)
    with Slide.open(path) as slide, pytest.raises(DamagedScan, match="60000 x 60000"):
        slide.region(0, 0, 64, 64)


def test_a_list_of_strips_that_ends_too_early_is_damage(tmp_path):
    path = tmp_path / "strips.tif"
    tifffile.imwrite(path, picture(64, 64, 1), rowsperstrip=8, metadata=None)
    with Slide.open(path) as slide:
        slide.levels[0]._page.dataoffsets = slide.levels[0]._page.dataoffsets[:2]
        with pytest.raises(DamagedScan, match="list of strips"):
            slide.region(0, 0, 64, 64)


@given(at=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40), cut=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_a_typed_error_or_a_picture(tmp_path, slide_file, at, junk, cut):
    data = slide_file.read_bytes()
    place = int(at * len(data))
    path = tmp_path / "damaged.tif"
    path.write_bytes(data[:place] if cut else data[:place] + junk + data[place + len(junk) :])
    with contextlib.suppress(BcxError), Slide.open(path) as slide:
        part = slide.region(0, 0, min(900, slide.width), min(700, slide.height))
        assert part.dtype == np.uint8


def test_what_is_no_picture_is_told_as_for_scans(tmp_path):
    (tmp_path / "letter.tif").write_text("This is a letter.")
    with pytest.raises(UnknownFormat):
        Slide.open(tmp_path / "letter.tif")
    with pytest.raises(ScanError):
        Slide.open(tmp_path / "none.tif")
