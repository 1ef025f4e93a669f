"""Measure how fast bcx answers through each backend, as ratios against plain timm and pytorch-grad-cam in one run.

    python benchmarks/speed.py            # some ten minutes on two cores, writes results/benchmarks/speed.json
    python benchmarks/speed.py --quick    # seconds, to see that it works; its figures mean nothing

The two sides of a ratio take turns, so that whatever else the machine does falls on both; each ratio is the median
over the rounds. A model that runs several networks, or one several times, is compared with as many passes of the other
side. The scans are simulated and stored as BUSI's are: PNG with three channels, about 500 x 570.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

import bcx
from bcx.checkpoints.checkpoint import find_checkpoint, load_checkpoint
from bcx.checkpoints.onnx_export import export_onnx
from bcx.networks.ensemble import LesionEnsemble
from bcx.networks.lesion import LesionNetwork
from bcx.simulate import simulate
from bcx.simulate.examples import write_examples
from bcx.studies.compare import count_macs
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("torch", "onnxruntime", "timm", "grad-cam", "numpy", "pillow", "opencv-python-headless", "gradio")
BACKENDS = {"torch": "torch", "onnxruntime": "ONNX Runtime"}

Row = dict[str, Any]


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def take_turns(sides: dict[str, Callable[[], object]], rounds: int, repeats: int) -> dict[str, list[float]]:
    """Time every side `rounds` times, seconds per call, each round all sides in turn; the order turns too."""
    for work in sides.values():
        work()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds):
        names = list(sides)
        for name in names if number % 2 else reversed(names):
            times[name].append(seconds(lambda work=sides[name]: [work() for _ in range(repeats)]) / repeats)
    return times


def ratio(over: list[float], under: list[float]) -> Row:
    """The median of the rounds' ratios, and how far they spread."""
    ratios = sorted(a / b for a, b in zip(over, under, strict=True))
    return {"ratio": round(statistics.median(ratios), 3), "rounds": [round(r, 3) for r in ratios]}


def milliseconds(times: list[float]) -> float:
    return round(1000 * statistics.median(times), 2)


def copy_with_graph(model: str, folder: Path) -> Path:
    """Copy a checkpoint and write its graph anew, so that both backends answer with the same weights."""
    found = find_checkpoint(model).resolve()
    copied = Path(shutil.copytree(found, folder / found.name))
    export_onnx(load_checkpoint(copied))
    return copied


def passes_of(folder: Path) -> list[nn.Module]:
    """The network of each pass that one answer takes: members with the lesion head twice, others once."""
    network = load_checkpoint(folder).network
    members = list(network.members) if isinstance(network, LesionEnsemble) else [network]
    return [member for member in members for _ in range(1 + isinstance(member, LesionNetwork))]


def in_words(passes: int) -> tuple[str, str]:
    return (
        ("one pass", "one plain timm forward") if passes == 1 else (f"{passes} passes", f"{passes} plain timm forwards")
    )


def measure_one(folder: Path, rounds: int, repeats: int) -> list[Row]:
    """One scan: the whole answer against plain forward passes, and against pytorch-grad-cam for every class."""
    classifiers = {backend: bcx.load(folder, backend=backend) for backend in BACKENDS}
    passes = len(passes_of(folder))
    plain, tensor = plain_network(folder)
    scan = bcx.Scan.open(simulate("malignant", 1, 500, 570).pixels)
    ready = tensor(scan.pixels)[None]
    classes = range(len(classifiers["torch"].classes))
    targets = [ClassifierOutputTarget(number) for number in classes]

    def forward() -> None:
        with torch.inference_mode():
            for _ in range(passes):
                plain(ready)

    def cam() -> None:
        for _ in range(passes):
            for target in targets:
                method(ready, [target])

    def cam_batch() -> None:
        for _ in range(passes):
            method(ready.expand(len(targets), -1, -1, -1), targets)

    sides: dict[str, Callable[[], object]] = {"forward": forward, "cam": cam, "cam batch": cam_batch}
    for backend, classifier in classifiers.items():
        sides[f"answer {backend}"] = lambda classifier=classifier: classifier.predict(scan)
        sides[f"maps {backend}"] = lambda classifier=classifier: classifier.predict(scan).maps
    # A network of its own, since the method's hooks would slow the plain one. Its last batch norm is the layer whose
    # maps are pooled (in a MobileNet; in others it is near enough to cost the same).
    hooked, _ = plain_network(folder)
    norms = [module for module in hooked.modules() if isinstance(module, nn.BatchNorm2d)]
    with GradCAM(hooked, norms[-1:]) as method:
        times = take_turns(sides, rounds, repeats)
    best = min(("cam", "cam batch"), key=lambda name: statistics.median(times[name]))
    mine, theirs = in_words(passes)
    rows: list[Row] = []
    for backend, name in BACKENDS.items():
        answer, maps = f"answer {backend}", f"maps {backend}"
        rows += [
            {
                "what": f"{name}: an opened scan's answer with all maps, {mine}, against {theirs} (batch 1)",
                "at_least": "<= 1.15 x",
                "aim": "<= 0.5 x" if backend == "onnxruntime" else "",
                "backend": backend,
                **ratio(times[answer], times["forward"]),
                "bcx_ms": milliseconds(times[answer]),
                "peer_ms": milliseconds(times["forward"]),
            },
            {
                "what": f"{name}: the same, with the maps enlarged to the scan's size",
                "at_least": None,
                "aim": None,
                "backend": backend,
                **ratio(times[maps], times["forward"]),
                "bcx_ms": milliseconds(times[maps]),
                "peer_ms": milliseconds(times["forward"]),
            },
            {
                "what": f"{name}: the same against pytorch-grad-cam for {len(targets)} classes and {mine}",
                "at_least": ">= 6 x faster",
                "aim": "20 x",
                "backend": backend,
                **ratio(times[best], times[answer]),
                "bcx_ms": milliseconds(times[answer]),
                "peer_ms": milliseconds(times[best]),
                "peer_way": "one call per class" if best == "cam" else "one call, the scan repeated per class",
            },
        ]
    return rows


def plain_network(folder: Path) -> tuple[nn.Module, Callable[[np.ndarray], torch.Tensor]]:
    """The same weights as timm alone loads them, and the preprocessing that its tensors need."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return network, load_checkpoint(folder).preprocess.tensor


def write_scans(folder: Path, count: int, different: int = 48) -> list[Path]:
    """So many different pictures, repeated under other names: a scan takes longer to simulate than to classify."""
    folder.mkdir()
    files = [folder / f"scan-{number:05d}.png" for number in range(count)]
    different = min(count, different)
    for number, file in enumerate(files):
        if number < different:
            pixels = simulate(("normal", "benign", "malignant")[number % 3], number, 500, 570).pixels
            Image.fromarray(np.stack([pixels] * 3, axis=2)).save(file)
        else:
            shutil.copyfile(files[number % different], file)
    return files


def measure_folder(folder: Path, files: list[Path], rounds: int) -> list[Row]:
    """A folder from disk to answers, against the network alone on tensors that are ready."""
    classifiers = {backend: bcx.load(folder, backend=backend) for backend in BACKENDS}
    passes = len(passes_of(folder))
    _, tensor = plain_network(folder)
    with torch.inference_mode():
        ready = torch.stack([tensor(bcx.Scan.open(file).pixels) for file in files[:16]])
    images = max(16, len(files) // 4 // 16 * 16)

    def stream(classifier: bcx.Classifier) -> None:
        for answer in classifier.stream(files):
            if not isinstance(answer, bcx.Prediction):
                raise answer.error

    def alone(memory_format: torch.memory_format, size: int) -> Callable[[], None]:
        network = plain_network(folder)[0].to(memory_format=memory_format)
        batch = ready[:size].contiguous(memory_format=memory_format)

        def run() -> None:
            with torch.inference_mode():
                for _ in range(passes * images // size):
                    network(batch)

        return run

    formats = {"as timm loads it": torch.contiguous_format, "channels last": torch.channels_last}
    peers = {f"{name}, batch {size}": alone(kind, size) for name, kind in formats.items() for size in (8, 16)}
    streams: dict[str, Callable[[], None]] = {
        backend: lambda classifier=classifier: stream(classifier) for backend, classifier in classifiers.items()
    }
    times = take_turns({**streams, **peers}, rounds, 1)
    per_image = {name: [t / (len(files) if name in streams else images) for t in times[name]] for name in times}
    best = min(peers, key=lambda name: statistics.median(per_image[name]))
    return [
        {
            "what": f"{BACKENDS[backend]}: a folder of {len(files):,} scans, images/s, {in_words(passes)[0]} each, "
            "against the network alone on ready tensors",
            "at_least": ">= 0.75",
            "aim": ">= 0.9",
            "backend": backend,
            **ratio(per_image[best], per_image[backend]),
            "peer_way": f"plain timm, {best} (the fastest of {len(peers)})",
            "bcx_images_per_second": round(1 / statistics.median(per_image[backend]), 1),
            "peer_images_per_second": {name: round(1 / statistics.median(per_image[name]), 1) for name in peers},
        }
        for backend in streams
    ]


# Sampled at every answer. The system's own record (ru_maxrss) begins with what the parent process held.
MEMORY = """if True:
    import sys, bcx, psutil, torch
    from pathlib import Path
    torch.set_num_threads(int(sys.argv[4]))
    files = sorted(Path(sys.argv[2]).glob("*.png"))
    most, process = 0, psutil.Process()
    for answer in bcx.load(sys.argv[1]).stream(files[number % len(files)] for number in range(int(sys.argv[3]))):
        assert isinstance(answer, bcx.Prediction)
        most = max(most, process.memory_info().rss)
    print(most)
"""


def measure_memory(checkpoint: Path, folder: Path, short: int, long: int, threads: int) -> Row:
    """Most memory that the process held, for a short list and one ten times as long."""

    def most(count: int) -> float:
        return int(ask(MEMORY, str(checkpoint), str(folder), str(count), str(threads))) / 2**20

    few, many = most(short), most(long)
    return {
        "what": f"memory of that folder run, {long:,} against {short:,} scans",
        "at_least": "<= 1.1 x",
        "aim": "flat",
        "backend": bcx.load(checkpoint).backend,
        "ratio": round(many / few, 3),
        "megabytes": {f"{short}": round(few), f"{long}": round(many)},
    }


IMPORT = "import time; t = time.perf_counter(); import bcx; print(time.perf_counter() - t)"


def measure_import(rounds: int) -> Row:
    times = [float(ask(IMPORT)) for _ in range(rounds)]
    return {"what": "import bcx", "at_least": "<= 0.3 s", "aim": "0.1 s", "seconds": round(statistics.median(times), 4)}


def ask(code: str, *arguments: str) -> str:
    """Run code in a process of its own, in the checkout."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


ANSWERED = """old => {
    const shown = document.querySelectorAll('#classify-slider img')[1];
    return shown && shown.src !== old && shown.complete && shown.naturalWidth > 0
        && document.querySelector('#classify-answer [data-label]');
}"""


@contextmanager
def served(checkpoint: Path, examples: Path):
    """The page around the model, on a free port of this machine."""
    from bcx.app.page import build_app
    from bcx.app.server import launch

    app = build_app(bcx.load(checkpoint), examples)
    _, url, _ = launch(app, prevent_thread_lock=True, quiet=True)
    yield url
    app.close(verbose=False)


def measure_page(checkpoint: Path, folder: Path, clicks: int) -> Row:
    """In Chromium, from the click on an example until its answer and its overlay are drawn; the first is warm-up."""
    row: Row = {
        "what": "page: click on an example to full answer, warm",
        "at_least": "<= 1 s",
        "aim": "0.3 s",
        "backend": bcx.load(checkpoint).backend,
    }
    names = ("chromium", "chromium-browser", "google-chrome")
    browser_path = next((found for name in names if (found := shutil.which(name))), None)
    if browser_path is None:
        return {**row, "seconds": None, "note": "not measured: no Chromium on this machine"}
    from playwright.sync_api import sync_playwright

    write_examples(folder)
    with served(checkpoint, folder) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.goto(url)
        page.wait_for_selector("#classify-examples [data-pick='1']")
        times, shown = [], ""
        for number in range(clicks + 1):
            started = time.perf_counter()
            page.click(f"#classify-examples [data-pick='{number % 2}']")
            page.wait_for_function(ANSWERED, arg=shown)
            times.append(time.perf_counter() - started)
            shown = page.locator("#classify-slider img").nth(1).evaluate("image => image.src")
        browser.close()
    return {**row, "seconds": round(statistics.median(times[1:]), 3), "clicks": [round(t, 3) for t in times]}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default=bcx.DEFAULT_MODEL, help="name, folder or Hub id")
    parser.add_argument("--threads", type=int, default=2, help="on both sides")
    parser.add_argument(
        "--scans", type=int, default=1000, help="in the folder; memory is also asked of ten times as many"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "speed.json")
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, few scans, no page: only to see that it works"
    )
    options = parser.parse_args(arguments)
    quick = options.quick
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bcx-speed-") as scratch:
        folder = copy_with_graph(options.model, Path(scratch))
        files = write_scans(Path(scratch) / "scans", *((16, 2) if quick else (options.scans,)))
        rows = measure_one(folder, *((2, 1) if quick else (15, 10)))
        rows += measure_folder(folder, files, 1 if quick else 3)
        counts = (8, 16) if quick else (options.scans, 10 * options.scans)
        rows.append(measure_memory(folder, files[0].parent, *counts, options.threads))
        rows.append(measure_import(2 if quick else 11))
        if not quick:
            rows.append(measure_page(folder, Path(scratch) / "examples", 10))
        passes = passes_of(folder)
    checkpoint = load_checkpoint(options.model)
    write_json(
        options.out,
        {
            "command": f"python benchmarks/speed.py --model {checkpoint.name}"
            + (" --quick" if quick else f" --scans {options.scans}"),
            "quick": quick,
            "commit": current_commit(),
            "versions": {
                "bcx": bcx.__version__,
                "python": platform.python_version(),
                **{name: version(name) for name in PACKAGES},
            },
            "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": options.threads},
            "model": {
                "name": checkpoint.name,
                "weights_sha256": checkpoint.weights_sha256,
                "multiply_adds": sum(count_macs(network, checkpoint.preprocess.size) for network in passes),
            },
            "seconds": round(time.perf_counter() - started, 1),
            "rows": rows,
        },
    )
    print(f"{options.out.name} is written.")
    for row in rows:
        value = f"{row['ratio']} x" if "ratio" in row else f"{row['seconds']} s"
        print(f"{value:>10}  (at least {row['at_least'] or '-'}, aim {row['aim'] or '-'})  {row['what']}")


if __name__ == "__main__":
    main()
