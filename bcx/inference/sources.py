"""From what a caller names to what the engine answers: a decoded scan, or a file of several frames."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from bcx.errors import BcxError
from bcx.imaging.crop import Box, Edges, square_of
from bcx.imaging.limits import out_of_memory
from bcx.imaging.scan import Scan, frame_count
from bcx.inference.archives import Member, content
from bcx.inference.prediction import Failure, shortened
from bcx.trust.plain import shape_reason

Result = TypeVar("Result")
Source = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Scan | Member


@dataclass(frozen=True)
class Ready:
    """A decoded scan on its way to the network, which took so many seconds to read.

    `no_scan` says why its shape cannot be a scan's, or ""; `box` is as in `Prediction`.
    """

    name: str
    scan: Scan
    seconds: float
    no_scan: str = ""
    box: Edges | None = None

    @classmethod
    def of(cls, scan: Scan, started: float) -> Ready:
        """Return a scan that reading began at `time.perf_counter() == started`."""
        return cls(scan.name, shortened(scan), time.perf_counter() - started, shape_reason(scan.width, scan.height))

    def square(self, mirrored: bool = False) -> Box | None:
        """Return what the second stage reads of the scan, or of its mirror image, where that was chosen."""
        return self.box and square_of(self.box, (self.scan.height, self.scan.width), mirrored)


@dataclass(frozen=True)
class ClipFile:
    """A file of several frames, not yet decoded."""

    name: str
    data: bytes
    count: int


def prepare(source: Source, name: str | None, clips: bool) -> Ready | ClipFile:
    """Read a source, called `name` or by its own; its first frame is the scan where files of several are no `clips`."""
    started = time.perf_counter()
    if isinstance(source, (Member, str, os.PathLike)):
        name = name or name_of(source)
        source = content(source)
    if isinstance(source, (bytes, bytearray, memoryview)) and clips:
        data, name = bytes(source), name or "bytes"
        count = frame_count(data, name)
        if count > 1:
            return ClipFile(name, data, count)
    return Ready.of(Scan.open(source, name), started)


def attempt(name: str, work: Callable[..., Result], *given: Any) -> Result | Failure:
    """Return what work on the source `name` returns, or why it fails."""
    try:
        return work(*given)
    except BcxError as error:
        return Failure(name, error)
    except MemoryError:
        return Failure(name, out_of_memory(name))


def name_of(source: Any) -> str:
    """Return what a source is called in answers; "unnamed" where it has no name."""
    if isinstance(source, Scan):
        return source.name
    if isinstance(source, Member):
        return source.name.rsplit("/", 1)[-1]
    return Path(source).name if isinstance(source, (str, os.PathLike)) else "unnamed"
