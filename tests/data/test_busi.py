from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bcx.data import busi
from bcx.data.busi import busi_rows, dhash, verify_manifest
from bcx.data.readers import detect_kind, read_source, survey
from bcx.errors import DataError
from bcx.tasks import BREAST_ULTRASOUND


def picture_with(bits: int, block: int = 8) -> np.ndarray:
    """A picture of 9 x 8 flat blocks whose difference hash is `bits` by construction: up for 1, down for 0."""
    steps = np.array([int(bit) for bit in f"{bits:064b}"]).reshape(8, 8) * 2 - 1
    levels = 127 + 15 * np.concatenate([np.zeros((8, 1), int), steps.cumsum(1)], axis=1)
    return np.kron(levels, np.ones((block, block), int)).astype(np.uint8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """All files of `dev` and `conflict`, each with a picture that has the published hash."""
    root = tmp_path_factory.mktemp("busi")
    for row in busi_rows():
        if row.split != "test":
            (root / row.label).mkdir(exist_ok=True)
            Image.fromarray(picture_with(row.dhash)).save(root / row.file, compress_level=1)
    return root


@pytest.fixture
def copy(dataset, tmp_path) -> Path:
    """A copy of the set that a test may spoil: links to the files."""
    for folder in dataset.iterdir():
        (tmp_path / "copy" / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            (tmp_path / "copy" / folder.name / file.name).hardlink_to(file)
    return tmp_path / "copy"


def swap(a: Path, b: Path) -> None:
    third = a.with_name("third")
    a.rename(third)
    b.rename(a)
    third.rename(b)


# ---------------------------------------------------------------- the shipped manifest


def test_the_manifest_is_the_published_one():
    rows = busi_rows()
    assert len(rows) == len({row.file for row in rows}) == 780
    assert Counter(row.label for row in rows) == {"benign": 437, "malignant": 210, "normal": 133}
    assert Counter(row.split for row in rows) == {"dev": 651, "test": 108, "conflict": 21}
    assert Counter(row.label for row in rows if row.split == "dev") == {"benign": 364, "malignant": 174, "normal": 113}
    assert all(row.file.startswith(f"{row.label}/{row.label} (") and len(row.sha256) == 64 for row in rows)


def test_no_group_straddles_a_fold_or_split():
    places = defaultdict(set)
    for row in busi_rows():
        places[row.group].add((row.split, row.fold))
    assert all(len(found) == 1 for found in places.values())


def test_the_tolerance_admits_no_scan_of_another_group():
    rows = busi_rows()
    nearest = min((a.dhash ^ b.dhash).bit_count() for i, a in enumerate(rows) for b in rows[:i] if a.group != b.group)
    assert nearest > busi.TOLERANCE


# ---------------------------------------------------------------- reading by name


def test_dev_is_read(dataset):
    records = read_source("busi", dataset, task=BREAST_ULTRASOUND)
    assert Counter(record.label for record in records) == {"benign": 364, "malignant": 174, "normal": 113}
    assert {record.fold for record in records} == {0, 1, 2, 3, 4}
    assert len({record.key for record in records}) == 651
    first = records[0]
    assert (first.key, first.group, first.source) == ("busi/benign/benign (1).png", "busi:0", "busi")
    assert all(record.file.is_file() for record in records)


def test_conflict_is_read_only_when_asked_for(dataset):
    dev = {record.key for record in read_source("busi", dataset, task=BREAST_ULTRASOUND)}
    conflict = read_source("busi", dataset, task=BREAST_ULTRASOUND, split="conflict")
    assert len(conflict) == 21
    assert not dev & {record.key for record in conflict}
    assert all(record.fold is None for record in conflict)


@pytest.mark.parametrize(("split", "missing", "wanted"), [("test", 108, 108), ("all", 108, 780)])
def test_a_split_that_is_not_here_says_how_many_files_are_missing(dataset, split, missing, wanted):
    first = next(row.file for row in busi_rows() if row.split == "test")
    with pytest.raises(DataError) as caught:
        read_source("busi", dataset, task=BREAST_ULTRASOUND, split=split)
    assert f"{missing} of the {wanted} files" in caught.value.found
    assert f"'{first}'" in caught.value.found


def test_all_is_complete_once_the_test_files_are_there(copy):
    for row in busi_rows():
        if row.split == "test":
            (copy / row.file).write_bytes(b"")
    assert len(read_source("busi", copy, task=BREAST_ULTRASOUND, split="all")) == 780
    assert len(read_source("busi", copy, task=BREAST_ULTRASOUND, split="test")) == 108
    assert len(read_source("busi", copy, task=BREAST_ULTRASOUND)) == 651


def test_an_unknown_split_is_named(dataset):
    with pytest.raises(DataError, match="'train'"):
        read_source("busi", dataset, task=BREAST_ULTRASOUND, split="train")


def test_masks_are_found_in_the_order_of_their_numbers(copy, draw_mask):
    for name in ("_mask_10", "_mask_2", "_mask", "_mask_1"):
        draw_mask(copy / f"benign/benign (1){name}.png", (0, 0, 1, 1))
    records = {record.key: record for record in read_source("busi", copy, task=BREAST_ULTRASOUND)}
    assert [mask.stem for mask in records["busi/benign/benign (1).png"].masks] == [
        f"benign (1)_mask{n}" for n in ("", "_1", "_2", "_10")
    ]
    # "benign (10)" begins like "benign (1": its masks must not be mixed up
    assert records["busi/benign/benign (10).png"].masks == ()


def test_a_missing_file_is_named(copy):
    (copy / "malignant/malignant (2).png").unlink()
    with pytest.raises(DataError, match=r"1 of the 651 .*'malignant/malignant \(2\)\.png'"):
        read_source("busi", copy, task=BREAST_ULTRASOUND)


def test_a_file_that_is_not_in_the_manifest_is_named(copy, draw):
    draw(copy / "benign/benign (438).png")
    (copy / "benign/notes.txt").write_text("not a picture, so not in the way")
    with pytest.raises(DataError, match=r"not in the published manifest of BUSI: 'benign/benign \(438\)\.png'"):
        read_source("busi", copy, task=BREAST_ULTRASOUND)


def test_the_folder_above_points_to_the_right_one(copy):
    with pytest.raises(DataError) as caught:
        read_source("busi", copy.parent, task=BREAST_ULTRASOUND)
    assert str(copy) in caught.value.remedy


def test_copies_with_other_endings_and_folder_names_keep_the_published_key(copy):
    file = copy / "benign/benign (1).png"
    Image.open(file).save(file.with_suffix(".jpg"), quality=90)
    file.unlink()
    (copy / "benign").rename(copy / "Benign")
    records = read_source("busi", copy, task=BREAST_ULTRASOUND)
    assert records[0].key == "busi/benign/benign (1).png"
    assert records[0].file == copy / "Benign/benign (1).jpg"
    verify_manifest(records, copy)


def test_every_problem_is_surveyed(copy, draw):
    draw(copy / "normal/stranger.png")
    (copy / "benign/benign (1).png").unlink()
    (copy / "benign/text.png").write_text("text under a picture's name")
    problems = " ".join(str(problem) for problem in survey("busi", copy, task=BREAST_ULTRASOUND).problems)
    for name in ("stranger.png", "benign (1).png", "text.png"):
        assert name in problems
    with pytest.raises(DataError, match="2 more problems"):
        read_source("busi", copy, task=BREAST_ULTRASOUND)


def test_the_kind_is_told_from_the_names(dataset, tmp_path, draw):
    assert detect_kind("cairo", dataset) == "busi"
    draw(tmp_path / "benign/benign (1).png")
    assert detect_kind("cairo", tmp_path) == "folder"
    assert read_source("cairo", dataset, task=BREAST_ULTRASOUND)[0].key.startswith("cairo/")


# ---------------------------------------------------------------- contents by hash


@given(st.integers(0, 2**64 - 1), st.integers(3, 12))
def test_the_hash_of_a_picture_made_for_it(bits, block):
    grey = picture_with(bits, block)
    assert dhash(grey) == bits
    assert dhash(np.ascontiguousarray(np.stack([grey] * 3, axis=2))) == bits


def test_copies_in_other_sizes_and_formats_are_the_same_picture(tmp_path):
    for row in busi_rows()[:50]:
        image = Image.fromarray(picture_with(row.dhash, 30))
        image.resize((224, 224)).save(tmp_path / "a.jpg", quality=50)
        found = dhash(np.asarray(Image.open(tmp_path / "a.jpg")))
        assert (found ^ row.dhash).bit_count() <= busi.TOLERANCE


def test_swapped_files_are_named_with_what_they_look_like(copy):
    swap(copy / "benign/benign (1).png", copy / "malignant/malignant (1).png")
    records = read_source("busi", copy, task=BREAST_ULTRASOUND)
    with pytest.raises(DataError) as caught:
        verify_manifest(records, copy)
    assert "'benign/benign (1).png' is not the picture" in caught.value.found
    assert "'malignant/malignant (1).png'" in caught.value.found
    assert "1 more problem" in caught.value.remedy


def test_an_unreadable_file_is_named(copy):
    file = copy / "normal/normal (3).png"
    content = file.read_bytes()
    file.unlink()  # a link: the original must stay whole
    file.write_bytes(content[: len(content) // 2])
    records = read_source("busi", copy, task=BREAST_ULTRASOUND)
    with pytest.raises(DataError, match=r"busi/normal/normal \(3\)\.png"):
        verify_manifest(records, copy)
