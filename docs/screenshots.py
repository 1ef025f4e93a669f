"""Take the pictures of the page that the documentation shows, of simulated scans alone, in a real browser.

    python docs/screenshots.py                # some five minutes; writes docs/screenshots/*.png
    python docs/screenshots.py flagged batch  # these alone

Needs Playwright, a Chromium and the extra `slides`.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

import bcx
from bcx.simulate import simulate
from bcx.simulate.slide import write_slide

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "docs" / "screenshots"
MANY = 1200


def save(picture: Image.Image, name: str) -> None:
    """Write a small PNG."""
    path = OUT / f"{name}.png"
    # Of the palettes this one keeps the few coloured pixels among the greys; k-means keeps what is commonest as it is.
    small = picture.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    print(f"{path.name}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


def take(page: Page, name: str, folder: Path, *, selector: str | None = None, whole: bool = False) -> None:
    """Take a picture of the page, or of one element."""
    page.wait_for_timeout(1500)
    path = folder / "shot.png"
    if selector:
        page.locator(selector).screenshot(path=path)
    else:
        page.screenshot(path=path, full_page=whole)
    with Image.open(path) as picture:
        save(picture, name)


def example(page: Page, place: int) -> None:
    page.click(f"#classify-examples [data-pick='{place}']")
    page.wait_for_selector("#classify-slider img")


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#classify-upload input[type=file]", path)
    page.wait_for_selector("#classify-answer [data-label]")


def scans(height: int = 470, width: int = 560) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and pixels of simulated scans of every class."""
    for seed in range(10_000):
        label = ("normal", "benign", "malignant")[seed % 3]
        yield f"simulated-{label}-{seed}.png", simulate(label, seed, height, width).pixels


def first(folder: Path, wanted: Callable[[bcx.Prediction], bool]) -> Path:
    """Return a simulated scan whose answer is as wanted."""
    classifier = bcx.load()
    for name, pixels in scans():
        path = folder / name
        Image.fromarray(pixels).save(path)
        if wanted(classifier.predict(path)):
            return path
        path.unlink()
    sys.exit("No simulated scan is like that.")


def classify(page: Page, folder: Path) -> None:
    example(page, 3)
    take(page, "classify", folder)
    page.evaluate("document.body.classList.add('dark')")
    take(page, "classify-dark", folder)


def phone(page: Page, folder: Path) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    example(page, 6)
    take(page, "classify-phone", folder)


def normal(page: Page, folder: Path) -> None:
    example(page, 0)
    take(page, "normal", folder)


def thresholds(page: Page, folder: Path) -> None:
    upload(page, first(folder, lambda found: found.decision == "refer" and found.label == "benign" and not found.flags))
    take(page, "thresholds", folder)


def flagged(page: Page, folder: Path) -> None:
    upload(page, first(folder, lambda found: bool(found.flags)))
    take(page, "flagged", folder)


def maps(page: Page, folder: Path) -> None:
    example(page, 6)
    page.check("#classify-class input[value='malignant']")
    page.wait_for_selector("#classify-legend:has-text('against malignant')")
    take(page, "maps", folder, selector="#classify-viewer")


def colours(page: Page, folder: Path) -> None:
    example(page, 6)
    page.check("#classify-class input[value='malignant']")
    page.click("#classify-colours input")
    page.click("[role=option]:has-text('Turbo')")
    page.wait_for_selector("#classify-legend:has-text('Red speaks for malignant')")
    overlay = page.locator("#classify-slider img").nth(1).get_attribute("src")
    page.check("#classify-contour input")
    page.wait_for_function("(old) => document.querySelectorAll('#classify-slider img')[1].src !== old", arg=overlay)
    take(page, "colours", folder, selector="#classify-viewer")


def stages(page: Page, folder: Path) -> None:
    example(page, 3)
    take(page, "stages", folder, selector="#classify-viewer")


def explanations(page: Page, folder: Path) -> None:
    example(page, 6)
    page.click("#classify-explain-box button")
    page.wait_for_selector("#classify-explain [data-state=Done]", timeout=180_000)
    take(page, "explanations", folder, selector="#classify-explain-box")


def compare(page: Page, folder: Path) -> None:
    example(page, 6)
    page.click("#classify-other input")
    page.click("[role=option]:has-text('mobilenetv2-busi')")
    page.wait_for_selector("#classify-compare figure", timeout=60_000)
    take(page, "compare", folder, selector="#classify-compare")


def place(page: Page, folder: Path) -> None:
    pixels = np.hstack([simulate("malignant", 1, 360, 300).pixels, simulate("benign", 101, 360, 300).pixels])
    Image.fromarray(pixels).save(folder / "two-lesions.png")
    upload(page, folder / "two-lesions.png")
    page.click("#classify-place-box > button")
    page.wait_for_selector(".bcx-place-frame[style*=left]")
    page.click("#classify-lesions button")
    page.wait_for_selector("#classify-compare figcaption:has-text('your box')")
    page.locator("#classify-lesions").evaluate("(found) => found.scrollIntoView()")
    take(page, "place", folder)


def prevalence(page: Page, folder: Path) -> None:
    example(page, 6)
    page.click("#classify-common-box > button")
    page.fill("#classify-common input[type=number]", "1")
    page.keyboard.press("Tab")
    page.wait_for_selector("#classify-answer .bcx-note")
    take(page, "prevalence", folder, selector="#classify-answer")


def batch(page: Page, folder: Path) -> None:
    files = folder / "clinic"
    files.mkdir()
    for (name, pixels), _ in zip(scans(235, 280), range(MANY), strict=False):
        Image.fromarray(pixels).save(files / name)
    page.click("role=tab[name=Batch]")
    with page.expect_file_chooser() as chosen:
        page.click("#batch-folder")
    chosen.value.set_files(str(files))
    page.wait_for_selector(f".bcx-progress[data-finished=true][data-done='{MANY}']", timeout=900_000)
    page.check("#batch-order input[value=suspicion]")
    page.click("#batch-counts [data-show=refer]")
    page.wait_for_selector("#batch-counts [data-show=refer][aria-pressed=true]")
    page.wait_for_timeout(1000)
    page.click("#batch-rows li:nth-child(2) [data-pick]")
    page.wait_for_selector("#batch-slider img")
    page.evaluate("window.scrollTo(0, 0)")
    take(page, "batch", folder)


def patients(page: Page, folder: Path) -> None:
    for number, (name, pixels) in zip(range(9), scans(235, 280), strict=False):
        target = folder / "clinic" / f"case-{number // 2 + 1}" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
    page.click("role=tab[name=Batch]")
    with page.expect_file_chooser() as chosen:
        page.click("#batch-folder")
    chosen.value.set_files(str(folder / "clinic"))
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='9']")
    page.check("#batch-by input[value=folder]")
    page.wait_for_selector("#batch-patients li")
    take(page, "patients", folder, selector="#batch-patients")


def pdf(page: Page, folder: Path) -> None:
    example(page, 6)
    with page.expect_download() as started:
        page.click("#classify-take [data-pick=pdf]")
    content = started.value.path().read_bytes()
    with Image.open(io.BytesIO(content[content.index(b"\xff\xd8\xff") :])) as drawn:  # the page is one JPEG
        drawn.thumbnail((800, 1200))
        save(drawn, "report")


def model(page: Page, folder: Path) -> None:
    page.click("role=tab[name=Model]")
    take(page, "model", folder)


def tissue(page: Page, folder: Path) -> None:
    page.click("#model-picker input")
    page.click("[role=option]:has-text('mobilenetv2-idc')")
    page.wait_for_selector("h1:has-text('microscope')", timeout=60_000)
    example(page, 3)
    take(page, "tissue", folder)


def slide(page: Page, folder: Path) -> None:
    page.click("#model-picker input")
    page.click("[role=option]:has-text('mobilenetv2-idc')")
    page.wait_for_selector("h1:has-text('microscope')", timeout=60_000)
    page.click("role=tab[name='Large image']")
    path = write_slide(folder / "simulated-slide.tif", 4000, 2600, seed=1)
    page.set_input_files("#slide-upload input[type=file]", path)
    page.wait_for_selector("#slide-progress [data-finished=true]", timeout=300_000)
    take(page, "slide", folder)


SHOTS = {
    shot.__name__: shot
    for shot in (
        *(
            classify,
            phone,
            normal,
            thresholds,
            flagged,
            maps,
            colours,
            stages,
            explanations,
            compare,
            place,
            prevalence,
            batch,
            patients,
            pdf,
            model,
            tissue,
            slide,
        ),
    )
}


def shoot(browser: Browser, url: str, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = browser.new_page(viewport={"width": 1280, "height": 1200})
        page.set_default_timeout(60_000)
        page.goto(url)
        page.wait_for_selector("#classify-examples button")
        SHOTS[name](page, Path(folder))
        page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shots", nargs="*", default=list(SHOTS), metavar="SHOT", help=", ".join(SHOTS))
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        os.environ["GRADIO_TEMP_DIR"] = temporary
        from bcx.app.server import create, launch

        app = create(bcx.DEFAULT_MODEL)
        url = launch(app, prevent_thread_lock=True, quiet=True)[1]
        browser = playwright.chromium.launch(executable_path=options.browser, args=["--no-sandbox", "--disable-gpu"])
        for name in options.shots:
            shoot(browser, url, name)
        browser.close()
        app.close()


if __name__ == "__main__":
    main()
