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
from collections.abc import Hashable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from bcx.data.reading import Reading
from bcx.data.records import Record
from bcx.data.tables import as_meant, read_table
from bcx.errors import DataError

TABLE = "groups.csv"
LAYOUT = "a CSV table with the columns file and group, as bcx audit writes it"

Name = TypeVar("Name", bound=Hashable)


def join(pairs: Iterable[tuple[Name, Name]]) -> list[set[Name]]:
    """Return the sets into which pairs tie their members."""
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


def add_groups(reading: Reading, folder: Path, source: str) -> Reading:
    """Sort records by key and tie them together as `groups.csv` in their folder says, if it is there.

    Records of one group get one `group`, the first of those that were joined: groups that they already have are kept
    whole. Problems and notes are added to those of `reading`.
    """
    records = sorted(reading.records, key=lambda record: record.key)
    problems, notes = list(reading.problems), list(reading.notes)
    table = folder / TABLE
    if table.is_file():
        try:
            rows = read_table(table, ("file", "group"), layout=LAYOUT).rows
            named = {
                f"{source}/{as_meant(row['file'])}".replace("\\", "/"): row["group"]
                for _, row in rows
                if row["file"] and row["group"]
            }
            records, said = _tied(records, named, source)
            notes += said
        except DataError as error:
            problems.append(error)
    return replace(reading, records=records, problems=problems, notes=notes)


def _tied(records: list[Record], named: dict[str, str], source: str) -> tuple[list[Record], list[str]]:
    """Return the records with the groups that join theirs and those in `named`, by key; and what is worth a note."""
    own = {record.key: record.group for record in records}
    tied = [(own[key], (TABLE, group)) for key, group in named.items() if key in own]
    if named and not tied:
        first = next(iter(named)).removeprefix(f"{source}/")
        raise DataError(
            f"'{TABLE}' names none of the scans here; its first row is '{first}'.",
            expected="paths relative to the folder in which it lies",
            remedy="Run bcx audit on this folder, or remove the table.",
        )
    group_of: dict[str, str] = {}
    for members in join(tied):
        groups = sorted(member for member in members if isinstance(member, str))
        group_of |= dict.fromkeys(groups, groups[0])
    notes = [f"'{TABLE}' ties {len(tied)} scans into groups."]
    if absent := len(named) - len(tied):
        notes.append(f"{absent} rows of '{TABLE}' name files that are not among the scans read here.")
    return [replace(record, group=group_of.get(record.group, record.group)) for record in records], notes
