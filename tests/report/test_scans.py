"""Pictures of scans with their answers: drawn from simulated scans, in a folder that is named."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.data.readers import read_source
from bcx.errors import DataError
from bcx.evaluate.derived import DERIVED, derive
from bcx.evaluate.oof import oof_columns, write_oof
from bcx.report.facts import gather
from bcx.report.scans import draw_pictures
from bcx.tasks import get_task

TASK = get_task("breast-ultrasound")


@pytest.fixture
def answered(model, busi_folder, tiny_checkpoint):
    """The made-up model with the tiny network's weights, and answers to simulated scans, some of them wrong."""
    records = read_source("mine", busi_folder, task=TASK)
    labels = np.array([TASK.classes.index(record.label) for record in records])
    said = np.where(np.arange(len(labels)) % 3 == 0, (labels + 1) % 3, labels)
    logits = 3.0 * np.eye(3)[said] + 0.01 * np.arange(len(labels))[:, None] * np.eye(3)[said]
    about = {"file": [r.key for r in records], "source": "mine", "group": [r.group for r in records]}
    about |= {"fold": np.arange(len(records)) % 2, "label": [r.label for r in records]}
    frame = pd.DataFrame(about | {name: logits[:, i % 3] for i, name in enumerate(oof_columns(TASK)[5:])})
    config, tiny = (json.loads((f / "config.json").read_text()) for f in (model, tiny_checkpoint))
    block = tiny["bcx"] | {"training": config["bcx"]["training"]}
    (model / "config.json").write_text(json.dumps(tiny | {"bcx": block}))
    shutil.copy(tiny_checkpoint / "model.safetensors", model)
    for place in (model, gather(model).measured):
        write_oof(place / "oof.csv", frame, TASK)
        stored = json.loads((place / "results.json").read_text())
        kept = {key: value for key, value in stored.items() if key not in DERIVED}
        (place / "results.json").write_text(json.dumps(kept | derive(frame, TASK)))
    return model, records


@pytest.mark.slow
def test_the_command_draws_numbers_and_on_request_scans(answered, busi_folder, tmp_path):
    model, _ = answered
    numbers, shown = tmp_path / "numbers", tmp_path / "shown"
    asked = ["figures", str(model), "--out", str(numbers), "--data", f"mine={busi_folder}", "--pictures", str(shown)]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert {path.name for path in shown.iterdir()} == {
        *(f"augmentation-{name}.png" for name in TASK.classes),
        "mistakes.png",
        "answers.png",
    }
    assert {"roc.png", "confusion.png", "intensity.png"} <= {path.name for path in numbers.iterdir()}
    for path in shown.iterdir():
        with Image.open(path) as picture:
            assert min(picture.size) > 300


def test_pictures_are_refused_without_scans_and_for_strangers(answered, tmp_path):
    model, records = answered
    alone = CliRunner().invoke(app, ["figures", str(model), "--pictures", str(tmp_path / "x")])
    assert alone.exit_code != 0
    assert "--data" in str(alone.exception)
    strangers = [record for record in records if record.label == "none"]
    with pytest.raises(DataError, match="out of fold"):
        draw_pictures(gather(model), strangers, tmp_path / "x")
