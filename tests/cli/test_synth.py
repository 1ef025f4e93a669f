"""`bcx synth`: from a folder of scans to a generator, its pictures, and what they are worth."""

import json

import pytest
from PIL import Image

from bcx.studies.synthesis.generator import MARK
from tests.layouts import write_busi_folder

RECIPE = """name: tiny
classes: [malignant]
size: 16
width: 4
noise: 8
epochs: 2
batch_size: 4
precision: fp32
"""


@pytest.mark.slow
def test_train_and_sample(tmp_path, run):
    scans = write_busi_folder(tmp_path / "scans", per_class=10, size=(40, 48))
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    out = tmp_path / "generators"
    assert run("synth", "train", recipe, "--data", f"mine={scans}", "--fold", 0, "--out", out).status == 0
    weights = out / "fold-0" / "malignant" / "generator.safetensors"
    assert weights.is_file()
    options = ["--count", 5, "--seed", 3, "--data", f"mine={scans}", "--sheet", tmp_path / "sheet.png"]
    done = run("synth", "sample", weights, "--out", tmp_path / "made", *options)
    assert done.status == 0
    files = sorted((tmp_path / "made").glob("*.png"))
    assert len(files) == 5
    assert all(MARK[0] in Image.open(file).info for file in files)
    report = json.loads((tmp_path / "made" / "quality.json").read_text())
    assert (report["generated"], report["train"] + report["held"]) == (5, 10)
    assert report["by"].keys() == {"mobilenetv2-busi"}
    assert str(tmp_path) not in json.dumps(report)
    assert (tmp_path / "sheet.png").is_file()
    assert "KID by mobilenetv2-busi" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "synth-modern"], "No scans were named"),
        (["train", "no-such-recipe"], "no recipe called"),
        (["train", "synth-modern", "--label", "benign", "--data", "a=b"], "makes no class 'benign'"),
        (["train", "synth-modern", "--set", "width"], "has no value"),
        (["study", "synth-study", "--set", "arms=[mixup]"], "mixup"),
        (["sample", "x.safetensors", "--out", "y", "--sheet", "z.png"], "--sheet needs"),
    ],
)
def test_wrong_requests_are_status_2_and_name_the_problem(arguments, words, run):
    done = run("synth", *arguments)
    assert (done.status, words in done.err) == (2, True)
