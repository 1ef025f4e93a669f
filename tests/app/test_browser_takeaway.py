"""In a real browser: the files that are taken away, the copied text, and the last answers, opened again."""

import io

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def server(lesion_server):
    return lesion_server


def answer(page, place: int, count: int, made: str) -> str:
    page.click(f"#classify-examples [data-pick='{place}']")
    page.wait_for_function(f"() => document.querySelectorAll('#classify-past [data-pick]').length === {count}")
    page.wait_for_selector(f"#classify-answer:has-text('made to look {made}')")
    return page.text_content("#classify-answer .bcx-answer")


def overlay_of_three_files(page, tab: str) -> Image.Image:
    for kind, starts in (("png", b"\x89PNG"), ("pdf", b"%PDF"), ("overlay", b"\x89PNG")):
        with page.expect_download() as started:
            page.click(f"#{tab}-take [data-pick={kind}]")
        content = started.value.path().read_bytes()
        assert content.startswith(starts)
    return Image.open(io.BytesIO(content))


def test_an_answer_is_taken_away(page, server, until):
    answer(page, 0, 1, "normal")
    assert overlay_of_three_files(page, "classify").size == (150, 120)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.click("#classify-take [data-copy]")
    page.wait_for_selector("#classify-take [role=status]:has-text('Copied')")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert server.classifier.weights_sha256 in copied
    mine = [path for path in server.files() if path.name.startswith("bcx-answer")]
    assert mine
    page.close()
    assert until(lambda: not any(path.exists() for path in mine))


def test_a_row_of_a_batch_is_taken_away(page, scans):
    page.click("role=tab[name=Batch]")
    page.set_input_files("#batch-upload input[type=file]", [scans["grey.png"], scans["photo.jpg"]])
    page.wait_for_selector(".bcx-progress[data-finished=true]")
    page.click("#batch-rows [data-row='1']")
    page.wait_for_selector("#batch-take [data-text]", state="attached")
    viewer, column = (page.locator(where).bounding_box() for where in ("#batch-viewer", "#batch-result"))
    assert viewer["x"] == pytest.approx(column["x"], abs=2), "below the card, not beside the page"
    assert "photo.jpg, 120 x 130 pixels" in page.text_content("#batch-take [data-text]")
    assert overlay_of_three_files(page, "batch").size == (120, 130)
