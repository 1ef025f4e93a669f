"""A model that was measured, in a moment: a table of made-up answers, few bootstrap draws, no network."""

import json
from functools import partial
from pathlib import Path

import pytest

from bcx.evaluate.derived import derive
from bcx.evaluate.oof import write_oof
from bcx.imaging.preprocess import Preprocess
from bcx.tasks import get_task
from tests.conftest import few_resamples
from tests.evaluate.test_derived import table as made_up_table

TASK = get_task("breast-ultrasound")


table = partial(made_up_table, source="clinic")


_few = pytest.fixture(scope="package", autouse=True)(few_resamples)


@pytest.fixture(scope="package")
def derived(_few) -> dict:
    return derive(table(), TASK)


@pytest.fixture
def model(tmp_path, derived) -> Path:
    """A checkpoint's folder without weights, beside its results."""
    folder, results = tmp_path / "checkpoints" / "made-up", tmp_path / "results" / "made-up"
    data = {
        name: {"scans": 60 if name == "clinic" else 30, "groups": 60, "classes": {"benign": 9}, "sha256": name * 9}
        for name in ("clinic", "other")
    }
    recipe = {"init": "scratch", "epochs": 2, "batch_size": 8, "lr": 0.001, "head_lr": 0.002, "seed": 4, "size": 96}
    training = {"data": data, "seconds": 12.4, "machine": {"cores": 2}, "command": "bcx train"}
    training["recipe"] = recipe | {"precision": "fp32", "augment": 1.0}
    block = {"format": 1, "task": TASK.name, "classes": TASK.classes, "head": "average pooling, linear"}
    block |= {"temperature": derived["temperature"], "decisions": derived["decisions"]["rules"]}
    block |= {"preprocess": Preprocess(size=96).to_dict(), "training": training}
    config = {"architecture": "mobilenetv2_035", "num_classes": 3, "num_features": 1280, "label_names": TASK.classes}
    config |= {"model_args": {"num_classes": 3}, "pretrained_cfg": {}, "bcx": block}
    stored = {"what": "made up", "command": "bcx crossval", "recipe": recipe, "data": data} | derived
    for place in (folder, results):
        place.mkdir(parents=True)
        (place / "results.json").write_text(json.dumps(stored))
        write_oof(place / "oof.csv", table(), TASK)
    (folder / "config.json").write_text(json.dumps(config))
    figures = {"accuracy": 0.4, "sensitivity_malignant": 0.3, "lesions_called_normal": 0.25, "ece": 0.2}
    external = {
        "what": "a checkpoint's answers to labelled scans",
        "model": {"name": "made-up"},
        "split": "dev",
        "n": 50,
        "groups": 40,
        "data": {"abroad": {"scans": 50, "sha256": "abroad" * 9}},
        "figures": {k: {"value": v, "low": v - 0.1, "high": v + 0.1, "n": 50} for k, v in figures.items()},
    }
    (results / "external-abroad.json").write_text(json.dumps(external))
    return folder
