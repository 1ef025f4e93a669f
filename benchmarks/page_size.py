"""Measure how long the page takes for a 30-megapixel picture, and how much it sends, in a real browser.

    python benchmarks/page_size.py            # under a minute, writes results/benchmarks/page_size.json

The picture is simulated: 6,400 x 4,800 grey pixels with noise, as a PNG. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import bcx
from bcx.simulate import simulate
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
SIZE = (6400, 4800)
LOADED = """
(before) => {
  const shown = [...document.querySelectorAll('#classify-slider img')];
  return shown.length > 1 && shown[1].src !== before && shown.every((image) => image.complete && image.naturalWidth);
}
"""


def write_picture(path: Path) -> None:
    """Write the large picture as a PNG."""
    scan = cv2.resize(simulate("malignant", 9, 600, 800).pixels, SIZE, interpolation=cv2.INTER_CUBIC)
    noise = np.random.default_rng(0).normal(0, 6, scan.shape)
    Image.fromarray(np.clip(scan + noise, 0, 255).astype(np.uint8)).save(path, compress_level=1)


def measure(page: Page, url: str, picture: Path, rounds: int) -> dict[str, Any]:
    """Return seconds until answer and pictures are drawn, seconds of another class, and bytes of each picture."""
    sent: dict[str, int] = {}
    page.on("response", lambda found: _note(sent, found))
    page.goto(url)
    page.click("#classify-examples button")
    page.wait_for_function(LOADED, arg="")  # whatever is loaded once is loaded now
    answered, repainted = [], []
    for _ in range(rounds):
        before = page.locator("#classify-slider img").nth(1).get_attribute("src")
        started = time.perf_counter()
        page.set_input_files("#classify-upload input[type=file]", picture)
        page.wait_for_function(LOADED, arg=before, timeout=180_000)
        answered.append(time.perf_counter() - started)
        for choice in page.locator("#classify-class input:not(:checked)").all()[:2]:
            before = page.locator("#classify-slider img").nth(1).get_attribute("src")
            started = time.perf_counter()
            choice.check()
            page.wait_for_function(LOADED, arg=before, timeout=180_000)
            repainted.append(time.perf_counter() - started)
    return {
        "answered_seconds": [round(value, 2) for value in answered],
        "another_class_seconds": [round(value, 2) for value in repainted],
        "most_bytes_of_a_picture": max(sent.values()),
    }


def _note(sent: dict[str, int], response: Any) -> None:
    if "/file=" in response.url and response.request.resource_type == "image":
        sent[response.url] = int(response.headers.get("content-length", 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "benchmarks" / "page_size.json")
    options = parser.parse_args()
    if not options.browser:
        sys.exit("There is no Chromium here. Install it, or name one with --browser.")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.environ["GRADIO_TEMP_DIR"] = folder
        from bcx.app.server import create, launch

        picture = Path(folder) / "large.png"
        write_picture(picture)
        app = create(bcx.DEFAULT_MODEL)
        url = launch(app, prevent_thread_lock=True, quiet=True)[1]
        browser = playwright.chromium.launch(
            executable_path=options.browser,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        found = measure(browser.new_page(viewport={"width": 1440, "height": 900}), url, picture, options.rounds)
        browser.close()
        app.close()
        size = picture.stat().st_size
    write_json(
        options.out,
        {"commit": current_commit(), "cpus": os.cpu_count(), "picture": [*SIZE], "picture_bytes": size, **found},
    )


if __name__ == "__main__":
    main()
