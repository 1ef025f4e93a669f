"""In a real browser: a person's square by mouse, touch and keys, further lesions by one click, beside the answer."""

import json

import numpy as np
import pytest
from PIL import Image

from bcx.explain.hiding import hide
from bcx.simulate import simulate
from tests.app.test_browser_compare import columns, shown

FRAME = ".bcx-place-frame"


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


@pytest.fixture(scope="module")
def context(browser):
    return browser.new_context(has_touch=True)


@pytest.fixture(scope="module")
def two(tiny_lesion, tmp_path_factory):
    """A scan of 600 x 360 pixels with places that look like a lesion and were not read a second time."""
    path = tmp_path_factory.mktemp("two") / "two.png"
    for seed in range(50):
        pixels = simulate("malignant", seed, 360, 600).pixels
        found = tiny_lesion.predict(pixels)
        if found.second_stage[2] < 240 and found.second_stage[0] > 200 and any(not each.read for each in found.lesions):
            break
    Image.fromarray(pixels).save(path)
    return path


def read(page, path) -> None:
    page.set_input_files("#classify-upload input[type=file]", path)
    page.wait_for_selector("#classify-answer [data-label]")


def unfold(page) -> None:
    page.click("#classify-place-box > button")
    page.wait_for_selector(f"{FRAME}[style*=left]")


def square(page) -> list[int]:
    """Left, right, top and bottom, as the page says them."""
    said = page.inner_text("#classify-place [role=status]")
    return [int(word) for word in said.replace(",", "").split() if word.isdigit()]


def result(page) -> dict:
    """What stands beside the model's own answer."""
    page.wait_for_selector("#classify-compare figcaption:has-text('your box')")
    return shown(page, ".bcx-compare > div > div:nth-child(2)")


def drag(page, start, end) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def test_keys_move_and_resize_the_square_and_enter_reads_it(page, server, tiny_lesion, two):
    read(page, two)
    unfold(page)
    x, y, side = tiny_lesion.predict(two).second_stage
    assert square(page) == [x, x + side, y, y + side]
    page.focus(FRAME)
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    assert square(page) == [x - 35, x - 35 + side, y, y + side]
    page.keyboard.press("Shift+ArrowDown")
    assert square(page)[1] - square(page)[0] < side
    page.keyboard.press("Shift+ArrowUp")
    assert square(page)[1] - square(page)[0] == side
    assert page.evaluate(f"getComputedStyle(document.querySelector('{FRAME}')).outlineStyle") == "solid"
    left, right, top, bottom = square(page)
    page.keyboard.press("Enter")
    expected = tiny_lesion.predict(two, box=(left, top, right, bottom))
    assert result(page) == pytest.approx(expected.probabilities, abs=1e-5)
    assert shown(page, "#classify-answer") == pytest.approx(tiny_lesion.predict(two).probabilities, abs=1e-5)
    page.click("[data-place=own]")
    assert square(page) == [x, x + side, y, y + side]


def test_the_square_is_moved_resized_and_drawn_by_pointer(page, tiny_lesion, two):
    read(page, two)
    unfold(page)
    stage = page.locator(".bcx-place-stage")
    stage.scroll_into_view_if_needed()
    place = stage.bounding_box()
    scale = 600 / place["width"]
    point = lambda x, y: (place["x"] + x / scale, place["y"] + y / scale)  # noqa: E731
    left, right, top, bottom = square(page)
    drag(page, point((left + right) / 2, (top + bottom) / 2), point((left + right) / 2 - 60, (top + bottom) / 2 + 300))
    assert square(page) == pytest.approx([left - 60, right - 60, 360 - (bottom - top), 360], abs=3)  # it stops there
    left, right, top, bottom = square(page)
    drag(page, point(left + 2, top + 2), point(left + 62, top + 62))
    assert square(page) == pytest.approx([left + 60, right, top + 60, bottom], abs=4)
    drag(page, point(400, 60), point(560, 180))
    assert square(page) == pytest.approx([400, 560, 60, 220], abs=4)
    drag(page, point(300, 20), point(301, 21))  # a click draws nothing
    assert square(page) == pytest.approx([400, 560, 60, 220], abs=4)
    page.click("[data-place=read]")
    left, right, top, bottom = square(page)
    expected = tiny_lesion.predict(two, box=(left, top, right, bottom))
    assert result(page) == pytest.approx(expected.probabilities, abs=1e-5)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


def test_a_finger_draws_the_square_on_a_narrow_page(page, two):
    page.set_viewport_size({"width": 390, "height": 844})
    read(page, two)
    unfold(page)
    stage = page.locator(".bcx-place-stage")
    stage.scroll_into_view_if_needed()
    place = stage.bounding_box()
    touch = page.context.new_cdp_session(page)

    def send(kind, *points):
        at = [{"x": place["x"] + x * place["width"], "y": place["y"] + y * place["height"]} for x, y in points]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    send("touchStart", (0.95, 0.2))
    for x in (0.9, 0.8, 0.7):
        send("touchMove", (x, 0.5))
    send("touchEnd")
    assert square(page) == pytest.approx([420, 570, 72, 222], abs=6)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_further_lesion_is_read_by_one_click_and_logged(page, tiny_lesion, two):
    read(page, two)
    page.click("#classify-lesions button")
    other = next(each for each in tiny_lesion.predict(two).lesions if not each.read)
    expected = tiny_lesion.predict(two, box=other.crop)
    assert result(page) == pytest.approx(expected.probabilities, abs=1e-5)
    left, right = columns(page)
    assert left["x"] + left["width"] <= right["x"]
    assert page.locator("#classify-past small:has-text('your box')").count() == 1
    page.click("#classify-details-box > button")
    page.click("#classify-details-box button:has-text('JSON')")
    page.wait_for_selector("#classify-json:has-text('your_box')")


def test_the_circle_can_be_hidden(page, tiny_lesion, two):
    read(page, two)
    unfold(page)
    left, right, top, bottom = square(page)
    page.click("[data-place=hide]")
    page.wait_for_selector("#classify-compare .bcx-kicker:has-text('part hidden')")
    with Image.open(two) as picture:
        pixels = np.asarray(picture)
    rows, columns = np.mgrid[:360, :600]
    down, across = (rows - (top + bottom - 1) / 2) / (bottom - top - 1), (columns - (left + right - 1) / 2)
    expected = tiny_lesion.predict(hide(pixels, np.hypot(across / (right - left - 1), down) < 0.5 - 1e-9))
    assert shown(page, ".bcx-compare > div > div:nth-child(2)") == pytest.approx(expected.probabilities, abs=1e-5)
    assert page.locator("#classify-past [data-pick]").count() == 1  # it cannot be opened again


def test_a_clip_has_no_square(page, tmp_path):
    frames = [Image.fromarray(simulate("benign", seed, 130, 170).pixels) for seed in range(2)]
    frames[0].save(tmp_path / "clip.tiff", save_all=True, append_images=frames[1:])
    read(page, tmp_path / "clip.tiff")
    assert not page.locator("#classify-place-box").is_visible()
    assert not page.locator("#classify-lesions").is_visible()


def test_a_hostile_box_is_refused_in_words_and_the_answer_stays(page, two):
    read(page, two)
    before = shown(page, "#classify-answer")
    unfold(page)
    sent = []

    def forge(route):
        body = json.loads(route.request.post_data)
        body["event_data"] = {"box": sent[-1]}
        route.continue_(post_data=json.dumps(body))

    page.route("**/queue/join*", forge)
    refused = [
        (None, "The box is None"),
        ("0 0 9 9", "The box is '0 0 9 9'"),
        ([0, 0, 9, None], "An edge of the box is None"),
        ([0, 0, 9000, 9000], "within the scan of 600 x 360 pixels"),
        ({"x": 1}, "The box is a dict"),
    ]
    for box, words in refused:
        sent.append(box)
        page.click("[data-place=read]")
        page.wait_for_selector(f'.toast-body:has-text("{words}")')
    assert shown(page, "#classify-answer") == before
    assert page.locator("#classify-compare section").count() == 0
