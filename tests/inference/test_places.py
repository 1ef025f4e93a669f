"""A person's box and the further lesions: what the second stage reads, and that nothing else changes."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

import bcx
from bcx.errors import ConfigError
from bcx.imaging.crop import LEAST_SIDE, MOST_LESIONS, Box, checked_box, lesions_of, square_of
from bcx.networks.build import forward_maps
from bcx.simulate import simulate

SCANS = [simulate(label, seed, 130 + 9 * seed, 170).pixels for seed, label in enumerate(["malignant", "benign"] * 3)]
BOX = (20, 30, 90, 80)


@pytest.fixture(scope="module")
def classifier(tiny_lesion_checkpoint):
    return bcx.load(tiny_lesion_checkpoint)


def alone(classifier, pixels):
    """The network's logits for one picture, without the engine."""
    with torch.inference_mode():
        batch = classifier.checkpoint.preprocess.tensor(pixels)[None]
        return forward_maps(classifier.checkpoint.network, batch).logits[0].numpy()


def test_the_second_stage_reads_the_box_and_the_first_stage_the_scan(classifier):
    for pixels in SCANS:
        answer = classifier.predict(pixels, box=BOX)
        assert (answer.box, answer.second_stage) == (BOX, (20, 20, 70))  # the square around it
        expected = (alone(classifier, pixels) + alone(classifier, pixels[20:90, 20:90])) / 2
        np.testing.assert_allclose(answer.reading.logits, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_with_the_models_own_square_as_the_box_the_answer_is_its_own(classifier):
    for pixels in SCANS:
        own = classifier.predict(pixels)
        x, y, side = own.second_stage
        given = classifier.predict(pixels, box=(x, y, x + side, y + side))
        assert own.box is None
        changed = {"box", "notes", "seconds", "lesions"}
        assert {k: v for k, v in given.to_dict().items() if k not in changed} == {
            k: v for k, v in own.to_dict().items() if k not in changed
        }
        assert np.array_equal(own.maps, given.maps)


def test_the_answer_says_that_a_box_was_given(classifier):
    answer = classifier.predict(SCANS[0], box=np.array(BOX))
    assert answer.to_dict()["box"] == list(BOX)
    assert any("box given by a person" in note for note in answer.notes)
    assert classifier.predict(SCANS[0]).to_dict()["box"] is None


def test_both_views_read_the_same_place(tiny_lesion_checkpoint, classifier):
    both = bcx.load(tiny_lesion_checkpoint, views=2)
    for pixels in SCANS[:3]:
        width = pixels.shape[1]
        straight = classifier.predict(pixels, box=BOX).probabilities
        mirrored = classifier.predict(pixels[:, ::-1], box=(width - 90, 30, width - 20, 80)).probabilities
        found = both.predict(pixels, box=BOX).probabilities
        for name in classifier.classes:
            assert found[name] == pytest.approx((straight[name] + mirrored[name]) / 2, abs=1e-4)


@pytest.mark.parametrize(
    "box",
    [
        "0 0 50 50",
        (1, 2, 3),
        (0, 0, 50, float("nan")),
        (0, 0, 50, float("inf")),
        (0, 0, 50, 10**400),
        (True, 0, 50, 50),
        (None, 0, 50, 50),
        ("0", "0", "50", "50"),
        (-1, 0, 50, 50),
        (0, 0, 171, 50),
        (50, 0, 20, 50),
        (0, 0, 50, 7),
        np.zeros((4, 2)),
        {"left": 0},
        7,
    ],
)
def test_what_is_no_box_in_the_scan_is_refused_in_words(classifier, box):
    with pytest.raises(ConfigError, match="The box is"):
        classifier.predict(SCANS[0], box=box)


def test_a_box_is_read_in_whole_pixels():
    assert checked_box([0.4, 1.6, 29.5, 40], 60, 60) == (0, 2, 30, 40)


@pytest.mark.parametrize(
    ("box", "square"),
    [
        ((20, 30, 90, 80), Box(20, 20, 70)),
        ((0, 0, 10, 10), Box(0, 0, round(LEAST_SIDE * 100))),  # grown to the least square, moved in
        ((190, 90, 200, 100), Box(180, 80, 20)),
        ((0, 0, 160, 100), Box(0, -30, 160)),  # larger than the scan is high
    ],
)
def test_the_square_around_a_box_lies_in_the_scan(box, square):
    shape = (100, 200)
    assert square_of(box, shape) == square
    flipped = square_of(box, shape, mirrored=True)
    assert (flipped.x + flipped.side + square.x, flipped.y, flipped.side) == (200, square.y, square.side)
    assert square_of(square.inside(shape), shape) == square


def test_a_model_of_one_stage_refuses_a_box(tiny_checkpoint):
    with pytest.raises(ConfigError, match="no second stage"):
        bcx.load(tiny_checkpoint).predict(SCANS[0], box=BOX)


def test_a_clip_refuses_a_box(classifier):
    clip = io.BytesIO()
    frames = [Image.fromarray(simulate("benign", seed, 130, 170).pixels) for seed in range(3)]
    frames[0].save(clip, format="TIFF", save_all=True, append_images=frames[1:])
    with pytest.raises(ConfigError, match="clip of 3 frames"):
        classifier.predict(clip.getvalue(), box=BOX)
    with pytest.raises(ConfigError, match="clip of 3 frames"):
        classifier.read_lesions(clip.getvalue())


def test_lesions_are_the_connected_places_above_the_level():
    rng = np.random.default_rng(1)
    for _ in range(20):
        grid = ndimage.gaussian_filter(rng.random((28, 28)), 2).astype(np.float32)
        grid = (grid - grid.min()) / (grid.max() - grid.min())
        found = lesions_of(grid, 0.6, Box(0, 0, 200), (560, 280))
        parts, count = ndimage.label(grid >= 0.6, np.ones((3, 3)))
        masses = ndimage.sum(grid, parts, range(1, count + 1))
        order = np.argsort(-masses, kind="stable")[:MOST_LESIONS]
        places = [ndimage.find_objects(parts)[part] for part in order]
        assert [each.box for each in found] == [
            (10 * x.start, 20 * y.start, 10 * x.stop, 20 * y.stop) for y, x in places
        ]
        assert [each.peak for each in found] == [float(grid[parts == part + 1].max()) for part in order]
        for each in found:
            x, y = (each.box[0] + each.box[2]) / 2, (each.box[1] + each.box[3]) / 2
            assert each.read == (x <= 200 and y <= 200)


def two_lesions(classifier):
    """An answer whose first stage saw two lesions, of which the second stage read the heavier one."""
    grid = np.zeros((12, 12), np.float32)
    grid[1:4, 1:4], grid[8:10, 9:11] = 0.9, 0.7
    found = classifier.predict(np.asarray(Image.fromarray(SCANS[0]).resize((240, 240))), box=(20, 20, 80, 80))
    return dataclasses.replace(found, reading=dataclasses.replace(found.reading, lesion=grid))


def test_a_lesion_that_was_not_read_can_be(classifier):
    read, other = two_lesions(classifier).lesions
    assert (read.box, read.read, other.box, other.read) == ((20, 20, 80, 80), True, (180, 160, 220, 200), False)
    assert other.peak == pytest.approx(0.7)
    left, top, right, bottom = other.crop
    assert left < 180 < 220 < right
    assert (right - left, bottom - top) == (64, 64)  # with its surroundings
    assert classifier.predict(np.zeros((240, 240), np.uint8), box=other.crop).second_stage == (left, top, 64)


def test_of_several_lesions_the_most_suspicious_answer_comes_first(classifier, monkeypatch):
    pixels = SCANS[0]
    own = classifier.predict(pixels)
    further = [(0, 0, 60, 60), (80, 40, 150, 110)]
    lesions = tuple(bcx.imaging.crop.Lesion(box, 0.8, box, read=False) for box in further)
    monkeypatch.setattr(bcx.Prediction, "lesions", property(lambda self: lesions))
    answers = classifier.read_lesions(pixels)
    assert {each.box for each in answers} == {None, *further}
    malignant = [each.probabilities["malignant"] for each in answers]
    by_box = {each.box: each for each in answers}
    assert by_box[None].probabilities == own.probabilities
    for box in further:
        expected = classifier.predict(pixels, box=box).probabilities
        assert by_box[box].probabilities == pytest.approx(expected, abs=1e-4)
    harm = [["normal", "benign", "refer", "malignant"].index(each.decision) for each in answers]
    assert list(zip(harm, malignant, strict=True)) == sorted(zip(harm, malignant, strict=True), reverse=True)


def test_without_further_lesions_the_models_own_answer_stands_alone(classifier, monkeypatch):
    monkeypatch.setattr(bcx.Prediction, "lesions", property(lambda self: ()))
    (only,) = classifier.read_lesions(SCANS[0])
    assert only == dataclasses.replace(classifier.predict(SCANS[0]), seconds=only.seconds)


def test_a_model_of_one_stage_has_no_lesions(tiny_checkpoint):
    answers = bcx.load(tiny_checkpoint).read_lesions(SCANS[0])
    assert [each.lesions for each in answers] == [()]
