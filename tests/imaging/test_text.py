"""Burnt-in text is found and covered, lesions are not; letter by letter in benchmarks/mask_text.py."""

import cv2
import numpy as np
import pytest

from bcx.imaging.text import find_text, mask_text
from bcx.simulate import simulate
from tests.dicoms import framed

MADE = simulate("malignant", 3, 300, 400)
NAME = "NOBODY, ANNA  F 1970"


def named(pixels: np.ndarray, at: tuple[int, int], ink: object = 255) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels with a name, and where its ink is."""
    ink_only = cv2.putText(np.zeros(pixels.shape[:2], np.uint8), NAME, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255)
    return cv2.putText(pixels.copy(), NAME, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, ink), ink_only > 0


@pytest.mark.parametrize(
    ("pixels", "at", "ink"),
    [
        (framed(MADE.pixels), (300, 30), 255),
        (framed(MADE.pixels), (300, 30), 150),
        (MADE.pixels, (20, 290), 255),
        (np.repeat(MADE.pixels[..., None], 3, 2), (20, 290), (255, 255, 0)),
    ],
    ids=["margin", "grey in the margin", "on the scan", "yellow on the scan"],
)
def test_a_name_is_covered_and_nothing_far_from_it(pixels, at, ink):
    written, letters = named(pixels, at, ink)
    found = find_text(written)
    assert found[letters].mean() > 0.98
    left = np.abs(mask_text(written).astype(int) - written)
    assert not left.reshape(*left.shape[:2], -1).max(2)[~found].any()
    assert not find_text(mask_text(written))[letters].any()


def test_a_scan_without_text_stays_as_it_is():
    np.testing.assert_array_equal(mask_text(MADE.pixels), MADE.pixels)
    written, _ = named(MADE.pixels, (20, 290))
    assert not find_text(written)[MADE.mask].any()


@pytest.mark.parametrize("pixels", [np.zeros((16, 16), np.uint8), np.full((40, 16, 3), 255, np.uint8)])
def test_small_and_blank_pictures(pixels):
    np.testing.assert_array_equal(mask_text(pixels), pixels)
