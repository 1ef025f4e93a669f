"""`bcx data check` and `bcx audit`: what they print, what they write and how they end."""

import csv
import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bcx.cli.main import app
from tests.audit.conftest import messy, save, scan


@pytest.fixture
def folder(tmp_path):
    chance = np.random.default_rng(0)
    for label, count in (("benign", 3), ("malignant", 2)):
        (tmp_path / label).mkdir()
        for n in range(count):
            pixels = chance.integers(0, 255, (40, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"[{n}].png")
    return tmp_path


def check(*arguments):
    words = ["data", "check", *map(str, arguments)]
    return CliRunner().invoke(app, words, env={"COLUMNS": "100", "TERM": "dumb"})


def test_counts_are_printed(folder):
    result = check(folder)
    assert result.exit_code == 0, result.output
    assert re.search(r"benign\s+3\s+3\s+0", result.stdout)
    assert re.search(r"malignant\s+2\s+2\s+0", result.stdout)
    assert re.search(r"all\s+5\s+5\s+0", result.stdout)
    assert "48 to 48 pixels wide" in result.stdout
    assert "No problems." in result.stdout


def test_all_problems_are_printed_and_the_status_is_1(folder):
    (folder / "benign/[x].png").write_text("text")
    (folder / "benign/[y].png").write_text("text")
    result = check(folder)
    assert result.exit_code == 1
    assert "2 problems:" in result.stdout
    assert "'benign/[x].png'" in result.stdout
    assert "'benign/[y].png'" in result.stdout


@pytest.mark.parametrize("arguments", [["nowhere"], [".", "--kind", "zoo"], []])
def test_wrong_usage_is_status_2(arguments):
    assert check(*arguments).exit_code == 2


def test_a_named_kind_is_believed(folder):
    result = check(folder, "--kind", "busbra")
    assert result.exit_code == 1
    assert "bus_data.csv" in result.stdout


def test_a_manifest(folder):
    (folder / "scans.csv").write_text(
        "file,label,group,fold\n"
        + "".join(f"{label}/[{n}].png,{label},p{label}{n},{n}\n" for label in ("benign", "malignant") for n in range(2))
    )
    result = check(folder / "scans.csv")
    assert result.exit_code == 0, result.output
    assert re.search(r"all\s+4\s+4\s+0\s+2\s+2", result.stdout)


def test_what_was_passed_over_can_be_named(folder):
    for number in range(11):
        (folder / f"benign/note {number}.txt").write_text("text")
    assert "note 9.txt" not in check(folder).output
    named = [line for line in check(folder, "--verbose").stderr.splitlines() if line.startswith("left out: ")]
    assert named[0] == "left out: benign/note 0.txt: no picture"
    assert len(named) == 11


__all__ = ["messy"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Without the network, which has tests of its own and takes seconds to load."""
    monkeypatch.setattr("bcx.audit.run._ask_network", lambda root, looks, tell: ([], []))


def audit(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_it_ends_well_whatever_it_finds_and_badly_when_strict(messy):
    done = audit(messy)
    assert done.exit_code == 0, done.output
    assert "3  near-duplicate pairs" in done.stdout
    assert "Labels benign, malignant: benign/b2.png, malignant/b2 cropped.png" in done.stdout
    assert "--out DIR" in done.stdout
    assert audit(messy, "--strict").exit_code == 1


def test_strict_is_content_with_a_clean_folder(tmp_path):
    save(scan(1), tmp_path / "a.png")
    done = audit(tmp_path, "--strict")
    assert done.exit_code == 0, done.output
    assert "0  groups" in done.stdout


def test_everything_is_written_into_the_folder_that_was_named(messy, tmp_path):
    out = tmp_path / "deep" / "audit"
    done = audit(messy, "--out", out)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json", "groups.csv", "oddities.csv", "pairs.csv", "report.html",
    ]  # fmt: skip
    assert not list(messy.rglob(".*"))


def test_what_it_writes_among_the_scans_is_not_read_the_next_time(tmp_path):
    for seed in (1, 2):
        save(scan(seed), tmp_path / f"benign/{seed}.png")
    save(scan(1)[10:], tmp_path / "benign/again.png")
    first = audit(tmp_path, "--out", tmp_path)
    second = audit(tmp_path, "--out", tmp_path)
    assert first.exit_code == second.exit_code == 0
    assert "      3  pictures" in second.stdout
    assert first.stdout == second.stdout


def test_a_leaking_split_is_named(messy, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("file,split\nbenign/b1.png,train\nbenign/b1 mirrored.jpg,test\n")
    done = audit(messy, "--split", table)
    assert "1  groups that straddle the split" in done.stdout
    assert "Straddles test | train: benign/b1 mirrored.jpg, benign/b1.png" in done.stdout


def test_wrong_usage_of_audit_is_status_2(messy, tmp_path, run):
    (tmp_path / "file").write_text("name,part\n")
    for arguments in (
        [tmp_path / "none"],
        [tmp_path / "file"],
        [messy, "--split", tmp_path / "none.csv"],
        [messy, "--split", tmp_path / "file"],
        [messy, "--out", tmp_path / "file"],
    ):
        assert run("audit", *arguments).status == 2


def test_training_keeps_the_groups_together(tmp_path):
    from bcx.data.readers import read_source
    from bcx.tasks import BREAST_ULTRASOUND

    for label in ("benign", "malignant"):
        for seed in (1, 2):
            save(scan(seed, label), tmp_path / label / f"{seed}.png")
    save(scan(1)[8:, 8:], tmp_path / "benign/9.png")
    assert audit(tmp_path, "--out", tmp_path).exit_code == 0
    with (tmp_path / "groups.csv").open(newline="") as handle:
        assert [row["file"] for row in csv.DictReader(handle)] == ["benign/1.png", "benign/9.png"]
    records = read_source("mine", tmp_path, task=BREAST_ULTRASOUND)
    group = {record.key: record.group for record in records}
    assert group["mine/benign/1.png"] == group["mine/benign/9.png"]
    assert len(set(group.values())) == 4


@pytest.mark.slow
def test_what_an_audit_left_out_can_be_named(messy, tmp_path):
    done = audit(messy, "--verbose", "--out", tmp_path / "out")
    assert "notes.txt: no picture" in done.stderr
    assert "notes.txt: no picture" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "notes.txt" not in audit(messy).output
