"""The leaderboard: order, differences and significance, against statsmodels' rules and the figures' own functions."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from bcx.errors import DataError
from bcx.evaluate.figures import importance_figure, roc_of_all
from bcx.evaluate.oof import oof_columns
from bcx.studies.compare import holm, rank_models
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")
LABELS = np.arange(90) // 2 % 3


def answers(strength: float, seed: int) -> pd.DataFrame:
    """Logits that favour the true class by `strength`, over noise; two scans share a group."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(90, 3)) + strength * np.eye(3)[LABELS]
    rows = [
        (f"mine/{i}", "mine", f"mine:{i // 2}", 0, TASK.classes[label], *logits[i], *logits[i])
        for i, label in enumerate(LABELS)
    ]
    return pd.DataFrame(rows, columns=oof_columns(TASK)).astype(dict.fromkeys(oof_columns(TASK)[5:], np.float32))


@pytest.fixture(scope="module")
def board():
    return rank_models({"middle": answers(1.8, 1), "best": answers(2.4, 2), "guess": answers(0.0, 3)}, TASK)


def test_models_come_in_the_order_of_their_auc(board):
    assert [row["arch"] for row in board[0]][-1] == "guess"
    values = [row["figures"]["macro_auc"]["value"] for row in board[0]]
    assert values == sorted(values, reverse=True)
    for row in board[0]:
        auc = roc_auc_score(LABELS, board[1][row["arch"]], multi_class="ovr", average="macro")
        assert row["figures"]["macro_auc"]["value"] == pytest.approx(auc)


def test_a_guess_is_significantly_worse_and_a_near_equal_is_not(board):
    best, second, guess = board[0]
    assert best["significantly_worse"] is best["best_minus_this"] is best["delong"] is None
    assert guess["significantly_worse"] is True
    assert guess["best_minus_this"]["macro_auc"]["low"] > 0
    assert second["significantly_worse"] is False
    for row in (second, guess):
        for found, name in ((row["best_minus_this"]["macro_auc"], "macro_auc"), (row["delong"], "auc_malignant")):
            difference = best["figures"][name]["value"] - row["figures"][name]["value"]
            assert found["value"] == pytest.approx(difference)


def test_tables_of_other_scans_are_refused():
    with pytest.raises(DataError, match="same scans"):
        rank_models({"a": answers(1, 1), "b": answers(1, 2).iloc[:-2]}, TASK)


def test_holm_rejects_what_its_own_procedure_rejects():
    """Holm (1979), step by step: the k-th smallest of n is held against level / (n - k + 1), until one fails."""
    random = np.random.default_rng(0)
    for _ in range(200):
        p_values = random.uniform(size=5) ** 4
        rejected, order = np.zeros(5, bool), np.argsort(p_values)
        for step, place in enumerate(order):
            if p_values[place] >= 0.05 / (5 - step):
                break
            rejected[place] = True
        assert ((np.array(holm(p_values.tolist())) < 0.05) == rejected).all()


def test_a_comparison_without_a_p_value_is_not_significant():
    adjusted = holm([float("nan"), 0.01])
    assert np.isnan(adjusted[0])
    assert adjusted[1] == pytest.approx(0.02)


def test_curves_and_importances_are_drawn(board, tmp_path):
    models = board[1]
    figure = roc_of_all(models, LABELS, np.arange(90) // 2, TASK, tmp_path / "roc.png")
    rest, benign = figure.axes
    assert rest.get_title(loc="left").startswith("malignant against the rest")
    assert benign.get_title(loc="left").startswith("malignant against benign")
    entries = [text.get_text() for text in rest.get_legend().get_texts()]
    assert [entry.split(":")[0] for entry in entries] == list(models)
    figure.canvas.draw()  # titles were last placed at the resolution of the file
    page = figure.bbox
    for part in (rest.get_legend(), benign.get_legend(), rest._left_title, benign._left_title):
        drawn = part.get_window_extent()
        assert page.x0 <= drawn.x0 <= drawn.x1 <= page.x1
        assert page.y0 <= drawn.y0 <= drawn.y1 <= page.y1
    auc = board[0][0]["figures"]["auc_malignant"]["value"]
    assert f"{auc:.3f}".removeprefix("0") in entries[0]
    assert Image.open(tmp_path / "roc.png").width > 1000
    bars = importance_figure({"lr": 0.7, "drop": 0.1, "head": 0.2}, tmp_path / "importance.png").axes[0].patches
    assert [bar.get_width() for bar in bars] == [0.1, 0.2, 0.7]
