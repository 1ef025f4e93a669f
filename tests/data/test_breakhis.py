"""BreakHis: what the published names say, and how the reader groups and labels by them."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bcx.data.histology import MAGNIFICATIONS, SlideName, parse_name
from bcx.data.readers import detect_kind, read_source, survey
from bcx.data.splits import assign_folds, check_split
from bcx.errors import BcxError, DataError
from bcx.tasks import BREAST_ULTRASOUND, HISTOLOGY_BREAKHIS, HISTOLOGY_BREAKHIS_SUBTYPES
from tests.layouts import write_breakhis_folder

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "breakhis"
SHORT = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes tumor",
    "TA": "tubular adenoma",
    "DC": "ductal carcinoma",
    "LC": "lobular carcinoma",
    "MC": "mucinous carcinoma",
    "PC": "papillary carcinoma",
}
DIGITS = st.text("0123456789", min_size=1, max_size=6)


@given(
    st.sampled_from(sorted(SHORT)),
    st.text("0123456789", min_size=2, max_size=2),
    DIGITS,
    st.sampled_from(["", "A", "AB", "CD", "F"]),
    st.sampled_from(MAGNIFICATIONS),
    DIGITS,
)
def test_every_published_name_is_read(short, year, slide, letters, magnification, number):
    kind = "B" if short in ("A", "F", "PT", "TA") else "M"
    stem = f"SOB_{kind}_{short}-{year}-{slide}{letters}-{magnification}-{number}"
    name = parse_name(stem)
    label = "benign" if kind == "B" else "malignant"
    assert name == SlideName(label, SHORT[short], f"{year}-{slide}", magnification)


@given(st.one_of(st.text(max_size=40), st.from_regex(r"SOB_[BMX]_[A-Z]{1,2}-\d{2}-\w{1,5}-\d{2,3}-\d", fullmatch=True)))
def test_any_other_name_is_a_data_error_or_means_what_it_says(stem):
    try:
        name = parse_name(stem)
    except DataError:
        return
    assert stem.startswith(f"SOB_{name.label[0].upper()}_")
    assert f"-{name.magnification}-" in stem
    assert f"-{name.group}" in stem


@pytest.mark.parametrize(
    ("stem", "words"),
    [
        ("SOB_B_DC-14-1-40-001", "subtype 'DC'"),  # a malignant subtype that is called benign
        ("SOB_M_XX-14-1-40-001", "subtype 'XX'"),
        ("SOB_B_A-14-1-50-001", "magnification '50'"),
        ("SOB_B_A-14-1-040-001", "magnification '040'"),
        ("SOB_B_A-14-1-40", "no name of BreakHis"),
        ("sob_b_a-14-1-40-001", "no name of BreakHis"),
        ("SOB_B_A-14-1-40-001 (1)", "no name of BreakHis"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(stem, words):
    with pytest.raises(DataError, match=words) as caught:
        parse_name(stem)
    assert isinstance(caught.value, BcxError)
    assert caught.value.remedy


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    return write_breakhis_folder(tmp_path_factory.mktemp("breakhis"), patients=2)


def test_binary_and_subtypes(drawn):
    records = read_source("breakhis", drawn, task=HISTOLOGY_BREAKHIS)
    assert Counter(record.label for record in records) == {"benign": 32, "malignant": 32}
    subtypes = read_source("breakhis", drawn, task=HISTOLOGY_BREAKHIS_SUBTYPES)
    assert Counter(record.label for record in subtypes) == dict.fromkeys(HISTOLOGY_BREAKHIS_SUBTYPES.classes, 8)
    assert [record.key for record in records] == [record.key for record in subtypes]
    assert len({record.group for record in records}) == 16
    assert detect_kind("anything", drawn) == "breakhis"
    assert detect_kind("anything", drawn / "histology_slides" / "breast") == "breakhis"


def test_one_magnification_by_the_name_of_the_source(drawn):
    for zoom in MAGNIFICATIONS:
        records = read_source(f"breakhis-{zoom}x", drawn, task=HISTOLOGY_BREAKHIS)
        assert {parse_name(record.file.stem).magnification for record in records} == {zoom}
        assert len(records) == 16
        assert records[0].key.startswith(f"breakhis-{zoom}x/")


def test_patients_stay_whole_also_over_magnifications(drawn):
    records = assign_folds(read_source("breakhis", drawn, task=HISTOLOGY_BREAKHIS), 2)
    check_split([r for r in records if r.fold == 0], [r for r in records if r.fold == 1])
    near, far = (read_source(f"breakhis-{zoom}x", drawn, task=HISTOLOGY_BREAKHIS) for zoom in (40, 400))
    assert {record.group for record in near} == {record.group for record in far}


def test_slides_of_one_patient_are_one_group(tmp_path, drawn):
    source = next(drawn.rglob("*-40-001.png"))
    for name in ("SOB_B_A-14-22549AB-40-001", "SOB_B_A-14-22549CD-40-001"):
        (tmp_path / f"{name}.png").write_bytes(source.read_bytes())
    assert {r.group for r in read_source("breakhis", tmp_path, task=HISTOLOGY_BREAKHIS)} == {"breakhis:14-22549"}


def test_problems_name_the_file(tmp_path, drawn):
    source = next(drawn.rglob("SOB_M_*-40-001.png"))
    (tmp_path / "benign").mkdir()
    (tmp_path / "benign" / source.name).write_bytes(source.read_bytes())
    (tmp_path / "holiday.png").write_bytes(source.read_bytes())
    (tmp_path / "fake.png").write_text("no picture")
    texts = [str(problem) for problem in survey("breakhis", tmp_path, task=HISTOLOGY_BREAKHIS).problems]
    assert len(texts) == 3
    for words in ("'holiday' is no name", "lies below a folder 'benign'", "'fake.png' is called a picture"):
        assert any(words in text for text in texts), words


def test_what_does_not_fit_is_said(tmp_path, drawn):
    with pytest.raises(DataError, match="say nothing of the classes"):
        read_source("breakhis", drawn, task=BREAST_ULTRASOUND)
    with pytest.raises(DataError, match="holds no picture"):
        read_source("breakhis", tmp_path, task=HISTOLOGY_BREAKHIS)
    only = write_breakhis_folder(tmp_path / "some", patients=1, magnifications=(40,))
    with pytest.raises(DataError, match="no picture at magnification 400"):
        read_source("breakhis-400x", only, task=HISTOLOGY_BREAKHIS)


@pytest.mark.skipif(not REAL.is_dir(), reason="the sample of BreakHis is not here")
def test_the_published_sample():
    records = read_source("breakhis", REAL, task=HISTOLOGY_BREAKHIS)
    subtypes = read_source("breakhis", REAL, task=HISTOLOGY_BREAKHIS_SUBTYPES)
    assert len(records) == 37
    assert {record.label for record in subtypes} == set(HISTOLOGY_BREAKHIS_SUBTYPES.classes)
    # 23 slides; those of one patient differ in their letters alone
    assert len({record.group for record in records}) == 21
    assert sum(len(read_source(f"breakhis-{zoom}x", REAL, task=HISTOLOGY_BREAKHIS)) for zoom in MAGNIFICATIONS) == 37
