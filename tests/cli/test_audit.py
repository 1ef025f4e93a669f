"""`bcx audit`: what it prints, what it writes and how it ends."""

import csv

import pytest
from typer.testing import CliRunner

from bcx.cli.main import app, main
from tests.audit.conftest import messy, save, scan

__all__ = ["messy"]


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Without the network, which has tests of its own and takes seconds to load."""
    monkeypatch.setattr("bcx.audit.run._ask_network", lambda root, looks, tell: ([], []))


def run(*arguments):
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


def test_it_ends_well_whatever_it_finds_and_badly_when_strict(messy):
    done = run(messy)
    assert done.exit_code == 0, done.output
    assert "3  near-duplicate pairs" in done.stdout
    assert "Labels benign, malignant: benign/b2.png, malignant/b2 cropped.png" in done.stdout
    assert "--out DIR" in done.stdout
    assert run(messy, "--strict").exit_code == 1


def test_strict_is_content_with_a_clean_folder(tmp_path):
    save(scan(1), tmp_path / "a.png")
    done = run(tmp_path, "--strict")
    assert done.exit_code == 0, done.output
    assert "0  groups" in done.stdout


def test_everything_is_written_into_the_folder_that_was_named(messy, tmp_path):
    out = tmp_path / "deep" / "audit"
    done = run(messy, "--out", out)
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json", "groups.csv", "oddities.csv", "pairs.csv", "report.html",
    ]  # fmt: skip
    assert not list(messy.rglob(".*"))


def test_what_it_writes_among_the_scans_is_not_read_the_next_time(tmp_path):
    for seed in (1, 2):
        save(scan(seed), tmp_path / f"benign/{seed}.png")
    save(scan(1)[10:], tmp_path / "benign/again.png")
    first = run(tmp_path, "--out", tmp_path)
    second = run(tmp_path, "--out", tmp_path)
    assert first.exit_code == second.exit_code == 0
    assert "      3  pictures" in second.stdout
    assert first.stdout == second.stdout


def test_a_leaking_split_is_named(messy, tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("file,split\nbenign/b1.png,train\nbenign/b1 mirrored.jpg,test\n")
    done = run(messy, "--split", table)
    assert "1  groups that straddle the split" in done.stdout
    assert "Straddles test | train: benign/b1 mirrored.jpg, benign/b1.png" in done.stdout


def test_wrong_usage_is_status_two(messy, tmp_path):
    (tmp_path / "file").write_text("name,part\n")
    for arguments in (
        [tmp_path / "none"],
        [tmp_path / "file"],
        [messy, "--split", tmp_path / "none.csv"],
        [messy, "--split", tmp_path / "file"],
        [messy, "--out", tmp_path / "file"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(["audit", *map(str, arguments)])
        assert ended.value.code == 2


def test_training_keeps_the_groups_together(tmp_path):
    from bcx.data.readers import read_source
    from bcx.tasks import BREAST_ULTRASOUND

    for label in ("benign", "malignant"):
        for seed in (1, 2):
            save(scan(seed, label), tmp_path / label / f"{seed}.png")
    save(scan(1)[8:, 8:], tmp_path / "benign/9.png")
    assert run(tmp_path, "--out", tmp_path).exit_code == 0
    with (tmp_path / "groups.csv").open(newline="") as handle:
        assert [row["file"] for row in csv.DictReader(handle)] == ["benign/1.png", "benign/9.png"]
    records = read_source("mine", tmp_path, task=BREAST_ULTRASOUND)
    group = {record.key: record.group for record in records}
    assert group["mine/benign/1.png"] == group["mine/benign/9.png"]
    assert len(set(group.values())) == 4


def test_what_was_left_out_can_be_named(messy, tmp_path):
    done = run(messy, "--verbose", "--out", tmp_path / "out")
    assert "notes.txt: no picture" in done.stderr
    assert "notes.txt: no picture" in (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "notes.txt" not in run(messy).output
