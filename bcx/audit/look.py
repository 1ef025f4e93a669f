"""One look at one file: can it be read, what is odd about it, and what is kept of it for comparing.

And what is odd about it only beside the others of its folder: size and brightness.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from bcx.audit.features import describe, looked_at, write_features
from bcx.audit.oddities import Odd, is_mask, oddities_of
from bcx.errors import BcxError
from bcx.imaging.names import called_a_picture
from bcx.imaging.preprocess import to_grey, with_side
from bcx.imaging.scan import Scan, sniff_file

LEAST_RANGE = 8  # grey levels between the darkest and the brightest point of a picture that can be compared
FEWEST = 12  # scans below which nothing is called unusual
FAR = 5.0  # distance from the median, in robust standard deviations
SIZE_FACTOR = 1.8  # factor from the median that an unusual width, height or proportion also has
GREY_LEVELS = 30  # grey levels from the median that an unusual brightness or contrast also has


@dataclass(frozen=True)
class Look:
    """What one look at a file told."""

    place: int  # of its features in the store
    file: str  # path below the audited folder
    width: int = 0  # pixels; 0 where it could not be read
    height: int = 0
    content: str = ""  # digest of the decoded pixels; "" where it could not be read
    odd: tuple[Odd, ...] = ()  # what is odd about it by itself
    stray: bool = False  # no image, and not called one
    comparable: bool = False  # whether features were stored
    measures: tuple[float, ...] = ()  # mean grey level, standard deviation, and contrast in details across and down

    def is_odd(self, *kinds: str) -> bool:
        return any(odd.kind in kinds for odd in self.odd)


def look_at_some(root: Path, store: Path, files: Sequence[tuple[int, str]]) -> list[Look]:
    """Look at files, each with its place; features go into the store."""
    return [_look_at(root, store, place, file) for place, file in files]


def _look_at(root: Path, store: Path, place: int, file: str) -> Look:
    """Look at one file; what is wrong with it becomes an oddity, never an error."""
    try:
        if sniff_file(root / file) is None and not called_a_picture(file):
            return Look(place, file, stray=True)
        scan = Scan.open(root / file)
        odd = tuple(oddities_of(scan))
        grey = to_grey(looked_at(scan.pixels))
        small = with_side(grey, 128).astype(np.float32)
        comparable = not is_mask(grey) and int(np.ptp(grey)) >= LEAST_RANGE and min(small.shape) >= 8
        if comparable:
            write_features(store, place, describe(scan.pixels))
        content = hashlib.sha256(f"{scan.pixels.shape} ".encode())
        content.update(scan.pixels.data)
        spread, size = float(small.std()), (scan.width, scan.height)
        steps = [np.abs(np.diff(small, axis=axis)).mean() if min(small.shape) > 2 else 0 for axis in (1, 0)]
        measures = float(small.mean()), spread, *(float(step) / (spread + 1) for step in steps)
        return Look(place, file, *size, content.hexdigest(), odd, comparable=comparable, measures=measures)
    except BcxError as error:
        # Its path on this machine is nobody's business; the report says which file it is.
        found = error.found.replace(str(root / file), PurePosixPath(file).name)
        return Look(place, file, odd=(Odd("unreadable", f"{found} Expected: {error.expected}."),))
    except OSError:  # no room for the features: not the file's fault
        raise
    except Exception as error:  # one file in ten thousand that nobody thought of must not cost the whole run
        return Look(place, file, odd=(Odd("unreadable", f"It cannot be looked at ({type(error).__name__}: {error})."),))


def outliers(looks: Sequence[Look]) -> list[tuple[str, Odd]]:
    """Return what is unusual about each scan beside the others, as (file, what)."""
    read = [look for look in looks if look.width and not look.is_odd("mask", "not a scan")]
    if len(read) < FEWEST:
        return []
    sizes = np.array([[look.width, look.height] for look in read], float)
    levels = np.array([look.measures[:2] for look in read])
    logs = np.log(np.column_stack([sizes, sizes[:, 0] / sizes[:, 1]]))
    size = "{:.0f} x {:.0f} pixels; the usual size is {:.0f} x {:.0f}."
    level = "Mean grey level {:.0f}, deviation {:.0f}; usual are {:.0f} and {:.0f}."
    return [
        (read[row].file, Odd(kind, said.format(*values[row], *np.median(values, axis=0))))
        for kind, said, values, far in (
            ("size", size, sizes, _far(logs, np.log(SIZE_FACTOR))),
            ("intensity", level, levels, _far(levels, GREY_LEVELS)),
        )
        for row in far
    ]


def _far(values: np.ndarray, least: float) -> np.ndarray:
    """Return the rows of which a value is far from its column's median, and at least so far in its own unit."""
    apart = np.abs(values - np.median(values, axis=0))
    return np.flatnonzero(((distances(values) > FAR) & (apart > least)).any(axis=1))


def distances(values: np.ndarray) -> np.ndarray:
    """Return [N, M]: how far each value is from its column's median, in robust standard deviations."""
    apart = np.abs(values - np.median(values, axis=0))
    return apart / (1.4826 * np.median(apart, axis=0) + 1e-6)
