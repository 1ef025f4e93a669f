"""In a real browser: a row of a batch is read again in a box by keyboard, and that goes into the table and the ZIP."""

import csv
import dataclasses
import io
import json
import zipfile

import httpx
import numpy as np
import pytest
from PIL import Image

from bcx.report.pictures import lesion_picture
from bcx.simulate import simulate
from tests.app.test_browser_patients import saved
from tests.app.test_hostile import ask, calls_of

pytestmark = pytest.mark.slow
BOX = "#batch-compare figcaption:has-text('your box')"


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


@pytest.fixture
def files(tmp_path):
    for number in (1, 2):
        Image.fromarray(simulate("malignant", number, 180, 240).pixels).save(tmp_path / f"{number}.png")
    return sorted(tmp_path.glob("*.png"))


def test_a_box_is_drawn_by_keyboard_and_both_answers_are_kept(page, server, files):
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", files)
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='2']")
    page.click("#batch-rows [data-pick='1']")
    page.wait_for_selector("#batch-slider img")
    page.focus("#batch-place-box > button")
    page.keyboard.press("Enter")
    page.focus("#batch-place .bcx-place-frame")
    page.wait_for_selector("#batch-place .bcx-place-frame[style*=left]")
    for key in ("Shift+ArrowLeft", "Shift+ArrowLeft", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(BOX)
    page.wait_for_selector("#batch-rows [data-row='1']:has-text('your box:')")
    assert page.locator("#batch-rows [data-row='0']:has-text('your box:')").count() == 0

    page.wait_for_selector("a:has(#batch-csv), #batch-csv:not([disabled])")
    other, row = csv.DictReader(io.StringIO(saved(page, "#batch-csv").decode()))
    box = [int(edge) for edge in row["box"].split()]
    own, boxed = (server.classifier.inner.predict(files[1], box=each) for each in (None, box))
    assert own.second_stage != boxed.second_stage
    for name, p in boxed.probabilities.items():
        assert float(row[f"box_p_{name}"]) == pytest.approx(p, abs=5e-6)
        assert float(row[f"p_{name}"]) == pytest.approx(own.probabilities[name], abs=5e-6)
    assert (row["box_decision"], row["box_label"]) == (boxed.decision, boxed.label)
    assert not any(value for name, value in other.items() if name.startswith("box"))
    page.click("#batch-make-zip")
    page.wait_for_selector("a:has(#batch-zip), #batch-zip:visible")
    with zipfile.ZipFile(io.BytesIO(saved(page, "#batch-zip"))) as archive:
        overlay = np.asarray(Image.open(archive.open("2_box_lesion.png")))
        assert sum("_box_" in name for name in archive.namelist()) == 2
    np.testing.assert_array_equal(overlay, np.asarray(lesion_picture(dataclasses.replace(boxed, name="2.png"))))

    calls = server.classifier.calls
    page.click("#batch-rows [data-pick='0']")
    page.wait_for_selector(BOX, state="detached")
    page.click("#batch-rows [data-pick='1']")
    page.wait_for_selector(BOX)
    page.click("#batch-compare [data-pick=close]")
    page.wait_for_selector(BOX, state="detached")
    assert server.classifier.calls == calls
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


REFUSED = [
    ({"box": [0, 0, 9**9, 50]}, "An edge of the box"),
    ({"box": "all"}, "The box"),
    ({"box": [5, 5, 300, 300]}, "within the scan"),
    ({"box": [5, 5, 90, 90], "hide": 1}, "Whether to hide it"),
    ({"pick": 99}, "The lesion"),
    ({}, "The box"),
]


def test_written_requests_for_a_box_are_checked(page, server, files):
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", files[:1])
    page.wait_for_selector(".bcx-progress[data-finished=true][data-done='1']")
    asked = []
    page.on("request", lambda request: "/queue/join" in request.url and asked.append(json.loads(request.post_data)))
    page.click("#batch-rows [data-pick='0']")
    page.wait_for_selector("#batch-slider img")
    cookies = {each["name"]: each["value"] for each in page.context.cookies()}
    client, api = httpx.Client(timeout=60, cookies=cookies), f"{server.url}gradio_api"
    config = client.get(f"{server.url}config").json()
    parts = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    for sent, said in REFUSED:
        target = [parts["batch-lesions"], "click"] if "pick" in sent else [parts["batch-place"], "select"]
        ((call, inputs),) = [each for each in calls_of(config) if target in each[0]["targets"]]
        data = [part["props"].get("value") for part in inputs]
        body = {"data": data, "fn_index": call["id"], "session_hash": asked[0]["session_hash"], "event_data": sent}
        assert said in ask(client, api, body), sent
