"""What decoding costs: the worst file of each kind in memory and time, and what the processes beside cost per file.

    python benchmarks/decoding.py --data DIR     # writes results/benchmarks/decoding.json; some two minutes

Memory: the largest picture that is let in (40 megapixels), in each format and depth, opened in a process of its own;
what that process and the one that decodes for it held at most. Time: ordinary scans through `Scan.open` against
Pillow's decoding of the same bytes; TIFF is decoded in another process. Damage: how many whole JPEGs below DIR are
called damaged, and how many simulated scans that were cut after 5 to 95 % of their data, with their end put back, are.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

OPEN = """
import json, resource, sys, time
from bcx.imaging.scan import Scan
from bcx.errors import BcxError
from bcx.imaging import worker
used = lambda: next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
before, started = used(), time.perf_counter()
try:
    found = " ".join(map(str, Scan.open(sys.argv[1]).pixels.shape))
except BcxError as error:
    found = str(error)
seconds, own = time.perf_counter() - started, used() - before
worker._end_idle()
beside = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps({"found": found, "seconds": round(seconds, 2), "MB": round(own), "MB beside": round(beside)}))
"""


def largest() -> dict[str, Callable[[], bytes]]:
    """Return functions that make the largest picture of each kind."""
    from pydicom import uid
    from pydicom.encaps import encapsulate

    from tests.imaging.test_dicom import dataset, encoded, written

    side = 6320
    ramp = np.add.outer(np.arange(side), np.arange(side))
    grey = lambda: (ramp % 251).astype(np.uint8)  # noqa: E731
    deep = lambda: (ramp * 5 % 65_521).astype(np.uint16)  # noqa: E731
    colour = lambda: np.stack([grey(), grey()[::-1], grey()[:, ::-1]], -1)  # noqa: E731

    def png16() -> bytes:
        import cv2

        planes = np.stack([deep(), deep()[::-1], deep()[:, ::-1], deep()], -1)
        return cv2.imencode(".png", planes)[1].tobytes()

    def dicom(pixels: np.ndarray, kind: str = "", syntax: str = uid.JPEGBaseline8Bit) -> bytes:
        meaning = "YBR_FULL_422" if pixels.ndim == 3 else "MONOCHROME2"
        if not kind:
            return written(dataset(pixels, "RGB" if pixels.ndim == 3 else meaning))
        stream = encapsulate([encoded(pixels, kind)])
        return written(dataset(pixels, meaning, syntax, PixelData=stream))

    return {
        "PNG, RGB": lambda: encoded(colour(), "PNG", compress_level=1),
        "PNG, RGBA of 16 bits": png16,
        "JPEG, RGB, progressive": lambda: encoded(colour(), "JPEG", progressive=True),
        "GIF": lambda: encoded(grey(), "GIF"),
        "BMP, RGB": lambda: encoded(colour(), "BMP"),
        "TIFF, RGB, LZW": lambda: encoded(colour(), "TIFF", compression="tiff_lzw"),
        "TIFF, 16 bits": lambda: encoded(deep(), "TIFF"),
        "WebP, RGB": lambda: encoded(colour(), "WEBP", quality=50, method=0),
        "AVIF, RGB": lambda: encoded(colour(), "AVIF", speed=10),
        "JPEG 2000": lambda: encoded(grey(), "JPEG2000"),
        "DICOM, 16 bits": lambda: dicom(deep()),
        "DICOM, RGB": lambda: dicom(colour()),
        "DICOM, JPEG, colour": lambda: dicom(colour(), "JPEG"),
        "DICOM, JPEG 2000": lambda: dicom(grey(), "JPEG2000", uid.JPEG2000),
    }


def memory(folder: Path) -> dict[str, dict]:
    """Open the largest picture of each kind in a process of its own."""
    rows = {}
    for name, make in largest().items():
        data = make()
        path = folder / "largest"
        path.write_bytes(data)
        done = subprocess.run([sys.executable, "-c", OPEN, str(path)], capture_output=True, text=True, check=True)
        rows[name] = {"file, MB": round(len(data) / 1e6, 1), **json.loads(done.stdout)}
        print(name, rows[name], flush=True)
    return rows


def pace(rounds: int) -> dict[str, dict]:
    """Time ordinary scans against Pillow; the sides take turns, and a ratio is the median over rounds."""
    from bcx.imaging.scan import Scan
    from bcx.simulate import simulate

    scans = [simulate("benign", seed, 470, 560).pixels for seed in range(8)]
    rows = {}
    for kind in ("PNG", "JPEG", "TIFF"):
        files = []
        for pixels in scans:
            buffer = io.BytesIO()
            Image.fromarray(pixels).convert("RGB").save(buffer, kind)
            files.append(buffer.getvalue())
        Scan.open(files[0])  # starts the process beside, where there is one
        times: dict[str, list[float]] = {"bcx": [], "Pillow": []}
        sides = {"bcx": Scan.open, "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data)))}
        for _ in range(rounds):
            for side, work in sides.items():
                started = time.perf_counter()
                for data in files:
                    work(data)
                times[side].append((time.perf_counter() - started) / len(files))
        ratios = sorted(a / b for a, b in zip(times["bcx"], times["Pillow"], strict=True))
        rows[kind] = {
            "ratio": round(statistics.median(ratios), 2),
            "ms": round(1000 * statistics.median(times["bcx"]), 2),
            "Pillow, ms": round(1000 * statistics.median(times["Pillow"]), 2),
        }
        print(kind, rows[kind], flush=True)
    return rows


def damage(folder: Path | None) -> dict[str, int]:
    """Count whole JPEGs that are called damaged, and cut ones that are."""
    from bcx.imaging.formats import is_damaged
    from bcx.simulate import simulate

    whole = [] if folder is None else [path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".jpg"]
    cut = told = 0
    for seed in range(20):
        for options in ({}, {"progressive": True}, {"restart_marker_blocks": 8}):
            buffer = io.BytesIO()
            Image.fromarray(simulate("malignant", seed, 470, 560).pixels).save(buffer, "JPEG", quality=85, **options)
            data = buffer.getvalue()
            head = data.index(b"\xff\xda") + 16
            for share in range(5, 100, 5):
                cut += 1
                told += is_damaged(data[: head + (len(data) - head) * share // 100] + b"\xff\xd9")
    wrongly = sum(is_damaged(path.read_bytes()) for path in whole)
    return {"whole": len(whole), "whole, called damaged": wrongly, "cut": cut, "cut, called damaged": told}


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/decoding.json"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {"time against Pillow": pace(options.rounds), "largest pictures": memory(Path(folder))}
    figures["damage"] = damage(options.data)
    figures["largest, MB"] = max(max(row["MB"], row["MB beside"]) for row in figures["largest pictures"].values())
    options.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
