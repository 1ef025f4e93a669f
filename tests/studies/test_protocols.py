"""Both cuts: as many scans of each class on each side, and only the grouped one keeps groups together."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bcx.data.busi import busi_rows
from bcx.data.records import Record
from bcx.errors import SplitError
from bcx.studies.leak import cut, plan_protocols
from bcx.train.config import Published, Recipe


@pytest.fixture(scope="module")
def records():
    """BUSI's own rows: names, labels and groups, no pictures."""
    rows = [row for row in busi_rows() if row.split == "dev"]
    return [
        Record(Path(row.file), f"busi/{row.file}", row.label, f"busi:{row.group}", "busi", fold=row.fold)
        for row in rows
    ]


def counts(part):
    return Counter(record.label for record in part)


@pytest.mark.parametrize("sizes", [(499, 125, 156), (80, 0, 20), (1.0,) * 10], ids=["R1", "R3", "R4"])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_cuts_have_the_same_sizes_class_by_class(records, sizes, seed):
    random, grouped = (cut(records, sizes, seed, grouped=flag) for flag in (False, True))
    assert [counts(part) for part in random] == [counts(part) for part in grouped]
    assert sorted(r.key for part in grouped for r in part) == sorted(r.key for r in records)
    for part, size in zip(random, sizes, strict=True):
        for label, count in counts(records).items():
            assert abs(counts(part)[label] - count * size / sum(sizes)) < 1
    groups = [{record.group for record in part} for part in grouped]
    assert sum(map(len, groups)) == len(set().union(*groups))
    straddling = [{record.group for record in part} for part in random]
    assert sum(map(len, straddling)) > len(set().union(*straddling))


def test_another_seed_is_another_cut_and_the_order_of_records_does_not_matter(records):
    first = cut(records, (4, 1), 0, grouped=True)
    assert cut(records[::-1], (4, 1), 0, grouped=True) == first
    assert cut(records, (4, 1), 1, grouped=True) != first


def test_every_scan_is_as_likely_as_another_to_be_tested():
    records = [Record(Path(f"{i}"), f"a/{i:02}", "benign", f"a:{i // 2}", "a") for i in range(10)]
    drawn = np.array([[r in cut(records, (3, 2), seed, grouped=True)[1] for r in records] for seed in range(400)])
    # 4 of 10 each time; three standard errors of a share of .4 over 400 draws are .073
    assert np.abs(drawn.mean(0) - 0.4).max() < 0.08
    assert (drawn[:, ::2] == drawn[:, 1::2]).all()


def test_a_group_that_fits_nowhere_goes_where_most_room_is():
    records = [Record(Path(f"{i}"), f"a/{i}", "benign", "a:one" if i < 6 else f"a:{i}", "a") for i in range(9)]
    parts = cut(records, (1, 1, 1), 0, grouped=True)
    assert sorted(map(len, parts)) == [1, 2, 6]
    with pytest.raises(SplitError, match="no benign"):
        cut(records[:6], (1, 1), 0, grouped=True)


def test_the_plan_holds_every_seed_fold_and_protocol(records):
    folds = plan_protocols(Recipe(folds=3), records, [0, 5])
    assert [(run.recipe.seed, run.protocol, run.fold) for run in folds[:6]] == [
        *((0, "random", fold) for fold in range(3)),
        *((0, "grouped", fold) for fold in range(3)),
    ]
    assert len({run.folder for run in folds}) == len(folds) == 12
    for run in folds:
        assert len(run.train) + len(run.held) == len(records)
        assert {record.fold for record in run.held} == {run.fold}
        assert any(run.copies_in_training()) == (run.protocol == "random")

    split = Published(system="R1", split=(499, 125, 156))
    runs = plan_protocols(Recipe(published=split), records, [0])
    assert [(run.protocol, len(run.train), len(run.held)) for run in runs] == [
        ("random", len(runs[0].train), len(runs[0].held)),
        ("grouped", len(runs[0].train), len(runs[0].held)),
    ]
    assert abs(len(runs[0].train) - 651 * 499 / 780) < 2
    assert abs(len(runs[0].held) - 651 * 156 / 780) < 2


def test_copies_are_counted_in_the_training_part_only(records):
    run = next(r for r in plan_protocols(Recipe(folds=5), records, [0]) if r.protocol == "random")
    found = run.copies_in_training()
    for record, count in zip(run.held[:50], found[:50], strict=True):
        assert count == sum(other.group == record.group for other in run.train)
