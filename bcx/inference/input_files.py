"""Which files a person means who names files, folders and globs, and what is called after them.

>>> taken = set()
>>> [base_name(Path(name), taken).as_posix() for name in ("ward/a.dcm", "ward/a.png", "b.png")]
['ward/a', 'ward/a.png', 'b']
"""

import glob
import os
import re
import stat
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from bcx.errors import ConfigError, ScanError
from bcx.imaging.names import ARCHIVE, LINK, MASK, NO_PICTURE, called_a_picture, count_left_out
from bcx.inference.archives import Member, is_archive, open_archive
from bcx.inference.journal import stamp

_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


@dataclass(frozen=True)
class Found:
    """One file to classify."""

    path: Path  # where it is; of a member of an archive, the archive
    file: str  # how it was reached, with forward slashes: the argument, and what lies below it; unique in a listing
    inside: Path  # the part below the argument (the file's name where it was named outright)
    outright: bool = False  # named by itself, so it is classified whatever its name or content
    member: Member | None = None

    @property
    def source(self) -> Path | Member:
        """What a classifier reads."""
        return self.member or self.path

    @property
    def stamp(self) -> list[int] | None:
        """Size and time, which change when it does; None where it cannot be looked at."""
        return stamp(self.path) if self.member is None else self.member.stamp


@dataclass(frozen=True)
class Listing:
    """The images, in the order of the arguments and sorted within each, and the folders that were searched.

    What is not classified is in `left_out` as (file, why), in the order in which it was met.
    """

    pictures: list[Found]
    roots: list[Path]
    left_out: list[tuple[str, str]]

    @property
    def skipped(self) -> str:
        """What was left out, in words; empty when nothing was."""
        return f"skipped {words}" if (words := count_left_out(why for _, why in self.left_out)) else ""

    def check_apart(self, folder: Path) -> None:
        """Refuse to write results into a folder that was searched."""
        if folder.exists() and any(root.samefile(folder) for root in self.roots):
            raise among_scans(folder)


def among_scans(folder: Path | str) -> ConfigError:
    """Return what is wrong with results in a folder of scans."""
    return ConfigError(
        f"Results would be written among the scans in '{folder}', and read as scans the next time.",
        expected="another folder after --overlays, --dicom-out and --report",
        remedy=f"Use for example '{folder}/results'.",
    )


def is_mask_of(stem: str, stems: set[str]) -> bool:
    """Tell whether `stem` is `<scan>_mask*` for a scan whose name without suffix is in `stems`."""
    return any(match.start() and stem[: match.start()] in stems for match in re.finditer("_mask", stem))


def find(arguments: Sequence[str], leave_out: Sequence[Path] = ()) -> Listing:
    """Return the images that `arguments` name.

    Args:
        arguments: files, ZIP archives, folders (searched with all below) or glob patterns (`**` reaches any depth).
            A file named outright is always kept; in folders and globs, images are told by their first bytes or, for a
            row that says what is wrong, by their names. Archives that lie in a folder or in another are left out.
        leave_out: folders that are not searched, for what this run will write itself.

    `ConfigError`: an argument matches nothing, or nothing at all is left to classify.
    """
    roots: list[Path] = []
    met: dict[str, Found] = {}
    for found in chain.from_iterable(_reached(argument, roots, leave_out) for argument in arguments):
        if found.outright or found.file not in met:
            met[found.file] = found
    pictures, left_out = choose(list(met.values()))
    listing = Listing(pictures, roots, left_out)
    if not pictures:
        skipped = f" ({listing.skipped})" if listing.skipped else ""
        raise ConfigError(
            f"No picture was found in {', '.join(map(repr, arguments))}{skipped}.",
            expected="PNG, JPEG, GIF, BMP, TIFF, WebP or DICOM files",
            remedy="Check the folder, or name a file outright to see what is wrong with it.",
        )
    return listing


def _reached(argument: str, roots: list[Path], leave_out: Sequence[Path]) -> Iterator[Found]:
    there = os.path.exists(argument)  # of the text as given: Path("") would be the current folder
    matches = [argument] if there else sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
    if not matches:
        raise ConfigError(
            f"There is no file or folder '{argument}'.",
            expected="files, folders or globs that match something",
            remedy="Check the spelling and the folder in which the command runs.",
        )
    for match in map(Path, matches):
        if not match.is_dir():
            yield from reached(match, match.as_posix(), outright=there)
        elif there or "**" not in argument:  # `**` lists what lies in a folder by itself
            roots.append(match)
            yield from _below(match, leave_out)


def _below(root: Path, leave_out: Sequence[Path]) -> Iterator[Found]:
    closed: list[OSError] = []
    for folder, folders, names in os.walk(root, onerror=closed.append):
        here = Path(folder)
        own = [folder for folder in leave_out if folder.exists()]
        folders[:] = sorted(name for name in folders if not any(one.samefile(here / name) for one in own))
        for name in sorted(names):
            yield Found(here / name, (here / name).as_posix(), (here / name).relative_to(root))
    for error in closed:  # a folder that may not be listed becomes a row that says so, not a silent gap
        path = Path(error.filename)
        yield Found(path, path.as_posix(), path.relative_to(root), outright=True)


def reached(path: Path, file: str, *, outright: bool) -> Iterator[Found]:
    """Yield a file, or the files of an archive, told by its name; one that cannot be opened becomes a row saying so."""
    name = PurePosixPath(file).name
    if not is_archive(name) or (path.is_file() and _is_picture(path, name)):
        yield Found(path, file, Path(name), outright)
        return
    try:
        members = open_archive(path, name)
    except ScanError as error:
        yield Found(path, file, Path(name), outright=True, member=Member(name, problem=error))
        return
    for member in members:
        yield Found(path, f"{file}/{member.name}", Path(name, plain_path(member.name)), member=member)


def plain_path(text: str) -> Path:
    """Return a path below a folder, which every system takes, for a name that may lead anywhere."""
    return Path(*([_plain(part) for part in text.split("/") if part.strip(". ")] or ["unnamed"]))


def _plain(part: str) -> str:
    """A part of a name in an archive as a file's or folder's name that every system takes."""
    plain = "".join("_" if letter in '<>:"|?*' else letter for letter in part).rstrip(". ")[:100]
    return f"_{plain}" if plain.split(".")[0].rstrip().upper() in _RESERVED else plain


def base_name(inside: Path, taken: set[str]) -> Path:
    """Return what the names of a scan's files begin with, folder and all, and add it to the names taken.

    Room is left for what is added: file systems take 255 bytes.
    """
    stem, name = (
        os.fsencode(part)[:200].decode(errors="ignore") if len(os.fsencode(part)) > 200 else part
        for part in (inside.stem, inside.name)
    )
    chosen, number = inside.with_name(stem), 1
    while chosen.as_posix().casefold() in taken:  # case is ignored by the file systems of macOS and Windows
        chosen = inside.with_name(name if number == 1 else f"{name}_{number}")
        number += 1
    taken.add(chosen.as_posix().casefold())
    return chosen


def choose(met: Sequence[Found]) -> tuple[list[Found], list[tuple[str, str]]]:
    """Return the files to classify, and those that are left out with the reason, as `find` and the page do."""
    why_not = {found.file: why for found in met if not found.outright and (why := _why_not(found))}
    candidates = {found.file: PurePosixPath(found.file) for found in met if found.file not in why_not}
    stems: defaultdict[PurePosixPath, set[str]] = defaultdict(set)
    for path in candidates.values():
        stems[path.parent].add(path.stem)
    for found in met:
        if found.outright or found.file not in candidates:
            continue
        folder = candidates[found.file].parent  # a mask lies beside its scan, or in a folder `masks` below
        near = stems[folder] | stems[folder.parent] if folder.name.casefold() == "masks" else stems[folder]
        if is_mask_of(candidates[found.file].stem, near):
            why_not[found.file] = MASK
    kept = [found for found in met if found.file not in why_not]
    return kept, [(found.file, why_not[found.file]) for found in met if found.file in why_not]


def _why_not(found: Found) -> str:
    """Say why a file gets no row; "" where it does."""
    member = found.member
    if member is not None and member.is_link:
        return LINK
    if PurePosixPath(found.file).name.upper() == "DICOMDIR":  # lists what lies beside it
        return NO_PICTURE
    if member.kind() or called_a_picture(member.name) if member is not None else _is_picture(found.path, found.file):
        return ""
    return ARCHIVE if is_archive(found.file) else NO_PICTURE


def _is_picture(path: Path, name: str) -> bool:
    """Tell whether a file in a folder gets a row: an image by its first bytes, or, damaged on its way, by its name."""
    from bcx.imaging.scan import sniff_file

    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False  # a pipe or a device
        return sniff_file(path) is not None or called_a_picture(name)
    except (OSError, ScanError):
        return True  # it is there but may not be read: a row will say why
