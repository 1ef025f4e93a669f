"""Which files a person means who names files, folders and globs.

>>> is_mask_of("benign (4)_mask_1", {"benign (4)"})
True
>>> is_mask_of("face_mask", {"benign (4)"})
False
"""

from __future__ import annotations

import glob
import os
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bcx.errors import ConfigError, ScanError
from bcx.imaging.names import MASK, NO_PICTURE, called_a_picture, count_left_out


@dataclass(frozen=True)
class Found:
    """One file to classify.

    Attributes:
        path: where it is.
        file: how it was reached, with forward slashes: the argument, and what lies below it. Unique in a listing.
        inside: the part below the argument (the file's name where it was named outright).
        outright: named by itself, so it is classified whatever its name or content.
    """

    path: Path
    file: str
    inside: Path
    outright: bool = False


@dataclass(frozen=True)
class Listing:
    """What was found.

    Attributes:
        pictures: in the order of the arguments, sorted within each.
        roots: the folders that were searched.
        left_out: files that are not classified, as (file, why), in the order in which they were met.
    """

    pictures: list[Found]
    roots: list[Path]
    left_out: list[tuple[str, str]]

    @property
    def skipped(self) -> str:
        """What was left out, in words; empty when nothing was."""
        return f"skipped {words}" if (words := count_left_out(why for _, why in self.left_out)) else ""


def is_mask_of(stem: str, stems: set[str]) -> bool:
    """Tell whether `stem` is `<scan>_mask*` for a scan whose name without suffix is in `stems`."""
    at = stem.find("_mask", 1)
    while at > 0:
        if stem[:at] in stems:
            return True
        at = stem.find("_mask", at + 1)
    return False


def find(arguments: Sequence[str], leave_out: Path | None = None) -> Listing:
    """Return the pictures that `arguments` name.

    Args:
        arguments: files, folders (searched with all below) or glob patterns (`**` reaches any depth).
            A file named outright is always kept; in folders and globs, pictures are told by their first bytes, and
            a file that is called a picture and is none is kept too, for a row that says so.
        leave_out: a folder that is not searched, for what this run will write itself.

    Raises:
        ConfigError: an argument matches nothing, or nothing at all is left to classify.
    """
    roots: list[Path] = []
    met: dict[str, Found] = {}
    for argument in arguments:
        for found in _reached(argument, roots, leave_out):
            if found.outright or found.file not in met:
                met[found.file] = found
    pictures, left_out = _pictures(list(met.values()))
    listing = Listing(pictures, roots, left_out)
    if not pictures:
        raise ConfigError(
            f"No picture was found in {', '.join(map(repr, arguments))}"
            + (f" ({listing.skipped})." if listing.skipped else "."),
            expected="PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM files",
            remedy="Check the folder, or name a file outright to see what is wrong with it.",
        )
    return listing


def _reached(argument: str, roots: list[Path], leave_out: Path | None) -> Iterator[Found]:
    path = Path(argument)
    if os.path.isdir(argument):  # of the text as given: Path("") would be the current folder
        roots.append(path)
        yield from _below(path, leave_out)
    elif os.path.exists(argument):
        yield Found(path, path.as_posix(), Path(path.name), outright=True)
    else:
        yield from _matching(argument, roots, leave_out)


def _below(root: Path, leave_out: Path | None) -> Iterator[Found]:
    closed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if leave_out is None or not _same(here / name, leave_out))
        for name in sorted(names):
            yield Found(here / name, (here / name).as_posix(), (here / name).relative_to(root))
    for error in closed:  # a folder that may not be listed becomes a row that says so, not a silent gap
        path = Path(error.filename)
        yield Found(path, path.as_posix(), path.relative_to(root), outright=True)


def _matching(pattern: str, roots: list[Path], leave_out: Path | None) -> Iterator[Found]:
    matches = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else []
    if not matches:
        raise ConfigError(
            f"There is no file or folder '{pattern}'.",
            expected="files, folders or globs that match something",
            remedy="Check the spelling and the folder in which the command runs.",
        )
    for match in map(Path, matches):
        if not match.is_dir():
            yield Found(match, match.as_posix(), Path(match.name))
        elif "**" not in pattern:  # `**` lists what lies in a folder by itself
            roots.append(match)
            yield from _below(match, leave_out)


def _same(one: Path, other: Path) -> bool:
    return other.exists() and one.samefile(other)


def _pictures(met: Sequence[Found]) -> tuple[list[Found], list[tuple[str, str]]]:
    """Return the files to classify, and those that are left out with the reason."""
    candidates = [found for found in met if found.outright or is_picture(found.path)]
    stems: defaultdict[Path, set[str]] = defaultdict(set)
    for found in candidates:
        stems[found.path.parent].add(found.path.stem)
    kept = [each for each in candidates if each.outright or not is_mask_of(each.path.stem, _scans_near(each, stems))]
    known, classified = {found.file for found in candidates}, {found.file for found in kept}
    left_out = [(each.file, MASK if each.file in known else NO_PICTURE) for each in met if each.file not in classified]
    return kept, left_out


def _scans_near(found: Found, stems: defaultdict[Path, set[str]]) -> set[str]:
    """Return the names that a mask could belong to: those beside it, and for `masks/` those of the folder above."""
    folder = found.path.parent
    return stems[folder] | stems[folder.parent] if folder.name.casefold() == "masks" else stems[folder]


def is_picture(path: Path, name: str | None = None) -> bool:
    """Tell whether a file in a folder gets a row: a picture by its first bytes, or called one.

    A file that is called a picture and is none (empty, text, a lost signature) was a scan before it was damaged on its
    way: its row says so.

    Args:
        path: the file.
        name: what it was called, where that is not the path's name.
    """
    from bcx.imaging.scan import sniff_file

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe or a device
        return sniff_file(path) is not None or called_a_picture(name or path.name)
    except (OSError, ScanError):
        return True  # it is there but may not be read: a row will say why
