"""The IDC layout, and what cleaning leaves out of it."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bcx.cli.main import app
from bcx.data.check import clean, is_blank
from bcx.data.histology import looks_like_idc
from bcx.data.readers import detect_kind, read_source, survey
from bcx.data.records import Record
from bcx.data.splits import assign_folds, check_split
from bcx.errors import DataError
from bcx.tasks import BREAST_ULTRASOUND, HISTOLOGY_IDC
from tests.layouts import write_idc_folder

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "idc"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return write_idc_folder(tmp_path_factory.mktemp("idc") / "idc", patients=6, patches=2)


@pytest.fixture
def folder(drawn, tmp_path) -> Path:
    return Path(shutil.copytree(drawn, tmp_path / "idc"))


def first(folder: Path, kind: int) -> Path:
    return sorted((folder / "101" / str(kind)).iterdir())[0]


def test_labels_and_patients_come_from_folders(drawn):
    records = read_source("idc", drawn, task=HISTOLOGY_IDC)
    assert len(records) == 24
    for record in records:
        patient, kind = record.file.parts[-3:-1]
        assert record.group == f"idc:{patient}"
        assert record.label == HISTOLOGY_IDC.classes[int(kind)]
    assert detect_kind("mine", drawn) == "idc"
    assert read_source("mine", drawn, task=HISTOLOGY_IDC)[0].group == "mine:101"


def test_folds_are_the_same_again_and_keep_patients_whole(drawn):
    records = read_source("idc", drawn, task=HISTOLOGY_IDC)
    folded = assign_folds(records, 3, seed=0)
    assert folded == assign_folds(records[::-1], 3, seed=0)
    for fold in range(3):
        held = [r for r in folded if r.fold == fold]
        check_split(held, [r for r in folded if r.fold != fold])
        assert {r.label for r in held} == set(HISTOLOGY_IDC.classes)


def test_class_folders_are_not_taken_for_patients(tmp_path):
    for name in ("normal", "benign", "malignant"):
        (tmp_path / name).mkdir()
    assert not looks_like_idc(tmp_path)
    assert not looks_like_idc(tmp_path / "missing")


def test_a_name_that_contradicts_its_folders_is_a_problem(folder):
    one = first(folder, 0)
    one.rename(folder / "102" / "0" / one.name)  # patient 101's patch among patient 102's
    other = first(folder, 1)
    other.rename(folder / "101" / "0" / other.name)
    problems = [str(problem) for problem in survey("idc", folder, task=HISTOLOGY_IDC).problems]
    assert len(problems) == 2
    assert any("patient 101, class 0" in text for text in problems)
    assert any("class 1" in text for text in problems)
    with pytest.raises(DataError, match="bcx data check"):
        read_source("idc", folder, task=HISTOLOGY_IDC)


def test_names_of_ones_own_are_welcome(folder):
    first(folder, 1).rename(folder / "101" / "1" / "anything.png")
    assert len(read_source("idc", folder, task=HISTOLOGY_IDC)) == 24


def test_what_is_not_idc_is_said(drawn, tmp_path):
    with pytest.raises(DataError, match="3 classes"):
        read_source("idc", drawn, task=BREAST_ULTRASOUND)
    with pytest.raises(DataError, match="no subfolder"):
        read_source("idc", tmp_path, task=HISTOLOGY_IDC)


@pytest.fixture
def broken(folder) -> Path:
    """One patch each: truncated, blank, too small, copied; and one picture under both labels."""
    files = sorted((folder / "103" / "0").iterdir())
    files[0].write_bytes(files[0].read_bytes()[:200])
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(240, 245, (50, 50, 3), dtype=np.uint8)).save(files[1])
    small = sorted((folder / "104" / "0").iterdir())[0]
    Image.open(small).crop((0, 0, 50, 49)).save(small)
    shutil.copy(first(folder, 0), folder / "105" / "0" / "copy.png")
    shutil.copy(sorted((folder / "106" / "0").iterdir())[0], folder / "106" / "1" / "both.png")
    return folder


def test_cleaning_leaves_out_what_is_no_good_patch(broken):
    records = read_source("idc", broken, task=HISTOLOGY_IDC)
    kept, left_out = clean(records, HISTOLOGY_IDC)
    assert {reason: len(keys) for reason, keys in left_out.items()} == {
        "that cannot be read": 1,
        "blank": 1,
        "of another size": 1,
        "copy of another": 1,
        "under two labels": 2,
    }
    assert left_out["copy of another"] == ["idc/105/0/copy.png"]
    assert len(kept) == 26 - 6
    assert clean(kept, HISTOLOGY_IDC) == (kept, {reason: [] for reason in left_out})


def test_scans_of_other_tasks_are_not_even_opened(tmp_path):
    gone = Record(tmp_path / "gone.png", "mine/gone.png", "benign", "mine:gone", "mine")
    assert clean([gone], BREAST_ULTRASOUND) == ([gone], {})


def test_pale_tissue_is_not_blank():
    glass = np.full((50, 50, 3), 243, np.uint8)
    pale = glass.copy()
    pale[20:24] = 200
    assert is_blank(glass)
    assert not is_blank(pale)


def test_data_check_lists_all_of_it(broken):
    found = CliRunner().invoke(app, ["data", "check", str(broken)])
    assert found.exit_code == 1
    assert "IDC patches" in found.output
    for words in ("50 x 49 pixels", "blank", "different labels", "in different groups"):
        assert words in found.output, words
    assert "5 problems" in found.output


def test_data_check_reports_copies_inside_a_patient(folder):
    shutil.copy(first(folder, 0), folder / "101" / "0" / "again.png")
    found = CliRunner().invoke(app, ["data", "check", str(folder), "--task", "histology-idc"])
    assert found.exit_code == 1
    assert "The same patch is there 2 times" in found.output


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the published patches are not here")
def test_the_published_patches():
    records = read_source("idc", REAL, task=HISTOLOGY_IDC)
    counts = [sum(record.label == label for record in records) for label in HISTOLOGY_IDC.classes]
    assert (counts, len({record.group for record in records})) == ([6660, 2558], 223)
    assert [len(keys) for keys in clean(records, HISTOLOGY_IDC)[1].values()] == [0, 1, 0, 0, 0]
