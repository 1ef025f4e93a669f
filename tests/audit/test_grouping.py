"""Groups are what is tied, in whatever order; labels and parts of a split come from folders or a table."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bcx.audit.findings import make_groups
from bcx.audit.listing import labels_of, list_files, parts_of, read_split
from bcx.data.reading import join
from bcx.errors import BcxError, ConfigError, DataError

names = st.integers(0, 30)
pairs = st.lists(st.tuples(names, names), max_size=60)


@given(pairs)
@settings(deadline=None)
def test_joining_is_an_equivalence(tied):
    groups = join(tied)
    assert sum(map(len, groups)) == len({name for pair in tied for name in pair})
    of = {name: number for number, group in enumerate(groups) for name in group}
    assert all(of[one] == of[other] for one, other in tied)
    # Whoever is in a group is tied to all of it: nothing else holds it together.
    for group in groups:
        reached, new = set(), {next(iter(group))}
        while new:
            reached |= new
            new = {b for a, b in tied if a in reached} | {a for a, b in tied if b in reached}
            new -= reached
        assert reached == group


@given(pairs, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_order_does_not_matter(tied, random):
    text = [(f"{a}.png", f"{b}.png") for a, b in tied if a != b]
    shuffled = [pair[::-1] if random.random() < 0.5 else pair for pair in random.sample(text, len(text))]
    content = {f"{name}.png": f"{name * 7919 % 31:064x}" for name in range(31)}
    assert make_groups(text, content, {}, {}) == make_groups(shuffled, content, {}, {})
    assert all(len(group.files) > 1 for group in make_groups(text, content, {}, {}))


def test_labels_come_from_the_nearest_folder_called_like_a_class():
    files = ["train/Benign/a.png", "malignant/old/b.png", "other/c.png", "d.png", "normal/benign/e.png"]
    assert labels_of(files) == {
        "train/Benign/a.png": "benign",
        "malignant/old/b.png": "malignant",
        "normal/benign/e.png": "benign",
    }


def test_without_such_folders_the_outermost_ones_are_labels():
    assert labels_of(["cyst/a.png", "cyst/b.png", "lipoma/x/c.png"]) == {
        "cyst/a.png": "cyst",
        "cyst/b.png": "cyst",
        "lipoma/x/c.png": "lipoma",
    }
    assert labels_of(["Images/a.png", "Images/b.png"]) == {}
    assert labels_of([f"patient{k}/a.png" for k in range(40)]) == {}
    assert labels_of(["train/a.png", "test/b.png"]) == {}


def test_parts_come_from_folders():
    files = ["Train/benign/a.png", "val/b.png", "benign/testing/c.png", "benign/d.png"]
    assert parts_of(files) == {"Train/benign/a.png": "train", "val/b.png": "validation", "benign/testing/c.png": "test"}


def test_a_split_may_have_folds_too(tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("file,split,fold\n./x/a.png,dev,1\nx\\b.png,dev,\nc.png,test,\nnowhere.png,dev,2\n")
    assert read_split(table, ["x/a.png", "x/b.png", "y/c.png"]) == {
        "x/a.png": "dev, 1",
        "x/b.png": "dev",
        "y/c.png": "test",
    }


def test_a_name_alone_does_where_it_is_unique(tmp_path):
    table = tmp_path / "split.csv"
    table.write_text("file,fold\na.png,1\nb.png,0\n")
    assert read_split(table, ["x/a.png", "y/a.png", "x/b.png"]) == {"x/b.png": "0"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no column 'file'"),
        ("file,split\n", "has no rows"),
        ("file,part\na.png,1\n", "has the columns 'file,part'"),
        ("name,split\na.png,1\n", "has no column 'file'"),
        ("file,split\nz.png,dev\n", "No row of 'split.csv' names a file"),
    ],
)
def test_a_split_that_does_not_fit_is_refused(tmp_path, text, said):
    table = tmp_path / "split.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=said):
        read_split(table, ["a.png"])


def test_a_split_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "split.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BcxError, match="cannot be read as a table"):
        read_split(tmp_path / "split.csv", ["a.png"])
    with pytest.raises(BcxError, match="There is no table"):
        read_split(tmp_path / "none.csv", ["a.png"])


def test_listing_passes_over_what_is_hidden_masks_and_its_own_output(tmp_path):
    for name in ("a.png", "a_mask.png", "a_mask_1.png", "b_mask.png", ".c.png", "out/report.html", "in/.git/d.png",
                 "__MACOSX/a.png", "in/e.dcm"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    listed = list_files(tmp_path, leave_out=tmp_path / "out")
    assert listed == (["a.png", "b_mask.png", "in/e.dcm"], ["a_mask.png", "a_mask_1.png"], {})
    with pytest.raises(DataError, match="There is no folder"):
        list_files(tmp_path / "none")
    with pytest.raises(DataError, match="is a file"):
        list_files(tmp_path / "a.png")
