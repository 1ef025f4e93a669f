"""Measure what reading a slide costs: seconds, tiles per second, and the most memory that the process ever held.

    python benchmarks/slides.py --model mobilenetv2-idc     # writes results/benchmarks/slides.json
    python benchmarks/slides.py --quick                     # to see that it works; its figures mean nothing

A simulated slide of 20,000 x 20,000 pixels is written as a TIFF (JPEG tiles of 256 pixels, 1.2 GB once unpacked). A
process of its own reads it, so that its memory is its own, torch and all libraries included. Its tiles per
second stand against those of the network alone on batches that are ready (through torch: its logits from tensors that
are normalised already; through ONNX Runtime: the exported graph), in as many threads as read the slide. Both take turns
in one process, so that whatever else the machine does falls on both.

Without --model an untrained MobileNetV2 for 96 pixels answers: as fast as a trained one, and its answers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

import bcx
from bcx.checkpoints.backends import choose_backend
from bcx.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bcx.imaging.preprocess import Preprocess
from bcx.inference.classifier import TILES_AT_ONCE
from bcx.networks.build import build_network, fold_norms
from bcx.simulate.slide import SlideScene, write_slide
from bcx.slides import read_slide, stream_slide
from bcx.tasks import get_task
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "onnxruntime", "timm", "numpy", "opencv-python-headless", "tifffile", "imagecodecs")
LIMIT_MB = 1000
#: The part of the slide on which tiles per second are compared, in pixels a side.
PART = 3000


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", help="a model for patches; default: an untrained one")
    parser.add_argument("--side", type=int, default=20_000, help="of the slide, in pixels")
    parser.add_argument("--stride", type=int, default=50, help="pixels from tile to tile; a larger one takes a sample")
    parser.add_argument("--tissue", type=float, default=0.5, help="share of the slide that is tissue, about")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison with the network alone")
    parser.add_argument("--quick", action="store_true", help="a slide of 1,500 pixels, one round")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "slides.json")
    given = parser.parse_args(arguments)
    if given.quick:
        given.side, given.rounds = 1500, 1
    with tempfile.TemporaryDirectory(prefix="bcx-slides-") as temporary:
        folder = Path(temporary)
        model = given.model or str(untrained(folder))
        begun = time.perf_counter()
        slide = write_slide(folder / "slide.tif", given.side, given.side, seed=1, tissue=given.tissue)
        print(f"written in {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
        code = f"from benchmarks.slides import one; one({model!r}, {str(slide)!r}, {given.stride})"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        whole = json.loads(done.stdout.splitlines()[-1])
        print(json.dumps(whole), file=sys.stderr, flush=True)
        compared = against_network(model, min(PART, given.side), given.rounds)
        size = slide.stat().st_size
    content = {
        "command": "python benchmarks/slides.py"
        + (f" --model {given.model}" if given.model else "")
        + (f" --side {given.side}" if given.side != 20_000 else "")
        + (f" --stride {given.stride}" if given.stride != 50 else "")
        + (f" --tissue {given.tissue}" if given.tissue != 0.5 else ""),
        "commit": current_commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads()},
        "model": given.model or "untrained mobilenetv2_100 at 96 pixels, its answers mean nothing",
        "slide": {
            "width": given.side,
            "height": given.side,
            "stored_mb": round(size / 1e6, 1),
            "unpacked_mb": round(given.side**2 * 3 / 1e6, 1),
            "layout": "tiles of 256 pixels, JPEG",
        },
        "whole": {**whole, "memory_limit_mb": LIMIT_MB, "within_limit": whole["peak_memory_mb"] <= LIMIT_MB},
        "against_the_network_alone": compared,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(given.out, content)
    print(json.dumps(content, indent=2))


def untrained(folder: Path) -> Path:
    """Write a checkpoint of the patch task with random weights."""
    task = get_task("histology-idc")
    torch.manual_seed(0)
    network = build_network("mobilenetv2_100", len(task.classes))
    return save_checkpoint(folder / "untrained", network, task=task, preprocess=Preprocess(size=96, grey=False))


def one(model: str, slide: str, stride: int) -> None:
    """Read a slide in this process and print its cost as JSON."""
    classifier = bcx.load(model)
    begun, worked = time.perf_counter(), time.process_time()
    prepared = 0.0
    told = begun
    for progress in stream_slide(classifier, slide, stride=stride):
        if progress.prepared == 1 and not prepared:
            prepared = progress.seconds
        if time.perf_counter() - told > 20:
            left = progress.seconds_left
            print(f"{progress.done} of {progress.total}, {left and round(left)} s left", file=sys.stderr, flush=True)
            told = time.perf_counter()
    reading = progress.reading()
    seconds = time.perf_counter() - begun
    cost: dict[str, Any] = {
        "backend": classifier.backend,
        "tile": reading.grid.tile,
        "stride": reading.grid.stride,
        "tiles": reading.summary["tiles"],
        "tiles_read": reading.summary["tiles_read"],
        "overview_seconds": round(prepared, 1),
        "seconds": round(seconds, 1),
        "processor_seconds": round(time.process_time() - worked, 1),
        "tiles_per_second": round(reading.summary["tiles_read"] / max(1e-9, seconds - prepared), 1),
        "peak_memory_mb": round(most_memory() / 1e6),
    }
    print(json.dumps(cost))


def most_memory() -> int:
    """Return the most bytes that this process ever held, as Linux notes them.

    Not `ru_maxrss`: that begins with what the parent process held, which has just painted a slide.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])  # type: ignore[index]


def against_network(model: str, side: int, rounds: int) -> dict[str, Any]:
    """Tiles per second of a slide, over those of the network alone on tensors that are ready."""
    classifier, checkpoint = bcx.load(model), load_checkpoint(model)
    pixels = SlideScene(2, side, side, tissue=1.0).part(0, 0, side, side)
    tiles = [pixels[y : y + 50, x : x + 50] for y in (0, 50) for x in range(0, 50 * TILES_AT_ONCE // 2, 50)]
    ready = np.stack([checkpoint.preprocess.plane(tile) for tile in tiles])
    run = network_alone(checkpoint, ready)
    batches = max(1, (side // 50) ** 2 // len(ready))
    workers = torch.get_num_threads()

    def alone() -> float:
        begun = time.perf_counter()
        with ThreadPoolExecutor(workers, initializer=one_thread) as pool:
            list(pool.map(lambda _: run(), range(batches)))
        return batches * len(ready) / (time.perf_counter() - begun)

    def slide() -> float:
        steps = stream_slide(classifier, pixels, every_tile=True)
        begun = 0.0
        for progress in steps:
            begun = begun or (time.perf_counter() if progress.prepared == 1 else 0.0)
        return progress.total / (time.perf_counter() - begun)

    read_slide(classifier, pixels[:400, :400])
    rates = [(slide(), alone()) if number % 2 else (alone(), slide())[::-1] for number in range(rounds)]
    ratios = sorted(one / other for one, other in rates)
    return {
        "what": "tiles per second: a slide in memory, cut, resized and answered, over ready tensors",
        "backend": classifier.backend,
        "slide": round(statistics.median(one for one, _ in rates), 1),
        "network": round(statistics.median(other for _, other in rates), 1),
        "ratio": round(statistics.median(ratios), 3),
        "rounds": [round(each, 3) for each in ratios],
    }


def network_alone(checkpoint: Checkpoint, planes: np.ndarray) -> Callable[[], object]:
    """A forward pass on stacked pictures that are ready, through what bcx would answer with."""
    backend = choose_backend(checkpoint)
    if backend.name != "torch":
        return lambda: backend.alone(planes)
    network = fold_norms(checkpoint.network).to(memory_format=torch.channels_last)
    tensor = checkpoint.preprocess.normalise(torch.from_numpy(planes))

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return network(tensor)

    return forward


def one_thread() -> None:
    """One thread per worker, as the engine sets it."""
    torch.get_num_threads()
    threadpool_limits(1, "openmp")


if __name__ == "__main__":
    main()
