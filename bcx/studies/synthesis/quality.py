"""What generated pictures are worth, by machine: distances between sets of features, and copies of training scans.

*FID* is the Fréchet distance between two Gaussians fitted to features (Heusel et al. 2017); it grows as pictures get
fewer, so it is given at equal numbers only. *KID* is the squared maximum mean discrepancy under a cubic kernel, in its
unbiased form (Bińkowski et al. 2018): nought on average where both sets come from one source, however few they are, so
single values may lie below nought. The features are not those of Inception, so neither compares with other papers:
each stands beside the same figure of real scans against real scans.

>>> import numpy as np
>>> a = np.random.default_rng(0).normal(size=(50, 4))
>>> round(frechet_distance(a, a + [3, 0, 0, 0]), 6)
9.0
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from sklearn.metrics.pairwise import polynomial_kernel
from torch import nn

from bcx.errors import DataError
from bcx.evaluate.metrics import ranked_auc
from bcx.imaging.preprocess import Preprocess
from bcx.networks.device import pick_device
from bcx.networks.run import run_network

#: From planes, uint8 `[N, S, S]`, to features, float64 `[N, K]`.
Describe = Callable[[np.ndarray], np.ndarray]

#: A picture that follows a training scan this closely, pixel by pixel, is a copy, whatever real scans do.
COPY_CORRELATION = 0.95
_COARSE = 32  # pixels: side at which pictures are correlated
_DRAWS = 50  # subsets for spreads and for equal numbers
_AT_ONCE = 16


def describer(network: nn.Module, preprocess: Preprocess) -> Describe:
    """Return a function from planes to the means of every channel at the end of the network's last stages.

    Args:
        network: from `build_network` or `build_lesion_network`, in evaluation mode; moved to where networks run.
    """
    network.to(pick_device())

    def describe(planes: np.ndarray) -> np.ndarray:
        fitted = [preprocess.plane(plane) for plane in planes]
        parts = [
            run_network(network, preprocess, np.stack(fitted[start : start + _AT_ONCE])).stages
            for start in range(0, len(fitted), _AT_ONCE)
        ]
        return np.concatenate(parts).astype(np.float64)

    return describe


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features.

    |mean difference|^2 + tr(A) + tr(B) - 2 tr((A B)^(1/2)), where the last trace is the sum of the singular values of
    A^(1/2) B^(1/2): both roots come from centred features, so no root of a product, which may come out complex, is
    taken.

    Args:
        a, b: float `[N, K]` and `[M, K]`, at least two rows each.

    Raises:
        DataError: fewer rows, or other columns.
    """
    _check(a, b)
    roots = [(part - part.mean(0)) / np.sqrt(len(part) - 1) for part in (a, b)]
    # With A = X'X and B = Y'Y the traces are those of small products, and tr (A B)^(1/2) is the nuclear norm of X Y'.
    cross = np.linalg.norm(roots[0] @ roots[1].T, ord="nuc")
    between = a.mean(0) - b.mean(0)
    return float(between @ between + (roots[0] ** 2).sum() + (roots[1] ** 2).sum() - 2 * cross)


def kernel_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel (x y / K + 1)^3; arguments as above."""
    _check(a, b)
    kernel_a, kernel_b, cross = (polynomial_kernel(*pair, degree=3) for pair in ((a, a), (b, b), (a, b)))
    n, m = len(a), len(b)
    within_a = (kernel_a.sum() - np.trace(kernel_a)) / (n * (n - 1))
    within_b = (kernel_b.sum() - np.trace(kernel_b)) / (m * (m - 1))
    return float(within_a + within_b - 2 * cross.mean())


def _check(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise DataError(
            f"Features of the shapes {a.shape} and {b.shape} cannot be compared.",
            expected="two sets of at least two pictures, described by the same network",
            remedy="Generate more pictures, or name more scans.",
        )


def set_distances(generated: np.ndarray, train: np.ndarray, held: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Compare generated and real scans with the training scans, at equal numbers.

    Args:
        generated: float `[N, K]`, features of generated pictures.
        train: float `[M, K]`, of what the generator learnt from.
        held: float `[L, K]`, of other real scans: the level that a perfect generator would reach.

    Returns:
        `n` (pictures of each set that stand against `train`: the smaller of N and L), and `kid` and `fid`, each with
        `generated` and `real` as {"mean", "sd"} over subsets of that size (without spread where there is only one).
        Features are scaled by the training scans' mean and spread first, so that every channel counts.
    """
    centre, spread = train.mean(0), train.std(0) + 1e-8
    train, held, generated = ((part - centre) / spread for part in (train, held, generated))
    n = min(len(generated), len(held))
    rng = np.random.default_rng(seed)
    found: dict[str, Any] = {"n": n, "n_train": len(train)}
    for name, distance in (("kid", kernel_distance), ("fid", frechet_distance)):
        found[name] = {}
        for kind, part in (("generated", generated), ("real", held)):
            draws = _DRAWS if len(part) > n else 1
            values = [distance(part[rng.permutation(len(part))[:n]], train) for _ in range(draws)]
            spread_of = float(np.std(values)) if draws > 1 else None
            found[name][kind] = {"mean": float(np.mean(values)), "sd": spread_of}
    return found


@dataclass(frozen=True)
class Neighbours:
    """The training scan that is nearest to each picture, or to its mirror image.

    Attributes:
        nearest: int `[N]`, by features, position among the training scans.
        distance: float `[N]`, root mean square over features in units of the training scans' spread.
        twin: int `[N]`, the training scan with the highest correlation.
        correlation: float `[N]`, of the grey values at 32 x 32, -1..1.
    """

    nearest: np.ndarray
    distance: np.ndarray
    twin: np.ndarray
    correlation: np.ndarray


class Neighbourhood:
    """Training scans and their mirror images, ready to be searched."""

    def __init__(self, planes: np.ndarray, groups: Sequence[str], describe: Describe) -> None:
        """Describe the training scans.

        Args:
            planes: uint8 `[M, S, S]`.
            groups: of each, for `within`.
            describe: see `describer`.
        """
        both = np.concatenate([planes, planes[:, :, ::-1]])
        self.features = describe(both)
        self._describe, self._groups = describe, np.asarray(groups)
        half = self.features[: len(planes)]
        self._centre, self._spread = half.mean(0), half.std(0) + 1e-8
        self._scaled = (self.features - self._centre) / self._spread
        self._coarse = _coarse(both)

    def find(self, planes: np.ndarray, features: np.ndarray | None = None) -> Neighbours:
        """Find the neighbours of pictures, uint8 `[N, S, S]`; `features` where they are known already."""
        described = self._describe(planes) if features is None else features
        return self._nearest((described - self._centre) / self._spread, _coarse(planes), None)

    def within(self) -> Neighbours:
        """Find each training scan's nearest among those of other groups: the level where no scans are held out.

        Raises:
            DataError: all are of one group.
        """
        count = len(self._groups)
        if len(set(self._groups)) < 2:
            raise DataError(
                "All training scans are of one group.", expected="two groups or more", remedy="Name more scans."
            )
        same = np.tile(self._groups[:, None] == self._groups[None, :], (1, 2))
        return self._nearest(self._scaled[:count], self._coarse[:count], same)

    def _nearest(self, scaled: np.ndarray, coarse: np.ndarray, barred: np.ndarray | None) -> Neighbours:
        count = len(self._groups)
        squares = (scaled**2).sum(1)[:, None] + (self._scaled**2).sum(1)[None, :] - 2 * scaled @ self._scaled.T
        distance = np.sqrt(np.maximum(squares, 0) / scaled.shape[1])
        correlation = coarse @ self._coarse.T
        if barred is not None:
            distance, correlation = np.where(barred, np.inf, distance), np.where(barred, -np.inf, correlation)
        return Neighbours(
            distance.argmin(1) % count, distance.min(1), correlation.argmax(1) % count, correlation.max(1)
        )


def _coarse(planes: np.ndarray) -> np.ndarray:
    """Shrink to 32 x 32, centre and scale to length 1, so that products are correlations: float64 `[N, 1024]`."""
    small = [cv2.resize(plane, (_COARSE, _COARSE), interpolation=cv2.INTER_AREA) for plane in planes]
    rows = np.stack(small).reshape(len(planes), -1).astype(np.float64)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def find_copies(generated: Neighbours, real: Neighbours) -> np.ndarray:
    """Return bool `[N]`: generated pictures that are nearer to a training scan than any real scan is.

    Nearer means a higher correlation than the highest of `real` (or than `COPY_CORRELATION`, since copies hide in real
    data too), or a smaller distance than the smallest.

    Args:
        generated: neighbours of generated pictures.
        real: neighbours of real scans that the generator did not see.
    """
    limit = min(COPY_CORRELATION, float(real.correlation.max()))
    return (generated.correlation > limit) | (generated.distance < real.distance.min())


def judge_copies(generated: Neighbours, real: Neighbours) -> dict[str, Any]:
    """Return how near generated pictures come to training scans, beside real scans that the generator did not see.

    Returns:
        `n`, `copies` (how many `find_copies` flags), `real_n`, `expected` (how many of n would be flagged if generated
        pictures were like real ones, at most: each of the two extremes of L scans is passed by one in L + 1), quartiles
        of `distance` and `correlation` for both, and `nearer`: the chance that a generated picture is nearer to its
        training scan than a real one to its own (.5: alike).
    """
    scores = -np.concatenate([generated.distance, real.distance])
    is_made = np.arange(len(scores)) < len(generated.distance)
    return {
        "n": len(generated.distance),
        "copies": int(find_copies(generated, real).sum()),
        "real_n": len(real.distance),
        "expected": round(2 * len(generated.distance) / (len(real.distance) + 1), 1),
        "nearer": ranked_auc(scores, is_made)(np.ones(len(scores))),
        "distance": {"generated": _quartiles(generated.distance), "real": _quartiles(real.distance)},
        "correlation": {"generated": _quartiles(generated.correlation), "real": _quartiles(real.correlation)},
    }


def _quartiles(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, [0, 0.25, 0.5, 0.75, 1])]


@dataclass(frozen=True)
class Judged:
    """Quality of one class's pictures.

    Attributes:
        report: ready for JSON: per describing network `set_distances` and `judge_copies`.
        copies: bool `[N]`, flagged by any network or by the pixels.
        neighbours: by the first network.
    """

    report: dict[str, Any]
    copies: np.ndarray
    neighbours: Neighbours


def judge(
    generated: np.ndarray,
    train: np.ndarray,
    groups: Sequence[str],
    held: np.ndarray | None,
    describers: Mapping[str, Describe],
) -> Judged:
    """Judge generated pictures of one class against real scans at the same size.

    Args:
        generated: uint8 `[N, S, S]`.
        train: uint8 `[M, S, S]`, what the generator learnt from.
        held: uint8 `[L, S, S]`, scans of other groups that it never saw; None where it saw all: then one half of the
            groups stands for real scans against the other, and copies are judged by each training scan's nearest
            among other groups.
        describers: at least one network by name.
    """
    report, flags, first = {}, np.zeros(len(generated), bool), None
    for name, describe in describers.items():
        around = Neighbourhood(train, groups, describe)
        features, own = describe(generated), around.features[: len(train)]
        found = around.find(generated, features)
        if held is None:
            half = _half(groups)
            distances = set_distances(features, own[half], own[~half])
            real = around.within()
        else:
            described = describe(held)
            distances = set_distances(features, own, described)
            real = around.find(held, described)
        report[name] = {"distances": distances, "copies": judge_copies(found, real)}
        flags |= find_copies(found, real)
        first = first or found
    assert first is not None  # the caller names a network
    return Judged(report, flags, first)


def _half(groups: Sequence[str]) -> np.ndarray:
    """Return bool `[M]`: the scans of half of the groups, the same ones every time."""
    names = np.unique(np.asarray(groups))
    chosen = np.random.default_rng(0).permutation(names)[: (len(names) + 1) // 2]
    return np.isin(np.asarray(groups), chosen)
