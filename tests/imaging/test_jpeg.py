"""Damaged JPEGs, whose rest libjpeg fills with grey."""

import io

import numpy as np
import pytest
from PIL import Image

from bcx.imaging.formats import is_damaged
from bcx.imaging.scan import Scan
from bcx.simulate import simulate

SCAN = Image.fromarray(simulate("benign", seed=2).pixels)
KINDS = {"baseline": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 8}, "colour": {}}


def jpeg(kind: str) -> bytes:
    buffer = io.BytesIO()
    (SCAN.convert("RGB") if kind == "colour" else SCAN).save(buffer, "JPEG", quality=90, **KINDS[kind])
    return buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_whole_files_are_whole(kind):
    assert not is_damaged(jpeg(kind))
    assert not is_damaged(jpeg(kind) + bytes(100))  # what follows the end harms nobody
    assert Scan.open(jpeg(kind)).damage == ""


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("kind", KINDS)
def test_files_cut_anywhere_are_told_even_with_their_end_put_back(kind, share):
    data = jpeg(kind)
    head = data.index(b"\xff\xda") + 100
    cut = data[: int(head + share * (len(data) - head))]
    for end in (b"", b"\xff\xd9"):
        assert is_damaged(cut + end)
    scan = Scan.open(cut + b"\xff\xd9")
    assert "ends early" in scan.damage
    assert "damaged: its file ends early or holds wrong data" in scan.notes


def test_some_bytes_too_many_before_the_end_are_harmless_and_a_hole_is_not():
    data = jpeg("baseline")
    assert not is_damaged(data[:-2] + bytes(4) + data[-2:])
    half = len(data) // 2
    assert is_damaged(data[:half] + data[half + 400 :])


def test_what_it_cannot_read_is_left_to_the_decoder():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 4), np.uint8), "CMYK").save(buffer, "JPEG")
    assert not is_damaged(buffer.getvalue())
    assert not is_damaged(b"\xff\xd8\xff and no picture")
