"""Reading slides: the map holds what `predict` says of each tile, memory is bounded, an early end leaves nothing."""

import csv
import itertools
import json
import threading
import tracemalloc
import zlib

import cv2
import numpy as np
import psutil
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import bcx
from bcx.errors import ConfigError, DamagedScan, ScanTooSmall
from bcx.simulate.slide import SlideScene
from bcx.slides import Slide, read_slide, stream_slide, write_reading
from bcx.slides.grid import Grid, positions, tiles_with_tissue, tissue_of
from bcx.tasks import is_slide

GLASS = (243, 240, 244)


def asked_one_by_one(classifier, pixels, reading, resized=None):
    """What `predict` says of every tile that was read, and what the map holds there."""
    rows, columns = np.nonzero(reading.read)
    expected, found = [], []
    for row, column in list(zip(rows, columns, strict=True))[::7]:
        x, y, side = reading.grid.on_slide(row, column)
        tile = pixels[y : y + side, x : x + side]
        if resized:
            tile = cv2.resize(tile, (resized, resized), interpolation=cv2.INTER_AREA)
        expected.append(list(classifier.predict(np.ascontiguousarray(tile)).probabilities.values()))
        found.append(reading.probabilities[row, column])
    return np.array(found), np.array(expected)


@pytest.mark.parametrize(("stride", "views"), [(None, 1), (37, 1), (120, 2)])
def test_the_map_is_what_predict_says_of_each_tile(patch_checkpoint, slide_file, stride, views):
    classifier = bcx.load(patch_checkpoint, views=views)
    reading = read_slide(classifier, slide_file, stride=stride)
    found, expected = asked_one_by_one(classifier, tifffile.imread(slide_file), reading)
    assert len(found) >= 5
    assert np.ptp(expected) > 0.1  # or this would compare nothing
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_scaled_slide_is_what_predict_says_of_scaled_tiles(patches, slide_file):
    reading = read_slide(patches, slide_file, scale=0.5)
    assert reading.grid.shape == (7, 9)
    found, expected = asked_one_by_one(patches, tifffile.imread(slide_file), reading, resized=50)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_way_in_gives_the_same_map(patches, tmp_path):
    pixels = SlideScene(4, 420, 330).part(0, 0, 420, 330)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a.tif", pixels, rowsperstrip=5, compression="zlib", photometric="rgb", metadata=None)
    tifffile.imwrite(tmp_path / "raw.tif", pixels, photometric="rgb", metadata=None)
    maps = [read_slide(patches, source).probabilities for source in (pixels, *sorted(tmp_path.glob("*")))]
    assert np.isfinite(maps[0]).any()
    for other in maps[1:]:
        np.testing.assert_allclose(other, maps[0], atol=1e-6)


def test_a_pyramid_is_read_at_the_nearest_larger_level(patches, tmp_path):
    pixels = SlideScene(2, 1600, 1200).part(0, 0, 1600, 1200)
    half = cv2.resize(pixels, (800, 600), interpolation=cv2.INTER_AREA)
    options = {"tile": (128, 128), "photometric": "rgb", "compression": "zlib"}
    with tifffile.TiffWriter(tmp_path / "p.tif") as writer:
        writer.write(pixels, subifds=1, resolution=(5000, 5000), resolutionunit="CENTIMETER", metadata=None, **options)
        writer.write(half, subfiletype=1, metadata=None, **options)
    by_itself = read_slide(patches, tmp_path / "p.tif")  # 2 micrometres in the file, 4 in the task
    assert (by_itself.microns, by_itself.grid.scale, by_itself.grid.level) == (2.0, 0.5, 1)
    np.testing.assert_allclose(by_itself.probabilities, read_slide(patches, half).probabilities, atol=1e-5)
    assert by_itself.grid.on_slide(1, 2) == (200, 100, 100)


def test_glass_is_left_out_unless_it_is_asked_for(patches):
    pixels = np.full((400, 600, 3), GLASS, np.uint8)
    pixels[:, :300] = SlideScene(1, 300, 400, tissue=1.0).part(0, 0, 300, 400)
    reading = read_slide(patches, pixels)
    assert reading.tissue[:, :6].mean() > 0.9
    assert not reading.tissue[:, 7:].any()
    np.testing.assert_array_equal(np.isfinite(reading.probabilities).all(2), reading.tissue)
    np.testing.assert_array_equal(reading.read, reading.tissue)
    every = read_slide(patches, pixels, every_tile=True)
    assert every.read.all()
    np.testing.assert_allclose(every.probabilities[reading.read], reading.probabilities[reading.read], atol=1e-5)
    assert not read_slide(patches, np.full((400, 600, 3), GLASS, np.uint8)).read.any()


def test_the_summary_counts_what_the_map_holds(patches, slide_file):
    reading = read_slide(patches, slide_file)
    said, positive = reading.to_dict(), reading.probabilities[..., 1]
    assert said["tiles"] == 14 * 18
    assert said["tiles_read"] == said["tiles_with_tissue"] == np.isfinite(positive).sum()
    called = reading.probabilities[reading.read].argmax(1)
    assert said["positive_share"] == pytest.approx((called == 1).mean())
    assert said["mean_probability"] == pytest.approx(np.nanmean(positive), abs=1e-6)
    json.dumps(said, allow_nan=False)
    hottest = said["hottest"]
    assert [place["probability"] for place in hottest] == sorted((p["probability"] for p in hottest), reverse=True)
    around = max(
        np.nanmean(positive[max(0, r - 1) : r + 2, max(0, c - 1) : c + 2])
        for r, c in zip(*np.nonzero(reading.read), strict=True)
    )
    assert hottest[0]["probability"] == pytest.approx(around, abs=1e-6)
    for one, other in itertools.pairwise(hottest):
        assert max(abs(one["x"] - other["x"]), abs(one["y"] - other["y"])) > 100


def test_the_map_grows_and_what_was_seen_stays(patches):
    pixels = SlideScene(3, 2600, 1500, tissue=0.9).part(0, 0, 2600, 1500)
    counts, seen = [], []
    for progress in stream_slide(patches, pixels, stride=200):
        if progress.prepared == 1:
            counts.append(progress.done)
            seen.append(progress.reading())
            if not progress.finished and progress.done:
                assert progress.seconds_left > 0
    assert counts[0] == 0
    assert len(counts) > 3
    assert counts == sorted(counts)
    assert counts[-1] == seen[-1].summary["tiles_with_tissue"]
    assert [int(each.read.sum()) for each in seen] == counts  # earlier copies did not change
    assert progress.seconds_left == 0


def test_overlay_and_layer_show_the_tile_that_lies_there(patches):
    pixels = SlideScene(6, 500, 300, tissue=1.0).part(0, 0, 500, 300)
    reading = read_slide(patches, pixels, every_tile=True)
    layer = reading.layer("positive")
    assert layer.shape == (300, 500, 4)
    for row, column in ((0, 0), (2, 7), (5, 9)):
        share = 2 * reading.probabilities[row, column, 1] - 1
        toward = np.array([182, 95, 230] if share > 0 else [92, 158, 0])
        expected = 255 + abs(share) * (toward - 255)
        assert np.abs(layer[row * 50 + 20, column * 50 + 30, :3] - expected).max() <= 1
    assert np.asarray(reading.overlay(opacity=0)).tolist() == pixels.tolist()
    np.testing.assert_array_equal(np.asarray(reading.overlay(opacity=1)), layer[..., :3])
    assert reading.picture(side=100).size == (100, 60)
    with pytest.raises(ConfigError, match="no class"):
        reading.layer("malignant")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("bcx-")}


def open_files(path) -> list[str]:
    return [file.path for file in psutil.Process().open_files() if file.path == str(path)]


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_early_end_leaves_nothing_running_and_nothing_open(patches, slide_file, after):
    before = set(slide_file.parent.iterdir())
    steps = stream_slide(patches, slide_file, stride=10)
    for _ in range(after):
        next(steps)
    steps.close()
    assert not threads()
    assert not open_files(slide_file)
    assert set(slide_file.parent.iterdir()) == before


def test_damage_in_the_middle_ends_the_reading_with_its_reason(patches, slide_file, tmp_path):
    with tifffile.TiffFile(slide_file) as file:
        offset = file.pages[0].dataoffsets[5]
    data = bytearray(slide_file.read_bytes())
    data[offset : offset + 400] = bytes(400)
    (tmp_path / "damaged.tif").write_bytes(data)
    with pytest.raises(DamagedScan, match="cannot be decoded everywhere"):
        read_slide(patches, tmp_path / "damaged.tif")
    assert not threads()
    assert not open_files(tmp_path / "damaged.tif")


@pytest.mark.slow
@pytest.mark.parametrize("strips", [False, True])
def test_memory_does_not_grow_with_the_slide(patches, tmp_path, strips):
    """A picture of 640 MB with tissue in its middle: what Python and NumPy hold stays below a third of it."""
    side, edge = 14_600, 512
    glass, tissue = (
        np.full((edge, edge, 3), 244, np.uint8),
        SlideScene(1, edge, edge, tissue=1.0).part(0, 0, edge, edge),
    )

    def pieces():
        many = -(-side // edge)
        for row in range(many):
            middle = row == many // 2
            if strips:
                band = np.full((min(edge, side - row * edge), side, 3), GLASS, np.uint8)
                if middle:
                    band[:, 7000 : 7000 + edge] = tissue
                yield zlib.compress(band.tobytes(), 1)  # tifffile takes strips one by one only where they are packed
            else:
                for column in range(many):
                    yield tissue if middle and column == many // 2 else glass

    path = tmp_path / "large.tif"
    stored = {"rowsperstrip": edge} if strips else {"tile": (edge, edge)}
    tifffile.imwrite(
        path, pieces(), shape=(side, side, 3), dtype=np.uint8, photometric="rgb", compression="zlib",
        compressionargs={"level": 1}, metadata=None, **stored,
    )  # fmt: skip
    tracemalloc.start()
    reading = read_slide(patches, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 80 < reading.read.sum() < 200
    assert peak < side * side * 3 / 3


def test_files_appear_whole_or_not_at_all(patches, slide_file, tmp_path, monkeypatch):
    reading = read_slide(patches, slide_file)
    files = write_reading(reading, tmp_path, "one")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one_map.png", "one_slide.json", "one_tiles.csv"]
    assert b"\r" not in files["_tiles.csv"].read_bytes(), "a line of a table ends alike everywhere"
    rows = list(csv.DictReader(files["_tiles.csv"].open(encoding="utf-8")))
    assert len(rows) == reading.read.sum()
    for row in rows[::11]:
        place = int(row["row"]), int(row["column"])
        assert float(row["p_positive"]) == pytest.approx(reading.probabilities[place][1], abs=1e-6)
        assert row["label"] == ("positive" if float(row["p_positive"]) >= 0.5 else "negative")
        assert (int(row["x"]), int(row["y"]), int(row["side"])) == reading.grid.on_slide(*place)
    assert json.loads(files["_slide.json"].read_text()) == json.loads(json.dumps(reading.to_dict()))
    np.testing.assert_array_equal(np.asarray(Image.open(files["_map.png"])), np.asarray(reading.overlay()))

    def broken(*_, **__):
        raise OSError("disk full")

    monkeypatch.setattr(type(reading), "overlay", broken)
    with pytest.raises(OSError, match="disk full"):
        write_reading(reading, tmp_path, "two")
    assert len(list(tmp_path.iterdir())) == 3


def test_what_cannot_be_read_in_tiles_says_so(patches, tiny_checkpoint, slide_file):
    with pytest.raises(ConfigError, match="whole pictures"):
        next(stream_slide(bcx.load(tiny_checkpoint), slide_file))
    for options in ({"stride": 0}, {"stride": 10**6}, {"scale": 0.001}, {"scale": 100.0}):
        with pytest.raises(ConfigError):
            next(stream_slide(patches, slide_file, **options))
    with pytest.raises(ScanTooSmall, match="45 x 35"):
        next(stream_slide(patches, slide_file, scale=0.05))


@given(length=st.integers(50, 3000), tile=st.integers(16, 50), share=st.floats(0.1, 1))
def test_tiles_cover_a_side_from_end_to_end(length, tile, share):
    stride = max(1, int(share * tile))
    starts = positions(length, tile, stride)
    covered = np.zeros(length, bool)
    for start in starts:
        assert 0 <= start <= length - tile
        covered[start : start + tile] = True
    assert covered.all()
    assert starts == tuple(sorted(set(starts)))


@given(width=st.integers(60, 3000), height=st.integers(60, 400), stride=st.integers(5, 130), seed=st.integers(0, 9))
@settings(deadline=None)
def test_blocks_hold_every_wanted_tile_once(width, height, stride, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    with Slide.open(pixels) as slide:
        grid = Grid.over(slide, 50, stride)
        wanted = np.random.default_rng(seed).random(grid.shape) < 0.3
        times = np.zeros(grid.shape, int)
        for rows, columns in grid.blocks(slide, wanted):
            times[rows, columns] += 1
            assert len(rows) <= 256  # however small the stride
            tiles = grid.read(slide, rows, columns)
            assert len(tiles) == len(rows)
            for place in (0, -1):
                x, y, side = grid.on_slide(rows[place], columns[place])
                np.testing.assert_array_equal(tiles[place], pixels[y : y + side, x : x + side])
    np.testing.assert_array_equal(times, wanted)


def test_tissue_is_told_by_colour_and_a_grey_picture_is_all_tissue():
    rng = np.random.default_rng(0)
    noisy_glass = (240 + rng.integers(-3, 4, (200, 200, 3))).astype(np.uint8)
    assert not tissue_of(noisy_glass).any()  # Otsu's threshold alone would split the noise
    full = SlideScene(1, 200, 200, tissue=1.0).part(0, 0, 200, 200)
    assert tissue_of(full).mean() > 0.7  # its palest fibres are as light as glass; a tile needs a tenth
    assert not tissue_of(np.full((50, 50, 3), (8, 4, 2), np.uint8)).any()  # pen
    assert tissue_of(np.full((50, 50), 240, np.uint8)).all()


def test_a_tile_needs_a_tenth_of_tissue():
    with Slide.open(np.zeros((100, 200), np.uint8)) as slide:
        grid = Grid.over(slide, 50)
    tissue = np.zeros((100, 200), bool)
    tissue[:5, :50] = True  # a tenth of the first tile
    tissue[50:54, 100:150] = True  # less of another
    np.testing.assert_array_equal(np.argwhere(tiles_with_tissue(tissue, grid)), [[0, 0]])


@pytest.mark.parametrize(
    ("width", "height", "slide"), [(50, 50, False), (200, 199, False), (200, 200, True), (4000, 49, False)]
)
def test_what_is_a_slide(width, height, slide):
    assert is_slide(width, height, 50) is slide
