"""Drawn pictures as PNG files that say what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bcx.files import whole


def save_png(pixels: np.ndarray, path: Path, note: str = "") -> None:
    """Write uint8 [H, W] or [H, W, 3], whole or not at all, with a note in the text chunk `Description`."""
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    if note:
        info.add_text("Description", note)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        Image.fromarray(pixels).save(partial, format="PNG", optimize=True, pnginfo=info)
