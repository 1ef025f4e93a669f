"""What an answer carries: maps at the scan's size when they are asked for, overlays, the documented JSON."""

import dataclasses
import json
import weakref

import cv2
import numpy as np
import pytest
from scipy.ndimage import find_objects
from skimage.transform import resize as skimage_resize

import bcx
from bcx.errors import ConfigError, DamagedScan
from bcx.imaging.crop import Box
from bcx.imaging.preprocess import Preprocess
from bcx.inference.prediction import LESION_LEVEL, SMOOTHING, Failure, Prediction
from bcx.inference.two_stage import Enlarged, Reading

LABELS = ("normal", "benign", "malignant")


def make(pixels: np.ndarray, grid: np.ndarray, **changes) -> Prediction:
    values = {
        "name": "scan.png",
        "label": "benign",
        "confidence": 0.5,
        "probabilities": dict(zip(LABELS, (0.2, 0.5, 0.3), strict=True)),
        "decision": "benign",
        "reason": "",
        "flags": ["colour marks"],
        "model": "tiny",
        "weights_sha256": "0" * 64,
        "seconds": 0.0123456,
        "backend": "torch",
        "scan": bcx.Scan.open(pixels),
        "reading": Reading(grid.mean((1, 2)), grid, np.zeros(4, np.float32), None, None),
        "preprocess": Preprocess(),
    }
    return Prediction(**{**values, **changes})


@pytest.fixture
def prediction():
    rng = np.random.default_rng(0)
    return make(rng.integers(0, 256, (90, 120), np.uint8), rng.normal(0, 3, (3, 7, 7)).astype(np.float32))


def test_maps_have_the_scans_size_and_are_made_when_they_are_read(prediction, monkeypatch):
    asked = []
    enlarge = Preprocess.enlarge

    def counted(self, grid, shape):
        asked.append(shape)
        return enlarge(self, grid, shape)

    monkeypatch.setattr(Preprocess, "enlarge", counted)
    assert asked == []
    maps = prediction.maps
    assert (maps.shape, maps.dtype) == ((3, 90, 120), np.float32)
    assert prediction.maps is maps
    assert asked == [(90, 120)]


def test_maps_stay_in_logit_units(prediction):
    assert prediction.maps.min() >= prediction.grid_maps.min()
    assert prediction.maps.max() <= prediction.grid_maps.max()
    # Enlarging spreads a map and does not change what it says on the whole: the borders alone weigh a little more.
    np.testing.assert_allclose(prediction.maps.mean((1, 2)), prediction.grid_maps.mean((1, 2)), atol=0.1)


def test_each_classs_overlay_shows_its_own_map(prediction):
    pixels = {name: np.asarray(prediction.overlay(name, 0.8)).astype(int) for name in LABELS}
    for name, plane in zip(LABELS, prediction.maps, strict=True):
        purple = pixels[name][..., 2] - pixels[name][..., 1]  # purple speaks for the class, green against it
        clear = np.abs(plane) > 0.5
        assert np.array_equal(purple[clear] > 0, plane[clear] > 0)
    assert np.array_equal(np.asarray(prediction.overlay(opacity=0.8)), pixels["benign"])


def test_an_overlay_without_opacity_is_the_scan(prediction):
    overlay = prediction.overlay("malignant", 0)
    assert (overlay.mode, overlay.size) == ("RGB", (120, 90))
    assert np.array_equal(np.asarray(overlay), np.stack([prediction.scan.pixels] * 3, axis=2))


def test_an_overlay_does_not_keep_all_maps_in_memory(prediction):
    prediction.overlay("normal")
    assert "maps" not in vars(prediction)


def test_an_unknown_class_is_told_with_those_that_exist(prediction):
    with pytest.raises(ConfigError, match="normal, benign, malignant"):
        prediction.overlay("cat")


def test_one_symmetric_limit_holds_every_map(prediction):
    assert prediction.map_limit >= np.abs(prediction.grid_maps).max()
    turned = make(prediction.scan.pixels, -prediction.grid_maps)
    assert turned.map_limit == prediction.map_limit


def test_a_map_without_evidence_does_not_glow():
    pixels = np.full((60, 60), 100, np.uint8)
    faint = make(pixels, np.full((3, 7, 7), 0.004, np.float32))
    assert np.abs(np.asarray(faint.overlay("benign", 1.0)).astype(int) - 100).max() <= 5


def test_the_json_is_the_documented_one(prediction):
    answer = json.loads(json.dumps(prediction.to_dict()))
    assert list(answer) == [
        *("name", "label", "confidence", "probabilities", "decision", "reason", "flags", "width", "height"),
        *("region", "lesion_box", "second_look", "box", "lesions", "notes", "model", "weights_sha256"),
        *("backend", "seconds", "frame", "frames"),
    ]
    assert list(answer["probabilities"]) == list(LABELS)
    assert (answer["width"], answer["height"], answer["flags"]) == (120, 90, ["colour marks"])


def test_pictures_leave_burnt_in_text_out_where_that_is_asked_for(prediction, monkeypatch):
    monkeypatch.setattr("bcx.inference.prediction.mask_text", np.zeros_like)
    masked = dataclasses.replace(prediction, mask_text=True)
    assert not np.asarray(masked.overlay(opacity=0)).any()
    assert np.asarray(prediction.overlay(opacity=0)).any()
    assert masked.to_dict() == prediction.to_dict()


def test_an_answer_cannot_be_changed(prediction):
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.label = "normal"
    assert prediction.lesion is None


# With a lesion head: two looks at a scan of 90 x 120 pixels, the second at a square of 60 from (40, 20) on.

BOX = Box(40, 20, 60)


@pytest.fixture
def twice():
    return look_twice(np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32))


def look_twice(first: np.ndarray, second: np.ndarray, box: Box = BOX) -> Prediction:
    """An answer with these lesion maps, and class maps that are large in the smaller box."""
    rng = np.random.default_rng(1)
    maps, enlarged = (rng.normal(0.5, 3, (3, 8, 8)).astype(np.float32) for _ in range(2))
    logits = (maps.mean((1, 2)) + enlarged.mean((1, 2))) / 2
    reading = Reading(logits, maps, np.zeros(4, np.float32), first, Enlarged(box, enlarged, second))
    return make(rng.integers(0, 256, (90, 120), np.uint8), maps, reading=reading)


def spot(row: int, column: int, value: float = 0.95) -> np.ndarray:
    """A lesion of 2 x 2 places on a grid of 8 x 8."""
    grid = np.full((8, 8), 0.01, np.float32)
    grid[row : row + 2, column : column + 2] = value
    return grid


def enlarged_by_scikit_image(grid: np.ndarray, height: int, width: int) -> np.ndarray:
    return skimage_resize(grid.astype(float), (height, width), order=1, mode="edge", anti_aliasing=False)


def test_the_lesion_is_what_both_looks_see_at_the_scans_size():
    prediction = look_twice(spot(3, 4), spot(3, 3))
    lesion = prediction.lesion
    assert (lesion.shape, lesion.dtype) == ((90, 120), np.float32)
    assert prediction.lesion is lesion
    inside = (slice(20, 80), slice(40, 100))
    expected = np.zeros((90, 120))
    expected[inside] = enlarged_by_scikit_image(spot(3, 4), 90, 120)[inside]
    expected[inside] *= enlarged_by_scikit_image(spot(3, 3), 60, 60)
    np.testing.assert_allclose(lesion, expected, atol=1e-3)


def test_the_lesions_box_is_the_smallest_around_all_that_is_seen():
    prediction = look_twice(spot(3, 4), spot(3, 3))
    rows, columns = find_objects((prediction.lesion >= LESION_LEVEL).astype(int))[0]
    assert prediction.lesion_box == (columns.start, rows.start, columns.stop, rows.stop)
    left, top, right, bottom = prediction.lesion_box
    assert 40 <= left < right <= 100
    assert 20 <= top < bottom <= 80


@pytest.mark.parametrize(
    ("first", "second"),
    [(spot(3, 4, 0.1), spot(3, 3, 0.1)), (spot(3, 4), spot(3, 3, 0.1)), (spot(0, 0), spot(0, 0))],
    ids=["neither look is sure", "one look alone is sure", "each sees another place"],
)
def test_there_is_no_box_where_the_looks_do_not_see_a_lesion_together(first, second):
    prediction = look_twice(first, second)
    assert prediction.lesion_box is None
    assert prediction.to_dict()["lesion_box"] is None


def test_with_two_looks_the_mean_over_the_scan_is_the_logit(twice):
    assert np.ptp(twice.reading.logits) > 0.1
    np.testing.assert_allclose(twice.maps.mean((1, 2)), twice.reading.logits, atol=0.02)


def test_smoothing_keeps_what_a_map_adds_up_to(twice):
    """Also of a place in the corner."""
    corner = spot(0, 7)[None].repeat(3, 0)
    second = Enlarged(Box(0, 0, 96), corner, corner[0])
    square = dataclasses.replace(
        twice,
        scan=bcx.Scan.open(np.zeros((96, 96), np.uint8)),
        reading=dataclasses.replace(twice.reading, maps=corner, second=second),
    )
    smooth, sharp = (square.class_map("benign", smoothing=amount) for amount in (SMOOTHING, 0))
    assert smooth.mean() == pytest.approx(sharp.mean(), rel=0.01)
    assert smooth.max() < 0.9 * sharp.max()
    np.testing.assert_array_equal(smooth, square.class_map("benign"))


def test_with_two_looks_maps_hold_the_first_look_everywhere_and_the_second_in_its_box(twice):
    first, second = (
        [cv2.GaussianBlur(plane, (17, 17), 2.0, borderType=cv2.BORDER_REFLECT) for plane in stage.maps]
        for stage in (twice.reading, twice.reading.second)
    )
    maps = np.stack([enlarged_by_scikit_image(plane, 90, 120) for plane in first]) / 2
    denser = 90 * 120 / 60**2  # the same evidence on fewer pixels
    maps[:, 20:80, 40:100] += denser * np.stack([enlarged_by_scikit_image(plane, 60, 60) for plane in second]) / 2
    np.testing.assert_allclose(twice.maps, maps, atol=1e-2)
    one = twice.overlay("malignant", 0.8)
    assert np.array_equal(np.asarray(one), np.asarray(dataclasses.replace(twice, label="malignant").overlay(None, 0.8)))


def test_the_json_tells_both_boxes_in_whole_pixels():
    answer = json.loads(json.dumps(look_twice(spot(3, 4), spot(3, 3)).to_dict()))
    assert answer["second_look"] == [40, 20, 60]
    assert len(answer["lesion_box"]) == 4
    assert all(isinstance(number, int) for number in [*answer["second_look"], *answer["lesion_box"]])


def test_a_model_that_looks_once_has_no_boxes(prediction):
    assert (prediction.lesion, prediction.lesion_box, prediction.second_stage) == (None, None, None)
    assert (prediction.to_dict()["lesion_box"], prediction.to_dict()["second_look"]) == (None, None)


def test_a_failure_tells_what_to_do_in_json():
    failure = Failure("a.png", DamagedScan("'a.png' is cut short.", expected="a whole file", remedy="Copy it again."))
    assert json.loads(json.dumps(failure.to_dict())) == {
        "name": "a.png",
        "error": {
            "kind": "DamagedScan",
            "found": "'a.png' is cut short.",
            "expected": "a whole file",
            "remedy": "Copy it again.",
        },
    }


@pytest.fixture(scope="module")
def large():
    """A picture larger than a screen, read twice, with a lesion in the middle of the second stage."""
    rng = np.random.default_rng(3)
    lesion = np.zeros((28, 28), np.float32)
    lesion[10:18, 8:20] = 1.0
    maps = rng.normal(0, 3, (2, 3, 7, 7)).astype(np.float32)
    second = Enlarged(Box(900, 700, 1500), maps[1], lesion)
    reading = Reading(maps[0].mean((1, 2)), maps[0], np.zeros(4, np.float32), np.ones((28, 28), np.float32), second)
    return make(rng.integers(0, 256, (2400, 3600), np.uint8), maps[0], reading=reading)


@pytest.mark.slow
def test_a_screen_is_given_no_more_than_it_can_show(large, prediction):
    assert prediction.screen is prediction
    assert large.screen.scan.pixels.shape == (933, 1400)
    small = skimage_resize(np.asarray(large.overlay()) / 255, (933, 1400, 3), order=1, anti_aliasing=True)
    shown = np.asarray(large.screen.overlay()) / 255
    assert np.abs(small.mean((0, 1)) - shown.mean((0, 1))).max() < 0.003
    assert np.corrcoef(small.ravel(), shown.ravel())[0, 1] > 0.9
    assert large.screen.map_limit == large.map_limit


def test_the_lesion_s_box_of_a_large_picture_is_right_to_a_pixel_of_the_screen(large):
    inside = (large.lesion >= LESION_LEVEL).astype(int)
    rows, columns = find_objects(inside)[0]
    exact = (columns.start, rows.start, columns.stop, rows.stop)
    assert np.abs(np.subtract(large.lesion_box, exact)).max() <= np.ceil(3600 / 1400)


def test_what_a_screen_shows_does_not_keep_an_answer_in_memory():
    answer = make(np.zeros((60, 80), np.uint8), np.zeros((3, 7, 7), np.float32))
    kept = weakref.ref(answer)
    assert (answer.screen.lesion, answer.lesion_box) == (None, None)
    del answer
    assert kept() is None
