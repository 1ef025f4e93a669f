"""The files of a folder that an audit looks at.

>>> from tempfile import TemporaryDirectory
>>> from bcx.simulate import write_busi_folder
>>> with TemporaryDirectory() as folder:
...     found = list_files(write_busi_folder(folder, per_class=1, size=(48, 64)))
>>> found.files, found.masks[:1]
(['benign/benign (1).png', 'malignant/malignant (1).png', 'normal/normal (1).png'], ['benign/benign (1)_mask.png'])
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from bcx.errors import DataError

_MASK = re.compile(r"^(.+)_mask(_?\d+)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Listing:
    """What lies in a folder and all below it.

    Attributes:
        files: paths below the folder, with forward slashes, sorted; whether they are pictures is not yet known.
        masks: files that were left out, since they are `<scan>_mask` beside their scan.
        closed: folders that cannot be listed, with the reason.
    """

    files: list[str]
    masks: list[str] = field(default_factory=list)
    closed: dict[str, str] = field(default_factory=dict)


def list_files(root: Path, leave_out: Path | None = None) -> Listing:
    """List a folder; hidden files and what archives made on a Mac carry are passed over.

    Args:
        leave_out: a folder inside it that this run writes.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        raise DataError(
            f"'{root}' is a file, not a folder." if root.exists() else f"There is no folder '{root}'.",
            expected="a folder of images, in subfolders or not",
            remedy="Check the path.",
        )
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
