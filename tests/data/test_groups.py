"""`groups.csv` beside the images ties scans together, in a folder and in a manifest; what does not fit is a problem."""

import pytest

from bcx.data.readers import read_source, survey
from bcx.data.splits import assign_folds
from bcx.errors import DataError, SplitError


@pytest.fixture
def folder(tmp_path, draw):
    for label in ("benign", "malignant"):
        for number in range(6):
            draw(tmp_path / f"{label}/{number}.png")
    return tmp_path


def tie(folder, *rows):
    (folder / "groups.csv").write_text("\n".join(["file,group", *rows]) + "\n")


def test_a_folder_keeps_tied_scans_on_one_side(folder, task):
    tie(folder, "benign/0.png,x", "malignant/3.png,x", "benign\\4.png,y", "benign/5.png,y", "extra/1.png,y")
    reading = survey("mine", folder, task=task)
    group = {record.key: record.group for record in reading.records}
    assert group["mine/benign/0.png"] == group["mine/malignant/3.png"] == "mine:benign/0.png"
    assert group["mine/benign/4.png"] == group["mine/benign/5.png"]
    assert len(set(group.values())) == 10
    assert reading.problems == []
    assert any("ties 4 scans" in note for note in reading.notes)
    assert any("1 rows" in note for note in reading.notes)
    fold = {record.key: record.fold for record in assign_folds(reading.records, k=3)}
    assert fold["mine/benign/0.png"] == fold["mine/malignant/3.png"]


def test_a_manifest_keeps_its_patients_whole(folder, task):
    tie(folder, "benign/0.png,x", "benign/2.png,x")
    table = folder / "scans.csv"
    table.write_text("file,label,group\n" + "".join(f"benign/{n}.png,benign,p{n // 2}\n" for n in range(6)))
    group = [record.group for record in read_source("mine", table, task=task)]
    assert group == ["mine:p0"] * 4 + ["mine:p2"] * 2


def test_folds_that_tear_a_group_apart_are_refused(folder, task):
    tie(folder, "benign/0.png,x", "benign/1.png,x")
    table = folder / "scans.csv"
    table.write_text("file,label,fold\n" + "".join(f"benign/{n}.png,benign,{n}\n" for n in range(4)))
    with pytest.raises(SplitError, match="both sides"):
        read_source("mine", table, task=task)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,groep\nbenign/0.png,x\n", "has no column 'group'"),
        ("file,group\nelsewhere/0.png,x\n", "names none of the scans"),
        (b"\xff\xfe\x00", "cannot be read as a table"),
    ],
)
def test_a_table_that_does_not_fit_is_a_problem(folder, task, text, said):
    (folder / "groups.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=said):
        read_source("mine", folder, task=task)


def test_an_audit_that_found_no_group_changes_nothing(folder, task):
    before = read_source("mine", folder, task=task)
    tie(folder)
    assert read_source("mine", folder, task=task) == before
