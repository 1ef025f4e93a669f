"""Images that are no scans, for asking whether the input check stops them.

Nothing is fetched: they are what installed packages ship, what is drawn from seeds, and what a user's folder holds.

>>> sorted({image.kind for image in noise()})[:2]
['noise: blank', 'noise: blocks']
>>> next(documents()).kind
'document: text'
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from bcx.errors import BcxError, DataError, MissingExtra
from bcx.imaging.preprocess import to_grey
from bcx.imaging.scan import Scan


@dataclass(frozen=True)
class NonScan:
    """An image that is no scan."""

    kind: str  # what it is, "family: variety"
    name: str  # tells it from the others of its kind
    pixels: np.ndarray = field(repr=False)  # uint8 [H, W] or [H, W, 3]
    seen: bool = False  # whether the input check was made with such images in view, so that its share flatters


_TEXT = (
    "the patient was seen today for a follow up of her last visit and reports no pain or fever invoice number "
    "total amount due within thirty days please contact our office if you have questions chapter one begins on a "
    "cold morning in november when nobody expected news from the harbour report findings impression date page of"
)
_WORDS = _TEXT.split()
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

    Grey photographs are the hard ones. Each comes whole and as four overlapping parts (.6 of each side), squeezed to
    the grey levels of a typical scan (mean 75, deviation 45). `MissingExtra` where a package is not installed.
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
    """
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
        found = f"The package '{package}', whose sample pictures the study uses, is not installed."
        raise MissingExtra.named("test", found)
    return Path(spec.submodule_search_locations[0])


def _like_a_scan(grey: np.ndarray) -> np.ndarray:
    values = grey.astype(np.float32)
    return np.clip((values - values.mean()) / max(float(values.std()), 1.0) * 45 + 75, 0, 255).astype(np.uint8)


def _parts(grey: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    rows, columns = (round(0.6 * side) for side in grey.shape)
    yield "whole", grey
    for vertical, y in (("top", np.s_[:rows]), ("bottom", np.s_[-rows:])):
        yield f"{vertical} left", grey[y, :columns]
        yield f"{vertical} right", grey[y, -columns:]


def histology(folder: Path, limit: int, *, name: str) -> Iterator[NonScan]:
    """Microscope images from a folder and its subfolders, as they are and enlarged without colour.

    At most `limit` files, spread evenly over all; `DataError` where there is none.
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


def documents() -> Iterator[NonScan]:
    """Pages of text, tables, plots and screens: dark on bright, inverted, and as a shaded photograph of the page."""
    for seed in range(6):
        for kind, draw in (("text", _text_page), ("table", _table), ("plot", _plot), ("screen", _screen)):
            pixels = draw(seed)
            shaded = _shaded(to_grey(pixels), seed)
            yield NonScan(f"document: {kind}", f"seed {seed}", pixels, seen=True)
            yield NonScan(f"document: {kind}, inverted", f"seed {seed}", 255 - pixels, seen=True)
            yield NonScan(f"document: {kind}, grey and shaded", f"seed {seed}", shaded, seen=True)


def _font(seed: int, size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    if seed % 4 == 0:
        return ImageFont.load_default(size)
    name = ("DejaVuSans.ttf", "DejaVuSerif.ttf", "DejaVuSansMono.ttf")[seed % 4 - 1]
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


def _canvas(seed: int, width: int, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw, np.random.Generator]:
    rng = np.random.default_rng(seed)
    paper = tuple(int(v) for v in rng.integers(236, 256, 3))
    image = Image.new("RGB", (width, height), paper)
    return image, ImageDraw.Draw(image), rng


def _text_page(seed: int) -> np.ndarray:
    size = (14, 18, 24, 12, 30, 16)[seed % 6]
    image, draw, rng = _canvas(seed, 620, 800 if seed % 2 else 480)
    font = _font(seed, size)
    y = 30.0
    while y < image.height - 30:
        draw.text((36, y), " ".join(rng.choice(_WORDS, int(rng.integers(3, 1100 // size // 6)))), (20, 20, 24), font)
        y += size * 1.5 * (2 if rng.random() < 0.15 else 1)
    return np.asarray(image)


def _table(seed: int) -> np.ndarray:
    image, draw, rng = _canvas(seed, 640, 460)
    font = _font(seed + 1, 15)
    step = 24 + 4 * (seed % 3)
    for row, y in enumerate(range(24, image.height - step, step)):
        if row % 2:
            draw.rectangle((20, y, 620, y + step), (226, 232, 240))
        for x in range(20, 620, 120):
            draw.rectangle((x, y, x + 120, y + step), outline=(150, 150, 150))
            cell = f"{rng.normal(50, 30):.2f}" if row else str(rng.choice(_WORDS))
            draw.text((x + 8, y + 4), cell, (30, 30, 30), font)
    return np.asarray(image)


def _plot(seed: int) -> np.ndarray:
    image, draw, rng = _canvas(seed, 640, 480)
    draw.rectangle((70, 30, 610, 420), (255, 255, 255), (0, 0, 0))
    font = _font(seed + 2, 14)
    for tick in range(6):
        draw.text((30, 412 - 76 * tick), f"{tick * 0.2:.1f}", (0, 0, 0), font)
        draw.text((62 + 106 * tick, 428), str(tick * 10), (0, 0, 0), font)
    draw.text((280, 450), "epoch", (0, 0, 0), font)
    for colour in ((31, 119, 180), (255, 127, 14), (44, 160, 44)):
        if seed % 3 == 0:
            for x in np.linspace(80, 590, 14):
                draw.rectangle((x, 420 - rng.uniform(20, 370), x + 10, 419), colour)
        elif seed % 3 == 1:
            y = 225 + np.cumsum(rng.normal(0, 8, 54))
            draw.line([(70 + 10 * i, float(np.clip(v, 32, 418))) for i, v in enumerate(y)], colour, 2)
        else:
            for x, v in zip(rng.uniform(80, 600, 60), rng.normal(225, 70, 60), strict=True):
                draw.ellipse((x, np.clip(v, 34, 410), x + 6, np.clip(v, 34, 410) + 6), colour)
    return np.asarray(image)


def _screen(seed: int) -> np.ndarray:
    image, draw, rng = _canvas(seed, 800, 500)
    bar = tuple(int(v) for v in rng.integers(30, 120, 3))
    draw.rectangle((0, 0, 800, 40), bar)
    draw.rectangle((0, 40, 170, 500), (238, 240, 244))
    font = _font(seed + 3, 14)
    draw.text((14, 10), "File   Edit   View   Tools   Help", (255, 255, 255), font)
    for y in range(60, 480, 30):
        draw.text((16, y), str(rng.choice(_WORDS)), (60, 60, 70), font)
        draw.text((200, y), " ".join(rng.choice(_WORDS, int(rng.integers(3, 10)))), (30, 30, 30), font)
    for x in (560, 660):
        draw.rounded_rectangle((x, 430, x + 80, 464), 8, (37, 99, 235))
        draw.text((x + 18, 438), "Save", (255, 255, 255), font)
    return np.asarray(image)


def _shaded(grey: np.ndarray, seed: int) -> np.ndarray:
    """A grey page as a camera would see it: dimmer to one side, slightly turned, with noise and blur."""
    rng = np.random.default_rng(seed)
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), float(rng.uniform(-8, 8)), 1.15)
    page = cv2.warpAffine(grey.astype(np.float32), turn, (width, height), borderValue=90.0)
    (left, right), (top, bottom) = rng.uniform(0.35, 0.9, 2).tolist(), rng.uniform(0.6, 1.0, 2).tolist()
    light = np.linspace(left, right, width)[None] * np.linspace(top, bottom, height)[:, None]
    page = cv2.GaussianBlur(page * light, (0, 0), 1.0) + rng.normal(0, 4, page.shape)
    return np.clip(page, 0, 255).astype(np.uint8)


def noise() -> Iterator[NonScan]:
    """Noise and smooth patterns, 420 x 560, six of each variety."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        shape = (420, 560)
        y, x = np.mgrid[0 : shape[0], 0 : shape[1]] / max(shape)
        angle = rng.uniform(0, 2 * np.pi)
        ramp = np.cos(angle) * x + np.sin(angle) * y
        cloud = cv2.GaussianBlur(rng.normal(size=shape), (0, 0), float(rng.uniform(15, 50)))
        spots = rng.random(shape)
        white = rng.normal(128, rng.uniform(15, 60), shape)
        images = {
            "white": white,
            "uniform": rng.uniform(0, 255, shape),
            "colour": rng.uniform(0, 255, (*shape, 3)),
            "smooth clouds": 128 + 55 * cloud / cloud.std(),
            "salt and pepper": np.where(spots < 0.1, 0, np.where(spots > 0.9, 255, 128)),
            "gradient": 255 * (ramp - ramp.min()) / np.ptp(ramp),
            "stripes": 128 + 100 * np.sin(2 * np.pi * rng.uniform(5, 40) * ramp),
            "blank": np.full(shape, rng.integers(0, 256)),
            "blocks": np.kron(rng.uniform(0, 255, (7, 8)), np.ones((60, 70))),
        }
        for variety, values in images.items():
            yield NonScan(f"noise: {variety}", f"seed {seed}", np.clip(values, 0, 255).astype(np.uint8), seen=True)


def fresh() -> Iterator[NonScan]:
    """Kinds drawn after the input check was finished, so that nothing of it was set with them in view; six of each."""
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        height, width = 420, 560
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]) + 1 / width
        fractal = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / frequency ** rng.uniform(0.8, 1.6)).real
        seeds = rng.uniform(0, (width, height), (40, 2))
        cells = np.argmin((x[..., None] - seeds[:, 0]) ** 2 + (y[..., None] - seeds[:, 1]) ** 2, axis=2)
        bars = np.repeat(rng.integers(0, 2, 80) * 255, 7)
        code = np.kron(rng.integers(0, 2, (30, 40)), np.ones((14, 14))) * 255
        drawn_out = cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), sigmaX=4.0, sigmaY=1.5)
        rings = np.hypot(x - rng.uniform(100, 460), y - rng.uniform(100, 320))
        images = {
            "noise: fractal": 90 + 45 * (fractal - fractal.mean()) / fractal.std(),
            "noise: drawn out sideways": 90 + 45 * drawn_out / drawn_out.std(),
            "drawing: map": rng.integers(20, 220, 40)[cells],
            "drawing: scribble": _scribble(rng),
            "drawing: rings": 110 + 90 * np.sin(rings / rng.uniform(2, 12)),
            "document: bar code": np.broadcast_to(bars, (height, bars.size)),
            "document: square code": code,
        }
        for kind, values in images.items():
            yield NonScan(kind, f"seed {seed}", np.clip(values, 0, 255).astype(np.uint8))


def _scribble(rng: np.random.Generator) -> np.ndarray:
    """Lines of loops, as of a pen on shaded paper."""
    paper = np.linspace(200, 120, 560)[None].repeat(420, 0).astype(np.float32)
    for top in range(50, 400, 45):
        steps = np.arange(0, 480, 2)
        wave = np.cumsum(rng.normal(0, 1.2, steps.size)) * 0.4 + 12 * np.sin(steps / rng.uniform(4, 9))
        points = np.stack([40 + steps + 6 * np.cos(steps / 5), top + wave], 1).round().astype(np.int32)
        cv2.polylines(paper, [points], False, 30.0, 2, cv2.LINE_AA)
    return paper
