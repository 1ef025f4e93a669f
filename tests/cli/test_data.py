import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bcx.cli.data import app


@pytest.fixture
def folder(tmp_path):
    chance = np.random.default_rng(0)
    for label, count in (("benign", 3), ("malignant", 2)):
        (tmp_path / label).mkdir()
        for n in range(count):
            pixels = chance.integers(0, 255, (40, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"[{n}].png")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)], env={"COLUMNS": "100", "TERM": "dumb"})


def test_counts_are_printed(folder):
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert re.search(r"benign\s+3\s+3\s+0", result.stdout)
    assert re.search(r"malignant\s+2\s+2\s+0", result.stdout)
    assert re.search(r"all\s+5\s+5\s+0", result.stdout)
    assert "48 to 48 pixels wide" in result.stdout
    assert "No problems." in result.stdout


def test_all_problems_are_printed_and_the_status_is_1(folder):
    (folder / "benign/[x].png").write_text("text")
    (folder / "benign/[y].png").write_text("text")
    result = run(folder)
    assert result.exit_code == 1
    assert "2 problems:" in result.stdout
    assert "'benign/[x].png'" in result.stdout
    assert "'benign/[y].png'" in result.stdout


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--kind", "zoo"], []])
def test_wrong_usage_is_status_2(arguments):
    assert run(*arguments).exit_code == 2


def test_a_named_kind_is_believed(folder):
    result = run(folder, "--kind", "busbra")
    assert result.exit_code == 1
    assert "bus_data.csv" in result.stdout


def test_a_manifest(folder):
    (folder / "scans.csv").write_text(
        "file,label,group,fold\n"
        + "".join(f"{label}/[{n}].png,{label},p{label}{n},{n}\n" for label in ("benign", "malignant") for n in range(2))
    )
    result = run(folder / "scans.csv")
    assert result.exit_code == 0, result.output
    assert re.search(r"all\s+4\s+4\s+0\s+2\s+2", result.stdout)


def test_what_was_passed_over_can_be_named(folder):
    for number in range(11):
        (folder / f"benign/note {number}.txt").write_text("text")
    assert "note 9.txt" not in run(folder).output
    named = [line for line in run(folder, "--verbose").stderr.splitlines() if line.startswith("left out: ")]
    assert named[0] == "left out: benign/note 0.txt: no picture"
    assert len(named) == 11
