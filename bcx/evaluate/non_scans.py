"""Images that are no scans, for asking whether the input check stops them.

Nothing is fetched: they are what installed packages ship, what `bcx.evaluate.drawn` draws, and what a user's folder
holds.

>>> from bcx.evaluate.drawn import noise
>>> sorted({image.kind for image in noise()})[:2]
['noise: blank', 'noise: blocks']
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from bcx.errors import BcxError, DataError, MissingExtra
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan


@dataclass(frozen=True)
class NonScan:
    """An image that is no scan.

    Attributes:
        kind: what it is, "family: variety".
        name: tells it from the others of its kind.
        pixels: uint8 [H, W] or [H, W, 3].
        seen: True when images of this kind were looked at while the input check was made, so that its share flatters.
    """

    kind: str
    name: str
    pixels: np.ndarray = field(repr=False)
    seen: bool = False


PHOTOGRAPHS = {
    "gradio": ("media_assets/images", "bus.png cheetah.jpg cheetah1.jpg groot.jpeg lion.jpg tower.jpg"),
    "matplotlib": ("mpl-data/sample_data", "grace_hopper.jpg Minduka_Present_Blue_Pack.png"),
    "skimage": (
        "data",
        "astronaut.png camera.png chelsea.png clock_motion.png coffee.png coins.png hubble_deep_field.jpg moon.png "
        "motorcycle_left.png rocket.jpg",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
#: Of scikit-image, by kind.
OTHERS = {
    "texture": "brick.png grass.png gravel.png",
    "drawing": "chessboard_GRAY.png chessboard_RGB.png color.png horse.png logo.png",
    "document: photographed page": "page.png text.png",
    "other medical picture": "cell.png ihc.png microaneurysms.png phantom.png retina.jpg",
}


def packaged() -> Iterator[NonScan]:
    """Images that installed packages ship, as they are, and their photographs once more without colour.

    Grey photographs are the hard ones. Each comes whole and as four overlapping parts (top left, top right, bottom
    left, bottom right; .6 of each side), squeezed to the grey levels of a typical scan (mean 75, deviation 45).

    Raises:
        MissingExtra: a package is not installed.
    """
    for name, pixels in _photographs():
        yield NonScan("photograph: colour" if pixels.ndim == 3 else "photograph: grey", name, pixels, seen=True)
        for part, crop in _parts(_like_a_scan(to_grey(pixels))):
            yield NonScan("photograph: made grey", f"{name} {part}", crop, seen=True)
    for kind, names in OTHERS.items():
        for name in names.split():
            pixels = Scan.open(_place("skimage") / "data" / name).pixels
            yield NonScan(kind, f"skimage/{name}", pixels, seen=True)
            if kind == "other medical picture":
                yield NonScan(f"{kind}: made grey", f"skimage/{name}", _like_a_scan(to_grey(pixels)), seen=True)


def packaged_late() -> Iterator[NonScan]:
    """More of what packages ship, chosen after the input check was finished; grey, like a scan in its grey levels.

    The photographs once more, turned by a quarter and blurred as by a hand that moved sideways (which gives them a
    grain that runs sideways: meant to be hard); scikit-image's small faces and scikit-learn's written digits, enlarged.

    Raises:
        MissingExtra: a package is not installed.
    """
    from sklearn.datasets import load_digits

    for name, pixels in _photographs():
        grey = _like_a_scan(to_grey(pixels))
        yield NonScan("photograph: turned, made grey", name, np.ascontiguousarray(np.rot90(grey)))
        moved = cv2.blur(grey, (max(3, grey.shape[1] // 75), 1))
        yield NonScan("photograph: moved, made grey", name, moved)
    faces = np.load(_place("skimage") / "data" / "lfw_subset.npy")
    for number, face in enumerate(faces[:100:5]):
        large = cv2.resize(_like_a_scan(face * 255), (375, 375), interpolation=cv2.INTER_CUBIC)
        yield NonScan("photograph: face, enlarged", f"skimage/lfw_subset.npy {5 * number}", large)
    for number, digit in enumerate(load_digits().images[:200:10]):
        large = cv2.resize(_like_a_scan(digit * 16), (320, 320), interpolation=cv2.INTER_LINEAR)
        yield NonScan("drawing: digit, enlarged", f"sklearn/digits {10 * number}", large)


def packaged_ultrasound() -> Iterator[NonScan]:
    """The ultrasound that pydicom ships: a lymph node with flow, an obstetric sector, a beating heart (six frames)."""
    folder = _place("pydicom") / "data" / "test_files"
    named = {"examples_rgb_color": "node with flow", "examples_palette": "obstetric", "examples_ybr_color": "heart"}
    for name, what in named.items():
        for frame in range(0, 30, 5) if what == "heart" else (0,):
            scan = Scan.open(folder / f"{name}.dcm", frame=frame)
            yield NonScan(f"true other ultrasound: {what}", f"pydicom/{name} {frame}", scan.pixels, seen=True)


def _photographs() -> Iterator[tuple[str, np.ndarray]]:
    for package, (folder, names) in PHOTOGRAPHS.items():
        for name in names.split():
            yield f"{package}/{name}", Scan.open(_place(package) / folder / name).pixels


def _place(package: str) -> Path:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtra(
            f"The package '{package}', whose sample pictures the study uses, is not installed.",
            expected="the extra 'test'",
            remedy='Install it with: pip install "bcx[test]"',
        )
    return Path(spec.submodule_search_locations[0])


def _like_a_scan(grey: np.ndarray) -> np.ndarray:
    values = grey.astype(np.float32)
    return np.clip((values - values.mean()) / max(float(values.std()), 1.0) * 45 + 75, 0, 255).astype(np.uint8)


def _parts(grey: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    height, width = grey.shape
    rows, columns = round(0.6 * height), round(0.6 * width)
    yield "whole", grey
    yield "top left", grey[:rows, :columns]
    yield "top right", grey[:rows, -columns:]
    yield "bottom left", grey[-rows:, :columns]
    yield "bottom right", grey[-rows:, -columns:]


def histology(folder: Path, limit: int, *, name: str) -> Iterator[NonScan]:
    """Microscope images from a folder and its subfolders, as they are and enlarged without colour.

    At most `limit` files, spread evenly over all.

    Raises:
        DataError: the folder holds no image.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif"))
    if not files:
        raise DataError(
            f"The folder '{folder.name}' holds no pictures.",
            expected="PNG, JPEG or TIFF files, in subfolders or not",
            remedy="Check the path.",
        )
    for number in np.unique(np.linspace(0, len(files) - 1, min(limit, len(files))).round().astype(int)):
        file = files[number]
        try:
            pixels = Scan.open(file).pixels
        except BcxError:  # one broken file among thousands does not stop a study
            continue
        yield NonScan(f"{name}: as it is", file.name, pixels, seen=True)
        height, width = pixels.shape[:2]
        grow = max(1, round(300 / min(height, width)))
        large = cv2.resize(to_grey(pixels), (width * grow, height * grow), interpolation=cv2.INTER_CUBIC)
        yield NonScan(f"{name}: enlarged, made grey", file.name, large, seen=True)
