import csv
import shutil
from pathlib import Path

import pytest

from bcx.data.readers import busbra_devices, detect_kind, read_source, survey
from bcx.data.records import load_mask
from bcx.errors import DataError, ScanError


def by_key(records):
    return {record.key: record for record in records}


# ---------------------------------------------------------------- plain class folders


@pytest.fixture
def folder(tmp_path, draw, draw_mask) -> Path:
    for label in ("Normal", "benign", "MALIGNANT"):
        for name in ("a.png", "b.jpg", "c.bmp"):
            draw(tmp_path / label / name)
    draw_mask(tmp_path / "benign/a_mask.png", (1, 1, 9, 9))
    draw_mask(tmp_path / "benign/a_mask_1.png", (20, 20, 30, 30))
    return tmp_path


def test_class_folders_match_in_any_case(folder, task):
    records = by_key(read_source("mine", folder, task=task))
    assert len(records) == 9
    assert records["mine/MALIGNANT/b.jpg"].label == "malignant"
    assert records["mine/Normal/a.png"].group == "mine:Normal/a.png"
    assert all(record.fold is None and record.source == "mine" for record in records.values())


def test_masks_beside_a_scan_are_its_masks(folder, task):
    records = by_key(read_source("mine", folder, task=task))
    assert load_mask(records["mine/benign/a.png"], (40, 48)).sum() == 8 * 8 + 10 * 10
    assert records["mine/benign/b.jpg"].masks == ()


def test_pictures_are_told_by_their_bytes(folder, task, draw):
    draw(folder / "x.png").rename(folder / "benign/without-ending")
    (folder / "benign/readme.txt").write_text("no picture")
    (folder / "benign/.DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "__MACOSX/benign").mkdir(parents=True)
    reading = survey("mine", folder, task=task)
    assert not reading.problems
    assert "mine/benign/without-ending" in by_key(reading.records)
    assert len(reading.records) == 10
    assert any("readme.txt" in note for note in reading.notes)


@pytest.mark.parametrize("content", [b"just text", b"", b"<svg xmlns='http://www.w3.org/2000/svg'/>"])
def test_what_is_only_called_a_picture_is_named(folder, task, content):
    (folder / "benign/fake.png").write_bytes(content)
    with pytest.raises(DataError, match=r"'benign/fake\.png' is called a picture"):
        read_source("mine", folder, task=task)


def test_a_source_may_lack_a_class(folder, task):
    shutil.rmtree(folder / "Normal")
    assert {record.label for record in read_source("mine", folder, task=task)} == {"benign", "malignant"}


SPOILT = {
    "'Normal' holds no picture": lambda folder, *_: [file.unlink() for file in (folder / "Normal").iterdir()],
    "'suspicious'": lambda folder, draw, _: draw(folder / "suspicious/a.png"),
    r"'benign/gone_mask\.png' has no scan": lambda folder, _, mask: mask(folder / "benign/gone_mask.png", (1, 1, 2, 2)),
    "'benign/patient-7' holds pictures": lambda folder, draw, _: draw(folder / "benign/patient-7/a.png"),
}


@pytest.mark.parametrize("said", SPOILT)
def test_what_is_wrong_with_a_folder_is_named(folder, task, draw, draw_mask, said):
    SPOILT[said](folder, draw, draw_mask)
    with pytest.raises(DataError, match=said):
        read_source("mine", folder, task=task)


def test_all_problems_are_listed(folder, task, draw):
    draw(folder / "suspicious/a.png")
    (folder / "benign/fake.png").write_bytes(b"text")
    draw(folder / "malignant/patient-7/a.png")  # a second folder of that class, in another spelling
    found = " ".join(str(problem) for problem in survey("mine", folder, task=task).problems)
    for name in ("suspicious", "fake.png", "patient-7"):
        assert name in found
    with pytest.raises(DataError, match="more problems: 'bcx data check"):
        read_source("mine", folder, task=task)


def test_a_folder_without_classes_says_what_it_holds(tmp_path, task, draw):
    draw(tmp_path / "scans/benign/a.png")
    with pytest.raises(DataError) as caught:
        read_source("mine", tmp_path, task=task)
    assert "'scans'" in caught.value.found
    assert str(tmp_path / "scans") in caught.value.remedy


def test_no_folder_and_a_file_instead_of_one(tmp_path, task, draw):
    with pytest.raises(DataError, match="There is no folder"):
        read_source("mine", tmp_path / "nowhere", task=task)
    with pytest.raises(DataError, match="is a file, not a folder"):
        read_source("folder", draw(tmp_path / "a.png"), task=task)


# Refusals are put in by hand: tests may run as root, for whom nothing is forbidden.
@pytest.mark.parametrize(
    "refusal",
    [
        PermissionError(13, "Permission denied", "benign"),
        ScanError("'benign/a.png' may not be read.", expected="a readable file", remedy="Change its permissions."),
    ],
)
def test_what_may_not_be_opened_is_named(folder, task, monkeypatch, refusal):
    def refuse(path):
        raise refusal

    monkeypatch.setattr("bcx.data.reading.sniff_file", refuse)
    with pytest.raises(DataError, match=r"'benign' cannot be opened|'benign/a\.png' may not be read"):
        read_source("mine", folder, task=task)


def test_a_split_that_a_folder_cannot_have(folder, task):
    with pytest.raises(DataError, match="'test'"):
        read_source("mine", folder, task=task, split="test")
    assert len(read_source("mine", folder, task=task, split="all")) == 9


# ---------------------------------------------------------------- BUS-BRA


def write_busbra(root: Path, draw, draw_mask, ending=".png", folds=True, cases=8) -> Path:
    rows = []
    for case in range(1, cases + 1):
        for side in "lr":
            draw(root / f"Images/bus_{case:04d}-{side}{ending}")
            draw_mask(root / f"Masks/mask_{case:04d}-{side}.png", (5, 5, 20, 20))
            row = {"ID": f"bus_{case:04d}-{side}", "Case": case, "Pathology": ("benign", "malignant")[case % 2]}
            rows.append(row | ({"fold": case % 4} if folds else {}))
    write_table(root / "bus_data.csv", rows)
    return root


def write_table(path: Path, rows: list[dict]) -> None:
    with path.open("w", newline="", encoding="utf-8") as handle:
        table = csv.DictWriter(handle, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def edit(root: Path, change) -> None:
    with (root / "bus_data.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    write_table(root / "bus_data.csv", change(rows))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_busbra_is_read_by_patients(tmp_path, task, draw, draw_mask, ending):
    root = write_busbra(tmp_path, draw, draw_mask, ending)
    records = by_key(read_source("busbra", root, task=task))
    assert len(records) == 16
    left, right = (records[f"busbra/Images/bus_0003-{side}{ending}"] for side in "lr")
    assert left.group == right.group == "busbra:3"
    assert (left.label, left.fold) == ("malignant", 3)
    assert load_mask(left, (40, 48)).sum() == 15 * 15
    assert left.masks[0].name == "mask_0003-l.png"


def test_busbra_is_recognised_and_without_folds_has_none(tmp_path, task, draw, draw_mask):
    root = write_busbra(tmp_path, draw, draw_mask, folds=False)
    assert detect_kind("rio", root) == "busbra"
    records = read_source("rio", root, task=task)
    assert all(record.fold is None and record.source == "rio" for record in records)


def test_busbra_faults_are_all_named(tmp_path, task, draw, draw_mask):
    root = write_busbra(tmp_path, draw, draw_mask)
    (root / "Images/bus_0001-l.png").unlink()
    draw(root / "Images/bus_0099-l.png")

    def spoil(rows):
        rows[4]["Pathology"] = "unclear"
        rows[6]["fold"] = "x"
        rows[8]["fold"] = "3"  # the other view of this patient is in fold 1
        return [*rows, rows[10]]

    edit(root, spoil)
    found = [str(problem) for problem in survey("busbra", root, task=task).problems]
    for text in (
        "1 of the 17 pictures in bus_data.csv are missing",
        "'bus_0001-l'",
        "no row in bus_data.csv: 'bus_0099-l'",
        "'bus_0003-l' in bus_data.csv has the label 'unclear'",
        "'bus_0004-l' in bus_data.csv has the fold 'x'",
        "Group 'busbra:5' is on both sides of a split",
        "more than one row for 'bus_0006-l'",
    ):
        assert any(text in problem for problem in found), text
    assert len(found) == 6


def test_busbra_elsewhere(tmp_path, task):
    with pytest.raises(DataError, match=r"has no 'bus_data\.csv'"):
        read_source("busbra", tmp_path, task=task)


@pytest.mark.parametrize("column", ["ID", "Case", "Pathology"])
def test_a_busbra_table_without_a_column(tmp_path, task, draw, draw_mask, column):
    root = write_busbra(tmp_path, draw, draw_mask)
    edit(root, lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows])
    with pytest.raises(DataError, match=f"no column '{column}'"):
        read_source("busbra", root, task=task)


def test_busbra_says_which_machine_took_a_picture(tmp_path, task, draw, draw_mask):
    root = write_busbra(tmp_path, draw, draw_mask, ".jpg")
    with pytest.raises(DataError, match="which machine"):
        busbra_devices(root)
    edit(root, lambda rows: [row | {"Device": " Logiq 5 " if int(row["Case"]) < 8 else ""} for row in rows])
    devices = busbra_devices(root, "rio")
    assert set(devices.values()) == {"Logiq 5"}
    assert set(devices) == {r.key for r in read_source("rio", root, task=task) if r.group != "rio:8"}


# ---------------------------------------------------------------- several sources


def test_sources_together_have_distinct_keys_and_groups(folder, task, tmp_path_factory, draw, draw_mask):
    other = write_busbra(tmp_path_factory.mktemp("other"), draw, draw_mask)
    records = read_source("mine", folder, task=task) + read_source("busbra", other, task=task)
    assert len(by_key(records)) == len(records) == 25
    assert not any(str(folder) in record.key + record.group for record in records)
