import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcx.data.readers import read_source, survey
from bcx.data.records import load_mask
from bcx.errors import DataError, SplitError
from bcx.tasks import BREAST_ULTRASOUND


@pytest.fixture
def scans(tmp_path, draw, draw_mask) -> Path:
    for name in ("a1", "a2", "b1", "c1"):
        draw(tmp_path / f"images/{name}.png")
    draw_mask(tmp_path / "masks/left.png", (0, 0, 10, 10))
    draw_mask(tmp_path / "masks/right.png", (20, 20, 30, 30))
    return tmp_path


def table(root: Path, text: str) -> Path:
    (root / "scans.csv").write_text(text, encoding="utf-8")
    return root / "scans.csv"


def read(root: Path, text: str, **options):
    return read_source("mine", table(root, text), task=BREAST_ULTRASOUND, **options)


def test_two_columns_are_enough(scans):
    records = read(scans, "file,label\nimages/a1.png,benign\nimages/b1.png,Malignant \n")
    assert [(r.key, r.label, r.group, r.fold, r.masks) for r in records] == [
        ("mine/images/a1.png", "benign", "mine:images/a1.png", None, ()),
        ("mine/images/b1.png", "malignant", "mine:images/b1.png", None, ()),
    ]
    assert records[0].file == scans / "images/a1.png"


def test_groups_masks_and_folds(scans):
    records = read(
        scans,
        "\ufefffile,label,group,mask,fold,remark\r\n"
        'images/a1.png,benign,anna,masks/left.png|masks/right.png,0,"one, two"\r\n'
        "images/a2.png,benign,anna,,0,\r\n"
        "\r\n"
        "images\\b1.png,malignant,berta,masks/left.png,1,\r\n",
    )
    assert [(r.group, r.fold, len(r.masks)) for r in records] == [
        ("mine:anna", 0, 2), ("mine:anna", 0, 0), ("mine:berta", 1, 1),
    ]  # fmt: skip
    assert load_mask(records[0], (40, 48)).sum() == 200
    assert records[2].key == "mine/images/b1.png"


def test_a_split_column_selects(scans):
    text = "file,label,split\nimages/a1.png,benign,dev\nimages/b1.png,malignant,test\n"
    assert [r.key for r in read(scans, text)] == ["mine/images/a1.png"]
    assert [r.key for r in read(scans, text, split="test")] == ["mine/images/b1.png"]
    assert len(read(scans, text, split="all")) == 2
    with pytest.raises(DataError, match="no row with the split 'valid'"):
        read(scans, text, split="valid")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'file', 'label'"),
        ("file:label\nimages/a1.png:benign\n", "no column 'file', 'label'; its first line is 'file:label'"),
        ("file,class\nimages/a1.png,benign\n", "no column 'label'"),
        ("file,label\n", "has no rows"),
        ("file,label,file\nimages/a1.png,benign,x\n", "column 'file' twice"),
        ("file,label,groups\nimages/a1.png,benign,anna\n", "column 'groups'"),
        ("file,label,masks\nimages/a1.png,benign,x\n", "column 'masks'"),
        ("file,label\nimages/a1.png\n", "Line 2 .* 2 cells"),
        ("file,label\nimages/a, 1.png,benign\n", "Line 2 .* 2 cells"),
        ("file,label\nimages/a1.png,cyst\n", "Line 2 .* label 'cyst'"),
        ("file,label\nimages/a1.png,benign\n\nimages/a1.png,benign\n", r"Line 4 .* 'images/a1\.png' again .* line 2"),
        ("file,label\nimages/a1.png,benign\n./images/a1.png,malignant\n", "Line 3 .* again"),
        ("file,label\nimages/none.png,benign\n", r"Line 2 .* 'images/none\.png', which is not there"),
        ("file,label,mask\nimages/a1.png,benign,masks/none.png\n", r"'masks/none\.png', which is not there"),
        ("file,label\nscans.csv,benign\nimages/a1.png,benign\n", r"'scans\.csv' is called a picture"),
        ("file,label\n,benign\n", "Line 2 .* no file"),
        ("file,label,fold\nimages/a1.png,benign,first\n", "fold 'first'"),
        ("file,label,fold\nimages/a1.png,benign,-1\n", "fold '-1'"),
        ("file,label,fold\nimages/a1.png,benign,0\nimages/b1.png,benign,\n", "1 of 2 rows .* have no fold"),
        ("file,label\n../x.png,benign\n", r"Line 2 .* '\.\./x\.png'"),
        ("file,label\nimages/../../x.png,benign\n", "Line 2"),
        ("file,label\n/etc/passwd,benign\n", "'/etc/passwd'"),
        ("file,label\nC:\\scans\\x.png,benign\n", "Line 2"),
        ("file,label,mask\nimages/a1.png,benign,../m.png\n", r"'\.\./m\.png'"),
        ('file,label\n"images/a1.png,benign\n', "cannot be read as a table"),
    ],
)
def test_faults_are_named(scans, text, message):
    with pytest.raises(DataError, match=message):
        read(scans, text)


def test_bytes_that_are_no_text(scans):
    (scans / "scans.csv").write_bytes(b"file,label\n\xff\xfe\x00,benign\n")
    with pytest.raises(DataError, match="cannot be read as a table"):
        read_source("mine", scans / "scans.csv", task=BREAST_ULTRASOUND)


def test_no_manifest(tmp_path):
    with pytest.raises(DataError, match="There is no manifest"):
        read_source("mine", tmp_path / "scans.csv", task=BREAST_ULTRASOUND)


def test_a_group_in_two_folds_is_named_with_both_files(scans):
    text = "file,label,group,fold\nimages/a1.png,benign,anna,0\nimages/a2.png,benign,anna,1\n"
    with pytest.raises(SplitError) as caught:
        read(scans, text)
    for name in ("'mine:anna'", "'mine/images/a1.png' in fold 0", "'mine/images/a2.png' in fold 1"):
        assert name in caught.value.found


def test_each_bad_row_is_listed_and_good_ones_are_read(scans):
    text = "file,label\nimages/a1.png,benign\nimages/none.png,benign\nimages/a2.png,cyst\n../c1.png,benign\n"
    reading = survey("mine", table(scans, text), task=BREAST_ULTRASOUND)
    assert [r.key for r in reading.records] == ["mine/images/a1.png"]
    assert [problem.found[:6] for problem in reading.problems] == ["Line 3", "Line 4", "Line 5"]


def test_without_groups_a_note_says_so(scans):
    reading = survey("mine", table(scans, "file,label\nimages/a1.png,benign\n"), task=BREAST_ULTRASOUND)
    assert any("group" in note for note in reading.notes)


NAMES = st.text("abcäß 0(),;'\"=+-@|[]", min_size=1, max_size=12).map(str.strip).filter(lambda n: n and n[0] != ".")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(NAMES, st.tuples(st.sampled_from(BREAST_ULTRASOUND.classes), NAMES), min_size=1, max_size=6))
def test_what_a_table_says_is_what_is_read(tmp_path_factory, draw, rows):
    root = tmp_path_factory.mktemp("manifest")
    with (root / "scans.csv").open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["label", "file", "group"])
        for name, (label, group) in rows.items():
            draw(root / f"{name}.png", (16, 16))
            writer.writerow([label, f"{name}.png", group])
    records = read_source("mine", root / "scans.csv", task=BREAST_ULTRASOUND)
    assert {(r.key, r.label, r.group) for r in records} == {
        (f"mine/{name}.png", label, f"mine:{group}") for name, (label, group) in rows.items()
    }
    assert [r.key for r in records] == sorted(r.key for r in records)
