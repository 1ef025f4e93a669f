"""Decode in another process, so that a decoder that crashes, hangs or fills the memory costs one file and no more.

A few processes are started when they are first needed, and kept. What they send back is read as numbers and JSON,
never unpickled: a decoder that a file has taken over cannot reach further through it.
"""

import atexit
import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np

import bcx.errors
from bcx.errors import BcxError, DamagedScan
from bcx.imaging.limits import decoding

SECONDS = 10.0
"""Longest time that one file may be decoded."""

MEMORY = 1 << 30
"""Address space of a decoding process, in bytes, where the system can limit it (not on Windows)."""

_MOST = max(2, min(8, os.cpu_count() or 1))
_PLAINLY = "as PNG or as uncompressed DICOM"
_LENGTHS = struct.Struct("<QQ")
_KEPT_VARIABLES = ("PATH", "SYSTEMROOT", "TEMP", "TMP", "TMPDIR", "LD_LIBRARY_PATH")

Function = Callable[..., tuple[np.ndarray, dict[str, Any]]]


class _Died(Exception):
    """The process ended before it answered."""


class _Worker:
    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment |= {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
        self.used = False
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bcx.imaging.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=environment, cwd=Path(__file__).anchor, close_fds=True,
        )  # fmt: skip

    def ask(self, request: dict[str, Any], data: bytes, name: str) -> tuple[dict[str, Any], bytearray]:
        """Raise `_Died` where it dies and another may not: what it decoded before may have damaged it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        too_long = threading.Event()

        def stop() -> None:
            too_long.set()
            self.process.kill()

        timer = threading.Timer(SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            _send(self.process.stdin, request, data)
            answer = _receive(self.process.stdout)
        except (OSError, ValueError, EOFError):
            self.end()
            if too_long.is_set():
                found, remedy = f"'{name}' takes longer than {SECONDS:g} s to decode.", f"Export it again, {_PLAINLY}."
                raise DamagedScan(found, expected="a picture that is decoded in an instant", remedy=remedy) from None
            if self.used:
                raise _Died from None
            remedy = f"Copy, download or export it again, {_PLAINLY}."
            raise DamagedScan(f"'{name}' makes its decoder crash.", remedy=remedy) from None
        except BaseException:
            self.end()
            raise
        finally:
            timer.cancel()
        self.used = True
        _idle.append(self)
        return answer

    def end(self) -> None:
        with contextlib.suppress(OSError), self.process:  # at its end the pipes are closed
            self.process.kill()


_idle: deque[_Worker] = deque()  # its methods are safe in threads
_places = threading.BoundedSemaphore(_MOST)


def run_isolated(function: Function, data: bytes, *, name: str, options: dict[str, Any]) -> tuple[np.ndarray, dict]:
    """Run a module's function on the bytes of a file in a process of its own; errors call the file `name`.

    The options are JSON values; `function(data, **options)` returns an array and a dictionary of JSON values.
    `DamagedScan`: the process crashed, or took longer than `SECONDS`. `ScanTooLarge`: it needed more memory than it may
    take. Another `BcxError`: what the function itself raised.
    """
    request = {"function": [function.__module__, function.__qualname__], "options": options, "name": name}
    with _places:
        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        try:
            answer, raw = worker.ask(request, data, name)
        except _Died:
            answer, raw = _Worker().ask(request, data, name)
    if "error" in answer:
        kind, found, expected, remedy = answer["error"]
        known = getattr(bcx.errors, kind, None)
        if not (isinstance(known, type) and issubclass(known, BcxError)):
            known = DamagedScan
        raise known(found, expected=expected, remedy=remedy)
    values = np.frombuffer(raw, np.dtype(answer["dtype"])).reshape(answer["shape"])
    return values, answer["facts"]


def _send(pipe: IO[bytes], header: dict[str, Any], data: bytes | memoryview) -> None:
    text = json.dumps(header).encode()
    pipe.write(_LENGTHS.pack(len(text), len(data)))
    pipe.write(text)
    pipe.write(data)
    pipe.flush()


def _receive(pipe: IO[bytes]) -> tuple[dict[str, Any], bytearray]:
    """Read a header and what follows it; `EOFError` where the other side has closed."""
    lengths = pipe.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        raise EOFError
    length, size = _LENGTHS.unpack(lengths)
    if length > MEMORY or size > MEMORY:
        raise ValueError("an impossible length")
    text, data = pipe.read(length), bytearray(size)
    if pipe.readinto(data) < size:  # type: ignore[attr-defined]
        raise EOFError
    return json.loads(text), data


def _end_idle() -> None:
    while _idle:
        _idle.pop().end()


def _forget() -> None:
    """In a forked process: the workers belong to the process before."""
    global _places
    _places = threading.BoundedSemaphore(_MOST)
    _idle.clear()


atexit.register(_end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# ---- the other process


def _serve() -> None:
    requests = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not reach the answers
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing is written, not even after a crash
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that asks
    while True:
        request, data = _receive(requests)
        if hasattr(signal, "setitimer"):  # ends this process even where the one that asked is gone
            signal.setitimer(signal.ITIMER_REAL, 2 * SECONDS)
        _send(answers, *_answer(request, bytes(data)))
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


def _answer(request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes | memoryview]:
    module, function = request["function"]
    try:
        with decoding(request["name"], f"'{request['name']}' cannot be decoded"):
            values, facts = getattr(importlib.import_module(module), function)(data, **request["options"])
            values = np.ascontiguousarray(values)
            return {"dtype": values.dtype.str, "shape": values.shape, "facts": facts}, values.reshape(-1).data.cast("B")
    except BcxError as error:
        return {"error": [type(error).__name__, error.found, error.expected, error.remedy]}, b""


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, EOFError, KeyboardInterrupt):
        _serve()
