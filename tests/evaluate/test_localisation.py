"""Localisation against closed forms, scikit-learn, SciPy and what must not change anything."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import jaccard_score

from bcx.data.records import Record
from bcx.errors import DataError
from bcx.evaluate import localisation
from bcx.evaluate.localisation import (
    CLASS_MAP_LEVEL,
    SIZES,
    THRESHOLDS,
    TOLERANCE,
    centred_blob,
    heat_of,
    localisation_table,
    localise,
    measure,
    summarise_localisation,
)
from bcx.inference.prediction import LESION_LEVEL


def box(top: int, left: int, height: int, width: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(8, 40, 2))
    heat = np.maximum(rng.normal(0.3, 0.4, shape), 0).astype(np.float32)
    mask = rng.random(shape) < 0.3
    mask[0, 0] = True
    return np.minimum(heat, 1), mask


def answer(lesion: np.ndarray | None = None, maps: np.ndarray | None = None, label: str = "benign") -> SimpleNamespace:
    """What localisation reads of a prediction."""
    shape = lesion.shape if lesion is not None else maps.shape[1:]
    return SimpleNamespace(
        lesion=lesion,
        maps=maps,
        label=label,
        confidence=0.5,
        probabilities={"normal": 0.2, "benign": 0.5, "malignant": 0.3},
        scan=SimpleNamespace(height=shape[0], width=shape[1], pixels=np.zeros(shape, np.uint8)),
    )


def record_of(folder: Path, name: str, mask: np.ndarray | None, label: str = "benign", group: str = "") -> Record:
    masks = ()
    if mask is not None:
        file = folder / f"{name}_mask.png"
        Image.fromarray(mask.astype(np.uint8) * 255).save(file)
        masks = (file,)
    return Record(folder / f"{name}.png", f"ward/{name}.png", label, f"ward:{group or name}", "ward", masks)


def test_a_map_that_is_the_mask_is_perfect():
    mask = box(10, 20, 15, 30)
    fit = measure(mask.astype(np.float32), mask, 0.5)
    assert (fit.inside, fit.pointing, fit.near, fit.iou, fit.ious.max()) == (1, 1, 1, 1, 1)
    assert (fit.ious == 1).all()


@pytest.mark.parametrize("level", [0.2, 0.5, 1.0])
def test_heat_everywhere_scores_the_share_of_the_picture(level):
    mask = box(10, 20, 15, 30)
    fit = measure(np.full(mask.shape, level, np.float32), mask, 0.5)
    assert fit.inside == pytest.approx(mask.mean())
    assert fit.pointing == pytest.approx(mask.mean())
    assert fit.iou == pytest.approx(mask.mean() if level >= 0.5 else 0)
    reached = np.float32(level) >= THRESHOLDS
    assert fit.ious[reached] == pytest.approx(mask.mean())
    assert (fit.ious[~reached] == 0).all()


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_map_without_heat_points_nowhere(level):
    mask = box(10, 20, 15, 30)
    fit = measure(np.full(mask.shape, level, np.float32), mask, 0.5)
    assert (fit.inside, fit.pointing, fit.near, fit.iou, fit.ious.max(), fit.peak) == (0, 0, 0, 0, 0, 0)


def test_what_speaks_against_is_no_heat():
    mask = box(10, 20, 15, 30)
    heat = np.where(mask, 0.5, -3).astype(np.float32)
    assert measure(heat, mask, 0.5).inside == 1


@pytest.mark.parametrize(("gap", "near"), [(1, 1), (TOLERANCE, 1), (TOLERANCE + 1, 0)])
def test_the_hottest_pixel_may_miss_by_fifteen(gap, near):
    mask = box(0, 0, 60, 20)
    heat = np.full(mask.shape, 0.1, np.float32)
    heat[30, 19 + gap] = 1
    fit = measure(heat, mask, 0.5)
    assert (fit.pointing, fit.near) == (0, near)


def test_of_equally_hot_pixels_the_share_in_the_mask_counts():
    mask = box(0, 0, 60, 20)
    heat = np.zeros(mask.shape, np.float32)
    heat[5, [3, 10, 30, 79]] = 0.8
    fit = measure(heat, mask, 0.5)
    assert (fit.pointing, fit.near) == (0.5, 0.75)


@pytest.mark.parametrize("seed", range(5))
def test_iou_is_scikit_learns_at_every_threshold(seed):
    heat, mask = random_case(seed)
    fit = measure(heat, mask, threshold=0.37)
    assert fit.iou == pytest.approx(jaccard_score(mask.ravel(), heat.ravel() >= 0.37))
    expected = [jaccard_score(mask.ravel(), heat.ravel() >= t) for t in THRESHOLDS]
    assert fit.ious == pytest.approx(np.array(expected), abs=1e-12)
    assert fit.ious.max() == max(fit.ious)


@pytest.mark.parametrize("tolerance", [0, 1, 2, 3.5])
def test_distances_are_scipys(tolerance, monkeypatch):
    monkeypatch.setattr(localisation, "TOLERANCE", tolerance)
    hits = {True: 0, False: 0}
    for seed in range(30):
        heat, mask = random_case(seed)
        mask &= np.random.default_rng(seed).random(mask.shape) < 0.1
        mask[-1, -1] = True
        distance = distance_transform_edt(~mask)[np.unravel_index(heat.argmax(), heat.shape)]
        heat[np.unravel_index(heat.argmax(), heat.shape)] = 2  # no ties
        near = bool(distance <= tolerance)
        assert measure(heat, mask, 0.5).near == near
        hits[near] += 1
    assert min(hits.values()) > 0


@given(seed=st.integers(0, 10_000), factor=st.floats(0.01, 100))
@settings(max_examples=100, deadline=None)
def test_a_factor_changes_no_share_and_no_pointing(seed, factor):
    heat, mask = random_case(seed)
    plain, scaled = measure(heat, mask, 0.5), measure(heat * np.float64(factor), mask, 0.5)
    assert scaled.inside == pytest.approx(plain.inside, rel=1e-5)
    assert (scaled.pointing, scaled.near) == (plain.pointing, plain.near)


@pytest.mark.parametrize(
    ("heat", "mask"), [(np.ones((4, 5)), np.ones((5, 4), bool)), (np.ones((4, 5)), np.zeros((4, 5), bool))]
)
def test_what_does_not_fit_is_refused(heat, mask):
    with pytest.raises(DataError):
        measure(heat, mask, 0.5)


def test_the_blob_is_hottest_in_the_middle_and_even():
    blob = centred_blob((41, 61))
    assert np.unravel_index(blob.argmax(), blob.shape) == (20, 30)
    assert blob.max() == 1
    assert blob == pytest.approx(blob[::-1, ::-1])
    assert blob[20, 30 + 12] == pytest.approx(np.exp(-0.5 * (12 / 61 / 0.2) ** 2))


def test_the_lesion_map_comes_first_and_stays_as_it_is():
    lesion, maps = np.full((4, 5), 0.25, np.float32), np.ones((3, 4, 5), np.float32)
    assert (heat_of(answer(lesion, maps)) == lesion).all()


def test_else_the_map_of_the_answer_counts_in_shares_of_its_peak():
    maps = np.zeros((3, 4, 5), np.float32)
    maps[1, 0] = [-4, 0, 2, 4, 8]
    maps[2, 1, 1] = 3
    assert heat_of(answer(maps=maps))[0].tolist() == [0, 0, 0.25, 0.5, 1]
    assert heat_of(answer(maps=maps), "malignant")[1, 1] == 1
    assert not heat_of(answer(maps=maps, label="normal")).any()


def test_scans_without_a_lesion_have_no_localisation(tmp_path):
    prediction = answer(np.ones((60, 80), np.float32))
    assert localise(record_of(tmp_path, "none", None), prediction) is None
    assert localise(record_of(tmp_path, "black", box(0, 0, 0, 0)), prediction) is None


def test_a_set_is_summed_up(tmp_path, monkeypatch):
    monkeypatch.setattr(localisation, "LESION_LEVEL", 0.5)
    masks = {"small": box(20, 30, 6, 10), "medium": box(20, 30, 16, 15), "large": box(10, 10, 40, 60)}
    found = []
    for number, (name, mask) in enumerate(masks.items()):
        lesion = np.where(mask, 0.4 if name == "medium" else 0.9, 0.3).astype(np.float32)
        label = "malignant" if name == "large" else "benign"
        record = record_of(tmp_path, name, mask, label, group=f"p{number // 2}")
        found.append(localise(record, answer(lesion)))
    summary = summarise_localisation(found)
    assert (summary["map"], summary["threshold"], summary["without_heat"]) == ("lesion map", 0.5, 0)
    assert 0.3 < summary["best_threshold"] <= 0.4  # the only thresholds that cut every lesion out
    whole = summary["all"]
    assert (whole["n"], whole["groups"]) == (3, 2)
    assert whole["pointing"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 3}
    assert whole["iou"]["value"] == pytest.approx(2 / 3)
    assert whole["iou_best_threshold"]["value"] == whole["iou_own_threshold"]["value"] == 1
    share = [mask.mean() for mask in masks.values()]
    assert whole["lesion_share"]["value"] == pytest.approx(np.mean(share))
    assert whole["lesion_share"]["low"] < whole["lesion_share"]["value"] < whole["lesion_share"]["high"]
    heat = [h * s / (h * s + 0.3 * (1 - s)) for h, s in zip((0.9, 0.4, 0.9), share, strict=True)]
    assert whole["heat_inside"]["value"] == pytest.approx(np.mean(heat), rel=1e-5)
    assert {name: part["n"] for name, part in summary["by_size"].items()} == dict.fromkeys(SIZES, 1)
    assert {name: part["n"] for name, part in summary["by_label"].items()} == {"benign": 2, "malignant": 1}
    assert summary["by_source"]["ward"] == whole
    assert summary["by_label"]["malignant"]["iou"] == {"value": 1.0, "low": None, "high": None, "n": 1}  # one group
    assert whole["centred_blob"]["pointing"]["value"] == pytest.approx(2 / 3)  # the small lesion lies above the middle
    assert whole["centred_blob"]["heat_inside"]["value"] > whole["lesion_share"]["value"]

    table = localisation_table(found)
    assert table["file"].tolist() == ["ward/small.png", "ward/medium.png", "ward/large.png"]
    assert table["iou"].tolist() == [1, 0, 1]
    for name in ("heat_inside", "pointing", "pointing_15px", "iou", "iou_best_threshold", "iou_own_threshold"):
        assert table[name].mean() == pytest.approx(whole[name]["value"])


def test_each_kind_of_map_has_its_own_threshold(tmp_path):
    mask = box(20, 30, 6, 10)
    heat = mask.astype(np.float32)
    found = localise(record_of(tmp_path, "a", mask), answer(heat))
    assert (found.map, found.threshold) == ("lesion map", LESION_LEVEL)
    found = localise(record_of(tmp_path, "a", mask), answer(maps=np.stack([heat] * 3)))
    assert (found.map, found.threshold) == ("class map", CLASS_MAP_LEVEL)


def test_maps_without_heat_are_counted(tmp_path):
    maps = np.full((3, 60, 80), -1, np.float32)
    found = [localise(record_of(tmp_path, "a", box(20, 30, 6, 10)), answer(maps=maps))]
    summary = summarise_localisation(found)
    assert (summary["map"], summary["without_heat"]) == ("class map", 1)
    assert summary["all"]["heat_inside"]["value"] == 0
