"""Which scans a run on a cluster is about, and how they are cut into shards."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

from bcx.data.tables import read_table
from bcx.errors import ConfigError, MissingExtra, ScanError
from bcx.imaging.names import called_a_picture
from bcx.inference.archives import Member, is_archive, open_archive
from bcx.inference.input_files import among_scans, base_name, find, is_mask_of, plain_path
from bcx.inference.journal import stamp

#: Shards of a run at most, about: more cost the driver memory, fewer leave workers idle at the end.
MOST_SHARDS = 20_000
#: Scans of a shard at least and at most, before they are rounded up to a multiple of the least.
LEAST, MOST = 64, 5000


class Entry(NamedTuple):
    """One scan: as the results name it, where it is; in an archive, its name there; how names of its overlays begin."""

    file: str
    where: str
    member: str = ""
    base: str = ""

    @property
    def source(self) -> str | Member:
        """What a classifier reads; a member that is no longer there says so when it is read."""
        if not self.member:
            return Remote(self.where) if is_url(self.where) else self.where
        archive = Path(self.where)
        try:
            return _members(archive, tuple(stamp(archive) or ()))[self.member]
        except KeyError:
            found = f"'{self.member}' is no longer in the archive '{archive.name}'."
            problem = ScanError(found, expected="the archive as it was listed", remedy="Start the command again.")
        except ScanError as error:
            problem = error
        return Member(self.member, problem=problem)


@lru_cache(maxsize=4)
def _members(archive: Path, seen: tuple[int, ...]) -> dict[str, Member]:
    """The files of an archive of this size and time by their names."""
    return {member.name: member for member in open_archive(archive)}


@dataclass(frozen=True)
class Shard:
    """`count` of the scans, in order: `Entry` each, or rows of a Parquet `table`.

    `stamp` changes when a source does.
    """

    number: int
    count: int
    files: Sequence[Sequence[str]] = field(default_factory=list)
    table: str = ""
    start: int = 0
    stamp: str = ""

    def name(self, form: str) -> str:
        """Return the name of its file."""
        mark = hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()
        return f"part-{self.number:06}-{mark[:12]}.{form}"

    def entries(self) -> list[Entry]:
        """Return its scans; overlays of a table's rows lie in a folder of their shard, whatever others are called."""
        if self.files:
            return [Entry(*each) for each in self.files]
        taken: set[str] = set()
        rows = _rows_of(self.table, self.start, self.count)
        bases = (base_name(plain_path(file), taken).as_posix() for file, _ in rows)
        return [Entry(*row, base=f"part-{self.number:06}/{base}") for row, base in zip(rows, bases, strict=True)]


class Remote(Member):
    """A file behind a URL."""

    def read(self) -> bytes:
        import fsspec

        from bcx.imaging.limits import MAX_BYTES, too_many_bytes

        try:
            with fsspec.open(self.name, "rb") as stream:
                data: bytes = stream.read(MAX_BYTES + 1)
        except Exception as error:  # every store has its own kinds
            raise ScanError(
                f"'{self.name}' cannot be read ({type(error).__name__}: {str(error)[:200]}).",
                expected="a file that this node may read",
                remedy="Check the address and the rights.",
            ) from error
        if len(data) > MAX_BYTES:
            raise too_many_bytes(self.name, len(data))
        return data


def plan_shards(arguments: Sequence[str], overlays: str = "") -> list[Shard]:
    """Cut the scans that `arguments` name into shards; the same scans give the same shards.

    Args:
        arguments: files, folders and globs, here or behind a URL (told by their names there), ZIP archives here, and
            tables, CSV or Parquet, with a column `file`: paths from the table's folder, or URLs. Scans of a Parquet
            table are never all in memory.
        overlays: folder or URL of overlays, where some are asked for; it is not searched, and each scan gets a name.

    Raises:
        ConfigError: nothing was found, a table without the column, or overlays would lie among the scans.
        MissingExtra: a package that the URL needs is not installed.
    """
    tables: list[tuple[str, int, str]] = []
    files: list[tuple[Entry, Any]] = []
    plain: list[str] = []
    taken: set[str] = set()

    def add(file: str, where: str, seen: Any, inside: Path, member: str = "") -> None:
        files.append((Entry(file, where, member, base_name(inside, taken).as_posix() if overlays else ""), seen))

    for argument in arguments:
        if argument.endswith(".parquet"):
            path = argument if is_url(argument) else os.path.abspath(argument)
            tables.append((path, *_size_of(path)))
        elif argument.endswith(".csv"):
            for file, where, seen in _listed(argument):
                add(file, where, seen, plain_path(file))
        elif is_url(argument):
            for url, size, inside in _behind(argument, overlays):
                add(url, url, size, inside)
        else:
            plain.append(argument)
    if plain:
        own = [Path(overlays)] if overlays and not is_url(overlays) else []
        listing = find(plain, leave_out=own)
        for folder in own:
            listing.check_apart(folder)
        for each in listing.pictures:
            member = each.member.name if each.member else ""
            add(each.file, os.path.abspath(each.path), each.stamp, each.inside, member)
    total = len(files) + sum(count for _, count, _ in tables)
    if not total:
        raise ConfigError(
            f"No scan was found in {', '.join(map(repr, arguments))}.",
            expected="scans, or tables that name some",
            remedy="Check the names.",
        )
    size = min(MOST, max(LEAST, -(-total // MOST_SHARDS)))
    size += -size % LEAST
    shards: list[Shard] = []
    for at in range(0, len(files), size):
        entries, seen = zip(*files[at : at + size], strict=True)
        shards.append(Shard(len(shards), len(entries), entries, stamp=json.dumps(seen)))
    for path, count, stamped in tables:
        for at in range(0, count, size):
            shards.append(Shard(len(shards), min(size, count - at), table=path, start=at, stamp=stamped))
    return shards


def is_url(text: str) -> bool:
    """Tell s3://bucket/scan.png from a path."""
    return "://" in text


def _joined(folder: str, file: str) -> str:
    if is_url(file) or os.path.isabs(file):
        return file
    return posixpath.join(folder, file) if is_url(folder) else os.path.join(folder, file)


def filesystem(url: str) -> tuple[Any, str]:
    """Return what opens the files of a path or URL, and the path there, as fsspec has them."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise MissingExtra(
            f"'{url}' needs a package that is not installed ({error}).",
            expected="the package of that store, such as s3fs for s3://, gcsfs for gs://",
            remedy="Install it on every node.",
        ) from error


def _unified(place: str) -> str:
    """Write a path or URL as stores do, so that two can be compared; "" stays."""
    if not place:
        return ""
    fs, path = filesystem(place)
    return str(fs.unstrip_protocol(path))


def _behind(url: str, leave_out: str) -> Iterator[tuple[str, int, Path]]:
    """Yield the images that a URL names, told by their names, without masks: URL, size, and what lies below `url`."""
    fs, path = filesystem(url)
    own, folder = _unified(leave_out), ""
    if _unified(url) == own:
        raise among_scans(url)
    if is_archive(url):
        raise ConfigError(
            f"'{url}' is a ZIP archive behind a URL.",
            expected="folders, globs and tables behind URLs; ZIP archives on a disk that every node sees",
            remedy="Copy it there, or unpack it in the store.",
        )
    try:
        if "*" in path:
            met = fs.glob(path, detail=True)
        elif fs.isdir(path):
            met, folder = fs.find(path, detail=True), path
        else:
            met = {path: fs.info(path)}
    except Exception as error:  # every store has its own kinds
        raise ConfigError(
            f"'{url}' cannot be looked at ({type(error).__name__}: {str(error)[:200]}).",
            expected="a file, folder or glob of a store that may be read",
            remedy="Check the address and the rights.",
        ) from error
    stems: defaultdict[PurePosixPath, set[str]] = defaultdict(set)
    for file in map(PurePosixPath, met):
        stems[file.parent].add(file.stem)
    for name, about in sorted(met.items()):
        file = PurePosixPath(name)
        if about["type"] == "file" and called_a_picture(name) and not is_mask_of(file.stem, stems[file.parent]):
            whole_url = fs.unstrip_protocol(name)
            if not (leave_out and whole_url.startswith(f"{own}/")):
                below = posixpath.relpath(name, folder) if folder else file.name
                yield whole_url, about["size"], plain_path(below)


def _listed(table: str) -> list[tuple[str, str, Any]]:
    """Return the scans that a CSV table names."""
    folder = posixpath.dirname(table) if is_url(table) else os.path.dirname(os.path.abspath(table))
    with tempfile.TemporaryDirectory() as place:
        path = Path(table)
        if is_url(table):
            path = Path(place, posixpath.basename(table))
            path.write_bytes(Remote(table).read())
        rows = read_table(path, ["file"], layout="a table with a column 'file'", error=ConfigError).rows
    files = [(row["file"], _joined(folder, row["file"])) for _, row in rows]
    return [(file, where, None if is_url(where) else stamp(Path(where))) for file, where in files]


def _size_of(table: str) -> tuple[int, str]:
    """Return how many rows a Parquet table has, and a stamp."""
    pyarrow = imported("pyarrow")
    fs, path = filesystem(table)
    try:
        with fs.open(path, "rb") as stream:
            about = pyarrow.parquet.ParquetFile(stream)
            columns, count = about.schema_arrow.names, about.metadata.num_rows
        seen = fs.info(path)
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ConfigError(
            f"The table '{table}' cannot be read ({error}).", expected="a Parquet file", remedy="Check the path."
        ) from error
    if "file" not in columns:
        raise ConfigError(
            f"The table '{table}' has the columns {', '.join(columns[:20])}.",
            expected="a column called file, with the path of a scan in each row",
            remedy="Rename the column that holds the paths.",
        )
    return count, json.dumps([seen["size"], str(seen.get("mtime", seen.get("ETag", "")))])


def _rows_of(table: str, start: int, count: int) -> list[tuple[str, str]]:
    """Read some rows of a Parquet table: of its file only the groups of rows that hold them."""
    fs, path = filesystem(table)
    folder = posixpath.dirname(table) if is_url(table) else os.path.dirname(table)
    found: list[Any] = []
    with fs.open(path, "rb") as stream:
        about, at = imported("pyarrow").parquet.ParquetFile(stream), 0
        for number in range(about.num_row_groups):
            here = about.metadata.row_group(number).num_rows
            if at + here > start and at < start + count:
                part = about.read_row_group(number, columns=["file"]).column("file")
                found += part.slice(max(0, start - at), max(0, start + count - max(at, start))).to_pylist()
            at += here
    names = ["" if file is None else str(file) for file in found]  # an empty cell fails by itself
    return [(file, _joined(folder, file)) for file in names]


def imported(package: Literal["ray", "pyarrow"]) -> Any:
    """Return a package of the extra `cluster`, with what is used of it loaded, or say which pip line brings it."""
    try:
        if package == "ray":
            import ray.data

            return ray
        import pyarrow.parquet

        return pyarrow
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"{'PyArrow' if package == 'pyarrow' else 'Ray'} is not installed.",
            expected="the extra 'cluster'",
            remedy='Install it with: pip install "bcx[cluster]"',
        ) from error
