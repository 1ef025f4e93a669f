"""Images for page, commands and reports: the lesion layer, PNG files, small data addresses for rows and strips.

>>> import numpy as np
>>> data_url(np.zeros((4, 4), np.uint8), side=4)[:23]
'data:image/jpeg;base64,'
"""

import base64
import io
import math
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bcx.imaging.crop import cut
from bcx.imaging.overlay import lay_outline
from bcx.inference.prediction import ONE_STAGE_LEVEL, Prediction
from bcx.trust.claims import NOT_A_SCAN

#: Side of the enlarged part, as drawn: twice what the network reads, so that the outline is smooth.
_ENLARGED = 448
#: Of an image on the page, at most.
_MOST_BYTES = 1_000_000


def as_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def encoded(picture: Image.Image) -> tuple[bytes, str]:
    """Return an image of at most `Prediction.screen`'s size as a file of 1 MB at most, PNG or else JPEG; its suffix."""
    if picture.width * picture.height * len(picture.getbands()) < _MOST_BYTES:
        return _file(picture, "png", compress_level=1), ".png"
    for quality in (90, 75, 50):
        content = _file(picture, "jpeg", quality=quality, subsampling=0)  # thin coloured lines stay sharp
        if len(content) < _MOST_BYTES:
            break
    return content, ".jpg"


def save_png(picture: Image.Image, path: Path) -> str:
    """Write `picture` and return the path as text; quick rather than small, since it is looked at once."""
    picture.save(path, format="PNG", compress_level=1)
    return str(path)


def data_url(picture: Image.Image | np.ndarray, side: int) -> str:
    """Return a JPEG of at most `side` pixels a side, inside its own address, so that no file is left to delete."""
    image = as_image(picture) if isinstance(picture, np.ndarray) else picture
    small = image.convert("RGB")
    small.thumbnail((side, side))
    return _url(small, "jpeg", quality=82)


def png_url(picture: Image.Image) -> str:
    return _url(picture, "png")


def _url(image: Image.Image, kind: str, **settings: int) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(_file(image, kind, **settings)).decode('ascii')}"


def _file(image: Image.Image, kind: str, **settings: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def lesion_picture(prediction: Prediction, opacity: float = 0.5) -> Image.Image | None:
    """Return the scan with the lesion map over it and a frame around the second stage; None without such a map."""
    if prediction.lesion is None or prediction.decision == NOT_A_SCAN:
        return None
    frame, style = prediction.second_stage, prediction.style
    return lay_outline(prediction.shown, prediction.lesion, prediction.outline_level, opacity, frame, style=style)


def overlay_files(prediction: Prediction) -> Iterator[tuple[str, bytes]]:
    """Yield the overlays that `bcx predict` writes, PNG: the end of each name, and its bytes."""
    for end, picture in (("_lesion.png", lesion_picture(prediction)), ("_overlay.png", prediction.overlay())):
        if picture is not None:
            yield end, _file(picture, "png")


def page_overlay(prediction: Prediction) -> Image.Image:
    """Return what the page shows first, at the size of a screen: the lesion map, else its label's; bare if no scan."""
    return layer_picture(prediction.screen)


def layer_picture(prediction: Prediction, class_: str | None = None, opacity: float = 0.5) -> Image.Image:
    """Return the scan with one map over it, RGB: a class's, or (None) as `page_overlay`."""
    if prediction.decision == NOT_A_SCAN:
        return as_image(prediction.shown).convert("RGB")
    return (class_ is None and lesion_picture(prediction, opacity)) or prediction.overlay(class_, opacity)


def enlarged_picture(prediction: Prediction) -> Image.Image | None:
    """Return what the second stage read, with what that stage alone takes for a lesion; None without one.

    A square of the network's own pixels, made larger without new ones.
    """
    second = prediction.reading.second
    if second is None:
        return None
    plane = prediction.preprocess.plane(cut(prediction.shown, second.box))
    size = (_ENLARGED, _ENLARGED)
    read = cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
    lesion = cv2.resize(second.lesion, size, interpolation=cv2.INTER_LINEAR)
    level = ONE_STAGE_LEVEL if prediction.outlines else math.inf
    return lay_outline(read, lesion, level, thick=4, style=prediction.style)  # it is shown small


def row_picture(prediction: Prediction, side: int) -> str:
    """Return the small image of a row as a data address: the scan, with an outline where a lesion is seen."""
    prediction = prediction.screen
    small = as_image(prediction.shown).convert("RGB")
    small.thumbnail((side, side))
    if prediction.lesion is not None and prediction.decision != NOT_A_SCAN:
        lesion = cv2.resize(prediction.lesion, small.size, interpolation=cv2.INTER_AREA)
        small = lay_outline(np.asarray(small), lesion, prediction.outline_level)
    return data_url(small, side)
