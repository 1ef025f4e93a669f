import random
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bcx.data.records import Record
from bcx.data.splits import assign_folds, check_split, inner_split
from bcx.errors import SplitError

LABELS = ("normal", "benign", "malignant")


def make(name: str, label: str, group: str, source: str = "mine", fold: int | None = None) -> Record:
    return Record(Path(f"{source}/{name}.png"), f"{source}/{name}.png", label, f"{source}:{group}", source, (), fold)


@st.composite
def sources(draw, labels=LABELS, least=12, source="mine"):
    """Groups of one to three scans, at least `least` groups a class."""
    records = []
    for label in labels:
        for group, size in enumerate(draw(st.lists(st.integers(1, 3), min_size=least, max_size=30))):
            records += [make(f"{label}{group}-{i}", label, f"{label}{group}", source) for i in range(size)]
    return records


def folds_of_groups(records):
    found = defaultdict(set)
    for record in records:
        found[record.group].add(record.fold)
    return found


quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@quick
@given(sources(), st.integers(2, 5), st.integers(0, 9))
def test_folds_are_whole_groups_and_stratified(records, k, seed):
    folded = assign_folds(records, k, seed)
    assert sorted(r.key for r in folded) == sorted(r.key for r in records)
    assert {r.fold for r in folded} == set(range(k))
    assert all(len(found) == 1 for found in folds_of_groups(folded).values())
    for label in LABELS:
        counts = Counter(r.fold for r in folded if r.label == label)
        share = sum(counts.values()) / k
        # groups have up to three scans, so whole groups cannot come nearer than a few scans
        assert all(abs(counts[fold] - share) <= 4 for fold in range(k))


@pytest.mark.slow
@quick
@given(sources(), st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_order_of_files_changes_nothing(records, chance, seed):
    shuffled = list(records)
    chance.shuffle(shuffled)
    assert assign_folds(shuffled, 4, seed) == assign_folds(records, 4, seed)
    assert inner_split(shuffled, 0.2, seed) == inner_split(records, 0.2, seed)


@quick
@given(sources(), st.sampled_from([0.1, 0.15, 0.2, 0.25, 1 / 3, 0.4, 0.5]), st.integers(0, 9))
def test_the_inner_part_is_whole_groups_of_the_right_size(records, fraction, seed):
    training, validation = inner_split(records, fraction, seed)
    assert sorted(r.key for r in training + validation) == sorted(r.key for r in records)
    assert not {r.group for r in training} & {r.group for r in validation}
    for label in LABELS:
        whole = sum(r.label == label for r in records)
        part = sum(r.label == label for r in validation)
        assert 0 < part < whole
        assert abs(part - fraction * whole) <= 0.05 * whole + 4


@pytest.mark.slow
@quick
@given(sources(), sources(labels=("benign", "malignant"), source="other"))
def test_a_source_without_normals_is_divided_too(first, second):
    training, validation = inner_split(first + second, 0.2, 0)
    for part in (training, validation):
        assert {r.label for r in part if r.source == "other"} == {"benign", "malignant"}
    folded = assign_folds(first + second, 3)
    assert {r.fold for r in folded if r.source == "other"} == {0, 1, 2}


def test_another_seed_gives_another_split():
    records = [make(f"{label}{i}", label, f"{label}{i}") for label in LABELS for i in range(20)]
    assert assign_folds(records, 5, 0) != assign_folds(records, 5, 1)
    assert inner_split(records, 0.2, 0) != inner_split(records, 0.2, 1)
    assert assign_folds(records, 5, 3) == assign_folds(records, 5, 3)


def test_published_folds_are_kept_and_what_is_outside_stays_outside():
    published = [make(f"p{i}", LABELS[i % 3], f"p{i}", "busi", fold=i % 2) for i in range(6)]
    outside = make("p9", "benign", "p9", "busi")
    own = [make(f"{label}{i}", label, f"{label}{i}") for label in LABELS for i in range(5)]
    folded = {r.key: r for r in assign_folds([*published, outside, *own], 5)}
    assert all(folded[r.key] == r for r in [*published, outside])
    assert all(folded[r.key].fold is not None for r in own)


def test_large_groups_do_not_unbalance_the_folds():
    chance = random.Random(0)
    records = [
        make(f"{label}{g}-{i}", label, f"{label}{g}")
        for label in LABELS
        for g in range(40)
        for i in range(chance.choice([1, 1, 1, 2, 8]))
    ]
    sizes = Counter(r.fold for r in assign_folds(records, 5))
    assert max(sizes.values()) - min(sizes.values()) <= 8


@pytest.mark.parametrize("k", [3, 5])
def test_too_few_groups_name_the_class(k):
    records = [make(f"b{i}", "benign", f"b{i}") for i in range(9)]
    records += [make(f"m{i}", "malignant", f"m{i // 5}") for i in range(10)]  # ten scans, but two groups
    with pytest.raises(SplitError, match="'malignant' has 2 groups"):
        assign_folds(records, k)


def test_one_group_cannot_be_divided():
    records = [make(f"{label}{i}", label, label) for label in LABELS for i in range(5)]
    with pytest.raises(SplitError, match="1 group "):
        inner_split(records, 0.2, 0)


def test_two_groups_a_class_are_enough_for_two_parts():
    records = [make(f"{label}{i}", label, f"{label}{i}") for label in LABELS for i in range(2)]
    training, validation = inner_split(records, 0.1, 0)
    assert {r.label for r in training} == {r.label for r in validation} == set(LABELS)


def test_nothing_to_split():
    with pytest.raises(SplitError, match="no records"):
        inner_split([], 0.2, 0)


def test_a_group_on_both_sides_is_named_with_a_file_of_each():
    with pytest.raises(SplitError) as caught:
        check_split([make("a1", "benign", "anna")], [make("b", "benign", "berta"), make("a2", "benign", "anna")])
    for text in ("'mine:anna'", "'mine/a1.png'", "'mine/a2.png'"):
        assert text in str(caught.value)


def test_a_folder_under_two_names_is_noticed(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    one = Record(tmp_path / "a.png", "x/a.png", "benign", "x:a", "x")
    other = Record(tmp_path / "." / "a.png", "y/a.png", "benign", "y:a", "y")
    with pytest.raises(SplitError, match=r"'x/a\.png' and 'y/a\.png'"):
        check_split([one], [other])


def test_a_class_with_four_groups_is_spread_over_five_folds():
    records = [make(f"{label}{i}", label, f"{label}{i}") for label in ("benign", "malignant") for i in range(60)]
    records += [make(f"n{i}", "normal", f"n{i}") for i in range(4)]
    folds = assign_folds(records, 5)
    assert len(folds) == len(records)
    assert {r.fold for r in folds if r.label == "benign"} == {0, 1, 2, 3, 4}
    assert len({r.fold for r in folds if r.label == "normal"}) > 1
    for group in {r.group for r in folds}:
        assert len({r.fold for r in folds if r.group == group}) == 1
