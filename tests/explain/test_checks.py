"""Checks: a reader whose answer is known exactly, maps that are right and wrong, and networks made random."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import bcx
from bcx.explain import checks as module
from bcx.explain.checks import Checks, check, likeness, verdict
from bcx.explain.methods import Explanation, explain
from bcx.inference.prediction import Prediction
from bcx.simulate import simulate

SHAPE = (96, 128)
BRIGHT = np.zeros(SHAPE, bool)
BRIGHT[30:50, 40:70] = True
PIXELS = np.where(BRIGHT, 200, 40).astype(np.uint8)


class BrightnessReader:
    """P(malignant) is the share of the bright patch that is still there."""

    def predict(self, pixels: np.ndarray) -> Prediction:
        share = float(np.clip((pixels[BRIGHT].mean() - 40) / 160, 0, 1))
        probabilities = {"benign": 1 - share, "malignant": share}
        reading = SimpleNamespace(lesion=None, second=None)
        nothing = ("", "malignant", share, probabilities, "malignant", "", [], "", "", 0.0, "torch")
        return Prediction(
            *nothing, scan=SimpleNamespace(pixels=pixels, height=96, width=128), reading=reading, preprocess=None
        )

    def stream(self, scans):
        return map(self.predict, scans)


def explained(plane: np.ndarray) -> Explanation:
    prediction = BrightnessReader().predict(PIXELS)
    return Explanation("exact", "malignant", plane.astype(np.float32), "logit", "", 0.0, "", prediction)


@pytest.fixture
def alone(monkeypatch):
    """Without the tests that need a network."""
    monkeypatch.setattr(module, "_stability", lambda *_: {"mirror": 1.0, "noise": 1.0, "zoom": 1.0})
    monkeypatch.setattr(module, "_sanity", lambda *_: {"random_head": 0.0, "random_network": 0.0})


def test_the_map_of_the_reason_passes_every_test(alone):
    found = check(BrightnessReader(), explained(BRIGHT * 1.0))
    assert found.probability == 1
    assert found.drop_here == pytest.approx(1, abs=0.02)
    assert found.drop_elsewhere == 0
    assert found.deletion < found.deletion_random
    assert found.insertion > found.insertion_random
    assert found.road > 0.3
    assert found.verdict.startswith("This map belongs to the answer: hiding its hottest region changes the probability")
    assert "by -100 points, as much elsewhere by 0." in found.verdict
    assert check(BrightnessReader(), explained(BRIGHT * 1.0)) == found


def test_a_map_of_something_else_passes_none(alone):
    elsewhere = np.zeros(SHAPE)
    elsewhere[70:90, 5:35] = 1
    found = check(BrightnessReader(), explained(elsewhere))
    assert found.drop_here == 0
    assert found.insertion < 1
    assert found.road <= 0.05
    assert not found.verdict.startswith("This map belongs")


def test_an_empty_map_is_called_empty(alone):
    found = check(BrightnessReader(), explained(-1.0 * BRIGHT))
    assert (found.drop_here, found.lesion_share) == (None, None)
    assert found.verdict == "This map is empty: nothing in it speaks for malignant."


def test_colour_scans_are_checked_too(alone):
    colour = np.repeat(PIXELS[..., None], 3, axis=2)
    prediction = BrightnessReader().predict(colour)
    found = check(BrightnessReader(), replace(explained(BRIGHT * 1.0), prediction=prediction))
    assert found.road > 0.3


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, "This map belongs to the answer"),
        ({"random_network": 0.95}, "This map would look much the same with a random network"),
        ({"road": -0.1}, "The tests disagree"),
        ({"road": -0.1, "drop_here": 0.0}, "This map does not show what the answer rests on"),
        ({"zoom": 0.2}, "It is not stable"),
    ],
)
def test_the_verdict_follows_the_limits(changed, expected):
    good = Checks(0.9, 0.5, 0.0, 0.3, 0.6, 0.8, 0.5, 0.2, 0.9, 0.9, 0.9, 0.1, 0.1, 0.8)
    assert expected in verdict(replace(good, **changed), explained(BRIGHT * 1.0))


def test_likeness_is_the_rank_correlation_of_coarse_maps():
    slope = np.add.outer(np.arange(64.0), np.arange(96.0)).astype(np.float32)
    assert likeness(slope, slope**3) == pytest.approx(1)
    assert likeness(slope, -slope) == pytest.approx(-1)
    assert likeness(slope, np.zeros_like(slope)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mobilenetv2-busi", "mobilenetv2-hospitals"])
def test_sanity_asks_other_networks_and_leaves_the_classifiers_own(model):
    classifier = bcx.load(model)
    found = explain(classifier, simulate("malignant", 3, 150, 190).pixels, "malignant")
    network = classifier.checkpoint.network
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    sane = module._sanity(classifier, found)
    assert max(sane.values()) < 0.6
    assert all(torch.equal(weight, before[name]) for name, weight in network.state_dict().items())
    # Read by the network itself, the maps are the answer's own.
    again = module._read_by(network, found.prediction)
    np.testing.assert_allclose(again.maps, found.prediction.maps, rtol=0, atol=1e-4 * np.abs(found.map).max())
    heads, rest = module._from_the_top(network)
    assert {id(each) for each in heads} | {id(each) for each in rest} == {
        id(each) for each in network.parameters() if each.ndim > 1
    }
    assert heads
    assert len(rest) > 40


@pytest.mark.slow
def test_all_of_it_on_a_small_network(tiny_lesion_checkpoint):
    classifier = bcx.load(tiny_lesion_checkpoint)
    found = check(classifier, explain(classifier, simulate("malignant", 3, 150, 190).pixels, None, "grad-cam"))
    numbers = found.to_dict()
    assert all(np.isfinite(value) for value in numbers.values() if isinstance(value, float))
    assert numbers["verdict"]
    assert set(numbers["limits"]) == {"like_random", "stable", "more_than_elsewhere"}
