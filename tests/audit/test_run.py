"""A whole audit: copies, conflicts, leaks and odd files of one folder; the same groups whatever files are called."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bcx.audit import audit
from bcx.audit.findings import write_report, write_tables
from bcx.audit.run import SAME_PICTURE
from bcx.data.reading import Reading
from bcx.data.records import Record
from bcx.errors import OutputError
from bcx.imaging.names import MASK, NO_PICTURE
from tests.audit.conftest import COPIES, overlaid, save, scan
from tests.layouts import write_idc_folder


@pytest.fixture(scope="module")
def found(messy):
    return audit(messy, workers=1, network=False)


def together(found) -> set[frozenset[str]]:
    return {frozenset(group.files) for group in found.groups}


def test_copies_make_groups(found):
    assert together(found) == {
        frozenset({"benign/b1.png", "benign/b1 mirrored.jpg"}),
        frozenset({"benign/b2.png", "malignant/b2 cropped.png"}),
        frozenset({"benign/b3.png", "benign/b3 again.png"}),
    }
    assert {pair.kind for pair in found.pairs} == {"near-duplicate"}
    same = next(pair for pair in found.pairs if pair.a == "benign/b3 again.png")
    assert same.match.changes == (SAME_PICTURE,)


def test_conflicts_and_unreadable_files_are_named(found):
    assert [group.files for group in found.conflicts] == [("benign/b2.png", "malignant/b2 cropped.png")]
    assert found.conflicts[0].labels == ("benign", "malignant")
    broken = {file: odd.detail for file, odd in found.odd if odd.kind == "unreadable"}
    assert set(broken) == {"benign/broken.png", "benign/empty.jpg"}
    assert "'broken.png'" in broken["benign/broken.png"]
    assert not any(str(found.root) in detail for detail in broken.values())
    assert sorted(why for _, why in found.left_out) == [MASK, NO_PICTURE]
    counts = found.counts()
    assert (counts["pictures"], counts["near-duplicate pairs"], counts["unreadable"]) == (13, 3, 2)


def test_renamed_and_saved_again_the_groups_are_the_same(messy, found, tmp_path):
    """Names, folders and formats say nothing: every picture is saved as a PNG called by a number, in reverse order."""
    from bcx.imaging.scan import Scan

    new_name = {}
    for number, look in enumerate(reversed(found.looks)):
        if look.content:
            new_name[f"{number:03d}.png"] = look.file
            save(Scan.open(messy / look.file).pixels, tmp_path / f"{number:03d}.png")
    again = audit(tmp_path, workers=1, network=False)
    assert {frozenset(new_name[file] for file in group) for group in together(again)} == together(found)
    assert {group.name for group in again.groups} == {group.name for group in found.groups}
    before = {frozenset((p.a, p.b)): p.match for p in found.pairs}
    assert {frozenset((new_name[p.a], new_name[p.b])): p.match for p in again.pairs} == before
    assert again.conflicts == []


def test_two_processes_find_what_one_finds(messy, found, monkeypatch):
    monkeypatch.setattr("bcx.audit.run._FEW", 1)
    both = audit(messy, workers=2, network=False)
    assert both.pairs == found.pairs
    assert both.groups == found.groups
    assert both.odd == found.odd


@pytest.mark.slow
def test_every_copy_is_found_among_others(tmp_path):
    """The index proposes the pairs: nothing here compares all with all."""
    for number, (name, change) in enumerate(COPIES.items(), 1):
        seed, label = 1 + number % 3, ("benign", "malignant", "normal")[number % 3]
        save(change(scan(seed, label)), tmp_path / f"{name}.png")
    for seed in (1, 2, 3):
        for label in ("benign", "malignant", "normal"):
            save(scan(seed, label), tmp_path / f"original {label} {seed}.png")
            save(overlaid(scan(seed + 3, label)), tmp_path / f"unrelated {label} {seed}.png")
    found = audit(tmp_path, workers=1, network=False)
    tied = {file for group in found.groups for file in group.files}
    assert {f"{name}.png" for name in COPIES} <= tied
    assert not {file for file in tied if file.startswith("unrelated")}
    assert len(found.groups) == 3


def test_a_split_is_held_against_the_groups(messy, tmp_path):
    table = tmp_path / "split.csv"
    rows = [
        "file,split",
        "benign/b1.png,train",
        "benign/b1 mirrored.jpg,test",
        "benign/b3.png,train",
        "b3 again.png,train",
    ]
    table.write_text("\n".join(rows) + "\n")
    found = audit(messy, split=table, workers=1, network=False)
    assert [(group.files[1], group.parts) for group in found.straddling] == [("benign/b1.png", ("test", "train"))]


def test_folders_called_train_and_test_are_a_split(tmp_path):
    save(scan(1), tmp_path / "train/benign/x.png")
    save(scan(1)[10:, 10:], tmp_path / "Test/benign/y.png")
    found = audit(tmp_path, workers=1, network=False)
    assert [group.parts for group in found.straddling] == [("test", "train")]
    assert found.conflicts == []


@pytest.mark.parametrize("number", [0, 1, 2])
def test_folders_with_next_to_nothing(tmp_path, number):
    for seed in range(1, number + 1):
        save(scan(seed), tmp_path / f"{seed}.png")
    found = audit(tmp_path, workers=1, network=False)
    assert (len(found.looks), found.pairs, found.clean) == (number, [], True)


def test_blank_pictures_are_odd_and_make_no_pair(tmp_path):
    save(np.zeros((200, 200), np.uint8), tmp_path / "black.png")
    save(np.full((200, 210), 255, np.uint8), tmp_path / "white.png")
    found = audit(tmp_path, workers=1, network=False)
    assert found.pairs == []
    assert {(file, odd.kind) for file, odd in found.odd} == {("black.png", "not a scan"), ("white.png", "not a scan")}


def test_tables_and_report(messy, found, tmp_path):
    write_tables(found, tmp_path)
    write_report(found, tmp_path / "report.html")
    with (tmp_path / "groups.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["file"] for row in rows] == [file for group in found.groups for file in group.files]
    assert len({row["group"] for row in rows}) == 3
    with (tmp_path / "pairs.csv").open(newline="") as handle:
        pairs = list(csv.DictReader(handle))
    assert {(row["label_a"], row["label_b"]) for row in pairs} == {("benign", "benign"), ("benign", "malignant")}
    assert json.loads((tmp_path / "audit.json").read_text())["counts"]["groups"] == 3
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<article") == 3
    assert page.count("data:image/jpeg;base64,") >= 6
    for part in ("http://", "https://", "<script", str(messy)):
        assert part not in page
    assert "benign/broken.png" in page
    assert "prefers-color-scheme: dark" in page
    assert not list(tmp_path.glob(".*"))


def test_names_are_text_in_the_report(tmp_path):
    save(scan(1), tmp_path / "scans" / "<b>&amp;.png")
    save(scan(1)[5:, 5:], tmp_path / "scans" / 'x"><img src=x>.png')
    found = audit(tmp_path / "scans", workers=1, network=False)
    write_report(found, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "<b>&" not in page
    assert "<img src=x" not in page
    assert "&lt;b&gt;&amp;amp;.png" in page


def test_names_that_would_run_as_formulas_are_harmless_in_the_tables_and_read_back(tmp_path):
    save(scan(1), tmp_path / "benign" / "a.png")
    save(scan(1)[5:, 5:], tmp_path / "benign" / "b.png")
    for name in ("a", "b"):
        (tmp_path / "benign" / f"{name}.png").rename(tmp_path / f"={name}.png")
    (tmp_path / "benign").rmdir()
    write_tables(audit(tmp_path, workers=1, network=False), tmp_path)
    for name in ("groups.csv", "pairs.csv"):
        lines = (tmp_path / name).read_text("utf-8").splitlines()[1:]
        assert lines
        assert all(line.startswith("'=") for line in lines)
    records = [Record(tmp_path / f"={name}.png", f"mine/={name}.png", "benign", name, "mine") for name in ("a", "b")]
    tied = Reading(records)
    assert tied.add_groups(tmp_path, "mine")
    assert not tied.problems
    assert len({record.group for record in tied.records}) == 1


def test_pairs_through_the_group_are_listed(found, tmp_path):
    from bcx.audit.findings import implied

    for name, change in (("a", lambda p: p), ("b", lambda p: p[:, :150]), ("c", lambda p: p[:, 150:])):
        save(change(scan(2)), tmp_path / f"{name}.png")
    chained = audit(tmp_path, workers=1, network=False)
    assert [group.files for group in chained.groups] == [("a.png", "b.png", "c.png")]
    assert implied(chained) == [("b.png", "c.png")]
    assert implied(found) == []


def test_nothing_of_the_scans_is_left_behind(messy, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(messy, copy)
    before = sorted(path for path in copy.rglob("*"))
    audit(copy, work=copy, workers=1, network=False)
    assert sorted(path for path in copy.rglob("*")) == before


def test_a_file_that_nobody_thought_of_does_not_stop_the_run(tmp_path, monkeypatch):
    from bcx.audit import look

    for seed in (1, 2):
        save(scan(seed), tmp_path / f"{seed}.png")
    truly = look.oddities_of

    def fails(picture):
        if picture.name == "1.png":
            raise ValueError("an empty slice")
        return truly(picture)

    monkeypatch.setattr(look, "oddities_of", fails)
    found = audit(tmp_path, workers=1, network=False)
    assert [(file, odd.kind) for file, odd in found.odd] == [("1.png", "unreadable")]
    assert "ValueError: an empty slice" in found.odd[0][1].detail


def test_a_full_disk_is_not_blamed_on_the_files(tmp_path, monkeypatch):
    def full(store, place, features):
        raise OSError(28, "No space left on device")

    save(scan(1), tmp_path / "1.png")
    monkeypatch.setattr("bcx.audit.look.write_features", full)
    with pytest.raises(OutputError, match="No space left"):
        audit(tmp_path, workers=1, network=False)


def test_the_answer_does_not_depend_on_when_it_is_asked(messy, found):
    seen: list[tuple[str, int, int]] = []
    again = audit(messy, workers=1, network=False, on_progress=lambda *step: seen.append(step))
    assert again.pairs == found.pairs
    assert [step for step in seen if step[0] == "Looking at files"][-1] == ("Looking at files", 14, 14)
    assert {stage for stage, _, _ in seen} == {
        "Looking at files",
        "Indexing",
        "Looking for candidates",
        "Comparing pairs",
    }
    assert isinstance(found.root, Path)


def test_colour_is_not_held_against_tissue(tmp_path):
    root = write_idc_folder(tmp_path, patients=2, patches=2)
    copy = next(root.rglob("*.png"))
    (root / "102" / "0" / "copy.png").write_bytes(copy.read_bytes())
    found = audit(root, workers=1)
    assert not any(odd.kind in ("not a scan", "Doppler", "tint") for _, odd in found.odd)
    assert any("no ultrasound" in note for note in found.notes)
    assert [set(group.files) for group in found.groups] == [{copy.relative_to(root).as_posix(), "102/0/copy.png"}]
