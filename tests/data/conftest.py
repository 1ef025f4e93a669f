"""Small pictures, drawn by the tests themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bcx.tasks import BREAST_ULTRASOUND, Task

Draw = Callable[..., Path]


@pytest.fixture
def task() -> Task:
    return BREAST_ULTRASOUND


@pytest.fixture
def draw() -> Draw:
    """Write a noise picture, different for each path; `size` is width and height."""

    def write(path: Path, size: tuple[int, int] = (48, 40)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(list(str(path).encode())).integers(1, 255, (size[1], size[0]), dtype=np.uint8)
        Image.fromarray(noise).save(path)
        return path

    return write


@pytest.fixture
def draw_mask() -> Draw:
    """Write a mask that is white in `box` (left, top, right, bottom)."""

    def write(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (48, 40), white: int = 255) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros((size[1], size[0]), np.uint8)
        mask[box[1] : box[3], box[0] : box[2]] = white
        Image.fromarray(mask).save(path)
        return path

    return write
