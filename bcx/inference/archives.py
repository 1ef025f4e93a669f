"""The scans in a ZIP archive, read one at a time into memory; nothing is unpacked to disk.

Names are never used as paths; what a member claims is held against limits before it is read, and against what came out.
"""

import io
import os
import posixpath
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, count, pairwise
from pathlib import Path, PureWindowsPath

from bcx.errors import BcxError, DamagedScan, ScanError, ScanTooLarge
from bcx.imaging.headers import HEAD_BYTES, sniff
from bcx.imaging.limits import MAX_BYTES, decoding

MOST_MEMBERS = 50_000
"""More members than this are not listed."""
MOST_TIMES = 100
"""A member, or a whole archive, may grow to this many times its packed size; scans shrink to a tenth at best."""
FREE_BYTES, FREE_TOTAL = 1 << 24, 1 << 30
"""A member, and an archive, up to this size may grow as they like: a blank image packs very well."""
_LONGEST_NAME = 1000
_MOST_DIRECTORY = 1 << 23  # bytes of the list of members, which zipfile reads in one piece
_ENCRYPTED, _UTF8 = 0x1, 0x800
_TURNS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A))))  # turn the direction of writing
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # zipfile unpacks the others without a limit


@dataclass(frozen=True, eq=False)
class Member:
    """One file of an archive: its path inside, with forward slashes, unique there, and what changes when it does.

    `problem` forbids to read it, or is why its archive could not be opened.
    """

    name: str
    stamp: list[int] = field(default_factory=list)
    problem: BcxError | None = None
    _path: Path | None = None
    _info: zipfile.ZipInfo | None = None

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link; where to is not looked at."""
        return self._info is not None and stat.S_ISLNK(self._info.external_attr >> 16)

    def kind(self) -> str | None:
        """Return its format as `bcx.imaging.scan.sniff` names it; None where it is unknown or cannot be read."""
        try:
            return None if self.problem is not None else sniff(self._read(HEAD_BYTES))
        except BcxError:
            return None

    def read(self) -> bytes:
        """Return its bytes; `ScanError` where it leads out of the archive, is encrypted, too large or damaged."""
        if self.problem is not None:
            raise self.problem
        assert self._info is not None
        size, packed = self._info.file_size, self._info.compress_size
        if size > MAX_BYTES or (size > FREE_BYTES and size > MOST_TIMES * packed):
            raise ScanTooLarge(
                f"'{self.name}' has {size / 1e6:,.0f} MB, packed into {packed / 1e6:.3g} MB.",
                expected=f"at most {MAX_BYTES // 10**6} MB, and {MOST_TIMES} times what it is packed into",
                remedy="Unpack it yourself if you trust it.",
            )
        return self._read(size + 1, exactly=size)

    def _read(self, most: int, exactly: int | None = None) -> bytes:
        assert self._path is not None
        assert self._info is not None
        more = {"expected": "a complete, undamaged archive", "remedy": "Copy or download the archive again."}
        with (
            decoding(self.name, f"'{self.name}' cannot be unpacked", **more),
            _opened(self._path, *self.stamp[:2]).open(self._info) as stream,
        ):
            data = stream.read(most)
            if exactly not in (None, len(data)):
                raise ValueError(f"{len(data):,} bytes instead of {exactly:,}")
            return data


def content(source: str | os.PathLike[str] | Member) -> bytes:
    """Return the bytes of a file, or of a member; `ScanError` where they cannot be had."""
    from bcx.imaging.scan import read_file  # here, since it loads NumPy, and the command line starts without it

    return source.read() if isinstance(source, Member) else read_file(source)


def is_archive(name: str) -> bool:
    """Tell whether a file is called a ZIP archive."""
    return name.lower().endswith(".zip")


def open_archive(path: Path, name: str = "") -> list[Member]:
    """List the files of an archive, in its own order; errors call it `name`, or by the file's own.

    `ScanError`: it cannot be opened, is damaged, or looks like a bomb: members that overlap, too many of them, or a
    total far beyond its size.
    """
    called = name or path.name
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise zipfile.BadZipFile("it is no ordinary file")
        archive = _opened(path, found.st_size, found.st_mtime_ns)
    except (OSError, zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError) as error:
        raise _unusable(called, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from error
    infos = archive.infolist()
    total = sum(info.file_size for info in infos)
    if len(infos) > MOST_MEMBERS:
        raise _unusable(called, f"holds {len(infos):,} files; at most {MOST_MEMBERS:,} are read")
    if _overlap(infos, archive.start_dir):
        raise _unusable(called, "holds files that overlap, as no program packs them")
    if total > max(FREE_TOTAL, MOST_TIMES * found.st_size):
        raise _unusable(called, f"would unpack to {total / 1e9:,.1f} GB, {total / found.st_size:,.0f} times its size")
    members: list[Member] = []
    taken: set[str] = set()
    for info in infos:
        inner = _name(info)
        if inner.endswith("/"):
            continue
        inner = free_name(inner or "unnamed", taken)
        stamp = [found.st_size, found.st_mtime_ns, info.header_offset, info.CRC]
        members.append(Member(inner, stamp, _problem(info, inner, called), path, info))
    return members


@lru_cache(maxsize=8)  # a glob may name more archives than a process may have files open
def _opened(path: Path, size: int, time: int) -> zipfile.ZipFile:
    """An archive of this size and time; it closes when it has left the cache and nobody reads from it."""
    return zipfile.ZipFile(_Bounded(path))


class _Bounded(io.FileIO):
    """A file of which zipfile cannot be made to read a huge piece at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > _MOST_DIRECTORY:
            raise zipfile.BadZipFile("its list of files is far too long")
        return super().read(-1 if size is None else size) or b""

    def __del__(self) -> None:
        self.close()


def _unusable(name: str, what: str) -> ScanError:
    return DamagedScan(
        f"The archive '{name}' {what}.",
        expected="a ZIP archive of scans",
        remedy="Download it again, or unpack it yourself if you trust it, and name the folder.",
    )


def _overlap(infos: Sequence[zipfile.ZipInfo], end: int) -> bool:
    """Whether two members share bytes: a few kilobytes can so hold the same bytes thousands of times."""
    ordered = sorted((info.header_offset, info.compress_size) for info in infos)
    header: int = zipfile.sizeFileHeader  # type: ignore[attr-defined]
    return any(begin + header + size > following for (begin, size), (following, _) in pairwise([*ordered, (end, 0)]))


def _name(info: zipfile.ZipInfo) -> str:
    """The path that was meant, without control characters: some programs write backslashes, or UTF-8 unsaid."""
    name = info.orig_filename
    if not info.flag_bits & _UTF8 and not name.isascii():
        with suppress(UnicodeError):  # if it is none, the name is what the format says
            name = name.encode("cp437").decode("utf-8")
    name = name.replace("\\", "/").removeprefix("./")[:_LONGEST_NAME]
    hidden = {letter for letter in name if letter in _TURNS or unicodedata.category(letter) in ("Cc", "Cs")}
    return name.translate({ord(letter): "_" for letter in hidden})


def free_name(name: str, taken: set[str]) -> str:
    """Return the name, with a number added where it is taken; from now on it is."""
    stem, suffix = posixpath.splitext(name)
    numbered = (f"{stem} ({number}){suffix}" for number in count(2))
    free = next(each for each in chain([name], numbered) if each not in taken)
    taken.add(free)
    return free


def _problem(info: zipfile.ZipInfo, name: str, archive: str) -> BcxError | None:
    """What forbids reading a member, told from its entry alone."""
    leads_out = name.startswith("/") or PureWindowsPath(name).drive or ".." in name.split("/")
    if leads_out or "\0" in info.orig_filename:
        found, expected = f"The name '{name}' leads out of the archive '{archive}'.", "names of files inside it"
        remedy = "Do not trust the archive; have the scans sent again."
    elif (length := len(info.orig_filename)) > _LONGEST_NAME:
        found, expected = f"A name in the archive '{archive}' has {length:,} characters.", f"at most {_LONGEST_NAME:,}"
        remedy = "Pack the scan again under a shorter name."
    elif info.flag_bits & _ENCRYPTED:
        found, expected = f"'{name}' is encrypted in the archive '{archive}'.", "an archive without a password"
        remedy = "Unpack it with its password, and name the folder."
    elif info.compress_type not in _METHODS:
        how = zipfile.compressor_names.get(info.compress_type, info.compress_type)  # type: ignore[attr-defined]
        found = f"'{name}' is packed by the method '{how}' in the archive '{archive}'."
        expected = "the methods 'store' or 'deflate', as in ordinary ZIP files"
        remedy = "Unpack it, and name the folder."
    else:
        return None
    return ScanError(found, expected=expected, remedy=remedy)
