"""A run in a folder of its own: trained once, and recognised by its fingerprint afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bcx.train.fit import STATE_FILE
from bcx.train.processes import processes
from bcx.train.provenance import current_commit, read_json, write_json

#: In a run's folder: what it was, its network, its answers.
NOTE, NETWORK, ANSWERS = "run.json", "network", "oof.csv"


def is_finished(folder: Path, fingerprint: str, *files: str) -> bool:
    """Tell whether a run of this fingerprint was finished in a folder, and left these files."""
    note = folder / NOTE
    there = note.is_file() and all((folder / file).is_file() for file in files)
    return there and read_json(note)["fingerprint"] == fingerprint


@contextmanager
def noted(folder: Path, fingerprint: str, **about: Any) -> Iterator[dict[str, Any]]:
    """Note the run that the block makes, once all of it is done, with commit and seconds; its snapshot is removed.

    Of several processes the first one writes. The block may add to the note.
    """
    started = time.perf_counter()
    note = {"fingerprint": fingerprint, **about, "commit": current_commit()}
    yield note
    if processes().is_main_process:
        seconds = max(time.perf_counter() - started, earlier_seconds(folder))
        write_json(folder / NOTE, note | {"seconds": round(seconds, 1)})
        (folder / STATE_FILE).unlink(missing_ok=True)
    processes().wait_for_everyone()


def earlier_seconds(folder: Path) -> float:
    """Return the seconds of the runs inside a run's folder: its members or trainings, which may be older."""
    return sum(read_json(note)["seconds"] for note in folder.glob(f"*/{NOTE}"))
