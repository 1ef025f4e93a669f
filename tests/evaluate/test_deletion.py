"""Hiding what the map shows: the shapes that are hidden, and a reader whose answer is known exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label as components

from bcx.data.records import Record
from bcx.evaluate.deletion import (
    PLACES,
    deletion_check,
    deletion_table,
    hide,
    hottest_region,
    moved,
    summarise_deletion,
)
from bcx.tasks import BREAST_ULTRASOUND

SHAPE = (60, 80)
BRIGHT = np.zeros(SHAPE, bool)
BRIGHT[20:35, 30:50] = True
PIXELS = np.where(BRIGHT, 200, 40).astype(np.uint8)


class BrightnessReader:
    """A classifier worked out by hand: P(malignant) is the share of the bright patch that is still there."""

    task = BREAST_ULTRASOUND

    def predict(self, pixels: np.ndarray, lesion: np.ndarray | None = None) -> SimpleNamespace:
        bright = float((pixels[..., 0] if pixels.ndim == 3 else pixels)[BRIGHT].mean() - 40) / 160
        return SimpleNamespace(
            label="malignant" if bright > 0.5 else "benign",
            probabilities={"normal": 0.0, "benign": 1 - bright, "malignant": bright},
            scan=SimpleNamespace(pixels=pixels),
            lesion=lesion,
        )


def record(name: str = "a", group: str = "a") -> Record:
    return Record(Path(f"{name}.png"), f"ward/{name}.png", "malignant", f"ward:{group}", "ward")


def regions(seed: int) -> np.ndarray:
    """A random connected region."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(12, 50, 2))
    heat = rng.random(shape)
    heat[rng.integers(0, shape[0] // 2) :, rng.integers(0, shape[1] // 2) :] += rng.random() * 2
    return hottest_region(heat)


def test_the_map_that_shows_the_reason_lowers_the_answer_and_elsewhere_does_not():
    reader = BrightnessReader()
    found = deletion_check(reader, record(), reader.predict(PIXELS, BRIGHT.astype(np.float32)))
    assert found.probability == 1
    assert found.region_share == pytest.approx(BRIGHT.mean())
    assert found.drop_here == pytest.approx(1, abs=0.01)
    # Elsewhere the patch stays; what is hidden there is dark and becomes no darker than the patch's surroundings.
    assert found.drop_elsewhere == pytest.approx(0, abs=0.01)


def test_a_map_that_shows_something_else_does_not():
    reader = BrightnessReader()
    wrong = np.zeros(SHAPE, np.float32)
    wrong[2:12, 2:12] = 1
    found = deletion_check(reader, record(), reader.predict(PIXELS, wrong))
    assert found.drop_here == pytest.approx(0, abs=0.01)


def test_the_same_scan_is_tested_at_the_same_places():
    reader = BrightnessReader()
    wrong = np.zeros(SHAPE, np.float32)
    wrong[2:12, 2:12] = 1
    prediction = reader.predict(PIXELS, wrong)
    assert deletion_check(reader, record(), prediction) == deletion_check(reader, record(), prediction)


def test_only_scans_called_positive_are_tested():
    reader = BrightnessReader()
    prediction = reader.predict(np.full(SHAPE, 40, np.uint8), BRIGHT.astype(np.float32))
    assert deletion_check(reader, record(), prediction) is None


def test_without_heat_or_without_room_nothing_is_claimed():
    reader = BrightnessReader()
    blank = deletion_check(reader, record("a"), reader.predict(PIXELS, np.zeros(SHAPE, np.float32)))
    assert (blank.region_share, blank.drop_here, blank.drop_elsewhere) == (0, None, None)
    huge = np.ones(SHAPE, np.float32)
    huge[:3] = 0
    crowded = deletion_check(reader, record("b"), reader.predict(PIXELS, huge))
    assert crowded.drop_here > 0
    assert crowded.drop_elsewhere is None
    fine = deletion_check(reader, record("c", "c"), reader.predict(PIXELS, BRIGHT.astype(np.float32)))
    summary = summarise_deletion([blank, crowded, fine])
    assert (summary["called_positive"], summary["without_heat"], summary["without_room"]) == (3, 1, 1)
    assert summary["here_more"] == {"value": 1.0, "low": None, "high": None, "n": 1}
    assert summary["difference"]["value"] == pytest.approx(fine.drop_here - fine.drop_elsewhere)
    assert deletion_table([blank, fine])["drop_here"].isna().tolist() == [True, False]


def test_no_scan_called_positive_leaves_figures_without_value():
    summary = summarise_deletion([])
    assert summary["called_positive"] == 0
    assert summary["drop_here"] == {"value": None, "low": None, "high": None, "n": 0}
    assert list(deletion_table([]).columns)[:2] == ["file", "source"]


def test_the_region_is_the_connected_part_that_holds_the_peak():
    heat = np.zeros(SHAPE, np.float32)
    heat[5:10, 5:10] = 0.5
    heat[30:40, 30:45] = 0.6
    heat[35, 35] = 1.0
    region = hottest_region(heat)
    assert region.sum() == 150
    assert region[30:40, 30:45].all()
    assert not hottest_region(np.zeros(SHAPE)).any()


@given(seed=st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_moved_regions_are_equal_lie_inside_and_apart(seed):
    region = regions(seed)
    assert components(region, np.ones((3, 3)))[1] == 1
    copies = moved(region, PLACES, np.random.default_rng(seed))
    rows, columns = np.nonzero(region)
    for copy in copies:
        assert not (copy & region).any()
        ys, xs = np.nonzero(copy)
        assert (ys - ys.min()).tolist() == (rows - rows.min()).tolist()
        assert (xs - xs.min()).tolist() == (columns - columns.min()).tolist()


def test_every_free_place_is_found():
    region = np.zeros((4, 7), bool)
    region[:, 2:4] = True
    copies = moved(region, 100, np.random.default_rng(0))  # columns 0, 4 and 5 are free for its left edge
    assert sorted(int(np.nonzero(copy)[1].min()) for copy in copies) == [0, 4, 5]


def test_hidden_is_only_the_region_and_nothing_of_it_remains():
    noise = np.random.default_rng(0).integers(0, 40, SHAPE, dtype=np.uint8)
    scan = np.where(BRIGHT, 250, noise).astype(np.uint8)
    hidden = hide(scan, BRIGHT)
    assert (hidden[~BRIGHT] == scan[~BRIGHT]).all()
    assert hidden[BRIGHT].max() < 40
    assert abs(hidden[BRIGHT].mean() - noise[~BRIGHT].mean()) < 2
    assert (scan[BRIGHT] == 250).all()  # the scan itself stays
    colour = np.stack([scan, scan // 2, scan // 3], axis=-1)
    assert (hide(colour, BRIGHT)[..., 0] == hidden).all()


@pytest.mark.parametrize(
    "region", [np.s_[:, :79], np.s_[1:, :], np.s_[0:1, :], np.s_[:, 79:], np.s_[1:59, 1:79]], ids=str
)
def test_regions_at_the_edge_and_as_large_as_the_picture_are_filled(region):
    mask = np.zeros(SHAPE, bool)
    mask[region] = True
    assert (hide(np.full(SHAPE, 77, np.uint8), mask) == 77).all()
