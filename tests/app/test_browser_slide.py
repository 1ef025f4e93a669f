"""The Large image tab in a real browser: upload, a growing map, class, strength, files, stop."""

import pandas
import pytest
from PIL import Image

from bcx.simulate.slide import write_slide
from bcx.slides import read_slide
from tests.app.conftest import opened, start

READ = 120_000  # milliseconds for a whole slide; the machine may be busy


@pytest.fixture(scope="module")
def tiled(patches, examples, tmp_path_factory):
    yield from start(patches, tmp_path_factory.mktemp("tiled"), examples)


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("uploads") / "my slide.tif", 1300, 900, seed=1)


@pytest.fixture
def page(context, tiled):
    for page in opened(context, tiled.url, ready="role=tab[name='Large image']"):
        page.click("role=tab[name='Large image']")
        yield page


def test_a_slide_becomes_a_map_with_its_files(page, patches, slide, tmp_path):
    page.set_input_files("#slide-upload input[type=file]", slide)
    page.wait_for_selector("#slide-progress [data-finished=true]", timeout=READ)
    page.wait_for_selector("#slide-map .bcx-pin", timeout=READ)
    page.wait_for_selector("a:has(#slide-csv), #slide-csv:not([disabled])", timeout=READ)
    direct = read_slide(patches, slide)
    share = float(page.locator("#slide-answer [data-positive-share]").get_attribute("data-positive-share"))
    assert share == pytest.approx(direct.summary["positive_share"])
    assert page.locator("#slide-map .bcx-slide").get_attribute("data-class") == "positive"

    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#slide-map .bcx-slide").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(1300 / 900, rel=0.01)
    layer = page.locator("#slide-map .bcx-slide-layer")
    before = layer.get_attribute("src")
    page.locator("#slide-class input[value='negative']").check()
    page.wait_for_selector("#slide-map [data-class='negative']")
    assert layer.get_attribute("src") != before
    page.locator("#slide-opacity input[type=range]").focus()
    page.keyboard.press("Home")
    page.wait_for_function("() => getComputedStyle(document.querySelector('.bcx-slide-layer')).opacity === '0'")

    with page.expect_download() as started:
        page.click("#slide-csv")
    started.value.save_as(tmp_path / "t.csv")
    rows = pandas.read_csv(tmp_path / "t.csv")
    assert len(rows) == direct.read.sum()
    assert rows["p_positive"].mean() == pytest.approx(direct.summary["mean_probability"], abs=1e-5)
    with page.expect_download() as started:
        page.click("#slide-png")
    started.value.save_as(tmp_path / "m.png")
    assert Image.open(tmp_path / "m.png").size == (1300, 900)


def test_a_long_reading_stops_when_asked(page, slide):
    page.click("#slide-options > button")
    page.fill("#slide-stride input", "4")
    page.keyboard.press("Tab")
    page.set_input_files("#slide-upload input[type=file]", slide)
    page.wait_for_selector("#slide-map .bcx-slide-layer")
    page.wait_for_selector("#slide-progress [data-finished=false]:not([data-done='0'])", timeout=READ)
    page.locator("#slide-class input[value='negative']").check()
    page.wait_for_selector("#slide-map [data-class='negative']")
    page.click("#slide-stop")
    page.wait_for_selector("#slide-progress [data-finished=true]", timeout=READ)
    assert "stopped" in page.inner_text("#slide-progress")
    page.wait_for_selector("a:has(#slide-csv), #slide-csv:not([disabled])", timeout=READ)
    assert page.locator("#slide-map .bcx-slide").get_attribute("data-class") == "negative"  # as chosen meanwhile


def test_a_file_that_is_none_gets_words(page, scans):
    page.set_input_files("#slide-upload input[type=file]", scans["broken.png"])
    page.wait_for_selector("#slide-answer [data-decision='failed']")
    assert "Expected" in page.inner_text("#slide-answer")
    assert not page.locator("#slide-map").is_visible()


def test_the_slide_is_gone_with_its_page(page, tiled, slide, until):
    page.set_input_files("#slide-upload input[type=file]", slide)
    page.wait_for_selector("#slide-progress [data-finished=true]", timeout=READ)
    assert tiled.files()
    page.close()
    assert until(lambda: not tiled.files())
