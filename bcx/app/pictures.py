"""Pictures for the page: PNG files for the viewer, small data addresses for rows and strips.

>>> import numpy as np
>>> data_url(np.zeros((4, 4), np.uint8), side=4)[:23]
'data:image/jpeg;base64,'
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image


def as_image(pixels: np.ndarray) -> Image.Image:
    """Return uint8 `[H, W]` or `[H, W, 3]` pixels as a PIL image."""
    return Image.fromarray(np.ascontiguousarray(pixels))


def save_png(picture: Image.Image, path: Path) -> str:
    """Write `picture` and return the path as text; quick rather than small, since it is looked at once."""
    picture.save(path, format="PNG", compress_level=1)
    return str(path)


def data_url(picture: Image.Image | np.ndarray, side: int) -> str:
    """Return a JPEG of at most `side` pixels a side, inside its own address, so that no file is left to delete."""
    image = as_image(picture) if isinstance(picture, np.ndarray) else picture
    small = image.convert("RGB")
    small.thumbnail((side, side))
    buffer = io.BytesIO()
    small.save(buffer, format="JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
