"""Folders of scans become records.

records = read_source("busi", Path("Dataset_BUSI_with_GT"), task=get_task("breast-ultrasound"))
"""

from __future__ import annotations

import csv
from pathlib import Path

from bcx.data.manifest import busi_rows
from bcx.data.records import Record
from bcx.errors import DataError
from bcx.tasks import Task

BUSI_SPLITS = ("dev", "test", "conflict", "all")


def read_source(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> list[Record]:
    """Read one source of labelled scans."""
    if kind_or_name == "busi":
        return read_busi(root, task=task, split=split)
    if kind_or_name == "busbra":
        return read_busbra(root, task=task)
    raise DataError(f"Unknown source '{kind_or_name}'.", expected="busi or busbra", remedy="Use one of these.")


def read_busi(root: Path, *, task: Task, split: str = "dev", source: str = "busi") -> list[Record]:
    """Read BUSI by its published manifest."""
    wanted = [row for row in busi_rows() if split in (row.split, "all")]
    missing = [row.file for row in wanted if not (root / row.file).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of the {len(wanted)} '{split}' files of BUSI are missing; the first is '{missing[0]}'.",
            expected="the published folders benign, malignant and normal",
            remedy="Point to the folder that holds them.",
        )
    return [
        Record(
            root / row.file,
            f"{source}/{row.file}",
            row.label,
            f"{source}:{row.group}",
            source,
            find_masks(root / row.file),
            row.fold,
        )
        for row in wanted
    ]


def read_busbra(root: Path, *, task: Task, source: str = "busbra") -> list[Record]:
    """Read BUS-BRA by its bus_data.csv."""
    records = []
    with open(root / "bus_data.csv", newline="", encoding="utf-8-sig") as handle:
        for row in csv.DictReader(handle):
            name = row["ID"]
            file = next(f for f in (root / "Images" / f"{name}{end}" for end in (".png", ".jpg")) if f.is_file())
            mask = root / "Masks" / f"{name.replace('bus', 'mask', 1)}.png"
            fold = row.get("fold")
            records.append(
                Record(
                    file,
                    f"{source}/Images/{file.name}",
                    row["Pathology"].lower(),
                    f"{source}:{row['Case']}",
                    source,
                    (mask,) if mask.is_file() else (),
                    int(fold) if fold else None,
                )
            )
    return records


def find_masks(file: Path) -> tuple[Path, ...]:
    """The masks beside a scan: `x_mask.png`, `x_mask_1.png` ... for `x.png`."""
    first = file.with_name(f"{file.stem}_mask.png")
    masks = [first] if first.is_file() else []
    number = 1
    while (more := file.with_name(f"{file.stem}_mask_{number}.png")).is_file():
        masks.append(more)
        number += 1
    return tuple(masks)
