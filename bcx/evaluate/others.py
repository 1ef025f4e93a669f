"""Pictures from the neighbourhood of breast ultrasound, for asking whether the input check stops them.

Ultrasound of other organs is simulated (`bcx.simulate.organs`), a handful comes with pydicom. Colour over tissue, two
scans in one picture, reports and photographs of a screen are made of true scans, in memory: nothing is stored.

>>> from bcx.simulate import simulate
>>> scan = simulate("benign", seed=5, height=120, width=160).pixels
>>> in_two_halves(scan, scan, gutter=4).shape
(120, 324)
"""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bcx.data.records import Record
from bcx.evaluate.non_scans import NonScan
from bcx.imaging.preprocess import resize, to_grey
from bcx.imaging.scan import Scan
from bcx.simulate.organs import CONVEX, LINEAR, PHASED, Probe, simulate_organ

_SAID = (
    "Patient: A. N. Other", "Exam: right side, two planes", "Findings", "oval mass, parallel, circumscribed",
    "size 12 x 8 x 11 mm", "no calcifications seen", "Impression: follow up in six months", "Depth 4 cm  Gn 54  DR 66",
    "MI 0.9 TIS 0.3", "B 12 MHz", "D1 11.2 mm  D2 7.9 mm",
)  # fmt: skip


def _box(scan: np.ndarray, rng: np.random.Generator, share: float) -> tuple[slice, slice]:
    """Rows and columns of a box of about `share` of the scan, off its edges where it fits."""
    sizes = [min(0.9, np.sqrt(share) * factor) for factor in (1.0, 1.1)]
    places = [(rng.uniform(0.05, 0.95 - size), size, n) for size, n in zip(sizes, scan.shape[:2], strict=True)]
    rows, columns = (slice(round(at * n), round((at + size) * n)) for at, size, n in places)
    return rows, columns


def _blobs(rng: np.random.Generator, shape: tuple[int, int], grain: float) -> np.ndarray:
    """Smooth noise of standard deviation 1, float32 [H, W]; `grain`: its size as a share of the width."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), max(1.0, grain * shape[1]))
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)


def with_flow(
    scan: np.ndarray, rng: np.random.Generator, *, share: float = 0.25, fill: float = 0.3, power: bool = False
) -> np.ndarray:
    """Colour Doppler: vessels red and blue (`power`: orange) in `fill` of a box of `share`, and a colour bar."""
    out, (rows, columns) = np.dstack([scan] * 3), _box(scan, rng, share)
    inside = out[rows, columns]
    field = _blobs(rng, inside.shape[:2], 0.06)
    speed = np.abs(field) - np.quantile(np.abs(field), 1 - fill)
    level = np.clip(0.55 + 0.5 * speed, 0, 1)[..., None]
    warm, cold = (level * np.array(colour) for colour in ((255, 140 if power else 60, 10), (30, 110, 255)))
    flow = np.where(power | (field[..., None] > 0), warm, cold)
    inside[:] = np.where(speed[..., None] > 0, flow, inside)
    cv2.rectangle(out, (columns.start, rows.start), (columns.stop, rows.stop), (255, 255, 255), 1)
    bar = np.linspace(255, 0, max(8, scan.shape[0] // 4))[:, None, None] * np.array([1, 0.4, 0.05])
    out[4 : 4 + len(bar), 4 : 4 + max(4, scan.shape[1] // 40)] = bar
    return out


def with_stiffness(
    scan: np.ndarray, rng: np.random.Generator, *, share: float = 0.35, opacity: float = 0.5, beside: bool = False
) -> np.ndarray:
    """Elastography: a box of all colours over the scan; `beside`: to the right of the scan without it."""
    out = np.dstack([scan] * 3)
    inside = out[_box(scan, rng, share)]
    level = np.clip(128 + 70 * _blobs(rng, inside.shape[:2], 0.09), 0, 255).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_JET)[..., ::-1]
    inside[:] = (opacity * colours + (1 - opacity) * inside).astype(np.uint8)
    return np.hstack([np.dstack([scan] * 3), out]) if beside else out


def in_two_halves(scan: np.ndarray, other: np.ndarray, *, gutter: int = 0, stacked: bool = False) -> np.ndarray:
    """A split screen: two scans beside each other, or one above the other, `gutter` black pixels between them."""
    if stacked:
        return in_two_halves(scan.T, other.T, gutter=gutter).T.copy()
    beside = resize(other, max(1, round(other.shape[1] * len(scan) / len(other))), len(scan))
    return np.hstack([scan, np.zeros((len(scan), gutter), np.uint8), beside])


def in_a_report(
    scans: Sequence[np.ndarray], rng: np.random.Generator, *, paper: int = 250, size: int = 17
) -> np.ndarray:
    """A page with some scans and lines of text; `paper`: its grey level, dark as on a workstation or white."""
    width, height = 760, 560 if len(scans) < 3 else 900
    page = Image.new("L", (width, height), paper)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size)
    ink, y = (20 if paper > 128 else 225), 16.0
    for line in rng.permutation(_SAID)[: int(rng.integers(3, 6))]:
        draw.text((24, y), str(line), ink, font)
        y += 1.5 * size
    for number, scan in enumerate(scans):
        thumb = resize(scan, 340, round(340 * scan.shape[0] / scan.shape[1]))
        page.paste(Image.fromarray(thumb), (24 + 370 * (number % 2), round(y) + 300 * (number // 2)))
    y = y + 300 * ((len(scans) + 1) // 2)
    for line in rng.permutation(_SAID):
        draw.text((24, y), str(line), ink, font)
        y += 1.5 * size
    return np.asarray(page)


def photographed(
    scan: np.ndarray,
    rng: np.random.Generator,
    *,
    turn: float = 5.0,
    margin: float = 0.12,
    moire: float = 0.12,
    grey: bool = False,
) -> np.ndarray:
    """The scan on a screen, photographed by hand: turned, from the side, with frame, moire, glare, cast and noise."""
    height, width = 480, 640
    screen = np.pad(resize(scan, 520, 390), 14, constant_values=12)
    screen = np.pad(screen, 10, constant_values=int(rng.integers(30, 70))).astype(np.float32)
    tall, wide = screen.shape
    corners = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], np.float32)
    inset = margin * np.array([width, height])
    goal = np.array([inset, [width - inset[0], inset[1]], [width, height] - inset, [inset[0], height - inset[1]]])
    goal += rng.uniform(-0.03, 0.03, (4, 2)) * (width, height)
    angle = np.radians(rng.uniform(0.4, 1) * turn * rng.choice([-1, 1]))
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    goal = (goal - (width / 2, height / 2)) @ spin.T + (width / 2, height / 2)
    warp = cv2.getPerspectiveTransform(corners, goal.astype(np.float32))
    wall = float(rng.uniform(40, 120))
    seen = cv2.warpPerspective(screen, warp, (width, height), borderValue=wall)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    a, pitch = rng.uniform(0, np.pi), rng.uniform(3, 9)
    seen *= 1 + moire * np.sin(2 * np.pi * (np.cos(a) * x + np.sin(a) * y) / pitch + rng.uniform(0, 6))
    glare = np.exp(-((x - rng.uniform(0, width)) ** 2 + (y - rng.uniform(0, height)) ** 2) / rng.uniform(60, 140) ** 2)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.8) * (1 - 0.3 * np.hypot(x / width - 0.5, y / height - 0.5)) + 70 * glare
    tones = 1 + 0.06 * rng.uniform(-1, 1, 3) * (1 + 0.5 * np.dstack([x / width, y / height, 1 - x / width]))
    photo = np.clip(seen[..., None] * tones + rng.normal(0, 5, (height, width, 3)), 0, 255).astype(np.uint8)
    return to_grey(photo) if grey else photo


Source = Callable[[], np.ndarray]
Draw = Callable[[Source, np.random.Generator], np.ndarray]


def _organ(kind: str, probe: Probe) -> Draw:
    return lambda scan, rng: simulate_organ(kind, int(rng.integers(1 << 30)), probe=probe)


def _inside(draw: Draw) -> Draw:
    """Cut out of the middle of a fan, so that neither of its sides is seen."""

    def cut(scan: Source, rng: np.random.Generator) -> np.ndarray:
        pixels = draw(scan, rng)
        height, width = pixels.shape[:2]
        return pixels[round(0.2 * height) : round(0.8 * height), round(0.28 * width) : round(0.72 * width)].copy()

    return cut


#: What the input check was made with in view, by kind: from a source of grey scans and a generator to a picture.
SEEN: dict[str, Draw] = {
    "colour Doppler": lambda scan, rng: with_flow(scan(), rng, share=0.2, fill=rng.choice([0.1, 0.3])),
    "colour Doppler: power": lambda scan, rng: with_flow(scan(), rng, share=0.15, fill=0.2, power=True),
    "elastography": lambda scan, rng: with_stiffness(scan(), rng, opacity=rng.uniform(0.25, 0.5)),
    "elastography: beside the scan": lambda scan, rng: with_stiffness(scan(), rng, beside=True),
    "split screen": lambda scan, rng: in_two_halves(scan(), scan(), gutter=int(rng.choice([0, 8]))),
    "split screen: stacked": lambda scan, rng: in_two_halves(scan(), scan(), gutter=4, stacked=True),
    "report: white": lambda scan, rng: in_a_report([scan()], rng),
    "report: dark": lambda scan, rng: in_a_report([scan() for _ in range(rng.choice([1, 4]))], rng, paper=12),
    "photograph of a screen": lambda scan, rng: photographed(scan(), rng),
    "photograph of a screen: close": lambda scan, rng: photographed(scan(), rng, margin=-0.05),
    "photograph of a screen: grey": lambda scan, rng: photographed(scan(), rng, grey=True),
    "other ultrasound: thyroid": _organ("thyroid", LINEAR),
    "other ultrasound: liver": _organ("liver", CONVEX),
    "other ultrasound: liver, cut out of the fan": _inside(_organ("liver", CONVEX)),
    "other ultrasound: fetus": _organ("fetus", CONVEX),
    "other ultrasound: fetus, cut out of the fan": _inside(_organ("fetus", CONVEX)),
    "other ultrasound: heart": _organ("heart", PHASED),
    "other ultrasound: phantom": _organ("phantom", CONVEX),
    "other ultrasound: phantom, flat probe": _organ("phantom", LINEAR),
}


def _spectral(scan: Source, rng: np.random.Generator) -> np.ndarray:
    """Spectral Doppler: a scan above, below it speeds over time, white on black with a base line."""
    above = scan()
    height, width = above.shape[0] // 2, above.shape[1]
    beat = 0.25 + 0.6 * np.abs(np.sin(np.linspace(0, rng.uniform(6, 14), width))) ** rng.uniform(2, 6)
    level = (np.arange(height)[::-1, None] / height) < beat * rng.uniform(0.7, 0.95)
    below = np.where(level, 150, 6) + rng.normal(0, 25, (height, width)) * level
    below[-2:] = 230
    return np.vstack([above, below.clip(0, 255).astype(np.uint8)])


def _workstation(scan: Source, rng: np.random.Generator) -> np.ndarray:
    """One large scan on a black screen, with text on both sides and grey buttons on top."""
    picture = resize(scan(), 520, 430)
    page = Image.new("L", (900, 560), 0)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(int(rng.integers(12, 16)))
    for left in range(8, 880, 74):
        draw.rectangle((left, 6, left + 64, 34), int(rng.integers(50, 90)))
    page.paste(Image.fromarray(picture), (190, 70))
    for left in (8, 720):
        for top in range(60, int(rng.integers(220, 520)), 22):
            draw.text((left, top), str(rng.choice(_SAID))[:22], 200, font)
    return np.asarray(page)


def _tiles(scan: Source, rng: np.random.Generator) -> np.ndarray:
    """Four scans, two by two, with dark grey bars between them."""
    upper, lower = (in_two_halves(scan(), scan(), gutter=5) for _ in range(2))
    lower = resize(lower, upper.shape[1], round(lower.shape[0] * upper.shape[1] / lower.shape[1]))
    return np.vstack([upper, np.full((5, upper.shape[1]), 40, np.uint8), lower])


def _strain(scan: Source, rng: np.random.Generator) -> np.ndarray:
    """Elastography without colour: the scan, and beside it its smooth grey map of stiffness."""
    picture = scan()
    return in_two_halves(picture, np.clip(110 + 45 * _blobs(rng, picture.shape, 0.08), 0, 255).astype(np.uint8))


def _on_tinted(scan: Source, rng: np.random.Generator) -> np.ndarray:
    """Colour Doppler on a scan that is tinted all over."""
    flow = with_flow(scan(), rng, share=0.12, fill=0.2)
    return (flow * np.array([1.0, rng.uniform(0.75, 0.9), rng.uniform(0.4, 0.7)])).astype(np.uint8)


_NARROW, _WIDE, _CAVITY = Probe(50, 0.6), Probe(75, 0.3), Probe(125, 0.12)
#: Kinds and varieties that were made after the input check was finished; none of it was set with them in view.
LATE: dict[str, Draw] = {
    "colour Doppler: little flow": lambda scan, rng: with_flow(scan(), rng, share=0.08, fill=0.12),
    "colour Doppler: on a tinted scan": _on_tinted,
    "spectral Doppler": _spectral,
    "elastography: faint": lambda scan, rng: with_stiffness(scan(), rng, share=0.15, opacity=0.15),
    "elastography: grey, beside the scan": _strain,
    "split screen: one third": lambda scan, rng: in_two_halves(scan(), _inside(lambda s, r: s())(scan, rng), gutter=2),
    "split screen: made smaller": lambda scan, rng: resize(in_two_halves(scan(), scan(), gutter=3), 420, 240),
    "split screen: four": _tiles,
    "report: grey paper": lambda scan, rng: in_a_report([scan(), scan()], rng, paper=135, size=14),
    "report: workstation": _workstation,
    "photograph of a screen: from aside": lambda scan, rng: photographed(scan(), rng, turn=14, margin=0.2, moire=0.06),
    "photograph of a screen: no moire": lambda scan, rng: photographed(scan(), rng, margin=0.05, moire=0.0),
    "photograph of a screen: grey, no moire": lambda scan, rng: photographed(scan(), rng, moire=0.0, grey=True),
    "photograph of a screen: grey, close, faint moire": lambda scan, rng: photographed(
        scan(), rng, margin=-0.08, moire=0.05, grey=True
    ),
    "other ultrasound: thyroid lengthwise": _organ("thyroid along", LINEAR),
    "other ultrasound: muscle": _organ("muscle", LINEAR),
    "other ultrasound: kidney": _organ("kidney", _NARROW),
    "other ultrasound: kidney, cut out of the fan": _inside(_organ("kidney", _NARROW)),
    "other ultrasound: liver, wide fan": _organ("liver", _WIDE),
    "other ultrasound: heart, wide sector": _organ("heart", Probe(95, 0.02)),
    "other ultrasound: fetus, probe in a cavity": _organ("fetus", _CAVITY),
    "other ultrasound: phantom, narrow fan": _organ("phantom", _NARROW),
}


def others(records: Sequence[Record], each: int) -> Iterator[NonScan]:
    """Draw `each` pictures of every kind, with chance scans of `records` (made grey) in those made of scans."""
    for seed, kinds in enumerate((SEEN, LATE)):
        for number_of_kind, (kind, draw) in enumerate(kinds.items()):
            for number in range(each):
                rng = np.random.default_rng([seed, number_of_kind, number])

                def scan(rng: np.random.Generator = rng) -> np.ndarray:
                    return to_grey(Scan.open(records[int(rng.integers(len(records)))].file).pixels)

                yield NonScan(kind, f"seed {seed}, {number}", draw(scan, rng), seen=kinds is SEEN)
