"""Contact sheets: which scans are on them, in which order, and what a tile shows."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bcx.data.records import Record
from bcx.evaluate.figures_data import HEIGHT, WIDTH, ContactSheet, tile
from bcx.evaluate.localisation import localise

SHAPE = (60, 80)
MASK = np.zeros(SHAPE, bool)
MASK[20:40, 20:60] = True


def offer(sheet: ContactSheet, folder: Path, name: str, width: int) -> float:
    """Show a scan whose heat covers `width` of the lesion's 40 columns; returns its IoU."""
    mask = folder / f"{name}_mask.png"
    if not mask.exists():
        Image.fromarray(MASK.astype(np.uint8) * 255).save(mask)
    lesion = np.zeros(SHAPE, np.float32)
    lesion[20:40, 20 : 20 + width] = 0.9
    prediction = SimpleNamespace(
        lesion=lesion,
        label="malignant",
        confidence=0.8,
        scan=SimpleNamespace(height=SHAPE[0], width=SHAPE[1], pixels=np.full(SHAPE, 90, np.uint8)),
    )
    record = Record(folder / f"{name}.png", f"ward/{name}.png", "benign", f"ward:{name}", "ward", (mask,))
    found = localise(record, prediction)
    sheet.offer(record, prediction, found)
    return found.fit.iou


def kept(sheet: ContactSheet) -> tuple[list[str], list[str]]:
    return tuple([entry.order[-1] for entry in entries] for entries in sheet.ends().values())


def test_the_best_and_the_worst_are_kept_in_order(tmp_path):
    sheet = ContactSheet(count=2)
    widths = {"c": 20, "a": 40, "e": 0, "b": 30, "d": 10}
    ious = [offer(sheet, tmp_path, name, width) for name, width in widths.items()]
    assert ious == [0.5, 1.0, 0.0, 0.75, 0.25]
    assert kept(sheet) == (["ward/a.png", "ward/b.png"], ["ward/e.png", "ward/d.png"])


def test_the_order_does_not_depend_on_the_order_of_the_scans(tmp_path):
    names = {f"{i}": [0, 0, 10, 40][i % 4] for i in range(9)}  # several are equally good
    one, other = ContactSheet(3), ContactSheet(3)
    for name, width in names.items():
        offer(one, tmp_path, name, width)
    for name, width in reversed(names.items()):
        offer(other, tmp_path, name, width)
    assert kept(one) == kept(other)


@pytest.mark.parametrize("count", [1, 7])
def test_two_sheets_are_written_into_the_folder_and_nothing_else(tmp_path, count):
    sheet = ContactSheet()
    for number in range(count):
        offer(sheet, tmp_path, f"{number}", 5 * number)
    written = sheet.write(tmp_path / "new" / "sheets", "tiny")
    assert sorted((tmp_path / "new" / "sheets").iterdir()) == sorted(written)
    assert [path.name for path in written] == ["best.png", "worst.png"]
    for path in written:
        with Image.open(path) as picture:
            assert picture.width > 2000
            assert picture.height > 400 * -(-count // 6)
            darkest, brightest = picture.convert("L").getextrema()
            assert darkest < 40
            assert brightest == 255


def test_a_tile_shows_the_mask_the_region_and_the_heat():
    heat = np.zeros(SHAPE, np.float32)
    heat[25:50, 30:70] = 0.9
    picture = tile(np.full(SHAPE, 60, np.uint8), heat, MASK, 0.5).astype(int)
    grow = WIDTH // SHAPE[1]
    assert (picture[10, 10] == 60).all()  # no heat: the scan as it is
    red, green, blue = picture[47 * grow, 60 * grow]
    assert min(red, blue) > green + 20  # heat: purple
    row = picture[30 * grow]
    assert (row[20 * grow - 3 : 20 * grow + 3] > 230).all(axis=1).any()  # the mask's outline: white
    assert (row[20 * grow - 5 : 20 * grow + 5] < 40).all(axis=1).any()  # with a dark edge
    edge = row[70 * grow - 4 : 70 * grow + 4]
    assert (edge[:, 2] > edge[:, 0] + 60).any()  # the region's outline: blue


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (250, 320), (32, 32)])
def test_scans_of_any_shape_fit(shape):
    mask = np.zeros(shape, bool)
    mask[5:20, 5:20] = True
    colour = np.full((*shape, 3), 70, np.uint8)
    height, width = tile(colour, mask.astype(np.float32), mask, 0.5).shape[:2]
    assert height <= HEIGHT
    assert width <= WIDTH
    assert height == HEIGHT or width == WIDTH


def test_long_names_are_cut_at_the_front(tmp_path):
    sheet = ContactSheet()
    for number in (1, 2):
        offer(sheet, tmp_path, f"{'long ' * 30}{number}", 40)
    names = [entry.words.splitlines()[0] for entry in sheet.ends()["best"]]
    assert all(name.startswith("...") and len(name) < 60 for name in names)
    assert {name[-5:] for name in names} == {"1.png", "2.png"}
