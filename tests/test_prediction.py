"""What an answer carries: maps at the scan's size when they are asked for, overlays, the documented JSON."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

import bcx
from bcx.errors import ConfigError, DamagedScan
from bcx.prediction import Failure, Prediction
from bcx.preprocess import Preprocess

LABELS = ("normal", "benign", "malignant")


def make(pixels: np.ndarray, grid: np.ndarray, **changes) -> Prediction:
    values = {
        "name": "scan.png",
        "label": "benign",
        "confidence": 0.5,
        "probabilities": dict(zip(LABELS, (0.2, 0.5, 0.3), strict=True)),
        "decision": "benign",
        "reason": "",
        "flags": ["colour marks"],
        "model": "tiny",
        "weights_sha256": "0" * 64,
        "seconds": 0.0123456,
        "backend": "torch",
        "scan": bcx.Scan.open(pixels),
        "grid_maps": grid,
        "preprocess": Preprocess(),
    }
    return Prediction(**{**values, **changes})


@pytest.fixture
def prediction():
    rng = np.random.default_rng(0)
    return make(rng.integers(0, 256, (90, 120), np.uint8), rng.normal(0, 3, (3, 7, 7)).astype(np.float32))


def test_maps_have_the_scans_size_and_are_made_when_they_are_read(prediction, monkeypatch):
    asked = []
    enlarge = Preprocess.enlarge

    def counted(self, grid, shape):
        asked.append(shape)
        return enlarge(self, grid, shape)

    monkeypatch.setattr(Preprocess, "enlarge", counted)
    assert asked == []
    maps = prediction.maps
    assert (maps.shape, maps.dtype) == ((3, 90, 120), np.float32)
    assert prediction.maps is maps
    assert asked == [(90, 120)]


def test_maps_stay_in_logit_units(prediction):
    assert prediction.maps.min() >= prediction.grid_maps.min()
    assert prediction.maps.max() <= prediction.grid_maps.max()
    # Enlarging spreads a map and does not change what it says on the whole: the borders alone weigh a little more.
    np.testing.assert_allclose(prediction.maps.mean((1, 2)), prediction.grid_maps.mean((1, 2)), atol=0.1)


def test_each_classs_overlay_shows_its_own_map(prediction):
    pixels = {name: np.asarray(prediction.overlay(name, 0.8)).astype(int) for name in LABELS}
    for name, plane in zip(LABELS, prediction.maps, strict=True):
        redder = pixels[name][..., 0] - pixels[name][..., 2]  # orange is evidence for, blue against
        clear = np.abs(plane) > 0.5
        assert np.array_equal(redder[clear] > 0, plane[clear] > 0)
    assert np.array_equal(np.asarray(prediction.overlay(opacity=0.8)), pixels["benign"])


def test_an_overlay_without_opacity_is_the_scan(prediction):
    overlay = prediction.overlay("malignant", 0)
    assert (overlay.mode, overlay.size) == ("RGB", (120, 90))
    assert np.array_equal(np.asarray(overlay), np.stack([prediction.scan.pixels] * 3, axis=2))


def test_an_overlay_does_not_keep_all_maps_in_memory(prediction):
    prediction.overlay("normal")
    assert "maps" not in vars(prediction)


def test_an_unknown_class_is_told_with_those_that_exist(prediction):
    with pytest.raises(ConfigError, match="normal, benign, malignant"):
        prediction.overlay("cat")


def test_one_symmetric_limit_holds_every_map(prediction):
    assert prediction.map_limit >= np.abs(prediction.grid_maps).max()
    turned = dataclasses.replace(prediction, grid_maps=-prediction.grid_maps)
    assert turned.map_limit == prediction.map_limit


def test_a_map_without_evidence_does_not_glow():
    pixels = np.full((60, 60), 100, np.uint8)
    faint = make(pixels, np.full((3, 7, 7), 0.004, np.float32))
    assert np.abs(np.asarray(faint.overlay("benign", 1.0)).astype(int) - 100).max() <= 5


def test_the_json_is_the_documented_one(prediction):
    answer = json.loads(json.dumps(prediction.to_dict()))
    assert list(answer) == [
        *("name", "label", "confidence", "probabilities", "decision", "reason", "flags", "width", "height", "notes"),
        *("model", "weights_sha256", "backend", "seconds"),
    ]
    assert list(answer["probabilities"]) == list(LABELS)
    assert (answer["width"], answer["height"], answer["flags"]) == (120, 90, ["colour marks"])


def test_an_answer_cannot_be_changed(prediction):
    with pytest.raises(dataclasses.FrozenInstanceError):
        prediction.label = "normal"
    assert prediction.lesion is None


def test_a_failure_tells_what_to_do_in_json():
    failure = Failure("a.png", DamagedScan("'a.png' is cut short.", expected="a whole file", remedy="Copy it again."))
    assert json.loads(json.dumps(failure.to_dict())) == {
        "name": "a.png",
        "error": {
            "kind": "DamagedScan",
            "found": "'a.png' is cut short.",
            "expected": "a whole file",
            "remedy": "Copy it again.",
        },
    }
