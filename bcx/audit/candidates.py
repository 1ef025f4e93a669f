"""Which pairs of scans are worth a close look: a few for each scan, found without comparing all with all in detail.

Two indexes propose. Landmarks are turned into words (a vocabulary made from the folder itself) and scans that share
rare words are proposed, as they are and mirrored: crops and scales keep their words. Coarse pictures, shifted a little
each way, are compared by a product of short vectors: that proposes another frame of the same lesion.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import cv2
import numpy as np
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

from bcx.audit.features import Features, mirrored, read_features, rooted

BY_WORDS, BY_MIRRORED_WORDS, BY_COARSE = 5, 3, 5  # partners that each index proposes for a scan at most
LEAST_WORDS, LEAST_COARSE = 0.06, 0.42
"""Cosines below which nothing is proposed. Two scans of other patients share about .03, and .1."""
WORDS, MIRRORED, COARSE = 1, 2, 4  # who proposed a pair, as bits

_SPACE = 32  # dimensions kept of a descriptor, half of them for each half of a word
_MOST_CENTRES = 256
_SAMPLE = 30_000  # descriptors from which the vocabulary is learnt
_SHIFTS = tuple((y, x) for y in (-4, -2, 0, 2, 4) for x in range(-8, 9, 2))
_AXES = 64  # dimensions kept of a coarse picture
_BLOCK = 1024  # columns compared at once: the products stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Terms:
    """In which terms scans are compared: words for landmarks, axes for coarse pictures.

    A descriptor's word is the pair of the nearest centres of its two halves.
    """

    mean: np.ndarray  # float32 [128]
    directions: np.ndarray  # float32 [128, 32]
    centres: np.ndarray  # float32 [2, k, 16]
    axes: np.ndarray  # float32 [32 * 32, 64], the directions in which shifted coarse pictures differ most

    @classmethod
    def learn(cls, sample: Sequence[Features], total: int) -> Self:
        """Learn from some of `total` scans, the more the finer; the same ones in the same order give the same terms."""
        values = rooted(np.concatenate([features.descriptors for features in sample]))
        expected = len(values) * total // len(sample)
        if len(values) > _SAMPLE:
            values = values[np.random.default_rng(0).choice(len(values), _SAMPLE, replace=False)]
        mean = values.mean(0)
        directions = np.linalg.eigh(np.cov((values - mean).T))[1][:, ::-1][:, :_SPACE].astype(np.float32)
        count = int(np.clip(np.sqrt(expected / 8), 2, min(_MOST_CENTRES, len(values))))
        flat = (values - mean) @ directions
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 12, 0.0)
        cv2.setRNGSeed(0)
        nearest = np.zeros((len(flat), 1), np.int32)
        halves = [np.ascontiguousarray(flat[:, half::2]) for half in (0, 1)]
        centres = [cv2.kmeans(part, count, nearest, stop, 1, cv2.KMEANS_RANDOM_CENTERS)[2] for part in halves]
        pictures = np.stack([features.coarse for features in sample])
        moved = np.concatenate([_shift(pictures, *by) for by in _SHIFTS[::4]])
        axes = np.linalg.eigh(moved.T @ moved)[1][:, ::-1][:, :_AXES].astype(np.float32)
        return cls(mean, directions, np.array(centres, np.float32), axes)

    def words(self, descriptors: np.ndarray) -> np.ndarray:
        """Return the different words of uint8 [K, 128], int32."""
        flat = (rooted(descriptors) - self.mean) @ self.directions
        first, second = (
            ((centres**2).sum(1) - 2 * flat[:, half::2] @ centres.T).argmin(1)
            for half, centres in enumerate(self.centres)
        )
        return np.unique((first * self.centres.shape[1] + second).astype(np.int32))

    def entries(self, store: Path, places: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what an index keeps of each scan: int32 words, and the coarse picture along the axes [64]."""
        scans = [read_features(store, place) for place in places]
        return [(self.words(each.descriptors), each.coarse.ravel() @ self.axes) for each in scans]


def write_index(file: Path, terms: Terms, places: list[int], entries: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write what candidates for the scans at `places` are found with, as arrays: other processes read it."""
    words, flat = zip(*entries, strict=True)
    # How rare a word is: the logarithm of one over the share of scans that have it.
    count = np.bincount(np.concatenate(words), minlength=terms.centres.shape[1] ** 2)
    weight = np.log((1 + len(words)) / (1 + count)).astype(np.float32) * (count > 0)
    plain = _rows(words, weight)
    arrays = {"places": np.array(places), "weight": weight, "flat": np.array(flat, np.float32)}
    arrays |= {name: getattr(plain, name) for name in ("data", "indices", "indptr")} | vars(terms)
    save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, file)


@lru_cache(1)
def _read_index(file: Path) -> tuple[Terms, dict[str, np.ndarray], csr_matrix]:
    """Return the terms; `places` and `flat` as written; and float32 [N, words], each row of length 1."""
    stored = load_file(file)
    terms = Terms(*(stored[name] for name in Terms.__dataclass_fields__))
    shape = len(stored["places"]), len(stored["weight"])
    return terms, stored, csr_matrix((stored["data"], stored["indices"], stored["indptr"]), shape=shape)


def propose(file: Path, store: Path, own: np.ndarray) -> list[tuple[int, int, int]]:
    """Return candidates for the scans with these numbers: (smaller number, larger number, who proposed as bits)."""
    terms, stored, plain = _read_index(file)
    here = [read_features(store, place) for place in stored["places"][own].tolist()]
    flipped = _rows([terms.words(mirrored(each.descriptors)) for each in here], stored["weight"])
    coarse = _coarse_scores(terms, stored["flat"], np.stack([each.coarse for each in here]))
    found = Counter[tuple[int, int]]()
    for bit, scores, most, least in (
        (WORDS, (plain[own] @ plain.T).toarray(), BY_WORDS, LEAST_WORDS),
        (MIRRORED, (flipped @ plain.T).toarray(), BY_MIRRORED_WORDS, LEAST_WORDS),
        (COARSE, coarse, BY_COARSE, LEAST_COARSE),
    ):
        scores[np.arange(len(own)), own] = -1
        most = min(most, scores.shape[1])
        best = np.argpartition(-scores, most - 1, axis=1)[:, :most]
        for number, partners, likeness in zip(own.tolist(), best, scores, strict=True):
            for partner in partners[likeness[partners] >= least].tolist():
                found[min(number, partner), max(number, partner)] |= bit
    return [(a, b, bits) for (a, b), bits in sorted(found.items())]


def clear() -> None:
    """Let go of what is kept at hand for comparing."""
    _read_index.cache_clear()
    read_features.cache_clear()


def _coarse_scores(terms: Terms, flat: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """Return float32 [rows, N]: the best product over all shifts of the pictures [rows, 32, 32]."""
    shifted = [_shift(pictures, *by) @ terms.axes for by in _SHIFTS]
    scores = np.full((len(pictures), len(flat)), -1, np.float32)
    for begin in range(0, len(flat), _BLOCK):
        block = np.ascontiguousarray(flat[begin : begin + _BLOCK].T)
        best = scores[:, begin : begin + _BLOCK]
        for moved in shifted:
            np.maximum(best, moved @ block, out=best)
    return scores


def _rows(rows: list[np.ndarray], weight: np.ndarray) -> csr_matrix:
    data = [weight[row] / max(float(np.linalg.norm(weight[row])), 1e-6) for row in rows]
    ends = np.cumsum([0, *map(len, rows)])
    return csr_matrix((np.concatenate(data), np.concatenate(rows), ends), shape=(len(rows), len(weight)))


def _shift(pictures: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move [N, S, S] by at most 8 whole pixels, zeros come in; [N, S * S]."""
    size = pictures.shape[1]
    room = np.pad(pictures, ((0, 0), (8, 8), (8, 8)))
    return room[:, 8 - down : 8 - down + size, 8 - right : 8 - right + size].reshape(len(pictures), -1)
