"""Simulated scans, what people do to copies of them, and a folder that holds a bit of everything."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from bcx.simulate import simulate

SIZE = (240, 300)


@cache
def scan(seed: int, label: str = "benign") -> np.ndarray:
    """A simulated scan, uint8 [240, 300]; not to be written to."""
    pixels = simulate(label, seed, *SIZE).pixels
    pixels.flags.writeable = False
    return pixels


def overlaid(pixels: np.ndarray) -> np.ndarray:
    """The same writing, calipers, logo, ruler and frame on any scan, as one machine draws them on all."""
    out = pixels.copy()
    for number, text in enumerate(("RT UOQ 10:00", "LOGIQ E9", "12.4 mm x 8.1 mm")):
        cv2.putText(out, text, (8, 20 + 95 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1, cv2.LINE_AA)
    for x, y in ((90, 90), (180, 130), (120, 160), (140, 70)):
        cv2.drawMarker(out, (x, y), 255, cv2.MARKER_CROSS, 13, 2)
    cv2.line(out, (90, 90), (180, 130), 255, 1)
    cv2.rectangle(out, (60, 50), (230, 190), 230, 1)
    for y in range(5, out.shape[0], 12):
        cv2.line(out, (out.shape[1] - 8, y), (out.shape[1] - 2, y), 255, 1)
    return out


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


COPIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda p: p[:, ::-1],
    "upside down": lambda p: p[::-1],
    "turned": lambda p: np.rot90(p),
    "cropped": lambda p: p[30:210, 40:250],
    "cropped and mirrored": lambda p: p[20:200, 30:280][:, ::-1],
    "half the size": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "larger": lambda p: cv2.resize(p, None, fx=1.7, fy=1.7),
    "squashed": lambda p: cv2.resize(p, (224, 224), interpolation=cv2.INTER_AREA),
    "brighter": lambda p: np.clip(p * 1.3 + 15, 0, 255).astype(np.uint8),
    "darker": lambda p: (p * 0.6).astype(np.uint8),
    "other contrast": lambda p: (255 * (p / 255) ** 0.7).astype(np.uint8),
    "marked": overlaid,
    "poor JPEG": lambda p: _jpeg(p, 40),
    "framed": lambda p: cv2.copyMakeBorder(p, 40, 60, 80, 50, cv2.BORDER_CONSTANT, value=0),
    "noisy": lambda p: np.clip(p + np.random.default_rng(0).normal(0, 6, p.shape), 0, 255).astype(np.uint8),
    "all at once": lambda p: _jpeg(overlaid(cv2.resize(p[10:220, 20:280][:, ::-1], (280, 220))), 70),
}
"""What people and programs do to copies."""


def save(pixels: np.ndarray, path: Path) -> Path:
    """Write a picture in the format of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)
    return path


@pytest.fixture(scope="session")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with copies across labels and parts of a split, odd and unreadable files. Read only."""
    root = tmp_path_factory.mktemp("messy")
    for number in range(1, 5):
        save(scan(number), root / f"benign/b{number}.png")
        save(scan(number, "malignant"), root / f"malignant/m{number}.png")
    save(scan(1)[:, ::-1], root / "benign/b1 mirrored.jpg")
    save(scan(2)[20:220, 30:280], root / "malignant/b2 cropped.png")
    (root / "benign/b3 again.png").write_bytes((root / "benign/b3.png").read_bytes())
    save((scan(1) > 60) * np.uint8(255), root / "benign/b1_mask.png")
    (root / "benign/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n not really")
    (root / "benign/empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("not a picture\n")
    return root
