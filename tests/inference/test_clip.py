"""Clips: blank frames, an even choice of frames, and the rule that takes the most suspicious confident ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from bcx.inference.clip import FRAMES_PER_RANK, disagreement, is_blank, look_through, order
from bcx.simulate import simulate

CLASSES = ("normal", "benign", "malignant")
FRAME = st.tuples(*[st.integers(1, 1000)] * 3).map(lambda parts: np.array(parts) / sum(parts))
FRAMES = st.lists(st.tuples(FRAME, st.booleans()), min_size=1, max_size=45)


def decisive(frames: list[tuple[np.ndarray, bool]]) -> np.ndarray:
    probabilities = np.array([row for row, _ in frames])
    places = order(probabilities, [fits for _, fits in frames], positive=2)
    return probabilities[places[(len(places) - 1) // FRAMES_PER_RANK]]


@pytest.mark.parametrize("level", [0, 128, 255])
def test_one_tone_is_blank_with_noise_and_with_text(level):
    noise = np.random.default_rng(0).normal(level, 2, (240, 320)).clip(0, 255).astype(np.uint8)
    assert is_blank(noise)
    assert is_blank(noise[..., None].repeat(3, 2))
    picture = Image.fromarray(noise)
    for line in range(3):
        ImageDraw.Draw(picture).text((5, 5 + 20 * line), "LOGIQ 12:40:55  Gn 54  D 4.0 cm", fill=255 - level // 2)
    assert is_blank(np.asarray(picture))


@pytest.mark.parametrize("label", CLASSES)
@pytest.mark.parametrize("gain", [1.0, 0.4])
def test_a_scan_is_not_blank_even_when_it_is_dark_or_small_on_black(label, gain):
    pixels = (simulate(label, 3, 120, 160).pixels * gain).astype(np.uint8)
    assert not is_blank(pixels)
    canvas = np.zeros((360, 480), np.uint8)
    canvas[100:220, 100:260] = pixels
    assert not is_blank(canvas)


@given(st.integers(1, 300), st.integers(1, 40), st.sets(st.integers(0, 299), max_size=60))
def test_frames_are_looked_at_once_and_blank_ones_are_made_up_for(count, limit, blank):
    looked: list[int] = []

    def opened(frame: int) -> int | None:
        looked.append(frame)
        return None if frame in blank else frame

    read = list(look_through(range(count), limit, opened))
    assert len(looked) == len(set(looked)) <= 4 * max(limit, 16)
    assert not set(read) & blank
    assert len(read) == len(set(read)) <= limit
    there = sum(frame not in blank for frame in range(count))
    assert len(read) == min(limit, there) or len(looked) == 4 * max(limit, 16)


@given(st.integers(17, 1000))
def test_without_blank_frames_the_choice_is_even_from_end_to_end(count):
    read = sorted(look_through(range(count), 16, lambda frame: frame))
    assert (len(read), read[0], read[-1]) == (16, 0, count - 1)
    steps = np.diff(read)
    assert steps.max() - steps.min() <= 1


def test_a_limit_of_one_takes_the_first_frame_that_is_not_blank():
    assert list(look_through(range(9), 1, lambda frame: frame if frame >= 3 else None)) == [3]


@given(FRAMES, st.randoms(use_true_random=False))
def test_the_order_of_the_frames_does_not_matter(frames, random):
    shuffled = list(frames)
    random.shuffle(shuffled)
    np.testing.assert_array_equal(decisive(shuffled), decisive(frames))


@given(FRAMES, FRAME)
def test_a_further_frame_that_is_more_suspicious_never_makes_the_answer_less_so(frames, further):
    frames = [(row, True) for row, _ in frames]
    before = decisive(frames)
    if further[2] >= before[2]:
        assert decisive([*frames, (further, True)])[2] >= before[2]


@given(FRAME, st.integers(1, 40))
def test_equal_frames_answer_as_one_does(row, count):
    np.testing.assert_array_equal(decisive([(row, True)] * count), row)


@given(FRAMES)
def test_frames_that_are_no_scans_have_no_say_beside_one_that_is(frames):
    scans = [(row, fits) for row, fits in frames if fits]
    if scans:
        np.testing.assert_array_equal(decisive(frames), decisive(scans))


def says(*labels: str) -> tuple[str, str]:
    """The label and the disagreement of a clip with frames that confidently say these classes."""
    sure = {"normal": [0.9, 0.05, 0.05], "benign": [0.1, 0.8, 0.1], "malignant": [0.1, 0.1, 0.8]}
    rows = np.array([sure[label] for label in labels])
    places = order(rows, [True] * len(labels), positive=2)
    found = [label != "normal" for label in labels]
    return labels[places[(len(places) - 1) // FRAMES_PER_RANK]], disagreement(labels, found, places)


def test_three_frames_of_sixteen_with_a_cancer_are_not_outvoted():
    assert says(*["normal"] * 10, *["malignant"] * 3, *["normal"] * 3) == ("malignant", "")


def test_one_odd_frame_among_many_is_read_by_a_person():
    assert says(*["normal"] * 15, "malignant")[1] == "The frames disagree: malignant in 1, normal in 1."
    assert says(*["normal"] * 9, "malignant") == ("malignant", "")


def test_a_lesion_that_looks_benign_here_and_malignant_there_is_read_by_a_person():
    assert says(*["benign"] * 6, *["malignant"] * 5, "normal")[1] == (
        "The frames disagree: malignant in 5, benign in 6."
    )


def test_a_clip_is_never_normal_beside_a_frame_that_shows_a_lesion():
    label, why = says(*["normal"] * 7, "benign")
    assert label != "normal" or why


def test_frames_that_agree_say_nothing():
    assert says(*["normal"] * 16)[1] == says(*["malignant"] * 5)[1] == ""
