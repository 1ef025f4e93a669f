"""What the tests of slides share: a simulated slide."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slide_file(tmp_path_factory) -> Path:
    """A simulated slide of 900 x 700 pixels, in JPEG tiles."""
    from bcx.simulate.slide import write_slide

    return write_slide(tmp_path_factory.mktemp("slides") / "simulated.tif", 900, 700, seed=1)
