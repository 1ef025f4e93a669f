"""Thousands of mutated files of every format through `Scan.open`: what is answered, refused, slow, large, or worse.

    python benchmarks/fuzz_scans.py --cases 10000 --out results/fuzz/scans.json

Case N of a format is the same on every machine. Each process that opens files counts them one by one, so that one that
dies is known by its case; its peak of memory is set back before each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the tests' own files are mutated

SLOW, LARGE = 5.0, 1000.0  # seconds, megabytes


def attempt(name: str, data: bytes) -> dict:
    """Open one file, its first and its last frame; what came of it, in how long, and the memory that it took."""
    from bcx.errors import BcxError
    from bcx.imaging.scan import Scan, frame_count
    from tests.fuzz.test_scans import peak

    Path("/proc/self/clear_refs").write_text("5")
    before, started = peak(), time.monotonic()
    try:
        Scan.open(data, name)
        Scan.open(data, name, frame=frame_count(data) - 1)
        found = "answered"
    except BcxError as error:
        found = type(error).__name__
    except BaseException as error:
        found = f"untyped: {type(error).__name__}: {str(error)[:80]}"
    return {"found": found, "seconds": round(time.monotonic() - started, 3), "megabytes": round(peak() - before)}


def work(first: int, last: int) -> None:
    """Run cases and print one line of JSON for each."""
    from tests.fuzz.scans import mutate, seeds

    files = sorted(seeds().items())
    for case in range(first, last):
        name, data = files[case % len(files)]
        print(json.dumps({"case": case, "format": name, "found": "died"}), flush=True)
        mutated = mutate(data, np.random.default_rng(case))
        print(json.dumps({"case": case, "format": name, **attempt(f"{case}.{name}", mutated)}), flush=True)


def run(cases: int) -> list[dict]:
    """Run all cases, in a further process after one that died."""
    done: dict[int, dict] = {}
    while len(done) < cases:
        command = [sys.executable, "-W", "ignore", __file__, "--work", str(len(done)), str(cases)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                found = json.loads(line)
                done[found["case"]] = found
                if found["case"] % 500 == 0 and "seconds" in found:
                    print(f"{len(done):,} of {cases:,}", file=sys.stderr, flush=True)
    return [done[case] for case in sorted(done)]


def main() -> None:
    """Run, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temp:
        os.environ["TMPDIR"] = temp
        cases = run(options.cases)
        left = len(list(Path(temp).iterdir()))
    bad = [each for each in cases if each["found"] == "died" or each["found"].startswith("untyped")]
    slow = [each for each in cases if each.get("seconds", 0) > SLOW]
    large = [each for each in cases if each.get("megabytes", 0) > LARGE]
    figures = {
        "command": f"python benchmarks/fuzz_scans.py --cases {options.cases}",
        "cases": len(cases),
        "formats": len({each["format"] for each in cases}),
        "found": dict(Counter(each["found"].split(":")[0] for each in cases).most_common()),
        "processes that died": sum(each["found"] == "died" for each in cases),
        "untyped exceptions": sum(each["found"].startswith("untyped") for each in cases),
        f"over {SLOW:g} s": len(slow),
        f"over {LARGE:g} MB": len(large),
        "files left": left,
        "slowest, s": max(each.get("seconds", 0) for each in cases),
        "largest, MB": max(each.get("megabytes", 0) for each in cases),
        "to look at": (bad + slow + large)[:50],
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    text = json.dumps(figures, indent=2) + "\n"
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, "utf-8")
    print(text)


if __name__ == "__main__":
    main()
