"""The page of a model with two stages, in a real browser without a window: its maps, its second stage."""

import pytest

from bcx.app.viewer import LESION
from tests.app.conftest import changed, overlay_address


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


def test_where_it_sees_a_lesion_is_shown_first_and_other_layers_do_not_run_the_network(page, server):
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-slider img")
    page.wait_for_selector("#classify-stages img")
    assert page.locator("#classify-class input:checked").get_attribute("value") == LESION
    assert "mean of both stages" in page.inner_text("#classify-stages")
    page.wait_for_function("() => document.querySelectorAll('#classify-slider img')[1]?.alt.includes('the lesion map')")
    calls = server.classifier.calls
    address = overlay_address(page, "classify")
    for label in (*server.classifier.classes, LESION):
        page.locator(f"#classify-class input[value='{label}']").check()
        address = changed(page, "classify", address)
        words = "the lesion map" if label == LESION else f"for and against {label}"
        page.wait_for_function(
            "(words) => document.querySelector('#classify-legend').innerText.includes(words)", arg=words
        )
    page.locator("#classify-opacity input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    changed(page, "classify", address)
    assert server.classifier.calls == calls


def test_the_overlay_is_switched_off_and_on_by_keyboard_without_the_server(page, server):
    page.click("#classify-examples [data-pick='1']")
    page.wait_for_selector("#classify-slider img")
    page.locator("#classify-class input[value='benign']").check()
    page.wait_for_selector("#classify-legend:has-text('against benign')")
    overlay = page.locator("#classify-slider img").nth(1)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.focus("#classify-on input")
    for visible in (False, True):
        page.keyboard.press("Space")
        overlay.wait_for(state="visible" if visible else "hidden")
        assert page.locator("#classify-slider img").first.is_visible()
    assert asked == []
