"""What an audit found, as tables: `groups.csv`, `pairs.csv`, `oddities.csv`, and the counts as `audit.json`.

>>> import tempfile
>>> from bcx.audit.grouping import Group
>>> found = Audit(Path("scans"), groups=[Group("5f0c", ("a.png", "b.png"))])
>>> with tempfile.TemporaryDirectory() as folder:
...     written = write_tables(found, Path(folder))
...     print(Path(folder, "groups.csv").read_text(), end="")
file,group
a.png,5f0c
b.png,5f0c
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, combinations
from pathlib import Path
from typing import TextIO

import bcx
from bcx.audit.findings import Audit
from bcx.audit.matching import SAME_LESION
from bcx.data.groups import TABLE as GROUPS
from bcx.data.tables import harmless
from bcx.files import whole
from bcx.imaging.names import MASK, NO_PICTURE

LARGE = 30
"""Files from which a group's pairs are not all written down."""


def write_tables(found: Audit, folder: Path) -> list[Path]:
    """Write the tables into an existing folder and return them; nobody meets half a table."""
    columns = ["file_a", "file_b", "kind", "agreement", "landmarks", "changes"]
    columns += ["label_a", "label_b", "part_a", "part_b"]
    direct = ((p.a, p.b, p.kind, p.match.score, p.match.landmarks, "; ".join(p.match.changes)) for p in found.pairs)
    through = ((a, b, SAME_LESION, "", "", "through the group") for a, b in implied(found))
    known = (found.labels, found.parts)
    pairs = ((*row, *(of.get(file, "") for of in known for file in row[:2])) for row in chain(direct, through))
    tables: list[tuple[str, Sequence[str], Iterable[Sequence[object]]]] = [
        (GROUPS, ["file", "group"], ((file, group.name) for group in found.groups for file in group.files)),
        ("pairs.csv", columns, pairs),
        ("oddities.csv", ["file", "kind", "detail"], ((file, odd.kind, odd.detail) for file, odd in found.odd)),
    ]
    written = []
    for name, header, rows in tables:
        with whole_text(folder / name) as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([harmless(cell) for cell in row] for row in rows)
        written.append(folder / name)
    summary = {
        "folder": found.root.resolve().name,
        "bcx": bcx.__version__,
        "seconds": round(found.seconds, 1),
        "counts": found.counts(),
        "masks left out": sum(why == MASK for _, why in found.left_out),
        "other files": sum(why == NO_PICTURE for _, why in found.left_out),
        "notes": list(found.notes),
    }
    with whole_text(folder / "audit.json") as handle:
        json.dump(summary, handle, indent=2)
        handle.write("\n")
    return [*written, folder / "audit.json"]


def implied(found: Audit) -> list[tuple[str, str]]:
    """Return the pairs within groups that were not found directly: what shows a lesion's copy shows the lesion.

    Groups of more than `LARGE` files are left out, which have too many.
    """
    direct = {(pair.a, pair.b) for pair in found.pairs}
    small = [group.files for group in found.groups if len(group.files) <= LARGE]
    return [pair for files in small for pair in combinations(files, 2) if pair not in direct]


@contextmanager
def whole_text(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing that takes its name only when all of it is there."""
    # A name that is no valid Unicode (Linux allows it) is spelled out rather than lost.
    with whole(path) as part, part.open("w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
        yield handle
