"""One look at one file: can it be read, what is odd about it, and what is kept of it for comparing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from bcx.audit.features import Store, describe
from bcx.audit.layers import burnt_in, looked_at, shrunk
from bcx.audit.oddities import Odd, is_mask, oddities_of
from bcx.errors import BcxError
from bcx.imaging.names import called_a_picture
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan, sniff_file

LEAST_RANGE = 8
"""Grey levels between the darkest and the brightest point of a picture that can be compared."""


@dataclass(frozen=True)
class Look:
    """What one look at a file told.

    Attributes:
        place: its number in the listing, and of its features in the store.
        file: path below the audited folder.
        width, height: pixels; 0 where it could not be read.
        content: digest of the decoded pixels; "" where it could not be read.
        odd: what is odd about it by itself.
        stray: no image, and not called one.
        comparable: whether features were stored.
        measures: mean grey level, standard deviation, and how much of the contrast lies in details, sideways and
            downwards: what unusual scans are told by.
    """

    place: int
    file: str
    width: int = 0
    height: int = 0
    content: str = ""
    odd: tuple[Odd, ...] = ()
    stray: bool = False
    comparable: bool = False
    measures: tuple[float, ...] = ()


def look_from(stored: dict[str, Any]) -> Look:
    """Return what `dataclasses.asdict` and JSON made of a look."""
    odd = tuple(Odd(**each) for each in stored["odd"])
    return Look(**(stored | {"odd": odd, "measures": tuple(stored["measures"])}))


def look_at_some(root: Path, files: Sequence[tuple[int, str]], store: Store) -> list[Look]:
    """Look at files, each with its place; features go into the store."""
    return [_look_at(root, place, file, store) for place, file in files]


def _look_at(root: Path, place: int, file: str, store: Store) -> Look:
    """Look at one file; what is wrong with it becomes an oddity, never an error."""
    try:
        return _told(root, place, file, store)
    except BcxError as error:
        # Its path on this machine is nobody's business; the report says which file it is.
        found = error.found.replace(str(root / file), PurePosixPath(file).name)
        return Look(place, file, odd=(Odd("unreadable", f"{found} Expected: {error.expected}."),))
    except OSError:  # no room for the features: not the file's fault
        raise
    except Exception as error:  # one file in ten thousand that nobody thought of must not cost the whole run
        return Look(place, file, odd=(Odd("unreadable", f"It cannot be looked at ({type(error).__name__}: {error})."),))


def _told(root: Path, place: int, file: str, store: Store) -> Look:
    if sniff_file(root / file) is None and not called_a_picture(file):
        return Look(place, file, stray=True)
    scan = Scan.open(root / file)
    seen = looked_at(scan.pixels)
    marks = burnt_in(seen)
    odd = tuple(oddities_of(scan, marks))
    grey = to_grey(seen)
    small = shrunk(grey, 128).astype(np.float32)
    comparable = not is_mask(seen) and int(grey.max()) - int(grey.min()) >= LEAST_RANGE and min(small.shape) >= 8
    if comparable:
        store.write(place, describe(scan.pixels, marks))
    content = hashlib.sha256(f"{scan.pixels.shape} ".encode())
    content.update(np.ascontiguousarray(scan.pixels).data)
    size = scan.width, scan.height
    return Look(place, file, *size, content.hexdigest(), odd, comparable=comparable, measures=_measures(small))


def _measures(small: np.ndarray) -> tuple[float, ...]:
    spread = float(small.std())
    if min(small.shape) < 3:
        return float(small.mean()), spread, 0.0, 0.0
    across = float(np.abs(np.diff(small, axis=1)).mean())
    down = float(np.abs(np.diff(small, axis=0)).mean())
    return float(small.mean()), spread, across / (spread + 1), down / (spread + 1)
