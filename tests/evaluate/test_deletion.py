"""Hiding what the map shows: a reader whose answer is known exactly."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bcx.data.records import Record
from bcx.evaluate.localisation import deletion_check, deletion_table, summarise_deletion
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


def test_the_map_that_shows_the_reason_lowers_the_answer_and_elsewhere_does_not():
    reader = BrightnessReader()
    found = deletion_check(reader, record(), reader.predict(PIXELS, BRIGHT.astype(np.float32)))
    assert found["probability"] == 1
    assert found["region_share"] == pytest.approx(BRIGHT.mean())
    assert found["drop_here"] == pytest.approx(1, abs=0.01)
    # Elsewhere the patch stays; what is hidden there is dark and becomes no darker than the patch's surroundings.
    assert found["drop_elsewhere"] == pytest.approx(0, abs=0.01)


def test_a_map_that_shows_something_else_does_not():
    reader = BrightnessReader()
    wrong = np.zeros(SHAPE, np.float32)
    wrong[2:12, 2:12] = 1
    found = deletion_check(reader, record(), reader.predict(PIXELS, wrong))
    assert found["drop_here"] == pytest.approx(0, abs=0.01)


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
    assert (blank["region_share"], blank["drop_here"], blank["drop_elsewhere"]) == (0, None, None)
    huge = np.ones(SHAPE, np.float32)
    huge[:3] = 0
    crowded = deletion_check(reader, record("b"), reader.predict(PIXELS, huge))
    assert crowded["drop_here"] > 0
    assert crowded["drop_elsewhere"] is None
    fine = deletion_check(reader, record("c", "c"), reader.predict(PIXELS, BRIGHT.astype(np.float32)))
    summary = summarise_deletion([blank, crowded, fine])
    assert (summary["called_positive"], summary["without_heat"], summary["without_room"]) == (3, 1, 1)
    assert summary["here_more"] == {"value": 1.0, "low": None, "high": None, "n": 1}
    assert summary["difference"]["value"] == pytest.approx(fine["drop_here"] - fine["drop_elsewhere"])
    assert deletion_table([blank, fine])["drop_here"].isna().tolist() == [True, False]


def test_no_scan_called_positive_leaves_figures_without_value():
    summary = summarise_deletion([])
    assert summary["called_positive"] == 0
    assert summary["drop_here"] == {"value": None, "low": None, "high": None, "n": 0}
    assert list(deletion_table([]).columns)[:2] == ["file", "source"]
