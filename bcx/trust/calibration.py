"""Temperature and vector scaling: a few numbers that make probabilities mean what they say.

C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks", ICML 2017.
"""

from collections.abc import Sequence

import numpy as np

from bcx.errors import DataError

LOWEST, HIGHEST = 0.05, 20.0  # bounds of the search
FARTHEST = 20.0  # bound of a class's shift in vector scaling


def apply_temperature(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the softmax of `logits / temperature`, float64 [..., C], without overflow.

    `DataError`: the temperature is not a positive number, or a logit is not finite.
    """
    return np.exp(_log_probabilities(_finite(logits), temperature))


def fit_temperature(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Return the temperature that minimises the negative log-likelihood of labels, int [N] (Guo et al. 2017).

    The logits, [N, C], are of scans that the network was not trained on. The likelihood is convex in 1/T, so it has one
    minimum in log T, which a bounded search (`LOWEST` to `HIGHEST`) finds. The result never scores worse than 1.
    `DataError`: as `check_labelled`, or logits that are not finite.
    """
    from scipy.optimize import minimize_scalar

    logits, labels = check_labelled(_finite(logits), labels)
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        right = _log_probabilities(logits, float(np.exp(log_temperature)))[rows, labels]
        return -float(np.average(right, weights=weights))

    found = minimize_scalar(loss, bounds=(np.log(LOWEST), np.log(HIGHEST)), method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x)) if found.fun < loss(0.0) else 1.0


def apply_vector(logits: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return the softmax of `scale * logits + shift`, float64 [..., C], with what `fit_vector` gives."""
    return np.exp(_log_probabilities(scale * _finite(logits) + shift, 1.0))


def fit_vector(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a factor and a shift per class, float64 [C] each, that minimise the negative log-likelihood of `labels`.

    The search is L-BFGS from the best temperature, than which it never scores worse. Shifts sum to 0. Errors as
    `fit_temperature`.
    """
    from scipy.optimize import minimize

    logits, labels = check_labelled(_finite(logits), labels)
    count, classes = logits.shape
    truth = np.eye(classes)[labels]
    start = np.concatenate([np.full(classes, 1 / fit_temperature(logits, labels)), np.zeros(classes)])
    # L-BFGS wants coordinates of one size, and logits may be of any: search for scale * size instead.
    size = np.sqrt((logits**2).mean()) or 1.0

    def loss(found: np.ndarray) -> tuple[float, np.ndarray]:
        log_p = _log_probabilities(found[:classes] / size * logits + found[classes:], 1.0)
        excess = (np.exp(log_p) - truth) / count
        slopes = np.concatenate([(excess * logits).sum(axis=0) / size, excess.sum(axis=0)])
        return -float((truth * log_p).sum() / count), slopes

    start[:classes] *= size
    bounds = [(size / HIGHEST, size / LOWEST)] * classes + [(-FARTHEST, FARTHEST)] * classes
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 1000, "ftol": 1e-14})
    best = found.x if found.fun < loss(start)[0] else start
    return best[:classes] / size, best[classes:] - best[classes:].mean()


def check_lengths(**columns: Sequence | np.ndarray) -> None:
    """Raise a `DataError` unless all have one entry per scan, of at least one scan."""
    shapes = {name: np.shape(column) for name, column in columns.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 or shape == (0,) for shape in shapes.values()):
        raise DataError(
            f"The shapes of {', '.join(f'{name} {shape}' for name, shape in shapes.items())} do not go together.",
            expected="one of each per scan, of at least one scan",
            remedy="Give each scan one entry in each of them.",
        )


def check_labelled(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return rows as float64 [N, C] and labels as int64 [N].

    `DataError`: shapes that do not fit, no rows, or labels that are not whole numbers from 0 to C-1.
    """
    rows, labels = np.asarray(rows, np.float64), np.asarray(labels)
    if rows.ndim != 2 or labels.shape != rows.shape[:1] or len(labels) == 0:
        raise DataError(
            f"Rows of shape {rows.shape} came with labels of shape {labels.shape}.",
            expected="rows [scans, classes] and labels [scans], of at least one scan",
            remedy="Give one label per row.",
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= rows.shape[1]:
        raise DataError(
            f"The labels are of type {labels.dtype} and run from {labels.min()} to {labels.max()}.",
            expected=f"whole numbers from 0 to {rows.shape[1] - 1}",
            remedy="Give each label as the position of its class.",
        )
    return rows, labels.astype(np.int64)


def _log_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    if not (np.isfinite(temperature) and temperature > 0):
        raise DataError(
            f"The temperature is {temperature}.",
            expected="a positive number (1 leaves the probabilities as they are)",
            remedy="Fit it again with fit_temperature.",
        )
    scaled = (logits - logits.max(axis=-1, keepdims=True)) / temperature
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


def _finite(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, dtype=np.float64)
    if not np.isfinite(logits).all():
        raise DataError(
            "Some logits are infinite or not a number.",
            expected="finite logits",
            remedy="Look for a training run that diverged.",
        )
    return logits
