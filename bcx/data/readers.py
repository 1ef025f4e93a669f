"""Folders and manifests of scans become records: which layout a source has, and who reads it."""

from __future__ import annotations

from pathlib import Path

from bcx.data import busbra, busi, folders, histology, manifest
from bcx.data.reading import Reading
from bcx.data.records import Record
from bcx.errors import DataError, ScanError
from bcx.tasks import Task

_READERS = {
    "busbra": busbra.read_busbra,
    "breast": manifest.read_breast,
    "idc": histology.read_idc,
    **dict.fromkeys(histology.BREAKHIS_KINDS, histology.read_breakhis),
    "folder": folders.read_folder,
}
"""By the kind of source; BUSI and manifests, which have splits, are read by functions with one argument more."""
KINDS = ("busi", *_READERS, "manifest")


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
    return _READERS[kind](root, task=task, source=kind_or_name)


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
    if histology.looks_like_idc(root):
        return "idc"
    if histology.looks_like_breakhis(root):
        return "breakhis"
    return "busi" if busi.looks_like_busi(root) else "folder"
