"""Figures of scans: classes, intensities, augmentation, answers with their images, best and worst localisation.

Those that show patients' scans belong where the scans may lie, and nowhere else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from bcx.data.records import Record, load_mask
from bcx.evaluate.canvas import DASHES, INK, paper, publish, styled
from bcx.evaluate.localisation import Localisation, heat_of
from bcx.evaluate.words import percent
from bcx.files import AnyPath
from bcx.imaging.overlay import lay_over
from bcx.imaging.preprocess import resize, to_grey, with_side
from bcx.inference.prediction import Prediction
from bcx.tasks import Task

RIGHT, WRONG = "#007A57", "#C0390B"
"""Green and red that differ in lightness, near Okabe and Ito's; a tick or cross and the frame's dashes say the same."""
TILE = 420  # pixels: longer side of an image as it is drawn
OPACITY = 0.6
_BINS = 64
COUNT, ACROSS = 24, 6  # scans on each sheet, and how many stand in a row
WIDTH, HEIGHT = 320, 250  # longest sides of an image, in pixels
_LETTERS = 44  # of a file's name that are shown; the rest is cut off in front: names differ at their ends
# White with a dark edge for the mask, blue for the model's region, purple for heat: they differ in
# lightness as well as in hue, so that they stay apart in grey print and for all common kinds of colour blindness.
_MASK, _EDGE, _REGION = (255, 255, 255), (0, 0, 0), (86, 180, 233)
_KEYS = {"the lesion's mask": "white", "where the heat reaches the threshold": "#56B4E9", "heat": "#B65FE6"}
_HEAT_OPACITY = 0.55


@dataclass(frozen=True)
class Answer:
    """One scan with its answer, for a gallery."""

    pixels: np.ndarray  # uint8 [H, W] or [H, W, 3]
    true: str
    predicted: str
    confidence: float  # probability of the predicted class, 0..1
    values: np.ndarray | None = None  # of a mistake: float32 [H, W], that class's map in logit units at the scan's size
    limit: float = 4.0  # end of the map's colour scale, in logit units


@styled
def class_figure(counts: Mapping[str, Mapping[str, int]], task: Task, path: AnyPath) -> Figure:
    """Draw source -> {class: n}, one group of bars per source (or per part of a split)."""
    figure, (axes,) = paper(max(4.2, 1.4 + 2.0 * len(counts)), 3.2)
    wide = 0.8 / len(task.classes)
    top = max(max(found.values(), default=0) for found in counts.values())
    for c, name in enumerate(task.classes):
        places = np.arange(len(counts)) + (c - (len(task.classes) - 1) / 2) * wide
        heights = [found.get(name, 0) for found in counts.values()]
        axes.bar(places, heights, 0.92 * wide, color=task.colours[c], label=name)
        for place, height, found in zip(places, heights, counts.values(), strict=True):
            share = percent(height / max(1, sum(found.values())))
            axes.text(place, height + 0.015 * top, f"{height:,}\n{share}", ha="center", va="bottom", fontsize=8)
    names = [f"{source}\n(n = {sum(found.values()):,})" for source, found in counts.items()]
    axes.set_xticks(range(len(counts)), names)
    axes.set(ylabel="scans", ylim=(0, 1.2 * max(top, 1)), title="Classes")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0)
    figure.legend(loc="outside upper right", ncols=len(task.classes))
    return publish(figure, path)


@styled
def intensity_figure(scans: Iterable[tuple[str, np.ndarray]], task: Task, path: AnyPath) -> Figure:
    """Draw, per class, how bright pixels are, and a box plot of the scans' mean intensities with their quartiles.

    `scans`, one or more: label and pixels, uint8 [H, W] or [H, W, 3], of each; all weigh the same, memory stays flat.
    """
    means: dict[str, list[float]] = {name: [] for name in task.classes}
    sums = {name: np.zeros(_BINS) for name in task.classes}
    for label, pixels in scans:
        grey = to_grey(pixels)
        means[label].append(float(grey.mean() / 255))
        sums[label] += np.bincount(grey.ravel() // (256 // _BINS), minlength=_BINS) / grey.size
    held = [name for name in task.classes if means[name]]
    # a share per bin times the number of bins is a density: its area is 1
    density = {name: _BINS * (sums[name] / len(means[name])) for name in held}
    quartiles = {name: np.quantile(means[name], (0.25, 0.5, 0.75)) for name in held}
    figure, (left, right) = paper(7.2, 3.3, 1, 2, width_ratios=(1, 1.15))
    edges = np.linspace(0, 1, _BINS + 1)
    for k, name in enumerate(held):
        colour = task.colours[task.classes.index(name)]
        left.stairs(density[name], edges, color=colour, linestyle=DASHES[k % 4], label=name, linewidth=1.5)
        drawn = right.boxplot(means[name], positions=[k], widths=0.45, patch_artist=True, flierprops={"markersize": 3})
        drawn["boxes"][0].set(facecolor=colour, alpha=0.35, edgecolor=colour)
        drawn["medians"][0].set(color=INK, linewidth=2)
    low, high = right.get_ylim()
    apart = 0.055 * (high - low)  # labels of a narrow box would cover each other
    for k, name in enumerate(held):
        lower, middle, upper = quartiles[name]
        places = [min(lower, middle - apart), middle, max(upper, middle + apart)]
        for value, place in zip(quartiles[name], places, strict=True):
            right.text(k + 0.27, place, f"{value:.2f}".removeprefix("0"), va="center", fontsize=8)
    # the darkest bin (frame and shadow) would flatten everything else
    height = max(density[name][2:].max() for name in held)
    left.set(xlabel="intensity of pixels (0 black, 1 white)", ylabel="density", title="Pixels", xlim=(0, 1))
    left.set_ylim(0, 1.6 * max(float(height), 0.1))
    left.legend(loc="upper right")
    right.set_xticks(range(len(held)), [f"{name}\n(n = {len(means[name]):,})" for name in held])
    right.set(ylabel="mean intensity of a scan", title="Scans: median and quartiles", xlim=(-0.5, len(held) - 0.3))
    right.grid(False, axis="x")
    return publish(figure, path)


@styled
def augmentation_figure(original: np.ndarray, samples: Mapping[str, np.ndarray], path: AnyPath) -> Figure:
    """Show an image as it is and after augmentation, what stands above each -> uint8 [H, W] or [H, W, 3]."""
    shown = [("as it is", original), *samples.items()]
    figure, grid = _grid([pixels for _, pixels in shown], 4, 1.8, 0.3)
    for axes, (name, pixels) in zip(grid, shown, strict=False):
        _show(axes, pixels)
        axes.set_title(name, fontsize=8.5)
    return publish(figure, path, colours=None)


@styled
def mistakes_figure(wrong: Sequence[Answer], path: AnyPath, whose: str) -> Figure:
    """Show mistakes with their maps, one or more; `whose` maps, in words."""
    figure, grid = _grid([a.pixels for a in wrong for _ in range(2)], 4, 1.85, 0.3)
    for answer, scan, beside in zip(wrong, grid[::2], grid[1::2], strict=False):
        _show(scan, answer.pixels)
        scan.set_title(f"true: {answer.true}", fontsize=8.5)
        assert answer.values is not None
        _show(beside, np.asarray(lay_over(answer.pixels, answer.values, answer.limit, OPACITY)))
        beside.set_title(f"answer: {answer.predicted}, {percent(answer.confidence)}", fontsize=8.5, color=WRONG)
    figure.supxlabel(f"purple: evidence for the answer, green: against it; {whose}", fontsize=8.5)
    return publish(figure, path, colours=None)


@styled
def answers_figure(answers: Sequence[Answer], path: AnyPath) -> Figure:
    """Show scans with their answers: green tick and full frame when right, red cross and dashed frame when wrong."""
    figure, grid = _grid([answer.pixels for answer in answers], 5, 1.6, 0.5)
    for axes, answer in zip(grid, answers, strict=False):
        right = answer.true == answer.predicted
        colour, mark = (RIGHT, "✓") if right else (WRONG, "✗")
        _show(axes, answer.pixels)
        frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, fill=False, clip_on=False)
        frame.set(edgecolor=colour, linewidth=3, linestyle=DASHES[0] if right else DASHES[1])
        axes.add_patch(frame)
        told = f"{mark} {answer.predicted}, {percent(answer.confidence)}"
        axes.set_title(told if right else f"{told}\n    true: {answer.true}", fontsize=8.5, color=colour)
    return publish(figure, path, colours=None)


def _grid(images: Sequence[np.ndarray], across: int, width: float, words: float) -> tuple[Figure, np.ndarray]:
    """A place of `width` inches for each image, each row as high as its highest, and `words` inches above it."""
    across = min(across, len(images))
    shapes = [min(1.6, image.shape[0] / image.shape[1]) for image in images]
    heights = [width * max(shapes[k : k + across]) + words for k in range(0, len(shapes), across)]
    return paper(width * across, sum(heights), len(heights), across, bare=True, height_ratios=heights)


def _show(axes: Axes, pixels: np.ndarray) -> None:
    small = with_side(pixels, min(TILE, max(pixels.shape[:2])))
    axes.imshow(small, cmap="gray", vmin=0, vmax=255, aspect="equal", interpolation="antialiased")


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

    @styled
    def write(self, folder: Path, title: str) -> list[Path]:
        """Write `best.png` and `worst.png` under a title, such as the model's name, and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        keys = [Line2D([], [], color=colour, linewidth=3, label=words) for words, colour in _KEYS.items()]
        dark = {"facecolor": "#46464a", "labelcolor": "white"}
        for end, entries in self.ends().items():
            rows = -(-max(len(entries), 1) // ACROSS)
            figure, grid = paper(2.1 * ACROSS, 0.8 + 2.1 * rows, rows, ACROSS, bare=True)
            for axes, entry in zip(grid, entries, strict=False):
                axes.imshow(entry.image)
                axes.set_title(entry.words, fontsize=6)
            figure.suptitle(f"{title}: the {end} {len(entries)} of {self._seen} scans by IoU", x=0.01, ha="left")
            figure.legend(handles=keys, loc="outside upper right", ncols=len(keys), **dark)
            publish(figure, folder / f"{end}.png", colours=None)
        return [folder / f"{end}.png" for end in self.ends()]


def _words(found: Localisation, prediction: Prediction) -> str:
    name, verdict = found.file.split("/", 1)[-1], "" if found.answer == found.label else "wrong: "
    iou, inside, lesion = (percent(share) for share in (found.fit.iou, found.fit.inside, found.lesion_share))
    return (
        f"{name if len(name) <= _LETTERS else '...' + name[-_LETTERS:]}\n"
        f"{verdict}{found.label}, called {found.answer} ({percent(prediction.confidence)})\n"
        f"IoU {iou}, heat inside {inside}, lesion {lesion}"
    )


def tile(pixels: np.ndarray, heat: np.ndarray, mask: np.ndarray, threshold: float) -> np.ndarray:
    """Draw one scan with its heat, the lesion's outline and that of the region where the heat reaches the threshold.

    Returns uint8 `[h, w, 3]` that fits into `HEIGHT` x `WIDTH`.
    """
    scale = min(WIDTH / pixels.shape[1], HEIGHT / pixels.shape[0])
    width, height = max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale))
    warm = resize(np.ascontiguousarray(heat, np.float32), width, height)
    image = np.asarray(lay_over(resize(pixels, width, height), warm, 1.0, _HEAT_OPACITY)).copy()
    lesion = resize(mask.astype(np.float32), width, height) >= 0.5
    for region, colour, thick in ((warm >= threshold, _REGION, 1), (lesion, _EDGE, 4), (lesion, _MASK, 2)):
        contours, _ = cv2.findContours(region.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, colour, thick, cv2.LINE_AA)
    return image
