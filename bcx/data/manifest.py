"""Tables of files: the published BUSI manifest, and CSV manifests that users write.

>>> rows = busi_rows()
>>> len(rows), rows[0].file, rows[0].label, rows[0].split
(780, 'benign/benign (1).png', 'benign', 'dev')
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class BusiRow:
    """One row of the published BUSI manifest.

    `file` is the path below the folder; `fold` is None outside `dev`; `dhash` (64 bits) and `sha256` are those of the
    published file, `width` and `height` too, in pixels.
    """

    file: str
    label: str
    split: str
    fold: int | None
    group: str
    width: int
    height: int
    dhash: int
    sha256: str
    note: str


@cache
def busi_rows() -> tuple[BusiRow, ...]:
    """The 780 rows of the published manifest that travels with the package."""
    text = files("bcx.data").joinpath("busi.csv").read_text(encoding="utf-8")
    return tuple(
        BusiRow(
            file=row["file"],
            label=row["label"],
            split=row["split"],
            fold=int(row["fold"]) if row["fold"] else None,
            group=row["group"],
            width=int(row["width"]),
            height=int(row["height"]),
            dhash=int(row["dhash"], 16),
            sha256=row["sha256"],
            note=row["note"],
        )
        for row in csv.DictReader(text.splitlines())
    )
