"""`groups.csv` beside the images: which scans belong together, as `bcx audit` writes it.

```
file,group
benign/a1.png,5f0c2d
malignant/b7.png,5f0c2d
```

>>> sorted(map(sorted, join([("a", "b"), ("c", "d"), ("b", "e")])))
[['a', 'b', 'e'], ['c', 'd']]
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bcx.data.records import Record
from bcx.data.tables import as_meant, read_table
from bcx.errors import DataError

TABLE = "groups.csv"
LAYOUT = "a CSV table with the columns file and group, as bcx audit writes it"

Name = TypeVar("Name", bound=Hashable)


def join(pairs: Iterable[tuple[Name, Name]]) -> list[set[Name]]:
    """Return the sets into which pairs tie their members; whoever is tied to a member is in the set."""
    above: dict[Name, Name] = {}

    def root(name: Name) -> Name:
        above.setdefault(name, name)
        while above[name] != name:
            above[name] = above[above[name]]
            name = above[name]
        return name

    for one, other in pairs:
        above[root(one)] = root(other)
    sets: dict[Name, set[Name]] = defaultdict(set)
    for name in list(above):
        sets[root(name)].add(name)
    return list(sets.values())


def add_groups(records: Sequence[Record], folder: Path, source: str) -> tuple[list[Record], list[DataError], list[str]]:
    """Tie records together as `groups.csv` in their folder says; groups that they already have are kept whole.

    Args:
        records: of one source; their keys are `<source>/<path below the folder>`.
        folder: where `groups.csv` may lie.

    Returns:
        The records in the same order, those of one group with one `group` (the first of those that were joined);
        problems; notes. Without the table, the records as they are.
    """
    table = folder / TABLE
    if not table.is_file():
        return list(records), [], []
    try:
        rows = _rows(table)
    except DataError as error:
        return list(records), [error], []
    own = {record.key: record.group for record in records}
    named = {f"{source}/{file}": group for file, group in rows.items()}
    tied = [(own[key], ("groups.csv", group)) for key, group in named.items() if key in own]
    if rows and not tied:
        wrong = DataError(
            f"'{TABLE}' names none of the scans here; its first row is '{next(iter(rows))}'.",
            expected="paths relative to the folder in which it lies",
            remedy="Run bcx audit on this folder, or remove the table.",
        )
        return list(records), [wrong], []
    group_of: dict[str, str] = {}
    for members in join(tied):
        groups = sorted(member for member in members if isinstance(member, str))
        group_of |= dict.fromkeys(groups, groups[0])
    notes = [f"'{TABLE}' ties {sum(key in own for key in named)} scans into groups."]
    if absent := len(named) - len(tied):
        notes.append(f"{absent} rows of '{TABLE}' name files that are not among the scans read here.")
    return [replace(record, group=group_of.get(record.group, record.group)) for record in records], [], notes


def _rows(table: Path) -> dict[str, str]:
    """Return the group of each file."""
    rows = read_table(table, ("file", "group"), layout=LAYOUT).rows
    return {as_meant(row["file"]).replace("\\", "/"): row["group"] for _, row in rows if row["file"] and row["group"]}
