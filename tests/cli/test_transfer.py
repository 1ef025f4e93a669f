"""`bcx evaluate --transfer`, run as a person runs it: a recipe and two hospitals in, figures out, part by part."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from bcx.simulate import write_busbra_folder

RECIPE = "name: tiny\narch: mobilenetv2_035\nsize: 64\nbatch_size: 8\nprecision: fp32\nepochs: 1\nfolds: 2\n"


@pytest.fixture
def transfer(run, tmp_path, busi_folder, monkeypatch):
    """Run the command in an empty folder that holds a recipe and BUS-BRA; returns status, out, err."""
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(RECIPE)
    sources = ["--data", f"cairo={busi_folder}", "--data", f"rio={write_busbra_folder('busbra', patients=8)}"]
    return partial(run, "evaluate", "--transfer", "tiny.yaml", *sources, "--init", "scratch", "--out", "out")


@pytest.mark.slow
def test_parts_one_after_the_other_end_in_one_table(transfer, tmp_path):
    first = transfer("--parts", "hospital")
    assert first.status == 0, first.err
    assert "cairo -> rio (16 lesions): AUC " in first.out
    found = json.loads(Path("out/results.json").read_text())
    assert [row["part"] for row in found["table"]] == ["hospital", "hospital"]
    assert found["command"] == (
        "bcx evaluate --transfer tiny.yaml --data cairo=DIR --data rio=DIR --init scratch --parts hospital"
    )
    unknown = transfer("--parts", "machine", "--machine", "no such")
    assert unknown.status == 2
    name = unknown.err.split("one or more of '")[1].split("'")[0]  # the message names those that there are
    second = transfer("--parts", "machine", "--machine", name)
    assert second.status == 0, second.err
    assert "hospital" not in second.err  # nothing is trained again
    found = json.loads(Path("out/results.json").read_text())
    assert [(row["part"], row["score_on"]) for row in found["table"]] == [
        ("hospital", "rio"),
        ("hospital", "cairo"),
        ("machine", name),
    ]
    assert str(tmp_path) not in Path("out/results.json").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--parts", "country"],
        ["--localisation"],
        ["--views", "2"],
        ["--split", "test"],
        ["--set", "epochs"],
        ["--set", "epoch=1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_trains_nothing(transfer, options):
    assert transfer(*options).status == 2
    assert not Path("out").exists()


@pytest.mark.parametrize("options", [["--parts", "hospital"], ["--machine", "a"], ["--init", "timm"]], ids=" ".join)
def test_options_of_the_study_need_the_study(run, tmp_path, options):
    done = run("evaluate", "--data", f"clinic={tmp_path}", "--out", tmp_path / "r.json", *options)
    assert done.status == 2
    assert f"{options[0]} was given without --transfer" in done.err
