"""Distances against other ways to compute them; copies are caught, strangers are not."""

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import polynomial_kernel

from bcx.errors import DataError
from bcx.studies.synthesis.quality import (
    find_copies,
    find_neighbours,
    frechet_distance,
    judge,
    kernel_distance,
    set_distances,
    with_mirrored,
)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    return rng.normal(size=(40, 6)) @ mixing, rng.normal(size=(55, 6)) * 1.5 + 0.3


def test_the_frechet_distance_is_the_one_by_the_root_of_the_product(features):
    a, b = features
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(covariances[0] @ covariances[1]).real
    between = a.mean(0) - b.mean(0)
    expected = between @ between + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-8)


def test_the_frechet_distance_holds_with_fewer_pictures_than_features():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(8, 30)), rng.normal(size=(9, 30))
    covariances = [np.cov(part, rowvar=False) for part in (a, b)]
    values, vectors = np.linalg.eigh(covariances[0])
    half = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    inner = np.linalg.eigvalsh(half @ covariances[1] @ half)
    between = a.mean(0) - b.mean(0)
    expected = between @ between + sum(map(np.trace, covariances)) - 2 * np.sqrt(np.clip(inner, 0, None)).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_the_kernel_distance_is_the_unbiased_one_over_pairs(features):
    a, b = features

    def kernel(x, y):
        return polynomial_kernel(x, y, degree=3, gamma=1 / a.shape[1], coef0=1)

    within = [
        np.mean([kernel(part[i : i + 1], part[j : j + 1])[0, 0] for i in range(20) for j in range(20) if i != j])
        for part in (a[:20], b[:20])
    ]
    expected = sum(within) - 2 * kernel(a[:20], b[:20]).mean()
    assert kernel_distance(a[:20], b[:20]) == pytest.approx(expected, rel=1e-9)


def test_the_kernel_distance_of_one_source_is_nought_on_average_and_that_of_two_is_not():
    rng = np.random.default_rng(2)
    same = [kernel_distance(*rng.normal(size=(2, 25, 4))) for _ in range(300)]
    other = [kernel_distance(rng.normal(size=(25, 4)), rng.normal(size=(25, 4)) + 1) for _ in range(50)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    assert np.mean(other) > 5 * np.std(same)


def test_one_image_cannot_be_compared(features):
    with pytest.raises(DataError, match="1 generated"):
        set_distances(features[0][:1], features[0], features[1])
    with pytest.raises(DataError, match="1 training scans"):
        set_distances(features[0], features[0][:1], features[1])


def test_sets_stand_against_the_training_scans_at_equal_numbers():
    rng = np.random.default_rng(3)
    train, held = rng.normal(size=(60, 5)), rng.normal(size=(20, 5))
    good, bad = rng.normal(size=(45, 5)), rng.normal(size=(45, 5)) * 0.2
    found = [set_distances(made, train, held) for made in (good, bad)]
    for one in found:
        assert (one["n"], one["n_train"]) == (20, 60)
        assert one["kid"]["real"]["sd"] is None
        assert one["kid"]["generated"]["sd"] > 0
        scaled = [(part - train.mean(0)) / train.std(0) for part in (held, train)]
        assert one["fid"]["real"]["mean"] == pytest.approx(frechet_distance(*scaled), rel=1e-5)
    assert found[0]["fid"]["generated"]["mean"] < found[1]["fid"]["generated"]["mean"]
    assert found[0]["kid"]["generated"]["mean"] < found[1]["kid"]["generated"]["mean"]


def blobs(count, seed):
    """Pictures of a bright spot on noise, uint8 [count, 24, 24]."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:24, :24]
    planes = []
    for _ in range(count):
        y, x, wide = rng.uniform(4, 20), rng.uniform(4, 20), rng.uniform(2, 5)
        spot = 120 * np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * wide**2))
        planes.append(np.clip(60 + spot + rng.normal(0, 12, (24, 24)), 0, 255))
    return np.stack(planes).astype(np.uint8)


def by_blocks(planes):
    """A description without a network: means of 4 x 4 blocks."""
    return planes.reshape(len(planes), 6, 4, 6, 4).mean((2, 4)).reshape(len(planes), -1).astype(float)


def neighbours_of(planes, train, barred=None):
    return find_neighbours(planes, by_blocks(planes), train, by_blocks(with_mirrored(train)), barred)


def test_neighbours_are_those_that_all_pairs_give():
    train, others = blobs(15, 0), blobs(7, 1)
    found = neighbours_of(others, train)
    own = by_blocks(train)
    both = np.concatenate([own, by_blocks(np.ascontiguousarray(train[:, :, ::-1]))])
    centre, spread = own.mean(0), own.std(0) + 1e-8
    far = cdist((by_blocks(others) - centre) / spread, (both - centre) / spread) / np.sqrt(own.shape[1])
    assert found.nearest.tolist() == (far.argmin(1) % 15).tolist()
    assert np.allclose(found.distance, far.min(1))
    assert (np.abs(found.correlation) <= 1 + 1e-9).all()


def test_a_scan_is_no_neighbour_of_its_own_group():
    train = blobs(10, 0)
    train[5] = train[4]
    groups = np.arange(10)
    apart = neighbours_of(train, train, groups[:, None] == groups)
    assert apart.nearest[4] == 5
    assert apart.distance[4] == pytest.approx(0, abs=1e-6)
    groups[5] = groups[4]
    together = neighbours_of(train, train, groups[:, None] == groups)
    assert together.nearest[4] not in (4, 5)
    assert together.distance[4] > 0.1
    with pytest.raises(DataError):
        judge(train, train, ["g"] * 10, None, {"blocks": by_blocks})


def test_copies_are_caught_also_mirrored_and_noisy_and_new_pictures_are_not():
    train, held, new = blobs(40, 0), blobs(30, 1), blobs(12, 2)
    noise = np.random.default_rng(4).normal(0, 4, (6, 24, 24))
    copies = train[:6].astype(float) + noise
    copies[3:] = copies[3:, :, ::-1]
    copies = np.clip(copies, 0, 255).astype(np.uint8)
    real, copied, other = (neighbours_of(planes, train) for planes in (held, copies, new))
    assert find_copies(copied, real).all()
    assert copied.nearest.tolist() == [0, 1, 2, 3, 4, 5]
    assert find_copies(other, real).mean() < 0.3


@pytest.mark.parametrize("held", [None, blobs(20, 1)])
def test_a_judgement_counts_copies_and_says_how_near_pictures_come(held):
    train = blobs(40, 0)
    report, copies, nearest = judge(
        np.concatenate([train[:10], blobs(10, 2)]), train, [f"g{i}" for i in range(40)], held, {"blocks": by_blocks}
    )
    found = report["blocks"]["copies"]
    assert copies[:10].all()
    assert found["copies"] == copies.sum() >= 10
    assert found["nearer"] > 0.6
    assert nearest[:10].tolist() == list(range(10))
    assert report["blocks"]["distances"]["n"] == 20
