"""A sheet of the scans that a model localises best, and one of the worst, with the masks' outlines and the heat.

Where the scans are patients', so are the sheets: they are written into the folder that is named, and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np
from matplotlib.lines import Line2D

from bcx.data.records import Record, load_mask
from bcx.evaluate.canvas import paper, publish, styled
from bcx.evaluate.localisation import Localisation, heat_of
from bcx.evaluate.words import percent
from bcx.imaging.overlay import lay_over
from bcx.imaging.preprocess import resize

if TYPE_CHECKING:
    from bcx.inference.prediction import Prediction

#: Scans on each sheet, and how many stand in a row.
COUNT, ACROSS = 24, 6
#: Longest sides of an image, in pixels.
WIDTH, HEIGHT = 320, 250
#: Letters of a file's name that are shown; the rest is cut off in front: names differ at their ends.
_LETTERS = 44
# White with a dark edge for the mask, blue for the model's region, purple for heat: they differ in
# lightness as well as in hue, so that they stay apart in grey print and for all common kinds of colour blindness.
_MASK, _EDGE, _REGION = (255, 255, 255), (0, 0, 0), (86, 180, 233)
_KEYS = {"the lesion's mask": "white", "where the heat reaches the threshold": "#56B4E9", "heat": "#B65FE6"}
_OPACITY = 0.55


class _Entry(NamedTuple):
    """One scan's place in the order (the better, the larger), its image, and what stands above it."""

    order: tuple[float, float, float, str]
    image: np.ndarray
    words: str


class ContactSheet:
    """Keeps the best and the worst scans of a run while it goes on: memory stays flat however long it is.

    Scans are ordered by the IoU at the fixed threshold, then by the share of heat inside the lesion; of those that miss
    it altogether, a large lesion is the worse miss.
    """

    def __init__(self, count: int = COUNT) -> None:
        """Keep at most `count` scans at each end."""
        self._count = count
        self._kept: list[_Entry] = []
        self._seen = 0

    def offer(self, record: Record, prediction: Prediction, found: Localisation) -> None:
        """Show a scan with its figures, from `localise`; a small image is kept while it is among the best or worst."""
        self._seen += 1
        order = (found.fit.iou, found.fit.inside, -found.lesion_share, found.file)
        kept, count = self._kept, self._count
        if len(kept) == 2 * count and kept[count - 1].order < order < kept[count].order:
            return
        mask = load_mask(record, (prediction.scan.height, prediction.scan.width))
        assert mask is not None  # there are figures only where there is a mask
        image = tile(prediction.scan.pixels, heat_of(prediction), mask, found.threshold)
        kept.append(_Entry(order, image, _words(found, prediction)))
        kept.sort(key=lambda each: each.order)
        del kept[count:-count]  # what is neither among the worst nor among the best any more

    def ends(self) -> dict[str, list[_Entry]]:
        """Return the best scans, from the best down, and the worst, from the worst up."""
        return {"best": self._kept[: -self._count - 1 : -1], "worst": self._kept[: self._count]}

    def write(self, folder: Path, title: str) -> list[Path]:
        """Write `best.png` and `worst.png` under a title, such as the model's name, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        for end, entries in self.ends().items():
            heading = f"{title}: the {end} {len(entries)} of {self._seen} scans by IoU"
            _write_sheet(entries, heading, folder / f"{end}.png")
        return [folder / f"{end}.png" for end in self.ends()]


def _words(found: Localisation, prediction: Prediction) -> str:
    name, verdict = found.file.split("/", 1)[-1], "" if found.answer == found.label else "wrong: "
    shares = [percent(share) for share in (found.fit.iou, found.fit.inside, found.lesion_share)]
    return (
        f"{name if len(name) <= _LETTERS else '...' + name[-_LETTERS:]}\n"
        f"{verdict}{found.label}, called {found.answer} ({percent(prediction.confidence)})\n"
        f"IoU {shares[0]}, heat inside {shares[1]}, lesion {shares[2]}"
    )


def tile(pixels: np.ndarray, heat: np.ndarray, mask: np.ndarray, threshold: float) -> np.ndarray:
    """Draw one scan with its heat, the lesion's outline and that of the region where the heat reaches the threshold.

    Returns uint8 `[h, w, 3]` that fits into `HEIGHT` x `WIDTH`.
    """
    scale = min(WIDTH / pixels.shape[1], HEIGHT / pixels.shape[0])
    width, height = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    warm = resize(np.ascontiguousarray(heat, np.float32), width, height)
    image = np.asarray(lay_over(resize(pixels, width, height), warm, 1.0, _OPACITY)).copy()
    lesion = resize(mask.astype(np.float32), width, height) >= 0.5
    for region, colour, thick in ((warm >= threshold, _REGION, 1), (lesion, _EDGE, 4), (lesion, _MASK, 2)):
        contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, colour, thick, cv2.LINE_AA)
    return image


@styled
def _write_sheet(entries: list[_Entry], heading: str, path: Path) -> None:
    rows = -(-max(len(entries), 1) // ACROSS)
    figure, grid = paper(2.1 * ACROSS, 0.8 + 2.1 * rows, rows, ACROSS)
    for axes in grid:
        axes.axis("off")
        axes.set_anchor("N")
    for axes, entry in zip(grid, entries, strict=False):
        axes.imshow(entry.image)
        axes.set_title(entry.words, fontsize=6)
    figure.suptitle(heading, x=0.01, ha="left")
    keys = [Line2D([], [], color=colour, linewidth=3, label=words) for words, colour in _KEYS.items()]
    figure.legend(handles=keys, loc="outside upper right", ncols=len(keys), facecolor="#46464a", labelcolor="white")
    publish(figure, path, colours=None)
