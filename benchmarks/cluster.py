"""Scans per second of the Ray engine against the local engine, on one machine and on the same scans.

```
python benchmarks/cluster.py --scans 1000 --out results/benchmarks/cluster.json
```

Both answer the same simulated scans with as many cores. The ratio counts from the first shard on: starting workers
takes seconds on any number of scans, and is given apart.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import bcx
from bcx.inference.cluster import Job, run
from bcx.inference.shards import plan_shards
from bcx.simulate import LABELS
from bcx.simulate.examples import write_examples
from bcx.train.provenance import describe_command, write_json


def measure(model: str, scans: int, place: Path) -> dict[str, Any]:
    """Answer the scans by both engines."""
    folder = place / "scans"
    write_examples(folder, [(label, seed) for label in LABELS for seed in range(1, 1 - scans // -3)], size=(96, 112))
    classifier = bcx.load(model)
    shards = plan_shards([str(folder)])
    files = [entry.source for shard in shards for entry in shard.entries()]
    started = time.perf_counter()
    local = sum(1 for _ in classifier.stream(files)) / (time.perf_counter() - started)

    job = Job(model, classifier.weights_sha256, str(place / "out"), "parquet")
    started, ends = time.perf_counter(), []
    for _ in run(job, shards):
        ends.append(time.perf_counter())
    after_first = sum(shard.count for shard in shards[1:]) / (ends[-1] - ends[0])
    return {
        "scans": len(files),
        "cores": torch.get_num_threads(),
        "backend": classifier.backend,
        "local_scans_per_second": round(local, 2),
        "ray_scans_per_second": round(after_first, 2),
        "ratio": round(after_first / local, 3),
        "ray_seconds_to_first_shard": round(ends[0] - started, 1),
    }


def main() -> None:
    """Measure, and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=bcx.DEFAULT_MODEL)
    parser.add_argument("--scans", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/cluster.json"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        found = measure(chosen.model, chosen.scans, Path(place))
    command = f"python benchmarks/cluster.py --model {chosen.model} --scans {chosen.scans}"
    write_json(chosen.out, {"what": "Ray against the local engine", **describe_command(command), **found})
    print(found)


if __name__ == "__main__":
    main()
