"""Cut records into folds and parts that no group straddles."""

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from bcx.data.records import Record
from bcx.errors import SplitError


def assign_folds(records: Iterable[Record], k: int = 5, seed: int = 0) -> list[Record]:
    """Give every record a fold in 0..k-1, grouped and stratified by label, source by source; return them by key.

    A source of which any record already has a fold is returned as it is: its folds are published, and a record of it
    without a fold stays outside all folds. A class with fewer groups than folds is spread as far as it goes, and
    missing from some folds, where two other classes have enough. The answer does not depend on the order of `records`.

    Raises:
        SplitError: too few groups of a class for `k` folds, or groups so uneven that a fold would miss a class.
    """
    ordered, done = _in_order(records), list[Record]()
    for source in sorted({record.source for record in ordered}):
        part = [record for record in ordered if record.source == source]
        if any(record.fold is not None for record in part):
            done += part
            continue
        counts = _groups_of_each(part)
        common = {label for label, count in counts.items() if count >= k}
        if len(common) < 2:
            common = set(counts)
        _check_groups([record for record in part if record.label in common], k)
        folds = _grouped_folds(part, [record.label for record in part], k, seed)
        for fold in range(k):
            if missing := common - {r.label for r, f in zip(part, folds, strict=True) if f == fold}:
                raise SplitError(
                    f"Fold {fold} of '{source}' would hold no {', '.join(sorted(missing))}.",
                    expected=f"every class in each of {k} folds",
                    remedy="Use fewer folds, or add scans of this class from other patients.",
                )
        done += [replace(record, fold=int(fold)) for record, fold in zip(part, folds, strict=True)]
    return _in_order(done)


def inner_split(records: Iterable[Record], fraction: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Cut a validation part out of training records, by whole groups and with the classes in proportion.

    `fraction` is kept to the nearest one with a denominator of at most 10 that the groups allow.

    Returns:
        `(training, validation)`, each sorted by key, each with every class, no group in both.

    Raises:
        SplitError: too few groups of a class for two parts.
    """
    ordered = _in_order(records)
    _check_groups(ordered, 2)
    counts = _groups_of_each(ordered)
    labels, finest = set(counts), min(10, *counts.values())  # finer folds are poorly stratified
    # Smallest denominator first: min() keeps the first of equals.
    take, parts = min(
        ((max(1, min(n - 1, round(fraction * n))), n) for n in range(2, finest + 1)),
        key=lambda pair: round(abs(pair[0] / pair[1] - fraction), 9),
    )
    # Stratified by source too, so that a small source is not left out of either part.
    folds = _grouped_folds(ordered, [f"{record.source} {record.label}" for record in ordered], parts, seed)
    for start in range(parts):
        chosen = np.isin(folds, [(start + i) % parts for i in range(take)])
        training = [record for record, inside in zip(ordered, chosen, strict=True) if not inside]
        validation = [record for record, inside in zip(ordered, chosen, strict=True) if inside]
        if {r.label for r in training} == labels == {r.label for r in validation}:
            check_split(training, validation)
            return training, validation
    raise SplitError(
        f"No cut leaves every class ({', '.join(sorted(labels))}) on both sides.",
        expected="groups small enough to be divided between training and validation",
        remedy="Change the fraction, or add scans from other patients.",
    )


def check_split(a: Iterable[Record], b: Iterable[Record]) -> None:
    """Raise `SplitError` where a group is on both sides, or a file (two sources may share a folder)."""
    a, b = list(a), list(b)
    files = {os.path.realpath(record.file): record.key for record in a}
    for record in b:
        if (other := files.get(os.path.realpath(record.file))) is not None:
            raise SplitError(
                f"The same file is on both sides of a split: '{other}' and '{record.key}'.",
                expected="each file on one side only",
                remedy="Name each folder once among the sources.",
            )
    first, second = ({record.group: record.key for record in reversed(_in_order(part))} for part in (a, b))
    if both := sorted(first.keys() & second.keys()):
        more = f" (and {len(both) - 1} more)" if len(both) > 1 else ""
        raise SplitError(
            f"Group '{both[0]}'{more} is on both sides of a split: '{first[both[0]]}' and '{second[both[0]]}'.",
            expected="scans of one patient or lesion on one side only",
            remedy="Split by group, for example with bcx.data.splits.assign_folds.",
        )


def _in_order(records: Iterable[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record.key)


def _grouped_folds(records: Sequence[Record], strata: Sequence[str], k: int, seed: int) -> np.ndarray:
    """Fold number per record, int [N]; `records` must already be in order of their keys."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = [record.group for record in records]
    folds = np.empty(len(records), dtype=np.int64)
    splitter = StratifiedGroupKFold(n_splits=k, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # small strata are checked by the callers, with errors that name them
        warnings.simplefilter("ignore", UserWarning)
        for fold, (_, held_out) in enumerate(splitter.split(np.zeros(len(records)), list(strata), groups)):
            folds[held_out] = fold
    return folds


def _groups_of_each(records: Sequence[Record]) -> Counter[str]:
    """How many groups each class has."""
    return Counter(label for label, _ in {(record.label, record.group) for record in records})


def _check_groups(records: Sequence[Record], least: int) -> None:
    if not records:
        raise SplitError(
            "There are no records to split.", expected="at least two groups per class", remedy="Check the data folders."
        )
    for label, count in sorted(_groups_of_each(records).items()):
        if count < least:
            raise SplitError(
                f"Class '{label}' has {count} group{'s' if count != 1 else ''} (patient or lesion).",
                expected=f"at least {least}, one for each part",
                remedy="Use fewer folds, or add scans of this class from other patients.",
            )
