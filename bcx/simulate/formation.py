"""One simulated scan from a label and a seed: scatterers, point-spread function, envelope, gain, log compression."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bcx.errors import ConfigError
from bcx.simulate.anatomy import Map, Scene, add_lesion, breast, grid

LABELS = ("normal", "benign", "malignant")
DYNAMIC_RANGE, GAMMA = 60.0, 1.55  # decibels between black and white; the grey map holds dark tissue together
NOISE = 0.02  # amplitude of the electronics' noise at the bottom of the image, where depth gain lifts it most


class Simulated(NamedTuple):
    """A simulated B-mode scan, and True on its lesion; both `[H, W]`."""

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def simulate(label: str, seed: int, height: int = 470, width: int = 560) -> Simulated:
    """Make one scan; the same arguments give the same pixels.

    The anatomy of a seed does not depend on the size. `ConfigError`: another label than of `LABELS`, a negative seed
    or a side below 32 pixels.
    """
    if label not in LABELS or seed < 0 or min(height, width) < 32:
        raise ConfigError(
            f"A simulated scan was asked for with label '{label}', seed {seed}, {width} x {height} pixels.",
            expected=f"a label out of {', '.join(LABELS)}, a seed from 0 up, 32 pixels or more each way",
            remedy="Change the value that does not fit.",
        )
    kind = LABELS.index(label)
    tissue, lump, sound = (np.random.default_rng([seed, kind, part]) for part in range(3))
    scene = breast(tissue, height, width)
    mask = np.zeros((height, width), bool) if label == "normal" else add_lesion(scene, label, lump)
    amplitude = envelope(scene, sound, looks=4, focus=sound.uniform(0.3, 0.5))
    return Simulated(compress(amplitude, sound, gain=sound.normal(-1.5, 3)), mask)


def widths(height: int, focus: float) -> Map:
    """Return the half width of the beam in pixels at every row, float32 [H], least at depth `focus`, 0..1."""
    y, _ = grid(height, 1)
    spread = 0.0062 * np.sqrt(1 + ((y[:, 0] - focus) / 0.42) ** 2)
    return np.maximum(spread * height, 0.6).astype(np.float32)


def _keep(sigma: float) -> np.float32:
    """What blurred white noise must be multiplied by to keep its power."""
    return np.float32(np.sqrt(2 * np.sqrt(np.pi) * sigma))


def envelope(scene: Scene, rng: np.random.Generator, *, looks: int = 1, focus: float = 0.4) -> Map:
    """Return echo amplitudes, float32 [H, W], of root mean square 1 over fibroglandular tissue without loss.

    Scatterers of random phase and coherent mirrors pass through a separable Gaussian point-spread function in complex
    baseband. Over even tissue one look has fully developed speckle, whose amplitude follows Rayleigh's law (Wagner et
    al., IEEE Trans. Sonics Ultrason. 1983); `looks` are averaged in power, as from different angles.
    """
    from scipy.ndimage import gaussian_filter1d

    height, width = scene.echo.shape
    amplitude = 10 ** (scene.echo / 20)
    axial = max(0.0033 * height, 0.55)
    beam = widths(height, focus)
    stops = np.linspace(beam.min(), beam.max(), 3)  # blurring at three widths and blending is enough, and quick
    place = np.interp(beam, stops, np.arange(3))
    shares = np.maximum(1 - np.abs(place[:, None] - np.arange(3)), 0).astype(np.float32)
    mirror = gaussian_filter1d(scene.mirror, axial, axis=0, truncate=3.0)
    mirror = gaussian_filter1d(mirror, float(stops[1]), axis=1, truncate=3.0)
    power = np.zeros((height, width), np.float32)
    for _ in range(looks):
        echoes = rng.standard_normal((2, height, width), np.float32) * (amplitude * np.float32(np.sqrt(0.5)))
        echoes = gaussian_filter1d(echoes, axial, axis=1, truncate=3.0) * _keep(axial)
        field = np.zeros_like(echoes)
        for share, stop in zip(shares.T, stops, strict=True):
            field += share[:, None] * gaussian_filter1d(echoes, stop, axis=2, truncate=3.0) * _keep(stop)
        power += (field[0] + mirror) ** 2 + field[1] ** 2
    power /= looks
    shade = np.cumsum(scene.loss, axis=0) / height
    near, far = (gaussian_filter1d(shade, blur * height, axis=1) for blur in (0.008, 0.04))
    y, _ = grid(height, 1)
    shade = near + (far - near) * y  # the beam is wide where it is deep, and blurs the sides of a shadow
    return (np.sqrt(power) * 10 ** (-shade / 20)).astype(np.float32)


def _calm(decibels: Map) -> Map:
    """Reduce speckle as scanners do: bright departures above 8 dB stay, lesser ones shrink, dark ones end at 5 dB."""
    from scipy.ndimage import gaussian_filter

    height = len(decibels)
    around = gaussian_filter(decibels, (max(0.004 * height, 0.6), max(0.012 * height, 0.8)), truncate=2.5)
    departure = decibels - around
    return around + np.maximum(departure * np.clip(departure / 8, 0.65, 1), -5)


def compress(amplitude: Map, rng: np.random.Generator, gain: float = 0.0) -> np.ndarray:
    """Compress what `envelope` returns to grey levels, uint8 [H, W]; `gain`, in dB, is added to all echoes."""
    y, _ = grid(len(amplitude), 1)
    hiss = rng.standard_normal((2, *amplitude.shape), np.float32) * (NOISE * y**2)
    amplitude = np.sqrt(amplitude**2 + hiss[0] ** 2 + hiss[1] ** 2).astype(np.float32)
    decibels = _calm((20 * np.log10(np.maximum(amplitude, 1e-6)) + gain).astype(np.float32))
    level = np.clip((decibels + 0.74 * DYNAMIC_RANGE) / DYNAMIC_RANGE, 0, 1) ** GAMMA
    return np.rint(level * 255).astype(np.uint8)
