"""Everything that can go wrong in a way a person can mend: what was found, what was expected and what to do.

>>> error = DataError("The folder 'scans' is empty.", expected="one folder per class", remedy="Check the path.")
>>> print(error)
The folder 'scans' is empty. Expected: one folder per class. Check the path.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

NO_ROOM = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
NOT_ALLOWED = {errno.EACCES, errno.EPERM, errno.EROFS}


class BcxError(Exception):
    """Base of all errors that bcx raises on purpose.

    Args:
        found: what was met, as a sentence that names the file or key.
        expected: what would have been right (no full stop).
        remedy: what to do about it, as a sentence.
    """

    def __init__(self, found: str, *, expected: str, remedy: str) -> None:
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{found} Expected: {expected}. {remedy}")

    def __reduce__(self):  # keyword-only arguments do not survive the default pickling between processes
        return partial(type(self), expected=self.expected, remedy=self.remedy), (self.found,)


class ScanError(BcxError):
    """A source that cannot become pixels."""


class UnknownFormat(ScanError):
    """The first bytes belong to no image format that bcx reads."""


class DamagedScan(ScanError):
    """The format is known, but the content is truncated or inconsistent."""

    def __init__(
        self,
        found: str,
        *,
        expected: str = "a complete, undamaged file",
        remedy: str = "Copy, download or export it again.",
    ) -> None:
        super().__init__(found, expected=expected, remedy=remedy)


class ScanTooLarge(ScanError):
    """More bytes or pixels than the limits allow, told before decoding."""


class ScanTooSmall(ScanError):
    """Too few pixels to hold a scan."""


class MissingExtra(BcxError):
    """An optional part is not installed; the remedy names the pip line."""

    @classmethod
    def named(cls, extra: str, found: str) -> MissingExtra:
        """Return the error for what an extra of bcx brings."""
        return cls(found, expected=f"the extra '{extra}'", remedy=f'Install it with: pip install "bcx[{extra}]"')


@contextmanager
def from_extra(extra: str, found: str) -> Iterator[None]:
    """Import in here what comes with an extra of bcx; `MissingExtra`, which says `found`, where it is not installed."""
    try:
        yield
    except ImportError as error:
        raise MissingExtra.named(extra, found) from error


class DataError(BcxError):
    """A folder, manifest, mask or label that does not fit."""


class SplitError(DataError):
    """A split that is not one: a group on both sides, a fold without a class."""


class RequestError(BcxError):
    """A request to the page that is malformed, or that asks for what it may not have."""


class ConfigError(BcxError):
    """A setting that is unknown, of the wrong type or out of range."""


class CheckpointError(BcxError):
    """A checkpoint that is missing, incomplete or made for something else."""


class OutputError(BcxError):
    """A result that cannot be written: no room, no permission, a folder in its place."""


class TrainingError(BcxError):
    """A training run that cannot go on (or be resumed) as asked."""


def problems_of(error: ValidationError, whole: str = "it") -> str:
    """Name what pydantic found wrong, key by key: the first problems, shortened, since keys and values may be long.

    `whole` is what a problem of all keys together is said of.
    """
    found = error.errors(include_url=False, include_input=False)
    unknown = {"extra_forbidden": "unknown key"}
    told = [
        f"{'.'.join(map(str, e['loc']))[:100] or whole}: {unknown.get(e['type'], e['msg'][:300])}" for e in found[:8]
    ]
    return "; ".join(told) + (f"; and {len(found) - 8} more" if len(found) > 8 else "")


def check_name(name: str, allowed: Iterable[str], what: str) -> None:
    """Raise `ConfigError` where `name`, of a "class", a "method" or the like, is none of the `allowed`."""
    if name not in allowed:
        expected = f"one of {', '.join(allowed)}"
        raise ConfigError(f"There is no {what} called '{name}'.", expected=expected, remedy="Use one of these names.")


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says against writing a result into an `OutputError`, except that nobody reads a pipe."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        raise output_error(error, path) from error


@contextmanager
def loading(
    found: str,
    expected: str,
    passing: tuple[type[Exception], ...] = (),
    remedy: str = "Fetch or train the checkpoint again.",
) -> Iterator[None]:
    """Turn what libraries raise over a stranger's files, which may be anything, into a `CheckpointError`.

    Its text is `found`, without the full stop, and in brackets what was raised. Errors of the kinds `passing` stay.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:
        reason = error.found if isinstance(error, BcxError) else f"{type(error).__name__}: {str(error)[:300]}"
        raise CheckpointError(f"{found} ({reason}).", expected=expected, remedy=remedy) from error


def output_error(error: OSError, path: str | os.PathLike[str] | None = None) -> OutputError:
    """Say in words what the system says against writing.

    >>> output_error(OSError(errno.ENOSPC, "No space left on device"), "r.csv").found
    "'r.csv' cannot be written (No space left on device)."
    """
    name = path if path is not None else error.filename
    where = f"'{os.fsdecode(name)}'" if isinstance(name, (str, bytes, os.PathLike)) else "A file"
    found = f"{where} cannot be {'opened or ' if path is None else ''}written ({error.strerror or error})."
    if error.errno in NO_ROOM:
        return OutputError(found, expected="room on the disk", remedy="Free some, or write to another disk.")
    if error.errno in NOT_ALLOWED:
        remedy = "Choose another folder, change the permissions, or close the file where another program has it open."
        return OutputError(found, expected="a file that this account may write", remedy=remedy)
    return OutputError(found, expected="a file that can be written", remedy="Check the path and the disk.")
