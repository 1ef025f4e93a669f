"""What `bcx audit` finds, and what it costs.

```
python benchmarks/audit.py busi --data DIR --pairs pairs.csv     against a published list of pairs
python benchmarks/audit.py scale --data DIR --data DIR           10,000 pictures: seconds and memory
```

The first compares an audit of a folder with a list `file_a,file_b,kind` that the audit never sees, and writes
results/studies/audit/busi.json. The second fills a temporary folder with the pictures of the folders named (their masks
left out), simulated scans, transformed copies of some, and blends of two that are new scans in texture and shape; it
audits that folder in one process, so that its processor time is known, and writes results/studies/audit/scale.json.
Names of files go into the results, pictures never.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

import bcx
from bcx.audit import Audit, audit
from bcx.audit.findings import write_report
from bcx.audit.listing import list_files
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan, sniff_file
from bcx.simulate import LABELS, simulate

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("near-duplicate", "same lesion")
SIDE = 512


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("busi", "scale"))
    parser.add_argument("--data", action="append", type=Path, required=True, help="folder of scans")
    parser.add_argument("--pairs", type=Path, help="busi: CSV with file_a, file_b, kind")
    parser.add_argument("--report", type=Path, help="busi: existing folder for the report, which shows the scans")
    parser.add_argument("--pictures", type=int, default=10_000, help="scale: how many")
    parser.add_argument("--simulated", type=int, default=60, help="scale: how many of them are simulated")
    parser.add_argument("--out", type=Path, help="where to write the results")
    given = parser.parse_args(arguments)
    if given.what == "busi":
        if given.pairs is None:
            parser.error("busi needs --pairs")
        content = against_pairs(given.data[0], given.pairs, given.report)
    else:
        content = at_scale(given.data, given.pictures, given.simulated)
    out = given.out or ROOT / "results" / "studies" / "audit" / f"{given.what}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**origin(given), **content}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=2))


def origin(given: argparse.Namespace) -> dict[str, Any]:
    """What made the results, without any path of this machine."""
    command = f"python benchmarks/audit.py {given.what}" + " --data DIR" * len(given.data)
    command += f" --pairs {given.pairs.name}" if given.pairs else ""
    if given.what == "scale":
        command += f" --pictures {given.pictures} --simulated {given.simulated}"
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    packages = ("numpy", "opencv-python-headless", "scipy", "pillow")
    versions = {"bcx": bcx.__version__, "python": platform.python_version()}
    versions |= {name: version(name) for name in packages}
    return {"command": command, "commit": commit, "versions": versions, "machine": {"processor": platform.machine()}}


def measured(run: Callable[[], Audit]) -> tuple[Audit, dict[str, float]]:
    """Run an audit and return what it found with seconds, seconds of the processor, and the most memory held."""
    begun, worked = time.perf_counter(), time.process_time()
    found = run()
    cost = {
        "seconds": round(time.perf_counter() - begun, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "processor_ms_per_picture": round(1000 * (time.process_time() - worked) / max(1, len(found.looks)), 1),
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000),
    }
    return found, cost


# --- against a list of pairs -------------------------------------------------------------------------------------


def against_pairs(folder: Path, table: Path, report: Path | None) -> dict[str, Any]:
    """Audit a folder, then compare its pairs and groups with a list."""
    found, cost = measured(lambda: audit(folder, workers=1, network=False, on_progress=said()))
    if report is not None:
        write_report(found, report / "report.html")
    with table.open(newline="", encoding="utf-8") as handle:
        listed = {tuple(sorted((row["file_a"], row["file_b"]))): row["kind"] for row in csv.DictReader(handle)}
    direct = {(pair.a, pair.b): pair for pair in found.pairs}
    grouped = {pair for group in found.groups for pair in combinations(group.files, 2)}
    content: dict[str, Any] = {"n": len(found.looks), **cost, "listed": {}, "found": {}}
    for kind in KINDS:
        pairs = [pair for pair, of in listed.items() if of == kind]
        content["listed"][kind] = {
            "n": len(pairs),
            "recall": share(sum(pair in direct for pair in pairs), len(pairs)),
            "recall, of the same kind": share(sum(p in direct and direct[p].kind == kind for p in pairs), len(pairs)),
            "recall, through groups": share(sum(pair in grouped for pair in pairs), len(pairs)),
            "missed, groups as well": [" | ".join(pair) for pair in sorted(pairs) if pair not in grouped],
        }
        mine = [pair for pair, each in direct.items() if each.kind == kind]
        content["found"][kind] = {
            "n": len(mine),
            "precision": share(sum(pair in listed for pair in mine), len(mine)),
            "precision, of the same kind": share(sum(listed.get(pair) == kind for pair in mine), len(mine)),
        }
    content["not on the list"] = [
        {"a": pair.a, "b": pair.b, "kind": pair.kind, "agreement": pair.match.score}
        for pair in found.pairs
        if (pair.a, pair.b) not in listed
    ]
    content["counts"] = {name: count for name, count in found.counts().items() if count}
    return content


def share(part: int, whole: int) -> float | None:
    """A share with four decimals."""
    return round(part / whole, 4) if whole else None


# --- ten thousand pictures ---------------------------------------------------------------------------------------


def at_scale(folders: Sequence[Path], pictures: int, simulated: int) -> dict[str, Any]:
    """Fill a folder with pictures, audit it, and a tenth of it."""
    listed = [folder / name for folder in folders for name in list_files(folder)[0]]
    sources = [path for path in listed if sniff_file(path)]
    rows = {}
    with tempfile.TemporaryDirectory(prefix="bcx-scale-") as temporary:
        root = Path(temporary)
        made = fill(root, sources, pictures, simulated)
        few = root / "few"
        few.mkdir()
        for path in sorted(root.glob("*/*.*"))[::10]:
            (few / path.name).hardlink_to(path)
        everything = root / "all"
        for name, folder, workers in (
            (f"{pictures // 10}", few, 1),
            (f"{pictures}", everything, 1),
            (f"{pictures} on all cores", everything, None),
        ):
            # In a process of its own, so that the memory of one is not counted for the other.
            code = f"from benchmarks.audit import one; one({str(folder)!r}, {workers})"
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
            rows[name] = json.loads(done.stdout.splitlines()[-1])
            print(name, rows[name], file=sys.stderr, flush=True)
    return {"made": made, "runs": rows}


def one(folder: str, workers: int | None) -> None:
    """Audit a folder and print its cost as JSON: of this process alone where there is one worker, else seconds."""
    found, cost = measured(lambda: audit(folder, workers=workers, network=False, on_progress=said()))
    if workers != 1:
        cost = {"seconds": cost["seconds"], "cores": os.cpu_count()}
    counts = {name: count for name, count in found.counts().items() if count}
    largest = max((len(group.files) for group in found.groups), default=0)
    print(json.dumps({**cost, "counts": counts, "largest_group": largest}))


def fill(root: Path, sources: Sequence[Path], pictures: int, simulated: int) -> dict[str, int]:
    """Write pictures, in turn PNG and JPEG; how many of each kind."""
    target = root / "all"
    target.mkdir()
    rng = np.random.default_rng(0)
    made = {"real": 0, "simulated": 0, "copies": 0, "blends": 0}
    scans: list[Path] = []

    def save(pixels: np.ndarray, kind: str) -> None:
        name = f"{sum(made.values()):05d}.{'png' if sum(made.values()) % 2 else 'jpg'}"
        Image.fromarray(np.ascontiguousarray(pixels)).save(target / name, **({} if name.endswith("png") else QUALITY))
        made[kind] += 1
        if kind in ("real", "simulated"):
            scans.append(target / name)

    for path in sources[: pictures - simulated]:
        save(to_grey(Scan.open(path).pixels), "real")
    for seed in range(simulated):
        save(simulate(LABELS[seed % 3], 1000 + seed, 400, SIDE).pixels, "simulated")
    for path in scans[: pictures // 10]:
        save(copy(to_grey(Scan.open(path).pixels), rng), "copies")
    while sum(made.values()) < pictures:
        one, other = (to_grey(Scan.open(scans[k]).pixels) for k in rng.choice(len(scans), 2, replace=False))
        save(blend(one, other, rng), "blends")
    return made


QUALITY = {"quality": 88}


def copy(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A near-duplicate: cropped, scaled, brightened, sometimes mirrored."""
    height, width = pixels.shape
    top, left = (int(rng.integers(0, side // 8)) for side in (height, width))
    part = pixels[top : height - top // 2, left : width - left // 3]
    part = cv2.resize(part, None, fx=float(rng.uniform(0.7, 1.2)), fy=float(rng.uniform(0.7, 1.2)))
    part = np.clip(part * rng.uniform(0.8, 1.25), 0, 255).astype(np.uint8)
    return part[:, ::-1] if rng.random() < 0.3 else part


def blend(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A scan that was not there before: two bent and mixed, shaded anew."""
    parts = []
    for pixels in (one, other):
        bent = cv2.resize(pixels, (SIDE, 420)).astype(np.float32)
        y, x = np.mgrid[:420, :SIDE].astype(np.float32)
        waves = [(rng.uniform(10, 26), rng.uniform(0.008, 0.02, 2), rng.uniform(0, 6)) for _ in range(2)]
        shift = [amount * np.sin(f[0] * y + f[1] * x + phase) for amount, f, phase in waves]
        bent = cv2.remap(bent, x + shift[0].astype(np.float32), y + shift[1].astype(np.float32), cv2.INTER_LINEAR)
        parts.append(bent[:, ::-1] if rng.random() < 0.5 else bent)
    mixed = parts[0] * 0.55 + parts[1] * 0.55
    return np.clip(mixed * rng.uniform(0.8, 1.2), 0, 255).astype(np.uint8)


def said() -> Callable[[str, int, int], None]:
    """Print each stage when it is done."""
    begun = time.process_time()

    def tell(stage: str, done: int, total: int) -> None:
        if done == total:
            print(f"{stage}: {total}, {time.process_time() - begun:.1f} s so far", file=sys.stderr, flush=True)

    return tell


if __name__ == "__main__":
    main()
