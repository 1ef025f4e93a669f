"""Curves and bands against scikit-learn, and against curves of copied scans."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from bcx.errors import DataError
from bcx.evaluate.curves import GRID, curve_band
from bcx.evaluate.intervals import resample_weights


def scores(count: int = 120, seed: int = 0, levels: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(count) < 0.4
    score = np.round((rng.normal(size=count) + 1.3 * positive) * levels) / levels  # ties
    return score, positive, np.arange(count) // 2


def test_areas_are_scikit_learns():
    score, positive, groups = scores()
    roc, pr = curve_band("roc", score, positive, groups), curve_band("pr", score, positive, groups)
    assert roc.area == pytest.approx(sk.roc_auc_score(positive, score))
    assert np.trapezoid(roc.line_y, roc.line_x) == pytest.approx(roc.area)
    assert pr.area == pytest.approx(sk.average_precision_score(positive, score))
    assert (np.diff(pr.line_x) * pr.line_y[1:]).sum() == pytest.approx(pr.area)  # a staircase
    for band in (roc, pr):
        assert band.area_low < band.area < band.area_high
        assert band.base == positive.mean()
        assert (np.diff(band.line_x) >= 0).all()


def test_the_band_is_that_of_curves_of_copied_scans():
    score, positive, groups = scores(60, seed=1)
    roc, pr = (curve_band(kind, score, positive, groups, n_resamples=40, seed=3) for kind in ("roc", "pr"))
    sensitivities, precisions = [], []
    for weights in resample_weights(groups, 40, seed=3):
        rows = np.repeat(np.arange(60), weights.astype(int))
        x, y, _ = sk.roc_curve(positive[rows], score[rows])
        sensitivities.append(np.interp(GRID, x, y))
        precision, recall, thresholds = sk.precision_recall_curve(positive[rows], score[rows])
        at = [np.flatnonzero(recall[: len(thresholds)] >= max(r, 1e-9) - 1e-9).max() for r in GRID]
        precisions.append(precision[at])
    for band, curves in ((roc, sensitivities), (pr, precisions)):
        low, high = np.quantile(curves, [0.025, 0.975], axis=0)
        np.testing.assert_allclose(band.low, low, atol=1e-9)
        np.testing.assert_allclose(band.high, high, atol=1e-9)


def test_the_curve_lies_in_its_band_nearly_everywhere():
    score, positive, groups = scores(400, seed=2)
    band = curve_band("roc", score, positive, groups)
    y = np.interp(band.x, band.line_x, band.line_y)
    assert ((band.low - 1e-9 <= y) & (y <= band.high + 1e-9)).mean() > 0.95


def test_scans_of_one_kind_have_no_curve():
    for kind in ("roc", "pr"):
        with pytest.raises(DataError, match="positive of 3 scans"):
            curve_band(kind, np.ones(3), np.ones(3, bool), ["a", "b", "c"])
        with pytest.raises(DataError, match="2 groups"):
            curve_band(kind, np.ones(3), np.array([True, False, True]), ["a", "b"])
