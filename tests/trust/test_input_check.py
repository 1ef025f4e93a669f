"""The input check: its distance is scikit-learn's, scans pass it, other pictures do not."""

import json

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

import bcx
from bcx.checkpoints.config import INPUT_CHECK_FILE
from bcx.errors import CheckpointError, DataError
from bcx.evaluate import non_scans
from bcx.imaging.scan import Scan
from bcx.simulate import simulate
from bcx.trust.input_check import ALLOWANCE, KEEP, InputCheck, fit_input_check, left_out_distances


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return (rng.normal(0.3, 0.1, (120, 6)) @ rng.normal(0, 1, (6, 10))).astype(np.float32)


FOLDS = np.arange(120) % 5


def _standard(rows, like):
    def compress(x):
        return np.sign(x) * np.log1p(5 * np.abs(x))

    reference = compress(like)
    return (compress(rows) - reference.mean(0)) / (reference.std(0) + 1e-6)


def test_the_distance_is_scikit_learns_mahalanobis_distance(rows):
    input_check = fit_input_check(rows, FOLDS)
    fitted = LedoitWolf().fit(_standard(rows, rows))
    expected = np.sqrt(fitted.mahalanobis(_standard(rows, rows))) / input_check.unit
    assert np.allclose(input_check.distances(rows), expected, rtol=1e-3)


def test_the_unit_is_the_quantile_of_scans_that_the_gate_was_not_fitted_on(rows):
    found = left_out_distances(rows, FOLDS)
    for fold in range(5):
        train, held = rows[fold != FOLDS], rows[fold == FOLDS]
        expected = np.sqrt(LedoitWolf().fit(_standard(train, train)).mahalanobis(_standard(held, train)))
        assert np.allclose(found[fold == FOLDS], expected, rtol=1e-3)
    assert fit_input_check(rows, FOLDS).unit == pytest.approx(np.quantile(found, KEEP))


def test_alone_or_in_a_batch_the_same_bits(rows):
    input_check = fit_input_check(rows, FOLDS)
    assert np.array_equal(input_check.distances(rows), [input_check.distances(row[None])[0] for row in rows])


def test_saved_and_loaded_it_judges_the_same(rows, tmp_path):
    input_check = fit_input_check(rows, FOLDS)
    block = json.loads(json.dumps(input_check.save(tmp_path)))
    again = InputCheck.load(tmp_path, block)
    assert np.array_equal(again.distances(rows), input_check.distances(rows))
    assert [file.name for file in tmp_path.iterdir()] == [INPUT_CHECK_FILE]
    (tmp_path / "plain.txt").touch()
    assert (tmp_path / INPUT_CHECK_FILE).stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("damage", ["missing", "truncated", "other kind", "no unit", "other network"])
def test_a_damaged_gate_is_a_checkpoint_error(rows, tmp_path, damage):
    block = fit_input_check(rows, FOLDS).save(tmp_path)
    file = tmp_path / INPUT_CHECK_FILE
    if damage == "missing":
        file.unlink()
    elif damage == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "other kind":
        block["kind"] = "nearest neighbours"
    elif damage == "no unit":
        del block["unit"]
    else:
        from safetensors.numpy import load_file, save_file

        arrays = load_file(file)
        save_file({**arrays, "mean": arrays["mean"][:-1]}, file)
    with pytest.raises(CheckpointError, match="gate"):
        InputCheck.load(tmp_path, block)


def test_what_does_not_fit_is_said(rows):
    input_check = fit_input_check(rows, FOLDS)
    with pytest.raises(DataError, match="9 numbers"):
        input_check.distances(rows[:, :9])
    with pytest.raises(DataError, match="finite"):
        input_check.distances(np.full((1, 10), np.nan, np.float32))
    with pytest.raises(DataError, match="1 folds"):
        fit_input_check(rows, np.zeros(120, int))


def test_verdicts(rows):
    input_check = fit_input_check(rows, FOLDS)
    scan = Scan.open(simulate("normal", 1, height=120, width=140).pixels)
    usual = input_check.judge(scan, np.median(rows, axis=0))
    assert (usual.is_scan, usual.reason, usual.flags) == (True, "", ())
    direction = rows[0] - rows.mean(0)
    strides = rows.mean(0) + direction * np.linspace(0, 60, 400, dtype=np.float32)[:, None]
    distances = input_check.distances(strides)
    unusual = input_check.judge(scan, strides[np.argmax(distances > 1.2)])
    assert unusual.is_scan
    assert "differs" in unusual.flags[0]
    far = input_check.judge(scan, strides[np.argmax(distances > ALLOWANCE)])
    assert not far.is_scan
    assert "does not look like" in far.reason


@pytest.fixture(scope="module")
def shipped():
    torch.set_num_threads(1)
    return bcx.load()


@pytest.mark.slow
def test_the_shipped_gate_passes_simulated_scans(shipped):
    scans = [simulate(label, seed).pixels for label in ("normal", "benign", "malignant") for seed in (21, 22)]
    assert [answer.decision != "not a scan" for answer in shipped.stream(scans)] == [True] * 6


@pytest.mark.slow
def test_the_shipped_gate_stops_what_is_no_scan(shipped):
    pictures = list(non_scans.documents())[::4] + list(non_scans.noise())[::3] + list(non_scans.fresh())[::3]
    answers = list(shipped.stream([picture.pixels for picture in pictures]))
    stopped = [answer.decision == "not a scan" for answer in answers]
    assert np.mean(stopped) >= 0.9
    assert all(answer.reason for answer, stop in zip(answers, stopped, strict=True) if stop)
    # What was stopped keeps its probabilities and its label.
    assert all(sum(answer.probabilities.values()) == pytest.approx(1) for answer in answers)
    assert all(answer.label in shipped.classes for answer in answers)
