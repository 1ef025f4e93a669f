"""The files of a folder that an audit looks at."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from bcx.data.reading import existing_folder

_MASK = re.compile(r"^(.+)_mask(_?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """Sorted paths below a folder with forward slashes: files, masks (`<scan>_mask` beside a scan), closed folders.

    Whether the files are images is not yet known; `closed` says why a folder cannot be listed.
    """

    files: list[str]
    masks: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)


def list_files(root: Path, leave_out: Path | None = None) -> Listing:
    """List a folder without hidden files, what archives made on a Mac carry, and `leave_out`, which this run writes."""
    existing_folder(root, "a folder of images, in subfolders or not")
    closed: dict[str, str] = {}

    def refuse(error: OSError) -> None:
        closed[Path(error.filename).relative_to(root).as_posix()] = error.strerror or str(error)

    own = leave_out.resolve() if leave_out else None
    files: list[str] = []
    masks: list[str] = []
    for folder, inner, names in os.walk(root, onerror=refuse):
        here = Path(folder)
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".") and name != "__MACOSX" and (own is None or (here / name).resolve() != own)
        ]
        stems = {Path(name).stem for name in names}
        for name in names:
            if name.startswith("."):
                continue
            mask = _MASK.match(Path(name).stem)
            where = masks if mask and mask[1] in stems else files
            where.append((here / name).relative_to(root).as_posix())
    return Listing(sorted(files), sorted(masks), closed)
