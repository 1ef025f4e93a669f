"""Temperature and vector scaling against torch's LBFGS, a grid, logistic regression and closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import softmax

from bcx.errors import DataError
from bcx.trust.calibration import (
    FARTHEST,
    HIGHEST,
    LOWEST,
    apply_temperature,
    apply_vector,
    fit_temperature,
    fit_vector,
)

FINITE = st.floats(-1e4, 1e4)


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    probabilities = softmax(np.asarray(logits, np.float64) / temperature, axis=1)
    return float(-np.log(np.maximum(probabilities[np.arange(len(labels)), labels], 1e-300)).mean())


def calibrated(count: int = 4000, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is the very distribution that the labels are drawn from."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, classes)) * 1.5
    chosen = (rng.gumbel(size=logits.shape) + logits).argmax(axis=1)
    return logits, chosen


@pytest.mark.parametrize("factor", [0.4, 1.0, 1.7, 5.0])
def test_recovers_the_factor_that_the_logits_were_multiplied_by(factor):
    logits, labels = calibrated(20_000)
    assert fit_temperature((logits * factor).astype(np.float32), labels) == pytest.approx(factor, rel=0.05)


def test_scaling_the_logits_scales_the_temperature():
    logits, labels = calibrated(300, seed=3)
    once = fit_temperature(logits, labels)
    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5 * once, rel=1e-4)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_agrees_with_torch_lbfgs_and_with_a_grid(seed):
    torch = pytest.importorskip("torch")
    logits, labels = calibrated(400, seed=seed)
    logits = logits * 2.0
    log_temperature = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def step():
        optimiser.zero_grad()
        scaled = torch.from_numpy(logits) / log_temperature.exp()
        loss = torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels))
        loss.backward()
        return loss

    optimiser.step(step)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(log_temperature.exp().item(), rel=1e-4)
    grid = np.geomspace(LOWEST, HIGHEST, 400)
    assert nll(logits, labels, found) <= min(nll(logits, labels, value) for value in grid) + 1e-12


@given(
    logits=arrays(np.float64, (12, 3), elements=st.floats(-30, 30)),
    labels=arrays(np.int64, 12, elements=st.integers(0, 2)),
)
@settings(max_examples=60, deadline=None)
def test_never_worse_than_the_network_as_it_is(logits, labels):
    found = fit_temperature(logits, labels)
    assert LOWEST <= found <= HIGHEST
    assert nll(logits, labels, found) <= nll(logits, labels, 1.0) + 1e-9


def test_extremes_stop_at_the_bounds():
    logits = np.array([[0.5, 0.0], [0.0, 0.5]])
    assert fit_temperature(logits, np.array([0, 1])) == pytest.approx(LOWEST, rel=1e-3)
    assert fit_temperature(logits, np.array([1, 0])) == pytest.approx(HIGHEST, rel=1e-3)


@given(logits=arrays(np.float64, (5, 4), elements=FINITE), temperature=st.floats(LOWEST, HIGHEST), shift=FINITE)
@settings(max_examples=100, deadline=None)
def test_probabilities_are_a_shift_invariant_softmax(logits, temperature, shift):
    found = apply_temperature(logits, temperature)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, softmax(logits / temperature, axis=1), atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, atol=1e-12)
    np.testing.assert_allclose(apply_temperature(logits + shift, temperature), found, atol=1e-7)


def test_logits_that_no_temperature_improves_are_left_as_they_are():
    assert fit_temperature(np.array([[1e6, 0.0], [0.0, 1e6]]), np.array([0, 1])) == 1.0


def test_huge_logits_do_not_overflow():
    with np.errstate(all="raise", under="ignore"):
        assert apply_temperature(np.array([1e30, 0.0, -1e30])).tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(DataError, match="temperature"):
        apply_temperature(np.zeros((1, 2)), temperature)


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((3, 2)), np.zeros(2, int)),
        (np.zeros(3), np.zeros(3, int)),
        (np.zeros((0, 2)), np.zeros(0, int)),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.zeros((2, 2)), np.array([0, -1])),
        (np.zeros((2, 2)), np.array([0.0, 1.0])),
        (np.array([[0.0, np.nan]]), np.array([0])),
    ],
)
def test_what_does_not_fit_is_refused(logits, labels):
    with pytest.raises(DataError):
        fit_temperature(logits, labels)
    with pytest.raises(DataError):
        fit_vector(logits, labels)


def vector_nll(logits: np.ndarray, labels: np.ndarray, scaling: tuple[np.ndarray, np.ndarray]) -> float:
    return float(-np.log(apply_vector(logits, *scaling)[np.arange(len(labels)), labels]).mean())


def test_vector_scaling_undoes_a_scale_and_a_shift_per_class():
    logits, labels = calibrated(20_000)
    scale, shift = np.array([0.5, 1.0, 2.5]), np.array([0.3, -1.0, 0.7])
    found = fit_vector((logits - shift) / scale, labels)
    np.testing.assert_allclose(found[0], scale, rtol=0.08)
    np.testing.assert_allclose(found[1], shift, atol=0.08)
    np.testing.assert_allclose(apply_vector((logits - shift) / scale, *found), softmax(logits, axis=1), atol=0.05)


def test_vector_scaling_of_two_classes_is_logistic_regression():
    from sklearn.linear_model import LogisticRegression

    logits, labels = calibrated(500, classes=2, seed=1)
    logits = 3 * logits + 1
    # softmax(a z + b) of two classes is the logistic function of a1 z1 - a0 z0 + (b1 - b0)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logits, labels)
    found = fit_vector(logits, labels)
    np.testing.assert_allclose([-found[0][0], found[0][1]], theirs.coef_[0], rtol=1e-3)
    assert found[1][1] - found[1][0] == pytest.approx(theirs.intercept_[0], rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("seed", [1, 2])
def test_vector_scaling_agrees_with_torch_lbfgs(seed):
    torch = pytest.importorskip("torch")
    logits, labels = calibrated(400, seed=seed)
    logits = logits * np.array([1.0, 2.0, 3.0]) + np.array([0.0, 1.0, 0.0])
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    shift = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([scale, shift], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-12)

    def step():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(scale * torch.from_numpy(logits) + shift, torch.from_numpy(labels))
        loss.backward()
        return loss

    optimiser.step(step)
    found = fit_vector(logits, labels)
    np.testing.assert_allclose(found[0], scale.detach().numpy(), rtol=1e-3)
    np.testing.assert_allclose(found[1], (shift - shift.mean()).detach().numpy(), atol=1e-3)


@given(
    logits=arrays(np.float64, (12, 3), elements=st.floats(-30, 30)),
    labels=arrays(np.int64, 12, elements=st.integers(0, 2)),
)
@settings(max_examples=30, deadline=None)
def test_vector_scaling_is_never_worse_than_the_best_temperature(logits, labels):
    found = fit_vector(logits, labels)
    assert vector_nll(logits, labels, found) <= nll(logits, labels, fit_temperature(logits, labels)) + 1e-9
    assert all(1 / HIGHEST - 1e-9 <= factor <= 1 / LOWEST + 1e-9 for factor in found[0])
    assert max(found[1]) - min(found[1]) <= 2 * FARTHEST + 1e-9
    assert sum(found[1]) == pytest.approx(0, abs=1e-9)


def test_equal_scales_without_shift_are_a_temperature():
    logits, _ = calibrated(20)
    np.testing.assert_allclose(
        apply_vector(logits, np.full(3, 0.5), np.zeros(3)), apply_temperature(logits, 2.0), atol=1e-12
    )
