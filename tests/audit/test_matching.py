"""Copies are found whatever was done to them; equal marks on different scans do not make a pair."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bcx.audit import matching
from bcx.audit.candidates import COARSE, MIRRORED, WORDS
from bcx.audit.features import Features, describe, mirrored, read_features, rooted, write_features
from bcx.audit.matching import NEAR_DUPLICATE, SAME_LESION, Match, compare_some
from bcx.simulate.anatomy import add_lesion, breast
from bcx.simulate.formation import compress, envelope
from tests.audit.conftest import COPIES, overlaid, scan

ALL = WORDS | MIRRORED | COARSE


def compare(one: Features, other: Features, proposed: int) -> Match | None:
    return matching.compare(one, other, proposed, among=2)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_found(kind):
    found = compare(describe(scan(1)), describe(np.ascontiguousarray(COPIES[kind](scan(1)))), ALL)
    assert found is not None
    assert found.kind == NEAR_DUPLICATE
    # The tissue agrees; noise and poor compression leave less of it.
    assert found.score > 0.6
    assert found.mirrored == (kind in ("mirrored", "upside down", "cropped and mirrored", "all at once"))


def test_what_was_done_is_said():
    small = compare(describe(scan(1)), describe(COPIES["half the size"](scan(1))), ALL)
    assert small.changes == ("scaled by 2.00",)
    cropped = compare(describe(scan(1)), describe(COPIES["cropped"](scan(1))), ALL)
    assert [change.split()[0] for change in cropped.changes] == ["cropped"]
    assert "brightness changed" in compare(describe(scan(1)), describe(COPIES["darker"](scan(1))), ALL).changes


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_same_marks_on_another_scan_make_no_pair(seed):
    one, other = describe(overlaid(scan(seed))), describe(overlaid(scan(seed, "malignant")))
    assert compare(one, other, ALL) is None


def test_marks_alone_have_no_landmarks():
    black = np.zeros((240, 300), np.uint8)
    features = describe(overlaid(black))
    assert len(features.points) == 0
    assert compare(features, describe(overlaid(black)), ALL) is None


def test_different_scans_make_no_pair():
    features = [describe(scan(seed, label)) for seed in range(1, 4) for label in ("malignant", "benign")]
    for k, one in enumerate(features):
        for other in features[:k]:
            assert compare(one, other, ALL) is None


def frames(bend: float) -> tuple[Features, Features]:
    """The same anatomy with other speckle, moved and bent a little, as two frames of one lesion; no landmarks."""
    drawn = []
    for part in (2, 7):
        scene = breast(np.random.default_rng([7, 1, 0]), 240, 300)
        add_lesion(scene, "benign", np.random.default_rng([7, 1, 1]))
        sound = np.random.default_rng([7, 1, part])
        drawn.append(compress(envelope(scene, sound, looks=4, focus=0.4), rng=sound))
    y, x = np.mgrid[:240, :300].astype(np.float32)
    bent = cv2.remap(drawn[1], x + bend * np.sin(y / 23 + x / 60), y + bend * np.sin(x / 31), cv2.INTER_LINEAR)
    described = [describe(np.ascontiguousarray(pixels)) for pixels in (drawn[0][:, :290], bent[4:, 8:])]
    empty = {"points": np.zeros((0, 2), np.float32), "descriptors": np.zeros((0, 128), np.uint8)}
    return replace(described[0], **empty), replace(described[1], **empty)


def test_another_frame_of_a_lesion_is_found_without_landmarks():
    one, other = frames(bend=4)
    assert compare(one, other, WORDS | MIRRORED) is None
    assert compare(one, other, COARSE).kind == SAME_LESION


def test_a_copy_is_a_copy_even_without_landmarks():
    one, _ = frames(bend=0)
    assert compare(one, one, COARSE).kind == NEAR_DUPLICATE


def test_a_mirrored_scan_has_mirrored_descriptors():
    plain, turned = describe(scan(3)), describe(np.ascontiguousarray(scan(3)[:, ::-1]))
    products = rooted(plain.descriptors) @ rooted(mirrored(turned.descriptors)).T
    assert np.median(products.max(axis=1)) > 0.999
    np.testing.assert_array_equal(mirrored(mirrored(plain.descriptors)), plain.descriptors)


def test_features_come_back_from_the_store(tmp_path):
    kept = [describe(scan(seed)) for seed in (1, 2)]
    write_features(tmp_path, 5, kept[1])
    write_features(tmp_path, 0, kept[0])
    for place, features in ((0, kept[0]), (5, kept[1])):
        back = read_features(tmp_path, place)
        for name in ("points", "descriptors", "picture", "mask"):
            np.testing.assert_array_equal(getattr(back, name), getattr(features, name))
        np.testing.assert_allclose(back.coarse, features.coarse, atol=1e-3)
        assert back.scale == pytest.approx(features.scale)
    assert compare_some(tmp_path, 2, [(0, 5, ALL), (0, 0, ALL)])[0][:2] == (0, 0)


@pytest.mark.parametrize("size", [(16, 16), (16, 2000), (40, 3000)])
def test_small_and_narrow_pictures_are_compared_without_complaint(size):
    pixels = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    features = describe(pixels)
    assert isinstance(features, Features)
    compare(features, features, ALL)
