"""What a long run has answered so far, kept beside its result, so that the same command goes on after any end."""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

from bcx.errors import ConfigError, writing

_OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class Journal(AbstractContextManager["Journal"]):
    """Answers on disk, in `.<name of the result>.unfinished` beside the result, a JSON line each after the settings.

    A line that is not complete, and what follows it, is thrown away when the journal is opened; in memory is only where
    each begins. Used with `with`: an end by an error or a signal keeps the file, and says so in a note of the
    exception. `started_over` names the settings in which an unfinished run that was met, and thrown away, differed.
    """

    def __init__(self, result: Path, settings: Mapping[str, Any], *, resume: bool = True) -> None:
        """Open the journal of a result, file or folder, and go on with an unfinished run of the same `settings`: JSON.

        `OutputError` where the folder cannot be written; `ConfigError` where another process is writing the result.
        """
        self.path = result.with_name(f".{result.name}.unfinished")
        self.started_over: list[str] = []
        self._result = result
        self._entries: dict[str, tuple[Any, int, int]] = {}  # stamp, where the line begins, its length
        self._finished = False
        asked: dict[str, Any] = json.loads(json.dumps(settings))  # as it is read back
        with writing(result), ExitStack() as failing:
            self._file = os.fdopen(os.open(self.path, _OPEN, 0o666), "r+b", buffering=0)
            failing.callback(self._file.close)
            _lock(self._file.fileno(), result)
            if resume:
                self._load(asked)
            if not self._entries:
                self._file.truncate(0)
                self._append({"settings": asked})
            failing.pop_all()

    def _load(self, asked: dict[str, Any]) -> None:
        end = 0
        with self.path.open("rb") as lines:
            for line in lines:
                try:
                    entry: dict[str, Any] = json.loads(line) if line.endswith(b"\n") else {}
                    if end == 0:
                        before: dict[str, Any] = entry["settings"]
                        names = before.keys() | asked.keys()
                        self.started_over = sorted(name for name in names if before.get(name) != asked.get(name))
                        if self.started_over:
                            return
                    else:
                        key, stamp, _ = entry["key"], entry["stamp"], entry["answer"]
                        self._entries[key] = (stamp, end, len(line))
                except (ValueError, TypeError, KeyError, AttributeError):
                    break
                end += len(line)
        self._file.truncate(end)

    def __len__(self) -> int:
        return len(self._entries)

    def holds(self, key: str, stamp: Any) -> bool:
        """Tell whether there is an answer for a source that has not changed since; never for the stamp None."""
        return stamp is not None and key in self._entries and self._entries[key][0] == stamp

    def add(self, key: str, stamp: Any, answer: Any) -> None:
        """Keep an answer to the source `key`, as JSON; `OutputError` where no room is left.

        `stamp` changes when the source does; None where the answer should not outlive this run.
        """
        with writing(self._result):
            self._entries[key] = (stamp, *self._append({"key": key, "stamp": stamp, "answer": answer}))

    def _append(self, entry: dict[str, Any]) -> tuple[int, int]:
        begun, line = self._file.seek(0, os.SEEK_END), f"{json.dumps(entry)}\n".encode()
        left = memoryview(line)
        try:
            while left:
                left = left[self._file.write(left) or 0 :]
        except OSError:
            self._file.truncate(begun)
            raise
        return begun, len(line)

    def read(self, key: str) -> Any:
        """Return the answer to a source that was added, in this run or an earlier one."""
        _, begun, length = self._entries[key]
        self._file.seek(begun)
        return json.loads(self._file.read(length))["answer"]

    def finish(self) -> None:
        """Say that the result is written: the journal goes when it is closed."""
        self._finished = True

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self._file.close()
        if self._finished or not self._entries:
            self.path.unlink(missing_ok=True)
        elif error is not None:
            count = f"{len(self):,} file{'' if len(self) == 1 else 's'}"
            error.add_note(f"What was done is kept ({count}): the same command goes on from there.")


def stamp(path: Path) -> list[int] | None:
    """Return size and time of a file, which change when it does; None where it cannot be looked at."""
    try:
        there = path.stat()
    except OSError:
        return None
    return [there.st_size, there.st_mtime_ns]


def _lock(descriptor: int, result: Path) -> None:
    """Keep a second process from writing into the same journal, where the system can."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"Another process is writing '{result}'.",
            expected="one run for each result",
            remedy="Wait until it is done, or name another file after --out.",
        ) from error
