"""The engine: one answer whoever asks and however many at once, and a stream that stays in order and in bounds."""

import dataclasses
import gc
import io
import itertools
import shutil
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bcx
from bcx.checkpoints.checkpoint import load_checkpoint, update_config
from bcx.errors import CheckpointError, ConfigError, ScanError
from bcx.inference.classifier import MOST_WORKERS, Classifier
from bcx.inference.prediction import Failure, Prediction
from bcx.networks.build import forward_maps
from bcx.simulate import simulate
from bcx.trust.claims import NOT_A_SCAN, REFER
from bcx.trust.decisions import ReferRule
from bcx.trust.input_check import fit_input_check
from bcx.trust.rule import HarmRule

SCANS = [simulate(("normal", "benign", "malignant")[seed % 3], seed, 110 + 3 * seed, 140).pixels for seed in range(32)]


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    """The tiny network with a head that has opinions: logits of about one unit around zero, different for each scan."""
    loaded = load_checkpoint(tiny_checkpoint)
    head = loaded.network.get_classifier()
    batch = torch.stack([loaded.preprocess.tensor(pixels) for pixels in SCANS])
    with torch.no_grad():
        head.weight.normal_(0, 1, generator=torch.Generator().manual_seed(0))
        head.weight /= loaded.network(batch).std(0)[:, None]
        head.bias -= loaded.network(batch).mean(0)
    return loaded


@pytest.fixture(scope="module")
def classifier(checkpoint):
    return Classifier(checkpoint)


@pytest.fixture(scope="module")
def alone(classifier):
    return [classifier.predict(pixels) for pixels in SCANS]


def logit_scale(answers) -> float:
    return max(1.0, max(float(np.abs(answer.grid_maps.mean((1, 2))).max()) for answer in answers))


def assert_same(found, expected):
    """To 1e-5 of their own scale: probabilities, the grid's maps, and the maps at the scan's size."""
    tolerance = 1e-5 * logit_scale(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.label == other.label
        assert one.probabilities == pytest.approx(other.probabilities, abs=tolerance)
        for found_maps, right in ((one.grid_maps, other.grid_maps), (one.maps, other.maps)):
            np.testing.assert_allclose(
                found_maps, right, rtol=0, atol=max(tolerance, 1e-5 * float(np.abs(right).max()))
            )


def test_the_answers_differ_from_each_other(alone):
    """Or the tests below would compare nothing."""
    assert np.ptp([answer.probabilities["benign"] for answer in alone]) > 0.05
    assert np.ptp([answer.grid_maps for answer in alone]) > 1


@pytest.mark.parametrize("size", [1, 5, 32])
def test_alone_or_in_a_batch_the_answer_is_the_same(classifier, alone, size):
    assert_same(list(classifier.stream(SCANS, batch_size=size)), alone)


def test_eight_threads_get_the_answers_that_one_gets(classifier, alone):
    barrier = threading.Barrier(8)

    def work(offset):
        barrier.wait()
        order = [(offset * 4 + i) % len(SCANS) for i in range(len(SCANS))]
        return dict(zip(order, [classifier.predict(SCANS[i]) for i in order], strict=True))

    with ThreadPoolExecutor(8) as pool:
        for answers in pool.map(work, range(8)):
            assert_same([answers[i] for i in range(len(SCANS))], alone)


def test_streams_side_by_side_do_not_mix(classifier, alone):
    with ThreadPoolExecutor(4) as pool:
        for answers in pool.map(lambda size: list(classifier.stream(SCANS, batch_size=size)), (3, 8, 16, 32)):
            assert_same(answers, alone)


def test_two_views_are_the_average_of_the_scan_and_its_mirror_image(checkpoint, classifier):
    for pixels in SCANS[:4]:
        both = Classifier(checkpoint, views=2).predict(pixels)
        straight, mirrored = classifier.predict(pixels), classifier.predict(pixels[:, ::-1])
        tolerance = 1e-5 * logit_scale([straight])
        for name in classifier.classes:
            expected = (straight.probabilities[name] + mirrored.probabilities[name]) / 2
            assert both.probabilities[name] == pytest.approx(expected, abs=tolerance)
        grid = (straight.grid_maps + mirrored.grid_maps[:, :, ::-1]) / 2
        np.testing.assert_allclose(both.grid_maps, grid, atol=tolerance)


def test_every_source_gives_the_same_answer(classifier, alone, tmp_path):
    path = tmp_path / "scan.png"
    Image.fromarray(SCANS[0]).save(path)
    sources = [path, str(path), path.read_bytes(), Image.open(path), SCANS[0], bcx.Scan.open(path)]
    answers = [classifier.predict(source) for source in sources]
    assert_same(answers, alone[:1] * len(sources))
    assert [answer.name for answer in answers[:2]] == ["scan.png", "scan.png"]
    assert classifier.predict(path, name="first visit").name == "first visit"


@pytest.mark.parametrize("name", ["checkpoint", "temperature", "views", "prevalence", "classes", "backend"])
def test_what_answers_depend_on_cannot_be_changed(classifier, name):
    before = getattr(classifier, name)
    with pytest.raises(AttributeError, match=f"'{name}' of a classifier"):
        setattr(classifier, name, None)
    assert getattr(classifier, name) is before


def test_an_answer_is_complete(classifier, checkpoint, alone):
    answer = alone[0]
    assert isinstance(answer, Prediction)
    assert list(answer.probabilities) == list(classifier.classes)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert answer.label == max(answer.probabilities, key=answer.probabilities.get)
    assert answer.confidence == answer.probabilities[answer.label]
    assert (answer.decision, answer.reason) == (answer.label, "")
    assert (answer.model, answer.weights_sha256) == (checkpoint.name, checkpoint.weights_sha256)
    assert 0 < answer.seconds < 60
    assert answer.maps.shape == (3, *SCANS[0].shape)
    assert answer.backend == "torch"


def test_probabilities_are_the_softmax_of_the_maps_means(checkpoint, alone):
    bias = checkpoint.network.get_classifier().bias.numpy()
    for answer in alone:
        scaled = (answer.grid_maps.mean((1, 2)) + bias).astype(float) / checkpoint.temperature
        expected = np.exp(scaled) / np.exp(scaled).sum()
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-5)


def test_answers_do_not_share_memory_with_their_batch(classifier):
    """One kept answer must not keep the other thirty-one."""
    answers = list(classifier.stream(SCANS[:8], batch_size=8))
    assert all(answer.grid_maps.base is None for answer in answers)


def test_the_callers_network_is_not_changed(checkpoint):
    before = {name: value.clone() for name, value in checkpoint.network.state_dict().items()}
    Classifier(checkpoint).predict(SCANS[0])
    after = checkpoint.network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


# The stream.


def png(pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("size", [1, 3, 16])
def test_a_failure_comes_in_its_place_and_the_rest_go_on(classifier, alone, tmp_path, size):
    letter = tmp_path / "letter.png"
    letter.write_text("Dear reader")
    cut = png(SCANS[1])[:900]
    sources = [SCANS[0], letter, SCANS[1], tmp_path / "missing.png", cut, b"", 17, None, SCANS[2]]
    answers = list(classifier.stream(sources, batch_size=size))
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, *[True] * 5, False]
    assert [answer.name for answer in answers[1:4:2]] == ["letter.png", "missing.png"]
    assert all(isinstance(answer.error, ScanError) for answer in answers if isinstance(answer, Failure))
    assert_same([answer for answer in answers if isinstance(answer, Prediction)], alone[:3])


def test_order_is_kept_when_some_scans_are_slow_to_read(classifier, monkeypatch):
    slow = bcx.Scan.open

    def open_slowly(source, name=None):
        time.sleep(0.05 if source.shape[0] % 2 else 0)
        return slow(source, name)

    monkeypatch.setattr(bcx.Scan, "open", open_slowly)
    heights = [answer.scan.height for answer in classifier.stream(SCANS[:12], batch_size=3)]
    assert heights == [pixels.shape[0] for pixels in SCANS[:12]]


def test_nothing_in_nothing_out(classifier):
    assert list(classifier.stream([])) == []
    assert next(classifier.stream(iter([b"no scan"]))).error.remedy


def stream_workers() -> int:
    return min(torch.get_num_threads(), MOST_WORKERS)


def test_streaming_leaves_the_threads_of_others_as_they_are(classifier):
    def threads_of_a_new_thread() -> int:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(torch.get_num_threads).result()

    before = torch.get_num_threads(), threads_of_a_new_thread()
    assert len(list(classifier.stream(SCANS))) == len(SCANS)
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == before


def test_an_endless_source_is_read_no_further_than_a_batch_per_core_and_one_more_ahead(classifier):
    most = 4 * (stream_workers() + 1)
    pulled = itertools.count()
    drawn = []

    def endless():
        for number in pulled:
            drawn.append(number)
            yield SCANS[number % len(SCANS)]

    stream = classifier.stream(endless(), batch_size=4)
    assert drawn == []  # nothing is read before the first answer is asked for
    for taken in range(1, 21):
        next(stream)
        assert len(drawn) <= taken + most
    stream.close()
    assert len(drawn) <= 20 + most


def test_scans_are_read_while_the_caller_is_busy(classifier, monkeypatch):
    opened = []
    real = bcx.Scan.open

    def counted(source, name=None):
        opened.append(threading.current_thread().name)
        return real(source, name)

    monkeypatch.setattr(bcx.Scan, "open", counted)
    stream = classifier.stream(SCANS, batch_size=4)
    next(stream)
    deadline = time.monotonic() + 10
    expected = min(len(SCANS), 4 * (stream_workers() + 1))  # a batch for each worker, and one more
    while len(opened) < expected and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(opened) == expected
    assert threading.current_thread().name not in opened
    stream.close()


def test_memory_is_flat_because_earlier_scans_are_let_go(classifier):
    alive: weakref.WeakSet = weakref.WeakSet()
    most = 0

    def watched():
        for number in range(150):
            scan = bcx.Scan.open(SCANS[number % len(SCANS)])
            alive.add(scan)
            yield scan
            del scan

    for answer in classifier.stream(watched(), batch_size=4):
        del answer
        most = max(most, len(alive))
    assert most <= 3 * 4
    gc.collect()
    assert len(alive) == 0


def test_a_stream_that_is_closed_early_leaves_no_thread_behind(classifier):
    before = set(threading.enumerate())
    stream = classifier.stream(itertools.cycle(SCANS), batch_size=2)
    next(stream)
    assert {thread.name.split("_")[0] for thread in set(threading.enumerate()) - before} == {"bcx-stream"}
    stream.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(StopIteration):
        next(stream)


def test_a_source_that_breaks_is_told_to_the_caller(classifier):
    def breaking():
        yield SCANS[0]
        raise RuntimeError("the disk was pulled out")

    with pytest.raises(RuntimeError, match="pulled out"):
        list(classifier.stream(breaking()))


@pytest.mark.parametrize("size", [0, -1])
def test_a_batch_of_nothing_is_refused_at_once(classifier, size):
    with pytest.raises(ConfigError, match="at least 1"):
        classifier.stream([], batch_size=size)


@pytest.mark.parametrize("views", [0, 3])
def test_other_numbers_of_views_are_refused(checkpoint, views):
    with pytest.raises(ConfigError, match="1 or 2"):
        Classifier(checkpoint, views=views)


# The decision.


def test_a_scan_that_the_network_is_unsure_about_is_referred_with_its_label(checkpoint, alone):
    below = float(np.median([answer.confidence for answer in alone])) + 1e-4
    rule = ReferRule(below=below).to_dict()
    answers = list(Classifier(dataclasses.replace(checkpoint, decisions={"refer": rule})).stream(SCANS))
    for answer, plain in zip(answers, alone, strict=True):
        assert answer.label == plain.label
        assert answer.decision == (REFER if plain.confidence < below else plain.label)
        assert (answer.reason == "") == (plain.confidence >= below)
    assert {answer.decision == REFER for answer in answers} == {False, True}


RULE = HarmRule(0.6, 0.3, 0.2, 0.5, prevalence=(0.1, 0.6, 0.3))


def test_a_class_is_said_only_where_the_stored_rule_calls_it_safe(checkpoint, alone):
    answers = list(Classifier(dataclasses.replace(checkpoint, decisions={"rule": RULE.to_dict()})).stream(SCANS))
    for answer, plain in zip(answers, alone, strict=True):
        normal, _, malignant = answer.probabilities.values()
        assert answer.label == plain.label
        safe = {"normal": normal >= 0.6, "benign": malignant <= 0.3, "malignant": True}[answer.label]
        assert answer.decision == (answer.label if safe else REFER)
        said = {"normal": "Normal is the most probable", "benign": "Benign is the most probable, but malignant"}
        assert answer.reason.startswith("" if safe else said[answer.label])
        assert bool(answer.reason) != safe
    assert {answer.decision == REFER for answer in answers} == {False, True}


def test_prevalence_and_operating_point_are_those_that_were_asked_for(checkpoint, alone):
    stored = dataclasses.replace(checkpoint, decisions={"rule": RULE.to_dict()})
    rare = Classifier(stored, prevalence={"malignant": 0.01}, operating_point="screening")
    for answer, plain in zip(rare.stream(SCANS), alone, strict=True):
        before, now = (np.array(list(each.probabilities.values())) for each in (plain, answer))
        odds = before * [0.99 / 0.7, 0.99 / 0.7, 0.01 / 0.3]
        assert now == pytest.approx(odds / odds.sum(), abs=1e-5 * logit_scale(alone))
        if abs(before[2] - 0.2) > 1e-4:
            assert (answer.decision == "malignant") == (before[2] >= 0.2)  # at the prevalence of the rule
    with pytest.raises(ConfigError, match="prevalence"):
        Classifier(checkpoint, prevalence={"malignant": 0.01})
    with pytest.raises(ConfigError, match="operating point called 'screening'"):
        Classifier(checkpoint, operating_point="screening")


# The lesion head.

FEW = SCANS[:8]


@pytest.fixture(scope="module")
def twice(tiny_lesion_checkpoint):
    return bcx.load(tiny_lesion_checkpoint)


@pytest.fixture(scope="module")
def seen(twice):
    return [twice.predict(pixels) for pixels in FEW]


def assert_same_looks(found, expected):
    """To 1e-5 of the scales of logits and of maps; the second stage at the same place."""
    scale = logit_scale(expected)
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert (one.label, one.second_stage, one.lesion_box) == (other.label, other.second_stage, other.lesion_box)
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5 * scale)
        np.testing.assert_allclose(one.lesion, other.lesion, atol=1e-5 * scale)
        np.testing.assert_allclose(one.maps, other.maps, atol=1e-5 * np.abs(other.maps).max())


def test_with_two_looks_too_the_answers_differ_from_each_other(seen):
    assert np.ptp([answer.probabilities["benign"] for answer in seen]) > 0.05
    assert len({answer.second_stage for answer in seen}) > 3
    assert {answer.lesion_box is None for answer in seen} == {False, True}


@pytest.mark.parametrize("size", [1, 3, 8])
def test_with_two_looks_alone_or_in_a_batch_the_answer_is_the_same(twice, seen, size):
    assert_same_looks(list(twice.stream(FEW, batch_size=size)), seen)


def test_with_two_looks_an_answer_says_where_it_looked_and_what_it_saw(twice, seen):
    for answer, pixels in zip(seen, FEW, strict=True):
        height, width = pixels.shape
        assert (answer.lesion.shape, answer.lesion.dtype) == ((height, width), np.float32)
        assert 0 <= answer.lesion.min() <= answer.lesion.max() <= 1
        x, y, side = answer.second_stage
        assert side <= height  # these boxes fit, so they lie inside
        assert 0 <= x <= width - side
        assert 0 <= y <= height - side
        assert answer.maps.shape == (3, height, width)
        scaled = answer.reading.logits.astype(float) / twice.temperature
        expected = np.exp(scaled) / np.exp(scaled).sum()
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-5)


def test_two_views_of_two_looks_are_averaged_and_the_box_is_the_straight_views(tiny_lesion_checkpoint, twice, seen):
    both = bcx.load(tiny_lesion_checkpoint, views=2)
    for pixels, straight in zip(FEW[:4], seen, strict=False):
        answer, mirrored = both.predict(pixels), twice.predict(pixels[:, ::-1])
        tolerance = 1e-5 * logit_scale([straight])
        for name in twice.classes:
            expected = (straight.probabilities[name] + mirrored.probabilities[name]) / 2
            assert answer.probabilities[name] == pytest.approx(expected, abs=tolerance)
        grid = (straight.grid_maps + mirrored.grid_maps[:, :, ::-1]) / 2
        np.testing.assert_allclose(answer.grid_maps, grid, atol=1e-5 * np.abs(grid).max())
        lesion = (straight.reading.lesion + mirrored.reading.lesion[:, ::-1]) / 2
        np.testing.assert_allclose(answer.reading.lesion, lesion, atol=tolerance)
        assert answer.second_stage == straight.second_stage


# The input check.


@pytest.fixture
def gated(tiny_checkpoint, tmp_path):
    """The tiny checkpoint with an input check fitted on the simulated scans."""
    folder = Path(shutil.copytree(tiny_checkpoint, tmp_path / "gated"))
    loaded = load_checkpoint(folder)
    with torch.inference_mode():
        batch = torch.stack([loaded.preprocess.tensor(pixels) for pixels in SCANS])
        stages = forward_maps(loaded.network, batch).stages.numpy()
    update_config(folder, gate=fit_input_check(stages, np.arange(len(SCANS)) % 4).save(folder))
    return folder


def test_what_the_gate_stops_keeps_its_probabilities_behind_another_decision(gated):
    classifier = bcx.load(gated)
    blank = classifier.predict(np.full((200, 200), 30, np.uint8))
    assert blank.decision == NOT_A_SCAN
    assert blank.reason
    assert sum(blank.probabilities.values()) == pytest.approx(1)
    assert blank.label in classifier.classes
    scan = classifier.predict(SCANS[0])
    assert (scan.decision, scan.reason) == (scan.label, "")


def test_a_checkpoint_whose_gate_is_lost_is_refused(gated):
    (gated / "gate.safetensors").unlink()
    with pytest.raises(CheckpointError, match="input check"):
        bcx.load(gated)


def test_a_damaged_picture_is_never_a_confident_answer(classifier):
    buffer = io.BytesIO()
    Image.fromarray(simulate("malignant", seed=3).pixels).save(buffer, "JPEG")
    data = buffer.getvalue()
    whole = classifier.predict(data)
    assert whole.decision == whole.label
    answer = classifier.predict(data[: 4 * len(data) // 5] + b"\xff\xd9")
    assert answer.decision == REFER
    assert "ends early" in answer.reason
    assert any("damaged" in note for note in answer.scan.notes)


@pytest.mark.parametrize("shape", [(16, 20_000), (20_000, 16), (16, 2_500_000), (100, 700)])
def test_a_long_and_narrow_picture_is_judged_by_its_shape(twice, shape):
    answer = twice.predict(np.zeros(shape, np.uint8))
    assert answer.decision == NOT_A_SCAN
    assert f"({shape[1]:,} x {shape[0]:,} pixels)" in answer.reason
    assert max(answer.scan.pixels.shape) <= 6 * min(shape)
    assert answer.maps.shape[1:] == answer.scan.pixels.shape


def test_an_answer_is_turned_to_another_prevalence_and_back_without_the_network(checkpoint):
    """As if that prevalence had been asked for at first, from whichever prevalence it comes."""
    stored = dataclasses.replace(checkpoint, decisions={"rule": RULE.to_dict()})
    usual, rare = Classifier(stored), Classifier(stored, prevalence={"malignant": 0.01})
    for scan in SCANS:
        one, other = usual.predict(scan), rare.predict(scan)
        for found, wanted, shares in ((one, other, {"malignant": 0.01}), (other, one, None)):
            turned = usual.at_prevalence(found, shares)
            assert turned.probabilities == pytest.approx(wanted.probabilities, abs=1e-9)
            assert (turned.label, turned.decision, turned.reason) == (wanted.label, wanted.decision, wanted.reason)
            assert turned.notes == wanted.notes
        assert "malignant 1 %" in other.notes[-1]
    with pytest.raises(ConfigError, match="prevalence"):
        usual.at_prevalence(one, {"malignant": 2.0})
