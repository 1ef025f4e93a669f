"""Look-up tables of a DICOM header: modality and VOI tables, palettes, also in segments (PS3.3, C.11.1, C.11.2, C.7.9).

Each is held against its own descriptor before it is used, and named where it does not fit: pydicom's functions end in
a TypeError or run out of memory there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bcx.errors import DamagedScan

_MOST = 1 << 16  # entries, since a descriptor counts in 16 bits
_DISCRETE, _LINEAR, _INDIRECT = range(3)


@dataclass(frozen=True)
class LookupTable:
    """A table of uint8 or uint16 `entries`; the value `first` is the first to get one of its own."""

    first: int
    entries: np.ndarray
    bits: int

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the entry of each value, integers of any shape; values beyond either end get the last one there."""
        top = len(self.entries) - 1
        return self.entries[np.clip(values.astype(np.int64) - self.first, 0, top).astype(np.uint16)]


def read_table(
    descriptor: Any, data: Any, what: str, name: str, *, little: bool = True, segmented: bool = False
) -> LookupTable:
    """Check a look-up table; errors call it `what`, and the file `name`.

    Args:
        descriptor: number of entries (0: 65,536), the first value mapped, bits per entry.
        data: bytes, or one or several integers, as pydicom reads the element.
        little: whether bytes are in little-endian order.
        segmented: whether it is written in discrete, linear and indirect segments, which are bytes; never more than
            65,536 entries are made of them, whatever they ask for.

    Raises:
        DamagedScan: the table is empty, shorter than its descriptor says, or maps everything to one value.
    """
    try:
        count, first, bits = (int(value) for value in descriptor)
    except (TypeError, ValueError):
        raise wrong(name, what, "is not described by three numbers") from None
    if not (0 <= count <= _MOST and 1 <= bits <= 16):
        raise wrong(name, what, f"claims {count:,} entries of {bits} bits")
    count = count or _MOST
    if isinstance(data, (bytes, bytearray)):
        narrow = bits <= 8 if segmented else len(data) < 2 * count
        entries = np.frombuffer(data[: len(data) // 2 * 2], "<u2" if little else ">u2")
        if narrow:
            entries = np.frombuffer(data, np.uint8)
        if segmented:
            try:
                made = _expand(entries.tolist(), 0, None, [], narrow, little)
                entries = np.asarray(made, np.uint8 if narrow else np.uint16)
            except (IndexError, ValueError) as error:
                raise wrong(name, what, f"has segments that do not fit together ({error})") from None
    else:
        try:
            entries = np.atleast_1d(np.asarray([] if data is None or segmented else data, np.uint16))
        except (ValueError, TypeError, OverflowError):
            raise wrong(name, what, "holds something else than numbers") from None
    if not entries.size:
        raise wrong(name, what, "is empty")
    if len(entries) < count:
        raise wrong(name, what, f"has {len(entries):,} of the {count:,} entries that it claims")
    if count == 1:
        raise wrong(name, what, "has one entry, and would make the picture one even tone")
    return LookupTable(first, entries[:count], bits)


def _expand(words: list[int], at: int, segments: int | None, made: list[int], narrow: bool, little: bool) -> list[int]:
    """Append what `segments` segments from `at` on stand for (None: all) to what was made before."""
    nested = segments is not None
    while at + 1 < len(words) and segments != 0:
        kind, length = words[at : at + 2]
        at += 2
        if kind == _DISCRETE:
            made += words[at : at + length]
            at += length
        elif kind == _LINEAR:
            made += np.rint(np.linspace(made[-1], words[at], length + 1)[1:]).astype(int).tolist()
            at += 1
        elif kind == _INDIRECT and not nested:
            if narrow:
                size, offset = 4, int.from_bytes(bytes(words[at : at + 4]), "little" if little else "big")
            else:  # in bytes, low word first
                size, offset = 2, sum(word << 16 * place for place, word in enumerate(words[at : at + 2])) // 2
            _expand(words, offset, length, made, narrow, little)
            at += size
        else:
            raise ValueError(f"a segment of kind {kind}" + (" within another" if nested else ""))
        if len(made) > _MOST:
            raise ValueError(f"more than {_MOST:,} entries")
        segments = None if segments is None else segments - 1
    return made


def wrong(name: str, what: str, why: str) -> DamagedScan:
    """Return the error for a table that does not fit."""
    return DamagedScan(
        f"The {what} of the DICOM file '{name}' {why}.",
        expected="a table with as many entries as its descriptor says",
        remedy="Export the picture again, or as PNG.",
    )
