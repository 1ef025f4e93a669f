"""Run axe-core over every tab of the page, with answers on it, and add up how far things jump, in a real browser.

    python benchmarks/page_checks.py     # two minutes, writes results/page/checks.json

At 1,440 and 390 pixels, light and dark, with simulated scans. Needs Playwright and a Chromium.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from bcx import DEFAULT_MODEL
from bcx.simulate.slide import write_slide
from bcx.train.provenance import current_commit, write_json

ROOT = Path(__file__).resolve().parent.parent
MODELS = (DEFAULT_MODEL, "mobilenetv2-idc")
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  if (!entry.hadRecentInput) window.shifted += entry.value;
})).observe({type: 'layout-shift', buffered: true});
"""


def check(page: Page, url: str, folder: Path) -> dict[str, Any]:
    """Return the violations on each tab, and the sum of layout shifts from one to the next."""
    found: dict[str, Any] = {}

    def look(name: str) -> None:
        page.wait_for_timeout(700)
        violations = [
            {"rule": one["id"], "impact": one["impact"], "elements": [node["html"][:160] for node in one["nodes"]]}
            for one in Axe().run(page).response["violations"]
        ]
        found[name] = {"violations": violations, "layout_shift": page.evaluate("window.shifted")}
        page.evaluate("window.shifted = 0")

    page.add_init_script(SHIFTS)
    page.goto(url)
    page.wait_for_selector("#classify-examples button")
    look("empty")
    for place in (3, 6):
        page.click(f"#classify-examples [data-pick='{place}']")
        page.wait_for_selector(f"#classify-past [data-pick='{place // 3 - 1}']")
    page.click("#classify-past [data-compare]")
    page.wait_for_selector("#classify-compare section")
    for box in ("common", "details"):
        page.click(f"#classify-{box}-box > button")
    look("classify")
    page.click("#classify-place-box > button")
    page.wait_for_selector("#classify-place [tabindex]")
    look("read another place")
    page.click("#classify-explain-box > button")
    page.wait_for_selector("#classify-explain section[data-state='Done']", timeout=180_000)
    look("compare explanations")
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", sorted(folder.glob("*.png")))
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.click("#batch-rows [data-pick]")
    page.wait_for_selector("#batch-slider img")
    look("batch")
    page.click("role=tab[name=Model]")
    look("model")
    page.click("#model-picker input")
    page.click(f"[role=option]:has-text('{MODELS[1]}')")
    page.wait_for_selector(f".bcx-footer:has-text('{MODELS[1]}')")
    page.wait_for_timeout(500)
    page.click("role=tab[name='Large image']")
    page.set_input_files("#slide-upload input[type=file]", folder / "slide.tif")
    page.wait_for_selector("#slide-progress [data-finished=true]", timeout=120_000)
    page.wait_for_selector("#slide-csv:not([disabled])")
    look("large image")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--browser", default=shutil.which("chromium") or shutil.which("google-chrome"))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "page" / "checks.json")
    options = parser.parse_args()
    if not options.browser:
        sys.exit("There is no Chromium here. Install it, or name one with --browser.")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        folder = Path(temporary) / "scans"
        folder.mkdir()
        for example in sorted((ROOT / "examples").glob("simulated-*-1.png")):
            shutil.copy(example, folder)
        (folder / "letter.png").write_text("no picture")
        write_slide(folder / "slide.tif", 1300, 900, seed=1)
        os.environ["GRADIO_TEMP_DIR"] = temporary
        from bcx.app.server import create, launch

        app = create(MODELS[0])
        url = launch(app, prevent_thread_lock=True, quiet=True)[1]
        browser = playwright.chromium.launch(
            executable_path=options.browser, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        )
        pages = {}
        for width in (1440, 390):
            for scheme in ("light", "dark"):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.set_default_timeout(60_000)
                pages[f"{width} {scheme}"] = check(page, f"{url}?__theme={scheme}", folder)
                version = page.evaluate("axe.version")
                page.close()
        browser.close()
        app.close()
    tabs = [tab for page in pages.values() for tab in page.values()]
    worst = max(tab["layout_shift"] for tab in tabs)
    found = [one for tab in tabs for one in tab["violations"]]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    print(
        f"axe-core {version}: {len(found)} violations, {len(grave)} serious or critical; layout shift {worst} at most"
    )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(options.out, {"commit": current_commit(), "axe": version, "pages": pages})


if __name__ == "__main__":
    main()
