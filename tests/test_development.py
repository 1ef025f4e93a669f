"""What the developers' pages say: their Python runs, the names in them exist, a file format is two lines."""

import importlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL.PpmImagePlugin import PpmImageFile

from bcx.imaging import formats, headers, scan

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "docs" / "explanation" / "structure.md", *sorted((ROOT / "docs" / "development").glob("*.md"))]
EXAMPLES = [
    block for page in PAGES for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
]


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_examples_run(number, monkeypatch):
    module = types.ModuleType(f"example_{number}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # timm looks a network's module up
    exec(compile(EXAMPLES[number], f"example {number}", "exec"), module.__dict__)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_name_of_the_package_exists(page):
    names = re.findall(r"`(bcx(?:\.\w+)+)`", page.read_text("utf-8"))
    assert names
    for name in names:
        parts, found = name.split("."), None
        for end in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:end]))
            except ModuleNotFoundError:
                continue
            for attribute in parts[end:]:
                found = getattr(found, attribute, None)
            break
        assert found is not None, name


def test_a_file_format_is_two_lines(monkeypatch):
    known = headers.sniff
    monkeypatch.setattr(scan, "sniff", lambda head: "ppm" if head.startswith(b"P6\n") else known(head))
    monkeypatch.setitem(formats._PLUGINS, "ppm", PpmImageFile)
    pixels = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    opened = scan.Scan.open(b"P6\n60 40\n255\n" + pixels.tobytes())
    assert np.array_equal(opened.pixels, pixels)
