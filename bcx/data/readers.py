"""Folders and manifests of scans become records.

>>> from tempfile import TemporaryDirectory
>>> from bcx.simulate import write_busbra_folder, write_busi_folder
>>> from bcx.tasks import get_task
>>> task = get_task("breast-ultrasound")
>>> with TemporaryDirectory() as here:
...     records = read_source("busbra", write_busbra_folder(Path(here, "busbra"), patients=4), task=task)
...     records += read_source("mine", write_busi_folder(Path(here, "mine"), per_class=2), task=task)
>>> [records[0].key, records[0].group, records[-1].key]
['busbra/Images/bus_0001-l.png', 'busbra:1', 'mine/normal/normal (2).png']
"""

from __future__ import annotations

from pathlib import Path

from bcx.data import breakhis, breast, busbra, busi, folders, idc, manifest
from bcx.data.reading import Reading
from bcx.data.records import Record, load_mask
from bcx.errors import DataError, ScanError
from bcx.tasks import Task

__all__ = ["KINDS", "detect_kind", "load_mask", "read_source", "survey"]

KINDS = ("busi", "busbra", "breast", "idc", *breakhis.KINDS, "folder", "manifest")


def read_source(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> list[Record]:
    """Read one source of labelled scans.

    Args:
        kind_or_name: one of `KINDS`, or a name of your own, which becomes `Record.source` while the kind is told
            from what is there (`detect_kind`).
        split: for BUSI `dev`, `test`, `conflict` or `all`; for a manifest with a column `split` one of its values.

    Returns:
        Records in the order of their keys (BUSI and BUS-BRA: in published order).

    Raises:
        DataError: what is wrong first, and how many more problems there are; `survey` returns them all.
    """
    return survey(kind_or_name, root, task=task, split=split).checked(root)


def survey(kind_or_name: str, root: Path, *, task: Task, split: str = "dev") -> Reading:
    """Like `read_source`, but problems that leave something to read are collected instead of raised."""
    try:
        return _survey(kind_or_name, Path(root), task, split)
    except ScanError as error:  # a file whose first bytes cannot be read
        raise DataError(error.found, expected=error.expected, remedy=error.remedy) from error
    except OSError as error:
        raise DataError(
            f"'{error.filename or root}' cannot be opened ({error.strerror or error}).",
            expected="files and folders that this account may read",
            remedy="Check the permissions and the disk.",
        ) from error


def _survey(kind_or_name: str, root: Path, task: Task, split: str) -> Reading:
    kind = detect_kind(kind_or_name, root)
    if kind == "busi":
        return busi.read_busi(root, task=task, split=split, source=kind_or_name)
    if kind == "manifest":
        return manifest.read_manifest(root, task=task, source=kind_or_name, split=split)
    if split not in ("dev", "all"):
        raise DataError(
            f"'{root}' has no split called '{split}'.",
            expected="'dev' or 'all', which mean every scan here",
            remedy="Only BUSI and manifests with a column 'split' have splits.",
        )
    if kind == "busbra":
        return busbra.read_busbra(root, task=task, source=kind_or_name)
    if kind == "breast":
        return breast.read_breast(root, task=task, source=kind_or_name)
    if kind == "idc":
        return idc.read_idc(root, task=task, source=kind_or_name)
    if kind in breakhis.KINDS:
        return breakhis.read_breakhis(root, task=task, source=kind_or_name)
    return folders.read_folder(root, task=task, source=kind_or_name)


def detect_kind(kind_or_name: str, root: Path) -> str:
    """Tell what lies at `root`: one of `KINDS`.

    A name in `KINDS` is believed. Otherwise a file is a manifest, a folder with `bus_data.csv` is BUS-BRA, one of
    patients with the folders 0 and 1 is IDC, one with `benign/SOB` or `malignant/SOB` in it is BreakHis, one with
    at least half of BUSI's published `dev` names is BUSI, and any other is a plain class folder.
    """
    if kind_or_name in KINDS:
        return kind_or_name
    if root.is_file() or root.suffix.lower() == ".csv":
        return "manifest"
    if (root / busbra.TABLE).is_file():
        return "busbra"
    if idc.looks_like_idc(root):
        return "idc"
    if breakhis.looks_like_breakhis(root):
        return "breakhis"
    return "busi" if busi.looks_like_busi(root) else "folder"
