"""In a real browser: nothing jumps, the line between the pictures has keys, a picture is pasted anywhere."""

import pytest

# Every shift counts, also one right after a click: on a slow server it comes later, and is seen as a jump.
SHIFTS = """
window.shifted = 0;
new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
  window.shifted += entry.value;
})).observe({type: 'layout-shift', buffered: true});
"""
PICTURE = """
async () => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 160, height: 120});
  canvas.getContext('2d').fillRect(0, 0, 80, 120);
  const blob = await new Promise((done) => canvas.toBlob(done, 'image/png'));
  await navigator.clipboard.write([new ClipboardItem({'image/png': blob})]);
}
"""


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


@pytest.mark.parametrize(("width", "wait"), [(390, 0), (390, 800), (1440, 800)])  # a quick server, and a slow one
def test_nothing_jumps(page, width, wait):
    page.set_viewport_size({"width": width, "height": 900})
    page.add_init_script(SHIFTS)
    page.route("**/queue/join*", lambda route: (page.wait_for_timeout(wait), route.continue_()))
    page.reload()
    for count, place in enumerate((0, 2), 1):
        page.click(f"#classify-examples [data-pick='{place}']")
        page.wait_for_function(f"() => document.querySelectorAll('#classify-past [data-pick]').length === {count}")
        page.wait_for_timeout(500)
    widths = set()
    for name in ("Batch", "Model", "Classify"):
        page.click(f"role=tab[name={name}]")
        page.wait_for_timeout(300)
        widths.add(page.evaluate("document.querySelector('.gradio-container').clientWidth"))
    assert len(widths) == 1
    assert page.evaluate("window.shifted") < 0.1


@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_jumps_when_a_row_opens_on_a_slow_server(page, width, scans):
    """Shifts within half a second of a click do not count, so the server is made slower than that."""
    page.set_viewport_size({"width": width, "height": 900})
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [scans["grey.png"], scans["photo.jpg"]])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.wait_for_timeout(1000)
    page.evaluate(SHIFTS.replace(", buffered: true", ""))
    page.route("**/queue/join*", lambda route: (page.wait_for_timeout(800), route.continue_()))
    for row in (0, 1):
        page.click(f"#batch-rows [data-row='{row}']")
        page.wait_for_selector(f"#batch-place:has-text('{row + 1} of 2')")
        page.wait_for_selector("#batch-slider img")
        page.wait_for_timeout(1000)
    assert page.evaluate("window.shifted") < 0.1


def test_the_line_between_the_pictures_moves_by_keys(page):
    page.click("#classify-examples [data-pick='0']")
    line = page.locator("#classify-slider [data-testid=slider]")
    line.wait_for()
    page.wait_for_selector("#classify-slider [role=slider][aria-valuenow]")
    line.focus()
    for keys, rises in ((["End"], True), (["Home"], False), (["ArrowRight", "PageUp"], True), (["ArrowLeft"], False)):
        before = int(line.get_attribute("aria-valuenow"))
        for key in keys:
            page.keyboard.press(key)
        page.wait_for_function(
            "(old) => document.querySelector('#classify-slider [role=slider]').ariaValueNow !== old", arg=str(before)
        )
        page.wait_for_timeout(100)
        assert (int(line.get_attribute("aria-valuenow")) > before) == rises


@pytest.mark.parametrize("tab", ["Model", "Batch"])
def test_a_picture_is_pasted_anywhere(page, tab):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate(PICTURE)
    page.click(f"role=tab[name={tab}]")
    page.keyboard.press("Control+V")
    if tab == "Batch":
        page.wait_for_selector(".bcx-progress[data-finished=true][data-done='1']")
    else:
        page.wait_for_selector("#classify-answer [data-label]")
        assert page.locator("#classify-answer").is_visible()


def test_the_answer_is_read_out_and_parts_are_called_what_they_say(page):
    assert page.locator("#classify-answer[aria-live=polite], #classify-answer [aria-live=polite]").count() == 1
    assert page.locator(".upload-container[aria-label]").count() == 0


def test_nothing_is_said_in_the_console(page):
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type in ("warning", "error") else None)
    for place in (0, 1):
        page.click(f"#classify-examples [data-pick='{place}']")
        page.wait_for_function(f"() => document.querySelectorAll('#classify-past [data-pick]').length === {place + 1}")
    page.wait_for_timeout(500)
    assert said == []


def test_nothing_stands_uneven(page, examples):
    page.set_viewport_size({"width": 390, "height": 900})
    assert page.locator("footer .divider:visible").count() == 0  # one of what it divides is not shown
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", sorted(examples.glob("simulated-*.png")))
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    chips = page.locator(".bcx-counts button").all()
    assert len({chip.bounding_box()["height"] for chip in chips}) == 1
