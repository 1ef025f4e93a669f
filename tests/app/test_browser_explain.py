"""In a real browser: maps fill in side by side, are tested, can be stopped and saved, and give way to an answer."""

import io

import pytest
from PIL import Image

from bcx.explain.methods import quick_methods

LONG = 120_000  # milliseconds for all maps and their checks on a busy machine


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


def read(page, place: int) -> None:
    page.click(f"#classify-examples [data-pick='{place}']")
    page.wait_for_selector("#classify-answer .bcx-headline")
    page.wait_for_selector("#classify-explain-box")


def test_one_click_fills_the_grid_and_tests_each_map(page):
    read(page, 2)
    page.click("#classify-explain-box button")
    page.wait_for_selector("#classify-explain [data-method='exact'] img")  # the first map at once
    page.wait_for_selector("#classify-explain section[data-state='Done']", timeout=LONG)
    tiles = page.locator("#classify-explain li")
    assert [tile.get_attribute("data-method") for tile in tiles.all()] == quick_methods()
    assert "Not tested" not in page.inner_text("#classify-explain")
    assert page.locator("#classify-explain [role=status]").inner_text().startswith("Done: 8 of 8 maps, 8 tested")
    with page.expect_download() as saved:
        page.click("#classify-explain-sheet")
    sheet = Image.open(io.BytesIO(saved.value.path().read_bytes()))
    assert sheet.format == "PNG"
    assert sheet.width > 1000
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    read(page, 0)
    page.wait_for_selector("#classify-explain section", state="detached")


def test_it_can_be_stopped_by_keyboard(page):
    read(page, 2)
    page.focus("#classify-explain-box button")
    page.keyboard.press("Enter")
    page.wait_for_selector("#classify-explain [data-method='exact'] img")
    page.focus("#classify-explain-stop")
    page.keyboard.press("Enter")
    page.wait_for_selector("#classify-explain section[data-state='Stopped']", timeout=LONG)
    assert page.locator("#classify-explain-stop").is_disabled()
    assert page.locator("#classify-explain [role=status]").inner_text().endswith("0 tested.")
