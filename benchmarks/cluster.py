"""The Ray engine against the local engine on the same scans of one machine: rows and speed, also where a node is lost.

```
python benchmarks/cluster.py --scans 1000 --out results/benchmarks/cluster.json
```

Both answer the same simulated scans with as many cores. The ratio counts from the first shard on: starting workers
takes seconds on any number of scans, and is given apart. Then two nodes of a core each do the same again, and one of
them is killed once a third of the shards is there.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch

import bcx
from bcx.inference.classifier import Classifier
from bcx.inference.cluster import Job, run
from bcx.inference.shards import Shard, plan_shards
from bcx.inference.table import columns, csv_lines, row
from bcx.simulate import LABELS
from bcx.simulate.examples import write_examples
from bcx.train.provenance import describe_command, write_json


def measure(model: str, scans: int, place: Path) -> dict[str, Any]:
    """Answer the scans by both engines, and once more with a node that is killed."""
    folder = place / "scans"
    write_examples(folder, [(label, seed) for label in LABELS for seed in range(1, 1 - scans // -3)], size=(96, 112))
    classifier = bcx.load(model)
    shards = plan_shards([str(folder)])
    scans = sum(shard.count for shard in shards)
    started = time.perf_counter()
    expected = local_rows(classifier, shards)
    local = scans / (time.perf_counter() - started)

    job = Job(model, classifier.weights_sha256, str(place / "out"), "csv")
    started, ends = time.perf_counter(), []
    for _ in run(job, shards):
        ends.append(time.perf_counter())
    after_first = sum(shard.count for shard in shards[1:]) / (ends[-1] - ends[0])
    return {
        "scans": scans,
        "cores": torch.get_num_threads(),
        "backend": classifier.backend,
        "local_scans_per_second": round(local, 2),
        "ray_scans_per_second": round(after_first, 2),
        "ratio": round(after_first / local, 3),
        "ray_seconds_to_first_shard": round(ends[0] - started, 1),
        "rows_that_differ": differing(shard_rows(place / "out"), expected),
        "node_killed": lose_a_node(two_nodes(), replace(job, out=str(place / "lost")), shards, expected),
    }


def two_nodes() -> tuple[Any, Any]:
    """Start a cluster of two nodes with a core each on this machine; return it and the second of them."""
    from ray.cluster_utils import Cluster

    own = {"num_cpus": 1, "include_dashboard": False, "include_log_monitor": False}  # fewer processes to start
    # A node that was killed refuses connections, and is given up after some of these periods.
    often = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 500}
    cluster = Cluster(initialize_head=True, head_node_args={**own, "no_monitor": True, "_system_config": often})
    return cluster, cluster.add_node(**own)


def lose_a_node(
    nodes: tuple[Any, Any], job: Job, shards: Sequence[Shard], expected: list[dict[str, Any]]
) -> dict[str, Any]:
    """Answer the shards on two nodes, kill the second with all that runs on it once a third is there, end the cluster.

    `expected`: the rows of the local engine.
    """
    (cluster, second), out, early = nodes, Path(job.out), dict[Path, int]()
    started = time.perf_counter()

    def kill() -> None:
        while len(list(out.glob("part-*"))) < len(shards) // 3:
            time.sleep(0.05)
        early.update({path: path.stat().st_mtime_ns for path in out.glob("part-*")})
        cluster.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    scans = 0
    for done in run(job, shards, address=cluster.address):
        scans += done["scans"]
        print(f"{time.perf_counter() - started:.0f} s: {scans} scans", flush=True)
    seconds = time.perf_counter() - started
    killer.join()
    cluster.shutdown()
    return {
        "scans": scans,
        "shards": len(shards),
        "shards_before": len(early),
        "shards_made_twice": sum(path.stat().st_mtime_ns != made for path, made in early.items()),
        "rows_that_differ": differing(shard_rows(out), expected),
        "seconds": round(seconds, 1),
    }


def local_rows(classifier: Classifier, shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Return the rows of all shards in order, but for their seconds, as the local engine has them."""
    entries = [entry for shard in shards for entry in shard.entries()]
    answers = classifier.stream(entry.source for entry in entries)
    rows = [row(answer, entry.file, classifier.task) for entry, answer in zip(entries, answers, strict=True)]
    return timeless(csv_lines(rows, columns(classifier.task)))


def shard_rows(out: Path) -> list[dict[str, Any]]:
    """Return the same of the shards in a folder."""
    return [row for part in sorted(out.glob("part-*.csv")) for row in timeless(part.read_text("utf-8").splitlines())]


def timeless(lines: Iterable[str]) -> list[dict[str, Any]]:
    return [{name: cell for name, cell in row.items() if name != "seconds"} for row in csv.DictReader(lines)]


def differing(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> int:
    """Count the rows that are not, to the last digit, those expected in their place."""
    return sum(one != other for one, other in zip_longest(rows, expected))


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
