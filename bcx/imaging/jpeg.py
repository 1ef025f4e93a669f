"""Whether a JPEG is whole. libjpeg fills what is missing with grey and only warns; Pillow does not pass that on."""

from __future__ import annotations

import re

import simplejpeg

DAMAGED = "The picture is damaged: its file ends early or holds wrong data, and part of what is shown is filled in."
"""What is said of an image whose rest a decoder made up."""

_SLACK = 16  # bytes left over before the end are harmless up to here; some cameras fill up with them
_LEFT_OVER = re.compile(r"(\d+) extraneous bytes before marker 0x(..)")


def is_damaged(data: bytes) -> bool:
    """Tell whether a JPEG ends early or holds wrong data, by decoding its brightness.

    False for what simplejpeg cannot decode at all (CMYK, lossless): the decoder that reads it says itself what it
    finds. Not at an eighth of the size, which would be faster: simplejpeg 1.9 writes past its memory there when the
    JPEG is a lossless one.
    """
    try:
        simplejpeg.decode_jpeg(data, "GRAY", fastdct=True, fastupsample=True, strict=True)
    except ValueError as error:
        said = str(error)
        if left_over := _LEFT_OVER.search(said):
            return left_over[2] != "d9" or int(left_over[1]) > _SLACK
        return "premature end" in said.lower() or "Huffman" in said
    return False
