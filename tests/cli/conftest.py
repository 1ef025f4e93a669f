"""Run `bcx` as a person runs it, beside a ward of simulated scans."""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import few_resamples

_few = pytest.fixture(scope="module", autouse=True)(few_resamples)


@pytest.fixture
def ward(tmp_path, busi_folder, monkeypatch) -> Path:
    """A copy of simulated scans with masks and files that are no scans; the current folder is the one above it."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(busi_folder, tmp_path / "ward")
    (tmp_path / "ward" / "notes.txt").write_text("no picture")
    return tmp_path / "ward"


def table(text: str) -> list[dict]:
    """Rows of a table, or lines of JSON."""
    if text.startswith("{"):
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text)))
