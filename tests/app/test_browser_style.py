"""In a real browser: how maps are drawn is chosen once, by keyboard, and holds on both tabs and in what is saved."""

import dataclasses
import io
import time
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from bcx.app.classify import ClassifyTab
from bcx.imaging.style import MapStyle
from tests.app.conftest import changed, overlay_address
from tests.app.test_browser_patients import saved
from tests.app.test_hostile import ask, calls_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


def test_one_choice_holds_for_every_map_and_no_network_runs_for_it(page, server, upload):
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [upload])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.click("#batch-rows [data-row='0']")
    page.wait_for_selector("#batch-slider img")
    label = page.get_attribute("#batch-answer [data-label]", "data-label")
    page.locator(f"#batch-class input[value='{label}']").check()
    page.wait_for_selector(f"#batch-legend:has-text('against {label}')")
    page.click("role=tab[name=Classify]")
    page.click("#classify-examples [data-pick='2']")
    page.wait_for_selector("#classify-slider img")
    page.locator("#classify-class input[value='malignant']").check()
    page.wait_for_selector("#classify-legend:has-text('Purple speaks for malignant, green against it')")

    calls, address = server.classifier.calls, overlay_address(page, "classify")
    page.focus("#classify-colours input")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#classify-legend:has-text('Red speaks for malignant, blue against it')")
    address = changed(page, "classify", address)
    page.focus("#classify-contour input")
    page.keyboard.press("Space")
    changed(page, "classify", address)
    page.click("role=tab[name=Batch]")
    page.wait_for_selector(f"#batch-legend:has-text('Red speaks for {label}')")
    assert page.is_checked("#batch-contour input")
    assert page.input_value("#batch-colours input") == "Turbo"
    page.click("#batch-make-zip")
    page.wait_for_selector("a:has(#batch-zip), #batch-zip:visible")
    with zipfile.ZipFile(io.BytesIO(saved(page, "#batch-zip"))) as archive:
        overlay = np.asarray(Image.open(archive.open(f"{upload.stem}_{label}.png")))
    assert server.classifier.calls == calls
    direct = dataclasses.replace(server.classifier.inner.predict(upload), style=MapStyle("turbo", contour=True))
    np.testing.assert_array_equal(overlay, np.asarray(direct.overlay(label)))
    whole = np.asarray(Image.open(io.BytesIO(saved(page, "#batch-take [data-pick=overlay]"))))
    assert not np.array_equal(whole, np.asarray(server.classifier.inner.predict(upload).overlay(label)))


def test_what_is_chosen_while_maps_are_drawn_is_not_lost(page, until, monkeypatch):
    redraw, drawn = ClassifyTab.redraw, []

    def slow(tab, session, *arguments):
        drawn.append(session.style.colours)
        time.sleep(2)
        return redraw(tab, session, *arguments)

    page.click("#classify-examples [data-pick='2']")
    page.wait_for_selector("#classify-slider img")
    page.locator("#classify-class input[value='malignant']").check()
    page.wait_for_selector("#classify-legend:has-text('Purple speaks for malignant')")
    monkeypatch.setattr(ClassifyTab, "redraw", slow)
    for colours in ("Turbo", "Purple"):
        page.click("#classify-colours input")
        page.click(f"[role=option]:has-text('{colours}')")
        page.wait_for_timeout(300)
    assert until(lambda: drawn == ["turbo", "signed"])
    page.wait_for_timeout(3000)  # until both are drawn
    page.wait_for_selector("#classify-legend:has-text('Purple speaks for malignant')")
    assert "Purple" in page.input_value("#classify-colours input")


@pytest.mark.parametrize(
    ("label", "value"),
    [("Colours", "jet"), ("Colours", ["turbo"]), ("Colours", None), ("Contours", 1), ("Contours", None)],
)
def test_a_written_request_for_another_style_is_refused_in_words(server, label, value):
    client, api = httpx.Client(timeout=60), f"{server.url}gradio_api"
    calls = calls_of(client.get(f"{server.url}config").json())
    asked = [(call, inputs) for call, inputs in calls if inputs[:1] and inputs[0]["props"].get("label") == label]
    assert len(asked) == 2, "one on each tab"
    for call, inputs in asked:
        data = [value, *(part["props"].get("value") for part in inputs[1:])]
        words = ask(client, api, {"data": data, "fn_index": call["id"], "session_hash": "wrong-style"})
        assert ("The colours" if label == "Colours" else "contours") in words
