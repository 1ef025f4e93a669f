"""A sheet of the scans that a model localises best, and one of the worst, with the masks' outlines and the heat.

Where the scans are patients', so are the sheets: they are written into the folder that is named, and nowhere else.

>>> heat = np.zeros((96, 128), np.float32)
>>> heat[30:60, 40:90] = 0.9
>>> picture = tile(np.zeros((96, 128), np.uint8), heat, heat > 0.5, 0.3, ("a.png", "benign"))
>>> picture.size == (TILE, TILE_HEIGHT)
True
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bcx.data.records import Record, load_mask
from bcx.evaluate.localisation import Localisation, heat_of
from bcx.files import whole
from bcx.imaging.overlay import lay_over
from bcx.imaging.preprocess import resize

if TYPE_CHECKING:
    from bcx.inference.prediction import Prediction

#: Tiles on each sheet, and how many stand in a row.
COUNT, ACROSS = 24, 6
#: In pixels: width of a tile, height of the picture in it, height of a line of text, height of the whole tile.
TILE, PICTURE_HEIGHT, LINE = 320, 250, 19
TILE_HEIGHT = PICTURE_HEIGHT + 3 * LINE + 8
_GAP, _HEAD = 14, 66
_INK, _DIM, _PAPER = (24, 24, 27), (90, 90, 96), (255, 255, 255)
# White with a dark edge for the mask, blue for the model's region, purple for heat: they differ in
# lightness as well as in hue, so that they stay apart in grey print and for all common kinds of colour blindness.
_MASK, _EDGE, _REGION = (255, 255, 255), (0, 0, 0), (86, 180, 233)
_OPACITY = 0.55


@dataclass(frozen=True)
class _Entry:
    """One scan's place in the order (the better, the larger), and its tile."""

    order: tuple[float, float, float, str]
    picture: Image.Image


class ContactSheet:
    """Keeps the best and the worst scans of a run while it goes on: memory stays flat however long it is.

    Scans are ordered by the IoU at the fixed threshold, then by the share of heat inside the lesion; of those that miss
    it altogether, a large lesion is the worse miss.
    """

    def __init__(self, count: int = COUNT) -> None:
        """Keep at most `count` scans at each end."""
        self._count = count
        self._best: list[_Entry] = []
        self._worst: list[_Entry] = []
        self._seen = 0

    def offer(self, record: Record, prediction: Prediction, found: Localisation) -> None:
        """Show a scan to the sheet, which keeps a small picture of it as long as it is among the best or worst.

        Args:
            found: its figures, from `localise`.
        """
        self._seen += 1
        order = (found.fit.iou, found.fit.inside, -found.lesion_share, found.file)
        is_best = len(self._best) < self._count or order > self._best[-1].order
        is_worst = len(self._worst) < self._count or order < self._worst[-1].order
        if not (is_best or is_worst):
            return
        mask = load_mask(record, (prediction.scan.height, prediction.scan.width))
        assert mask is not None  # there are figures only where there is a mask
        picture = tile(prediction.scan.pixels, heat_of(prediction), mask, found.threshold, _caption(found, prediction))
        entry = _Entry(order, picture)
        if is_best:
            self._best = sorted([*self._best, entry], key=lambda each: each.order, reverse=True)[: self._count]
        if is_worst:
            self._worst = sorted([*self._worst, entry], key=lambda each: each.order)[: self._count]

    def write(self, folder: Path, title: str) -> list[Path]:
        """Write `best.png` and `worst.png`, each at once or not at all, and return their paths.

        Args:
            title: stands above both, such as the model's name.
        """
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name, entries in (("best", self._best), ("worst", self._worst)):
            heading = f"{title}: the {name} {len(entries)} of {self._seen} scans by IoU"
            written.append(folder / f"{name}.png")
            with whole(written[-1]) as partial:
                _sheet([entry.picture for entry in entries], heading).save(partial, format="PNG", optimize=True)
        return written


def _caption(found: Localisation, prediction: Prediction) -> tuple[str, str, str]:
    verdict = "" if found.answer == found.label else "wrong: "
    return (
        found.file.split("/", 1)[-1],
        f"{verdict}{found.label}, called {found.answer} ({_share(prediction.confidence)})",
        f"IoU {_share(found.fit.iou)}   heat inside {_share(found.fit.inside)}   lesion {_share(found.lesion_share)}",
    )


def _share(value: float) -> str:
    return f"{100 * value:.0f} %"


def tile(
    pixels: np.ndarray, heat: np.ndarray, mask: np.ndarray, threshold: float, lines: tuple[str, ...]
) -> Image.Image:
    """Draw one scan with its heat, the lesion's outline and the model's region, and text below.

    Args:
        pixels: uint8 `[H, W]` or `[H, W, 3]`.
        heat: float32 `[H, W]`, 0..1.
        mask: bool `[H, W]`.
        threshold: where the outline of the heat's region runs.
        lines: at most three; what is too long is cut.

    Returns:
        An RGB picture of `TILE` x `TILE_HEIGHT`.
    """
    scale = min(TILE / pixels.shape[1], PICTURE_HEIGHT / pixels.shape[0])
    width, height = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    warm = resize(np.ascontiguousarray(heat, np.float32), width, height)
    picture = np.asarray(lay_over(resize(pixels, width, height), warm, 1.0, _OPACITY)).copy()
    _outline(picture, warm >= threshold, _REGION, 1)
    lesion = resize(mask.astype(np.float32), width, height) >= 0.5
    _outline(picture, lesion, _EDGE, 4)
    _outline(picture, lesion, _MASK, 2)
    whole = Image.new("RGB", (TILE, TILE_HEIGHT), _PAPER)
    whole.paste(Image.fromarray(picture), ((TILE - width) // 2, PICTURE_HEIGHT - height))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines[:3]):
        draw.text((0, PICTURE_HEIGHT + 5 + number * LINE), _fitting(draw, line), _DIM if number else _INK, _font(15))
    return whole


def _outline(picture: np.ndarray, region: np.ndarray, colour: tuple[int, int, int], thick: int) -> None:
    contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, thick, cv2.LINE_AA)


def _fitting(draw: ImageDraw.ImageDraw, text: str) -> str:
    """The text, or its end after "..." where it is wider than a tile: names of files differ at their ends."""
    if draw.textlength(text, _font(15)) <= TILE:
        return text
    while draw.textlength("..." + text, _font(15)) > TILE:
        text = text[1:]
    return "..." + text


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _sheet(tiles: list[Image.Image], heading: str) -> Image.Image:
    rows = -(-max(len(tiles), 1) // ACROSS)
    width = ACROSS * TILE + (ACROSS + 1) * _GAP
    sheet = Image.new("RGB", (width, _HEAD + rows * (TILE_HEIGHT + _GAP) + _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 10), heading, _INK, _font(22))
    x = float(_GAP)
    for text, colour, thick in (
        ("the lesion's mask", _MASK, 4),
        ("where the heat reaches the threshold", _REGION, 3),
        ("heat", (230, 97, 0), 12),
    ):
        draw.rectangle((x, 42, x + 34, 56), (70, 70, 74))
        draw.rectangle((x + 4, 49 - thick / 2, x + 30, 49 + thick / 2 - 1), colour)
        draw.text((x + 42, 40), text, _DIM, _font(15))
        x += 42 + draw.textlength(text, _font(15)) + 30
    for number, picture in enumerate(tiles):
        row, column = divmod(number, ACROSS)
        sheet.paste(picture, (_GAP + column * (TILE + _GAP), _HEAD + row * (TILE_HEIGHT + _GAP)))
    return sheet
