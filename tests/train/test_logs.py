"""What is logged for TensorBoard is what history.csv says."""

from __future__ import annotations

import pytest

from bcx.errors import ConfigError, MissingExtra
from bcx.train import logs
from bcx.train.logs import epoch_log


def test_tensorboard_reads_the_epochs_back(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with epoch_log("tensorboard", tmp_path) as log:
        for epoch in (1, 2):
            log({"epoch": epoch, "train_loss": 1 / epoch, "inner_roc_auc": None})
        log({"member": 1, "epoch": 1, "train_loss": 0.25})
    for run, losses in {"training": [1.0, 0.5], "member-1": [0.25]}.items():
        read = events.EventAccumulator(str(tmp_path / run))
        read.Reload()
        assert [each.value for each in read.Scalars("train_loss")] == losses
        assert "inner_roc_auc" not in read.Tags()["scalars"]


def test_without_tensorboard_the_pip_line_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install \"bcx\[logs\]\""), epoch_log("tensorboard", tmp_path):
        pass


def test_another_log_is_refused_and_none_writes_nothing(tmp_path):
    with pytest.raises(ConfigError, match="'wandb'"), epoch_log("wandb", tmp_path):
        pass
    with epoch_log(None, tmp_path) as log:
        log({"epoch": 1})
    assert not list(tmp_path.iterdir())
