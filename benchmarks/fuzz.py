"""Thousands of hostile inputs of a kind: what is answered, refused by type, slow, large, or worse.

    python benchmarks/fuzz.py checkpoints yaml csv scans --cases 10000

Writes results/fuzz/KIND.json. What an attack is stands in tests/fuzz/attacks.py. Case N of a kind is the same on every
machine. The process that runs them counts them one by one, so that one that dies, or is silent for a minute, is known
by its case; its peak of memory is set back before each. Seconds are the processor's, except of scans, which other
processes decode.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the attacks are the tests' own

SLOW, LARGE, SILENT = 5.0, 1000.0, 60.0  # seconds, megabytes, seconds
_PACKAGES = ("torch", "timm", "onnxruntime", "pydantic", "safetensors", "pyyaml", "pandas", "pillow", "pydicom")


def peak() -> float:
    """Megabytes that this process has used at most since the peak was last set back."""
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


def work(name: str, first: int, last: int) -> None:
    """Run cases; print a line of JSON before and after each."""
    from tests.fuzz.attacks import KINDS, outcome

    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as left:
        prepared = kind.prepare(Path(folder))
        for case in range(10**9, 10**9 + 5):  # imports and first uses are nobody's time
            with contextlib.suppress(Exception):
                outcome(kind, prepared, case)
        tempfile.tempdir = os.environ["TMPDIR"] = left
        for case in range(first, last):
            print(json.dumps({"case": case, "found": "died"}), flush=True)
            Path("/proc/self/clear_refs").write_text("5")
            before, started = peak(), kind.clock()
            try:
                found = outcome(kind, prepared, case)
            except BaseException as error:
                found = f"untyped: {type(error).__name__}: {str(error)[:80]}"
            seconds, megabytes = round(kind.clock() - started, 3), round(peak() - before)
            told = {"case": case, "found": found, "seconds": seconds, "megabytes": megabytes}
            print(json.dumps(told | {"left": len(os.listdir(left))}), flush=True)


def results_of(name: str, first: int, last: int) -> Iterator[dict[str, Any]]:
    """Yield what `work` prints, in a process of its own that is ended when it is silent."""
    command = [sys.executable, "-W", "ignore", __file__, name, "--work", str(first), str(last)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        patience = 10 * SILENT  # imports come before the first line
        while True:
            watch = threading.Timer(patience, process.kill)
            watch.start()
            line, patience = process.stdout.readline(), SILENT
            watch.cancel()
            if not line:
                return
            if line.startswith("{"):
                yield json.loads(line)


def run(name: str, cases: int) -> list[dict[str, Any]]:
    """Run all cases, in a further process after one that died."""
    done: dict[int, dict[str, Any]] = {}
    while len(done) < cases:
        before = len(done)
        for told in results_of(name, len(done), cases):
            done[told["case"]] = told
            if told["case"] % 500 == 0 and "seconds" in told:
                print(f"{name}: {len(done):,} of {cases:,}", file=sys.stderr, flush=True)
        if len(done) == before:
            raise SystemExit(f"{name}: no case could be run")
    return [done[case] for case in sorted(done)]


def figures(name: str, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts."""
    bad = [each for each in cases if each["found"] == "died" or each["found"].startswith("untyped")]
    slow = [each for each in cases if each.get("seconds", 0) > SLOW]
    large = [each for each in cases if each.get("megabytes", 0) > LARGE]
    untyped = Counter(each["found"].split(":")[1].strip() for each in bad if each["found"] != "died")
    return {
        "command": f"python benchmarks/fuzz.py {name} --cases {len(cases)}",
        "versions": {package: version(package) for package in _PACKAGES},
        "cases": len(cases),
        "answered": sum(each["found"] == "answered" for each in cases),
        "refused": dict(Counter(e["found"] for e in cases if e not in bad and e["found"] != "answered").most_common()),
        "untyped exceptions": dict(untyped),
        "processes that died": sum(each["found"] == "died" for each in cases),
        f"over {SLOW:g} s": len(slow),
        f"over {LARGE:g} MB": len(large),
        "files left": max(each.get("left", 0) for each in cases),
        "slowest, s": max(each.get("seconds", 0) for each in cases),
        "largest, MB": max(each.get("megabytes", 0) for each in cases),
        "to look at": (bad + slow + large)[:50],
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="+", choices=("checkpoints", "yaml", "csv", "scans"))
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "fuzz", help="folder of the figures")
    parser.add_argument("--work", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.work:
        work(given.kinds[0], *given.work)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    for name in given.kinds:
        started = time.monotonic()
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True)
        found = {"commit": head.stdout.strip(), **figures(name, run(name, given.cases))}
        found["minutes"] = round((time.monotonic() - started) / 60, 1)
        given.out.mkdir(parents=True, exist_ok=True)
        (given.out / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", "utf-8")
        print(name, json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
