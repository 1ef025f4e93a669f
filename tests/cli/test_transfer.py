"""`bcx evaluate --transfer`, run as a person runs it: a recipe and two hospitals in, figures out, part by part."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from bcx.cli import main as cli
from bcx.simulate import write_busbra_folder

RECIPE = "name: tiny\narch: mobilenetv2_035\nsize: 64\nbatch_size: 8\nprecision: fp32\nepochs: 1\nfolds: 2\n"


@pytest.fixture
def run(capfd, tmp_path, busi_folder, monkeypatch):
    """Run the command in an empty folder that holds a recipe and BUS-BRA; returns status, out, err."""
    monkeypatch.chdir(tmp_path)
    busbra = write_busbra_folder(tmp_path / "busbra", patients=8)
    Path("tiny.yaml").write_text(RECIPE)

    def run(*options: str) -> SimpleNamespace:
        sources = ["--data", f"cairo={busi_folder}", "--data", f"rio={busbra}"]
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            cli.main(["evaluate", "--transfer", "tiny.yaml", *sources, "--init", "scratch", "--out", "out", *options])
        out, err = capfd.readouterr()
        return SimpleNamespace(status=caught.value.code or 0, out=out, err=err)

    return run


@pytest.mark.slow
def test_parts_one_after_the_other_end_in_one_table(run, tmp_path):
    first = run("--parts", "hospital")
    assert first.status == 0, first.err
    assert "cairo -> rio (16 lesions): AUC " in first.out
    found = json.loads(Path("out/results.json").read_text())
    assert [row["part"] for row in found["table"]] == ["hospital", "hospital"]
    assert found["command"] == (
        "bcx evaluate --transfer tiny.yaml --data cairo=DIR --data rio=DIR --init scratch --parts hospital"
    )
    unknown = run("--parts", "machine", "--machine", "no such")
    assert unknown.status == 2
    name = unknown.err.split("one or more of '")[1].split("'")[0]  # the message names those that there are
    second = run("--parts", "machine", "--machine", name)
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
def test_wrong_usage_is_status_2_and_trains_nothing(run, options):
    assert run(*options).status == 2
    assert not Path("out").exists()


@pytest.mark.parametrize("options", [["--parts", "hospital"], ["--machine", "a"], ["--init", "timm"]], ids=" ".join)
def test_options_of_the_study_need_the_study(capfd, tmp_path, options):
    with pytest.raises(SystemExit) as caught:
        cli.main(["evaluate", "--data", f"clinic={tmp_path}", "--out", str(tmp_path / "r.json"), *options])
    assert caught.value.code == 2
    assert f"{options[0]} was given without --transfer" in capfd.readouterr().err
