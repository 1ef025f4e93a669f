"""One simulated scan from a label and a seed.

>>> scan = simulate("benign", seed=1, height=96, width=120)
>>> scan.pixels.shape, scan.pixels.dtype, bool(scan.mask.any())
((96, 120), dtype('uint8'), True)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bcx.errors import ConfigError

LABELS = ("normal", "benign", "malignant")


@dataclass(frozen=True)
class Simulated:
    """A simulated B-mode scan.

    Attributes:
        pixels: uint8 [H, W], grey levels.
        mask: bool [H, W], True on the lesion; all False for "normal".
        label: "normal", "benign" or "malignant".
        seed: what `simulate` was given.
    """

    pixels: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    label: str
    seed: int


def simulate(label: str, seed: int, height: int = 470, width: int = 560) -> Simulated:
    """Make one scan; the same arguments give the same pixels.

    Args:
        seed: any integer from 0 up.
        height, width: size in pixels, 32 or more each. The anatomy of a seed does not depend on it.

    Raises:
        ConfigError: another label, a negative seed or a size below 32.
    """
    from bcx.simulate.anatomy import breast
    from bcx.simulate.beam import compress, envelope
    from bcx.simulate.lesions import add_lesion

    if label not in LABELS or seed < 0 or min(height, width) < 32:
        raise ConfigError(
            f"A simulated scan was asked for with label '{label}', seed {seed}, {width} x {height} pixels.",
            expected=f"a label out of {', '.join(LABELS)}, a seed from 0 up, 32 pixels or more each way",
            remedy="Change the value that does not fit.",
        )
    kind = LABELS.index(label)
    tissue, lump, sound = (np.random.default_rng([seed, kind, part]) for part in range(3))
    scene = breast(tissue, height, width)
    mask = np.zeros((height, width), bool)
    if label != "normal":
        mask = add_lesion(scene, label, lump)
    amplitude = envelope(scene, sound, looks=4, focus=sound.uniform(0.3, 0.5))
    pixels = compress(amplitude, noise=0.02, rng=sound, gain=sound.normal(-1.5, 3))
    return Simulated(pixels, mask, label, seed)
