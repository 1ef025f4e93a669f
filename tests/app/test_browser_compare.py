"""In a real browser: two answers side by side, and another prevalence, neither of which reads a scan twice."""

import shutil

import pytest

import bcx
from tests.app.conftest import start


@pytest.fixture(scope="module")
def server(examples, tiny_checkpoint, tmp_path_factory):
    """The page with the shipped model, and another of the same task."""
    at_hand = tmp_path_factory.mktemp("at-hand")
    shutil.copytree(tiny_checkpoint, at_hand / "other")
    patch = pytest.MonkeyPatch()
    patch.setenv("BCX_CHECKPOINTS", str(at_hand))
    yield from start(bcx.load(), tmp_path_factory.mktemp("compare"), examples)
    patch.undo()


def read(page, place: int, count: int) -> None:
    page.click(f"#classify-examples [data-pick='{place}']")
    page.wait_for_function(f"() => document.querySelectorAll('#classify-past [data-pick]').length === {count}")


def columns(page) -> list[dict]:
    """Where both stand, at one moment: the page may be scrolling."""
    return page.evaluate(
        "[...document.querySelectorAll('.bcx-compare > div > div')].map((one) => one.getBoundingClientRect().toJSON())"
    )


def shown(page, where: str) -> dict[str, float]:
    bars = page.locator(f"{where} .bcx-bars").first.locator("li").all()
    return {bar.get_attribute("data-class"): float(bar.get_attribute("data-probability")) for bar in bars}


def test_two_scans_stand_side_by_side_on_one_map_without_the_network(page, server):
    read(page, 1, 1)
    first = page.inner_text("#classify-answer .bcx-headline")
    read(page, 2, 2)
    calls = server.classifier.calls
    page.click("#classify-past [data-compare]")
    page.wait_for_selector("#classify-compare section")
    heads = page.locator("#classify-compare .bcx-headline").all_inner_texts()
    assert heads == [page.inner_text("#classify-answer .bcx-headline"), first]
    left, right = columns(page)
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    assert "lesion map" in page.inner_text("#classify-compare h3")
    page.locator("#classify-class input[value='malignant']").check()
    page.wait_for_selector("#classify-compare h3:has-text('malignant')")
    page.set_viewport_size({"width": 390, "height": 900})
    above, below = columns(page)
    assert above["y"] + above["height"] <= below["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.click("#classify-compare [data-pick=close]")
    page.wait_for_selector("#classify-compare section", state="detached")
    assert server.classifier.calls == calls


def test_two_models_on_one_scan(page, server):
    read(page, 2, 1)
    option = page.locator("[role=option]:has-text('other')")
    for _ in range(5):  # the list closes when an answer still changes the page under it
        page.click("#classify-other input")
        page.wait_for_timeout(500)
        if option.count():
            break
    option.click()
    page.wait_for_selector("#classify-compare figcaption:has-text('other')")
    assert page.locator("#classify-compare figcaption").all_inner_texts() == [bcx.DEFAULT_MODEL, "other"]
    assert page.locator("#classify-past [data-pick]").count() == 2  # it can be opened, too
    assert "malignant" in page.inner_text("#classify-compare h3")  # since the other has no lesion map


def test_another_prevalence_changes_probabilities_and_decision_without_the_network(page, server, examples):
    read(page, 2, 1)
    own = shown(page, "#classify-answer")
    calls = server.classifier.calls
    page.click("#classify-common-box > button")
    share = page.locator("#classify-common input[type=number]")
    note = "#classify-answer .bcx-note:has-text('malignant 1 %')"
    for _ in range(5):  # the slider takes back what is filled in while it is still being shown
        share.fill("1")
        page.keyboard.press("Tab")
        page.wait_for_timeout(1000)
        if page.locator(note).count():
            break
        share.fill("2")  # the same number again tells nothing
    page.wait_for_selector(note)
    direct = bcx.load(prevalence={"malignant": 0.01}).predict(examples / "simulated-malignant-1.png")
    assert shown(page, "#classify-answer") == pytest.approx(direct.probabilities, abs=1e-5)
    assert page.get_attribute("#classify-answer [data-decision]", "data-decision") == direct.decision
    assert "malignant 1 %" in page.text_content("#classify-take [data-text]")

    read(page, 1, 2)  # it holds for the next scan as well
    page.wait_for_selector("#classify-answer .bcx-note:has-text('malignant 1 %')")
    assert server.classifier.calls == calls + 1
    page.click("#classify-past [data-pick='1']")
    page.wait_for_selector("#classify-answer:has-text('made to look malignant')")
    page.click("#classify-common [data-testid=reset-button]")
    page.wait_for_selector("#classify-answer .bcx-note", state="detached")
    assert shown(page, "#classify-answer") == pytest.approx(own, abs=1e-5)
    assert server.classifier.calls == calls + 1
