"""Measure what each explanation costs, as ratios against an answer with its exact map in the same run.

python benchmarks/explain.py            # some minutes on two cores, writes results/benchmarks/explain.json
python benchmarks/explain.py --quick    # only the quick methods, one round
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import bcx
from bcx.explain.checks import check
from bcx.explain.methods import EXACT, METHODS, explain, quick_methods
from bcx.simulate import simulate
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "onnxruntime", "timm", "grad-cam", "numpy", "opencv-python-headless")
#: From a loaded model to six maps of a scan, in a process of its own: importing pytorch-grad-cam counts.
COLD = """if True:
    import sys, time, bcx, torch
    from bcx.explain.methods import explain, quick_methods
    from bcx.simulate import simulate
    torch.set_num_threads(int(sys.argv[2]))
    classifier, scan, started = bcx.load(sys.argv[1]), simulate("malignant", 1, 500, 570).pixels, time.perf_counter()
    prediction = classifier.predict(scan)
    explain(classifier, prediction)
    first = time.perf_counter() - started
    for method in quick_methods()[1:6]:
        explain(classifier, prediction, None, method)
    print(first, time.perf_counter() - started)
"""


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(model: str, methods: list[str], rounds: int) -> list[dict[str, Any]]:
    """Rows: an answer with its exact map, each other method's map of that answer, and the checks of the exact map."""
    classifier = bcx.load(model)
    scan = simulate("malignant", 1, 500, 570).pixels
    prediction = classifier.predict(scan)
    exact = explain(classifier, prediction)
    sides: dict[str, Callable[[], object]] = {"exact": lambda: explain(classifier, scan)}
    sides |= {name: lambda name=name: explain(classifier, prediction, None, name) for name in methods if name != EXACT}
    sides["checks of the exact map"] = lambda: check(classifier, exact)
    base, rows = 0.0, []
    for name, work in sides.items():
        slow = name in METHODS and METHODS[name].slow  # minutes: once
        median = seconds(work) if slow else statistics.median([seconds(work) for _ in range(rounds + 1)][1:])
        base = base or median
        rows.append({"what": name, "seconds": round(median, 3), "ratio": round(median / base, 2)})
    return rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=bcx.DEFAULT_MODEL, help="name, folder or Hub id")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "explain.json")
    parser.add_argument("--quick", action="store_true", help="without the two slow methods, one round")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    rows = measure(options.model, quick_methods() if options.quick else list(METHODS), 1 if options.quick else 3)
    command = [sys.executable, "-c", COLD, options.model, str(options.threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, six = map(float, done.stdout.split())
    rows += [
        {"what": "first map, cold", "seconds": round(first, 3)},
        {"what": "six maps, cold", "seconds": round(six, 3)},
    ]
    classifier = bcx.load(options.model)
    content = {
        "command": f"python benchmarks/explain.py --model {classifier.name} --threads {options.threads}"
        + (" --quick" if options.quick else ""),
        "commit": current_commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": options.threads,
            "load": round(os.getloadavg()[0], 1),
        },
        "model": {"name": classifier.name, "weights_sha256": classifier.weights_sha256},
        "rows": rows,
    }
    write_json(options.out, content)
    print(f"{options.out.name} is written.")
    for row in rows:
        print(f"{row['seconds']:>8.3f} s  {row.get('ratio', ''):>8}  {row['what']}")


if __name__ == "__main__":
    main()
