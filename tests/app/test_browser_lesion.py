"""The page of a model that looks twice, in a real browser without a window: its layers, its second look."""

from __future__ import annotations

import pytest

from bcx.app.viewer import LESION
from tests.app.conftest import changed, opened, overlay_address, start

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def looking_twice(tiny_lesion, examples, tmp_path_factory):
    yield from start(tiny_lesion, tmp_path_factory.mktemp("twice"), examples)


@pytest.fixture
def page(browser, looking_twice):
    yield from opened(browser, looking_twice.url)


def test_where_it_sees_a_lesion_is_shown_first_and_other_layers_do_not_run_the_network(page, looking_twice):
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-slider img")
    page.wait_for_selector("#classify-looks img")
    assert page.locator("#classify-class input:checked").get_attribute("value") == LESION
    assert "looks twice" in page.inner_text("#classify-looks")
    page.wait_for_function("() => document.querySelectorAll('#classify-slider img')[1]?.alt.includes('sees a lesion')")
    calls = looking_twice.classifier.calls
    address = overlay_address(page, "classify")
    for label in (*looking_twice.classifier.classes, LESION):
        page.locator(f"#classify-class input[value='{label}']").check()
        address = changed(page, "classify", address)
        words = "sees a lesion" if label == LESION else f"for and against {label}"
        page.wait_for_function(
            "(words) => document.querySelector('#classify-legend').innerText.includes(words)", arg=words
        )
    page.locator("#classify-opacity input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    changed(page, "classify", address)
    assert looking_twice.classifier.calls == calls


@pytest.mark.parametrize("width", [1440, 390])
def test_both_looks_fit_the_page(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    page.click("#classify-examples [data-pick='0']")
    page.wait_for_selector("#classify-looks img")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_row_of_a_batch_opens_with_the_lesion(page, upload):
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [upload])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.click("#batch-rows [data-row='0']")
    page.wait_for_selector("#batch-slider img")
    page.wait_for_selector("#batch-looks img")
    assert page.locator("#batch-class input:checked").get_attribute("value") == LESION
