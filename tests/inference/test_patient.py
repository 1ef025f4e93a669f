"""One answer per patient: the mean of logits, the stored rule, and no harm hidden by averaging."""

import numpy as np
import pytest
from scipy.special import softmax

import bcx
from bcx.errors import ConfigError
from bcx.inference.patient import Answer, combine
from bcx.tasks import get_task
from bcx.trust.rule import Decider, HarmRule

TASK = get_task("breast-ultrasound")
DECIDER = Decider({"rule": HarmRule(0.6, 0.3, 0.05, 0.9).to_dict()}, TASK)


def answer(name, decision, *probabilities, reason=None):
    each = dict(zip(TASK.classes, probabilities, strict=True))
    own = DECIDER.decide(np.array(probabilities))[1]
    return Answer(name, decision, own if reason is None else reason, each)


def test_the_combination_is_the_softmax_of_the_mean_logits():
    logits = np.random.default_rng(0).normal(0, 2, (3, 3))
    each = [answer("a", "refer", *row) for row in softmax(logits, axis=1)]
    expected = softmax(logits.mean(axis=0))
    assert list(combine("ann", each, DECIDER, TASK).probabilities.values()) == pytest.approx(expected, abs=1e-9)
    alone = combine("ann", each[:1], DECIDER, TASK).probabilities
    assert list(alone.values()) == pytest.approx(softmax(logits[0]), abs=1e-9)


def test_two_scans_that_agree_are_answered():
    one = combine("ann", [answer("a", "benign", 0.1, 0.8, 0.1), answer("b", "refer", 0.2, 0.7, 0.1)], DECIDER, TASK)
    assert (one.label, one.decision, one.reason, one.scans) == ("benign", "benign", "", ("a", "b"))


def test_one_scan_answered_malignant_is_not_averaged_away():
    scans = [answer("a", "benign", 0.0, 0.999, 0.001), answer("b", "malignant", 0.0, 0.4, 0.6)]
    one = combine("ann", scans, DECIDER, TASK)
    assert (one.label, one.decision) == ("benign", "refer")
    assert "b alone is answered malignant" in one.reason


@pytest.mark.parametrize("probabilities", [(0.97, 0.02, 0.01), (0.01, 0.98, 0.01), (0.0, 0.05, 0.95)])
@pytest.mark.parametrize(
    "doubt", ["The file is damaged.", "One place looks like a lesion.", "Unlike the training data."]
)
def test_a_doubt_that_no_probability_shows_is_not_averaged_away(probabilities, doubt):
    """Two scans, each "normal" but for a place that looks like a lesion, must not become a "normal" patient."""
    scans = [answer(name, "refer", *probabilities, reason=doubt) for name in "ab"]
    one = combine("ann", scans, DECIDER, TASK)
    assert (one.decision, one.reason) == ("refer", f"a: {doubt}")
    certain = answer("c", one.label, *probabilities)
    assert combine("ann", [certain, scans[0]], DECIDER, TASK).decision == "refer"
    assert combine("ann", [certain], DECIDER, TASK).decision == one.label


def test_pictures_that_are_no_scans_do_not_count():
    photo = answer("photo", "not a scan", 0.99, 0.005, 0.005)
    one = combine("ann", [photo, answer("a", "malignant", 0.05, 0.05, 0.9)], DECIDER, TASK)
    assert (one.decision, one.scans, one.left_out) == ("malignant", ("a",), ("photo",))
    assert one.confidence == pytest.approx(0.9)
    assert combine("ann", [photo], DECIDER, TASK).decision == "not a scan"
    with pytest.raises(ConfigError, match="no scans of 'ann'"):
        combine("ann", [], DECIDER, TASK)


def test_a_classifier_combines_its_own_answers(tiny_lesion_checkpoint, busi_folder):
    classifier = bcx.load(tiny_lesion_checkpoint)
    files = sorted(path for path in busi_folder.rglob("*.png") if "_mask" not in path.name)[:2]
    answers = [classifier.predict(file) for file in files]
    one = classifier.combine("ann", answers)
    assert sum(one.probabilities.values()) == pytest.approx(1)
    each = [Answer(a.name, a.decision, a.reason, a.probabilities) for a in answers]
    assert one == combine("ann", each, classifier._decider, TASK)
