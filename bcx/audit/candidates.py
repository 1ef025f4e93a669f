"""Which pairs of scans are worth a close look: a few for each scan, found without comparing all with all in detail.

Two indexes propose. Landmarks are turned into words (a vocabulary made from the folder itself) and scans that share
rare words are proposed, as they are and mirrored: crops and scales keep their words. Coarse pictures, shifted a little
each way, are compared by a product of short vectors: that proposes another frame of the same lesion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from safetensors.numpy import load_file, save_file

from bcx.audit.features import Features, Store, mirrored, rooted

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

BY_WORDS, BY_MIRRORED_WORDS, BY_COARSE = 5, 3, 5
"""How many partners each index proposes for a scan at most."""
LEAST_WORDS, LEAST_COARSE = 0.06, 0.42
"""Cosines below which nothing is proposed. Two scans of other patients share about .03, and .1."""
WORDS, MIRRORED, COARSE = 1, 2, 4
"""Who proposed a pair, as bits."""

Entries = tuple[list[np.ndarray], np.ndarray]
"""What an index keeps of some scans: int32 words of each, float32 [n, 64]."""

_SPACE = 32  # dimensions kept of a descriptor, half of them for each half of a word
_MOST_CENTRES = 256
_SAMPLE = 30_000  # descriptors from which the vocabulary is learnt
_SHIFTS = tuple((y, x) for y in (-4, -2, 0, 2, 4) for x in range(-8, 9, 2))
_AXES = 64  # dimensions kept of a coarse picture
_BLOCK = 1024  # columns compared at once: the products stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Words:
    """A vocabulary: a descriptor's word is the pair of the nearest centres, float32 [k, 16], of its two halves."""

    mean: np.ndarray  # float32 [128]
    axes: np.ndarray  # float32 [128, 32]
    centres: tuple[np.ndarray, np.ndarray]

    @property
    def size(self) -> int:
        return len(self.centres[0]) * len(self.centres[1])

    @classmethod
    def learn(cls, descriptors: Sequence[np.ndarray], total: int) -> Words:
        """Learn from uint8 [K, 128] of some scans, for `total` descriptors: the more, the finer the words."""
        values = rooted(np.concatenate(descriptors))
        rng = np.random.default_rng(0)
        if len(values) > _SAMPLE:
            values = values[rng.choice(len(values), _SAMPLE, replace=False)]
        mean = values.mean(0)
        axes = np.linalg.eigh(np.cov((values - mean).T))[1][:, ::-1][:, :_SPACE].astype(np.float32)
        count = int(np.clip(np.sqrt(total / 8), 2, min(_MOST_CENTRES, len(values))))
        flat = (values - mean) @ axes
        stop = (cv2.TERM_CRITERIA_MAX_ITER, 12, 0.0)
        cv2.setRNGSeed(0)
        centres = []
        for half in (0, 1):
            part = np.ascontiguousarray(flat[:, half::2])
            nearest = np.zeros((len(part), 1), np.int32)
            _, _, found = cv2.kmeans(part, count, nearest, stop, 1, cv2.KMEANS_RANDOM_CENTERS)
            centres.append(np.asarray(found, np.float32))
        return cls(mean, axes, (centres[0], centres[1]))

    def __call__(self, descriptors: np.ndarray) -> np.ndarray:
        """Return int32 [K], the words of uint8 [K, 128]."""
        flat = (rooted(descriptors) - self.mean) @ self.axes
        word = np.zeros(len(flat), np.int32)
        for half, centres in enumerate(self.centres):
            distance = (centres**2).sum(1) - 2 * flat[:, half::2] @ centres.T
            word = word * len(centres) + distance.argmin(1).astype(np.int32)
        return word


@dataclass(frozen=True, eq=False)
class Terms:
    """In which terms scans are compared: words for landmarks, axes for coarse pictures."""

    words: Words
    axes: np.ndarray  # float32 [32 * 32, 64], the directions in which shifted coarse pictures differ most

    @classmethod
    def learn(cls, sample: Sequence[Features], total: int) -> Terms:
        """Learn from some of `total` scans; the same ones in the same order give the same terms."""
        descriptors = [features.descriptors for features in sample]
        words = Words.learn(descriptors, sum(map(len, descriptors)) * total // len(sample))
        pictures = np.stack([features.coarse for features in sample])
        moved = np.concatenate([_shift(pictures, *by).reshape(len(pictures), -1) for by in _SHIFTS[::4]])
        return cls(words, np.linalg.eigh(moved.T @ moved)[1][:, ::-1][:, :_AXES].astype(np.float32))

    def entries(self, store: Store, places: Sequence[int]) -> Entries:
        """Return what the index keeps of some scans: their words, and their coarse pictures along the axes."""
        words, flat = [], []
        for place in places:
            features = store.read(place)
            words.append(np.unique(self.words(features.descriptors)))
            flat.append(features.coarse.ravel() @ self.axes)
        return words, np.array(flat, np.float32).reshape(-1, _AXES)


_CSR = ("data", "indices", "indptr")  # what a sparse matrix consists of


@dataclass(frozen=True, eq=False)
class Index:
    """What candidates are found with, for N scans in some order."""

    terms: Terms
    places: list[int]  # in the store
    weight: np.ndarray  # float32 [words], how rare each is
    plain: csr_matrix  # float32 [N, words], each row of length 1
    flat: np.ndarray  # float32 [N, 64], coarse pictures along the axes

    def write(self, file: Path) -> None:
        """Write every array, so that other processes can read them; never pickle."""
        words = self.terms.words
        arrays = {"mean": words.mean, "word_axes": words.axes, "first": words.centres[0], "second": words.centres[1]}
        arrays |= {"axes": self.terms.axes, "places": np.array(self.places), "weight": self.weight, "flat": self.flat}
        arrays |= {name: getattr(self.plain, name) for name in _CSR} | {"shape": np.array(self.plain.shape)}
        save_file({name: np.ascontiguousarray(values) for name, values in arrays.items()}, file)

    @classmethod
    def read(cls, file: Path) -> Index:
        """Read what `write` wrote."""
        from scipy.sparse import csr_matrix

        stored = load_file(file)
        words = Words(stored["mean"], stored["word_axes"], (stored["first"], stored["second"]))
        plain = csr_matrix(tuple(stored[name] for name in _CSR), shape=tuple(stored["shape"]))
        return cls(Terms(words, stored["axes"]), stored["places"].tolist(), stored["weight"], plain, stored["flat"])

    @classmethod
    def build(cls, terms: Terms, places: list[int], parts: Iterable[Entries]) -> Index:
        """Join what `Terms.entries` gave for the scans at `places`."""
        every = list(parts)
        words = [row for rows, _ in every for row in rows]
        # How rare a word is: the logarithm of one over the share of scans that have it.
        count = np.bincount(
            np.concatenate([*words, np.zeros(0, np.int64)]).astype(np.int64), minlength=terms.words.size
        )
        weight = np.log((1 + len(words)) / (1 + count)).astype(np.float32) * (count > 0)
        return cls(terms, places, weight, _rows(words, weight), np.concatenate([flat for _, flat in every]))

    def propose(self, store: Store, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return candidates for the scans `start` to `stop`: (smaller number, larger number, who proposed as bits)."""
        here = [store.read(place) for place in self.places[start:stop]]
        flipped = _rows([np.unique(self.terms.words(mirrored(each.descriptors))) for each in here], self.weight)
        coarse = self._coarse_scores(np.stack([each.coarse for each in here]))
        found: dict[tuple[int, int], int] = {}
        for bit, scores, most, least in (
            (WORDS, (self.plain[start:stop] @ self.plain.T).toarray(), BY_WORDS, LEAST_WORDS),
            (MIRRORED, (flipped @ self.plain.T).toarray(), BY_MIRRORED_WORDS, LEAST_WORDS),
            (COARSE, coarse, BY_COARSE, LEAST_COARSE),
        ):
            own = np.arange(start, stop)
            scores[own - start, own] = -1
            most = min(most, scores.shape[1])
            best = np.argpartition(-scores, most - 1, axis=1)[:, :most]
            for row, partners in zip(own, best, strict=True):
                for partner in partners[scores[row - start, partners] >= least]:
                    pair = (int(min(row, partner)), int(max(row, partner)))
                    found[pair] = found.get(pair, 0) | bit
        return [(a, b, bits) for (a, b), bits in sorted(found.items())]

    def _coarse_scores(self, pictures: np.ndarray) -> np.ndarray:
        """Return float32 [rows, N]: the best product over all shifts of the pictures [rows, 32, 32]."""
        shifted = [_shift(pictures, *by).reshape(len(pictures), -1) @ self.terms.axes for by in _SHIFTS]
        scores = np.full((len(pictures), len(self.flat)), -1, np.float32)
        for begin in range(0, len(self.flat), _BLOCK):
            block = np.ascontiguousarray(self.flat[begin : begin + _BLOCK].T)
            best = scores[:, begin : begin + _BLOCK]
            for moved in shifted:
                np.maximum(best, moved @ block, out=best)
        return scores


def _rows(rows: list[np.ndarray], weight: np.ndarray) -> csr_matrix:
    from scipy.sparse import csr_matrix

    data = [weight[row] for row in rows]
    data = [values / max(float(np.linalg.norm(values)), 1e-6) for values in data]
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    joined = np.concatenate([*data, np.zeros(0)]).astype(np.float32)
    columns = np.concatenate([*rows, np.zeros(0, np.int32)]).astype(np.int32)
    return csr_matrix((joined, columns, ends), shape=(len(rows), len(weight)))


def _shift(pictures: np.ndarray, down: int, right: int) -> np.ndarray:
    """Move [N, S, S] by whole pixels; zeros come in."""
    out = np.zeros_like(pictures)
    size = pictures.shape[1]
    to = [slice(max(0, by), size + min(0, by)) for by in (down, right)]
    of = [slice(max(0, -by), size + min(0, -by)) for by in (down, right)]
    out[:, to[0], to[1]] = pictures[:, of[0], of[1]]
    return out
